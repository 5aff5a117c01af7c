//! Python: an interpreter in each component, put there by componentize-py.
//!
//! It works on a copy of the sources, since it leaves its own files beside them, with our helper
//! there: `import witgate`.

use crate::tool::{Tool, run};
use crate::world::World;
use crate::{Project, clear, save, unusable};
use std::fs;
use std::path::Path;

const SDK: (&str, &str) = ("witgate.py", include_str!("../sdk/python/witgate.py"));

/// # Errors
/// As `crate::build`.
pub fn build(project: &Project, folder: &Path) -> Result<Vec<u8>, String> {
    let (wit, modules, bindings) = (folder.join("wit"), folder.join("python"), folder.join("bindings"));
    World::write(project, &wit)?;
    project.root()?;
    clear(&modules)?;
    project.copy_sources(|name| modules.join(name))?;
    save(&modules.join(SDK.0), SDK.1.as_bytes())?;
    clear(&bindings)?;
    // Packages of this machine's Python would be taken in, from wherever it finds an environment.
    let empty = folder.join("environment");
    let packages = empty.join("lib/site-packages");
    fs::create_dir_all(&packages).map_err(|error| unusable(&packages, &error))?;
    let tool = || -> Result<_, String> {
        let mut tool = Tool::ComponentizePy.command()?;
        tool.current_dir(&project.folder).env("VIRTUAL_ENV", &empty).env_remove("PYTHONPATH");
        // Of its own stack nothing can be learnt about the policy.
        tool.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        tool.arg("--quiet").arg("--wit-path").arg(&wit).args(["--world", &project.world]);
        Ok(tool)
    };
    run(tool()?.arg("bindings").arg(&bindings))?;
    save(&bindings.join(SDK.0), SDK.1.as_bytes())?;
    let component = folder.join("interpreter.wasm");
    run(tool()?
        .args(["componentize", "policy", "--python-path"])
        .arg(&modules)
        .arg("--output")
        .arg(&component))?;
    fs::read(&component).map_err(|error| unusable(&component, &error))
}
