"""Pingora: the least proxy that it makes, `benches/peers/pingora`."""

NAME = "pingora"


def command(binary, case, place):
    # It has no access log of its own.
    if not case.plain:
        return None
    arguments = [f"127.0.0.1:{place.port}", f"127.0.0.1:{place.upstream}"]
    return [binary, *arguments, *(place.certificate()[:2] if case.tls else [])], {}
