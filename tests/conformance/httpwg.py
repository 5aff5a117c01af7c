"""The HTTP/2 conformance suite of httpwg-cli, with the misses that are known and why.

docs/conformance.md says more. Any other miss fails the check; how many of the known ones there are depends
on who is faster, the suite or the gateway. No more than 13 may be missed.
"""

import re

from scene import config, require, run

#: The connection ends, as it must, but h2, which hyper stands on, says PROTOCOL_ERROR for this code.
ANOTHER_CODE = {
    "FLOW_CONTROL_ERROR": {
        "sends settings initial window size with exceeded max window size value",
        "sends settings initial window size with invalid value",
    },
    "COMPRESSION_ERROR": {"invalid header block fragment"},
    # DATA passes if the answer is complete before it comes: h2 has forgotten the stream, and resets it.
    "STREAM_CLOSED": {
        "half closed remote sends data frame",
        "half closed remote sends headers frame",
        "sends data frame on invalid stream state",
    },
}
#: HEADERS with an identifier that was used before: PROTOCOL_ERROR by RFC 9113 section 5.1.1. The suite
#: wants STREAM_CLOSED, which was right by RFC 7540.
OLD_RULE = {
    "closed sends headers frame",
    "closed sends headers frame after rst stream",
}
#: h2 leaves pseudo-header fields of trailers out without a word; no upstream gets them.
LEFT_OUT = {"sends headers frame with pseudo header in trailer"}
#: The suite's PUSH_PROMISE lacks END_HEADERS, and h2 waits for the rest. It passes if the suite's reader
#: gives up before its test does, in the same millisecond.
UNFINISHED = {"client sends push promise frame"}
#: A client says GOAWAY with nothing in flight, and the gateway closes. It passes if a PING was read before.
CLOSED = {"sends goaway frame with unknown error code"}
#: HAProxy misses as many.
MISSES_MAX = 13
KNOWN = set().union(*ANOTHER_CODE.values(), OLD_RULE, LEFT_OUT, UNFINISHED, CLOSED)


def check(scene, origins, tool):
    node = next(origin for origin in origins if origin.name == "node")
    upstreams = {"node": {"endpoints": [f"http://127.0.0.1:{node.port}"]}}
    port = scene.gateway(config(upstreams, [{"name": "a", "path": "/", "upstream": "node"}]), "httpwg")["public"]
    # Its own time-outs are for a quiet machine.
    patience = ["--connect-timeout", "5000", "--frame-timeout", "2000"]
    result = run([tool, "-v", "-a", f"127.0.0.1:{port}", *patience])
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
    total = re.search(r"Passed (\d+)/(\d+) tests", text)
    require(total, text[-2000:])
    named = {verb: set(re.findall(rf"{verb}: .* :: (.*)", text)) for verb in ("Running test", "Test passed")}
    # A test that panics is told nowhere else.
    missed = named["Running test"] - named["Test passed"]
    require(len(named["Running test"]) == int(total[2]), "the names of tests could not be read")
    require(missed <= KNOWN, f"new misses: {sorted(missed - KNOWN)}")
    require(len(missed) <= MISSES_MAX, f"{len(missed)} misses: {sorted(missed)}")
    codes = sum(len(missed & tests) for tests in ANOTHER_CODE.values())
    others = sorted(missed - set().union(*ANOTHER_CODE.values()))
    return f"{len(named['Test passed'])} of {total[2]}; missed: {codes} for another error code, {', '.join(others)}"
