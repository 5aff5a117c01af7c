"""Request smuggling, differentially: ambiguous requests go through witgate to several real servers.

Whatever a server saw must be what the gateway says that it sent, one for one, with the same body for
all; and what a server took well, it must have seen. Inputs carry their number in every target, so that a request that only one server saw,
or that the gateway never meant, is found whatever connection it came on.
"""

import asyncio
import collections
import random

from scene import config, require

LENGTHS = [
    "Content-Length: 5", "Content-Length: 0", "Content-Length: 6", "Content-Length: +5", "Content-Length: -5", "Content-Length: 05",
    "Content-Length: 5, 5", "Content-Length: 5,6", "Content-Length: 5 5", "Content-Length: 0x5", "Content-Length:\t5", "Content-Length : 5",
    "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5;x", "Content-Length: \x0b5",
    "Content-Length: 18446744073709551621", "Content_Length: 5", "X: y\r\n Content-Length: 5", "Content-Length:\r\n 5", "content-length: 5e0", "Content-Length: 5.0",
]
CODINGS = [
    "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding : chunked", "Transfer-Encoding:\x0bchunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding: chunked\x00", "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked", "Transfer_Encoding: chunked", "\x00Transfer-Encoding: chunked", "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,",
    "Transfer-Encoding\x00: chunked", "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "Transfer-Encoding: chun\r\n ked", "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
    "Connection: content-length\r\nTransfer-Encoding: chunked", "TE: chunked\r\nTransfer-Encoding: chunked",
]
BODIES = [
    "hello", "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;x=y\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "05\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "5\r\nhello\r\n0;\r\n\r\n", "5\r\nhello\r\n00\r\n\r\n", "5;\nx\r\nhello\r\n0\r\n\r\n", "-0\r\n\r\n", "5\r\rhello\r\n0\r\n\r\n", "",
]
LINES = [
    "POST {t} HTTP/1.1", "GET {t} HTTP/1.1", "POST {t} HTTP/1.0", "POST  {t} HTTP/1.1", "POST {t}  HTTP/1.1", "POST\t{t} HTTP/1.1", "POST http://h{t} HTTP/1.1", "POST {t}#x HTTP/1.1",
    "POST {t} HTTP/1.2", "POST {t} HTTP/2.0", "POST {t} http/1.1", "POST {t}", "post {t} HTTP/1.1", "POST {t}\x0b HTTP/1.1", "POST {t}/y/../x HTTP/1.1", "POST {t}/y%2f..%2fx HTTP/1.1", "POST {t}/y/%2e%2e/x HTTP/1.1",
    "GET {t}?a=b HTTP/1.1", "\r\nPOST {t} HTTP/1.1", "OPTIONS {t} HTTP/1.1", "HEAD {t} HTTP/1.1", "POST {t}/y\\..\\x HTTP/1.1", "DELETE {t} HTTP/1.1",
]
HOSTS = ["Host: h", "Host: h\r\nHost: i", "Host: h, i", "Host: h@i", "Host:h", "Host: h:80", "", "Host : h", "host: h/x", "Host: h\x00"]
EXTRAS = ["", "", "", "Connection: close", "Connection: keep-alive", "Expect: 100-continue", "Connection: close, x-a\r\nX-A: 1", "Upgrade: h2c\r\nConnection: upgrade", "X-HTTP-Method-Override: GET", "X-A: a\x01b", ": x", "X-Original-URL: /x", "X" * 300 + ": 1"]
ENDS = ["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"]

#: How an exchange ends in the access log if anything of it may have reached a server.
SENT = ("proxied", "client_closed", "body_broken", "upstream_reset", "upstream_protocol", "response_broken", "request_timeout")

#: Connections at a time for one server.
TOGETHER = 16
#: So long an input may get no answer before its client hangs up.
LISTENS = 1.0


def request(line, fields, body, end="\r\n"):
    head = end.join([line, *(field for field in fields if field)])
    return f"{head}{end}{end}{body}"


def corpus():
    """Every odd thing on its own, and all pairs of a length and a coding."""
    smuggled = request("GET {t}/smuggled HTTP/1.1", ["Host: h"], "")
    made = []
    for body in BODIES:
        made += [request(LINES[0], [HOSTS[0], CODINGS[0]], body + smuggled), request(LINES[0], [HOSTS[0], LENGTHS[0]], body + smuggled)]
    for length in LENGTHS:
        made.append(request(LINES[0], [HOSTS[0], length], "hello" + smuggled))
        for coding in CODINGS:
            made.append(request(LINES[0], [HOSTS[0], length, coding], "0\r\n\r\n" + smuggled))
    for coding in CODINGS:
        made += [request(LINES[0], [HOSTS[0], coding], BODIES[2] + smuggled), request(LINES[0], [HOSTS[0], coding, LENGTHS[0]], BODIES[2] + smuggled)]
    for line in LINES:
        made += [request(line, [HOSTS[0]], smuggled), request(line, [HOSTS[0], LENGTHS[0]], "hello" + smuggled)]
    for host in HOSTS:
        made.append(request(LINES[1], [host], smuggled))
    for extra in EXTRAS:
        made.append(request(LINES[0], [HOSTS[0], extra, LENGTHS[0]], "hello" + smuggled))
    for end in ENDS:
        made.append(request(LINES[0], [HOSTS[0], CODINGS[0]], BODIES[2] + smuggled, end))
    return made


def generated(count, seed):
    """Mostly right requests with one to three odd things, one after another on a connection."""
    chance = random.Random(seed)
    odd = lambda choices: chance.choice(choices) if chance.random() < 0.35 else choices[0]
    made = []
    for _ in range(count):
        parts = []
        for place in range(chance.randint(1, 3)):
            framing = chance.choice([[LENGTHS[0]], [odd(LENGTHS)], [CODINGS[0]], [odd(CODINGS)], [odd(LENGTHS), odd(CODINGS)], []])
            body = odd(BODIES) if not framing or framing[0].startswith("Content") else chance.choice(BODIES[1:])
            fields = [odd(HOSTS), odd(EXTRAS), *framing]
            chance.shuffle(fields)
            parts.append(request(odd(LINES).replace("{t}", f"{{t}}/{place}"), fields, body, odd(ENDS)))
        text = "".join(parts)
        if chance.random() < 0.1:
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(["\r", "\n", "\x00", " ", "\t", ":", ",", "\x0b", "\x7f", "é"]) + text[at:]
        made.append(text)
    return made


async def send(port, bytes_):
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        raise AssertionError(f"the gateway does not accept: {error}") from error
    try:
        writer.write(bytes_)
        await writer.drain()
        while await asyncio.wait_for(reader.read(65536), LISTENS):
            pass
    except (asyncio.TimeoutError, OSError):
        pass
    finally:
        writer.close()


async def send_all(port, inputs):
    queue = collections.deque(inputs)

    async def worker():
        while queue:
            await send(port, queue.popleft())

    await asyncio.gather(*(worker() for _ in range(TOGETHER)))


def number(target):
    """The input that a target belongs to."""
    words = target.split("?")[0].split("/")
    return int(words[2]) if len(words) > 2 and words[1] == "i" and words[2].isdigit() else None


def check(scene, origins, count, seed):
    inputs = corpus() + generated(count, seed)
    apis = [{"name": o.name, "path": f"/{o.name}", "upstream": o.name, "strip_prefix": True} for o in origins]
    upstreams = {o.name: {"endpoints": [f"http://127.0.0.1:{o.port}"]} for o in origins}
    port = scene.gateway(config(upstreams, apis), "differential")["public"]
    # Of other checks.
    before = {origin.name: len(origin.requests()) for origin in origins}
    for origin in origins:
        texts = [text.replace("{t}", f"/{origin.name}/i/{index}") for index, text in enumerate(inputs)]
        asyncio.run(send_all(port, [text.encode("latin-1") for text in texts]))
    # A request that every server answers, last: what came before is written down then.
    for origin in origins:
        asyncio.run(send(port, f"GET /{origin.name}/i/999999 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()))
    # What the gateway says that it sent on: method, target, and whether the server took it.
    sent = collections.defaultdict(list)
    for entry in scene.access_log("differential"):
        name, rest = entry["path"].split("/", 2)[1:] if entry["path"].count("/") > 1 else ("", "")
        index = number("/" + rest)
        if index is not None and entry["reason"] in SENT:
            well = next(origin.well for origin in origins if origin.name == name)
            taken = entry["reason"] == "proxied" and entry["status"] == well
            sent[name, index].append((entry["method"].upper(), "/" + rest, taken))
    wrong, refused, views = [], set(range(len(inputs))), {}
    for origin in origins:
        seen = views[origin.name] = collections.defaultdict(list)
        for method, target, *body in origin.requests()[before[origin.name]:]:
            index = number(target)
            require(index is not None, f"{origin.name} saw {method} {target}, which nobody sent")
            # hypercorn writes methods in capitals.
            seen[index].append((method.upper(), target.split("?")[0], *body))
            refused.discard(index)
        require(seen[999999], f"{origin.name} wrote nothing down")
        for index, text in enumerate(inputs):
            meant = list(sent[origin.name, index])
            for method, target, *_ in seen[index]:
                known = [one for one in meant if one[:2] == (method, target)]
                # One that it took before one that it may have refused.
                known.sort(key=lambda one: not one[2])
                if known:
                    meant.remove(known[0])
                else:
                    wrong.append((index, text, f"{origin.name} saw {method} {target}; the gateway sent {sent[origin.name, index]}"))
            # A server may refuse a method that it does not know, or a body that breaks off, but not lose one.
            for method, target, taken in meant:
                if taken:
                    wrong.append((index, text, f"{origin.name} did not see {method} {target}"))
    for index, text in enumerate(inputs):
        bodies = {}
        for origin in origins:
            for method, target, *body in views[origin.name][index] if origin.bodies else []:
                if bodies.setdefault((method, target), body) != body:
                    wrong.append((index, text, f"{method} {target} has {body} bytes for {origin.name}, and {bodies[method, target]}"))
    for index, text, what in wrong[:10]:
        print(f"differential: input {index}: {text!r}\n    {what}")
    require(not wrong, f"{len(wrong)} requests were seen differently")
    count = sum(len(view[index]) for view in views.values() for index in range(len(inputs)))
    return f"{len(inputs)} inputs to {len(origins)} servers: {len(refused)} refused, of the others {count} requests, each as the gateway meant it"
