//! `witgate plugin build`: a crate or project becomes a component where a gateway finds it.
//!
//! Its language's tools build it, the plugin room loads it as the gateway would, and only what loads
//! is put in place, by a rename: a gateway that watches the directory never sees half a file, nor
//! one that it must refuse.

use super::describe;
use super::rust;
use super::survey::{Bench, Found, Survey};
use super::watch::Watch;
use crate::plugin::load::Origin;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use witgate_toolchain::{BUILD, MANIFEST, Options, Project};

#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of a crate, or of a project in another language
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the component goes: a folder (a gateway's plugin directory, say), or a file whose name
    /// without `.wasm` becomes the plugin's; by default into the crate's folder
    #[arg(short, long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// Keep what tells lines of source, for the stacks of traps
    #[arg(long)]
    debug: bool,
    /// Build again whenever a source changes, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Builds, and tells to `out` what came of it. Returns the exit code.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> io::Result<u8> {
    let mut watch = Watch::of(&arguments.folder);
    let bench = match Bench::open() {
        Ok(bench) => bench,
        Err(why) => return super::said(Err(why), out),
    };
    loop {
        let code = match build(arguments, &bench) {
            Ok((target, survey)) => {
                writeln!(out, "wrote {}", target.display())?;
                write!(out, "{}", describe::text(&survey))?;
                0
            }
            Err(why) => super::said(Err(why), out)?,
        };
        if !arguments.watch {
            return Ok(code);
        }
        writeln!(out, "watching {}", arguments.folder.display())?;
        out.flush()?;
        watch.wait();
    }
}

/// Builds the plugin in `folder` into the folder itself; returns the component's path.
///
/// # Errors
/// Why there is none.
pub fn component(folder: &Path) -> Result<PathBuf, String> {
    let arguments = Arguments { folder: folder.to_path_buf(), out: None, debug: false, watch: false };
    build(&arguments, &Bench::open()?).map(|(target, _)| target)
}

fn build(arguments: &Arguments, bench: &Bench) -> Result<(PathBuf, Survey), String> {
    let Source { name, artifact, bytes } = built(&arguments.folder, arguments.debug)?;
    let target = target(arguments.out.as_deref(), &arguments.folder, &name)?;
    let name = target.file_stem().and_then(OsStr::to_str).unwrap_or(&name).to_string();
    let found = Found { name, origin: Origin::File(artifact), bytes };
    let survey = bench.survey(&found, None).map_err(|why| format!("{why}\nit was built, but put nowhere"))?;
    install(&target, &found.bytes).map_err(|error| format!("{}: {error}", target.display()))?;
    Ok((target, survey))
}

/// A component fresh from its tools.
struct Source {
    name: String,
    artifact: PathBuf,
    bytes: Vec<u8>,
}

fn built(folder: &Path, debug: bool) -> Result<Source, String> {
    if Project::is_in(folder) {
        let project = Project::read(folder)?;
        let bytes = witgate_toolchain::build(&project, Options { debug })?;
        let artifact = project.folder.join(BUILD).join("component.wasm");
        return Ok(Source { name: project.name, artifact, bytes });
    }
    if !folder.join("Cargo.toml").is_file() {
        return Err(format!(
            "{} holds neither a crate nor a {MANIFEST}: `witgate plugin new NAME` makes a plugin",
            folder.display()
        ));
    }
    let folder = fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (guest, bytes) = rust::build(&folder, debug)?;
    Ok(Source { name: guest.name, artifact: guest.artifact, bytes })
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
}
