"""Clients that no load generator offers, run by `load.py` as a process of its own.

    clients.py handshakes URL HEADERS THREADS SECONDS    a new TLS connection for each request
    clients.py idle URL HEADERS CONNECTIONS              keep-alive connections that do nothing

Both print what `Measured` wants as a line of JSON. `idle` first prints `idle` and waits for a line.
"""

import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
from harness.parse import percentile
from harness.process import raise_descriptor_limit


def main():
    kind, url, headers, *numbers = sys.argv[1:]
    url = urllib.parse.urlsplit(url)
    address = (url.hostname, url.port)
    lines = [f"GET {url.path} HTTP/1.1", f"Host: {url.netloc}"]
    lines += [f"{name}: {value}" for name, value in json.loads(headers).items()]
    numbers = [int(number) for number in numbers]
    print(json.dumps({"handshakes": handshakes, "idle": idle}[kind](address, lines, *numbers)))


def handshakes(address, lines, threads, seconds):
    request = "\r\n".join([*lines, "Connection: close", "", ""]).encode()
    # Without a session of an earlier connection every handshake is a full one.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    times, errors = [], []
    end = time.monotonic() + seconds

    def client():
        while (begun := time.monotonic()) < end:
            try:
                with socket.create_connection(address, 10) as plain, context.wrap_socket(plain) as stream:
                    stream.sendall(request)
                    answer = stream.recv(65536)
                    while more := stream.recv(65536):
                        answer += more
                if not answer.startswith(b"HTTP/1.1 200"):
                    errors.append(answer[:100])
            except OSError as error:
                errors.append(error)
            times.append((time.monotonic() - begun) * 1e6)

    clients = [threading.Thread(target=client) for _ in range(threads)]
    begun = time.monotonic()
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return measured(times, time.monotonic() - begun, errors)


def idle(address, lines, connections):
    raise_descriptor_limit()
    request = "\r\n".join([*lines, "", ""]).encode()
    sockets, times, errors = [], [], []
    begun = time.monotonic()
    for _ in range(connections):
        before = time.monotonic()
        try:
            one = socket.create_connection(address, 10)
            sockets.append(one)
            ask(one, request)
        except OSError as error:
            errors.append(error)
        times.append((time.monotonic() - before) * 1e6)
    seconds = time.monotonic() - begun
    print("idle", flush=True)
    sys.stdin.readline()
    for one in sockets:
        try:
            ask(one, request)
        except OSError as error:
            errors.append(error)
        one.close()
    return measured(times, seconds, errors)


def ask(stream, request):
    """One exchange; an answer that is not 200, or ends early, is an OSError."""
    stream.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += receive(stream)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(head[:100])
    if b"chunked" in head.lower():
        while not body.endswith(b"0\r\n\r\n"):
            body += receive(stream)
        return
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += receive(stream)


def receive(stream):
    data = stream.recv(65536)
    if not data:
        raise OSError("closed")
    return data


def measured(times, seconds, errors):
    for error in errors[:3]:
        print(error, file=sys.stderr)
    return {"requests": len(times), "rps": len(times) / max(seconds, 1e-9), "p50_us": percentile(times, 50),
            "p99_us": percentile(times, 99), "errors": len(errors)}


if __name__ == "__main__":
    main()
