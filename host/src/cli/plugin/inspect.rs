//! `witgate plugin inspect`: what a component is and may do, or why the gateway would refuse it.
//!
//! Reads a file, or one of the gateway's own plugins by name. Exits 1 for a component that does
//! not fit and for a configuration that was asked for and is refused.

use super::survey::{Bench, Found, Outcome};
use super::{describe, misfit};
use crate::plugin::load::{self, Origin};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// A component, or the name of one of the gateway's own plugins
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration to plan for, as JSON text; by default `{}`, if the plugin takes that
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
    /// The WIT of the component's world instead, whether it fits or not
    #[arg(long, conflicts_with_all = ["config", "json"])]
    wit: bool,
}

/// Tells to `out`; returns the exit code.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> io::Result<u8> {
    let config = match arguments.config.as_deref().map(serde_json::from_str::<Value>).transpose() {
        Ok(config) => config,
        Err(error) => return super::said(Err(format!("--config is not JSON: {error}")), out),
    };
    let found = match find(&arguments.file) {
        Ok(found) => found,
        Err(why) => return super::said(Err(why), out),
    };
    if arguments.wit {
        return super::said(Bench::open().and_then(|bench| wit(&found, &bench)), out);
    }
    let survey = match Bench::open().and_then(|bench| bench.survey(&found, config)) {
        Ok(survey) => survey,
        Err(why) if arguments.json => {
            writeln!(out, "{:#}", json!({ "name": found.name, "fits": false, "why": why }))?;
            return Ok(1);
        }
        Err(why) => return super::said(Err(why), out),
    };
    match arguments.json {
        true => writeln!(out, "{:#}", describe::json(&survey))?,
        false => write!(out, "{}", describe::text(&survey))?,
    }
    Ok(u8::from(matches!(survey.outcome, Outcome::Refused { given: true, .. })))
}

fn find(file: &Path) -> Result<Found, String> {
    let bundled = witgate_plugins::PLUGINS.iter().find(|plugin| Path::new(plugin.name) == file);
    if let (false, Some(plugin)) = (file.exists(), bundled) {
        return Ok(Found {
            name: plugin.name.to_string(),
            origin: Origin::Bundled,
            bytes: plugin.wasm.to_vec(),
        });
    }
    let bytes = load::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    Ok(Found { name, origin: Origin::File(file.to_path_buf()), bytes })
}

/// The world of a component with the packages that it names.
fn wit(found: &Found, bench: &Bench) -> Result<String, String> {
    if !wasmparser::Parser::is_component(&found.bytes) {
        return Err(format!("plugin `{}` has no WIT to show: it is no component", found.name));
    }
    if let Err(why) = bench.compiled(found) {
        return Err(format!("plugin `{}` has no WIT to show: it {why}", found.name));
    }
    let undecodable =
        |error: &dyn std::fmt::Display| format!("plugin `{}` has no WIT to show: {error}", found.name);
    let decoded = misfit::decode(&found.bytes).map_err(|why| undecodable(&why))?;
    let (resolve, package) = (decoded.resolve(), decoded.package());
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != package).collect();
    let mut printer: wit_component::WitPrinter = wit_component::WitPrinter::default();
    printer.print(resolve, package, &others).map_err(|error| undecodable(&format!("{error:#}")))?;
    Ok(String::from(printer.output))
}
