//! A crate, built into a component by cargo.
//!
//! `build` calls it. Rust's compiler makes components itself: all that is to know is where it puts
//! them.

use super::toolchain::{TARGET, Toolchain, plain_cargo, renamed, unstarted};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Builds the crate in `folder`, which is absolute.
///
/// # Errors
/// Why there is no component.
pub fn build(folder: &Path, debug: bool) -> Result<(Guest, Vec<u8>), String> {
    let guest = Guest::read(folder)?;
    let toolchain = Toolchain::find(folder, guest.sdk.as_deref(), &guest.members)?;
    let mut cargo = toolchain.cargo();
    cargo.args(["rustc", "--lib", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    cargo.args(toolchain.settings(debug));
    // For this crate alone: a flag that each folder has its own of would build all that it depends on anew,
    // where folders share a target directory.
    cargo.arg("--").arg(renamed(folder, "plugin"));
    let program = cargo.get_program().to_string_lossy().into_owned();
    let status = cargo.stdin(Stdio::null()).status().map_err(|error| unstarted(&program, &error))?;
    if !status.success() {
        return Err("the plugin does not build; the reason stands above".into());
    }
    let bytes =
        fs::read(&guest.artifact).map_err(|error| format!("{}: {error}", guest.artifact.display()))?;
    Ok((guest, bytes))
}

/// What cargo knows of the crate.
pub struct Guest {
    pub name: String,
    /// Where its component will be.
    pub artifact: PathBuf,
    /// The SDK, if it depends on one by path.
    sdk: Option<PathBuf>,
    /// Folders of the crates of its workspace, some of which may be built into it; none if it is alone.
    members: Vec<PathBuf>,
}

impl Guest {
    fn read(folder: &Path) -> Result<Guest, String> {
        let mut cargo = plain_cargo(folder);
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]).stdin(Stdio::null());
        let program = cargo.get_program().to_string_lossy().into_owned();
        let output = cargo.output().map_err(|error| unstarted(&program, &error))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
        Guest::of(&metadata, &folder.join("Cargo.toml"))
    }

    fn of(metadata: &Value, manifest: &Path) -> Result<Guest, String> {
        let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
        let package = packages
            .iter()
            .find(|package| package["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest))
            .ok_or_else(|| {
                format!("{} is a workspace; name the folder of one plugin in it", manifest.display())
            })?;
        let targets = package["targets"].as_array().map_or(&[][..], Vec::as_slice);
        let is_cdylib = |target: &&Value| {
            target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        let library = targets.iter().find(is_cdylib).and_then(|target| target["name"].as_str());
        let (Some(name), Some(library), Some(directory)) =
            (package["name"].as_str(), library, metadata["target_directory"].as_str())
        else {
            return Err(format!(
                "{} makes no plugin: `[lib]` needs `crate-type = [\"cdylib\"]`",
                manifest.display()
            ));
        };
        let file = format!("{}.wasm", library.replace('-', "_"));
        let artifact = Path::new(directory).join(TARGET).join("guest").join(file);
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        let sdk = dependencies.iter().find(|dependency| dependency["name"] == "witgate-plugin-sdk");
        let sdk = sdk.and_then(|sdk| sdk["path"].as_str()).map(PathBuf::from);
        let manifests =
            packages.iter().filter_map(|package| package["manifest_path"].as_str()).map(Path::new);
        let folders = manifests.filter_map(Path::parent).map(Path::to_path_buf);
        let members = if packages.len() > 1 { folders.collect() } else { Vec::new() };
        Ok(Guest { name: name.to_string(), artifact, sdk, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cargo_knows() {
        let library = |types: Value| {
            json!({
                "target_directory": "/t",
                "packages": [
                    { "name": "other", "manifest_path": "/w/other/Cargo.toml", "targets": [] },
                    { "name": "my-p", "manifest_path": "/w/p/Cargo.toml",
                      "targets": [{ "name": "my_p", "crate_types": types }],
                      "dependencies": [{ "name": "witgate-plugin-sdk", "path": "/w/plugin-sdk" }] },
                ],
            })
        };
        let guest = Guest::of(&library(json!(["cdylib"])), Path::new("/w/p/Cargo.toml")).unwrap();
        assert_eq!(guest.name, "my-p");
        assert_eq!(guest.sdk.as_deref(), Some(Path::new("/w/plugin-sdk")));
        assert_eq!(guest.members, [Path::new("/w/other"), Path::new("/w/p")]);
        assert_eq!(guest.artifact, Path::new("/t/wasm32-unknown-unknown/guest/my_p.wasm"));
        let refused =
            |metadata: &Value, manifest: &str| Guest::of(metadata, Path::new(manifest)).err().unwrap();
        assert!(refused(&library(json!(["lib"])), "/w/p/Cargo.toml").contains("crate-type"));
        assert!(refused(&library(json!(["cdylib"])), "/w/Cargo.toml").contains("is a workspace"));
        assert!(refused(&json!({}), "/w/Cargo.toml").contains("is a workspace"));
    }
}
