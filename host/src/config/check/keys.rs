//! Every key that a configuration may have, map by map.
//!
//! Read by `reader`, which refuses any other key and lets `check` ask for no other; the schema
//! (`config::schema`) has one definition per map, and a test holds the two to each other.

/// The keys of one kind of map.
#[derive(Debug)]
pub struct Keys {
    /// The map's name, as its definition in the schema is called.
    pub name: &'static str,
    pub keys: &'static [&'static str],
    /// Words of other gateways, and ours for them.
    pub synonyms: &'static [(&'static str, &'static str)],
}

const fn keys(name: &'static str, keys: &'static [&'static str]) -> Keys {
    Keys { name, keys, synonyms: &[] }
}

pub static ROOT: Keys = Keys {
    name: "root",
    keys: &[
        "listeners",
        "admin",
        "server",
        "plugins",
        "state",
        "access_log",
        "secrets",
        "upstreams",
        "policies",
        "apis",
        "products",
        "consumers",
    ],
    synonyms: &[
        ("routes", "apis"),
        ("services", "upstreams"),
        ("clusters", "upstreams"),
        ("backends", "upstreams"),
    ],
};
pub static LISTENER: Keys = Keys {
    name: "listener",
    keys: &["name", "address", "tls", "limits", "http2"],
    synonyms: &[("port", "address"), ("listen", "address"), ("bind", "address"), ("ssl", "tls")],
};
pub static LISTENER_LIMITS: Keys = keys(
    "listener_limits",
    &[
        "connections",
        "header_bytes",
        "header_count",
        "header_read",
        "idle",
        "request",
        "handshake",
        "body_bytes",
        "http2_streams",
    ],
);
pub static TLS: Keys = keys("tls", &["certificates", "client_auth"]);
pub static CERTIFICATE: Keys = Keys {
    name: "certificate",
    keys: &["hosts", "cert", "key"],
    synonyms: &[("certificate", "cert"), ("names", "hosts")],
};
pub static CLIENT_AUTH: Keys = keys("client_auth", &["ca", "mode"]);
pub static ADMIN: Keys = Keys {
    name: "admin",
    keys: &["address", "token"],
    synonyms: &[("port", "address"), ("password", "token")],
};
pub static SERVER: Keys = Keys {
    name: "server",
    keys: &["workers", "trusted_proxies", "drain"],
    synonyms: &[("threads", "workers")],
};
pub static PLUGINS: Keys = Keys {
    name: "plugins",
    keys: &["directory", "limits", "cache"],
    synonyms: &[("path", "directory"), ("folder", "directory")],
};
pub static POLICY_LIMITS: Keys = keys("policy_limits", &["memory", "time", "instances"]);
pub static STATE: Keys = keys("state", &["file", "redis"]);
pub static ACCESS_LOG: Keys = keys("access_log", &["enabled", "file"]);
pub static UPSTREAM: Keys = Keys {
    name: "upstream",
    keys: &[
        "endpoints",
        "protocol",
        "balance",
        "health",
        "ejection",
        "timeouts",
        "retry",
        "tls",
        "host",
        "idle_connections",
    ],
    synonyms: &[
        ("servers", "endpoints"),
        ("targets", "endpoints"),
        ("url", "endpoints"),
        ("retries", "retry"),
    ],
};
pub static ENDPOINT: Keys =
    Keys { name: "endpoint", keys: &["url", "weight"], synonyms: &[("address", "url"), ("target", "url")] };
pub static HEALTH: Keys =
    keys("health", &["path", "interval", "timeout", "unhealthy_after", "healthy_after"]);
pub static EJECTION: Keys = keys("ejection", &["failures", "period", "max_percent"]);
pub static TIMEOUTS: Keys = keys("timeouts", &["connect", "response", "idle"]);
pub static RETRY: Keys = keys("retry", &["attempts", "on", "budget"]);
pub static UPSTREAM_TLS: Keys = keys("upstream_tls", &["ca", "server_name", "client_cert", "client_key"]);
pub static POLICY: Keys = Keys {
    name: "policy",
    keys: &["plugin", "config", "on_error", "isolation", "limits", "allow"],
    synonyms: &[("name", "plugin"), ("settings", "config"), ("grants", "allow")],
};
pub static ALLOW: Keys = keys("allow", &["upstreams", "buckets", "secrets", "urls", "files", "writes"]);
pub static API: Keys = Keys {
    name: "api",
    keys: &[
        "name",
        "display_name",
        "hosts",
        "path",
        "upstream",
        "strip_prefix",
        "rewrite",
        "chain",
        "operations",
        "operations_only",
        "listeners",
    ],
    synonyms: &[
        ("policies", "chain"),
        ("plugins", "chain"),
        ("backend", "upstream"),
        ("service", "upstream"),
        ("prefix", "path"),
        ("title", "display_name"),
        ("routes", "operations"),
    ],
};
pub static OPERATION: Keys = Keys {
    name: "operation",
    keys: &["name", "match", "upstream", "chain", "inherit"],
    synonyms: &[("policies", "chain"), ("plugins", "chain"), ("methods", "match"), ("path", "match")],
};
pub static MATCH: Keys =
    Keys { name: "match", keys: &["methods", "path"], synonyms: &[("method", "methods")] };
pub static PRODUCT: Keys = Keys {
    name: "product",
    keys: &["name", "display_name", "apis", "quota"],
    synonyms: &[("title", "display_name"), ("limit", "quota")],
};
pub static QUOTA: Keys =
    Keys { name: "quota", keys: &["requests", "per"], synonyms: &[("period", "per"), ("calls", "requests")] };
pub static CONSUMER: Keys = keys("consumer", &["name", "subscriptions"]);
pub static SUBSCRIPTION: Keys = Keys {
    name: "subscription",
    keys: &["product", "keys", "suspended", "expires"],
    synonyms: &[("key", "keys"), ("expiry", "expires")],
};

#[cfg(test)]
pub static ALL: &[&Keys] = &[
    &ROOT,
    &LISTENER,
    &LISTENER_LIMITS,
    &TLS,
    &CERTIFICATE,
    &CLIENT_AUTH,
    &ADMIN,
    &SERVER,
    &PLUGINS,
    &POLICY_LIMITS,
    &STATE,
    &ACCESS_LOG,
    &UPSTREAM,
    &ENDPOINT,
    &HEALTH,
    &EJECTION,
    &TIMEOUTS,
    &RETRY,
    &UPSTREAM_TLS,
    &POLICY,
    &ALLOW,
    &API,
    &OPERATION,
    &MATCH,
    &PRODUCT,
    &QUOTA,
    &CONSUMER,
    &SUBSCRIPTION,
];
