//! From a policy's project in any language to a component.
//!
//! `witgate plugin build` calls it, and `plugin new` for the files of a new project. What needs no
//! foreign tool is done here, in process: bindings from the WIT, and the component around the core
//! module, with an adapter of our own so that no WASI import is left. What only a language's own
//! tool can do, that is called. Never installs anything, and never loads what it has built: whether
//! a component fits is the gateway's business. Rust needs none of this, its compiler makes
//! components; so crates are not built here.

mod component;
mod go;
mod javascript;
mod native;
mod project;
mod python;
mod scaffold;
mod tool;
mod world;

pub use project::{Language, MANIFEST, Project};
pub use scaffold::scaffold;
pub use tool::Tool;
pub use world::{POLICY_WIT, contract};

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a project's bindings and half-done work are; may be deleted at any time.
pub const BUILD: &str = "build";

/// How a component is to be built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep lines of source (DWARF), for the stacks of traps; a few times larger.
    pub debug: bool,
}

/// Builds the project's component, or takes that of the last build if nothing has changed. The
/// tools' own messages go to standard error.
///
/// # Errors
/// Why there is none: what is missing with the command that installs it, or that the sources do
/// not build.
pub fn build(project: &Project, options: Options) -> Result<Vec<u8>, String> {
    let inputs = project.inputs()?;
    let fingerprint = fingerprint(project, options, &inputs)?;
    let folder = project.folder.join(BUILD);
    let (stamp, kept) = (folder.join("fingerprint"), folder.join("component.wasm"));
    if fs::read_to_string(&stamp).is_ok_and(|last| last == fingerprint)
        && let Ok(component) = fs::read(&kept)
    {
        return Ok(component);
    }
    fs::create_dir_all(&folder).map_err(|error| unusable(&folder, &error))?;
    let _ = fs::remove_file(&stamp);
    let component = match project.language {
        Language::C | Language::Cpp | Language::Zig => native::build(project, options, &folder)?,
        Language::Go => go::build(project, options, &folder)?,
        Language::JavaScript | Language::TypeScript => javascript::build(project, &folder)?,
        Language::Python => python::build(project, &folder)?,
    };
    save(&kept, &component)?;
    save(&stamp, fingerprint.as_bytes())?;
    Ok(component)
}

/// Of all that goes into a build but the tools, which cargo-like precision would have to ask for
/// their versions each time: delete `build/` after a new one.
fn fingerprint(project: &Project, options: Options, inputs: &[PathBuf]) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    add(concat!(env!("CARGO_PKG_VERSION"), env!("WITGATE_TOOLCHAIN_SOURCES")).as_bytes());
    add(project.name.as_bytes());
    add(&[u8::from(options.debug)]);
    for input in inputs {
        add(input.strip_prefix(&project.folder).unwrap_or(input).as_os_str().as_encoded_bytes());
        add(&fs::read(input).map_err(|error| unusable(input, &error))?);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// What a generator makes for a world: file names and contents.
fn bindings(
    world: &world::World,
    generator: &mut dyn wit_bindgen_core::WorldGenerator,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = wit_bindgen_core::Files::default();
    let mut resolve = world.resolve.clone();
    generator
        .generate(&mut resolve, world.id, &mut files)
        .map_err(|error| format!("no bindings for the world: {error:#}"))?;
    Ok(files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect())
}

/// Takes away what an earlier build left in `folder`, so that nothing which is gone is found there.
fn clear(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(folder, &error)),
        _ => Ok(()),
    }
}

/// Writes unless it is there already, so that compilers which look at times see no change.
fn save(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
