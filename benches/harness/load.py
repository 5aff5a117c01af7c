"""Load on a proxy, from core 1, by the tool that can do it; what came of it.

`Load.run` is what the scripts call. wrk does HTTP/1.1, h2load HTTP/2; `clients.py` does what neither
can: a full TLS handshake for each request (wrk resumes sessions) and connections that do nothing.
All of them give `Measured`. Everything is bounded in time and stays on 127.0.0.1.
"""

import dataclasses
import json
import os
import subprocess
import sys

from harness import parse, upstream
from harness.process import LOAD_CORE

# Ordinary for a browser; with the tool's own Host they are eight.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "session=8d3f0a6c1b5e4f27; theme=dark",
    "Referer": "https://app.example.com/flights/today",
    "X-Client-Version": "4.18.2",
}

CLIENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients.py")


@dataclasses.dataclass
class Measured:
    requests: int
    rps: float
    p50_us: float
    p99_us: float
    errors: int
    cpu_us: float = 0.0
    rss_mb: float = 0.0


@dataclasses.dataclass(frozen=True)
class Load:
    """What is asked for, by how many at once."""

    path: str = upstream.PATH
    tool: str = "wrk"
    connections: int = 64
    # HTTP/2 streams at once in each connection.
    streams: int = 1
    tls: bool = False
    # A POST with so many bytes.
    body: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    # Lua for wrk, where requests differ.
    script: str = ""

    def run(self, place, seconds):
        seconds = max(1, round(seconds))
        command, read = {"wrk": self._wrk, "h2load": self._h2load, "handshakes": self._handshakes}[self.tool](
            place, seconds)
        environment = {**os.environ, "OPENSSL_CONF": place.openssl_settings()}
        done = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *command], capture_output=True, text=True, timeout=seconds + 60,
            env=environment)
        if done.returncode != 0:
            sys.exit(f"{command[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return Measured(**read(done.stdout))

    def url(self, place):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{place.port}{self.path}"

    def all_headers(self):
        return {**HEADERS, **self.headers}

    def _wrk(self, place, seconds):
        script = self.script
        if self.body:
            script += f"wrk.method = 'POST'\nwrk.body = string.rep('x', {self.body})\n"
        command = [place.find("wrk"), "-t1", f"-c{self.connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
        if script:
            command += ["-s", place.write("load.lua", script)]
        for name, value in self.all_headers().items():
            command += ["-H", f"{name}: {value}"]
        return [*command, self.url(place)], parse.wrk

    def _h2load(self, place, seconds):
        log = place.file("h2load.log")
        # It adds to a file that is there.
        if os.path.exists(log):
            os.remove(log)
        command = [place.find("h2load"), "-t1", f"-c{self.connections}", f"-m{self.streams}", f"-D{seconds}",
                   f"--log-file={log}"]
        for name, value in self.all_headers().items():
            command += ["-H", f"{name}: {value}"]

        def read(text):
            with open(log) as lines:
                return parse.h2load(text, lines)
        return [*command, self.url(place)], read

    def _handshakes(self, place, seconds):
        return self._clients(place, "handshakes", self.connections, seconds), json.loads

    def _clients(self, place, kind, *numbers):
        return [sys.executable, CLIENTS, kind, self.url(place), json.dumps(self.all_headers()), *map(str, numbers)]

    def idle(self, place, while_idle):
        """Opens the connections, one request each; when they rest, calls `while_idle`; then asks on
        each again, so that one that was closed counts as an error."""
        client = subprocess.Popen(
            ["taskset", "-c", LOAD_CORE, *self._clients(place, "idle", self.connections)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if client.stdout.readline() != "idle\n":
                sys.exit("the client of idle connections failed")
            while_idle()
            text, _ = client.communicate("\n", timeout=120)
            return Measured(**json.loads(text))
        finally:
            client.kill()
            client.wait()
