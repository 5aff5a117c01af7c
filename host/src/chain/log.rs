//! Finished exchanges for policies that log: gathered per policy, handed over in batches.
//!
//! `exchange` adds an entry when an exchange is over; `server`'s worker flushes each tenth of a
//! second. Off the request's path: what a policy cannot keep up with is dropped and counted, and
//! no failure of a log policy reaches a client.

use super::step::Chain;
use super::subject::Subject;
use super::values::Values;
use crate::plugin::{Facts, Pool};
use crate::telemetry::metric::{Hook, Verdict as Outcome};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

/// Entries handed over in one call.
const BATCH: usize = 128;
/// Entries that wait for one policy on one worker.
const WAITING_MAX: usize = 8_192;

/// What waits to be handed to one policy.
#[derive(Default)]
pub struct Waiting {
    entries: RefCell<Vec<Vec<Option<String>>>>,
    dropped: Cell<u64>,
    /// A batch is being handed over.
    busy: Cell<bool>,
}

impl Waiting {
    /// Whether there is something to hand over, and nobody does so already.
    pub fn is_due(&self) -> bool {
        !self.busy.get() && (self.dropped.get() > 0 || !self.entries.borrow().is_empty())
    }
}

/// Adds an exchange that is over to what its log policies wait for; `waiting` is by slot.
pub fn add(chain: &Chain, waiting: &[Rc<Waiting>], subject: &Subject) {
    for (index, step) in chain.steps.iter().enumerate() {
        let Some(reads) = &step.plan.log else { continue };
        let note = subject.memory.get(index).map_or(&[][..], |memory| &memory.note);
        let waiting = &waiting[step.slot];
        // A value that is not UTF-8 was refused before the exchange got here, or is the
        // upstream's: such an entry has no honest form.
        let Ok(values) = Values::read(&reads.list, subject, note) else { continue };
        let mut entries = waiting.entries.borrow_mut();
        if entries.len() >= WAITING_MAX {
            waiting.dropped.set(waiting.dropped.get() + 1);
        } else {
            entries.push(values.into_owned());
        }
    }
}

/// Hands everything that waits to the policy.
pub async fn flush(waiting: &Waiting, pool: &Rc<Pool>, facts: impl Fn() -> Box<Facts>) {
    let dropped = waiting.dropped.take();
    if dropped > 0 {
        tracing::warn!(target: "policy", policy = %pool.policy().label(), dropped, "log entries were dropped");
    }
    let entries = waiting.entries.take();
    waiting.busy.set(true);
    for batch in entries.chunks(BATCH) {
        let started = Instant::now();
        let result = match pool.lease().await {
            Ok(mut leased) => {
                let mut facts = Some(facts());
                let result = leased.on_log(batch, &mut facts).await;
                leased.finish(result)
            }
            Err(failure) => Err(failure),
        };
        count(pool, Hook::Log, result, started);
    }
    waiting.busy.set(false);
}

/// Calls `on-tick` once.
pub async fn tick(pool: &Rc<Pool>, facts: Box<Facts>) {
    let started = Instant::now();
    let result = match pool.lease().await {
        Ok(mut leased) => {
            let result = leased.on_tick(&mut Some(facts)).await;
            leased.finish(result)
        }
        Err(failure) => Err(failure),
    };
    count(pool, Hook::Tick, result, started);
}

fn count(pool: &Pool, hook: Hook, result: Result<(), crate::plugin::Failure>, started: Instant) {
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let outcome = match result {
        Ok(()) => Outcome::Proceed,
        Err(failure) => {
            let (policy, hook) = (pool.policy().label(), hook.label());
            tracing::warn!(target: "policy", %policy, hook, "{failure}");
            Outcome::Error
        }
    };
    pool.policy().metrics.call(hook, outcome, nanos);
}
