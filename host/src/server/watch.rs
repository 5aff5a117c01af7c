//! Notices that files changed: the configuration, the plugin directory, certificates, keys.
//!
//! Looks at their metadata a few times a second instead of asking the kernel for events: that
//! works on every file system, through every symbolic link that Kubernetes swaps, and misses
//! nothing. A change counts once it has stood still for one look, so that files that are being
//! written are left alone.

use super::{Gateway, lock};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PERIOD: Duration = Duration::from_millis(250);
/// Files of a plugin directory that are looked at.
const PLUGINS_MAX: usize = 10_000;

/// What tells one state of a file from another, as far as metadata can.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

/// How everything stood that a configuration is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks(BTreeMap<PathBuf, Option<Look>>);

impl Looks {
    /// Looks at the files, and at the plugins of the directory.
    pub fn at(files: impl IntoIterator<Item = PathBuf>, directory: Option<&Path>) -> Looks {
        let plugins = directory.map(wasm_files).unwrap_or_default();
        Looks(files.into_iter().chain(plugins).map(|path| (path.clone(), look(&path))).collect())
    }

    /// Takes up what a reload brought along. A file that is new here and changed only just now may
    /// have changed after it was read, so it counts as not seen yet. One that is no longer watched is
    /// forgotten, unless it is gone altogether: that is a change that nobody has taken up.
    fn adopt(&mut self, now: Looks, since: SystemTime) {
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.0.retain(|path, known| now.0.contains_key(path) || (known.is_some() && look(path).is_none()));
        for (path, look) in now.0 {
            let fresh = look.as_ref().is_some_and(|look| u64::try_from(look.changed.0).unwrap_or(0) >= since);
            self.0.entry(path).or_insert(if fresh { None } else { look });
        }
    }
}

/// Reloads whenever something changed from how it stood at `known`, until the gateway is gone.
/// `since`: when the gateway began to read what it started with.
pub async fn follow(gateway: Weak<Gateway>, mut known: Looks, since: SystemTime) {
    let mut interval = tokio::time::interval(PERIOD);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Files that only what was compiled can name, such as key sets.
    if let Some(gateway) = gateway.upgrade() {
        known.adopt(gateway.looks(), since);
    }
    let mut last = known.clone();
    loop {
        interval.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        let now = gateway.looks();
        if now != known && now == last {
            // Whatever changes from here on is another change, even while this one is taken up.
            let since = SystemTime::now();
            known = now;
            let _ = gateway.reload().await;
            known.adopt(gateway.looks(), since);
            last = known.clone();
        } else {
            last = now;
        }
    }
}

impl Gateway {
    fn looks(&self) -> Looks {
        let (mut files, directory) = {
            let running = lock(&self.running);
            (running.files.clone(), running.directory.clone())
        };
        files.extend(lock(&self.sockets).files());
        files.extend(self.workshop.services.verifiers.files());
        files.extend(self.cell.load().upstreams.iter().flat_map(|upstream| upstream.settings().tls.files()));
        Looks::at(files, directory.as_deref())
    }
}

fn wasm_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .take(PLUGINS_MAX)
        .collect()
}

fn look(path: &Path) -> Option<Look> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Look {
        inode: metadata.ino(),
        bytes: metadata.len(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_went_is_a_change_and_one_that_is_no_longer_named_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let [gone, unnamed, stays] = ["gone", "unnamed", "stays"].map(|name| folder.path().join(name));
        for path in [&gone, &unnamed, &stays] {
            std::fs::write(path, "x").unwrap();
        }
        let mut known = Looks::at([gone.clone(), unnamed, stays.clone()], None);
        std::fs::remove_file(&gone).unwrap();
        let now = Looks::at([stays.clone()], None);
        known.adopt(now.clone(), UNIX_EPOCH);
        assert_ne!(known, now, "the removal is still to be taken up");
        assert_eq!(known.0.keys().collect::<Vec<_>>(), [&gone, &stays]);
    }
}
