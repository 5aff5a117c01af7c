//! `witgate test`: requests through the chains of a configuration, with canned upstreams.
//!
//! The cases stand in `tests/*.yaml` beside the configuration; `trial` runs them.

use super::trial::{self, Options, Subject};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "witgate.yaml")]
    config: PathBuf,
    /// Suites, or folders of them; by default `tests` beside the configuration
    #[arg(value_name = "FILE|DIR")]
    cases: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Runs the cases and tells of them to `out`. Returns the exit code.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> io::Result<u8> {
    let cases = match arguments.cases.is_empty() {
        true => vec![arguments.config.parent().unwrap_or(Path::new("")).join("tests")],
        false => arguments.cases.clone(),
    };
    match trial::suites(&cases) {
        Ok(suites) => {
            trial::run(&Subject::Config { path: &arguments.config }, &suites, &arguments.options, out)
        }
        Err(why) => {
            super::complain(&why);
            Ok(1)
        }
    }
}
