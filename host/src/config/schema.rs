//! The JSON Schema (2020-12) of the configuration, for editors.
//!
//! Called by `cli::schema`. Says what can be said of one value at a time: keys, types, forms.
//! References and contradictions are for `check`, which alone decides. One definition per map of
//! `check::keys`; tests hold the two together.

use serde_json::{Map, Value, json};

/// The schema, with each plugin's schema of its `config` merged in. `plugins`: names and schemas;
/// `null` (or `true`) for a plugin that says nothing of its configuration.
pub fn schema(plugins: &[(String, Value)]) -> Value {
    let mut definitions = process();
    definitions.extend(traffic());
    definitions.extend(scalars());
    definitions.insert("policy".to_owned(), policy(plugins));
    for (name, schema) in plugins.iter().filter(|(_, schema)| schema.is_object()) {
        definitions.insert(definition_of(name), rebased(schema, name));
    }
    let mut root = definitions.remove("root").unwrap_or_default();
    if let Value::Object(root) = &mut root {
        root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".to_owned(), "witgate configuration".into());
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

fn to(definition: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}") })
}

fn described(definition: &str, description: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}"), "description": description })
}

fn number(minimum: u64, maximum: u64, default: Option<u64>, description: &str) -> Value {
    let mut value = json!({
        "description": description,
        "anyOf": [{ "type": "integer", "minimum": minimum, "maximum": maximum }, to("expanded")],
    });
    if let (Some(default), Value::Object(map)) = (default, &mut value) {
        map.insert("default".to_owned(), default.into());
    }
    value
}

fn boolean(default: bool, description: &str) -> Value {
    json!({ "description": description, "default": default, "anyOf": [{ "type": "boolean" }, to("expanded")] })
}

fn with_default(definition: &str, default: &str, description: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}"), "default": default, "description": description })
}

fn word(words: &[&str], default: &str, description: &str) -> Value {
    json!({ "description": description, "default": default, "anyOf": [{ "enum": words }, to("expanded")] })
}

/// A list with at least one item, none of them twice.
fn list(item: Value, description: &str) -> Value {
    json!({ "description": description, "type": "array", "items": item, "minItems": 1, "uniqueItems": true })
}

/// A list that may be empty.
fn items(item: Value, description: &str) -> Value {
    json!({ "description": description, "type": "array", "items": item })
}

fn named(item: &str, description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "propertyNames": { "pattern": NAME },
        "additionalProperties": to(item),
    })
}

fn map(description: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

/// Definitions of single values.
fn scalars() -> Map<String, Value> {
    let pattern = |pattern: &str, description: &str, example: &str| {
        json!({
            "description": description,
            "examples": [example],
            "anyOf": [{ "type": "string", "pattern": pattern }, to("expanded")],
        })
    };
    let definitions = [
        (
            "expanded",
            json!({
                "description": "A value from outside the file: `${env:NAME}` or `${file:path}`.",
                "type": "string",
                "pattern": "\\$\\{(env|file):[^}]+\\}",
            }),
        ),
        ("name", json!({ "type": "string", "pattern": NAME })),
        ("text", json!({ "type": "string", "minLength": 1 })),
        ("label", json!({ "type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 200 })),
        (
            "duration",
            json!({
                "description": "A number and a unit: ms, s, m, h or d.",
                "examples": ["250ms", "1m", "30d"],
                "anyOf": [
                    { "type": "string", "pattern": "^(0|[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d))$" },
                    { "const": 0 },
                    to("expanded"),
                ],
            }),
        ),
        (
            "bytes",
            json!({
                "description": "A number and a unit: B, kB, MB, GB, KiB, MiB or GiB.",
                "examples": ["16MiB", "64kB"],
                "anyOf": [
                    { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?(B|kB|MB|GB|KiB|MiB|GiB)?$" },
                    { "type": "integer", "minimum": 0 },
                    to("expanded"),
                ],
            }),
        ),
        ("percent", pattern("^(100|[0-9]{1,2}) ?%$", "Whole per cents, 0% to 100%.", "20%")),
        (
            "address",
            pattern(
                "^(\\[[0-9A-Fa-f:.]+\\]|[0-9.]+):[0-9]{1,5}$",
                "An IP address and a port.",
                "0.0.0.0:8080",
            ),
        ),
        ("network", pattern("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", "An IP address or network.", "10.0.0.0/8")),
        (
            "url",
            pattern(
                "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\\s]+/?$",
                "Scheme, host and port, no path.",
                "http://127.0.0.1:9001",
            ),
        ),
        (
            "host",
            pattern(
                "^(\\*\\.)?[A-Za-z0-9_.\\-]+$|^\\[[0-9A-Fa-f:.]+\\]$",
                "A host name, or `*.` and a domain.",
                "*.example.com",
            ),
        ),
        (
            "path",
            pattern(
                "^/$|^(/[^/?#{}\\s\\\\]+)+$",
                "A normalised path without a slash at its end.",
                "/api/employee",
            ),
        ),
        (
            "template",
            pattern("^/$|^(/[^/?#\\s\\\\]+)+$", "Plain segments, `{name}`, at the end `{*name}`.", "/{id}"),
        ),
        ("method", pattern("^[A-Z0-9!#$%&'*+.^_`|~-]{1,32}$", "A method in upper case.", "GET")),
        (
            "file",
            json!({
                "description": "A path, absolute or from the configuration file's folder.",
                "type": "string",
                "minLength": 1,
            }),
        ),
        (
            "secret",
            json!({
                "description": "A secret: `${env:NAME}` or `${file:path}`, never in clear.",
                "type": "string",
                "minLength": 1,
            }),
        ),
        (
            "key_hash",
            pattern(
                "^sha256:[0-9A-Fa-f]{64}$",
                "The hash of a subscription key, as `witgate key add` writes it.",
                "sha256:…",
            ),
        ),
        (
            "instant",
            pattern(
                "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+)$",
                "A time as in RFC 3339.",
                "2027-01-31T00:00:00Z",
            ),
        ),
        (
            "chain",
            items(
                json!({ "anyOf": [to("name"), to("policy")] }),
                "Policies, in order on requests and in reverse on responses: the name of one under `policies`, or one in place.",
            ),
        ),
    ];
    definitions.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The root, and what concerns the process and its sockets.
fn process() -> Map<String, Value> {
    let definitions = [
        (
            "root",
            map(
                "A gateway.",
                &["listeners"],
                json!({
                    "listeners": list(to("listener"), "Where the gateway listens."),
                    "admin": to("admin"),
                    "server": to("server"),
                    "plugins": to("plugins"),
                    "state": to("state"),
                    "access_log": to("access_log"),
                    "secrets": named("secret", "Secrets that policies use by name."),
                    "upstreams": named("upstream", "Services behind the gateway, by name."),
                    "policies": named("policy", "Policies that chains use by name."),
                    "apis": items(to("api"), "What the gateway offers."),
                    "products": items(to("product"), "Bundles of APIs to subscribe to."),
                    "consumers": items(to("consumer"), "Who may call."),
                }),
            ),
        ),
        (
            "listener",
            map(
                "An address on which the gateway accepts connections.",
                &["name", "address"],
                json!({
                    "name": to("name"),
                    "address": to("address"),
                    "tls": to("tls"),
                    "limits": to("listener_limits"),
                    "http2": boolean(true, "HTTP/2: with prior knowledge in clear, by ALPN over TLS."),
                }),
            ),
        ),
        (
            "listener_limits",
            map(
                "What clients of a listener may use.",
                &[],
                json!({
                    "connections": number(1, 10_000_000, Some(20_000), "All connections of the listener together."),
                    "header_bytes": with_default("bytes", "32KiB", "Total bytes of a request's head; over it: 431."),
                    "header_count": number(1, 10_000, Some(100), "Fields in a request's head; over it: 431."),
                    "header_read": with_default("duration", "10s", "From the first byte of a head to its end."),
                    "idle": with_default("duration", "75s", "Between requests of one connection, and between bytes of a request's body."),
                    "request": with_default("duration", "0", "One exchange as a whole, upgrades excepted; 0: no limit."),
                    "handshake": with_default("duration", "10s", "A TLS handshake."),
                    "body_bytes": with_default("bytes", "0", "Bytes of a request's body; over it: 413; 0: no limit."),
                    "http2_streams": number(1, 100_000, Some(128), "Concurrent HTTP/2 streams of a connection."),
                }),
            ),
        ),
        (
            "tls",
            map(
                "TLS of a listener; files are watched and reloaded.",
                &["certificates"],
                json!({
                    "certificates": list(to("certificate"), "Certificates, chosen by the name the client asks for (SNI)."),
                    "client_auth": to("client_auth"),
                }),
            ),
        ),
        (
            "certificate",
            map(
                "A certificate and its private key, as PEM files.",
                &["cert", "key"],
                json!({
                    "hosts": list(to("host"), "Names it is for; none: all that no other certificate is for."),
                    "cert": described("file", "The certificate and its chain."),
                    "key": described("file", "The private key."),
                }),
            ),
        ),
        (
            "client_auth",
            map(
                "Certificates of clients (mTLS).",
                &["ca"],
                json!({
                    "ca": described("file", "The authorities that sign clients, as a PEM file."),
                    "mode": word(&["optional", "required"], "optional", "Whether a client must show a certificate."),
                }),
            ),
        ),
        (
            "admin",
            map(
                "The port of health, metrics and administration.",
                &["address"],
                json!({
                    "address": described("address", "Loopback, unless there is a token."),
                    "token": described("secret", "To be sent as `Authorization: Bearer`."),
                }),
            ),
        ),
        (
            "server",
            map(
                "What holds for the whole process.",
                &[],
                json!({
                    "workers": number(1, 1024, None, "Worker threads; default: one per core."),
                    "trusted_proxies": items(to("network"), "Whose `X-Forwarded-*` is believed; default: nobody's."),
                    "drain": with_default("duration", "30s", "How long exchanges in flight may take at shutdown."),
                }),
            ),
        ),
        (
            "plugins",
            map(
                "Where plugins come from and what each may use.",
                &[],
                json!({
                    "directory": described("file", "A folder of `.wasm` components; watched."),
                    "limits": to("policy_limits"),
                    "cache": described("file", "A folder for compiled code; default: witgate's in the user's cache."),
                }),
            ),
        ),
        (
            "policy_limits",
            map(
                "What one instance of a policy may use.",
                &[],
                json!({
                    "memory": with_default("bytes", "16MiB", "Linear memory."),
                    "time": with_default("duration", "10ms", "One call of a hook, 1 ms to 1 s."),
                    "instances": number(1, 1024, Some(64), "Instances per worker."),
                }),
            ),
        ),
        (
            "state",
            map(
                "What survives a restart.",
                &[],
                json!({
                    "file": described("file", "The embedded store of quotas; none: lost at a restart."),
                    "redis": { "description": "Not built yet.", "not": {} },
                }),
            ),
        ),
        (
            "access_log",
            json!({
                "description": "One line of JSON per exchange.",
                "anyOf": [{ "type": "boolean" }, { "type": "object" }],
                "properties": {
                    "enabled": boolean(true, "Whether there is a log."),
                    "file": described("file", "Default: standard output."),
                },
                "additionalProperties": false,
            }),
        ),
    ];
    definitions.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What concerns requests.
fn traffic() -> Map<String, Value> {
    let definitions = [
        (
            "upstream",
            map(
                "A service: endpoints that answer alike.",
                &["endpoints"],
                json!({
                    "endpoints": list(json!({ "anyOf": [to("url"), to("endpoint")] }), "Where it runs."),
                    "protocol": word(&["http1", "http2"], "http1", "`http2`: with prior knowledge in clear, by ALPN over TLS."),
                    "balance": word(&["least_request", "round_robin", "random"], "least_request", "How an endpoint is chosen."),
                    "health": to("health"),
                    "ejection": to("ejection"),
                    "timeouts": to("timeouts"),
                    "retry": to("retry"),
                    "tls": to("upstream_tls"),
                    "host": {
                        "description": "The `Host` it sees: the client's (`preserve`), the endpoint's (`endpoint`), or a fixed one.",
                        "default": "preserve",
                        "type": "string",
                        "minLength": 1,
                    },
                    "idle_connections": number(0, 100_000, Some(128), "Idle connections kept per worker and endpoint."),
                }),
            ),
        ),
        (
            "endpoint",
            map(
                "An endpoint with a weight.",
                &["url"],
                json!({
                    "url": to("url"),
                    "weight": number(0, 1000, Some(1), "Its share of the traffic; 0: none."),
                }),
            ),
        ),
        (
            "health",
            map(
                "Active health checks.",
                &["path"],
                json!({
                    "path": { "description": "What is asked for; 2xx is healthy.", "type": "string", "pattern": "^/|\\$\\{" },
                    "interval": with_default("duration", "5s", "Between checks."),
                    "timeout": with_default("duration", "1s", "For one check."),
                    "unhealthy_after": number(1, 100, Some(2), "Failures in a row that take an endpoint out."),
                    "healthy_after": number(1, 100, Some(2), "Successes in a row that bring it back."),
                }),
            ),
        ),
        (
            "ejection",
            json!({
                "description": "Taking endpoints out that fail requests; on by default, `false` for never.",
                "anyOf": [{ "type": "boolean" }, { "type": "object" }],
                "properties": {
                    "failures": number(1, 1000, Some(5), "Failures in a row."),
                    "period": with_default("duration", "10s", "The first ejection's length; it doubles with each."),
                    "max_percent": {
                        "description": "At most this share of the endpoints.",
                        "default": "50%",
                        "anyOf": [to("percent"), { "type": "integer", "minimum": 0, "maximum": 100 }],
                    },
                },
                "additionalProperties": false,
            }),
        ),
        (
            "timeouts",
            map(
                "How long an upstream is waited for.",
                &[],
                json!({
                    "connect": with_default("duration", "1s", "For a connection."),
                    "response": with_default("duration", "60s", "From the last byte of the request to the response's head."),
                    "idle": with_default("duration", "0", "Between bytes of the response's body; 0: no limit."),
                }),
            ),
        ),
        (
            "retry",
            map(
                "Trying again.",
                &[],
                json!({
                    "attempts": number(0, 10, Some(1), "Tries beyond the first."),
                    "on": list(
                        json!({ "anyOf": [
                            { "const": "connect_failure" },
                            { "type": "string", "pattern": "^[45][0-9]{2}$" },
                            { "type": "integer", "minimum": 400, "maximum": 599 },
                            to("expanded"),
                        ] }),
                        "A request that was never sent, or a status (of idempotent methods only).",
                    ),
                    "budget": with_default("percent", "20%", "Share of requests that retries may add."),
                }),
            ),
        ),
        (
            "upstream_tls",
            json!({
                "description": "TLS of `https` endpoints.",
                "type": "object",
                "properties": {
                    "ca": described("file", "Authorities, as a PEM file; default: Mozilla's."),
                    "server_name": described("text", "The name to ask for and to check; default: the endpoint's."),
                    "client_cert": described("file", "The gateway's own certificate (mTLS)."),
                    "client_key": described("file", "Its private key."),
                },
                "dependentRequired": { "client_cert": ["client_key"], "client_key": ["client_cert"] },
                "additionalProperties": false,
            }),
        ),
        (
            "allow",
            map(
                "What is granted beyond what the configuration of the policy names.",
                &[],
                json!({
                    "upstreams": list(to("text"), "Upstreams it may call."),
                    "buckets": list(to("name"), "Shared state it may use."),
                    "secrets": list(to("text"), "Secrets it may use."),
                    "urls": list(to("label"), "URLs it may have fetched."),
                    "files": list(to("label"), "Files it may have read."),
                    "writes": items(to("label"), "What it may change of a message, at most; empty: nothing."),
                }),
            ),
        ),
        (
            "api",
            map(
                "An API: all below a path.",
                &["name", "path"],
                json!({
                    "name": to("name"),
                    "display_name": described("label", "For people; default: the name."),
                    "hosts": list(to("host"), "Hosts it answers for; none: every host."),
                    "path": described("path", "A prefix on segment borders; `/` for all."),
                    "upstream": described("text", "Who answers; none: a policy does."),
                    "strip_prefix": boolean(false, "Takes `path` off before the upstream sees the request."),
                    "rewrite": described("path", "Put in the place of `path`."),
                    "chain": to("chain"),
                    "operations": list(to("operation"), "Parts with policies or upstreams of their own; the more specific wins."),
                    "operations_only": boolean(false, "What no operation matches is 404."),
                    "listeners": list(to("text"), "Listeners it is offered on; none: all."),
                }),
            ),
        ),
        (
            "operation",
            map(
                "A part of an API.",
                &["match"],
                json!({
                    "name": described("label", "Default: methods and path."),
                    "match": to("match"),
                    "upstream": described("text", "Who answers; default: the API's."),
                    "chain": to("chain"),
                    "inherit": boolean(true, "`false`: its chain replaces the API's instead of following it."),
                }),
            ),
        ),
        (
            "match",
            json!({
                "description": "Which requests.",
                "type": "object",
                "properties": {
                    "methods": list(to("method"), "None: all."),
                    "path": described("template", "Below the API's path; none: the whole API."),
                },
                "minProperties": 1,
                "additionalProperties": false,
            }),
        ),
        (
            "product",
            map(
                "APIs to subscribe to.",
                &["name", "apis"],
                json!({
                    "name": to("name"),
                    "display_name": described("label", "For people; default: the name."),
                    "apis": list(to("text"), "The APIs it grants."),
                    "quota": to("quota"),
                }),
            ),
        ),
        (
            "quota",
            map(
                "How much a subscription may call.",
                &["requests", "per"],
                json!({
                    "requests": number(1, 1_000_000_000_000, None, "Requests in each period."),
                    "per": described("duration", "The period."),
                }),
            ),
        ),
        (
            "consumer",
            map(
                "Somebody who calls.",
                &["name"],
                json!({
                    "name": { "description": "As a key, token or certificate says it.", "type": "string", "minLength": 1, "maxLength": 200 },
                    "subscriptions": list(to("subscription"), "What it may call."),
                }),
            ),
        ),
        (
            "subscription",
            map(
                "A consumer's right to a product.",
                &["product"],
                json!({
                    "product": to("text"),
                    "keys": list(to("key_hash"), "Hashes of its keys; `witgate key add` makes keys."),
                    "suspended": boolean(false, "Refused for the time being."),
                    "expires": described("instant", "Refused from then on."),
                }),
            ),
        ),
    ];
    definitions.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn policy(plugins: &[(String, Value)]) -> Value {
    let names: Vec<&str> = plugins.iter().map(|(name, _)| name.as_str()).collect();
    let conditions: Vec<Value> = plugins
        .iter()
        .filter(|(_, schema)| schema.is_object())
        .map(|(name, schema)| {
            let needs_config =
                schema.get("required").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
            let required: &[&str] = if needs_config { &["config"] } else { &[] };
            json!({
                "if": { "properties": { "plugin": { "const": name } }, "required": ["plugin"] },
                "then": { "properties": { "config": to(&definition_of(name)) }, "required": required },
            })
        })
        .collect();
    let mut policy = map(
        "A plugin with its configuration.",
        &["plugin"],
        json!({
            "plugin": {
                "description": "A plugin that ships with the gateway, or a file in the plugin directory (without `.wasm`).",
                "anyOf": [{ "enum": names }, to("name")],
            },
            "config": { "description": "The plugin's own configuration.", "type": "object" },
            "on_error": {
                "description": "When the policy fails: answer 503, or go on without it; default: as the plugin says.",
                "anyOf": [{ "enum": ["deny", "skip"] }, to("expanded")],
            },
            "isolation": word(&["reuse", "request"], "reuse", "`request`: a fresh instance for each request."),
            "limits": to("policy_limits"),
            "allow": to("allow"),
        }),
    );
    if let (false, Value::Object(map)) = (conditions.is_empty(), &mut policy) {
        map.insert("allOf".to_owned(), conditions.into());
    }
    // An empty `enum` is not a schema.
    if names.is_empty() {
        policy["properties"]["plugin"]["anyOf"] = json!([to("name")]);
    }
    policy
}

fn definition_of(plugin: &str) -> String {
    format!("config-of-{plugin}")
}

/// A plugin's schema, moved below `$defs`: its own references with it.
fn rebased(schema: &Value, plugin: &str) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(map) = &mut schema {
        map.remove("$schema");
        map.remove("$id");
    }
    rebase(&mut schema, &format!("#/$defs/{}", definition_of(plugin)));
    schema
}

fn rebase(schema: &mut Value, base: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, base)),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match (key.as_str(), &mut *value) {
                    // Data, not schemas.
                    ("const" | "enum" | "default" | "examples", _) => {}
                    ("$ref", Value::String(reference)) => {
                        if let Some(local) = reference.strip_prefix('#') {
                            *reference = format!("{base}{local}");
                        }
                    }
                    _ => rebase(value, base),
                }
            }
        }
        _ => {}
    }
}
