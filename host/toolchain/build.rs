//! Assembles the adapter, and lists the files of the Go support module.
//!
//! Generated Go code imports a support module that comes inside the crate which generates it. It is
//! taken from there, so that a build of a Go policy fetches nothing, and both are of one version.

use serde_json::Value;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What a build of a policy needs of the support module; the rest is for asynchronous worlds.
const GO_FILES: [&str; 9] = [
    "go.mod",
    "LICENSE",
    "wit/types/option.go",
    "wit/types/result.go",
    "wit/types/tuple.go",
    "wit/types/unit.go",
    "wit/runtime/runtime.go",
    "wit/runtime/empty.s",
    "README.md",
];

fn main() -> ExitCode {
    match sources().and_then(|()| assemble()).and_then(|()| go_support()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Tells builds of one witgate from those of another, whose own files may differ.
fn sources() -> Result<(), String> {
    let mut hasher = DefaultHasher::new();
    let mut open = ["src", "sdk", "adapter", "../../wit"].map(PathBuf::from).to_vec();
    while let Some(path) = open.pop() {
        println!("cargo::rerun-if-changed={}", path.display());
        let unreadable = |error| format!("{}: {error}", path.display());
        if path.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(&path)
                .map_err(unreadable)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()
                .map_err(unreadable)?;
            entries.sort();
            open.extend(entries);
        } else {
            hasher.write(&fs::read(&path).map_err(unreadable)?);
        }
    }
    println!("cargo::rustc-env=WITGATE_TOOLCHAIN_SOURCES={:016x}", hasher.finish());
    Ok(())
}

fn assemble() -> Result<(), String> {
    let wasm = wat::parse_file("adapter/preview1.wat").map_err(|error| error.to_string())?;
    write("preview1.wasm", &wasm)
}

fn go_support() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let package = package()?;
    let mut list =
        String::from("/// The Go support module, by path.\npub const FILES: &[(&str, &str)] = &[\n");
    for file in GO_FILES {
        let path = package.join("src/pkg").join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        list += &format!("    ({file:?}, {text:?}),\n");
    }
    list += "];\n";
    write("go_support.rs", list.as_bytes())
}

/// The folder of the crate that generates Go code.
fn package() -> Result<PathBuf, String> {
    let metadata = |offline: bool| {
        let mut cargo = Command::new(variable("CARGO")?);
        cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
        cargo.arg(variable("TARGET")?).arg("--manifest-path");
        cargo.arg(Path::new(&variable("CARGO_MANIFEST_DIR")?).join("Cargo.toml"));
        if offline {
            cargo.arg("--offline");
        }
        let output = cargo.output().map_err(|error| format!("{cargo:?}: {error}"))?;
        match output.status.success() {
            true => serde_json::from_slice::<Value>(&output.stdout).map_err(|error| error.to_string()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    let metadata = metadata(true).or_else(|_| metadata(false))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let package = packages.iter().find(|package| package["name"] == "wit-bindgen-go");
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let folder = manifest.and_then(|manifest| Path::new(manifest).parent());
    folder.map(Path::to_path_buf).ok_or_else(|| "cargo metadata: no wit-bindgen-go".into())
}

fn write(name: &str, bytes: &[u8]) -> Result<(), String> {
    let path = PathBuf::from(variable("OUT_DIR")?).join(name);
    fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}
