//! The services behind the gateway: which endpoint, over which connection, how often.
//!
//! Owns connections to upstreams and all that is known of their endpoints. `compile` makes an
//! [`Upstream`], each worker a [`Pool`] of it, `exchange` and the plugins' HTTP client call
//! [`Pool::send`], `server` starts the health checks, `admin` reads status and counters, `token`
//! fetches key sets by [`fetch`]. Never looks at routes or policies, never edits a message beyond
//! its framing and its `Host`, never answers a client itself.
//!
//! An [`Upstream`] is shared by all workers and holds only atomics; a [`Pool`] belongs to one
//! worker, so that a request takes no lock on its way.

mod balance;
mod body;
mod dial;
mod endpoint;
pub mod fetch;
mod framing;
mod health;
mod http1;
mod http2;
mod pool;
mod replay;
mod retry;
mod send;
mod settings;
mod tls;

#[cfg(test)]
mod tests;

pub use health::spawn_health;
pub use pool::Pool;
pub use send::{Call, Failure};
pub use settings::{
    Balance, EjectionSettings, EndpointSettings, HealthSettings, HostField, Protocol, RetrySettings,
    Settings, Timeouts, TlsSettings,
};

use crate::clock::Clock;
use endpoint::Endpoint;
use http::HeaderValue;
use retry::Budget;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A service: its settings, and what all workers know of its endpoints.
pub struct Upstream {
    settings: Settings,
    endpoints: Box<[Arc<Endpoint>]>,
    budget: Budget,
    counters: Counters,
    /// `host: Fixed`, as it goes out.
    fixed_host: Option<HeaderValue>,
    /// The workers' clock, from the first pool on; the status needs it to tell who is ejected.
    clock: OnceLock<Clock>,
}

/// What happened since the upstream was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls of [`Pool::send`].
    pub requests: AtomicU64,
    /// Calls that ended in a [`Failure`].
    pub failures: AtomicU64,
    /// Second and later tries.
    pub retries: AtomicU64,
    pub connects: AtomicU64,
    pub connect_failures: AtomicU64,
    pub ejections: AtomicU64,
    /// Retries that the budget refused.
    pub budget_exhausted: AtomicU64,
}

/// One endpoint at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// `host:port`
    pub address: Arc<str>,
    /// What active checks say; true where there are none.
    pub healthy: bool,
    /// Taken out by passive ejection, for now.
    pub ejected: bool,
    /// Requests whose response has not been read to its end, of all workers.
    pub active: u32,
}

impl Upstream {
    /// Reads certificates from files, opens no socket.
    pub fn new(settings: Settings) -> Result<Arc<Upstream>, UpstreamError> {
        if settings.endpoints.is_empty() {
            return Err(UpstreamError::NoEndpoint);
        }
        let tls = if settings.endpoints.iter().any(|endpoint| endpoint.https) {
            Some(tls::client_config(&settings.tls, settings.protocol)?)
        } else {
            None
        };
        let fixed_host = match &settings.host {
            HostField::Fixed(host) => Some(host_value(host)?),
            HostField::Preserve | HostField::Endpoint => None,
        };
        let endpoints = settings
            .endpoints
            .iter()
            .map(|endpoint| Endpoint::new(endpoint, &settings, tls.as_ref()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let budget = Budget::new(settings.retry.budget_percent);
        let (counters, clock) = (Counters::default(), OnceLock::new());
        Ok(Arc::new(Upstream { settings, endpoints, budget, counters, fixed_host, clock }))
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn endpoints(&self) -> impl Iterator<Item = EndpointStatus> + '_ {
        let now = self.clock.get().map(Clock::monotonic_nanos);
        self.endpoints.iter().map(move |endpoint| EndpointStatus {
            address: endpoint.address.clone(),
            healthy: endpoint.is_healthy(),
            ejected: now.is_some_and(|now| endpoint.is_ejected(now)),
            active: endpoint.active.load(Ordering::Relaxed),
        })
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests under way at all endpoints, of all workers.
    pub fn active(&self) -> u64 {
        self.endpoints.iter().map(|endpoint| u64::from(endpoint.active.load(Ordering::Relaxed))).sum()
    }

    /// Counts a failure of an endpoint, which may eject it.
    fn record_failure(&self, index: usize, now: u64) {
        let (Some(ejection), Some(endpoint)) = (&self.settings.ejection, self.endpoints.get(index)) else {
            return;
        };
        if !endpoint.record_failure(ejection.failures) {
            return;
        }
        // The share is rounded down, yet one may always go: with two endpoints and 40 % the bad one
        // would stay for ever. Where that leaves none, `Pool::pick` uses them all.
        let ejected = self.endpoints.iter().filter(|endpoint| endpoint.is_ejected(now)).count() as u64;
        let share = self.endpoints.len() as u64 * u64::from(ejection.max_percent) / 100;
        let allowed = if ejection.max_percent == 0 { 0 } else { share.max(1) };
        if ejected < allowed
            && let Some(period) = endpoint.eject(now, ejection.period)
        {
            self.counters.ejections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                upstream = self.name(), endpoint = %endpoint.address, ?period,
                "endpoint ejected after {} failures in a row", ejection.failures
            );
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn host_value(host: &str) -> Result<HeaderValue, UpstreamError> {
    // An authority, not any header value: it becomes `:authority` on HTTP/2.
    match (host.parse::<http::uri::Authority>(), HeaderValue::from_str(host)) {
        (Ok(authority), Ok(value)) if !authority.as_str().contains('@') => Ok(value),
        _ => Err(UpstreamError::Host(host.into())),
    }
}

/// Why settings cannot be carried out.
#[derive(Debug)]
pub enum UpstreamError {
    NoEndpoint,
    /// No host that can stand in a `Host` field.
    Host(Box<str>),
    /// No name that a certificate can be checked against.
    ServerName(Box<str>),
    /// A file that is missing, unreadable or not what it should be.
    File {
        path: PathBuf,
        what: String,
    },
    /// A client certificate without a key, or the other way round.
    HalfIdentity,
    Tls(rustls::Error),
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamError::NoEndpoint => f.write_str("an upstream needs an endpoint"),
            UpstreamError::Host(host) => write!(f, "\"{host}\" is not a host"),
            UpstreamError::ServerName(name) => {
                write!(f, "\"{name}\" is not a name that a certificate can be checked against")
            }
            UpstreamError::File { path, what } => write!(f, "{}: {what}", path.display()),
            UpstreamError::HalfIdentity => {
                f.write_str("a client certificate and its key must be given together")
            }
            UpstreamError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UpstreamError {}
