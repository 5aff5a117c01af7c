//! From a checked configuration to a snapshot, reusing what did not change.
//!
//! `server` calls it at start and at each reload, `cli` to check a configuration with its plugins.
//! Runs off the workers' threads and may block: plugins are compiled and configured here. All
//! mistakes of a configuration are reported together; whatever is wrong refuses the whole. Never
//! changes what runs: its result is `server`'s to take up.

mod consumers;
mod grants;
mod listeners;
mod plugins;
mod policies;
mod routes;
mod upstreams;

pub use listeners::ListenerSpec;
pub use plugins::Catalogue;

use crate::clock::Clock;
use crate::config::model::Config;
use crate::config::{Diagnostic, Report};
use crate::listener::Tls;
use crate::message::forwarded::Trusted;
use crate::plugin::Plugin;
use crate::plugin::artifact::Artifacts;
use crate::plugin::engine::Runtime;
use crate::plugin::policy::Services;
use crate::snapshot::Snapshot;
use crate::state::Counters;
use crate::telemetry::metric::Metrics;
use policies::Policies;
use std::path::PathBuf;
use std::sync::Arc;

/// What compiling needs beside the configuration; one for the process.
pub struct Workshop {
    pub runtime: Runtime,
    pub artifacts: Artifacts,
    pub services: Arc<Services>,
    pub counters: Arc<Counters>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

/// What runs now, of which a reload takes over what did not change.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    pub snapshot: &'a Snapshot,
    pub tls: &'a [Arc<Tls>],
}

/// A configuration that is ready to run.
pub struct Compiled {
    pub snapshot: Snapshot,
    pub listeners: Vec<ListenerSpec>,
    /// Those that the configuration names, in order of name.
    pub plugins: Vec<Arc<Plugin>>,
}

/// Compiles `config`. `base` is the folder that a policy's relative paths start from; `running`: none at
/// the start.
///
/// # Errors
/// `report`, with everything that is wrong added to what it held.
pub fn compile(
    workshop: &Workshop,
    config: &Config,
    base: PathBuf,
    mut report: Report,
    running: Option<Running<'_>>,
) -> Result<Compiled, Report> {
    let before = running.map(|running| running.snapshot);
    let generation = before.map_or(1, |snapshot| snapshot.generation + 1);
    let listeners =
        listeners::compile(workshop, config, running.map_or(&[], |running| running.tls), &mut report);
    let (upstreams, upstream_names) = upstreams::compile(config, before, &mut report);
    let mut catalogue = Catalogue::new(config.plugins.directory.clone(), before);
    let mut policies = Policies::new(workshop, config, base, before);
    let (router, routes) =
        routes::compile(workshop, config, &upstream_names, &mut catalogue, &mut policies, &mut report);
    // A named policy that stands in no chain is configured all the same: its mistakes are
    // mistakes, and whoever adds it to a chain later gets no surprise.
    policies.rest(&mut catalogue, &mut report);
    let directory = consumers::compile(config, &workshop.counters, &mut report);
    let (Some(router), Some(directory), 0) = (router, directory, report.errors()) else {
        return Err(report);
    };
    let snapshot = Snapshot {
        generation,
        router,
        routes,
        policies: policies.into_slots(),
        upstream_metrics: upstreams
            .iter()
            .map(|upstream| workshop.metrics.upstream(upstream.name()))
            .collect(),
        upstreams,
        upstream_names,
        directory: Arc::new(directory),
        trusted: trusted(config),
    };
    Ok(Compiled { snapshot, listeners, plugins: catalogue.used() })
}

fn trusted(config: &Config) -> Trusted {
    let networks = config.server.trusted_proxies.iter();
    Trusted::new(networks.filter_map(|(address, bits)| ipnet::IpNet::new(*address, *bits).ok()).collect())
}

/// Adds an error at a place of the configuration.
fn refuse(report: &mut Report, at: &crate::config::model::At, message: impl Into<String>) {
    report.push(Diagnostic::error(at, message));
}
