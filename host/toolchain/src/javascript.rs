//! JavaScript and TypeScript: an engine in each component, put there by componentize-qjs.
//!
//! Sources and our helpers lie side by side in `build/src`, so that policies import them by
//! `./witgate.js`. The prelude is imported on the policy's own first line: lines keep their numbers,
//! and what the engine says names `/src/policy.js`, as seen from `build`.
//! TypeScript is checked and stripped by its compiler first, by the project's own `tsconfig.json`.

use crate::project::SOURCES;
use crate::tool::{Tool, run, run_quietly};
use crate::world::World;
use crate::{Language, Project, clear, save, unusable};
use std::fs;
use std::path::Path;

const FILES: [(&str, &str); 4] = [
    ("prelude.js", include_str!("../sdk/javascript/prelude.js")),
    ("witgate.js", include_str!("../sdk/javascript/witgate.js")),
    ("witgate.d.ts", include_str!("../sdk/javascript/witgate.d.ts")),
    ("contract.d.ts", include_str!("../sdk/javascript/contract.d.ts")),
];

/// # Errors
/// As `crate::build`.
pub fn build(project: &Project, folder: &Path) -> Result<Vec<u8>, String> {
    let (wit, modules) = (folder.join("wit"), folder.join(SOURCES));
    World::write(project, &wit)?;
    let root = project.root()?;
    clear(&modules)?;
    for (name, text) in FILES {
        save(&modules.join(name), text.as_bytes())?;
    }
    match project.language {
        Language::TypeScript => compile(project, &modules)?,
        _ => project.copy_sources(|name| modules.join(name))?,
    }
    let entry = modules.join(root.with_extension("js").file_name().unwrap_or_default());
    let text = fs::read_to_string(&entry).map_err(|error| unusable(&entry, &error))?;
    save(&entry, format!("import \"./prelude.js\"; {text}").as_bytes())?;

    let component = folder.join("engine.wasm");
    let mut tool = Tool::ComponentizeQjs.command()?;
    tool.current_dir(&project.folder).arg("--wit").arg(&wit).args(["--world", &project.world, "--js"]);
    tool.arg(&entry).arg("--module-root").arg(folder).args(["--sync", "--output"]).arg(&component);
    run_quietly(&mut tool)?;
    fs::read(&component).map_err(|error| unusable(&component, &error))
}

fn compile(project: &Project, modules: &Path) -> Result<(), String> {
    if !project.folder.join("tsconfig.json").is_file() {
        return Err(format!("{} has no tsconfig.json", project.folder.display()));
    }
    let mut tool = Tool::TypeScript.command()?;
    tool.current_dir(&project.folder).args(["--project", ".", "--pretty", "false", "--noEmit", "false"]);
    tool.args(["--noEmitOnError", "true", "--rootDir", SOURCES, "--outDir"]).arg(modules);
    run(&mut tool)
}
