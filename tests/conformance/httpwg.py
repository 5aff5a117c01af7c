"""The HTTP/2 conformance suite of httpwg-cli, with the misses that are known and why.

docs/conformance.md says more. Any other miss fails the check; one that is known and passes is told.
"""

import re

from scene import config, require, run

#: h2, which hyper stands on, ends the connection with PROTOCOL_ERROR where RFC 9113 names another code.
ANOTHER_CODE = {
    "invalid header block fragment",
    "closed sends headers frame",
    "closed sends headers frame after rst stream",
    "half closed remote sends headers frame",
    "sends ping frame with invalid length",
    "sends priority frame with invalid length",
    "sends rst stream frame with invalid length",
    "sends settings frame with ack and payload",
    "sends settings frame with invalid length",
    "sends settings initial window size with exceeded max window size value",
    "sends settings initial window size with invalid value",
    "sends window update frame with invalid length",
}
#: Answered with 400 and a problem document (RFC 9113 section 8.1.1 lets a server answer first); the suite
#: waits for a reset.
ANSWERED = {
    "sends connect without authority",
    "sends headers frame with leading space in field value",
    "sends headers frame with mismatched host authority",
    "sends headers frame with trailing tab in field value",
}
#: h2 leaves pseudo-header fields of trailers out without a word; no upstream gets them.
LEFT_OUT = {"sends headers frame with pseudo header in trailer"}
#: The answer is complete, and the stream gone, before the suite's frame comes, or the other way round.
RACES = {
    "client sends push promise frame",
    "half closed remote sends data frame",
    "sends data frame on invalid stream state",
}
KNOWN = ANOTHER_CODE | ANSWERED | LEFT_OUT | RACES


def check(scene, origins, tool):
    node = next(origin for origin in origins if origin.name == "node")
    upstreams = {"node": {"endpoints": [f"http://127.0.0.1:{node.port}"]}}
    port = scene.gateway(config(upstreams, [{"name": "a", "path": "/", "upstream": "node"}]), "httpwg")["public"]
    # Its own time-outs are for a quiet machine.
    patience = ["--connect-timeout", "5000", "--frame-timeout", "2000"]
    result = run([tool, "-a", f"127.0.0.1:{port}", *patience])
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
    passed = re.search(r"Passed (\d+)/(\d+) tests", text)
    require(passed, text[-2000:])
    missed = set(re.findall(r"Test failed: .* :: (.*)", text))
    require(missed <= KNOWN, f"new misses: {sorted(missed - KNOWN)}")
    codes = len(missed & ANOTHER_CODE)
    return f"{passed[1]} of {passed[2]}; of the misses {codes} for another error code, {len(missed) - codes} for other reasons (docs/conformance.md)"
