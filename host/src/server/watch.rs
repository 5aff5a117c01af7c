//! Notices that files changed: the configuration, the plugin directory, certificates.
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
use std::time::Duration;

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

type Looks = BTreeMap<PathBuf, Option<Look>>;

/// Reloads whenever something changed, until the gateway is gone.
pub async fn follow(gateway: Weak<Gateway>) {
    let mut interval = tokio::time::interval(PERIOD);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let Some(first) = gateway.upgrade().map(|gateway| gateway.looks()) else { return };
    let (mut known, mut last) = (first.clone(), first);
    loop {
        interval.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        let now = gateway.looks();
        if now != known && now == last {
            // Whatever changes from here on is another change, even while this one is taken up.
            known = now;
            let _ = gateway.reload().await;
            // A configuration that took effect may name other files; they are as it found them.
            for (path, look) in gateway.looks() {
                known.entry(path).or_insert(look);
            }
            let watched = gateway.looks();
            known.retain(|path, _| watched.contains_key(path));
            last = known.clone();
        } else {
            last = now;
        }
    }
}

impl Gateway {
    fn looks(&self) -> Looks {
        let (mut paths, directory) = {
            let running = lock(&self.running);
            (running.files.clone(), running.directory.clone())
        };
        paths.extend(lock(&self.sockets).files());
        if let Some(directory) = directory {
            paths.extend(wasm_files(&directory));
        }
        paths.into_iter().map(|path| (path.clone(), look(&path))).collect()
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
