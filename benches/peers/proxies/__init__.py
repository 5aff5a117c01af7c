"""The proxies that are compared, a file for each: what to start for a case, with which configuration.

Each has `NAME` and `command(binary, case, place)`, which gives (arguments, environment), or None for
a case that this proxy does not serve. All of them listen on 127.0.0.1, have one worker and no limit
on what a connection may carry, keep connections to the upstream alive, and tell the upstream the
client's address, scheme and host.
"""

from proxies import caddy, envoy, haproxy, nginx, pingora, witgate

PROXIES = {proxy.NAME: proxy for proxy in [witgate, nginx, haproxy, envoy, caddy, pingora]}

INSTALL = "benches/peers/install"


def command(name, case, place):
    binary = place.find(name)
    return PROXIES[name].command(binary, case, place) if binary else None


def hint(name):
    """How to get one that is missing."""
    return "cargo build --release -p witgate" if name == "witgate" else INSTALL
