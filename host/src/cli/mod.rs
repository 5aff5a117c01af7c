//! The command line: a file per subcommand. Prints, and chooses the exit code.
//!
//! `main` calls it. Everything that a subcommand does is done by the rooms below; here it is only
//! asked for and told. Never opens a socket, and never sees a request.

pub mod check;
mod compile_component;
pub mod key;
mod plans;
mod plugin;
mod run;
pub mod schema;
mod test;
mod trial;

use clap::{Parser, Subcommand};
use std::io::{self, Write};
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
    /// Validate a configuration with its plugins, and explain the chain of each operation
    Check {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "witgate.yaml")]
        config: PathBuf,
        /// One JSON document instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration, those of the plugins merged in
    Schema {
        /// A configuration whose plugin directory counts too
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Take requests through the chains of a configuration, offline, and compare what comes of it
    Test(test::Arguments),
    /// Plugins of your own: from nothing to running
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Subscription keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Compile a component: what the gateway calls itself for
    #[command(name = "compile-component", hide = true)]
    CompileComponent { source: PathBuf, target: PathBuf, mode: String, lines: String, parent: u32 },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key for a consumer: prints it once, and writes its hash into the configuration
    Add {
        /// The consumer's name
        name: String,
        /// The product that it subscribes to; may be left out where there is only one
        #[arg(long)]
        product: Option<String>,
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "witgate.yaml")]
        config: PathBuf,
    },
}

pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check { config, json } => {
            code(check::run(&config, json, plans::describe, &mut io::stdout(), &mut io::stderr()))
        }
        Command::Schema { config } => match plans::schemas(config.as_deref()) {
            Ok(schemas) => code(schema::run(&schemas, &mut io::stdout()).map(|()| 0)),
            Err(why) => fail(&why),
        },
        Command::Key(KeyCommand::Add { name, product, config }) => {
            code(key::run(&config, &name, product.as_deref(), &mut io::stdout(), &mut io::stderr()))
        }
        Command::Test(arguments) => code(test::run(&arguments, &mut io::stdout())),
        Command::Plugin(command) => plugin::run(command),
        Command::CompileComponent { source, target, mode, lines, parent } => {
            compile_component::run(&source, &target, &mode, &lines, parent)
        }
    }
}

/// The control runtime of a command that runs guests without a gateway: they run on the calling
/// thread, which must not be one of its own.
fn control() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))
}

/// The exit code of what printed its own errors; a reader that went away is nobody's mistake.
fn code(result: io::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Says what went wrong, and that it did.
fn fail(why: &str) -> ExitCode {
    complain(why.trim_end());
    ExitCode::FAILURE
}

/// Says it on standard error, which may be full, or nobody's any more: then it stays unsaid.
fn complain(why: &str) {
    let _ = writeln!(io::stderr(), "{why}");
}
