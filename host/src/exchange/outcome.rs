//! How an exchange ends: who answered, why, and with what.
//!
//! Made at each place where the story can end; `account` writes it down.

use crate::chain::Subject;
use crate::chain::subject::ResponseHead;
use crate::message::body::Body;
use crate::message::problem::Problem;
use crate::telemetry::reason::{Fault, Reason};
use std::sync::Arc;

/// Who gave the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    Upstream,
    Policy(Arc<str>),
    Gateway,
    /// Nobody did: the client went away first.
    Client,
}

impl Answered {
    /// `policy NAME`, or the word for who it was.
    pub fn label(&self) -> Arc<str> {
        match self {
            Answered::Upstream => "upstream".into(),
            Answered::Policy(name) => format!("policy {name}").into(),
            Answered::Gateway => "gateway".into(),
            Answered::Client => "client".into(),
        }
    }
}

pub struct Outcome {
    pub reason: Reason,
    pub answered: Answered,
    pub body: Body,
}

impl Outcome {
    /// An answer of the gateway's own, to be written by `answer`.
    pub fn gateway(reason: Reason) -> Outcome {
        Outcome { reason, answered: Answered::Gateway, body: Body::Empty }
    }

    /// Puts the problem document for the reason in place of whatever response there was.
    pub fn answer(mut self, subject: &mut Subject) -> Outcome {
        let problem = Problem::new(self.reason).request_id(subject.id.as_str());
        let (mut parts, body) = problem.into_response(subject.dialect).into_parts();
        if self.reason.fault() == Fault::Client && self.reason == Reason::RequestTimeout {
            // What is left of the request would be taken for the next one.
            parts.headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        self.body = body;
        subject.response = Some(ResponseHead { status: parts.status, headers: parts.headers });
        self
    }
}
