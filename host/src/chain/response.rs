//! The response's way back through a chain: header hooks, in reverse.
//!
//! Called by `exchange` with whatever answers the client: an upstream's response, a policy's
//! reply, or the gateway's own problem. Only the steps that the request got past take part.

use super::plan::Moment;
use super::step::Chain;
use super::subject::Subject;
use super::turn::Turn;
use super::{Stop, edit};
use crate::message::body::Body;
use crate::plugin::{Failure, Pool};
use http::Response;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

/// Runs the response hooks of the first `passed` steps, the last first.
///
/// `Break` carries what must be answered instead; the steps before it have then still to run, so
/// `passed` is left at their number.
pub async fn run(
    chain: &Chain,
    pools: &[Rc<Pool>],
    subject: &mut Subject,
    passed: &mut usize,
) -> ControlFlow<Stop> {
    if *passed == 0 {
        return ControlFlow::Continue(());
    }
    let mut started = Instant::now();
    while *passed > 0 {
        *passed -= 1;
        let (index, step) = (*passed, &chain.steps[*passed]);
        if subject.memory.get(index).is_some_and(|memory| memory.skipped) {
            continue;
        }
        let Some(reads) = &step.plan.response else { continue };
        let turn = Turn { step, pool: &pools[step.slot], index, moment: Moment::Response, reads };
        let answered = match turn.now(subject, &mut started) {
            Some(answered) => answered,
            None => Box::pin(turn.later(subject, &mut started)).await,
        };
        if let Some(reply) = answered? {
            return ControlFlow::Break(Stop::Reply { step: index, reply });
        }
    }
    ControlFlow::Continue(())
}

/// A policy's reply as a response.
///
/// # Errors
/// A failure of the policy, if the reply is one that nobody may give.
pub fn reply(pool: &Pool, reply: crate::plugin::Reply) -> Result<Response<Body>, Failure> {
    edit::reply(reply).map_err(|why| crate::plugin::Lease::blame(pool, Failure::Return(why)))
}
