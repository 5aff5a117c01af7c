//! Go: bindings in process, `go build` for the core module.
//!
//! The author's files are the package `policy`; the generated module imports that. Nothing is
//! fetched: the support module that generated code uses comes with its generator.

use crate::component::{Metadata, encode};
use crate::project::SOURCES;
use crate::tool::{Tool, run};
use crate::world::World;
use crate::{Options, Project, bindings, clear, save, unusable};
use std::fs;
use std::path::Path;

mod support {
    include!(concat!(env!("OUT_DIR"), "/go_support.rs"));
}

/// What the generator calls things, and what they are called here, for people: `witgate/plan`,
/// `witgate/types`; the author's packages are `src/` and, for filters of bodies, `src/body_filter/`.
const NAMES: [(&str, &str); 4] = [
    ("\"wit_component/export_wit_world\"", "export_wit_world \"witgate/src\""),
    ("export_witgate_policy_body_stream", FILTER),
    ("wit_component", "witgate"),
    ("witgate_policy_", ""),
];
const FILTER: &str = "body_filter";
const SDK: (&str, &str) = ("verdict/verdict.go", include_str!("../sdk/go/verdict.go"));

/// # Errors
/// As `crate::build`.
pub fn build(project: &Project, options: Options, folder: &Path) -> Result<Vec<u8>, String> {
    let world = World::of(project)?;
    let module = folder.join("go");
    clear(&module)?;
    generate(&world, &module)?;
    project.sources()?;
    // A filter's package is generated in part.
    project.copy_sources(|name| match name.starts_with(FILTER) {
        true => module.join(name),
        false => module.join(SOURCES).join(name),
    })?;
    let core = folder.join("core.wasm");
    let mut go = Tool::Go.command()?;
    go.current_dir(&module).args(["build", "-buildmode=c-shared", "-trimpath", "-o"]).arg(&core);
    // Names of functions stay, lines where they are asked for. The support module reaches into the
    // runtime, which a linker of its own accord forbids.
    go.arg(match options.debug {
        true => "-ldflags=-checklinkname=0",
        false => "-ldflags=-w -checklinkname=0",
    });
    go.arg(".");
    go.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
    go.env("GOFLAGS", "-mod=mod").env("GOWORK", "off").env_remove("GOROOT");
    run(&mut go)?;
    let core = fs::read(&core).map_err(|error| unusable(&core, &error))?;
    encode(&world, core, Metadata::Missing)
}

/// A Go module with the bindings, our helper and the support module in it.
fn generate(world: &World, module: &Path) -> Result<(), String> {
    let options = wit_bindgen_go::Opts { format: wit_bindgen_go::Format::False, ..Default::default() };
    for (name, bytes) in bindings(world, &mut *options.build())? {
        let mut text = String::from_utf8(bytes).map_err(|error| format!("{name}: {error}"))?;
        if name == "go.mod" {
            text += "\nreplace go.bytecodealliance.org/pkg => ./pkg\n";
        }
        for (generated, here) in NAMES {
            text = text.replace(generated, here);
        }
        let name = NAMES.iter().fold(name, |name, (generated, here)| name.replace(generated, here));
        save(&module.join(name), text.as_bytes())?;
    }
    for (name, text) in support::FILES {
        save(&module.join("pkg").join(name), text.as_bytes())?;
    }
    save(&module.join(SDK.0), SDK.1.as_bytes())
}
