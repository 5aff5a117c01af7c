//! The configuration: from files to a checked model.
//!
//! Called by `cli`, `server` (at start and at every reload) and `compile`. Never opens a socket,
//! compiles Wasm or reads the clock, and imports no other room.

mod check;
pub mod diagnostic;
mod effective;
pub mod model;
mod schema;
pub mod source;
#[cfg(test)]
mod tests;
pub mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use diagnostic::Severity;
use model::Config;
use source::Source;

pub use diagnostic::{Diagnostic, Report};
pub use effective::effective;
pub use schema::schema;

/// A configuration that may run, and what was read for it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// The configuration file and all that `${file:}` named: what to watch.
    pub files: Vec<PathBuf>,
    pub warnings: Vec<Diagnostic>,
    /// The configuration file's folder, where relative paths begin.
    pub folder: PathBuf,
    report: Report,
}

impl Loaded {
    /// The warnings, able to show lines of the file: for `compile` to add to.
    pub fn report(&self) -> Report {
        self.report.clone()
    }
}

/// Reads and checks a file; an error holds all that is wrong with it.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    check_source(&source::read(path)?)
}

/// The same of a text, as if it stood in the file at `path`.
pub fn load_text(path: &Path, text: String) -> Result<Loaded, Report> {
    check_source(&source::parse(path, text)?)
}

/// The same of a file that has been read already.
pub fn check_source(source: &Source) -> Result<Loaded, Report> {
    let (config, report) = check::check(source)?;
    let warnings =
        report.diagnostics().into_iter().filter(|said| said.severity == Severity::Warning).cloned().collect();
    Ok(Loaded { config, files: source.files.clone(), warnings, folder: source.folder.clone(), report })
}

/// The configuration of `witgate run --to URL`: a plain reverse proxy, without an admin port.
pub fn reverse_proxy(to: &str, listen: SocketAddr) -> Result<Config, String> {
    if let Err(mistake) = units::endpoint(to) {
        return Err(format!("\"{to}\" {}; expected {}", mistake.what, mistake.expected));
    }
    let text = serde_json::json!({
        "listeners": [{ "name": "public", "address": listen.to_string() }],
        // `$${`: an argument is no configuration, and expands nothing.
        "upstreams": { "origin": { "endpoints": [to.replace("${", "$${")] } },
        "apis": [{ "name": "proxy", "path": "/", "upstream": "origin" }],
    });
    match load_text(Path::new("--to"), text.to_string()) {
        Ok(loaded) => Ok(loaded.config),
        Err(report) => Err(report.to_string()),
    }
}
