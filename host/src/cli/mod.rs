//! The command line: a file per subcommand. Prints, and chooses the exit code.
//!
//! `main` calls it. Everything that a subcommand does is done by the rooms below; here it is only
//! asked for and told.

mod compile_component;
mod run;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// An API gateway whose every policy is a sandboxed WebAssembly component.
#[derive(Parser)]
#[command(name = "witgate", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve: from a configuration file, or as a plain reverse proxy
    Run(run::Arguments),
    /// Compile a component: what the gateway calls itself for
    #[command(name = "compile-component", hide = true)]
    CompileComponent { source: PathBuf, target: PathBuf, mode: String },
}

pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::CompileComponent { source, target, mode } => compile_component::run(&source, &target, &mode),
    }
}

/// Says what went wrong, and that it did.
fn fail(why: &str) -> ExitCode {
    eprintln!("{}", why.trim_end());
    ExitCode::FAILURE
}
