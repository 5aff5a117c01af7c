//! The gateway as a whole: assembled here, reloaded, drained.
//!
//! `cli` starts it. Everything that lives as long as the process is made in `start`; what belongs
//! to one configuration is made by `compile` and swapped by `reload`. Never on a request's path.

mod reload;
mod sockets;
mod status;
mod watch;
mod workers;

use crate::admin;
use crate::clock::Clock;
use crate::compile::{Workshop, compile};
use crate::config::model::{Config, Listener};
use crate::config::{self, Loaded, Report};
use crate::plugin::artifact::Artifacts;
use crate::plugin::engine::Lines;
use crate::plugin::policy::Services;
use crate::snapshot::cell::SnapshotCell;
use crate::state::{BucketLimits, Buckets, Counters, Limiters};
use crate::telemetry::access_log::{AccessLog, Destination};
use crate::telemetry::metric::Metrics;
use crate::token::{Passwords, Verifiers};
use crate::upstream::spawn_health;
use arc_swap::ArcSwapOption;
use sockets::Sockets;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch as tokio_watch;
use watch::Looks;
use workers::Workers;

/// Keys of one rate limit that are told apart at once, over all workers.
const LIMITER_KEYS_MAX: usize = 1_000_000;
/// How long the last lines of the access log may take to be written.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// Where the configuration comes from.
pub enum Origin {
    File(PathBuf),
    /// Made by the command line; never reloaded.
    Given(Box<Config>),
}

/// A running gateway. Shared by everything on the control runtime.
pub struct Gateway {
    origin: Origin,
    workshop: Workshop,
    cell: SnapshotCell,
    workers: Workers,
    sockets: Mutex<Sockets>,
    running: Mutex<Running>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    generations: tokio_watch::Sender<u64>,
    access_log: Option<AccessLog>,
    draining: AtomicBool,
    drain: Duration,
    admin_token: Arc<ArcSwapOption<admin::Token>>,
    /// Settings that are read at the start alone.
    fixed: Fixed,
    seen: Mutex<status::Seen>,
    control: tokio::runtime::Handle,
}

/// Settings that are read at the start alone, with their values as text.
struct Fixed([(&'static str, String); 6]);

impl Fixed {
    fn of(config: &Config) -> Fixed {
        Fixed([
            ("admin.address", format!("{:?}", config.admin.as_ref().map(|admin| admin.address))),
            ("access_log", format!("{:?}", config.access_log)),
            ("state", format!("{:?}", config.state)),
            ("plugins.cache", format!("{:?}", config.plugins.cache)),
            ("server.workers", format!("{:?}", config.server.workers)),
            ("server.drain", format!("{:?}", config.server.drain)),
        ])
    }

    /// What is otherwise in `config`, and so waits for the next start.
    fn waiting(&self, config: &Config) -> Vec<&'static str> {
        let now = Fixed::of(config);
        self.0.iter().zip(now.0).filter(|(was, is)| was.1 != is.1).map(|(was, _)| was.0).collect()
    }
}

/// What is told of the configuration in effect.
struct Running {
    /// The effective configuration as JSON text, which takes less memory than the tree would.
    effective: Box<str>,
    plugins: Vec<Arc<crate::plugin::Plugin>>,
    files: Vec<PathBuf>,
    directory: Option<PathBuf>,
}

/// Makes what compiling a configuration needs, for a gateway or for a check of its configuration.
///
/// # Errors
/// What could not be opened, as a sentence.
pub fn workshop(
    config: &Config,
    workers: usize,
    control: &tokio::runtime::Handle,
) -> Result<Workshop, String> {
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::new(workers, &clock));
    let (runtime, artifacts) = Artifacts::with_engine(config.plugins.cache.clone(), lines())?;
    let counters =
        Counters::open(config.state.file.as_deref(), clock.clone()).map_err(|error| error.to_string())?;
    let services = Services {
        buckets: Buckets::new(clock.clone(), BucketLimits::default()),
        limiters: Limiters::new(clock.clone(), LIMITER_KEYS_MAX),
        verifiers: Verifiers::new(clock.clone(), Arc::new(status::KeyFetch), control.clone()),
        passwords: Passwords::default(),
        metrics: metrics.clone(),
        clock: clock.clone(),
    };
    let (services, counters) = (Arc::new(services), Arc::new(counters));
    Ok(Workshop { runtime, artifacts, services, counters, metrics, clock })
}

/// Set while a policy is being made: source lines in the stacks of its traps, which cost the worker that
/// tells them.
const LINES_VARIABLE: &str = "WITGATE_TRAP_LINES";

fn lines() -> Lines {
    match std::env::var_os(LINES_VARIABLE).is_some_and(|set| !set.is_empty()) {
        true => Lines::Told,
        false => Lines::Untold,
    }
}

impl Gateway {
    /// Reads the configuration, opens everything and begins to serve. The gateway does not start
    /// with a configuration that is wrong anywhere.
    ///
    /// # Errors
    /// What is wrong, rendered for people.
    pub async fn start(origin: Origin) -> Result<Arc<Gateway>, String> {
        let control = tokio::runtime::Handle::current();
        let since = SystemTime::now();
        let (config, base, files, report, known) = match &origin {
            Origin::File(path) => {
                // Read for what it names, then looked at, then read for good: whatever changes
                // after the look is seen as a change.
                let first = read(path)?;
                let tls = first.config.listeners.iter().flat_map(certificate_files);
                let known =
                    Looks::at(first.files.into_iter().chain(tls), first.config.plugins.directory.as_deref());
                let loaded = read(path)?;
                let report = loaded.report();
                (loaded.config, loaded.folder, loaded.files, report, known)
            }
            Origin::Given(config) => {
                ((**config).clone(), PathBuf::from("."), Vec::new(), Report::default(), Looks::default())
            }
        };
        let count = config.server.workers.unwrap_or_else(available_cores).max(1);
        let workshop = workshop(&config, count, &control)?;
        let access_log = match config.access_log.enabled {
            true => {
                let destination =
                    config.access_log.file.clone().map_or(Destination::Stdout, Destination::File);
                let opened = AccessLog::open(destination, workshop.metrics.access_log());
                Some(opened.map_err(|error| format!("the access log cannot be opened: {error}"))?)
            }
            false => None,
        };
        let compiled = tokio::task::block_in_place(|| compile(&workshop, &config, base, report, None))
            .map_err(|report| report.render(""))?;
        let cell = SnapshotCell::new(compiled.snapshot);
        let (generations, _) = tokio_watch::channel(1);
        let sockets = Sockets::open(compiled.listeners, count)?;
        let gateway = Arc::new(Gateway {
            workers: Workers::start(count, &cell, &workshop, access_log.as_ref(), &generations)?,
            running: Mutex::new(Running {
                effective: config::effective(&config).to_string().into(),
                plugins: compiled.plugins,
                files,
                directory: config.plugins.directory.clone(),
            }),
            drain: config.server.drain,
            admin_token: Arc::default(),
            fixed: Fixed::of(&config),
            origin,
            workshop,
            cell,
            sockets: Mutex::new(sockets),
            reloading: tokio::sync::Mutex::new(()),
            generations,
            access_log,
            draining: AtomicBool::new(false),
            seen: Mutex::default(),
            control,
        });
        for upstream in &gateway.cell.load().upstreams {
            spawn_health(upstream, &gateway.control);
        }
        let mut ready = lock(&gateway.sockets).serve(&gateway.workers);
        if let Some(admin) = &config.admin {
            ready.push(("admin".into(), gateway.open_admin(admin).await?));
        }
        gateway.workshop.metrics.reload_succeeded(1);
        gateway.keep_house(known, since);
        announce(&ready);
        Ok(gateway)
    }

    fn set_admin_token(&self, admin: &config::model::Admin) {
        let token = admin.token.as_ref().and_then(|token| admin::Token::new(token.reveal()));
        self.admin_token.store(token.map(Arc::new));
    }

    async fn open_admin(self: &Arc<Self>, admin: &config::model::Admin) -> Result<SocketAddr, String> {
        let listener = tokio::net::TcpListener::bind(admin.address)
            .await
            .map_err(|error| format!("the admin listener cannot bind {}: {error}", admin.address))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        self.set_admin_token(admin);
        let source = status::Status::shared(self);
        let settings = admin::Settings { token: Arc::clone(&self.admin_token) };
        self.control.spawn(admin::serve(listener, settings, source, std::future::pending()));
        Ok(address)
    }

    /// Sweeps state and follows files for as long as the gateway lives.
    fn keep_house(self: &Arc<Self>, known: Looks, since: SystemTime) {
        let services = self.workshop.services.clone();
        self.control.spawn(async move {
            let mut interval = tokio::time::interval(Duration::from_secs(1));
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                services.buckets.sweep();
                services.limiters.sweep();
            }
        });
        if matches!(self.origin, Origin::File(_)) {
            self.control.spawn(watch::follow(Arc::downgrade(self), known, since));
        }
    }

    /// Stops: nothing new is taken, what is in flight gets its time, then everything ends.
    pub async fn stop(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let controls = lock(&self.sockets).close_all();
        let mut cut = 0;
        for control in &controls {
            control.start();
        }
        let deadline = tokio::time::Instant::now() + self.drain;
        for control in controls {
            cut += control.wait(deadline.saturating_duration_since(tokio::time::Instant::now())).await;
        }
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the end of the drain");
        }
        tokio::task::block_in_place(|| {
            self.workers.stop();
            if let Some(access_log) = &self.access_log {
                access_log.flush_all(LOG_WAIT);
            }
            self.workshop.counters.flush();
        });
    }

    /// Opens the access log's file anew, after somebody moved it away.
    pub fn reopen_logs(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
    }
}

/// Tells whoever waits for it, people and scripts, that requests are served now.
fn announce(ready: &[(String, SocketAddr)]) {
    let places: Vec<_> = ready.iter().map(|(name, address)| format!("{name}={address}")).collect();
    // Standard error may take nothing, and requests are served all the same.
    let _ = writeln!(std::io::stderr(), "witgate ready: {}", places.join(" "));
}

fn read(path: &Path) -> Result<Loaded, String> {
    config::load(path).map_err(|report| report.render(""))
}

fn certificate_files(listener: &Listener) -> Vec<PathBuf> {
    let tls = listener.tls.iter();
    let certificates =
        tls.clone().flat_map(|tls| &tls.certificates).flat_map(|c| [c.cert.clone(), c.key.clone()]);
    certificates.chain(tls.filter_map(|tls| Some(tls.client_auth.as_ref()?.ca.clone()))).collect()
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Nothing here is left half done by a panic, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
