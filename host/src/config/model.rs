//! The configuration as plain data, one to one with the YAML, references checked.
//!
//! Made by `check`, read by `compile`. Holds no live object. Everything that has a name is kept
//! in the file's order. `At` remembers where a value stood, so that mistakes found later (a
//! plugin that refuses its configuration) still name file, line and column.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where something stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The key's path as shown to people: `apis[employee-api].chain[1].config.per`.
    pub path: String,
}

/// A secret text: shown as stars, compared by nobody, revealed only by `reveal`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: Vec<Listener>,
    pub admin: Option<Admin>,
    pub server: Server,
    pub plugins: Plugins,
    pub state: State,
    pub access_log: AccessLog,
    pub secrets: Vec<NamedSecret>,
    pub upstreams: Vec<Upstream>,
    /// Named, reusable policies, to which chains refer.
    pub policies: Vec<Policy>,
    pub apis: Vec<Api>,
    pub products: Vec<Product>,
    pub consumers: Vec<Consumer>,
}

/// `server:` what holds for the whole process.
#[derive(Clone, Debug)]
pub struct Server {
    /// Worker threads; default: one per core available to the process.
    pub workers: Option<usize>,
    /// `trusted_proxies`: networks whose `X-Forwarded-*` are believed. Default: none.
    pub trusted_proxies: Vec<(IpAddr, u8)>,
    /// `drain`: how long exchanges in flight may take at shutdown. Default 30 s.
    pub drain: Duration,
}

#[derive(Clone, Debug)]
pub struct Listener {
    pub at: At,
    pub name: String,
    pub address: SocketAddr,
    pub tls: Option<Tls>,
    pub limits: ListenerLimits,
    /// `http2`: with prior knowledge in clear, by ALPN over TLS. Default true.
    pub http2: bool,
}

#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// All connections of this listener together. Default 20,000.
    pub connections: usize,
    /// Total bytes of a request's head. Default 32 KiB. Over it: 431.
    pub header_bytes: usize,
    /// Fields in a request's head. Default 100. Over it: 431.
    pub header_count: usize,
    /// From the first byte of a head to its end. Default 10 s.
    pub header_read: Duration,
    /// Between requests of one connection, and between bytes of a request's body (then 408). Default
    /// 75 s.
    pub idle: Duration,
    /// One exchange as a whole, upgrades excepted; zero: none. Default zero.
    pub request: Duration,
    /// A TLS handshake. Default 10 s.
    pub handshake: Duration,
    /// Bytes of a request's body; over it: 413. Zero: none. Default zero (policies buffer with
    /// limits of their own).
    pub body_bytes: u64,
    /// Concurrent HTTP/2 streams of a connection. Default 128.
    pub http2_streams: u32,
}

#[derive(Clone, Debug)]
pub struct Tls {
    pub certificates: Vec<Certificate>,
    pub client_auth: Option<ClientAuth>,
}

#[derive(Clone, Debug)]
pub struct Certificate {
    pub at: At,
    /// Exact or `*.` names; empty: for every name that nothing else fits.
    pub hosts: Vec<String>,
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct ClientAuth {
    pub at: At,
    pub ca: PathBuf,
    /// `mode: required`, else optional.
    pub required: bool,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub at: At,
    pub address: SocketAddr,
    /// Needed in `Authorization: Bearer` unless the address is loopback.
    pub token: Option<Secret>,
}

#[derive(Clone, Debug)]
pub struct Plugins {
    pub directory: Option<PathBuf>,
    pub limits: PolicyLimits,
    /// Compiled code; default: `$XDG_CACHE_HOME/witgate` or `~/.cache/witgate`.
    pub cache: Option<PathBuf>,
}

/// What one instance of a policy may use. `None`: the default of `plugins.limits`, in the end
/// 16 MiB, 10 ms, and instances as many as concurrent calls need up to 64 a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyLimits {
    pub memory: Option<u64>,
    /// Per hook call.
    pub time: Option<Duration>,
    /// Instances per worker.
    pub instances: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct State {
    /// File of the embedded store (quotas). Default: none, state is lost at a restart.
    pub file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct AccessLog {
    pub enabled: bool,
    /// Default: standard output.
    pub file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct NamedSecret {
    pub at: At,
    pub name: String,
    pub value: Secret,
}

#[derive(Clone, Debug)]
pub struct Upstream {
    pub at: At,
    pub name: String,
    pub endpoints: Vec<Endpoint>,
    pub protocol: UpstreamProtocol,
    pub balance: Balance,
    pub health: Option<Health>,
    /// Passive ejection; on by default.
    pub ejection: Option<Ejection>,
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub tls: UpstreamTls,
    pub host: HostField,
    /// Idle connections kept per worker and endpoint. Default 128.
    pub idle_connections: usize,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub at: At,
    pub https: bool,
    /// A name or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Default 1; 0 takes no traffic.
    pub weight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// The default.
    Http1,
    /// With prior knowledge in clear, by ALPN over TLS.
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    /// The default.
    LeastRequest,
    Random,
}

#[derive(Clone, Debug)]
pub struct Health {
    pub path: String,
    /// Default 5 s.
    pub interval: Duration,
    /// Default 1 s.
    pub timeout: Duration,
    /// Failures in a row that take an endpoint out. Default 2.
    pub unhealthy_after: u32,
    /// Successes in a row that bring it back. Default 2.
    pub healthy_after: u32,
}

#[derive(Clone, Debug)]
pub struct Ejection {
    /// Consecutive failures (no connection, reset, 5xx by `on`). Default 5.
    pub failures: u32,
    /// The first ejection's length; doubles with each, up to 10 times. Default 10 s.
    pub period: Duration,
    /// At most this share of endpoints, in per cent. Default 50.
    pub max_percent: u32,
}

#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Default 1 s.
    pub connect: Duration,
    /// From the request's last byte sent to the response's head. Default 60 s.
    pub response: Duration,
    /// Between bytes of a response's body; zero: none. Default zero.
    pub idle: Duration,
}

#[derive(Clone, Debug)]
pub struct Retry {
    /// Beyond the first try. Default 1.
    pub attempts: u32,
    /// `connect_failure` (default; a request that was never sent) and statuses, the latter for
    /// idempotent methods only.
    pub connect_failure: bool,
    pub statuses: Vec<u16>,
    /// Share of requests, in per cent, that retries may add. Default 20.
    pub budget_percent: u32,
}

#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// PEM bundle; default: the Mozilla roots.
    pub ca: Option<PathBuf>,
    pub server_name: Option<String>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostField {
    /// The client's own. The default.
    Preserve,
    /// The endpoint's `host:port`.
    Endpoint,
    Fixed(String),
}

/// A policy: a plugin with its configuration at a place in a chain, or named for reuse.
#[derive(Clone, Debug)]
pub struct Policy {
    pub at: At,
    /// The name under `policies:`; in place: none.
    pub name: Option<String>,
    pub plugin: String,
    /// Where `config:` stands; `at` where there is none.
    pub config_at: At,
    /// As JSON; `{}` where there is none. Secrets expanded.
    pub config: serde_json::Value,
    /// Positions of the configuration's values, by JSON pointer.
    pub config_positions: Arc<dyn PositionOf>,
    pub on_error: Option<OnError>,
    pub isolation: Isolation,
    pub limits: PolicyLimits,
    pub allow: Allow,
}

/// Finds where the value at a JSON pointer (RFC 6901) stands.
pub trait PositionOf: std::fmt::Debug + Send + Sync {
    fn position_of(&self, pointer: &str) -> Option<At>;

    /// Whether the value there came from `${env:}` or `${file:}` and must never be shown.
    fn is_secret(&self, _pointer: &str) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Deny,
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Warm instances, one request at a time in each. The default.
    Reuse,
    /// A fresh instance for each request.
    Request,
}

/// What the operator grants beyond what the policy's own configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    pub upstreams: Vec<String>,
    pub buckets: Vec<String>,
    pub secrets: Vec<String>,
    pub urls: Vec<String>,
    pub files: Vec<String>,
    /// Caps the plan's writes; `None`: as the plan says.
    pub writes: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct Api {
    pub at: At,
    pub name: String,
    pub display_name: String,
    /// Exact or `*.` names; empty: any host.
    pub hosts: Vec<String>,
    /// A prefix on segment borders, normalised, without a trailing slash; `/` for all.
    pub path: String,
    /// `None` for an API that its policies answer (aggregation, mock).
    pub upstream: Option<String>,
    pub rewrite: Rewrite,
    pub chain: Vec<Link>,
    pub operations: Vec<Operation>,
    /// `operations_only: true`: what no operation matches is 404. Default false.
    pub operations_only: bool,
    /// Names of listeners; empty: all.
    pub listeners: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    Keep,
    /// `strip_prefix: true`
    StripPrefix,
    /// `rewrite: /v2`: put in the prefix's place.
    ReplacePrefix(String),
}

/// A place in a chain.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "few, read once per reload; a box would only be in the way")]
pub enum Link {
    /// Index into `Config::policies`.
    Named {
        at: At,
        policy: usize,
    },
    InPlace(Policy),
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub at: At,
    /// Default: methods and path.
    pub name: String,
    /// Empty: all.
    pub methods: Vec<String>,
    /// Below the API's path: `/{id}`, `/files/{*rest}`; `None`: the whole API.
    pub path: Option<String>,
    pub upstream: Option<String>,
    pub chain: Vec<Link>,
    /// `inherit: false`: the operation's chain replaces the API's instead of following it.
    pub inherit: bool,
}

#[derive(Clone, Debug)]
pub struct Product {
    pub at: At,
    pub name: String,
    pub display_name: String,
    pub apis: Vec<String>,
    pub quota: Option<Quota>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub requests: u64,
    pub per: Duration,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    pub at: At,
    pub name: String,
    pub subscriptions: Vec<Subscription>,
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub at: At,
    pub product: String,
    /// SHA-256 of each key.
    pub keys: Vec<[u8; 32]>,
    pub suspended: bool,
    /// Seconds since the Unix epoch.
    pub expires: Option<u64>,
}
