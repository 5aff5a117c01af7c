//! Builds the policies beside this crate into components, with a cargo of its own.
//!
//! The target directory is inside OUT_DIR, so that the two cargos never wait for each other's lock,
//! and nothing of the outer build's flags reaches the guests: under clippy, coverage or rustdoc
//! they are the same bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).ok_or("plugins/bundle is not in the workspace")?;
    for input in ["plugins", "plugin-sdk", "wit", "Cargo.toml", "Cargo.lock", "tools/wasm-target.env"] {
        // A file that is missing would make cargo run this each time.
        if root.join(input).exists() {
            println!("cargo::rerun-if-changed={}", root.join(input).display());
        }
    }

    let names = plugins(&root.join("plugins"))?;
    let toolchain = Toolchain::find(root)?;
    let target_dir = out.join("guests");
    let mut cargo = toolchain.cargo(root);
    cargo.args(["build", "--locked", "--lib", "--profile", "guest", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_dir);
    for name in &names {
        cargo.args(["--package", &format!("witgate-plugin-{name}")]);
    }
    // What it prints must not be taken for instructions of this script.
    let status = cargo.stdout(Stdio::null()).status().map_err(|error| format!("{cargo:?}: {error}"))?;
    if !status.success() {
        return Err("the first-party plugins do not build; the reason stands below".into());
    }

    let mut list = String::from("/// All of them, by name.\npub const PLUGINS: &[Bundled] = &[\n");
    for name in &names {
        let file = format!("witgate_plugin_{}.wasm", name.replace('-', "_"));
        let wasm = target_dir.join(TARGET).join("guest").join(file);
        list += &format!("    Bundled {{ name: {name:?}, wasm: include_bytes!({wasm:?}) }},\n");
    }
    list += "];\n";
    fs::write(out.join("plugins.rs"), list).map_err(|error| format!("plugins.rs: {error}"))
}

/// The directories in `plugins/` that hold a policy, by name.
fn plugins(directory: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("{}: {error}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "bundle" && entry.path().join("Cargo.toml").exists() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What builds the guests: the cargo that runs this script, or Debian's as `tools/wasm-target.sh`
/// left it where rustup cannot fetch the target.
struct Toolchain {
    rustc: String,
    cargo: String,
    linker: String,
    flags: Vec<String>,
}

impl Toolchain {
    fn find(root: &Path) -> Result<Self, String> {
        let settings = Settings::read(&root.join("tools/wasm-target.env"));
        let rustc = match settings.get("WITGATE_WASM_RUSTC") {
            Some(rustc) => rustc,
            None => variable("RUSTC")?,
        };
        let cargo = match settings.get("WITGATE_WASM_CARGO") {
            Some(cargo) => cargo,
            None => variable("CARGO")?,
        };
        let linker = settings.get("WITGATE_WASM_LINKER").unwrap_or_else(|| "wasm-component-ld".into());
        let mut flags = vec![format!("--remap-path-prefix={}=witgate", root.display())];
        let cargo_home =
            env::var("CARGO_HOME").ok().or_else(|| env::var("HOME").ok().map(|home| home + "/.cargo"));
        if let Some(cargo_home) = cargo_home {
            flags.push(format!("--remap-path-prefix={cargo_home}=cargo"));
        }
        let sysroot = match settings.get("WITGATE_WASM_SYSROOT") {
            Some(sysroot) => {
                flags.push(format!("--sysroot={sysroot}"));
                sysroot
            }
            None => sysroot(&rustc)?,
        };
        if let Some(wasm_ld) = settings.get("WITGATE_WASM_LD") {
            flags.extend(["-Clink-arg=--wasm-ld-path".into(), format!("-Clink-arg={wasm_ld}")]);
        }
        if !Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").exists() {
            return Err(format!(
                "the first-party plugins need Rust's {TARGET} target: \
                 run `rustup target add {TARGET}` or `make wasm-target`"
            ));
        }
        Ok(Toolchain { rustc, cargo, linker, flags })
    }

    /// A cargo that inherits nothing of the outer build but where crates come from, and its job
    /// slots.
    fn cargo(&self, root: &Path) -> Command {
        const KEPT: [&str; 3] = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_INCREMENTAL"];
        const KEPT_PREFIXES: [&str; 4] = ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
        const DROPPED: [&str; 6] = [
            "RUSTFLAGS",
            "RUSTDOCFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "LLVM_PROFILE_FILE",
            "TARGET",
        ];
        let mut cargo = Command::new(&self.cargo);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let is_kept = KEPT.contains(&&*name) || KEPT_PREFIXES.iter().any(|kept| name.starts_with(kept));
            if DROPPED.contains(&&*name) || name.starts_with("CARGO_") && !is_kept {
                cargo.env_remove(&*name);
            }
        }
        cargo
            .current_dir(root)
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker)
            // Set, it comes before whatever flags the user's own configuration has.
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags.join("\u{1f}"));
        cargo
    }
}

/// `WITGATE_WASM_*`: the environment, else the file that the fallback wrote.
struct Settings(HashMap<String, String>);

impl Settings {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Settings(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        println!("cargo::rerun-if-env-changed={name}");
        env::var(name).ok().or_else(|| self.0.get(name).cloned()).filter(|value| !value.is_empty())
    }
}

fn sysroot(rustc: &str) -> Result<String, String> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("{rustc}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
