//! The request's way through a chain: header hooks, in order.
//!
//! Called by `exchange` once the route is known. What every header hook does (lease, read, call,
//! judge, count) stands in `call`; `response` uses the same.

use super::plan::{Moment, Reads};
use super::step::{Chain, Step};
use super::subject::Subject;
use super::values::Values;
use super::{Stop, edit};
use crate::message::headers::text;
use crate::plugin::plan::OnError;
use crate::plugin::{Facts, Failure, Lease, Pool, Reply, Verdict};
use crate::telemetry::metric::{Hook, Verdict as Outcome};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

/// Runs the request hooks. Dropping the future destroys the instance at work, if any.
///
/// `passed` is how many steps the request got past: their response hooks are owed whatever happens.
pub async fn run(
    chain: &Chain,
    pools: &[Rc<Pool>],
    subject: &mut Subject,
    passed: &mut usize,
) -> ControlFlow<Stop> {
    if chain.steps.is_empty() {
        return ControlFlow::Continue(());
    }
    let mut started = Instant::now();
    for (index, step) in chain.steps.iter().enumerate() {
        if let Some(reads) = &step.plan.request
            && let Some(reply) =
                call(step, &pools[step.slot], subject, index, Moment::Request, reads, &mut started).await?
        {
            return ControlFlow::Break(Stop::Reply { step: index, reply });
        }
        *passed = index + 1;
    }
    ControlFlow::Continue(())
}

/// One header hook of one step, its edits applied; `Some` if the policy answers.
///
/// `started` is moved on to the hook's end, where the next one starts: a chain reads the clock
/// once for each hook.
pub(super) async fn call(
    step: &Step,
    pool: &Rc<Pool>,
    subject: &mut Subject,
    index: usize,
    moment: Moment,
    reads: &Reads,
    started: &mut Instant,
) -> ControlFlow<Stop, Option<Reply>> {
    let verdict = match lease(pool, subject, index).await {
        Ok(mut leased) => {
            let mut facts = lend(step, subject, reads.all_headers);
            let note = subject
                .memory
                .get_mut(index)
                .map(|memory| std::mem::take(&mut memory.note))
                .unwrap_or_default();
            let legible =
                !reads.all_headers || subject.headers_in_hand().values().all(|value| text(value).is_ok());
            let (true, Ok(values)) = (legible, Values::read(&reads.list, subject, &note)) else {
                // The guest was not called: the instance is as good as before.
                let _ = leased.finish(Ok(()));
                give_back(subject, index, note, facts);
                return ControlFlow::Break(Stop::NotUtf8 { step: index });
            };
            let verdict = match moment {
                Moment::Request => leased.on_request(&values.borrowed(), &mut facts).await,
                Moment::Response | Moment::Log => {
                    leased.on_response(&values.borrowed(), &note, &mut facts).await
                }
            };
            drop(values);
            give_back(subject, index, note, facts);
            finish(leased, verdict, subject, index)
        }
        Err(failure) => Err(failure),
    };
    let hook = if moment == Moment::Request { Hook::Request } else { Hook::Response };
    let responding = moment == Moment::Response;
    let judged = verdict.and_then(|verdict| match verdict {
        Verdict::Proceed => Ok((Outcome::Proceed, None)),
        Verdict::Respond(reply) => Ok((Outcome::Respond, Some(reply))),
        Verdict::Amend(edits) => edit::permit(edits, &step.plan.writes, responding)
            .and_then(|permitted| edit::apply(permitted, subject, index))
            .map(|()| (Outcome::Amend, None))
            .map_err(|why| Lease::blame(pool, Failure::Return(why))),
    });
    settle(judged, pool, subject, index, hook, started)
}

/// Counts how a hook went, and makes a failure what the policy's `on_error` says. `started` is
/// moved on to now.
pub(super) fn settle<T>(
    judged: Result<(Outcome, Option<T>), Failure>,
    pool: &Pool,
    subject: &mut Subject,
    index: usize,
    hook: Hook,
    started: &mut Instant,
) -> ControlFlow<Stop, Option<T>> {
    let policy = pool.policy();
    let now = Instant::now();
    let nanos = u64::try_from(now.duration_since(*started).as_nanos()).unwrap_or(u64::MAX);
    *started = now;
    let failure = match judged {
        Ok((outcome, answer)) => {
            policy.metrics.call(hook, outcome, nanos);
            return ControlFlow::Continue(answer);
        }
        Err(failure) => failure,
    };
    policy.metrics.call(hook, outcome(&failure), nanos);
    if !matches!(failure, Failure::Quarantined | Failure::Busy) {
        tracing::warn!(target: "policy", policy = %policy.label(), request = %subject.id, "{failure}");
    }
    match policy.on_error {
        OnError::Deny => ControlFlow::Break(Stop::Failed { step: index, failure }),
        OnError::Skip => {
            if let Some(memory) = subject.memory.get_mut(index) {
                memory.skipped = true;
            }
            ControlFlow::Continue(None)
        }
    }
}

/// An instance for this step: the one that the exchange holds, or one of the pool's.
pub(super) async fn lease(pool: &Rc<Pool>, subject: &mut Subject, index: usize) -> Result<Lease, Failure> {
    match subject.memory.get_mut(index).and_then(|memory| memory.held.take()) {
        Some(held) => Ok(held),
        None => pool.lease().await,
    }
}

/// Ends a lease; an instance that serves one exchange only is kept for the exchange's later hooks.
pub(super) fn finish<T>(
    lease: Lease,
    result: Result<T, Failure>,
    subject: &mut Subject,
    index: usize,
) -> Result<T, Failure> {
    if result.is_ok()
        && lease.is_fresh()
        && let Some(memory) = subject.memory.get_mut(index)
    {
        memory.held = Some(lease);
        return result;
    }
    lease.finish(result)
}

/// What a guest is lent for one call, if its imports can use it.
pub(super) fn lend(step: &Step, subject: &mut Subject, all_headers: bool) -> Option<Box<Facts>> {
    if !step.policy.wants_facts() {
        return None;
    }
    let mut facts = subject.facts.take()?;
    facts.headers.clear();
    if all_headers {
        facts.headers.clone_from(subject.headers_in_hand());
    }
    Some(facts)
}

/// After a call the exchange has its own again.
pub(super) fn give_back(subject: &mut Subject, index: usize, note: Vec<u8>, facts: Option<Box<Facts>>) {
    if let Some(memory) = subject.memory.get_mut(index) {
        memory.note = note;
    }
    if let Some(facts) = facts {
        subject.take_back(facts);
    }
}

fn outcome(failure: &Failure) -> Outcome {
    match failure {
        Failure::Error(_) => Outcome::Error,
        Failure::Trap(_) | Failure::Instance(_) => Outcome::Trap,
        Failure::Timeout => Outcome::Timeout,
        Failure::Memory => Outcome::Memory,
        Failure::Return(_) => Outcome::Return,
        Failure::Quarantined => Outcome::Quarantined,
        Failure::Busy => Outcome::Busy,
    }
}

/// Room for what the exchange keeps of each step.
pub fn memory(chain: &Chain) -> SmallVec<[super::subject::Memory; super::subject::STEPS_INLINE]> {
    chain.steps.iter().map(|_| super::subject::Memory::default()).collect()
}
