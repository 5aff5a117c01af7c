"""The conformance suite's guest in Python: each scenario of ../../suite.yaml, as ../../rust does it."""

import json

import wit_world
from witgate import Body, Err, amend, append, note, policy, proceed, remove, respond, set
from wit_world.imports import consumers, crypto, env, http_client, jwt, log, message, metrics, plan
from wit_world.imports.rate_limit import Limiter, Quota
from wit_world.imports.shared_state import Bucket
from wit_world.imports.types import BodyMode, Fallback, Reply

import scenario

# Of "password", and made weak so that it is quick.
HASHED = "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA"


class Made:
    """What `configure` made for the scenario."""

    bucket = limiter = verifier = None
    metrics = []


@policy
class WitWorld(wit_world.WitWorld):
    def config_schema(self):
        return json.dumps({
            "type": "object",
            "properties": {"do": {"type": "string"}},
            "required": ["do"],
            "additionalProperties": False,
        })

    def configure(self, config):
        do = scenario.name = json.loads(config)["do"]
        reads = ["x-a", ":path", "client:ip", "query:q"]
        match do:
            case "refuse":
                raise Err("refused as told")
            case "unknown-read":
                reads.append("no such:name")
            case "message":
                reads.append("headers:*")
            case "skip":
                plan.on_error(Fallback.SKIP)
            case "tick":
                plan.tick_millis(1000)
            case "open-ungranted":
                Bucket.open("other")
            case "state":
                Made.bucket = Bucket.open("suite")
            case "rate":
                Made.limiter = Limiter.create("suite", Quota(count=2, period_millis=60_000, burst=0))
            case "jwt":
                keys = [jwt.KeySource_Secret("signing")]
                Made.verifier = jwt.Verifier.create(jwt.Rules(keys, [], ["https://issuer.example"], [], ["sub"], 0))
            case "metrics":
                kinds = {
                    metrics.Kind.COUNTER: "suite_total",
                    metrics.Kind.GAUGE: "suite_level",
                    metrics.Kind.HISTOGRAM: "suite_seconds",
                }
                Made.metrics = [metrics.define(kind, name, [("kind", "suite")]) for kind, name in kinds.items()]
            case _ if do.startswith("body-"):
                plan.request_body(BodyMode.BUFFER, 1000)
                plan.response_body(BodyMode.BUFFER, 1000)
            case _ if do.startswith("stream-"):
                plan.request_body(BodyMode.STREAM, 0)
                plan.response_body(BodyMode.STREAM, 0)
        plan.request_reads(reads)
        plan.response_reads([":status", "x-b"])
        plan.log_reads([":status", "answered:by"])
        plan.writes(["x-*"])

    def on_request(self, values):
        match scenario.name:
            case "edits":
                return amend(set("x-set", "1"), append("x-append", "2"), remove("x-remove"), note("nä".encode()))
            case "body-amend":
                return amend(note(b"from headers"))
            case "respond":
                return respond(teapot(418))
            case "bad-status":
                return respond(teapot(99))
            case "error" | "skip":
                raise Err("as told")
            case "trap":
                # An exception is an error; what is no verdict cannot be taken out of the guest.
                return "no verdict"
            case "spin":
                while True:
                    pass
            case "grow":
                kept = []
                while True:
                    kept.append(bytearray(1 << 20))
            case "undeclared":
                return amend(set("undeclared", "1"))
            case "forbidden-value":
                return amend(set("x-set", "a\r\nb: c"))
            case "many-edits":
                return amend(*(set("x-set", "1") for _ in range(1_000)))
        result = told(values)
        return proceed() if result is None else amend(set("x-result", result))

    def on_response(self, values, note):
        match scenario.name:
            case "edits" | "echo":
                return amend(set("x-response", f"{joined(values)}|{note.decode()}"))
            case "response-respond":
                return respond(teapot(418))
            case "response-error":
                raise Err("as told")
        return proceed()

    def on_request_body(self, body, note):
        return on_body(body, note)

    def on_response_body(self, body, note):
        return on_body(body, note)

    def on_log(self, entries):
        for entry in entries:
            log.write(log.Level.INFO, f"entry {joined(entry)}")
        if scenario.name == "log-error":
            raise Err("as told")

    def on_tick(self):
        log.write(log.Level.INFO, "tick")


def told(values):
    """What the gateway answered; nothing for a scenario without a question."""
    first = values[0] or ""
    match scenario.name:
        case "echo":
            return joined(values)
        case "env":
            return environment()
        case "log":
            for level in log.Level:
                log.write(level, f"at {level.name.lower()}")
            print("printed in ", end="")
            print("pieces", flush=True)
            return word(log.max_level() == log.Level.TRACE)
        case "metrics":
            metrics.add(Made.metrics[0], 2.5)
            metrics.add(Made.metrics[1], -1)
            metrics.observe(Made.metrics[2], 0.25)
            return refusal(lambda: metrics.define(metrics.Kind.COUNTER, "suite_late", []))
        case "message":
            return ",".join(f"{name}={value}" for name, value in message.headers())
        case "state":
            return state(Made.bucket)
        case "late-open":
            return refusal(lambda: Bucket.open("suite"))
        case "rate":
            outcomes = [Made.limiter.check("key", 1) for _ in range(3)]
            return "|".join(f"{word(o.allowed)},{o.remaining},{o.retry_after_millis}" for o in outcomes)
        case "jwt":
            return refusal(lambda: Made.verifier.verify(first))
        case "by-key":
            return refusal(lambda: consumer(consumers.identify_by_key(first)))
        case "by-name":
            return refusal(lambda: consumer(consumers.identify_by_name(first)))
        case "crypto":
            return cryptography()
        case "fetch":
            return refusal(lambda: fetched(http_client.fetch(request("backend"))))
        case "fetch-ungranted":
            return refusal(lambda: fetched(http_client.fetch(request("elsewhere"))))
        case "fetch-all":
            answers = http_client.fetch_all([request("backend"), request("broken")])
            return "|".join(name(one.value) if isinstance(one, Err) else fetched(one.value) for one in answers)
    return None


def on_body(body, note):
    match scenario.name:
        case "body-amend":
            return Body.amend(set("x-result", f"{len(body)}|{note.decode()}"))
        case "body-replace":
            return Body.replace(body.upper(), set("x-result", str(len(body))))
        case "body-respond":
            return Body.respond(teapot(418))
        case "body-error":
            raise Err("as told")
    return Body.proceed()


def environment():
    millis, nanos, earlier = env.unix_millis(), env.unix_nanos(), env.monotonic_nanos()
    is_steady = earlier <= env.monotonic_nanos()
    differ = env.random_u64() != env.random_u64()
    same = nanos // 1_000_000 == millis
    return f"{millis}|{word(same)}|{word(is_steady)}|{word(differ)}|{len(env.random_bytes(5))}"


def state(bucket):
    def get():
        value = bucket.get("k")
        return "-" if value is None else value.decode()

    steps = [
        get(),
        word(bucket.set("k", b"v", 0)),
        get(),
        str(bucket.increment("n", 5, 0)),
        str(bucket.increment("n", -7, 60_000)),
        word(bucket.compare_and_set("k", b"v", b"w", 0)),
        word(bucket.compare_and_set("k", None, b"x", 0)),
        get(),
    ]
    bucket.remove("k")
    return "|".join([*steps, get()])


def cryptography():
    sha256 = crypto.Digest.SHA256

    def hmac(secret):
        return refusal(lambda: crypto.hmac(sha256, secret, b"abc").hex())

    parts = [
        crypto.hash(sha256, b"abc").hex(),
        str(len(crypto.hash(crypto.Digest.SHA384, b""))),
        str(len(crypto.hash(crypto.Digest.SHA512, b""))),
        hmac("signing"),
        hmac("unknown"),
        word(crypto.equal(b"a", b"a")),
        word(crypto.equal(b"a", b"b")),
        word(crypto.verify_password("password", HASHED)),
        word(crypto.verify_password("passwort", HASHED)),
    ]
    return "|".join(parts)


def request(upstream):
    return http_client.FetchRequest(upstream, "POST", "/x?y=1", [("x-h", "1")], b"hi", 500)


def fetched(answer):
    header = next((value for name, value in answer.headers if name == "x-r"), "-")
    return f"{answer.status} {header} {answer.body.decode()}"


def consumer(found):
    return f"{found.name} {found.product or '-'}"


def teapot(status):
    headers = [("content-type", "text/plain"), ("x-two", "1"), ("x-two", "2")]
    return Reply(status, headers, b"short and stout")


def refusal(call):
    """What a call returns, or the error that the gateway gives instead."""
    try:
        return call()
    except Err as error:
        return name(error.value)


def name(error):
    """Of an enum as the contract writes it; a text is one already."""
    return error if isinstance(error, str) else error.name.lower().replace("_", "-")


def word(truth):
    return "true" if truth else "false"


def joined(values):
    return "|".join("-" if value is None else value for value in values)
