"""What is made to grow: each sweep gives a configuration and a load for a number.

Requests are spread over everything that there is of a kind, in an order that no cache can guess, so
that a figure holds for a gateway that is used as a whole.
"""

import dataclasses
import hashlib
import os

from gateway import Point, api, config
from harness.load import Load
from harness.upstream import PATH

FLIGHTS = "/api/flights"


@dataclasses.dataclass(frozen=True)
class Sweep:
    name: str
    title: str
    # What is counted, as an axis is labelled.
    axis: str
    counts: list
    # With --quick.
    few: list
    # (place, count) to a `Point`.
    point: object
    # Figures that say something here.
    figures: tuple = ("cpu_us", "rss_mb")


ALL = ("cpu_us", "rss_mb", "cold_start_ms", "reload_ms")


def rewrite(n, plugin="header-rewrite"):
    """A policy with a request and a response hook; as in the comparison with others."""
    return {"plugin": plugin, "config": {"request": {"set": {f"x-request-{n}": "{:path}"}},
                                         "response": {"set": {f"x-response-{n}": "{:status}"}}}}


def any_of(count, path=None, header=None):
    """Lua for wrk: each request to one of many, by `%d` in a path or a header's value."""
    path = f"string.format('{path}', n)" if path else "nil"
    header = f"headers['{header[0]}'] = string.format('{header[1]}', n)" if header else ""
    return f"""
local headers
function request()
    if not headers then headers = {{}} for k, v in pairs(wrk.headers) do headers[k] = v end end
    local n = math.random(0, {count - 1})
    {header}
    return wrk.format(nil, {path}, headers)
end
"""


def apis(place, count):
    many = [api(f"service-{n}", f"/api/s{n}") for n in range(count)]
    return Point(config(place, many), Load(script=any_of(count, path="/api/s%d/LX1234")))


def apis_with_policies(place, count):
    many = [api(f"service-{n}", f"/api/s{n}", [rewrite(n)]) for n in range(count)]
    return Point(config(place, many), Load(script=any_of(count, path="/api/s%d/LX1234")))


def chain(place, count):
    return Point(config(place, [api("flights", FLIGHTS, [rewrite(n) for n in range(count)])]))


def headers(place, count, policies=0):
    # Eight come with any load.
    more = {f"X-Header-{n}": f"value-{n}" for n in range(count - 8)}
    flights = api("flights", FLIGHTS, [rewrite(n) for n in range(policies)])
    return Point(config(place, [flights]), Load(headers=more))


def headers_with_policies(place, count):
    return headers(place, count, policies=5)


def plugins(place, count):
    """Plugins that differ in one byte behind the code, each with a policy of an API of its own."""
    many = [api(f"service-{n}", f"/api/s{n}", [rewrite(n, f"plugin-{n}")]) for n in range(count)]
    plugin_files(place, count)
    return Point(config(place, many), Load(script=any_of(count, path="/api/s%d/LX1234")))


def plugin_files(place, count):
    with open(place.guest("witgate-plugin-header-rewrite"), "rb") as file:
        component = file.read()
    os.makedirs(place.file("plugins"), exist_ok=True)
    for n in range(count):
        path = place.file(f"plugins/plugin-{n}.wasm")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(component + custom_section(b"copy", n.to_bytes(4, "little")))


def custom_section(name, data):
    """Of a Wasm binary: id 0, then the size of name and data; both sizes fit into seven bits here."""
    return bytes([0, 1 + len(name) + len(data), len(name)]) + name + data


def keys(place, count):
    # A request counts for a minute, so that a key is not forgotten before it comes again; enough may
    # come at once that none is refused.
    limit = {"plugin": "rate-limit", "config": {
        "requests": 40_000, "per": "30d", "burst": 10_000_000, "by": "header:x-key", "headers": False}}

    def fill(place):
        done = 0
        while done < count:
            script = f"""
local n, headers = {done}
function request()
    if not headers then headers = {{}} for k, v in pairs(wrk.headers) do headers[k] = v end end
    headers['X-Key'] = string.format('key-%d', n)
    n = (n + 1) % {count}
    return wrk.format(nil, nil, headers)
end
"""
            done += max(Load(script=script).run(place, min(10, 1 + (count - done) // 30_000)).requests, 1)
    load = Load(script=any_of(count, header=("X-Key", "key-%d")))
    return Point(config(place, [api("flights", FLIGHTS, [limit])]), load, fill)


def consumers(place, count):
    known = [
        {"name": f"c{n}", "subscriptions": [{"product": "all", "keys": ["sha256:" + digest(f"key-{n}")]}]}
        for n in range(count)
    ]
    flights = api("flights", FLIGHTS, [{"plugin": "api-key", "config": {"header": "x-key"}}])
    settings = config(place, [flights], products=[{"name": "all", "apis": ["flights"]}], consumers=known)
    return Point(settings, Load(script=any_of(count, header=("X-Key", "key-%d"))))


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


SWEEPS = {sweep.name: sweep for sweep in [
    Sweep("apis", "APIs, without policies", "APIs", [10, 100, 1000, 10_000], [10, 1000], apis, ALL),
    Sweep("apis-policies", "APIs, each with a policy of its own", "APIs", [10, 100, 1000, 10_000], [10, 1000],
          apis_with_policies, ALL),
    Sweep("chain", "Policies in a chain, a request and a response hook each", "policies", [0, 1, 2, 5, 10, 20],
          [0, 5], chain),
    Sweep("plugins", "Distinct plugins, each used by an API of its own", "plugins", [1, 2, 5, 10, 20, 50, 100],
          [1, 5], plugins, (*ALL, "first_start_ms")),
    Sweep("keys", "Keys of a rate limit (one limit remembers 500,000)", "keys",
          [1, 1000, 10_000, 100_000, 1_000_000, 2_000_000], [1, 10_000], keys),
    Sweep("consumers", "Consumers, identified by their keys", "consumers", [10, 1000, 10_000, 100_000], [10, 1000],
          consumers, ALL),
    Sweep("headers", "Request headers, without policies", "headers", [8, 16, 32, 64, 96], [8, 64], headers,
          ("cpu_us",)),
    Sweep("headers-policies", "Request headers, with five policies", "headers", [8, 16, 32, 64, 96], [8, 64],
          headers_with_policies, ("cpu_us",)),
]}
