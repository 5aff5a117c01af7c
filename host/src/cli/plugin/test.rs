//! `witgate plugin test`: a plugin's own cases, run offline in the gateway's runtime.
//!
//! The cases stand in `tests/*.yaml` beside the plugin; `trial` runs them.

use super::build;
use crate::cli::trial::{self, Options, Subject};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// The plugin's folder, which is built first, or a component
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    plugin: PathBuf,
    /// Suites, or folders of them; by default `tests` beside the plugin
    #[arg(long, value_name = "FILE|DIR")]
    cases: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Runs the cases and tells of them to `out`. Returns the exit code.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> io::Result<u8> {
    let (component, folder) = match component(&arguments.plugin) {
        Ok(found) => found,
        Err(why) => return super::said(Err(why), out),
    };
    let cases = match arguments.cases.is_empty() {
        true => vec![folder.join("tests")],
        false => arguments.cases.clone(),
    };
    let suites = match cases.first().filter(|_| arguments.cases.is_empty()) {
        Some(default) if !default.is_dir() => {
            Err(format!("there are no cases: {} is no folder (docs/testing.md tells how)", default.display()))
        }
        _ => trial::suites(&cases),
    };
    match suites {
        Ok(suites) => trial::run(&Subject::Plugin { path: &component }, &suites, &arguments.options, out),
        Err(why) => super::said(Err(why), out),
    }
}

/// The component to test, and the folder beside which its cases stand.
fn component(plugin: &Path) -> Result<(PathBuf, PathBuf), String> {
    if plugin.is_dir() {
        return Ok((build::component(plugin)?, plugin.to_path_buf()));
    }
    if !plugin.is_file() {
        return Err(format!("{} is neither a folder nor a component", plugin.display()));
    }
    if plugin.extension().is_none_or(|extension| extension != "wasm") {
        return Err(format!("{} is no component: its name does not end in `.wasm`", plugin.display()));
    }
    let folder = plugin.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((plugin.to_path_buf(), folder.to_path_buf()))
}
