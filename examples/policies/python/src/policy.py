"""Lets only signed webhooks through: an HMAC over time and body, no older than a window, and each delivery once."""

import json
import re
from types import SimpleNamespace

import wit_world
from witgate import Body, amend, note, policy, problem, proceed, respond, set
from wit_world.imports import crypto, env, log, metrics, plan, types
from wit_world.imports.shared_state import Bucket

# What each header must look like. A header that came twice has a newline in it, and so fits none.
SHAPES = {"x-signature": r"sha256=[0-9a-f]{64}", "x-timestamp": r"[0-9]{1,12}", "x-delivery": r"[^\n]+"}

# What `configure` made. Not in `self`, which is another one in each call.
made = SimpleNamespace()


@policy
class WitWorld(wit_world.WitWorld):
    def config_schema(self):
        """Checked before `configure`, and shown by editors."""
        secret = {"type": "string", "description": "The name of the secret that the sender signs with."}
        window = {"type": "integer", "minimum": 1, "maximum": 86400, "default": 300,
                  "description": "How many seconds a timestamp may be away from the gateway's clock."}
        return json.dumps({
            "type": "object",
            "properties": {"secret": secret, "window": window},
            "required": ["secret"],
            "additionalProperties": False,
        })

    def configure(self, config):
        config = json.loads(config)
        made.secret, made.window = config["secret"], config.get("window", 300)
        plan.request_reads(list(SHAPES))
        plan.request_body(types.BodyMode.BUFFER, 65536)
        plan.writes(["x-webhook"])
        made.deliveries = Bucket.open("deliveries")
        made.counters = {
            outcome: metrics.define(metrics.Kind.COUNTER, "webhook_signatures_total", [("outcome", outcome)])
            for outcome in ("accepted", "refused", "replayed")
        }

    def on_request(self, values):
        """What needs no body is checked before there is one."""
        for (name, shape), value in zip(SHAPES.items(), values):
            if not re.fullmatch(shape, value or ""):
                return respond(refusal(401, f"{name} is missing or malformed"))
        signature, timestamp, delivery = values
        if abs(env.unix_millis() - int(timestamp) * 1000) > made.window * 1000:
            return respond(refusal(401, "x-timestamp is outside the window"))
        return amend(note(f"{timestamp}\n{delivery}\n{signature.removeprefix('sha256=')}".encode()))

    def on_request_body(self, body, note_):
        timestamp, delivery, signature = note_.decode().split("\n")
        tag = crypto.hmac(crypto.Digest.SHA256, made.secret, timestamp.encode() + b"." + body)
        if not crypto.equal(tag, bytes.fromhex(signature)):
            return Body.respond(refusal(401, "x-signature does not fit the body"))
        # Kept for as long as the timestamp could still pass: it may come from one window ahead.
        if not made.deliveries.compare_and_set(delivery, None, b"1", 2 * made.window * 1000):
            return Body.respond(refusal(409, "the delivery came before", "replayed"))
        metrics.add(made.counters["accepted"], 1)
        return Body.amend(note(b"verified"))

    def on_response(self, values, note_):
        return amend(set("x-webhook", "verified")) if note_ == b"verified" else proceed()

    def on_response_body(self, body, note_):
        return Body.proceed()


def refusal(status, detail, outcome="refused"):
    log.write(log.Level.INFO, f"refused: {detail}")
    metrics.add(made.counters[outcome], 1)
    return problem(status, "The webhook was refused", detail)
