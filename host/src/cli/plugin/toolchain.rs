//! What builds guests on this machine: a cargo with the Wasm target, its linker and its flags.
//!
//! `build` calls it. Rustup's toolchain, or Debian's where `tools/wasm-target.sh` of a checkout
//! had to set that up: it left a note, which the environment (`WITGATE_WASM_*`) overrides.
//! Installs nothing.

use super::checkout;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

pub const TARGET: &str = "wasm32-unknown-unknown";
/// Where Debian's toolchain is, if `tools/wasm-target.sh` had to take that.
const NOTE: &str = "tools/wasm-target.env";

pub struct Toolchain {
    cargo: String,
    rustc: Option<String>,
    linker: String,
    flags: Vec<String>,
    folder: PathBuf,
}

impl Toolchain {
    /// The toolchain that a build in `folder` takes; `sdk` is the SDK's folder, if that is known, and
    /// `members` are those of a workspace that the crate is not alone in.
    ///
    /// # Errors
    /// What is missing, with the one command that installs it.
    pub fn find(folder: &Path, sdk: Option<&Path>, members: &[PathBuf]) -> Result<Toolchain, String> {
        let checkout = checkout(sdk.unwrap_or(folder));
        let settings = Settings::read(checkout.as_ref().map(|checkout| checkout.join(NOTE)).as_deref());
        let rustc = settings.get("WITGATE_WASM_RUSTC");
        // Where it was built is nobody's business. The last prefix that fits counts.
        let mut flags = Vec::new();
        let inside = |member: &Path| checkout.as_ref().is_some_and(|checkout| member.starts_with(checkout));
        flags.extend(members.iter().filter(|member| !inside(member)).map(|member| renamed(member, "plugin")));
        if let Some(checkout) = checkout {
            flags.push(renamed(&checkout, "witgate"));
        }
        if let Some(cargo_home) = cargo_home() {
            flags.push(renamed(&cargo_home, "cargo"));
        }
        let sysroot = settings.get("WITGATE_WASM_SYSROOT");
        if let Some(sysroot) = &sysroot {
            flags.push(format!("--sysroot={sysroot}"));
        }
        if let Some(wasm_ld) = settings.get("WITGATE_WASM_LD") {
            flags.extend(["-Clink-arg=--wasm-ld-path".into(), format!("-Clink-arg={wasm_ld}")]);
        }
        let toolchain = Toolchain {
            cargo: settings.get("WITGATE_WASM_CARGO").unwrap_or_else(cargo_here),
            linker: settings.get("WITGATE_WASM_LINKER").unwrap_or_else(|| "wasm-component-ld".into()),
            rustc,
            flags,
            folder: folder.to_path_buf(),
        };
        let sysroot = match sysroot {
            Some(sysroot) => sysroot,
            None => toolchain.sysroot()?,
        };
        if !Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Err(format!(
                "Rust's {TARGET} target is missing: run `rustup target add {TARGET}`\n(where rustup cannot \
                 fetch it, `make wasm-target` in a checkout of witgate sets up Debian's)"
            ));
        }
        Ok(toolchain)
    }

    /// A cargo in the crate's folder, whose configuration it thus reads.
    pub fn cargo(&self) -> Command {
        let mut cargo = command(&self.cargo, &self.folder);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker);
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        cargo
    }

    /// The arguments that make it build a component, whatever profiles its manifest has: where
    /// these say nothing (`opt-level`), the manifest has its say, and then cargo's `release`.
    pub fn settings(&self, debug: bool) -> Vec<OsString> {
        let flags = serde_json::Value::from(self.flags.clone());
        let settings = [
            "profile.guest.inherits=\"release\"".to_string(),
            "profile.guest.lto=true".into(),
            "profile.guest.codegen-units=1".into(),
            // Names of functions stay, so that the stack of a trap can be read.
            format!("profile.guest.debug={}", if debug { "\"line-tables-only\"" } else { "false" }),
            format!("profile.guest.strip={}", if debug { "\"none\"" } else { "\"debuginfo\"" }),
            "profile.guest.panic=\"abort\"".into(),
            // A JSON list of strings is a TOML one; the flags of the crate's own configuration stay.
            format!("target.{TARGET}.rustflags={flags}"),
        ];
        let mut arguments: Vec<OsString> =
            ["--profile", "guest", "--target", TARGET].map(OsString::from).into();
        for setting in settings {
            arguments.extend(["--config".into(), setting.into()]);
        }
        arguments
    }

    fn sysroot(&self) -> Result<String, String> {
        let rustc = self.rustc.clone().or_else(|| env::var("RUSTC").ok()).unwrap_or_else(|| "rustc".into());
        let output = command(&rustc, &self.folder).args(["--print", "sysroot"]).output();
        let output = output.map_err(|error| unstarted(&rustc, &error))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().into()),
            false => {
                Err(format!("`{rustc}` does not run: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
        }
    }
}

/// The flag that has rustc write `name` for this folder, into panics and lines of traps.
pub fn renamed(folder: &Path, name: &str) -> String {
    format!("--remap-path-prefix={}={name}", folder.display())
}

/// A cargo in `folder` that can tell of crates there, whatever it can build.
pub fn plain_cargo(folder: &Path) -> Command {
    let set = env::var("WITGATE_WASM_CARGO").ok().filter(|set| !set.is_empty());
    command(&set.unwrap_or_else(cargo_here), folder)
}

/// Under `cargo run` and `cargo test` it is the cargo that runs them.
fn cargo_here() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// In the crate's folder, and without what is meant for programs of this machine.
fn command(program: &str, folder: &Path) -> Command {
    const DROPPED: [&str; 4] =
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"];
    let mut command = Command::new(program);
    command.current_dir(folder);
    for name in DROPPED {
        command.env_remove(name);
    }
    command
}

/// Why a program of the toolchain did not start.
pub fn unstarted(program: &str, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("`{program}` was not found: https://rustup.rs installs Rust"),
        _ => format!("`{program}` does not start: {error}"),
    }
}

fn cargo_home() -> Option<PathBuf> {
    let set = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    set.or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// `WITGATE_WASM_*`: the environment, else the note.
struct Settings(HashMap<String, String>);

impl Settings {
    fn read(note: Option<&Path>) -> Settings {
        let text = note.and_then(|note| fs::read_to_string(note).ok()).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Settings(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        env::var(name).ok().or_else(|| self.0.get(name).cloned()).filter(|value| !value.is_empty())
    }
}
