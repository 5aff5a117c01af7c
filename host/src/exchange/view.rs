//! One worker's live side of a snapshot: its instances and its upstream connections.
//!
//! Made by the worker when it first meets a new snapshot; pools of what did not change are taken
//! over from the view before. An exchange holds the view that it began with to its end. Never
//! shared between threads.

use crate::chain::log::Waiting;
use crate::clock::Clock;
use crate::plugin::{self, FetchJob, FetchPort, Seats};
use crate::snapshot::Snapshot;
use crate::upstream;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::mpsc;

pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// By slot.
    pub pools: Vec<Rc<plugin::Pool>>,
    /// What waits for log policies, by slot.
    pub waiting: Vec<Rc<Waiting>>,
    /// By index of `Snapshot::upstreams`.
    pub upstreams: Vec<Rc<upstream::Pool>>,
    /// Where guests of this view's exchanges ask for calls, which go to this view's upstreams.
    pub port: FetchPort,
}

impl View {
    /// Must be called on the worker's own runtime, where the calls of its guests are made.
    pub fn open(
        snapshot: Arc<Snapshot>,
        before: Option<&View>,
        clock: &Clock,
        seats: &Rc<Seats>,
    ) -> Rc<View> {
        let kept: HashMap<u64, (&Rc<plugin::Pool>, &Rc<Waiting>)> = before
            .iter()
            .flat_map(|view| view.pools.iter().zip(&view.waiting))
            .map(|(pool, waiting)| (pool.policy().id, (pool, waiting)))
            .collect();
        let (pools, waiting) = snapshot
            .policies
            .iter()
            .map(|policy| match kept.get(&policy.id) {
                Some((pool, waiting)) => (Rc::clone(pool), Rc::clone(waiting)),
                None => (plugin::Pool::new(policy.clone(), seats), Rc::default()),
            })
            .unzip();
        let connected: HashMap<*const upstream::Upstream, &Rc<upstream::Pool>> = before
            .iter()
            .flat_map(|view| &view.upstreams)
            .map(|pool| (Arc::as_ptr(pool.upstream()), pool))
            .collect();
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|upstream| match connected.get(&Arc::as_ptr(upstream)) {
                Some(pool) => Rc::clone(pool),
                None => upstream::Pool::new(upstream.clone(), clock.clone()),
            })
            .collect();
        let (port, jobs) = mpsc::unbounded_channel();
        let view = Rc::new(View { snapshot, pools, waiting, upstreams, port: FetchPort(port) });
        tokio::task::spawn_local(serve_fetches(Rc::downgrade(&view), jobs));
        view
    }
}

/// Makes the calls that guests ask for, each in a task of its own, until the view is gone.
async fn serve_fetches(view: Weak<View>, mut jobs: mpsc::UnboundedReceiver<FetchJob>) {
    while let Some(job) = jobs.recv().await {
        let Some(view) = view.upgrade() else { return };
        tokio::task::spawn_local(super::fetch::run(view, job));
    }
}
