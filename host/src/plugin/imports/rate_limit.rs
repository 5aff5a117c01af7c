//! `rate-limit`: GCRA in the host, shared by all instances and workers.

use super::{keep, room, short};
use crate::plugin::bindings::witgate::policy::rate_limit::{Host, HostLimiter, Limiter, Outcome, Quota};
use crate::plugin::guest::Guest;
use crate::state::limiter::Quota as Rate;
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::Resource;

/// Bytes of a key that count; longer ones are told apart by no more than this.
const KEY_BYTES_MAX: usize = 256;

impl Host for Guest {}

impl HostLimiter for Guest {
    fn create(&mut self, name: String, quota: Quota) -> std::result::Result<Resource<Limiter>, String> {
        called!("rate-limit.limiter.create({name}, {} per {} ms)", quota.count, quota.period_millis);
        self.configuring()?;
        short(&name)?;
        room(&self.limiters)?;
        let rate = Rate {
            count: quota.count,
            period: Duration::from_millis(u64::from(quota.period_millis)),
            burst: quota.burst,
        };
        // Two policies that choose the same name do not share counters by accident.
        let name = format!("{}/{name}", self.about.label);
        let limiter = self.services.limiters.limiter(&name, rate)?;
        keep(&mut self.limiters, limiter).map(Resource::new_own)
    }

    fn check(&mut self, this: Resource<Limiter>, key: String, cost: u32) -> Outcome {
        called!("rate-limit.limiter.check({key}, {cost})");
        let Some(limiter) = self.limiters.get(this.rep() as usize) else {
            return Outcome { allowed: false, remaining: 0, retry_after_millis: 0, reset_millis: 0 };
        };
        let end =
            (0..=key.len().min(KEY_BYTES_MAX)).rev().find(|end| key.is_char_boundary(*end)).unwrap_or(0);
        let outcome = limiter.check(&key[..end], cost);
        Outcome {
            allowed: outcome.allowed,
            remaining: outcome.remaining,
            retry_after_millis: outcome.retry_after_millis,
            reset_millis: outcome.reset_millis,
        }
    }

    fn drop(&mut self, _this: Resource<Limiter>) -> Result<()> {
        // Handles belong to the configuration: they live as long as the instance.
        Ok(())
    }
}
