//! Builds the components that the tests load: `tests/guests/*` and the demo's own policy.
//!
//! A nested cargo with a target directory of its own, because the outer one holds the lock of
//! the usual one. Cargo's own variables for this build must not leak into it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Package and the file it becomes.
const GUESTS: &[(&str, &str)] =
    &[("witgate-test-probe", "witgate_test_probe.wasm"), ("witgate-test-caller", "witgate_test_caller.wasm")];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for watched in ["tests/guests", "wit", "plugin-sdk/src", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = out.join("guests");

    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).args(["build", "--locked", "--profile", "guest"]);
    cargo.args(["--target", "wasm32-unknown-unknown", "--target-dir"]).arg(&target);
    for (package, _) in GUESTS {
        cargo.args(["-p", package]);
    }
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME"
            || name.starts_with("RUSTC")
            || name == "RUSTFLAGS"
        {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the test guests do not build; `make wasm-target` installs their target");
    let built = target.join("wasm32-unknown-unknown/guest");
    for (package, file) in GUESTS {
        let name = package.replace('-', "_").to_uppercase();
        println!("cargo::rustc-env={name}={}", built.join(file).display());
    }
}
