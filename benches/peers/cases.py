"""What is compared: each case says what proxies are to do (`proxies/`) and what load they get."""

import dataclasses

from harness import upstream
from harness.load import Load


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    title: str
    load: Load = Load()
    # How often, unless the command line says so; more for what a goal is set on.
    rounds: int = 1
    log: bool = False
    tls: bool = False
    http2: bool = False
    # Wasm policies with a request and a response hook each.
    policies: int = 0
    # A fresh instance of a policy for each request.
    fresh: bool = False
    # "cached" or "uncached": whether verified tokens are remembered.
    jwt: str = ""
    aggregate: bool = False
    # "buffer" or "stream": a Wasm policy that looks at every byte of both bodies.
    body_policy: str = ""
    # Connections rest while memory is looked at.
    idle: bool = False

    def load_in(self, place):
        """The load, with what this run made for it."""
        if not self.jwt:
            return self.load
        return dataclasses.replace(self.load, headers={"Authorization": "Bearer " + place.token()[0]})

    @property
    def seconds(self):
        """Of load in a round, unless the command line says so."""
        return 3.0 if self.rounds == GOAL else 2.0

    @property
    def plain(self):
        """Nothing but to proxy, of whatever size and over whatever connection."""
        return not (self.log or self.policies or self.fresh or self.jwt or self.aggregate or self.body_policy)


# Rounds of a case that a goal is set on.
GOAL = 3
# Connections at rest.
FEW, MANY = 100, 10_000



CASES = {case.name: case for case in [
    Case("plain", "reverse proxy, no policies, no log", rounds=GOAL),
    Case("log", "the same with access log and metrics", rounds=GOAL, log=True),
    Case("policies-1", "1 Wasm policy, a request and a response hook", rounds=GOAL, policies=1),
    Case("policies-5", "5 Wasm policies, a request and a response hook each", rounds=GOAL, policies=5),
    Case("policies-10", "10 Wasm policies, a request and a response hook each", rounds=GOAL, policies=10),
    Case("isolation", "1 Wasm policy in a fresh instance for each request", rounds=GOAL, policies=1, fresh=True),
    Case("jwt", "JWT RS256, rate limit and header rewrite; verified tokens are remembered", rounds=GOAL, jwt="cached"),
    Case("jwt-uncached", "the same, each token verified", rounds=GOAL, jwt="uncached"),
    Case("tls", "TLS 1.3 from the client, one handshake per connection", Load(tls=True), tls=True),
    Case("tls-handshake", "TLS 1.3 from the client, a full handshake per request",
         Load(tls=True, tool="handshakes", connections=16), tls=True),
    Case("http2", "HTTP/2 from the client, 8 connections of 8 streams; HTTP/1.1 to the upstream",
         Load(tool="h2load", connections=8, streams=8), http2=True),
    Case("aggregate", "three answers of 1 KiB merged into one", aggregate=True),
    Case("down-64k", "answers of 64 KiB", Load(upstream.file("64k"))),
    Case("up-64k", "requests of 64 KiB", Load(upstream.upload(), body=64 << 10)),
    Case("down-10m", "answers of 10 MiB, 8 connections", Load(upstream.file("10m"), connections=8)),
    Case("up-10m", "requests of 10 MiB, 8 connections", Load(upstream.upload(), body=10 << 20, connections=8)),
    Case("body-buffer", "a Wasm policy reads requests and answers of 64 KiB, each as a whole",
         Load(upstream.upload(upstream.file("64k")), body=64 << 10), body_policy="buffer"),
    Case("body-stream", "the same, chunk by chunk",
         Load(upstream.upload(upstream.file("64k")), body=64 << 10), body_policy="stream"),
    Case("body-none", "the same bodies without a policy",
         Load(upstream.upload(upstream.file("64k")), body=64 << 10)),
    Case("idle-100", "100 connections, one request on each, then at rest", Load(connections=FEW), idle=True),
    Case("idle-10000", "10,000 connections, the same", Load(connections=MANY), idle=True),
]}
