"""nginx. Aggregation is by server-side includes: the parts are asked for at once, as the gateway's
policy does, but nobody looks whether they are JSON. Bodies stream, as with the other proxies."""

import os

from harness import upstream

NAME = "nginx"

LOG = """log_format line escape=json '{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method",'
        '"path":"$uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_response_time"}';
    access_log %s line buffer=64k flush=1s;"""


def command(binary, case, place):
    if not (case.plain or case.log or case.aggregate):
        return None
    listen, tls = f"127.0.0.1:{place.port} reuseport", ""
    if case.http2:
        listen += " http2"
    if case.tls:
        cert, key, _ = place.certificate()
        listen += " ssl"
        tls = f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;"
    log = LOG % place.file("nginx.log") if case.log else "access_log off;"
    proxy = """proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;"""
    large = case.load.path != upstream.PATH
    if large:
        # Else a body that does not fit into memory goes to a file first.
        proxy += " proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_request_buffering off; client_max_body_size 0; client_body_buffer_size 64k;"
    locations = f"location /api/flights {{ proxy_pass http://flights; {proxy} }}"
    if case.aggregate:
        includes = ",".join(f'"{name}":<!--#include virtual="{upstream.part(name)}" -->' for name in upstream.PARTS)
        os.makedirs(place.file("overview"), exist_ok=True)
        place.write("overview/all.json", "{" + includes + "}")
        locations = f"""
        location = {upstream.PATH} {{
            ssi on; ssi_types application/json; default_type application/json;
            root {place.file('overview')}; try_files /all.json =404;
        }}
        location /api/flights/parts/ {{ internal; proxy_pass http://flights; {proxy} }}"""
    config = f"""
daemon off; worker_processes 1; error_log stderr crit; pid {place.file('nginx.pid')};
worker_rlimit_nofile 20000;
events {{ worker_connections {16384 if case.idle else 1024}; }}
http {{
    {log}
    keepalive_requests 1000000000; keepalive_timeout 600s;
    {upstream.scratch(place, 'nginx')}
    upstream flights {{ server 127.0.0.1:{place.upstream}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen {listen}; {tls}
        {locations}
    }}
}}"""
    return [binary, "-p", place.directory, "-c", place.write("nginx.conf", config)], {}
