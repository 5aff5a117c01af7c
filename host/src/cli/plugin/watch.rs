//! Waits until the sources of a plugin change.
//!
//! `build --watch` calls it. Looks at sizes and times a few times a second, as the gateway does with
//! its own files: that works on every file system, and through whatever editors do to save.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PERIOD: Duration = Duration::from_millis(200);
/// More is no plugin; what is beyond is not looked at.
const FILES_MAX: usize = 10_000;
/// What builds write.
const IGNORED: [&str; 4] = ["target", "build", "node_modules", "__pycache__"];

pub struct Watch {
    folder: PathBuf,
    seen: Seen,
}

type Seen = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl Watch {
    /// The first look is taken now, so that what changes during a build is not missed.
    pub fn of(folder: &Path) -> Watch {
        Watch { folder: folder.to_path_buf(), seen: look(folder) }
    }

    /// Returns when something is other than at the last look.
    pub fn wait(&mut self) {
        loop {
            let seen = look(&self.folder);
            if seen != self.seen {
                self.seen = seen;
                return;
            }
            std::thread::sleep(PERIOD);
        }
    }
}

fn look(folder: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let Ok(metadata) = path.metadata() else { continue };
            if name.starts_with('.') || IGNORED.contains(&&*name) || name.contains(".wasm") {
                continue;
            }
            match metadata.is_dir() {
                true => open.push(path),
                false => drop(seen.insert(path, (metadata.len(), metadata.modified().ok()))),
            }
            if seen.len() + open.len() > FILES_MAX {
                return seen;
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_changes_is_seen_and_what_builds_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/policy.c", "1");
        let mut watch = Watch::of(folder.path());
        for ignored in ["build/x.o", "target/y", "node_modules/z", "mine.wasm", "mine.wasm.123", ".git/index"]
        {
            write(ignored, "2");
        }
        assert_eq!(look(folder.path()), watch.seen);
        for (path, text) in [("src/policy.c", "12"), ("src/more.c", ""), ("plugin.yaml", "x")] {
            write(path, text);
            watch.wait();
        }
        fs::remove_file(folder.path().join("src/more.c")).unwrap();
        watch.wait();
        assert_eq!(watch.seen.len(), 2);
    }
}
