//! Builds the policies beside this crate into components, with a cargo of its own.
//!
//! The target directory is inside OUT_DIR, so that the two cargos never wait for each other's lock,
//! and nothing of the outer build's flags reaches the guests: under clippy, coverage or rustdoc
//! they are the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

#[path = "../../tools/guest_cargo.rs"]
mod guest_cargo;

use guest_cargo::{TARGET, Toolchain, variable};

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
    for input in [
        "plugins",
        "plugin-sdk",
        "wit",
        "Cargo.toml",
        "Cargo.lock",
        "tools/guest_cargo.rs",
        "tools/wasm-target.env",
    ] {
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
