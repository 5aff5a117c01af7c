//! A project: its manifest, its language, and the files that go into it.

use crate::{Tool, save, unusable};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The file that makes a folder a project.
pub const MANIFEST: &str = "plugin.yaml";
/// Where the sources are.
pub const SOURCES: &str = "src";
/// A manifest says three things.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// More is no policy, but a folder that was named by mistake.
const INPUTS_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    C,
    Cpp,
    Zig,
    Go,
    JavaScript,
    TypeScript,
    Python,
}

impl Language {
    pub const ALL: [Language; 7] = [
        Language::C,
        Language::Cpp,
        Language::Zig,
        Language::Go,
        Language::JavaScript,
        Language::TypeScript,
        Language::Python,
    ];

    /// As manifests and the command line say it.
    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Cpp => "c++",
            Language::Zig => "zig",
            Language::Go => "go",
            Language::JavaScript => "javascript",
            Language::TypeScript => "typescript",
            Language::Python => "python",
        }
    }

    /// # Errors
    /// The names that there are, and the nearest.
    pub fn named(name: &str) -> Result<Language, String> {
        let folded = name.to_ascii_lowercase();
        let meant = match folded.as_str() {
            "cpp" | "cxx" => "c++",
            "golang" => "go",
            "js" => "javascript",
            "ts" => "typescript",
            "py" => "python",
            other => other,
        };
        if let Some(language) = Language::ALL.into_iter().find(|language| language.name() == meant) {
            return Ok(language);
        }
        let names = Language::ALL.map(Language::name);
        let mut why = format!("{name:?} is no language that witgate builds: {}", names.join(", "));
        let near = names.into_iter().max_by(|a, b| similarity(meant, a).total_cmp(&similarity(meant, b)));
        if let Some(near) = near.filter(|near| similarity(meant, near) > 0.75) {
            why += &format!("\ndid you mean `{near}`?");
        }
        Err(why)
    }

    /// What folders are called for it.
    pub fn folder(self) -> &'static str {
        if self == Language::Cpp { "cpp" } else { self.name() }
    }

    /// What its builds call.
    pub fn tools(self) -> &'static [Tool] {
        match self {
            Language::C | Language::Cpp | Language::Zig => &[Tool::Zig],
            Language::Go => &[Tool::Go],
            Language::JavaScript => &[Tool::ComponentizeQjs],
            Language::TypeScript => &[Tool::TypeScript, Tool::ComponentizeQjs],
            Language::Python => &[Tool::ComponentizePy],
        }
    }

    /// The ending of its sources.
    pub fn extension(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::Zig => "zig",
            Language::Go => "go",
            Language::JavaScript => "js",
            Language::TypeScript => "ts",
            Language::Python => "py",
        }
    }
}

fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

/// A folder with a manifest.
#[derive(Clone, Debug)]
pub struct Project {
    /// Absolute.
    pub folder: PathBuf,
    /// The plugin's.
    pub name: String,
    pub language: Language,
    /// A world of `witgate:policy`, or one of the project's own in `wit/`.
    pub world: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    language: String,
    world: String,
}

impl Project {
    /// Whether `folder` holds a project of this kind.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(MANIFEST).is_file()
    }

    /// # Errors
    /// What is wrong with the manifest, and where.
    pub fn read(folder: &Path) -> Result<Project, String> {
        let path = folder.join(MANIFEST);
        let size = fs::metadata(&path).map_err(|error| unusable(&path, &error))?.len();
        if size > MANIFEST_BYTES_MAX {
            return Err(format!("{}: {size} bytes; at most {MANIFEST_BYTES_MAX} are read", path.display()));
        }
        let text = fs::read_to_string(&path).map_err(|error| unusable(&path, &error))?;
        let manifest: Manifest =
            serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let language = Language::named(&manifest.language)
            .map_err(|why| format!("{}: language: {why}", path.display()))?;
        if manifest.name.is_empty() || manifest.name.contains(['/', '\\', '\0']) {
            return Err(format!("{}: name: {:?} cannot be a plugin's name", path.display(), manifest.name));
        }
        let folder = fs::canonicalize(folder).map_err(|error| unusable(folder, &error))?;
        Ok(Project { folder, name: manifest.name, language, world: manifest.world })
    }

    /// Every file that a build depends on, in order: the manifest, `src/` and `wit/`.
    ///
    /// # Errors
    /// What cannot be read; that there are no sources.
    pub fn inputs(&self) -> Result<Vec<PathBuf>, String> {
        let mut files = vec![self.folder.join(MANIFEST)];
        let sources = self.folder.join(SOURCES);
        if !sources.is_dir() {
            return Err(format!(
                "{} has no `{SOURCES}` folder, where its sources belong",
                self.folder.display()
            ));
        }
        let mut open = vec![sources];
        open.extend(Some(self.folder.join("wit")).filter(|wit| wit.is_dir()));
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).map_err(|error| unusable(&folder, &error))? {
                let path = entry.map_err(|error| unusable(&folder, &error))?.path();
                let is_hidden = path
                    .file_name()
                    .is_some_and(|name| name.as_encoded_bytes().starts_with(b".") || name == "__pycache__");
                match path.is_dir() {
                    _ if is_hidden => {}
                    true => open.push(path),
                    false => files.push(path),
                }
                if files.len() + open.len() > INPUTS_MAX {
                    return Err(format!("{} holds more than {INPUTS_MAX} files", self.folder.display()));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// The sources of its language directly in `src/`.
    ///
    /// # Errors
    /// That there are none.
    pub fn sources(&self) -> Result<Vec<PathBuf>, String> {
        let folder = self.folder.join(SOURCES);
        let extension = self.language.extension();
        let mut sources = self.inputs()?;
        sources.retain(|file| {
            file.parent() == Some(&folder) && file.extension().is_some_and(|found| found == extension)
        });
        match sources.is_empty() {
            true => Err(format!("{} holds no .{extension} file", folder.display())),
            false => Ok(sources),
        }
    }

    /// Copies `src/`, each file to where `place` wants its name, for tools that write beside the
    /// sources.
    ///
    /// # Errors
    /// What cannot be copied.
    pub(crate) fn copy_sources(&self, place: impl Fn(&Path) -> PathBuf) -> Result<(), String> {
        let sources = self.folder.join(SOURCES);
        for file in self.inputs()? {
            let Ok(name) = file.strip_prefix(&sources) else { continue };
            save(&place(name), &fs::read(&file).map_err(|error| unusable(&file, &error))?)?;
        }
        Ok(())
    }

    /// `src/policy.EXTENSION`, from which the others are imported.
    ///
    /// # Errors
    /// That it is not there.
    pub fn root(&self) -> Result<PathBuf, String> {
        let root = self.folder.join(SOURCES).join(format!("policy.{}", self.language.extension()));
        match root.is_file() {
            true => Ok(root),
            false => Err(format!("{} is missing: a build begins there", root.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(manifest: &str) -> (tempfile::TempDir, Result<Project, String>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        let project = Project::read(folder.path());
        (folder, project)
    }

    #[test]
    fn a_manifest() {
        let (folder, project) = project("name: tenants\nlanguage: C++\nworld: header-policy\n");
        let project = project.unwrap();
        assert_eq!((project.name.as_str(), project.language), ("tenants", Language::Cpp));
        assert!(project.sources().unwrap_err().contains("no `src` folder"));
        fs::create_dir_all(folder.path().join("src/.git")).unwrap();
        assert!(project.sources().unwrap_err().contains("no .cpp file"));
        for file in ["b.cpp", "a.cpp", "a.hpp", ".git/c.cpp"] {
            fs::write(folder.path().join("src").join(file), "").unwrap();
        }
        let names = |files: Vec<PathBuf>| -> Vec<_> {
            files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_string()).collect()
        };
        assert_eq!(names(project.sources().unwrap()), ["a.cpp", "b.cpp"]);
        assert_eq!(names(project.inputs().unwrap()), ["plugin.yaml", "a.cpp", "a.hpp", "b.cpp"]);
        assert!(project.root().unwrap_err().contains("src/policy.cpp is missing"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let why = |manifest: &str| project(manifest).1.unwrap_err();
        let misspelt = why("name: a\nlangauge: c\nworld: header-policy\n");
        assert!(misspelt.contains("langauge") && misspelt.contains("line 2"), "{misspelt}");
        let unknown = why("name: a\nlanguage: pyhton\nworld: header-policy\n");
        assert!(unknown.contains("did you mean `python`?"), "{unknown}");
        assert!(why("name: a/b\nlanguage: c\nworld: w\n").contains("cannot be a plugin's name"));
        assert!(why("name: a\nlanguage: c\n").contains("world"));
        assert!(why(&format!("# {}", "x".repeat(70_000))).contains("at most"));
    }

    #[test]
    fn languages_by_name() {
        for language in Language::ALL {
            assert_eq!(Language::named(language.name()), Ok(language));
        }
        assert_eq!(Language::named("TS"), Ok(Language::TypeScript));
        assert!(!Language::named("fortran").unwrap_err().contains("did you mean"));
    }
}
