//! One worker's live side of a snapshot: its instances and its upstream connections.
//!
//! Made by the worker when it first meets a new snapshot; pools of what did not change are taken
//! over from the view before. An exchange holds the view that it began with to its end. Never
//! shared between threads.

use crate::chain::log::Waiting;
use crate::clock::Clock;
use crate::plugin;
use crate::snapshot::Snapshot;
use crate::upstream;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// By slot.
    pub pools: Vec<Rc<plugin::Pool>>,
    /// What waits for log policies, by slot.
    pub waiting: Vec<Waiting>,
    /// By index of `Snapshot::upstreams`.
    pub upstreams: Vec<Rc<upstream::Pool>>,
}

impl View {
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&View>, clock: &Clock) -> View {
        let kept: HashMap<u64, &Rc<plugin::Pool>> =
            before.iter().flat_map(|view| &view.pools).map(|pool| (pool.policy().id, pool)).collect();
        let pools: Vec<_> = snapshot
            .policies
            .iter()
            .map(|policy| match kept.get(&policy.id) {
                Some(pool) => Rc::clone(pool),
                None => plugin::Pool::new(policy.clone()),
            })
            .collect();
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
        View { waiting: pools.iter().map(|_| Waiting::default()).collect(), pools, upstreams, snapshot }
    }
}
