//! What the plugins of a configuration say: their plans for `check`, their schemas for `schema`.
//!
//! Compiles the configuration as a gateway would, with sockets and state left alone.

use super::check::Note;
use crate::compile::{Catalogue, Workshop, compile};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{At, Config, Link, Policy as Written};
use crate::config::{self, Loaded, Report};
use crate::plugin::Policy;
use crate::plugin::plan::BodyMode;
use crate::server;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Compiles `loaded` and describes the plan of each policy; what is wrong goes into `report`.
pub fn describe(loaded: &Loaded, report: &mut Report) -> Vec<Note> {
    let mut config = loaded.config.clone();
    // A check must not need the file that the running gateway has open.
    config.state.file = None;
    let whole = At { file: Arc::from(""), line: 1, column: 1, path: String::new() };
    let compiled = with_workshop(&config, |workshop| {
        compile(workshop, &config, loaded.folder.clone(), report.clone(), None)
    });
    let compiled = match compiled {
        Ok(Ok(compiled)) => compiled,
        Ok(Err(with_errors)) => {
            *report = with_errors;
            return Vec::new();
        }
        Err(why) => {
            report.push(Diagnostic::error(&whole, why));
            return Vec::new();
        }
    };
    let policies = &compiled.snapshot.policies;
    let mut notes = Vec::new();
    for written in written(&config) {
        let settings = written.config.to_string();
        let made = policies.iter().find(|policy| {
            let named = written.name.as_deref().is_none_or(|name| **policy.label() == *name);
            named && policy.plugin.name() == written.plugin && *policy.settings.config == *settings
        });
        if let Some(policy) = made {
            notes.push(Note { policy: written.at.clone(), lines: lines(policy) });
        }
    }
    notes
}

/// The schemas of all plugins that a configuration could name.
///
/// # Errors
/// Why they cannot be loaded, as a sentence.
pub fn schemas(path: Option<&Path>) -> Result<Vec<(String, Value)>, String> {
    let config = match path {
        Some(path) => config::load(path).map_err(|report| report.render(""))?.config,
        None => config::reverse_proxy("http://127.0.0.1", SocketAddr::from(([127, 0, 0, 1], 0)))?,
    };
    with_workshop(&config, |workshop| {
        let mut catalogue = Catalogue::new(config.plugins.directory.clone(), None);
        let names = catalogue.names();
        let schemas = names.into_iter().map(|name| {
            let schema = catalogue.get(&name, workshop)?.schema().value().clone();
            Ok((name, schema))
        });
        schemas.collect()
    })?
}

fn with_workshop<T>(config: &Config, work: impl FnOnce(&Workshop) -> T) -> Result<T, String> {
    let control = super::control()?;
    // Plugins are configured on this thread, which must not be one of the runtime's.
    let workshop = server::workshop(config, 1, control.handle())?;
    Ok(work(&workshop))
}

fn written(config: &Config) -> impl Iterator<Item = &Written> {
    let chains = config
        .apis
        .iter()
        .flat_map(|api| api.chain.iter().chain(api.operations.iter().flat_map(|operation| &operation.chain)));
    let placed = chains.filter_map(|link| match link {
        Link::Named { .. } => None,
        Link::InPlace(policy) => Some(policy),
    });
    config.policies.iter().chain(placed)
}

fn lines(policy: &Policy) -> Vec<String> {
    let plan = &policy.plan;
    let mut lines = vec![format!("hooks {}", policy.plugin.exports().names().join(", "))];
    for (what, names) in [
        ("reads", &plan.request_reads),
        ("reads of the response", &plan.response_reads),
        ("reads of the log", &plan.log_reads),
        ("writes", &plan.writes),
    ] {
        if !names.is_empty() {
            lines.push(format!("{what} {}", names.join(", ")));
        }
    }
    for (what, mode) in [("request body", plan.request_body), ("response body", plan.response_body)] {
        match mode {
            BodyMode::Skip => {}
            BodyMode::Buffer(limit) => lines.push(format!("{what} buffered up to {limit} bytes")),
            BodyMode::Stream => lines.push(format!("{what} streamed")),
        }
    }
    let grants = &policy.settings.grants;
    for (what, names) in [("upstreams", &grants.upstreams), ("URLs", &grants.urls)] {
        if !names.is_empty() {
            lines.push(format!("may call {what} {}", names.iter().cloned().collect::<Vec<_>>().join(", ")));
        }
    }
    if !grants.secrets.is_empty() {
        lines.push(format!(
            "may use secrets {}",
            grants.secrets.keys().cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    lines
}
