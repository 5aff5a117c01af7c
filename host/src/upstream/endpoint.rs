//! What all workers know of one endpoint: how to reach it, whether to.
//!
//! Written by pools (passive) and by health checks (active), read on every pick. Atomics only,
//! relaxed: a pick that sees a state a moment old is as good as one a moment earlier. Never does I/O.
//!
//! ```text
//!            failures in a row                    period over
//!   in use ------------------------> ejected ---------------------> in use
//!            (period x 2 with each, back to the first after a long quiet)
//! ```

use super::dial::Dialer;
use super::settings::{EndpointSettings, Settings};
use super::{UpstreamError, host_value};
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Ejections double up to this many times their first period.
const DOUBLINGS_MAX: u32 = 10;

/// Aligned so that the counters of two endpoints, written by all workers, never share a cache line.
#[repr(align(64))]
pub(super) struct Endpoint {
    /// Requests under way, of all workers.
    pub(super) active: AtomicU32,
    healthy: AtomicBool,
    /// Passive failures in a row.
    failures: AtomicU32,
    /// The workers' clock in nanoseconds; 0: never ejected.
    ejected_until: AtomicU64,
    /// How often in close succession.
    ejections: AtomicU32,
    /// `host:port`
    pub(super) address: Arc<str>,
    /// As a `Host` field: without the port where it is the scheme's own.
    pub(super) host: HeaderValue,
    pub(super) dialer: Dialer,
}

impl Endpoint {
    pub(super) fn new(
        endpoint: &EndpointSettings,
        settings: &Settings,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Endpoint, UpstreamError> {
        let EndpointSettings { https, host, port, .. } = endpoint;
        let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let default_port = if *https { 443 } else { 80 };
        let host_field = if *port == default_port { name.clone() } else { format!("{name}:{port}") };
        let tls = tls.filter(|_| *https);
        Ok(Endpoint {
            active: AtomicU32::new(0),
            // Until a check says otherwise: a gateway that starts must not refuse its first requests.
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            address: format!("{name}:{port}").into(),
            host: host_value(&host_field)?,
            dialer: Dialer::new(host, *port, settings, tls)?,
        })
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Relaxed) > now
    }

    /// Says whether that is news. A recovery ends an ejection too: a check knows better than a guess.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        if healthy {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
        }
        self.healthy.swap(healthy, Relaxed) != healthy
    }

    pub(super) fn record_success(&self) {
        // Read before write: in good times the line stays shared between the workers' caches.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Says whether these are now `threshold` failures in a row, and starts anew then.
    pub(super) fn record_failure(&self, threshold: u32) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let reached = threshold > 0 && failures >= threshold;
        if reached {
            self.failures.store(0, Relaxed);
        }
        reached
    }

    /// Ejects for `period`, doubled for each ejection in close succession. Returns for how long, or
    /// `None` where it is out already or another worker did it at this moment.
    pub(super) fn eject(&self, now: u64, period: Duration) -> Option<Duration> {
        let until = self.ejected_until.load(Relaxed);
        if until > now {
            return None;
        }
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let before = self.ejections.load(Relaxed);
        // A quiet as long as the last ejection's next doubling: start over.
        let last = nanos.saturating_mul(1 << before.min(DOUBLINGS_MAX));
        let doublings = if before > 0 && now.saturating_sub(until) > last { 0 } else { before };
        let length = nanos.saturating_mul(1 << doublings.min(DOUBLINGS_MAX));
        let new_until = now.saturating_add(length).max(1);
        self.ejected_until.compare_exchange(until, new_until, Relaxed, Relaxed).ok()?;
        self.ejections.store(doublings.saturating_add(1), Relaxed);
        Some(Duration::from_nanos(length))
    }
}
