//! Builds the components that tests and benches load: `tests/guests/*`, `benches/guests/*` and the
//! demo's own policy.
//!
//! The target directory is inside OUT_DIR, so that the two cargos never wait for each other's lock.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

#[path = "../../tools/guest_cargo.rs"]
mod guest_cargo;

use guest_cargo::{TARGET, Toolchain, variable};

/// The package, the file it becomes, and the variable that tells the crate where that is.
const GUESTS: &[(&str, &str, &str)] = &[
    ("witgate-test-probe", "witgate_test_probe.wasm", "WITGATE_TEST_PROBE"),
    ("witgate-test-caller", "witgate_test_caller.wasm", "WITGATE_TEST_CALLER"),
    ("witgate-bench-plain", "witgate_bench_plain.wasm", "WITGATE_BENCH_PLAIN"),
    ("tail-number", "tail_number.wasm", "AIRLINE_POLICY"),
];

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
    let root = here.ancestors().nth(2).ok_or("tests/support is not in the workspace")?;
    let inputs = [
        "tests/guests",
        "benches/guests",
        "examples/airline/policy",
        "plugin-sdk",
        "wit",
        "Cargo.toml",
        "tools/wasm-target.env",
    ];
    for input in inputs {
        // A file that is missing would make cargo run this each time.
        if root.join(input).exists() {
            println!("cargo::rerun-if-changed={}", root.join(input).display());
        }
    }
    let target_dir = out.join("guests");
    let mut cargo = Toolchain::find(root)?.cargo(root);
    cargo.args(["build", "--locked", "--lib", "--profile", "guest", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_dir);
    for (package, _, _) in GUESTS {
        cargo.args(["--package", package]);
    }
    // What it prints must not be taken for instructions of this script.
    let status = cargo.stdout(Stdio::null()).status().map_err(|error| format!("{cargo:?}: {error}"))?;
    if !status.success() {
        return Err("the test guests do not build; the reason stands below".into());
    }
    for (_, file, name) in GUESTS {
        println!("cargo::rustc-env={name}={}", target_dir.join(TARGET).join("guest").join(file).display());
    }
    Ok(())
}
