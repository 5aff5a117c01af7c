//! Rate limits: GCRA in the host, shared by all instances and workers; with Redis, by all gateways.

use crate::host::rate_limit;

pub use crate::bindings::imports::witgate::policy::rate_limit::{Outcome, Quota};

/// A limiter, made in `configure`. The same name and quota give the same counters.
pub struct Limiter(rate_limit::Limiter);

impl Limiter {
    pub fn new(name: &str, quota: Quota) -> Result<Self, String> {
        rate_limit::Limiter::create(name, quota).map(Limiter)
    }

    /// Charges `cost` to `key`, if it still has as much.
    pub fn check(&self, key: &str, cost: u32) -> Outcome {
        self.0.check(key, cost)
    }
}
