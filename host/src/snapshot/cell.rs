//! Where the current snapshot is found.
//!
//! `server` swaps it, each worker looks at it. A look is one load; nobody ever waits for anybody.

use super::Snapshot;
use arc_swap::{ArcSwap, Cache};
use std::sync::Arc;

#[derive(Clone)]
pub struct SnapshotCell(Arc<ArcSwap<Snapshot>>);

/// One worker's way to the cell.
pub struct SnapshotReader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl SnapshotCell {
    pub fn new(snapshot: Snapshot) -> SnapshotCell {
        SnapshotCell(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    pub fn swap(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader(Cache::new(self.0.clone()))
    }
}

impl SnapshotReader {
    pub fn current(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}
