"""Lets a webhook through if its signature is right, its time is now and its delivery is new.

The sender signs `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each delivery.
"""

import json
import re

import wit_world
from witgate import Body, amend, note, policy, proceed, problem, respond, set
from wit_world.imports import crypto, env, log, metrics, plan
from wit_world.imports.shared_state import Bucket
from wit_world.imports.types import BodyMode

BODY_BYTES = 65_536
VERIFIED = b"verified"


class Settings:
    secret = ""
    window = 300
    deliveries = None
    counted = {}


@policy
class WitWorld(wit_world.WitWorld):
    def config_schema(self):
        return json.dumps({
            "type": "object",
            "properties": {
                "secret": {"type": "string", "description": "The name of the secret."},
                "window": {"type": "integer", "minimum": 1, "maximum": 86_400, "description": "Seconds."},
            },
            "required": ["secret"],
            "additionalProperties": False,
        })

    def configure(self, config):
        config = json.loads(config)
        Settings.secret, Settings.window = config["secret"], config.get("window", 300)
        Settings.deliveries = Bucket.open("deliveries")
        for outcome in ("accepted", "refused", "replayed"):
            labels = [("outcome", outcome)]
            Settings.counted[outcome] = metrics.define(metrics.Kind.COUNTER, "webhook_signatures_total", labels)
        plan.request_reads(["x-signature", "x-timestamp", "x-delivery"])
        plan.request_body(BodyMode.BUFFER, BODY_BYTES)
        plan.writes(["x-webhook"])

    def on_request(self, values):
        signature, timestamp, delivery = (value or "" for value in values)
        if not re.fullmatch(r"sha256=[0-9a-f]{64}", signature):
            return respond(refusal(401, "x-signature is missing or malformed"))
        if not re.fullmatch(r"[0-9]{1,12}", timestamp):
            return respond(refusal(401, "x-timestamp is missing or malformed"))
        if not re.fullmatch(r"[\w-]{1,64}", delivery, re.ASCII):
            return respond(refusal(401, "x-delivery is missing or malformed"))
        if abs(int(timestamp) - env.unix_millis() // 1000) > Settings.window:
            return respond(refusal(401, "x-timestamp is too far from now"))
        return amend(note(f"{timestamp}\n{delivery}\n{signature[7:]}".encode()))

    def on_request_body(self, body, noted):
        timestamp, delivery, signature = noted.decode().split("\n")
        expected = crypto.hmac(crypto.Digest.SHA256, Settings.secret, timestamp.encode() + b"." + body)
        if not crypto.equal(expected, bytes.fromhex(signature)):
            return Body.respond(refusal(401, "the signature is not that of the body"))
        if not Settings.deliveries.compare_and_set(delivery, None, b"1", 2_000 * Settings.window):
            return Body.respond(refusal(409, "this delivery was seen before", "replayed"))
        metrics.add(Settings.counted["accepted"], 1)
        return Body.amend(note(VERIFIED))

    def on_response(self, values, noted):
        return amend(set("x-webhook", "verified")) if noted == VERIFIED else proceed()

    def on_response_body(self, body, noted):
        return Body.proceed()


def refusal(status, detail, outcome="refused"):
    log.write(log.Level.INFO, f"refused: {detail}")
    metrics.add(Settings.counted[outcome], 1)
    return problem(status, "The webhook was refused", detail)
