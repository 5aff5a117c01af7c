"""Published clients of gRPC, WebSocket and HTTP against a gateway: do they get what they are promised?"""

import asyncio
import concurrent.futures
import json
import os
import queue
import re
import time

import grpc
import websockets
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from scene import config, free_port, require, run


def grpc_server():
    """Echoes bytes in every way that gRPC has; `fail` ends without a message, `slow` never in time."""

    def unary(request, context):
        context.set_trailing_metadata((("x-trailer", "1"), ("x-bytes-bin", b"\x00\xff")))
        return request

    def fail(_, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here: ü")

    def slow(request, context):
        deadline = context.time_remaining()
        require(deadline is not None, "the deadline did not arrive")
        time.sleep(min(deadline + 0.2, 5))
        return request

    def many(request, _):
        for index in range(100):
            yield request + str(index).encode()

    def sum_up(requests, _):
        return str(sum(len(request) for request in requests)).encode()

    def both(requests, _):
        yield from requests

    handlers = grpc.method_handlers_generic_handler("test.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Sum": grpc.stream_unary_rpc_method_handler(sum_up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    })
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((handlers,))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("test.Echo", health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def check_grpc(scene):
    server, port = grpc_server()
    upstreams = {"echo": {"endpoints": [f"http://127.0.0.1:{port}"], "protocol": "http2"}, "nobody": {"endpoints": [f"http://127.0.0.1:{free_port()}"], "protocol": "http2"}}
    apis = [
        {"name": "echo", "path": "/test.Echo", "upstream": "echo"},
        {"name": "health", "path": "/grpc.health.v1.Health", "upstream": "echo"},
        {"name": "keyed", "path": "/test.Keyed", "upstream": "echo", "chain": [{"plugin": "api-key"}]},
        {"name": "nobody", "path": "/test.Nobody", "upstream": "nobody"},
    ]
    public = scene.gateway(config(upstreams, apis), "grpc")["public"]
    done = 0
    with grpc.insecure_channel(f"127.0.0.1:{public}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="test.Echo"), timeout=10)
        require(answer.status == health_pb2.HealthCheckResponse.SERVING, "health")
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="test.Echo"), timeout=10)
        require(next(watch).status == health_pb2.HealthCheckResponse.SERVING, "watching")
        watch.cancel()
        done += 2

        for size in (0, 1, 100_000, 3_000_000):
            reply, call = channel.unary_unary("/test.Echo/Unary").with_call(b"x" * size, timeout=20)
            require(reply == b"x" * size, f"{size} bytes came back as {len(reply)}")
            trailers = dict(call.trailing_metadata())
            require(trailers.get("x-trailer") == "1" and trailers.get("x-bytes-bin") == b"\x00\xff", f"trailers {trailers}")
            done += 1

        def status(method, wanted, details=None, timeout=10):
            nonlocal done
            try:
                channel.unary_unary(method)(b"x", timeout=timeout)
            except grpc.RpcError as error:
                require(error.code() == wanted, f"{method}: {error.code()} {error.details()}, not {wanted}")
                require(details is None or details in error.details(), f"{method}: {error.details()!r}")
                done += 1
                return
            raise AssertionError(f"{method} went well")

        status("/test.Echo/Fail", grpc.StatusCode.NOT_FOUND, "nothing here: ü")
        status("/test.Echo/Slow", grpc.StatusCode.DEADLINE_EXCEEDED, timeout=0.5)
        status("/test.Echo/Missing", grpc.StatusCode.UNIMPLEMENTED)
        status("/test.Keyed/Unary", grpc.StatusCode.UNAUTHENTICATED)
        status("/test.Nobody/Unary", grpc.StatusCode.UNAVAILABLE)
        status("/no.Route/Unary", grpc.StatusCode.UNIMPLEMENTED)

        many = list(channel.unary_stream("/test.Echo/Many")(b"m", timeout=20))
        require(many == [b"m%d" % index for index in range(100)], "server streaming")
        total = channel.stream_unary("/test.Echo/Sum")((b"x" * 1000 for _ in range(500)), timeout=20)
        require(total == b"500000", f"client streaming: {total}")

        # Each message is sent only after the answer to the one before has come.
        outgoing = queue.Queue()
        calls = channel.stream_stream("/test.Echo/Both")(iter(outgoing.get, None), timeout=20)
        for index in range(50):
            outgoing.put(b"%d" % index)
            require(next(calls) == b"%d" % index, "both ways in turn")
        outgoing.put(None)
        require(list(calls) == [], "the end of both ways")
        done += 3

        long = channel.unary_stream("/test.Echo/Many")(b"c", timeout=20)
        next(long)
        long.cancel()
        require(channel.unary_unary("/test.Echo/Unary")(b"after", timeout=10) == b"after", "after a cancellation")
        done += 1
    server.stop(0)
    return f"{done} calls: health, unary, streaming in all ways, trailers-only, deadline, cancellation"


async def websocket_checks(scene):
    async def echo(connection):
        async for message in connection:
            if message == "close":
                return await connection.close(4321, "as asked")
            elif message == "ping":
                await (await connection.ping(b"from the server"))
                await connection.send("ponged")
            else:
                await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, compression=None, subprotocols=["chat"]) as server:
        port = server.sockets[0].getsockname()[1]
        apis = [{"name": "echo", "path": "/ws", "upstream": "echo"}, {"name": "keyed", "path": "/keyed", "upstream": "echo", "chain": [{"plugin": "api-key"}]}]
        public = scene.gateway(config({"echo": {"endpoints": [f"http://127.0.0.1:{port}"]}}, apis), "websocket")["public"]
        done = 0
        options = {"max_size": None, "compression": None, "proxy": None, "subprotocols": ["chat"]}
        async with websockets.connect(f"ws://127.0.0.1:{public}/ws", **options) as client:
            require(client.subprotocol == "chat", "the subprotocol")
            for message in ("", "text: ü", b"\x00\xff", "x" * 125, "x" * 126, "x" * 65_536, b"y" * 8_000_000):
                await client.send(message)
                require(await client.recv() == message, f"a message of {len(message)}")
                done += 1
            # In fragments, with a ping between them.
            async def fragments():
                for index in range(10):
                    if index == 5:
                        await (await client.ping(b"between"))
                    yield f"part {index};"
            await client.send(fragments())
            require(await client.recv() == "".join(f"part {index};" for index in range(10)), "fragments")
            await client.send("ping")
            require(await client.recv() == "ponged", "a ping of the server")
            await client.send("close")
            await client.wait_closed()
            require((client.close_code, client.close_reason) == (4321, "as asked"), f"the close: {client.close_code}")
            done += 3
        try:
            async with websockets.connect(f"ws://127.0.0.1:{public}/keyed", **options):
                raise AssertionError("a tunnel past a policy")
        except websockets.InvalidStatus as error:
            require(error.response.status_code == 401, f"{error.response}")
            done += 1

        async def one(index):
            async with websockets.connect(f"ws://127.0.0.1:{public}/ws", **options) as client:
                for turn in range(20):
                    await client.send(f"{index} {turn}")
                    require(await client.recv() == f"{index} {turn}", "one of many")

        await asyncio.gather(*(one(index) for index in range(100)))
        return f"{done} exchanges on one connection, and 100 connections at once: sizes, fragments, ping, close, refusal"


def check_websocket(scene):
    return asyncio.run(websocket_checks(scene))


def check_curl(scene, origins):
    by_name = {origin.name: origin for origin in origins}
    upstreams = {name: {"endpoints": [f"http://127.0.0.1:{by_name[name].port}"]} for name in ("nginx", "node")}
    apis = [{"name": name, "path": f"/{name}", "upstream": name, "strip_prefix": True} for name in upstreams]
    apis[1]["operations"] = [{"name": "all", "match": {"path": "/{*rest}"}}, {"name": "keyed", "match": {"path": "/keyed"}, "chain": [{"plugin": "api-key"}]}]
    public = scene.gateway(config(upstreams, apis), "curl")["public"]
    base = f"http://127.0.0.1:{public}"
    whole = (scene.folder / "files" / "bytes.txt").read_bytes()
    big = scene.folder / "big"
    big.write_bytes(b"z" * 3_000_000)
    done = 0

    def curl(*arguments, status=200):
        nonlocal done
        out = scene.folder / "curl.out"
        result = run(["curl", "-sS", "--noproxy", "*", "-m", "30", "-o", str(out), "-w", "%{http_code} %{http_version} %{size_upload}", *arguments])
        require(result.returncode == 0, f"curl {arguments}: {result.stderr}")
        code, version, uploaded = result.stdout.split()
        require(int(code) == status, f"curl {arguments}: {code}, not {status}")
        done += 1
        return out.read_bytes() if out.exists() else b"", version, int(uploaded)

    files = f"{base}/nginx/files/bytes.txt"
    require(curl(files)[0] == whole, "the whole file")
    require(curl("-r", "0-99", files, status=206)[0] == whole[:100], "the first hundred")
    require(curl("-r", "-7", files, status=206)[0] == whole[-7:], "the last seven")
    require(curl("-r", "999990-", files, status=206)[0] == whole[999_990:], "the rest")
    require(b"multipart" in run(["curl", "-sS", "--noproxy", "*", "-D-", "-o", "/dev/null", "-r", "0-1,5-6", files]).stdout.encode(), "two ranges")
    curl("-r", "2000000-", files, status=416)
    _, _, sent = curl("-H", "Expect: 100-continue", "--data-binary", f"@{big}", f"{base}/node/up")
    require(sent == 3_000_000, f"{sent} bytes after Expect")
    # Refused by the head alone: the body stays where it is.
    _, _, sent = curl("-H", "Expect: 100-continue", "--data-binary", f"@{big}", f"{base}/node/keyed", status=401)
    require(sent == 0, f"{sent} bytes sent to a refusal")
    require(curl("--http2-prior-knowledge", files)[:2] == (whole, "2"), "HTTP/2 with prior knowledge")
    # The upgrade to h2c is not taken, which RFC 9110 section 7.8 allows.
    require(curl("--http2", files)[:2] == (whole, "1.1"), "HTTP/1.1 to whom offers h2c")
    require(curl("--http2-prior-knowledge", "--data-binary", f"@{big}", f"{base}/node/up")[1] == "2", "a body over HTTP/2")
    require(curl("--http1.0", files)[0] == whole, "HTTP/1.0")
    require(curl("-H", "Transfer-Encoding: chunked", "--data-binary", f"@{big}", f"{base}/node/up")[2] > 0, "chunked")
    curl("-I", files)
    curl("--path-as-is", f"{base}/nginx/../../etc/passwd", status=400)
    require(["POST", "/up", "3000000"] in by_name["node"].requests(), "what Node saw")
    return f"{done} requests: ranges, Expect, HTTP/1.0, HTTP/2 with prior knowledge, an offer of h2c"


def check_h2load(scene, origins):
    nginx = next(origin for origin in origins if origin.name == "nginx")
    port = scene.gateway(config({"nginx": {"endpoints": [f"http://127.0.0.1:{nginx.port}"]}}, [{"name": "a", "path": "/", "upstream": "nginx"}], access_log={"enabled": False}), "h2load")["public"]
    told = []
    for name, arguments, count in (
        ("HTTP/1.1", ["--h1", "-c", "32"], 20_000),
        ("HTTP/2", ["-c", "8", "-m", "64"], 40_000),
        ("HTTP/2 POST", ["-c", "8", "-m", "16", "-d", str(scene.folder / "post")], 5_000),
    ):
        (scene.folder / "post").write_bytes(b"p" * 20_000)
        result = run(["h2load", "-n", str(count), *arguments, f"http://127.0.0.1:{port}/"])
        line = re.search(r"requests: .*", result.stdout)
        require(line, result.stdout + result.stderr)
        require(f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in line[0], f"{name}: {line[0]}")
        told.append(f"{count} over {name}")
    return ", ".join(told) + ": none failed"


def check_slow(scene, origins):
    nginx = next(origin for origin in origins if origin.name == "nginx")
    listener = {"limits": {"header_read": "3s", "idle": "3s"}}
    port = scene.gateway(config({"nginx": {"endpoints": [f"http://127.0.0.1:{nginx.port}"]}}, [{"name": "a", "path": "/", "upstream": "nginx"}], listener=listener), "slow")["public"]
    told = []
    for name, mode in (("heads", ["-H"]), ("bodies", ["-B"]), ("reads", ["-X", "-w", "1", "-y", "2", "-n", "1", "-z", "1"])):
        # 400 slow clients for at most 20 s; the tool asks on the side whether the service is there.
        result = run(["slowhttptest", *mode, "-c", "400", "-r", "200", "-i", "2", "-l", "12", "-p", "5", "-u", f"http://127.0.0.1:{port}/"])
        text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
        statuses = re.findall(r"service available:\s*(\w+)", text)
        require(statuses and all(status == "YES" for status in statuses), f"{name}: {statuses} {text[-800:]}")
        told.append(f"{name} ({len(statuses)} looks)")
    return "400 slow clients each for " + ", ".join(told) + ": the service stayed available"


def check_tls(scene, origins, python):
    folder = scene.folder
    made = run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
    require(made.returncode == 0, made.stderr)
    os.chmod(folder / "key.pem", 0o600)
    nginx = next(origin for origin in origins if origin.name == "nginx")
    listener = {"tls": {"certificates": [{"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}]}}
    port = scene.gateway(config({"nginx": {"endpoints": [f"http://127.0.0.1:{nginx.port}"]}}, [{"name": "a", "path": "/", "upstream": "nginx"}], listener=listener), "tls")["public"]
    out = folder / "sslyze.json"
    sslyze = python.parent / "sslyze"
    result = run([str(sslyze), f"--json_out={out}", "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--heartbleed", "--openssl_ccs", "--reneg", "--robot", "--compression", "--fallback", "--early_data", f"127.0.0.1:{port}"])
    require(out.exists(), result.stdout + result.stderr)
    scan = json.loads(out.read_text())["server_scan_results"][0]["scan_result"]
    suites = lambda name: [suite["cipher_suite"]["name"] for suite in scan[name]["result"]["accepted_cipher_suites"]]
    for old in ("ssl_2_0_cipher_suites", "ssl_3_0_cipher_suites", "tls_1_0_cipher_suites", "tls_1_1_cipher_suites"):
        require(suites(old) == [], f"{old}: {suites(old)}")
    weak = [name for name in suites("tls_1_2_cipher_suites") if not re.search(r"ECDHE.*(GCM|CHACHA20)", name)]
    require(not weak and suites("tls_1_3_cipher_suites"), f"weak: {weak}")
    require(not scan["heartbleed"]["result"]["is_vulnerable_to_heartbleed"], "Heartbleed")
    require(not scan["openssl_ccs_injection"]["result"]["is_vulnerable_to_ccs_injection"], "CCS injection")
    require(not scan["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"], "renegotiation")
    require(not scan["tls_compression"]["result"]["supports_compression"], "compression")
    require("NOT_VULNERABLE" in str(scan["robot"]["result"]["robot_result"]), "ROBOT")
    early = scan["tls_1_3_early_data"]["result"]
    require(not (early or {}).get("supports_early_data"), "early data")
    return f"TLS 1.2 and 1.3 only, {len(suites('tls_1_2_cipher_suites')) + len(suites('tls_1_3_cipher_suites'))} suites, none weak; no early data, renegotiation or compression"

