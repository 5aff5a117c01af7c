//! One header hook's turn: lease, read, call, judge, count.
//!
//! `request` and `response` make one for each step; `body` shares what every hook needs. Most
//! turns end at once: a warm instance whose imports never suspend is called straight on the
//! worker's stack. Only the others wait, in a future of their own.

use super::plan::{Moment, Reads};
use super::step::Step;
use super::subject::Subject;
use super::values::Values;
use super::{Stop, edit};
use crate::message::headers::text;
use crate::plugin::instance::HeaderCall;
use crate::plugin::plan::OnError;
use crate::plugin::{Facts, Failure, Lease, Pool, Reply, Verdict};
use crate::telemetry::metric::{Hook, Verdict as Outcome};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

/// A step's header hook, about to be called.
pub(super) struct Turn<'a> {
    pub step: &'a Step,
    pub pool: &'a Rc<Pool>,
    pub index: usize,
    pub moment: Moment,
    pub reads: &'a Reads,
}

/// What a policy answers instead, if it does; its edits are applied.
type Answered = ControlFlow<Stop, Option<Reply>>;

impl Turn<'_> {
    /// The whole turn, if it needs no waiting; `None` leaves everything as it was, for `later`. The
    /// two calls stand in both loops: a future around them would cost each hook 66 instructions.
    ///
    /// `started` is moved on to the hook's end, where the next one starts: a chain reads the clock
    /// once for each hook.
    #[inline]
    pub(super) fn now(&self, subject: &mut Subject, started: &mut Instant) -> Option<Answered> {
        let memory = subject.memory.get_mut(self.index);
        let mut leased = match memory.and_then(|memory| memory.held.take()) {
            Some(held) => held,
            None => self.pool.lease_warm()?,
        };
        if !leased.is_prompt() {
            hold(leased, subject, self.index);
            return None;
        }
        let (note, mut facts) = self.lend(subject);
        let values = self.read(subject, &note);
        let verdict = values.map(|values| leased.now(self.call(&values.borrowed(), &note), &mut facts));
        let Some(verdict) = verdict else { return Some(self.illegible(leased, subject, note, facts)) };
        give_back(subject, self.index, note, facts);
        let verdict = finish(leased, verdict, subject, self.index);
        Some(self.conclude(verdict, subject, started))
    }

    /// The turn of an instance that has to be made first, or that may suspend.
    pub(super) async fn later(&self, subject: &mut Subject, started: &mut Instant) -> Answered {
        let verdict = match lease(self.pool, subject, self.index).await {
            Ok(mut leased) => {
                let (note, mut facts) = self.lend(subject);
                let verdict = match self.read(subject, &note) {
                    Some(values) => {
                        Some(leased.later(self.call(&values.borrowed(), &note), &mut facts).await)
                    }
                    None => None,
                };
                let Some(verdict) = verdict else { return self.illegible(leased, subject, note, facts) };
                give_back(subject, self.index, note, facts);
                finish(leased, verdict, subject, self.index)
            }
            Err(failure) => Err(failure),
        };
        self.conclude(verdict, subject, started)
    }

    fn lend(&self, subject: &mut Subject) -> (Vec<u8>, Option<Box<Facts>>) {
        lend(self.step, subject, self.index, self.reads.all_headers)
    }

    /// The values that the hook reads; none if one is not UTF-8.
    fn read<'s>(&self, subject: &'s Subject, note: &'s [u8]) -> Option<Values<'s>> {
        let legible =
            !self.reads.all_headers || subject.headers_in_hand().values().all(|value| text(value).is_ok());
        if !legible {
            return None;
        }
        Values::read(&self.reads.list, subject, note).ok()
    }

    fn call<'v>(&self, values: &'v [Option<&'v str>], note: &'v [u8]) -> HeaderCall<'v> {
        match self.moment {
            Moment::Request => HeaderCall::Request(values),
            Moment::Response | Moment::Log => HeaderCall::Response(values, note),
        }
    }

    /// The guest was not called: the instance is as good as before.
    fn illegible(
        &self,
        leased: Lease,
        subject: &mut Subject,
        note: Vec<u8>,
        facts: Option<Box<Facts>>,
    ) -> Answered {
        let _ = leased.finish(Ok(()));
        give_back(subject, self.index, note, facts);
        ControlFlow::Break(Stop::NotUtf8 { step: self.index })
    }

    fn conclude(
        &self,
        verdict: Result<Verdict, Failure>,
        subject: &mut Subject,
        started: &mut Instant,
    ) -> Answered {
        let hook = if self.moment == Moment::Request { Hook::Request } else { Hook::Response };
        let responding = self.moment == Moment::Response;
        let judged = verdict.and_then(|verdict| match verdict {
            Verdict::Proceed => Ok((Outcome::Proceed, None)),
            Verdict::Respond(reply) => Ok((Outcome::Respond, Some(reply))),
            Verdict::Amend(edits) => {
                edit::amend(edits, &self.step.plan.writes, responding, subject, self.index)
                    .map(|()| (Outcome::Amend, None))
                    .map_err(|why| Lease::blame(self.pool, Failure::Return(why)))
            }
        });
        settle(judged, self.pool, subject, self.index, hook, started)
    }
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
        let (policy, hook) = (policy.label(), hook.label());
        tracing::warn!(target: "policy", %policy, hook, request = %subject.id, "{failure}");
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

/// Keeps a lease for this step's next call.
fn hold(lease: Lease, subject: &mut Subject, index: usize) {
    if let Some(memory) = subject.memory.get_mut(index) {
        memory.held = Some(lease);
    }
}

/// What is the exchange's and goes with a call, until `give_back`: the note of this step, and what
/// the guest is lent, if its imports can use it.
pub(super) fn lend(
    step: &Step,
    subject: &mut Subject,
    index: usize,
    all_headers: bool,
) -> (Vec<u8>, Option<Box<Facts>>) {
    let note = subject.memory.get_mut(index).map(|memory| std::mem::take(&mut memory.note));
    (note.unwrap_or_default(), facts(step, subject, all_headers))
}

fn facts(step: &Step, subject: &mut Subject, all_headers: bool) -> Option<Box<Facts>> {
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
