//! A route's chain, compiled: which policies, in which order, with which hooks.
//!
//! Made by `compile`, part of the snapshot. Immutable. Which hooks exist is decided here, so that
//! the loops of `request` and `response` ask nothing twice.

use super::plan::{Moment, Read, Reads, Writes};
use crate::message::trailers::remove;
use crate::plugin::Policy;
use crate::plugin::plan::BodyMode;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

/// A policy at its place.
#[derive(Debug)]
pub struct Step {
    pub policy: Arc<Policy>,
    /// Index of the policy in the snapshot, and of its pool in every worker's view.
    pub slot: usize,
    pub plan: Arc<StepPlan>,
}

/// A policy's plan with its names parsed; shared by all places the policy stands at.
#[derive(Debug)]
pub struct StepPlan {
    pub request: Option<Reads>,
    pub response: Option<Reads>,
    pub log: Option<Reads>,
    pub writes: Writes,
    pub request_body: BodyStep,
    pub response_body: BodyStep,
}

/// What becomes of a body at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    Pass,
    /// Collected up to so many bytes.
    Buffer(usize),
    Filter,
}

impl StepPlan {
    /// # Errors
    /// The first name of the policy's plan that cannot be read or written, or a hook that is
    /// missing for what the plan wants.
    pub fn of(policy: &Policy) -> Result<StepPlan, String> {
        let (plan, exports) = (&policy.plan, policy.plugin.exports());
        let reads = |exported: bool, names: &[String], moment| match exported {
            true => Reads::parse(names, moment).map(Some),
            false => Ok(None),
        };
        let body = |mode, buffered: bool, hook: &str| match mode {
            BodyMode::Skip => Ok(BodyStep::Pass),
            BodyMode::Buffer(limit) if buffered => Ok(BodyStep::Buffer(limit as usize)),
            BodyMode::Stream if exports.body_stream => Ok(BodyStep::Filter),
            BodyMode::Buffer(_) => Err(format!("its plan buffers a body, but it exports no `{hook}`")),
            BodyMode::Stream => Err("its plan streams a body, but it exports no `body-stream`".to_string()),
        };
        Ok(StepPlan {
            request: reads(exports.on_request, &plan.request_reads, Moment::Request)?,
            response: reads(exports.on_response, &plan.response_reads, Moment::Response)?,
            log: reads(exports.on_log, &plan.log_reads, Moment::Log)?,
            writes: Writes::parse(&plan.writes, policy.settings.grants.writes.as_ref())?
                .among(&policy.settings.grants.upstreams),
            request_body: body(plan.request_body, exports.on_request_body, "on-request-body")?,
            response_body: body(plan.response_body, exports.on_response_body, "on-response-body")?,
        })
    }
}

/// The policies of one route, in order.
#[derive(Debug, Default)]
pub struct Chain {
    pub steps: Box<[Step]>,
    /// Whether any step touches the request's (the response's) body, or wants the end told.
    pub request_bodies: bool,
    pub response_bodies: bool,
    pub logs: bool,
    /// Whether any step reads the request's own fields after the request was sent on.
    pub recalls: bool,
    /// Whether any step's imports need the exchange's facts.
    pub lends: bool,
}

impl StepPlan {
    /// Whether the policy judges or sets this field in a request's head, so that it must not come in
    /// behind the body.
    fn minds_in_request(&self, name: &HeaderName) -> bool {
        self.writes.header(name.as_str())
            || self.request.as_ref().is_some_and(|reads| {
                reads.all_headers
                    || reads.list.iter().any(|read| matches!(read, Read::Header(read) if read == name))
            })
    }

    /// Whether the policy may set this field in a response's head, or take it away. Not for the
    /// status of gRPC, whose place is the trailers.
    fn minds_in_response(&self, name: &HeaderName) -> bool {
        self.writes.header(name.as_str()) && !name.as_str().starts_with("grpc-")
    }
}

impl Chain {
    /// Takes out of a request's trailers what a policy judges or sets in its head.
    pub fn sift_request_trailers(&self, trailers: &mut HeaderMap) {
        remove(trailers, |name| self.steps.iter().any(|step| step.plan.minds_in_request(name)));
    }

    /// Takes out of a response's trailers what a policy may set in its head, or take away.
    pub fn sift_response_trailers(&self, trailers: &mut HeaderMap) {
        remove(trailers, |name| self.steps.iter().any(|step| step.plan.minds_in_response(name)));
    }

    pub fn new(steps: Vec<Step>) -> Chain {
        let any = |touches: fn(&StepPlan) -> bool| steps.iter().any(|step| touches(&step.plan));
        Chain {
            request_bodies: any(|plan| plan.request_body != BodyStep::Pass),
            response_bodies: any(|plan| plan.response_body != BodyStep::Pass),
            logs: any(|plan| plan.log.is_some()),
            recalls: any(|plan| [&plan.response, &plan.log].into_iter().flatten().any(Reads::recalls)),
            lends: steps.iter().any(|step| step.policy.wants_facts()),
            steps: steps.into(),
        }
    }
}
