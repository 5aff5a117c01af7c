//! `witgate plugin build`: a crate becomes a component where a gateway finds it.
//!
//! Cargo builds it, the plugin room loads it as the gateway would, and only what loads is put in
//! place, by a rename: a gateway that watches the directory never sees half a file, nor one that
//! it must refuse.

use super::describe;
use super::survey::{Bench, Found, Survey};
use super::toolchain::{TARGET, Toolchain, plain_cargo, unstarted};
use crate::plugin::load::Origin;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

#[derive(clap::Args)]
pub struct Arguments {
    /// The crate's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the component goes: a folder (a gateway's plugin directory, say), or a file whose name
    /// without `.wasm` becomes the plugin's; by default into the crate's folder
    #[arg(short, long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
}

/// Builds, and tells to `out` what came of it. Returns the exit code.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> io::Result<u8> {
    match build(arguments) {
        Ok((target, survey)) => {
            writeln!(out, "wrote {}", target.display())?;
            write!(out, "{}", describe::text(&survey))?;
            Ok(0)
        }
        Err(why) => super::said(Err(why), out),
    }
}

/// Builds the plugin in `folder` into the folder itself; returns the component's path.
///
/// # Errors
/// Why there is none.
pub fn component(folder: &Path) -> Result<PathBuf, String> {
    build(&Arguments { folder: folder.to_path_buf(), out: None }).map(|(target, _)| target)
}

fn build(arguments: &Arguments) -> Result<(PathBuf, Survey), String> {
    let folder = &arguments.folder;
    if !folder.join("Cargo.toml").is_file() {
        return Err(format!("{} holds no crate: `witgate plugin new NAME` makes one", folder.display()));
    }
    let folder = fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let guest = Guest::read(&folder)?;
    let toolchain = Toolchain::find(&folder, guest.sdk.as_deref())?;
    let target = target(arguments.out.as_deref(), &arguments.folder, &guest.name)?;

    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--lib", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    cargo.args(toolchain.settings());
    let program = cargo.get_program().to_string_lossy().into_owned();
    let status = cargo.stdin(Stdio::null()).status().map_err(|error| unstarted(&program, &error))?;
    if !status.success() {
        return Err("the plugin does not build; the reason stands above".into());
    }
    let bytes =
        fs::read(&guest.artifact).map_err(|error| format!("{}: {error}", guest.artifact.display()))?;

    let name = target.file_stem().and_then(OsStr::to_str).unwrap_or(&guest.name).to_string();
    let found = Found { name, origin: Origin::File(guest.artifact.clone()), bytes };
    let survey =
        Bench::open()?.survey(&found, None).map_err(|why| format!("{why}\nit was built, but put nowhere"))?;
    install(&target, &found.bytes).map_err(|error| format!("{}: {error}", target.display()))?;
    Ok((target, survey))
}

/// What cargo knows of the crate.
struct Guest {
    name: String,
    /// Where its component will be.
    artifact: PathBuf,
    /// The SDK, if it depends on one by path.
    sdk: Option<PathBuf>,
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
        Ok(Guest { name: name.to_string(), artifact, sdk })
    }
}

/// The file to write. A folder must be there already, so that a misspelt one is no surprise.
fn target(out: Option<&Path>, folder: &Path, name: &str) -> Result<PathBuf, String> {
    let out = out.unwrap_or(folder);
    if out.is_dir() {
        return Ok(out.join(format!("{name}.wasm")));
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (out.extension(), out.file_stem().and_then(OsStr::to_str)) {
        (Some(extension), Some(_)) if extension == "wasm" && parent.is_dir() => Ok(out.to_path_buf()),
        (Some(extension), _) if extension == "wasm" => {
            Err(format!("there is no folder {}", parent.display()))
        }
        _ => Err(format!("{} is no folder, and no file whose name ends in `.wasm`", out.display())),
    }
}

/// Writes under a name that no gateway takes for a plugin, and renames.
fn install(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = target.with_extension(format!("wasm.{:016x}", crate::clock::random_u64()));
    let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, target));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let target = |out: Option<&Path>| target(out, folder.path(), "mine");
        assert_eq!(target(None), Ok(at("mine.wasm")));
        assert_eq!(target(Some(folder.path())), Ok(at("mine.wasm")));
        assert_eq!(target(Some(&at("other.wasm"))), Ok(at("other.wasm")));
        assert!(target(Some(&at("plugins"))).unwrap_err().contains("is no folder"));
        assert!(target(Some(&at("no/other.wasm"))).unwrap_err().contains("there is no folder"));
        assert!(target(Some(&at(".wasm"))).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("p.wasm");
        fs::write(&target, b"old").unwrap();
        install(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(install(&folder.path().join("no/p.wasm"), b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

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
        assert_eq!(guest.artifact, Path::new("/t/wasm32-unknown-unknown/guest/my_p.wasm"));
        let refused =
            |metadata: &Value, manifest: &str| Guest::of(metadata, Path::new(manifest)).err().unwrap();
        assert!(refused(&library(json!(["lib"])), "/w/p/Cargo.toml").contains("crate-type"));
        assert!(refused(&library(json!(["cdylib"])), "/w/Cargo.toml").contains("is a workspace"));
        assert!(refused(&json!({}), "/w/Cargo.toml").contains("is a workspace"));
    }
}
