//! What is counted at the gateway's two edges: connections of clients, requests to upstreams.
//!
//! `listener` and `upstream` count; `metric` exposes. Never decides anything, ejection included.

use super::cell::{Count, Counter, EXCHANGE_BOUNDS, Gauge, Histogram, Sharded};
use crate::telemetry::reason::Reason;
use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const REASONS: usize = Reason::ALL.len();

/// One upstream's requests. A retry counts as a request of its own.
#[derive(Debug)]
pub struct UpstreamMetrics {
    pub requests: Counter,
    pub(super) failures: Sharded<Failures>,
    pub retries: Counter,
    pub ejections: Counter,
    pub active: Gauge,
    pub(super) latency: Histogram,
    pub connections: Counter,
    pub(super) endpoints: Gauge,
    pub(super) endpoints_healthy: Gauge,
}

impl UpstreamMetrics {
    pub(super) fn new(workers: usize) -> UpstreamMetrics {
        UpstreamMetrics {
            requests: Counter::new(workers),
            failures: Sharded::new(workers),
            retries: Counter::new(workers),
            ejections: Counter::new(workers),
            active: Gauge::new(workers),
            latency: Histogram::new(workers, &EXCHANGE_BOUNDS),
            connections: Counter::new(workers),
            endpoints: Gauge::new(workers),
            endpoints_healthy: Gauge::new(workers),
        }
    }

    /// The answer's head arrived `latency` after the request was sent.
    #[inline]
    pub fn answered(&self, latency: Duration) {
        self.latency.observe(latency);
    }

    #[inline]
    pub fn failed(&self, reason: Reason) {
        let (failures, writers) = self.failures.mine();
        failures.0[reason.index()].add(1, writers);
    }

    /// How many endpoints there are and how many take traffic; told by a control thread.
    pub fn endpoints(&self, all: usize, healthy: usize) {
        self.endpoints.set(i64::try_from(all).unwrap_or(i64::MAX));
        self.endpoints_healthy.set(i64::try_from(healthy).unwrap_or(i64::MAX));
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().filter_map(|reason| {
            let count: u64 = self.failures.iter().map(|failures| failures.0[reason.index()].get()).sum();
            (count > 0).then_some((*reason, count))
        })
    }
}

#[derive(Debug)]
pub(super) struct Failures([Count; REASONS]);

impl Default for Failures {
    fn default() -> Failures {
        Failures(array::from_fn(|_| Count::default()))
    }
}

/// One listener's connections.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub accepted: Counter,
    pub active: Gauge,
    pub refused: Counter,
    pub handshake_failures: Counter,
    pub accept_errors: Counter,
    /// Since the Unix epoch, in seconds; 0 where there is no certificate.
    certificate_expires: AtomicU64,
}

impl ListenerMetrics {
    pub(super) fn new(workers: usize) -> ListenerMetrics {
        ListenerMetrics {
            accepted: Counter::new(workers),
            active: Gauge::new(workers),
            refused: Counter::new(workers),
            handshake_failures: Counter::new(workers),
            accept_errors: Counter::new(workers),
            certificate_expires: AtomicU64::new(0),
        }
    }

    /// When the first of its certificates expires, since the Unix epoch.
    pub fn set_certificate_expiry(&self, at: Duration) {
        self.certificate_expires.store(at.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn certificate_expiry(&self) -> Option<u64> {
        Some(self.certificate_expires.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Connections open now.
    pub fn active(&self) -> i64 {
        self.active.get()
    }
}
