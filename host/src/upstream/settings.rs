//! What an operator says of an upstream, in the room's own words.
//!
//! `compile` fills it from the configuration. Compared as a whole at a reload: an upstream whose
//! settings are equal keeps its connections, health and ejections. Never holds a live object.

use std::path::PathBuf;
use std::time::Duration;

/// One upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub name: String,
    pub endpoints: Vec<EndpointSettings>,
    pub protocol: Protocol,
    pub balance: Balance,
    /// Active checks.
    pub health: Option<HealthSettings>,
    /// Passive ejection.
    pub ejection: Option<EjectionSettings>,
    pub timeouts: Timeouts,
    pub retry: RetrySettings,
    pub tls: TlsSettings,
    pub host: HostField,
    /// Idle HTTP/1 connections kept per worker and endpoint.
    pub idle_connections: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSettings {
    pub https: bool,
    /// A name or an address without brackets.
    pub host: String,
    pub port: u16,
    /// 0 takes no traffic.
    pub weight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// With prior knowledge in clear, by ALPN over TLS.
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight, spread evenly.
    RoundRobin,
    /// Of two drawn by weight, the one with fewer requests under way for its weight.
    LeastRequest,
    /// Drawn by weight.
    Random,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    /// Path and query of a `GET`; any status from 200 to 399 is a success.
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row that take an endpoint out.
    pub unhealthy_after: u32,
    /// Successes in a row that bring it back.
    pub healthy_after: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EjectionSettings {
    /// Failures in a row: no connection, no or no valid answer, a status of `retry.statuses`.
    pub failures: u32,
    /// The first ejection's length; doubles with each.
    pub period: Duration,
    /// At most this share of endpoints, in per cent.
    pub max_percent: u32,
}

/// Zero: none.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together.
    pub connect: Duration,
    /// From the request's last byte sent to the response's head. While the request's body is under
    /// way: between two of its chunks that the upstream takes; waiting for the client is not counted.
    pub response: Duration,
    /// Between chunks of a response's body while somebody waits for one.
    pub idle: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// Beyond the first try.
    pub attempts: u32,
    /// Retry what was never sent because no connection was to be had.
    pub connect_failure: bool,
    /// Retry on these, idempotent methods only.
    pub statuses: Vec<u16>,
    /// Share of requests, in per cent, that retries may add; 0: no retries.
    pub budget_percent: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// PEM bundle in place of the Mozilla roots.
    pub ca: Option<PathBuf>,
    /// For SNI and for the certificate; default: the endpoint's host.
    pub server_name: Option<String>,
    /// PEM; goes with `client_key`.
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

impl TlsSettings {
    /// What the settings are read from, to be watched.
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.ca, &self.client_cert, &self.client_key].into_iter().flatten().cloned().collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostField {
    /// The client's own.
    Preserve,
    /// The endpoint's `host:port`.
    Endpoint,
    Fixed(String),
}
