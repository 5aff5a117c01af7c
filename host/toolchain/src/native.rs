//! C, C++ and Zig: bindings for C in process, and `zig` as the compiler.
//!
//! Names in the bindings do not change with the world (`wg_types_verdict_t`, `exports_wg_on_request`),
//! so that a policy that grows into another world stays as it is. What C and C++ add is in `sdk/c`,
//! beside the bindings.

use crate::component::{Metadata, encode};
use crate::project::SOURCES;
use crate::tool::{Tool, run};
use crate::world::World;
use crate::{Language, Options, Project, save, unusable};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wit_bindgen_core::Files;

/// zig reserves 16 MiB otherwise, which is all that a policy has.
const STACK: &str = "-Wl,-z,stack-size=65536";

/// Files of our own that stand beside the bindings.
const C_SDK: (&str, &str) = ("witgate.h", include_str!("../sdk/c/witgate.h"));

/// # Errors
/// As `crate::build`.
pub fn build(project: &Project, options: Options, folder: &Path) -> Result<Vec<u8>, String> {
    let world = World::of(project)?;
    let bindings = folder.join("bindings");
    generate(&world, &bindings)?;
    for (name, text) in [C_SDK] {
        save(&bindings.join(name), text.as_bytes())?;
    }
    let core = folder.join("core.wasm");
    // Bindings that are not for C++ are compiled as C, once.
    let object = folder.join("wg.o");
    run(zig(project, folder)?
        .args(["cc", "-c"])
        .args(flags(options))
        .args(["-I".into(), bindings.clone()])
        .args([bindings.join("wg.c"), "-o".into(), object.clone()]))?;
    let compiler = match project.language {
        Language::Cpp => "c++",
        _ => "cc",
    };
    let mut command = zig(project, folder)?;
    command.arg(compiler).args(flags(options)).args(["-mexec-model=reactor", STACK, "-Wall", "-Wextra"]);
    command.args(["-Wno-unused-parameter".to_string(), format!("-I{}", bindings.display())]);
    for source in project.sources()? {
        // As seen from the project, so that messages name what the author wrote.
        command.arg(source.strip_prefix(&project.folder).unwrap_or(&source));
    }
    command.args([object, bindings.join("wg_component_type.o")]).arg("-o").arg(&core);
    run(&mut command)?;
    let module = fs::read(&core).map_err(|error| unusable(&core, &error))?;
    encode(&world, module, Metadata::Within)
}

fn zig(project: &Project, folder: &Path) -> Result<Command, String> {
    let mut command = Tool::Zig.command()?;
    command.current_dir(&project.folder).env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"));
    Ok(command)
}

fn flags(options: Options) -> Vec<String> {
    let mut flags: Vec<String> = ["-target", "wasm32-wasi", "-O2", "-D_GNU_SOURCE"].map(String::from).into();
    // Names of functions stay: the stack of a trap is told by them.
    flags.extend(match options.debug {
        true => vec!["-g".to_string()],
        false => vec!["-g0".into(), "-Wl,--strip-debug".into()],
    });
    flags
}

fn generate(world: &World, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut options = wit_bindgen_c::Opts::default();
    options.rename_world = Some("wg".into());
    for (full, short) in world.interfaces() {
        options.rename.push((full, format!("wg_{}", short.replace('-', "_"))));
    }
    let mut files = Files::default();
    let mut resolve = world.resolve.clone();
    let generated = options.build().generate(&mut resolve, world.id, &mut files);
    generated.map_err(|error| format!("no bindings for C: {error:#}"))?;
    let mut written = Vec::new();
    for (name, bytes) in files.iter() {
        save(&folder.join(name), bytes)?;
        written.push(folder.join(name));
    }
    let _ = SOURCES;
    Ok(written)
}
