//! Tells connections to finish, waits for them, and cuts off the rest.
//!
//! One [`DrainControl`] per listener: `server` starts it at shutdown, or when a reload removes
//! the listener. Accept loops, connections and tunnels hold [`DrainGuard`]s and watch the stage.
//! Per connection, never per request: this file's atomics are shared by all workers.
//!
//! ```text
//! Open --start--> Draining --limit of wait--> Cut
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long `wait` lets cut connections take to drop; they only have to be polled once more.
const CUT_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Open,
    /// Finish what is in flight, begin nothing new.
    Draining,
    /// End now.
    Cut,
}

#[derive(Debug)]
struct Shared {
    stage: watch::Sender<Stage>,
    held: AtomicUsize,
    emptied: Notify,
}

/// The side that decides. Usable from any thread.
#[derive(Debug)]
pub struct DrainControl {
    shared: Arc<Shared>,
}

impl Default for DrainControl {
    fn default() -> DrainControl {
        DrainControl::new()
    }
}

impl DrainControl {
    pub fn new() -> DrainControl {
        let shared = Shared {
            stage: watch::Sender::new(Stage::Open),
            held: AtomicUsize::new(0),
            emptied: Notify::new(),
        };
        DrainControl { shared: Arc::new(shared) }
    }

    /// The side that obeys; one for each worker.
    pub fn drain(&self) -> Drain {
        Drain { shared: Arc::clone(&self.shared) }
    }

    /// Accept loops, connections and tunnels that are left.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Starts draining; a second call does nothing.
    pub fn start(&self) {
        self.advance(Stage::Draining);
    }

    /// Starts draining if need be, waits up to `limit` for everything to end, then cuts the
    /// rest. Returns how many were cut. Dropped early, it leaves the stage where it is.
    pub async fn wait(&self, limit: Duration) -> usize {
        self.start();
        if tokio::time::timeout(limit, self.emptied()).await.is_ok() {
            return 0;
        }
        let cut = self.held();
        self.advance(Stage::Cut);
        if tokio::time::timeout(CUT_GRACE, self.emptied()).await.is_err() {
            tracing::warn!(left = self.held(), "connections did not end when they were cut");
        }
        cut
    }

    fn advance(&self, to: Stage) {
        self.shared.stage.send_if_modified(|stage| {
            let later = to > *stage;
            if later {
                *stage = to;
            }
            later
        });
    }

    async fn emptied(&self) {
        loop {
            let mut notified = std::pin::pin!(self.shared.emptied.notified());
            // Enabled before the count is read, so that a drop in between is not missed.
            notified.as_mut().enable();
            if self.held() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// The side that obeys. A clone is one reference count.
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

impl Drain {
    pub fn stage(&self) -> Stage {
        *self.shared.stage.borrow()
    }

    /// Counts as one more thing to wait for until it is dropped; a tunnel holds one.
    pub fn guard(&self) -> DrainGuard {
        self.shared.held.fetch_add(1, Ordering::SeqCst);
        DrainGuard { drain: self.clone() }
    }

    /// Ends when draining starts; a tunnel then says goodbye (WebSocket close 1001).
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(Stage::Draining)
    }

    /// Ends when whatever is left has to end at once.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(Stage::Cut)
    }

    fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<> {
        let drain = self.clone();
        let mut stages = self.shared.stage.subscribe();
        async move {
            // An error would mean that the sender is gone, and `drain` holds it.
            let _ = stages.wait_for(|now| *now >= stage).await;
            drop(drain);
        }
    }
}

/// One thing that a drain waits for.
#[derive(Debug)]
pub struct DrainGuard {
    drain: Drain,
}

impl DrainGuard {
    pub fn drain(&self) -> &Drain {
        &self.drain
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.drain.shared.held.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.drain.shared.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_the_last_guard() {
        let control = DrainControl::new();
        let guard = control.drain().guard();
        let tunnel = tokio::spawn(async move {
            guard.drain().draining().await;
            drop(guard);
        });
        assert_eq!(control.wait(Duration::from_secs(30)).await, 0);
        tunnel.await.unwrap();
        assert_eq!(control.drain().stage(), Stage::Draining);
    }

    #[tokio::test]
    async fn cuts_what_is_left_and_counts_it() {
        let control = DrainControl::new();
        let guards = [control.drain().guard(), control.drain().guard()];
        for guard in guards {
            tokio::spawn(async move {
                guard.drain().cut().await;
                drop(guard);
            });
        }
        assert_eq!(control.wait(Duration::from_millis(1)).await, 2);
        assert_eq!(control.held(), 0);
    }

    #[tokio::test]
    async fn an_empty_drain_is_over_at_once() {
        let control = DrainControl::new();
        assert_eq!(control.wait(Duration::ZERO).await, 0);
    }

    #[tokio::test]
    async fn a_stage_never_goes_back() {
        let control = DrainControl::new();
        let guard = control.drain().guard();
        assert_eq!(control.wait(Duration::ZERO).await, 1);
        control.start();
        assert_eq!(guard.drain().stage(), Stage::Cut);
        guard.drain().draining().await;
    }
}
