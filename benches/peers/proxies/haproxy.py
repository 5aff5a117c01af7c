"""HAProxy."""

NAME = "haproxy"


def command(binary, case, place):
    if not (case.plain or case.log):
        return None
    log, use = ("log stdout format raw local0", "log global\n    option httplog") if case.log else ("", "")
    bind = f"127.0.0.1:{place.port}"
    if case.http2:
        bind += " proto h2"
    if case.tls:
        bind += f" ssl crt {place.certificate()[2]} ssl-min-ver TLSv1.3"
    # It counts two descriptors for a connection and wants to be allowed all of them.
    config = f"""
global
    nbthread 1
    maxconn {12000 if case.idle else 4096}
    no strict-limits
    {log}
defaults
    mode http
    {use}
    timeout connect 1s
    timeout client 600s
    timeout server 60s
    http-reuse always
frontend public
    bind {bind}
    option forwardfor
    http-request set-header X-Forwarded-Proto {"https" if case.tls else "http"}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    use_backend flights if {{ path_beg /api/flights }}
backend flights
    server one 127.0.0.1:{place.upstream} pool-max-conn 128
"""
    return [binary, "-f", place.write("haproxy.cfg", config)], {}
