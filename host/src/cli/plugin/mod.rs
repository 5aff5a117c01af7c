//! `witgate plugin`: a plugin of one's own, from nothing to running. A file per subcommand.
//!
//! `cli` calls it. Plugins are loaded here as the gateway loads them, so that what passes here
//! passes there; nothing here opens a socket.

mod build;
mod describe;
mod inspect;
mod misfit;
mod new;
mod rust;
mod survey;
mod test;
mod toolchain;
mod watch;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Write a plugin, in any of eight languages, that builds, passes its tests and does something useful
    New(new::Arguments),
    /// Build a plugin into a component, and put it where a gateway finds it
    Build(build::Arguments),
    /// Run a plugin's cases offline, in the gateway's own runtime
    Test(test::Arguments),
    /// Tell what a component is and may do, or why the gateway would refuse it
    Inspect(inspect::Arguments),
}

pub fn run(command: Command) -> ExitCode {
    let mut out = io::stdout();
    super::code(match command {
        Command::New(arguments) => said(new::run(&arguments), &mut out),
        Command::Build(arguments) => build::run(&arguments, &mut out),
        Command::Test(arguments) => test::run(&arguments, &mut out),
        Command::Inspect(arguments) => inspect::run(&arguments, &mut out),
    })
}

/// Prints what was done, or why it was not; returns the exit code.
fn said(result: Result<String, String>, out: &mut dyn Write) -> io::Result<u8> {
    match result {
        Ok(text) => write!(out, "{}", printable(&text)).map(|()| 0),
        Err(why) => {
            super::complain(&printable(why.trim_end()));
            Ok(1)
        }
    }
}

/// A component's names and texts are a stranger's: none reaches the terminal as a command.
pub fn printable(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}")
}

/// The checkout of witgate that `folder` is in, or else the one that this program was built in.
fn checkout(folder: &Path) -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let folders = folder.ancestors().chain(program.iter().flat_map(|program| program.ancestors()));
    folders.filter(|folder| is_checkout(folder)).map(Path::to_path_buf).next()
}

fn is_checkout(folder: &Path) -> bool {
    is_sdk(&folder.join("plugin-sdk")) && folder.join("wit").is_dir()
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.lines().any(|line| line.trim() == "name = \"witgate-plugin-sdk\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_is_no_command_for_the_terminal() {
        assert_eq!(printable("no `\u{1b}[2Jhook`\nat all\r"), "no `\u{fffd}[2Jhook`\nat all\u{fffd}");
    }

    #[test]
    fn a_checkout_is_found_from_within() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(checkout(&root.join("plugins/no/such")).as_deref(), Some(root));
        assert!(is_sdk(&root.join("plugin-sdk")) && !is_sdk(root));
    }
}
