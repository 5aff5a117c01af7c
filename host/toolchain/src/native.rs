//! C, C++ and Zig: bindings for C in process, and `zig` as the compiler.
//!
//! Names in the bindings do not change with the world (`wg_types_verdict_t`, `exports_wg_on_request`),
//! so that a policy that grows into another world stays as it is. Our own helpers stand beside them.

use crate::component::{Metadata, encode, without_lines};
use crate::tool::{Tool, run};
use crate::world::World;
use crate::{Language, Options, Project, bindings, save, unusable};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Helpers of our own. Those of C are for C++ too.
const SDK: [(&str, &str); 3] = [
    ("witgate.h", include_str!("../sdk/c/witgate.h")),
    ("witgate.hpp", include_str!("../sdk/cpp/witgate.hpp")),
    ("witgate.zig", include_str!("../sdk/zig/witgate.zig")),
];
/// Of linear memory; zig reserves 16 MiB otherwise, which is all that a policy has.
const STACK_BYTES: u32 = 64 << 10;

/// # Errors
/// As `crate::build`.
pub fn build(project: &Project, options: Options, folder: &Path) -> Result<Vec<u8>, String> {
    let world = World::of(project)?;
    let zig = Zig { project, options, folder };
    zig.generate(&world)?;
    // The bindings are C in all three languages, and their warnings are nobody's.
    zig.run(&["cc", "-c", "-w"], &["build/bindings/wg.c", "-o", "build/wg.o"])?;
    match project.language {
        Language::Zig => {
            project.root()?;
            zig.compile()?;
            zig.link("cc", &["build/policy.o".into()])?;
        }
        language => {
            let compiler = if language == Language::Cpp { "c++" } else { "cc" };
            let sources = project.sources()?;
            // As seen from the project, so that messages name what the author wrote.
            let relative = sources.iter().map(|file| file.strip_prefix(&project.folder).unwrap_or(file));
            let relative: Vec<_> = relative.map(|file| file.display().to_string()).collect();
            zig.link(compiler, &relative)?;
        }
    }
    let core = folder.join("core.wasm");
    let module = fs::read(&core).map_err(|error| unusable(&core, &error))?;
    let module = if options.debug { module } else { without_lines(&module)? };
    encode(&world, module, Metadata::Within)
}

/// zig in the project's folder, where `build` is `folder`.
struct Zig<'a> {
    project: &'a Project,
    options: Options,
    folder: &'a Path,
}

impl Zig<'_> {
    fn command(&self) -> Result<Command, String> {
        let mut command = Tool::Zig.command()?;
        command.current_dir(&self.project.folder);
        command.env("ZIG_LOCAL_CACHE_DIR", self.folder.join("zig-cache"));
        Ok(command)
    }

    /// Its C compiler, as `how` says, on `what`.
    fn run(&self, how: &[&str], what: &[&str]) -> Result<(), String> {
        let mut command = self.command()?;
        command.args(how).args(["-target", "wasm32-wasi", "-O2", "-D_GNU_SOURCE", "-Ibuild/bindings"]);
        // zig takes an order to strip lines for one to strip names too, by which the stacks of traps are
        // told: nothing is stripped by it.
        command.arg(if self.options.debug { "-g" } else { "-g0" });
        run(command.args(what))
    }

    fn link(&self, compiler: &str, sources: &[String]) -> Result<(), String> {
        let stack = format!("-Wl,-z,stack-size={STACK_BYTES}");
        let mut what = vec![
            "-mexec-model=reactor",
            &stack,
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Wno-missing-field-initializers",
        ];
        if compiler == "c++" {
            what.extend(["-std=c++20", "-fno-exceptions"]);
        }
        what.extend(sources.iter().map(String::as_str));
        what.extend(["build/wg.o", "build/bindings/wg_component_type.o", "-o", "build/core.wasm"]);
        self.run(&[compiler], &what)
    }

    /// Zig's own part: the bindings as Zig sees them, and an object of the policy.
    fn compile(&self) -> Result<(), String> {
        let mut translate = self.command()?;
        translate.args(["translate-c", "-target", "wasm32-wasi", "-lc", "-Ibuild/bindings"]);
        let output =
            translate.arg("build/bindings/wg.h").output().map_err(|error| format!("zig: {error}"))?;
        if !output.status.success() {
            return Err(format!("no bindings for Zig: {}", String::from_utf8_lossy(&output.stderr)));
        }
        save(&self.folder.join("bindings/wg.zig"), &output.stdout)?;
        let mut object = self.command()?;
        object.args(["build-obj", "-target", "wasm32-wasi", "-lc", "-O", "ReleaseSafe"]);
        object.args(["--dep", "wg", "--dep", "witgate", "-Mroot=src/policy.zig"]);
        object.args(["-target", "wasm32-wasi", "-lc", "-O", "ReleaseSafe"]);
        object.args(["--dep", "wg", "-Mwitgate=build/bindings/witgate.zig"]);
        object.args(["-target", "wasm32-wasi", "-lc", "-O", "ReleaseSafe", "-Mwg=build/bindings/wg.zig"]);
        run(object.arg("-femit-bin=build/policy.o"))
    }

    fn generate(&self, world: &World) -> Result<(), String> {
        let mut options = wit_bindgen_c::Opts { rename_world: Some("wg".into()), ..Default::default() };
        for (full, short) in world.interfaces() {
            options.rename.push((full, format!("wg_{}", short.replace('-', "_"))));
        }
        let folder = self.folder.join("bindings");
        for (name, bytes) in bindings(world, &mut *options.build())? {
            save(&folder.join(name), &bytes)?;
        }
        SDK.iter().try_for_each(|(name, text)| save(&folder.join(name), text.as_bytes()))
    }
}
