//! What the admin listener tells: the gateway's state, gathered when somebody asks.

use super::{Gateway, lock};
use crate::admin::{Ready, Source};
use crate::plugin::load::Origin as PluginOrigin;
use crate::token::Fetch;
use crate::upstream::fetch::{self, FetchLimits};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The admin listener's view of a gateway that may be gone already.
pub struct Status(pub Weak<Gateway>);

/// Counts as they were told last, by name and kind: metrics only ever add.
pub type Seen = HashMap<(String, &'static str), u64>;

impl Source for Status {
    fn ready(&self) -> Ready {
        match self.0.upgrade() {
            Some(gateway) if gateway.draining.load(Ordering::Relaxed) => Ready::Draining,
            Some(_) => Ready::Yes,
            None => Ready::Draining,
        }
    }

    fn config(&self) -> Value {
        let text = self.0.upgrade().map(|gateway| lock(&gateway.running).effective.clone());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
    }

    fn plugins(&self) -> Value {
        let Some(gateway) = self.0.upgrade() else { return Value::Null };
        let snapshot = gateway.cell.load();
        let plugins = lock(&gateway.running).plugins.clone();
        let described = plugins.iter().map(|plugin| {
            let policies = snapshot.policies.iter().filter(|policy| policy.plugin.hash() == plugin.hash());
            json!({
                "name": plugin.name(),
                "hash": plugin.hash().to_string(),
                "bytes": plugin.bytes(),
                "origin": match plugin.origin() {
                    PluginOrigin::Bundled => "bundled".to_string(),
                    PluginOrigin::File(path) => path.display().to_string(),
                },
                "hooks": plugin.exports().names(),
                "policies": policies.map(|policy| json!({
                    "name": &**policy.label(),
                    "instances": policy.metrics.instances.get(),
                    "quarantined": policy.is_quarantined(),
                    "reads": &policy.plan.request_reads,
                    "response_reads": &policy.plan.response_reads,
                    "writes": &policy.plan.writes,
                })).collect::<Vec<_>>(),
            })
        });
        described.collect()
    }

    fn upstreams(&self) -> Value {
        let Some(gateway) = self.0.upgrade() else { return Value::Null };
        let snapshot = gateway.cell.load();
        let described = snapshot.upstreams.iter().map(|upstream| {
            let endpoints = upstream.endpoints().map(|endpoint| {
                json!({
                    "address": &*endpoint.address,
                    "healthy": endpoint.healthy,
                    "ejected": endpoint.ejected,
                    "active": endpoint.active,
                })
            });
            json!({ "name": upstream.name(), "endpoints": endpoints.collect::<Vec<_>>() })
        });
        described.collect()
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
        let gateway = self.0.upgrade();
        Box::pin(async move {
            match gateway {
                Some(gateway) => gateway.reload().await,
                None => Err("the gateway is stopping".into()),
            }
        })
    }

    fn metrics(&self, out: &mut String) {
        if let Some(gateway) = self.0.upgrade() {
            gateway.gather();
            gateway.workshop.metrics.encode(out);
        }
    }
}

impl Gateway {
    /// Brings what other rooms count for themselves into the metrics.
    fn gather(&self) {
        let snapshot = self.cell.load();
        let mut seen = lock(&self.seen);
        let mut grown = |name: &str, kind: &'static str, now: u64| {
            let before = seen.insert((name.to_string(), kind), now).unwrap_or(0);
            // Made anew, a counter starts from nothing.
            now.checked_sub(before).unwrap_or(now)
        };
        for upstream in &snapshot.upstreams {
            let (metrics, counters) = (self.workshop.metrics.upstream(upstream.name()), upstream.counters());
            let name = upstream.name();
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            metrics.requests.add(grown(name, "requests", read(&counters.requests)));
            metrics.retries.add(grown(name, "retries", read(&counters.retries)));
            metrics.ejections.add(grown(name, "ejections", read(&counters.ejections)));
            metrics.connections.add(grown(name, "connects", read(&counters.connects)));
            let (mut all, mut healthy, mut active) = (0, 0, 0);
            for endpoint in upstream.endpoints() {
                all += 1;
                healthy += usize::from(endpoint.healthy && !endpoint.ejected);
                active += i64::from(endpoint.active);
            }
            metrics.endpoints(all, healthy);
            metrics.active.set(active);
        }
        for (name, counters) in lock(&self.sockets).counters() {
            let metrics = self.workshop.metrics.listener(&name);
            metrics.accepted.add(grown(&name, "accepted", counters.accepted()));
            metrics.refused.add(grown(&name, "refused", counters.refused()));
            metrics.handshake_failures.add(grown(&name, "handshakes", counters.handshakes_failed()));
            metrics.accept_errors.add(grown(&name, "accept_errors", counters.accept_errors()));
            metrics.active.set(i64::try_from(counters.active()).unwrap_or(i64::MAX));
        }
        for (name, expires) in lock(&self.sockets).expiries() {
            self.workshop.metrics.listener(&name).set_certificate_expiry(expires);
        }
        for policy in &snapshot.policies {
            policy.metrics.quarantined.set(i64::from(policy.is_quarantined()));
        }
    }
}

/// How key sets are fetched: over TLS, bounded, without redirects.
pub struct KeyFetch;

impl Fetch for KeyFetch {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'a>> {
        Box::pin(async move {
            let limits = FetchLimits { timeout: Duration::from_secs(5), bytes: 1 << 20 };
            fetch::get(url, limits, None).await.map_err(|error| error.to_string())
        })
    }
}

impl Status {
    /// The same, shared as the admin listener wants it.
    pub fn shared(gateway: &Arc<Gateway>) -> Arc<Status> {
        Arc::new(Status(Arc::downgrade(gateway)))
    }
}
