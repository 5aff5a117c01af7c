//! Compiled code: made in a child process, kept on disk, loaded by mapping it.
//!
//! `load` asks for the code of a component's bytes; `compiler` makes what is not there. The cache is
//! keyed by content and by everything that makes compiled code compatible, and is bounded. This is the
//! one file that trusts bytes: see `map`.

use super::compiler::{Order, unwritable, write_private};
use super::engine::{Allocation, Lines, Runtime};
use super::shelf;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wasmtime::component::Component;

pub use super::compiler::{Compiler, compile};

/// A component larger than this is refused unread. Python's are 18 MiB.
pub const WASM_BYTES_MAX: u64 = 64 << 20;
/// SHA-256 of a component's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    pub fn of(bytes: &[u8]) -> ContentHash {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        ContentHash(hash)
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The code cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Artifacts {
    directory: PathBuf,
    compiler: Compiler,
}

impl Artifacts {
    /// Opens the cache in `directory`, which is made if it is missing and refused if anybody else
    /// may write to it.
    pub fn open(directory: PathBuf, compiler: Compiler) -> io::Result<Artifacts> {
        make(&directory)?;
        Ok(Artifacts { directory, compiler })
    }

    /// The engine, and the cache in `directory` or in its default place; compiles in children of this
    /// very program.
    ///
    /// # Errors
    /// What could not be opened, as a sentence.
    pub fn with_engine(directory: Option<PathBuf>, lines: Lines) -> Result<(Runtime, Artifacts), String> {
        let runtime =
            Runtime::start(lines).map_err(|error| format!("the Wasm engine cannot start: {error:#}"))?;
        let program =
            std::env::current_exe().map_err(|error| format!("this program cannot find itself: {error}"))?;
        let directory = directory.unwrap_or_else(Artifacts::default_directory);
        let artifacts = Artifacts::open(directory.clone(), Compiler::Child(program))
            .map_err(|error| format!("the code cache {} cannot be used: {error}", directory.display()))?;
        Ok((runtime, artifacts))
    }

    /// The default place: `$XDG_CACHE_HOME/witgate`, `~/.cache/witgate`, or a folder of this user's
    /// below the temporary directory.
    fn default_directory() -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (variable("XDG_CACHE_HOME"), variable("HOME")) {
            (Some(cache), _) => cache.join("witgate"),
            (None, Some(home)) => home.join(".cache/witgate"),
            (None, None) => {
                std::env::temp_dir().join(format!("witgate-{}", rustix::process::geteuid().as_raw()))
            }
        }
    }

    /// The component of `bytes`, compiled now or earlier. Blocks for as long as compiling takes.
    pub fn component(&self, runtime: &Runtime, hash: ContentHash, bytes: &[u8]) -> Result<Component, String> {
        let path = self.path(runtime, hash);
        if path.exists() {
            match map(runtime, &path) {
                Ok(component) => {
                    shelf::used(&path);
                    return Ok(component);
                }
                // Half a file after a full disk, say: compiled anew.
                Err(error) => tracing::warn!(path = %path.display(), %error, "cached code is unusable"),
            }
        }
        // Folders of caches are emptied by whoever is short of space.
        make(&self.directory).map_err(|error| unwritable(&self.directory, &error))?;
        match &self.compiler {
            Compiler::InProcess => {
                let code =
                    runtime.engine().precompile_component(bytes).map_err(|error| format!("{error:#}"))?;
                self.store(&path, |unfinished| std::fs::write(unfinished, &code).map_err(|e| e.to_string()))?;
            }
            Compiler::Child(program) => {
                let source = self.directory.join(format!("{hash}.{:016x}.wasm", crate::clock::random_u64()));
                let written = write_private(&source, bytes).map_err(|error| unwritable(&source, &error));
                let stored = written.and_then(|()| {
                    self.store(&path, |unfinished| {
                        Order { program, source: &source, target: unfinished }.run(runtime)
                    })
                });
                let _ = std::fs::remove_file(&source);
                stored?;
            }
        }
        shelf::tidy(&self.directory, &path);
        map(runtime, &path)
    }

    /// Whether a component has been compiled, and so is valid.
    pub fn has(&self, runtime: &Runtime, hash: ContentHash) -> bool {
        self.path(runtime, hash).exists()
    }

    fn path(&self, runtime: &Runtime, hash: ContentHash) -> PathBuf {
        self.directory.join(format!("{hash}-{:016x}.cwasm", compatibility(runtime)))
    }

    /// Makes the file under another name first, so that nobody ever maps half of one.
    fn store(&self, path: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
        let unfinished = path.with_extension(format!("{:016x}", crate::clock::random_u64()));
        let made = make(&unfinished).and_then(|()| {
            std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600))
                .and_then(|()| std::fs::rename(&unfinished, path))
                .map_err(|error| unwritable(path, &error))
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        made
    }
}

/// Maps compiled code into the process.
fn map(runtime: &Runtime, path: &Path) -> Result<Component, String> {
    if let Some(directory) = path.parent() {
        owned_by_us_alone(directory).map_err(|error| error.to_string())?;
    }
    owned_by_us_alone(path).map_err(|error| error.to_string())?;
    #[expect(unsafe_code, reason = "wasmtime cannot check compiled code, so where it comes from must be")]
    // SAFETY: the file was written by `compile` or by `precompile_component` above, from bytes
    // that the engine validated: nobody but this user can write to the file or to its directory
    // (both checked just now), it appears under this name only by a rename of a finished file, and
    // it is never written to again.
    let component = unsafe { Component::deserialize_file(runtime.engine(), path) };
    component.map_err(|error| format!("{error:#}"))
}

/// Everything but the content that compiled code depends on.
fn compatibility(runtime: &Runtime) -> u64 {
    let mut hasher = DefaultHasher::new();
    runtime.engine().precompile_compatibility_hash().hash(&mut hasher);
    (runtime.allocation() == Allocation::Pooling).hash(&mut hasher);
    (runtime.lines() == Lines::Told).hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    hasher.finish()
}

/// Makes the folder of the cache, which nobody else may write to.
fn make(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    owned_by_us_alone(directory)
}

fn owned_by_us_alone(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    let refuse =
        |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {why}", path.display())));
    if metadata.file_type().is_symlink() {
        return refuse("is a symbolic link, where compiled code is trusted");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user, and compiled code is trusted");
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse("can be written by others, and compiled code is trusted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "(component)";

    fn cache(directory: &Path) -> Artifacts {
        Artifacts::open(directory.join("cache"), Compiler::InProcess).unwrap()
    }

    #[test]
    fn code_is_kept_and_spoilt_code_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = cache(directory.path());
        let runtime = Runtime::start(Lines::Untold).unwrap();
        let bytes = wat::parse_str(EMPTY).unwrap();
        let hash = ContentHash::of(&bytes);
        artifacts.component(&runtime, hash, &bytes).unwrap();
        let kept: Vec<_> = std::fs::read_dir(directory.path().join("cache")).unwrap().collect();
        assert_eq!(kept.len(), 1);
        let path = kept[0].as_ref().unwrap().path();
        std::fs::write(&path, b"half").unwrap();
        artifacts.component(&runtime, hash, &bytes).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 4);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Artifacts::open(open, Compiler::InProcess).unwrap_err();
        assert!(error.to_string().contains("can be written by others"), "{error}");
    }

    #[test]
    fn what_is_no_component_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = cache(directory.path());
        let runtime = Runtime::start(Lines::Untold).unwrap();
        let error = artifacts.component(&runtime, ContentHash::of(b"nope"), b"nope").unwrap_err();
        assert!(!error.is_empty());
    }
}
