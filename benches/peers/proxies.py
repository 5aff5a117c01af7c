"""The proxies that are compared: for each case, what to start with which configuration.

`run` asks `command`; a case that a proxy does not serve gives None. All listen on 127.0.0.1:PORT,
with one worker, in front of one upstream, and tell the upstream the client's address.
"""

import base64
import json
import os
import shutil
import subprocess
import time

NAMES = ["witgate", "nginx", "haproxy", "envoy", "caddy"]

CASES = {
    "plain": "reverse proxy, no policies, no log",
    "log": "the same with access log and metrics",
    "policies-1": "1 Wasm policy, a request and a response hook",
    "policies-5": "5 Wasm policies, a request and a response hook each",
    "policies-10": "10 Wasm policies, a request and a response hook each",
    "jwt": "JWT RS256, rate limit and header rewrite",
    "isolation": "1 Wasm policy in a fresh instance for each request",
}

# Ordinary for a browser; with wrk's own Host they are eight.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "session=8d3f0a6c1b5e4f27; theme=dark",
    "Referer": "https://app.example.com/flights/today",
    "X-Client-Version": "4.18.2",
}

PATH = "/api/flights/LX1234"


class Place:
    """Where one comparison happens: ports, a scratch directory, binaries, a key."""

    def __init__(self, root, directory, witgate):
        self.directory = directory
        self.port, self.upstream, self.admin = 18080, 19080, 19901
        peers = os.path.join(root, "target", "peers", "bin")
        self.path = os.pathsep.join([peers, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        self.witgate = witgate
        self._token = None

    def find(self, name):
        if name == "witgate":
            return self.witgate if self.witgate and os.access(self.witgate, os.X_OK) else None
        return shutil.which(name, path=self.path)

    def file(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.file(name), "w") as file:
            file.write(text)
        return self.file(name)

    def token(self):
        """An RS256 token that is good for a day, and the key set that it is verified by."""
        if self._token is None:
            key = self.file("rs256.pem")
            openssl = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key]
            subprocess.run(openssl, check=True, stderr=subprocess.DEVNULL)
            modulus = subprocess.run(
                ["openssl", "rsa", "-in", key, "-noout", "-modulus"], check=True, capture_output=True, text=True
            ).stdout.strip().split("=")[1]
            jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench",
                   "n": _b64(bytes.fromhex(modulus)), "e": "AQAB"}
            head = {"alg": "RS256", "typ": "JWT", "kid": "bench"}
            claims = {"iss": "https://id.example.com", "aud": "api", "sub": "u-4711", "scope": "flights:read",
                      "iat": int(time.time()), "exp": int(time.time()) + 86400}
            signed = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
            signature = subprocess.run(
                ["openssl", "dgst", "-sha256", "-sign", key], check=True, input=signed.encode(), capture_output=True
            ).stdout
            self._token = (signed + "." + _b64(signature), {"keys": [jwk]})
        return self._token

    def headers(self, case):
        if case == "jwt":
            return {**HEADERS, "Authorization": "Bearer " + self.token()[0]}
        return HEADERS


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def upstream(place):
    """nginx that answers 1 KiB of JSON from memory."""
    flight = {"flight": "LX1234", "from": "ZRH", "to": "LHR", "aircraft": "A220-300", "tail": "HB-JCA", "log": ""}
    flight["log"] = "x" * (1024 - len(json.dumps(flight)))
    body = json.dumps(flight)
    config = f"""
daemon off; worker_processes 1; error_log stderr crit; pid {place.file('upstream.pid')};
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
    {_nginx_scratch(place, 'upstream')}
    server {{ listen 127.0.0.1:{place.upstream} reuseport; location / {{ return 200 '{body}'; }} }}
}}"""
    return [place.find("nginx"), "-p", place.directory, "-c", place.write("upstream.conf", config)]


def _nginx_scratch(place, name):
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    return " ".join(f"{kind}_temp_path {place.file(name + '-' + kind)};" for kind in kinds)


def command(name, case, place):
    """How to start a proxy for a case: (arguments, environment), or None."""
    binary = place.find(name)
    return globals()["_" + name](binary, case, place) if binary else None


# --- witgate

def _witgate(binary, case, place):
    rewrite = lambda n: {
        "plugin": "header-rewrite",
        "config": {"request": {"set": {f"x-request-{n}": "{:path}"}}, "response": {"set": {f"x-response-{n}": "{:status}"}}},
    }
    chain = []
    if case.startswith("policies-"):
        chain = [rewrite(n) for n in range(int(case.split("-")[1]))]
    elif case == "isolation":
        chain = [{**rewrite(0), "isolation": "request"}]
    elif case == "jwt":
        rules = {"jwks": place.token()[1], "issuer": "https://id.example.com", "audience": "api"}
        chain = [
            {"plugin": "jwt", "config": rules},
            {"plugin": "rate-limit", "config": {"requests": 1000000000, "per": "1m", "headers": False}},
            {"plugin": "header-rewrite",
             "config": {"request": {"set": {"x-gateway": "bench"}}, "response": {"set": {"x-gateway": "bench"}}}},
        ]
    config = {
        "server": {"workers": 1},
        "listeners": [{"name": "public", "address": f"127.0.0.1:{place.port}"}],
        "plugins": {"cache": place.file("witgate-cache")},
        "access_log": {"enabled": case == "log", **({"file": place.file("witgate.log")} if case == "log" else {})},
        "upstreams": {"flights": {"endpoints": [f"http://127.0.0.1:{place.upstream}"]}},
        "apis": [{"name": "flights", "path": "/api/flights", "upstream": "flights", "chain": chain}],
    }
    if case == "log":
        config["admin"] = {"address": f"127.0.0.1:{place.admin}"}
    # YAML takes JSON as it is.
    return [binary, "run", "-c", place.write("witgate.yaml", json.dumps(config, indent=1))], {}


# --- nginx

def _nginx(binary, case, place):
    logs = {
        "plain": "access_log off;",
        "log": """log_format line escape=json '{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method",'
            '"path":"$uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_response_time"}';
            access_log %s line buffer=64k flush=1s;""" % place.file("nginx.log"),
    }
    if case not in logs:
        return None
    config = f"""
daemon off; worker_processes 1; error_log stderr crit; pid {place.file('nginx.pid')};
events {{ worker_connections 1024; }}
http {{
    {logs[case]} keepalive_requests 1000000000; keepalive_timeout 600s;
    {_nginx_scratch(place, 'nginx')}
    upstream flights {{ server 127.0.0.1:{place.upstream}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{place.port} reuseport;
        location /api/flights {{
            proxy_pass http://flights; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}"""
    return [binary, "-p", place.directory, "-c", place.write("nginx.conf", config)], {}


# --- HAProxy

def _haproxy(binary, case, place):
    logs = {"plain": ("", ""), "log": (f"log stdout format raw local0", "log global\n    option httplog")}
    if case not in logs:
        return None
    log, use = logs[case]
    config = f"""
global
    nbthread 1
    maxconn 4096
    {log}
defaults
    mode http
    {use}
    timeout connect 1s
    timeout client 600s
    timeout server 60s
    http-reuse always
frontend public
    bind 127.0.0.1:{place.port}
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    use_backend flights if {{ path_beg /api/flights }}
backend flights
    server one 127.0.0.1:{place.upstream} pool-max-conn 128
"""
    return [binary, "-f", place.write("haproxy.cfg", config)], {}


# --- Envoy

def _envoy(binary, case, place):
    typed = lambda kind, **rest: {"@type": "type.googleapis.com/envoy." + kind, **rest}
    filters, extra, route = [], {}, {}
    if case == "log":
        extra["access_log"] = [{"name": "file", "typed_config": typed(
            "extensions.access_loggers.file.v3.FileAccessLog", path=place.file("envoy.log"))}]
    elif case == "jwt":
        filters = [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": typed(
                "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                providers={"id": {"issuer": "https://id.example.com", "audiences": ["api"],
                                  "local_jwks": {"inline_string": json.dumps(place.token()[1])},
                                  "forward": True, "jwt_cache_config": {"jwt_cache_size": 1000}}},
                rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "id"}}])},
            {"name": "envoy.filters.http.local_ratelimit", "typed_config": typed(
                "extensions.filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="limit",
                token_bucket={"max_tokens": 1000000000, "tokens_per_fill": 1000000000, "fill_interval": "60s"},
                filter_enabled={"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
                filter_enforced={"default_value": {"numerator": 100, "denominator": "HUNDRED"}})},
        ]
        header = [{"header": {"key": "x-gateway", "value": "bench"}}]
        route = {"request_headers_to_add": header, "response_headers_to_add": header}
    elif case != "plain":
        return None
    filters.append({"name": "envoy.filters.http.router",
                    "typed_config": typed("extensions.filters.http.router.v3.Router")})
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="public", http_filters=filters, **extra,
        route_config={"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/api/flights"}, "route": {"cluster": "flights"}, **route}]}]})
    config = {
        "admin": {"address": address(place.admin)},
        "static_resources": {
            "listeners": [{"name": "public", "address": address(place.port), "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
            "clusters": [{"name": "flights", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
                "cluster_name": "flights",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(place.upstream)}}]}]}}],
        },
    }
    path = place.write("envoy.json", json.dumps(config, indent=1))
    return [binary, "-c", path, "--concurrency", "1", "-l", "critical", "--disable-hot-restart"], {}


# --- Caddy

def _caddy(binary, case, place):
    server = {
        "listen": [f"127.0.0.1:{place.port}"], "automatic_https": {"disable": True},
        "routes": [{"match": [{"path": ["/api/flights/*"]}], "handle": [
            {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{place.upstream}"}],
             "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 128}}}]}],
    }
    logging = {"logs": {"default": {"level": "ERROR"}}}
    if case == "log":
        server["logs"] = {}
        writer = {"output": "file", "filename": place.file("caddy.log")}
        logging = {"logs": {"default": {"writer": writer, "include": ["http.log.access"]}}}
    elif case != "plain":
        return None
    config = {"admin": {"disabled": True}, "logging": logging, "apps": {"http": {"servers": {"public": server}}}}
    home = {"GOMAXPROCS": "1", "HOME": place.directory, "XDG_CONFIG_HOME": place.directory, "XDG_DATA_HOME": place.directory}
    return [binary, "run", "--config", place.write("caddy.json", json.dumps(config, indent=1))], home
