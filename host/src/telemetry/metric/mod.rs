//! Numbers about the gateway: cells for each worker, summed when somebody scrapes.
//!
//! `compile` resolves handles by name at a reload; the request path counts through them without
//! a lock, an allocation or a hash; `admin` asks for the exposition. Never keeps what a single
//! exchange said.
//!
//! The same name gives the same cells, so counters go on over a reload. Cells of names that no
//! snapshot holds any more stay while there is room: their counters would look reset if the name
//! came back. When a kind is full they make way, and when all are in use, further names count
//! together under the name `(other)`. So memory and exposition are bounded by the constants here.

mod cell;
mod exchange;
mod exposition;
mod guest;
mod policy;
mod process;
mod traffic;

pub use cell::{Counter, Gauge, Histogram, enter_worker};
pub use exchange::{ApiMetrics, ConsumerMetrics};
pub use guest::{GuestKind, GuestMetric};
pub use policy::{Hook, PolicyMetrics, Verdict};
pub use traffic::{ListenerMetrics, UpstreamMetrics};

use crate::clock::Clock;
use crate::telemetry::access_log::AccessLogMetrics;
use exposition::Exposition;
use guest::Guests;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// APIs, policies and upstreams told apart, each: four times what a reload is tested with.
const NAMES_MAX: usize = 4_096;
const LISTENERS_MAX: usize = 256;
/// Pairs of consumer and product.
const CONSUMERS_MAX: usize = 16_384;
/// Whom names beyond the bound count for; no configured name has parentheses.
const OTHER: &str = "(other)";

/// All metrics of one gateway. Made once; shared by reference.
pub struct Metrics {
    cells: Arc<Cells>,
    registry: Registry,
}

#[derive(Debug)]
struct Cells {
    workers: usize,
    clock: Clock,
    /// Since the Unix epoch.
    started: Duration,
    /// The same moment on the clock that nobody sets.
    started_nanos: u64,
    apis: Named<String, ApiMetrics>,
    policies: Named<String, PolicyMetrics>,
    upstreams: Named<String, UpstreamMetrics>,
    listeners: Named<String, ListenerMetrics>,
    consumers: Named<(String, String), ConsumerMetrics>,
    guests: Mutex<Guests>,
    access_log: Arc<AccessLogMetrics>,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
    generation: AtomicU64,
}

impl Metrics {
    /// For `workers` threads that call `enter_worker`, and any number of others.
    pub fn new(workers: usize, clock: &Clock) -> Metrics {
        let cells = Arc::new(Cells {
            workers,
            clock: clock.clone(),
            started: clock.unix(),
            started_nanos: clock.monotonic_nanos(),
            apis: Named::new(NAMES_MAX),
            policies: Named::new(NAMES_MAX),
            upstreams: Named::new(NAMES_MAX),
            listeners: Named::new(LISTENERS_MAX),
            consumers: Named::new(CONSUMERS_MAX),
            guests: Mutex::new(Guests::new(workers, exposition::POLICY_NAMES)),
            access_log: Arc::new(AccessLogMetrics {
                lines: Counter::new(workers),
                dropped: Counter::new(workers),
            }),
            reloads: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposition(cells.clone())));
        Metrics { cells, registry }
    }

    pub fn api(&self, api: &str) -> Arc<ApiMetrics> {
        self.cells.apis.get(api.to_owned(), || OTHER.to_owned(), || ApiMetrics::new(self.cells.workers))
    }

    pub fn policy(&self, policy: &str) -> Arc<PolicyMetrics> {
        let make = || PolicyMetrics::new(self.cells.workers);
        self.cells.policies.get(policy.to_owned(), || OTHER.to_owned(), make)
    }

    pub fn upstream(&self, upstream: &str) -> Arc<UpstreamMetrics> {
        let make = || UpstreamMetrics::new(self.cells.workers);
        self.cells.upstreams.get(upstream.to_owned(), || OTHER.to_owned(), make)
    }

    pub fn listener(&self, listener: &str) -> Arc<ListenerMetrics> {
        let make = || ListenerMetrics::new(self.cells.workers);
        self.cells.listeners.get(listener.to_owned(), || OTHER.to_owned(), make)
    }

    /// `product`: the one whose subscription let the consumer in; empty where there is none.
    pub fn consumer(&self, consumer: &str, product: &str) -> Arc<ConsumerMetrics> {
        let other = || (OTHER.to_owned(), String::new());
        let make = || ConsumerMetrics::new(self.cells.workers);
        self.cells.consumers.get((consumer.to_owned(), product.to_owned()), other, make)
    }

    /// A series that a policy defines, exposed as `witgate_policy_NAME{policy="…",…}`; the same
    /// definition gives the same cells.
    ///
    /// # Errors
    /// A sentence for the policy's author: a name or label that is none, one that is taken by
    /// another kind or by the gateway, or too many series.
    pub fn guest(
        &self,
        policy: &str,
        kind: GuestKind,
        name: &str,
        labels: &[(String, String)],
    ) -> Result<Arc<GuestMetric>, String> {
        lock(&self.cells.guests).define(policy, kind, name, labels)
    }

    /// What `AccessLog::open` counts in.
    pub fn access_log(&self) -> Arc<AccessLogMetrics> {
        self.cells.access_log.clone()
    }

    /// A configuration took effect, the first included; `generation` counts them.
    pub fn reload_succeeded(&self, generation: u64) {
        self.cells.reloads.fetch_add(1, Ordering::Relaxed);
        self.cells.generation.store(generation, Ordering::Relaxed);
    }

    /// A configuration was refused.
    pub fn reload_failed(&self) {
        self.cells.reloads_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Appends everything in the Prometheus text format, version 0.0.4.
    pub fn encode(&self, out: &mut String) {
        // Only a sink can fail, and a string does not.
        let _ = prometheus_text::encode(out, &self.registry);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("workers", &self.cells.workers).finish_non_exhaustive()
    }
}

/// Cells by name, a bounded number of them.
#[derive(Debug)]
struct Named<K, M> {
    max: usize,
    cells: Mutex<BTreeMap<K, Arc<M>>>,
}

impl<K: Ord + Clone, M> Named<K, M> {
    fn new(max: usize) -> Named<K, M> {
        Named { max, cells: Mutex::new(BTreeMap::new()) }
    }

    fn get(&self, name: K, other: impl Fn() -> K, make: impl Fn() -> M) -> Arc<M> {
        let mut cells = lock(&self.cells);
        if !cells.contains_key(&name) && cells.len() >= self.max {
            cells.retain(|_, held| Arc::strong_count(held) > 1);
        }
        let full = !cells.contains_key(&name) && cells.len() >= self.max;
        let name = if full { other() } else { name };
        cells.entry(name).or_insert_with(|| Arc::new(make())).clone()
    }

    /// In order of the names. The lock is let go before anybody encodes.
    fn all(&self) -> Vec<(K, Arc<M>)> {
        lock(&self.cells).iter().map(|(name, cells)| (name.clone(), cells.clone())).collect()
    }
}

/// A thread that panicked while it held the lock left whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_gives_the_same_cells_over_a_reload() {
        let metrics = Metrics::new(1, &Clock::system());
        metrics.consumer("app", "starter").exchange();
        metrics.consumer("app", "starter").exchange();
        metrics.consumer("app", "").exchange();
        assert_eq!(metrics.consumer("app", "starter").exchanges.get(), 2);
        assert!(Arc::ptr_eq(&metrics.api("a"), &metrics.api("a")));
        assert!(!Arc::ptr_eq(&metrics.policy("a"), &metrics.policy("b")));
    }

    #[test]
    fn names_are_bounded_and_unheld_ones_make_room() {
        let named = Named::new(3);
        let get = |name: &str| named.get(name.to_owned(), || OTHER.to_owned(), || Counter::new(0));
        let held = (get("a"), get("b"), get("c"));
        let beyond = (get("d"), get("e"));
        beyond.0.add(1);
        assert!(Arc::ptr_eq(&beyond.0, &beyond.1) && Arc::ptr_eq(&held.0, &get("a")));
        assert_eq!(named.all().len(), 4);
        drop((held, beyond));
        get("d").add(5);
        let names: Vec<_> = named.all().into_iter().map(|(name, cells)| (name, cells.get())).collect();
        assert_eq!(names, [("d".to_owned(), 5)]);
    }
}
