"""The gateway itself."""

import json
import os
import shutil

from harness import upstream

NAME = "witgate"


def command(binary, case, place):
    plugins = {"cache": place.file("witgate-cache")}
    if case.body_policy:
        guest = place.guest("witgate-bench-body")
        if guest is None:
            return None
        plugins["directory"] = place.file("witgate-plugins")
        os.makedirs(plugins["directory"], exist_ok=True)
        shutil.copy(guest, os.path.join(plugins["directory"], "body.wasm"))
    if case.jwt == "uncached":
        # What it has verified it always remembers.
        return None
    listener = {"name": "public", "address": f"127.0.0.1:{place.port}"}
    if case.tls:
        cert, key, _ = place.certificate()
        listener["tls"] = {"certificates": [{"cert": cert, "key": key}]}
    api = {"name": "flights", "path": "/api/flights", "chain": chain(case, place)}
    if not case.aggregate:
        api["upstream"] = "flights"
    config = {
        "server": {"workers": 1},
        "listeners": [listener],
        "plugins": plugins,
        "access_log": {"enabled": case.log, **({"file": place.file("witgate.log")} if case.log else {})},
        "upstreams": {"flights": {"endpoints": [f"http://127.0.0.1:{place.upstream}"]}},
        "apis": [api],
    }
    if case.log:
        config["admin"] = {"address": f"127.0.0.1:{place.admin}"}
    # YAML takes JSON as it is.
    return [binary, "run", "-c", place.write("witgate.yaml", json.dumps(config, indent=1))], {}


def chain(case, place):
    if case.body_policy:
        return [{"plugin": "body", "config": {"mode": case.body_policy}}]
    if case.jwt:
        rules = {"jwks": place.token()[1], "issuer": "https://id.example.com", "audience": "api"}
        return [
            {"plugin": "jwt", "config": rules},
            {"plugin": "rate-limit", "config": {"requests": 1000000000, "per": "1m", "headers": False}},
            {"plugin": "header-rewrite",
             "config": {"request": {"set": {"x-gateway": "bench"}}, "response": {"set": {"x-gateway": "bench"}}}},
        ]
    if case.aggregate:
        parts = {name: {"upstream": "flights", "path": upstream.part(name)} for name in upstream.PARTS}
        return [{"plugin": "aggregate", "config": {"parts": parts}}]
    isolation = {"isolation": "request"} if case.fresh else {}
    return [{**rewrite(n), **isolation} for n in range(case.policies)]


def rewrite(n):
    """A policy that reads one value and sets one header, in each direction."""
    return {
        "plugin": "header-rewrite",
        "config": {"request": {"set": {f"x-request-{n}": "{:path}"}},
                   "response": {"set": {f"x-response-{n}": "{:status}"}}},
    }
