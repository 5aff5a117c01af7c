"""Lets only requests with a certain header through, and tells the upstream who sent them."""

import json
import re

import wit_world
from witgate import Err, amend, policy, problem, respond, set
from wit_world.imports import plan

# What the upstream learns; whatever a client sends in it is overwritten.
ADDRESS = "x-client-address"


@policy
class WitWorld(wit_world.WitWorld):
    def config_schema(self):
        """Checked before `configure`, and shown by editors."""
        return json.dumps({
            "type": "object",
            "properties": {"header": {"type": "string", "description": "The header that a request must have."}},
            "required": ["header"],
            "additionalProperties": False,
        })

    def configure(self, config):
        """What is neither read nor written here never reaches the policy, nor leaves it."""
        header = json.loads(config)["header"]
        if not re.fullmatch(r"[\w-]+", header, re.ASCII):
            raise Err(f"header: `{header}` is no header name")
        plan.request_reads([header, "client:ip"])
        plan.writes([ADDRESS])

    def on_request(self, values):
        """What is raised is the policy's own failure (503); to refuse a request is to respond."""
        sent, address = values
        if not sent:
            return respond(problem(400, "A header is missing", "a header must be sent"))
        return amend(set(ADDRESS, address))
