"""Envoy. Its policies are proxy-wasm filters on V8 (`benches/peers/filter`), each in a VM of its own,
as the gateway's have; tokens, rate limit and headers are native filters."""

import json
import os

from harness.place import built

NAME = "envoy"

FILTERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "filter")


def command(binary, case, place):
    if case.fresh or case.aggregate:
        return None
    filters, extra, route = [], {}, {}
    if case.log:
        extra["access_log"] = [{"name": "file", "typed_config": typed(
            "extensions.access_loggers.file.v3.FileAccessLog", path=place.file("envoy.log"))}]
    elif case.jwt:
        filters = [token_filter(case, place), limit_filter()]
        header = [{"header": {"key": "x-gateway", "value": "bench"}}]
        route = {"request_headers_to_add": header, "response_headers_to_add": header}
    elif case.policies or case.body_policy:
        wasm = filter_binary(place, "body" if case.body_policy else "headers")
        if wasm is None:
            return None
        settings = [case.body_policy] if case.body_policy else [str(n) for n in range(case.policies)]
        filters = [wasm_filter(f"policy-{n}", wasm, setting) for n, setting in enumerate(settings)]
    filters.append({"name": "envoy.filters.http.router",
                    "typed_config": typed("extensions.filters.http.router.v3.Router")})
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="public", use_remote_address=True, http_filters=filters, **extra,
        route_config={"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/api/flights"}, "route": {"cluster": "flights"}, **route}]}]})
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if case.tls:
        cert, key, _ = place.certificate()
        files = [{"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}]
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": typed(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context={"tls_certificates": files})}
    config = {
        "admin": {"address": address(place.admin)},
        "static_resources": {
            "listeners": [{"name": "public", "address": address(place.port), "filter_chains": [chain]}],
            "clusters": [{"name": "flights", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
                "cluster_name": "flights",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(place.upstream)}}]}]}}],
        },
    }
    path = place.write("envoy.json", json.dumps(config, indent=1))
    return [binary, "-c", path, "--concurrency", "1", "-l", "critical", "--disable-hot-restart"], {}


def typed(kind, **rest):
    return {"@type": "type.googleapis.com/envoy." + kind, **rest}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def token_filter(case, place):
    provider = {"issuer": "https://id.example.com", "audiences": ["api"], "forward": True,
                "local_jwks": {"inline_string": json.dumps(place.token()[1])}}
    if case.jwt == "cached":
        provider["jwt_cache_config"] = {"jwt_cache_size": 1000}
    return {"name": "envoy.filters.http.jwt_authn", "typed_config": typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication", providers={"id": provider},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "id"}}])}


def limit_filter():
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {"name": "envoy.filters.http.local_ratelimit", "typed_config": typed(
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="limit",
        token_bucket={"max_tokens": 1000000000, "tokens_per_fill": 1000000000, "fill_interval": "60s"},
        filter_enabled=always, filter_enforced=always)}


def wasm_filter(name, wasm, setting):
    return {"name": name, "typed_config": typed("extensions.filters.http.wasm.v3.Wasm", config={
        "name": name, "root_id": name,
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": setting},
        "vm_config": {"vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": wasm}}}})}


def filter_binary(place, name):
    """A proxy-wasm filter, built once by rustc alone; None where rustc has no Wasm target."""
    wasm = place.file(f"filter-{name}.wasm")
    if not os.path.exists(wasm):
        rustc = ["rustc", "--edition", "2024", "--target", "wasm32-unknown-unknown", "--crate-type", "cdylib",
                 "-Copt-level=3", "-Cpanic=abort", "-Clto=fat", "-o", wasm, os.path.join(FILTERS, name + ".rs")]
        if not built(rustc, f"the filter `{name}` for Envoy"):
            return None
    return wasm
