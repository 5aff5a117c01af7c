"""Caddy. It cannot be told how many workers to have; GOMAXPROCS is the nearest."""

import json

NAME = "caddy"


def command(binary, case, place):
    if not (case.plain or case.log):
        return None
    server = {
        "listen": [f"127.0.0.1:{place.port}"], "automatic_https": {"disable": True},
        "protocols": ["h1", "h2", "h2c"] if case.http2 else ["h1"],
        "routes": [{"match": [{"path": ["/api/flights/*"]}], "handle": [
            {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{place.upstream}"}],
             "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 128}}}]}],
    }
    apps = {"http": {"servers": {"public": server}}}
    if case.tls:
        cert, key, _ = place.certificate()
        server["tls_connection_policies"] = [{}]
        apps["tls"] = {"certificates": {"load_files": [{"certificate": cert, "key": key}]}}
    logging = {"logs": {"default": {"level": "ERROR"}}}
    if case.log:
        server["logs"] = {}
        writer = {"output": "file", "filename": place.file("caddy.log")}
        logging = {"logs": {"default": {"writer": writer, "include": ["http.log.access"]}}}
    config = {"admin": {"disabled": True}, "logging": logging, "apps": apps}
    home = {"GOMAXPROCS": "1", "HOME": place.directory, "XDG_CONFIG_HOME": place.directory,
            "XDG_DATA_HOME": place.directory}
    return [binary, "run", "--config", place.write("caddy.json", json.dumps(config, indent=1))], home
