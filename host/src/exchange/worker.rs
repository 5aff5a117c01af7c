//! What one worker thread keeps between exchanges.
//!
//! `server` makes one per thread; `exchange` takes its view from it. Everything here is touched by
//! one thread only, so nothing needs a lock.

use super::view::View;
use crate::chain::log::{self, Waiting};
use crate::clock::Clock;
use crate::consumer::Identity;
use crate::message::id::{RequestId, RequestIds};
use crate::plugin::facts::FETCHES_MAX;
use crate::plugin::{Facts, Pool, Seats};
use crate::snapshot::cell::{SnapshotCell, SnapshotReader};
use crate::telemetry::access_log::WorkerLog;
use crate::telemetry::metric::{ApiMetrics, ConsumerMetrics, Metrics};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often log policies are handed what waits for them.
const LOG_PERIOD: Duration = Duration::from_millis(100);

/// Consumers whose counts a worker remembers; the registry has a bound of its own.
const CONSUMERS_MAX: usize = 10_000;

pub struct Worker {
    me: Weak<Worker>,
    /// From 0.
    pub index: usize,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub access_log: Option<WorkerLog>,
    /// What no API can be charged with.
    pub unrouted: Arc<ApiMetrics>,
    consumers: RefCell<HashMap<Identity, Arc<ConsumerMetrics>>>,
    reader: RefCell<SnapshotReader>,
    view: RefCell<Rc<View>>,
    /// For instances of the policies of all its views.
    seats: Rc<Seats>,
    ids: RefCell<RequestIds>,
}

impl Worker {
    /// Makes the worker of this thread and starts what it does beside exchanges: log batches,
    /// ticks, taking up new snapshots. Must be called on the thread's own runtime.
    pub fn start(
        index: usize,
        seats: Rc<Seats>,
        cell: &SnapshotCell,
        clock: Clock,
        metrics: Arc<Metrics>,
        access_log: Option<WorkerLog>,
        reloads: watch::Receiver<u64>,
    ) -> Rc<Worker> {
        let view = View::open(cell.load(), None, &clock, &seats);
        let unrouted = metrics.api("");
        let worker = Rc::new_cyclic(|me| Worker {
            me: me.clone(),
            index,
            seats,
            clock,
            metrics,
            access_log,
            unrouted,
            consumers: RefCell::default(),
            reader: RefCell::new(cell.reader()),
            view: RefCell::new(view),
            ids: RefCell::default(),
        });
        worker.settle();
        tokio::task::spawn_local(flush_access_log(Rc::downgrade(&worker)));
        tokio::task::spawn_local(flush_logs(Rc::downgrade(&worker)));
        tokio::task::spawn_local(follow(Rc::downgrade(&worker), reloads));
        worker
    }

    /// The live side of the current snapshot.
    pub fn view(&self) -> Rc<View> {
        let mut reader = self.reader.borrow_mut();
        let snapshot = reader.current();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&view.snapshot, snapshot) {
            *view = View::open(snapshot.clone(), Some(&view), &self.clock, &self.seats);
            drop(view);
            self.settle();
            return self.view.borrow().clone();
        }
        view.clone()
    }

    pub fn draw_id(&self) -> RequestId {
        self.ids.borrow_mut().draw()
    }

    /// The counts of a consumer, looked up once.
    pub fn consumer(&self, identity: &Identity) -> Arc<ConsumerMetrics> {
        let mut consumers = self.consumers.borrow_mut();
        if let Some(metrics) = consumers.get(identity) {
            return metrics.clone();
        }
        let metrics = self.metrics.consumer(&identity.consumer, identity.product.as_deref().unwrap_or(""));
        if consumers.len() >= CONSUMERS_MAX {
            consumers.clear();
        }
        consumers.insert(identity.clone(), metrics.clone());
        metrics
    }

    /// What a guest is lent outside an exchange.
    pub fn facts(&self, view: &View, api: &Arc<str>) -> Box<Facts> {
        Box::new(Facts {
            api: api.clone(),
            directory: view.snapshot.directory.clone(),
            identity: None,
            retry_after: None,
            claims: None,
            headers: http::HeaderMap::new(),
            fetches_left: FETCHES_MAX,
            port: view.port.clone(),
        })
    }

    /// Warms new pools and starts their ticks, off any exchange's path.
    fn settle(&self) {
        let view = self.view.borrow().clone();
        for pool in view.pools.iter().filter(|pool| pool.instances() == 0) {
            let pool = pool.clone();
            tokio::task::spawn_local(async move { pool.warm().await });
        }
        // `on-tick` runs in one instance per gateway, so on one worker.
        if self.index == 0 {
            for pool in view.pools.iter().filter(|pool| pool.policy().plugin.exports().on_tick) {
                if let Some(period) = pool.policy().plan.tick
                    && pool.start_ticking()
                {
                    tokio::task::spawn_local(tick(self.me.clone(), Rc::downgrade(pool), period));
                }
            }
        }
    }
}

/// Calls a policy's `on-tick` for as long as a view holds its pool.
async fn tick(worker: Weak<Worker>, pool: Weak<Pool>, period: Duration) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    interval.tick().await;
    let nothing: Arc<str> = "".into();
    loop {
        interval.tick().await;
        let (Some(worker), Some(pool)) = (worker.upgrade(), pool.upgrade()) else { return };
        let view = worker.view();
        let facts = worker.facts(&view, &nothing);
        log::tick(&pool, facts).await;
    }
}

async fn flush_access_log(worker: Weak<Worker>) {
    let mut interval = tokio::time::interval(LOG_PERIOD);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        let Some(access_log) = &worker.access_log else { return };
        access_log.flush();
    }
}

/// Starts a batch for each log policy that is not at work on one.
async fn flush_logs(worker: Weak<Worker>) {
    let mut interval = tokio::time::interval(LOG_PERIOD);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        let view = worker.view.borrow().clone();
        for (slot, waiting) in view.waiting.iter().enumerate().filter(|(_, waiting)| waiting.is_due()) {
            let (worker, view, waiting) = (worker.clone(), view.clone(), waiting.clone());
            // A policy that waits for its collector holds up nobody else's entries.
            tokio::task::spawn_local(async move { worker.hand_over(&view, slot, &waiting).await });
        }
    }
}

impl Worker {
    /// Hands over the last of what waits for log policies, at shutdown.
    pub async fn flush_policies(&self) {
        let view = self.view.borrow().clone();
        for (slot, waiting) in view.waiting.iter().enumerate().filter(|(_, waiting)| waiting.is_due()) {
            self.hand_over(&view, slot, waiting).await;
        }
    }

    async fn hand_over(&self, view: &View, slot: usize, waiting: &Waiting) {
        let nothing: Arc<str> = "".into();
        log::flush(waiting, &view.pools[slot], || self.facts(view, &nothing)).await;
    }
}

/// Takes up a new snapshot at once even when no request comes, so that the old one can go.
async fn follow(worker: Weak<Worker>, mut reloads: watch::Receiver<u64>) {
    while reloads.changed().await.is_ok() {
        let Some(worker) = worker.upgrade() else { return };
        drop(worker.view());
    }
}
