//! One worker's warm instances of one policy.
//!
//! `chain` leases an instance for each call. A lease counts as dead until it is given back: one
//! that trapped, ran out of time or whose exchange was dropped is destroyed, and its replacement
//! is made off the request's path. Never shared between threads.

use super::failure::Failure;
use super::instance::Instance;
use super::policy::Policy;
use super::seats::{Seat, Seats};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

pub struct Pool {
    policy: Arc<Policy>,
    #[expect(clippy::vec_box, reason = "a lease takes its instance along, and a pointer moves more cheaply")]
    idle: RefCell<Vec<Box<Instance>>>,
    seats: Rc<Seats>,
    /// Called since `end_one` was asked last.
    called: Cell<bool>,
    /// Leased ones.
    out: Cell<u32>,
    ticking: Cell<bool>,
}

/// An instance for one call, or for one body.
pub struct Lease {
    pool: Rc<Pool>,
    instance: Option<Box<Instance>>,
}

impl Pool {
    /// A pool of the worker whose seats these are.
    pub fn new(policy: Arc<Policy>, seats: &Rc<Seats>) -> Rc<Pool> {
        let pool = Rc::new(Pool {
            policy,
            idle: RefCell::default(),
            seats: seats.clone(),
            called: Cell::new(false),
            out: Cell::new(0),
            ticking: Cell::new(false),
        });
        seats.register(&pool);
        pool
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Instances that exist now.
    pub fn instances(&self) -> usize {
        self.idle.borrow().len() + self.out.get() as usize
    }

    /// Claims this pool's `on-tick`; true for the first to ask.
    pub fn start_ticking(&self) -> bool {
        !self.ticking.replace(true)
    }

    /// Makes one instance ahead of the first request, where no other has to end for it.
    pub async fn warm(self: &Rc<Self>) {
        if self.instances() == 0
            && !self.policy.settings.fresh
            && let Some(seat) = self.seats.vacant()
        {
            match self.instance(seat).await {
                Ok(instance) => {
                    self.count(1);
                    self.idle.borrow_mut().push(Box::new(instance));
                }
                Err(failure) => {
                    tracing::warn!(policy = %self.policy.label(), %failure, "no instance could be warmed");
                }
            }
        }
    }

    /// A warm instance, if there is one to be had at once.
    #[inline]
    pub fn lease_warm(self: &Rc<Self>) -> Option<Lease> {
        // A trial after a quarantine is `lease`'s to grant.
        if self.policy.quarantine.is_clear() { self.take_idle() } else { None }
    }

    fn take_idle(self: &Rc<Self>) -> Option<Lease> {
        if self.policy.settings.fresh {
            return None;
        }
        let instance = self.idle.borrow_mut().pop()?;
        self.out.set(self.out.get() + 1);
        Some(Lease { pool: self.clone(), instance: Some(instance) })
    }

    /// An instance that nobody else uses. Dropping the future gives nothing away.
    pub async fn lease(self: &Rc<Self>) -> Result<Lease, Failure> {
        let clock = &self.policy.services.clock;
        if !self.policy.quarantine.admits(|| clock.monotonic_nanos()) {
            return Err(Failure::Quarantined);
        }
        if let Some(lease) = self.take_idle() {
            return Ok(lease);
        }
        if self.out.get() >= self.policy.settings.instances {
            return Err(Failure::Busy);
        }
        let seat = self.seats.take().ok_or(Failure::Busy)?;
        // Counted before the first suspension, so that the bound holds while it is being made.
        self.out.set(self.out.get() + 1);
        let mut lease = Lease { pool: self.clone(), instance: None };
        match Box::pin(self.instance(seat)).await {
            Ok(instance) => {
                self.count(1);
                lease.instance = Some(Box::new(instance));
                Ok(lease)
            }
            Err(failure) => Err(self.blame(failure)),
        }
    }

    async fn instance(&self, seat: Seat) -> Result<Instance, Failure> {
        let mut instance = self.policy.instance().await?;
        instance.take_seat(seat);
        Ok(instance)
    }

    fn put(&self, instance: Box<Instance>) {
        self.called.set(true);
        self.idle.borrow_mut().push(instance);
    }

    /// Ends an instance at rest, unless this policy was called since it was asked last.
    pub(super) fn end_one(&self) -> bool {
        if self.called.replace(false) {
            return false;
        }
        let Some(instance) = self.idle.borrow_mut().pop() else { return false };
        drop(instance);
        self.count(-1);
        true
    }

    /// Tells the metrics of instances that came to be, or ended.
    fn count(&self, change: i64) {
        self.policy.metrics.instances.add(change);
    }

    /// Counts a failure against the policy.
    fn blame(&self, failure: Failure) -> Failure {
        if failure == Failure::Timeout {
            self.policy.suspect();
        }
        if failure.counts() && self.policy.quarantine.failed(self.policy.services.clock.monotonic_nanos()) {
            tracing::warn!(policy = %self.policy.label(), %failure, "policy is quarantined");
        }
        failure
    }
}

impl Lease {
    /// Ends the lease after a call: a failed instance is destroyed, any other serves again. An
    /// error that the guest returned is an answer: the instance lives on.
    pub fn finish<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        match result {
            Ok(answer) => {
                self.pool.policy.quarantine.succeeded();
                self.give_back();
                Ok(answer)
            }
            Err(failure @ Failure::Error(_)) => {
                self.give_back();
                Err(failure)
            }
            Err(failure) => {
                let failure = self.pool.blame(failure);
                self.replace();
                Err(failure)
            }
        }
    }

    /// Whether the instance serves one exchange only.
    pub fn is_fresh(&self) -> bool {
        self.pool.policy.settings.fresh
    }

    /// Counts what `chain` has against an answer; the instance itself lives on.
    pub fn blame(pool: &Pool, failure: Failure) -> Failure {
        pool.blame(failure)
    }

    fn give_back(mut self) {
        if self.instance.as_ref().is_some_and(|instance| instance.is_cramped()) {
            return self.replace();
        }
        if !self.pool.policy.settings.fresh
            && let Some(instance) = self.instance.take()
        {
            self.pool.put(instance);
        }
    }

    /// Destroys the instance and makes another one, off the path.
    fn replace(self) {
        let pool = self.pool.clone();
        drop(self);
        tokio::task::spawn_local(async move { pool.warm().await });
    }
}

impl Deref for Lease {
    type Target = Instance;
    fn deref(&self) -> &Instance {
        #[expect(
            clippy::expect_used,
            reason = "a lease that was handed out holds its instance until it is consumed"
        )]
        self.instance.as_ref().expect("leased")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Instance {
        #[expect(
            clippy::expect_used,
            reason = "a lease that was handed out holds its instance until it is consumed"
        )]
        self.instance.as_mut().expect("leased")
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().len();
        self.count(-i64::try_from(idle).unwrap_or(0));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.instance.is_some() {
            self.pool.count(-1);
        }
        self.pool.out.set(self.pool.out.get() - 1);
    }
}
