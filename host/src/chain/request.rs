//! The request's way through a chain: header hooks, in order.
//!
//! Called by `exchange` once the route is known. What becomes of one hook stands in `turn`; the way
//! back is `response`.

use super::Stop;
use super::plan::Moment;
use super::step::Chain;
use super::subject::{Memory, STEPS_INLINE, Subject};
use super::turn::Turn;
use crate::plugin::Pool;
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
        if let Some(reads) = &step.plan.request {
            let pool = &pools[step.slot];
            let turn = Turn { step, pool, index, moment: Moment::Request, reads };
            let answered = match turn.now(subject, &mut started) {
                Some(answered) => answered,
                None => Box::pin(turn.later(subject, &mut started)).await,
            };
            if let Some(reply) = answered? {
                return ControlFlow::Break(Stop::Reply { step: index, reply });
            }
        }
        *passed = index + 1;
    }
    ControlFlow::Continue(())
}

/// Room for what the exchange keeps of each step.
pub fn memory(chain: &Chain) -> SmallVec<[Memory; STEPS_INLINE]> {
    chain.steps.iter().map(|_| Memory::default()).collect()
}
