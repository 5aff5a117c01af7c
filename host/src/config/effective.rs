//! The configuration that is in force, as JSON for the admin port and `check`.
//!
//! In the words of the file, defaults filled in, secrets masked: what came from `${…}` and what
//! stands where only secrets stand. Of a subscription key's hash only the beginning shows.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{
    Allow, Api, Balance, Config, HostField, Isolation, Link, Listener, OnError, Operation, Policy,
    PolicyLimits, PositionOf, Product, Rewrite, Subscription, Upstream, UpstreamProtocol,
};
use super::source::has_password;
use super::units::{shown_bytes, shown_duration};

/// What stands in the place of a secret.
const MASK: &str = "***";

/// The whole configuration, fit to be shown to an operator.
pub fn effective(config: &Config) -> Value {
    let named = |policy: &Policy| (policy.name.clone().unwrap_or_default(), policy_of(policy));
    let mut all = json!({
        "listeners": config.listeners.iter().map(listener).collect::<Vec<_>>(),
        "server": {
            "trusted_proxies": config.server.trusted_proxies.iter().map(network).collect::<Vec<_>>(),
            "drain": duration(config.server.drain),
        },
        "plugins": { "limits": limits(&config.plugins.limits) },
        "access_log": { "enabled": config.access_log.enabled },
        "secrets": config.secrets.iter().map(|secret| (secret.name.clone(), MASK.into())).collect::<Map<_, _>>(),
        "upstreams": config.upstreams.iter().map(|it| (it.name.clone(), upstream(it))).collect::<Map<_, _>>(),
        "policies": config.policies.iter().map(named).collect::<Map<_, _>>(),
        "apis": config.apis.iter().map(|it| api(config, it)).collect::<Vec<_>>(),
        "products": config.products.iter().map(product).collect::<Vec<_>>(),
        "consumers": config.consumers.iter().map(|consumer| json!({
            "name": consumer.name,
            "subscriptions": consumer.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    put(&mut all["server"], "workers", config.server.workers);
    put(&mut all["plugins"], "directory", config.plugins.directory.as_deref().map(path));
    put(&mut all["plugins"], "cache", config.plugins.cache.as_deref().map(path));
    put(&mut all["access_log"], "file", config.access_log.file.as_deref().map(path));
    if let Some(file) = &config.state.file {
        all["state"] = json!({ "file": path(file) });
    }
    if let Some(admin) = &config.admin {
        all["admin"] = json!({ "address": admin.address });
        put(&mut all["admin"], "token", admin.token.as_ref().map(|_| MASK));
    }
    all
}

fn put(map: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let (Some(value), Value::Object(map)) = (value, map) {
        map.insert(key.to_owned(), value.into());
    }
}

/// The same for lists, which are left out when empty, as an empty list means something else.
fn put_list(map: &mut Value, key: &str, list: &[String]) {
    put(map, key, (!list.is_empty()).then(|| list.to_vec()));
}

fn duration(duration: Duration) -> String {
    shown_duration(duration)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn network((address, prefix): &(IpAddr, u8)) -> String {
    format!("{address}/{prefix}")
}

fn listener(listener: &Listener) -> Value {
    let limits = &listener.limits;
    let mut value = json!({
        "name": listener.name,
        "address": listener.address,
        "http2": listener.http2,
        "limits": {
            "connections": limits.connections,
            "header_bytes": shown_bytes(u64::try_from(limits.header_bytes).unwrap_or(u64::MAX)),
            "header_count": limits.header_count,
            "header_read": duration(limits.header_read),
            "idle": duration(limits.idle),
            "request": duration(limits.request),
            "handshake": duration(limits.handshake),
            "body_bytes": shown_bytes(limits.body_bytes),
            "http2_streams": limits.http2_streams,
        },
    });
    let Some(tls) = &listener.tls else { return value };
    let certificates = tls.certificates.iter().map(|certificate| {
        let mut value = json!({ "cert": path(&certificate.cert), "key": path(&certificate.key) });
        put_list(&mut value, "hosts", &certificate.hosts);
        value
    });
    value["tls"] = json!({ "certificates": certificates.collect::<Vec<_>>() });
    if let Some(client_auth) = &tls.client_auth {
        let mode = if client_auth.required { "required" } else { "optional" };
        value["tls"]["client_auth"] = json!({ "ca": path(&client_auth.ca), "mode": mode });
    }
    value
}

fn upstream(upstream: &Upstream) -> Value {
    let endpoints = upstream.endpoints.iter().map(|endpoint| {
        let scheme = if endpoint.https { "https" } else { "http" };
        let host = &endpoint.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        json!({ "url": format!("{scheme}://{host}:{}", endpoint.port), "weight": endpoint.weight })
    });
    let statuses = upstream.retry.statuses.iter().map(u16::to_string);
    let connect_failure = upstream.retry.connect_failure.then(|| "connect_failure".to_owned());
    let mut value = json!({
        "endpoints": endpoints.collect::<Vec<_>>(),
        "protocol": match upstream.protocol {
            UpstreamProtocol::Http1 => "http1",
            UpstreamProtocol::Http2 => "http2",
        },
        "balance": match upstream.balance {
            Balance::RoundRobin => "round_robin",
            Balance::LeastRequest => "least_request",
            Balance::Random => "random",
        },
        "ejection": match &upstream.ejection {
            None => json!(false),
            Some(ejection) => json!({
                "failures": ejection.failures,
                "period": duration(ejection.period),
                "max_percent": format!("{}%", ejection.max_percent),
            }),
        },
        "timeouts": {
            "connect": duration(upstream.timeouts.connect),
            "response": duration(upstream.timeouts.response),
            "idle": duration(upstream.timeouts.idle),
        },
        "retry": {
            "attempts": upstream.retry.attempts,
            "on": connect_failure.into_iter().chain(statuses).collect::<Vec<_>>(),
            "budget": format!("{}%", upstream.retry.budget_percent),
        },
        "host": match &upstream.host {
            HostField::Preserve => "preserve",
            HostField::Endpoint => "endpoint",
            HostField::Fixed(host) => host,
        },
        "idle_connections": upstream.idle_connections,
    });
    if let Some(health) = &upstream.health {
        value["health"] = json!({
            "path": health.path,
            "interval": duration(health.interval),
            "timeout": duration(health.timeout),
            "unhealthy_after": health.unhealthy_after,
            "healthy_after": health.healthy_after,
        });
    }
    let mut tls = json!({});
    put(&mut tls, "ca", upstream.tls.ca.as_deref().map(path));
    put(&mut tls, "server_name", upstream.tls.server_name.clone());
    put(&mut tls, "client_cert", upstream.tls.client_cert.as_deref().map(path));
    put(&mut tls, "client_key", upstream.tls.client_key.as_deref().map(path));
    if tls != json!({}) {
        value["tls"] = tls;
    }
    value
}

fn policy_of(policy: &Policy) -> Value {
    let mut value = json!({
        "plugin": policy.plugin,
        "config": masked(&policy.config, &mut String::new(), policy.config_positions.as_ref()),
        "isolation": match policy.isolation {
            Isolation::Reuse => "reuse",
            Isolation::Request => "request",
        },
    });
    put(
        &mut value,
        "on_error",
        policy.on_error.map(|action| match action {
            OnError::Deny => "deny",
            OnError::Skip => "skip",
        }),
    );
    if policy.limits != PolicyLimits::default() {
        value["limits"] = limits(&policy.limits);
    }
    if policy.allow != Allow::default() {
        let allow = &policy.allow;
        let mut grants = json!({});
        put_list(&mut grants, "upstreams", &allow.upstreams);
        put_list(&mut grants, "buckets", &allow.buckets);
        put_list(&mut grants, "secrets", &allow.secrets);
        put_list(&mut grants, "urls", &allow.urls);
        put_list(&mut grants, "files", &allow.files);
        put(&mut grants, "writes", allow.writes.clone());
        value["allow"] = grants;
    }
    value
}

/// A policy's configuration with stars where a value came from `${…}`.
fn masked(value: &Value, pointer: &mut String, positions: &dyn PositionOf) -> Value {
    if positions.is_secret(pointer) {
        return MASK.into();
    }
    let length = pointer.len();
    let mut below = |segment: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(segment);
        let value = masked(value, pointer, positions);
        pointer.truncate(length);
        value
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| below(&index.to_string(), item)).collect()
        }
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), below(&key.replace('~', "~0").replace('/', "~1"), value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::String(text) if has_password(text) => MASK.into(),
        other => other.clone(),
    }
}

fn limits(limits: &PolicyLimits) -> Value {
    let mut value = json!({});
    put(&mut value, "memory", limits.memory.map(shown_bytes));
    put(&mut value, "time", limits.time.map(duration));
    put(&mut value, "instances", limits.instances);
    value
}

fn chain(config: &Config, links: &[Link]) -> Vec<Value> {
    let link = |link: &Link| match link {
        Link::Named { policy, .. } => {
            config.policies.get(*policy).and_then(|policy| policy.name.clone()).unwrap_or_default().into()
        }
        Link::InPlace(policy) => policy_of(policy),
    };
    links.iter().map(link).collect()
}

fn api(config: &Config, api: &Api) -> Value {
    let mut value = json!({
        "name": api.name,
        "display_name": api.display_name,
        "path": api.path,
        "chain": chain(config, &api.chain),
    });
    put_list(&mut value, "hosts", &api.hosts);
    put_list(&mut value, "listeners", &api.listeners);
    put(&mut value, "upstream", api.upstream.clone());
    match &api.rewrite {
        Rewrite::Keep => {}
        Rewrite::StripPrefix => put(&mut value, "strip_prefix", Some(true)),
        Rewrite::ReplacePrefix(prefix) => put(&mut value, "rewrite", Some(prefix.clone())),
    }
    if !api.operations.is_empty() {
        value["operations"] = api.operations.iter().map(|it| operation(config, it)).collect();
        value["operations_only"] = api.operations_only.into();
    }
    value
}

fn operation(config: &Config, operation: &Operation) -> Value {
    let mut value = json!({
        "name": operation.name,
        "match": {},
        "chain": chain(config, &operation.chain),
        "inherit": operation.inherit,
    });
    put_list(&mut value["match"], "methods", &operation.methods);
    put(&mut value["match"], "path", operation.path.clone());
    put(&mut value, "upstream", operation.upstream.clone());
    value
}

fn product(product: &Product) -> Value {
    let mut value =
        json!({ "name": product.name, "display_name": product.display_name, "apis": product.apis });
    if let Some(quota) = &product.quota {
        value["quota"] = json!({ "requests": quota.requests, "per": duration(quota.per) });
    }
    value
}

fn subscription(subscription: &Subscription) -> Value {
    let start = |hash: &[u8; 32]| {
        let [a, b, c, d, ..] = hash;
        format!("sha256:{a:02x}{b:02x}{c:02x}{d:02x}…")
    };
    let mut value = json!({
        "product": subscription.product,
        "suspended": subscription.suspended,
    });
    put_list(&mut value, "keys", &subscription.keys.iter().map(start).collect::<Vec<_>>());
    let expires = subscription.expires.and_then(|seconds| i64::try_from(seconds).ok());
    let expires = expires.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    put(&mut value, "expires", expires.map(|time| time.to_string()));
    value
}
