"""The service behind all proxies: an nginx that answers from memory.

Everything is below `/api/flights`; whatever is there no other way gives 1 KiB of JSON.
"""

import json
import os

PATH = "/api/flights/LX1234"
PARTS = ["crew", "seats", "weather"]
FILES = {"64k": 64 << 10, "10m": 10 << 20}


def part(name):
    return f"/api/flights/parts/{name}"


def file(name):
    """Answers so many bytes."""
    return f"/api/flights/files/{name}"


def upload(answer=PATH):
    """Takes a body as a whole, then answers as `answer` would."""
    return "/api/flights/upload" + answer


def command(place):
    kibibyte = {"flight": "LX1234", "from": "ZRH", "to": "LHR", "aircraft": "A220-300", "tail": "HB-JCA", "log": ""}
    kibibyte["log"] = "x" * (1024 - len(json.dumps(kibibyte)))
    os.makedirs(place.file("www/api/flights/files"), exist_ok=True)
    for name, size in FILES.items():
        place.write("www" + file(name), "x" * size)
    # nginx answers by a file or text of its own before a body is there; by a proxy it waits for it.
    config = f"""
daemon off; worker_processes 1; error_log stderr crit; pid {place.file('upstream.pid')};
worker_rlimit_nofile 20000;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
    client_max_body_size 0; client_body_buffer_size 16m; sendfile on; tcp_nopush on; open_file_cache max=16;
    {scratch(place, 'upstream')}
    upstream self {{ server 127.0.0.1:{place.upstream}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{place.upstream} reuseport;
        location / {{ return 200 '{json.dumps(kibibyte)}'; }}
        location /api/flights/files/ {{ root {place.file('www')}; }}
        location /api/flights/upload/ {{
            proxy_pass http://self/; proxy_method GET; proxy_pass_request_body off; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header Content-Length ""; proxy_buffers 8 64k;
        }}
    }}
}}"""
    return [place.find("nginx"), "-p", place.directory, "-c", place.write("upstream.conf", config)]


def scratch(place, name):
    """Where nginx would put what does not fit into memory."""
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    return " ".join(f"{kind}_temp_path {place.file(name + '-' + kind)};" for kind in kinds)
