//! How many instances one worker has at once, over all its policies.
//!
//! `exchange` makes one for each worker; a `Pool` takes a seat for each instance. Where none is
//! left, an instance that rests ends, of a policy that was not called for the longest while or
//! nearly so. Never ends one at work, never shared between threads.

use super::engine::INSTANCES_MAX;
use super::pool::Pool;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

pub struct Seats {
    max: usize,
    taken: Cell<usize>,
    /// Those that may have an instance at rest.
    pools: RefCell<Vec<Weak<Pool>>>,
    /// Where the search for one goes on (the clock algorithm).
    hand: Cell<usize>,
}

/// Room for one instance, until it is dropped.
pub struct Seat(Rc<Seats>);

impl Seats {
    /// A worker's share of the engine's slots.
    pub fn share(workers: usize) -> Rc<Seats> {
        Seats::new(INSTANCES_MAX / workers.max(1))
    }

    /// So many, but at least one.
    pub fn new(max: usize) -> Rc<Seats> {
        Rc::new(Seats { max: max.max(1), taken: Cell::new(0), pools: RefCell::default(), hand: Cell::new(0) })
    }

    pub(super) fn register(&self, pool: &Rc<Pool>) {
        let mut pools = self.pools.borrow_mut();
        if pools.len() == pools.capacity() {
            pools.retain(|pool| pool.strong_count() > 0);
        }
        pools.push(Rc::downgrade(pool));
    }

    /// A seat that nobody has to be turned out for.
    pub(super) fn vacant(self: &Rc<Self>) -> Option<Seat> {
        (self.taken.get() < self.max).then(|| {
            self.taken.set(self.taken.get() + 1);
            Seat(self.clone())
        })
    }

    /// A seat; none if every instance of this worker is at work.
    pub(super) fn take(self: &Rc<Self>) -> Option<Seat> {
        self.vacant().or_else(|| if self.end_one() { self.vacant() } else { None })
    }

    /// Ends one instance that rests.
    fn end_one(&self) -> bool {
        let mut pools = self.pools.borrow_mut();
        // Once round to find all of them called lately, and once more to find one all the same.
        for _ in 0..2 * pools.len() {
            let at = if self.hand.get() < pools.len() { self.hand.get() } else { 0 };
            match pools.get(at).map(Weak::upgrade) {
                None => return false,
                Some(None) => drop(pools.swap_remove(at)),
                Some(Some(pool)) => {
                    self.hand.set(at + 1);
                    if pool.end_one() {
                        return true;
                    }
                }
            }
        }
        false
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;
    use crate::config;
    use crate::plugin::Failure;
    use crate::plugin::artifact::{Artifacts, Compiler};
    use std::path::PathBuf;

    /// Pools of so many policies, on one worker's seats.
    fn with_pools(count: usize, seats: &Rc<Seats>, test: impl AsyncFnOnce(Vec<Rc<Pool>>)) {
        let directory = tempfile::tempdir().unwrap();
        let apis: String = (0..count)
            .map(|n| {
                let chain = format!(
                    "{{ plugin: header-rewrite, config: {{ request: {{ set: {{ x-n: '{n}' }} }} }} }}"
                );
                format!("- {{ name: api-{n}, path: /{n}, chain: [{chain}] }}\n")
            })
            .collect();
        let text = format!("listeners: [{{ name: public, address: '127.0.0.1:0' }}]\napis:\n{apis}");
        let loaded = config::load_text(&directory.path().join("witgate.yaml"), text)
            .unwrap_or_else(|report| panic!("{report}"));
        let control =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut workshop = crate::server::workshop(&loaded.config, 1, control.handle()).unwrap();
        workshop.artifacts = Artifacts::open(directory.path().join("cache"), Compiler::InProcess).unwrap();
        let compiled = compile(&workshop, &loaded.config, PathBuf::new(), loaded.report(), None)
            .unwrap_or_else(|report| panic!("{report}"));
        let pools =
            compiled.snapshot.policies.iter().map(|policy| Pool::new(policy.clone(), seats)).collect();
        let worker =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        worker.unwrap().block_on(test(pools));
    }

    fn instances(pools: &[Rc<Pool>]) -> Vec<usize> {
        pools.iter().map(|pool| pool.instances()).collect()
    }

    #[test]
    fn an_instance_at_rest_ends_for_one_that_is_needed() {
        let seats = Seats::new(2);
        with_pools(3, &seats.clone(), async |pools| {
            for pool in &pools {
                pool.warm().await;
            }
            assert_eq!(instances(&pools), [1, 1, 0], "nobody is turned out for what nobody asked for yet");

            // Its instance was called, so the other one's ends.
            pools[0].lease().await.ok().unwrap().finish(Ok(())).unwrap();
            let second = pools[2].lease().await.ok().unwrap();
            assert_eq!(instances(&pools), [1, 0, 1]);

            let first = pools[0].lease().await.ok().unwrap();
            assert_eq!(pools[1].lease().await.err(), Some(Failure::Busy), "both are at work");
            assert_eq!(instances(&pools), [1, 0, 1]);

            // Whether it ends well or not, a call that ends makes room.
            drop(first);
            let first = pools[1].lease().await.ok().unwrap();
            assert_eq!(instances(&pools), [0, 1, 1]);
            first.finish(Ok(())).unwrap();
            second.finish(Ok(())).unwrap();
            for pool in pools.iter().cycle().take(12) {
                pool.lease().await.ok().unwrap().finish(Ok(())).unwrap();
                assert!(instances(&pools).iter().sum::<usize>() <= 2);
            }
        });
        assert_eq!(seats.taken.get(), 0, "seats of pools that are gone are free");
    }

    #[test]
    fn all_seats_of_a_worker_can_be_one_policys() {
        let seats = Seats::new(3);
        with_pools(1, &seats.clone(), async |pools| {
            let mut leases = Vec::new();
            for _ in 0..3 {
                leases.push(pools[0].lease().await.ok().unwrap());
            }
            assert_eq!(pools[0].lease().await.err(), Some(Failure::Busy));
        });
    }

    #[test]
    fn workers_share_alike_and_each_has_one() {
        assert_eq!(Seats::share(4).max, INSTANCES_MAX / 4);
        assert_eq!(Seats::share(1_000_000).max, 1);
    }
}
