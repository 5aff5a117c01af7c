//! `witgate compile-component`: one component compiled, in a process of its own.
//!
//! Only the gateway calls it; see `plugin::artifact` for why it is a process.

use crate::plugin::artifact;
use crate::plugin::engine::{Allocation, Lines};
use std::path::Path;
use std::process::ExitCode;

pub fn run(source: &Path, target: &Path, mode: &str, lines: &str, parent: u32) -> ExitCode {
    let allocation = match mode {
        "pooling" => Allocation::Pooling,
        _ => Allocation::OnDemand,
    };
    let lines = if lines == "lines" { Lines::Told } else { Lines::Untold };
    match artifact::compile(source, target, (allocation, lines), parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => super::fail(&why),
    }
}
