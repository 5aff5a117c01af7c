//! `witgate compile-component`: one component compiled, in a process of its own.
//!
//! Only the gateway calls it; see `plugin::artifact` for why it is a process.

use crate::plugin::artifact;
use crate::plugin::engine::Allocation;
use std::path::Path;
use std::process::ExitCode;

pub fn run(source: &Path, target: &Path, mode: &str, parent: u32) -> ExitCode {
    let allocation = match mode {
        "pooling" => Allocation::Pooling,
        _ => Allocation::OnDemand,
    };
    match artifact::compile(source, target, allocation, parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => super::fail(&why),
    }
}
