//! How an exchange ends: who answered, why, and with what.
//!
//! Made at each place where the story can end; `account` writes it down.

use crate::chain::Subject;
use crate::chain::subject::ResponseHead;
use crate::message::body::Body;
use crate::message::problem::{Dialect, Problem, grpc_status, trailers_only};
use crate::telemetry::reason::{Fault, Reason};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
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

/// A policy's refusal as its caller understands it: to a gRPC client an HTTP status says little, so
/// it gets a trailers-only answer with the same fields and the problem's own words.
pub fn in_dialect(dialect: Dialect, response: Response<Body>) -> Response<Body> {
    let refuses = response.status().is_client_error() || response.status().is_server_error();
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let speaks_grpc = content_type.is_some_and(|value| value.starts_with(b"application/grpc"));
    if dialect == Dialect::Http || !refuses || speaks_grpc {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut answer = trailers_only(dialect, grpc_status(parts.status), &words(parts.status, &body));
    for (name, value) in &parts.headers {
        if *name != CONTENT_TYPE {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    answer
}

/// The detail or title of a problem document, else the status in words.
fn words(status: StatusCode, body: &Body) -> String {
    let problem = match body {
        Body::Full(bytes) => serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default(),
        _ => serde_json::Value::Null,
    };
    let said = problem.get("detail").or_else(|| problem.get("title")).and_then(|text| text.as_str());
    said.or(status.canonical_reason()).unwrap_or("refused").to_string()
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};

    fn refusal(status: u16, body: &'static str) -> Response<Body> {
        let response = Response::builder().status(status).header(CONTENT_TYPE, "application/problem+json");
        response.header(WWW_AUTHENTICATE, "Bearer").body(Body::full(body)).unwrap()
    }

    #[test]
    fn a_grpc_caller_is_refused_in_trailers() {
        let answer =
            in_dialect(Dialect::Grpc, refusal(401, r#"{"title":"No token","detail":"it is missing"}"#));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], "16");
        assert_eq!(answer.headers()["grpc-message"], "it is missing");
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer");
        assert!(http_body::Body::is_end_stream(answer.body()));
    }

    #[test]
    fn others_and_ordinary_answers_stay_as_they_are() {
        assert_eq!(in_dialect(Dialect::Http, refusal(401, "{}")).status(), 401);
        assert_eq!(in_dialect(Dialect::Grpc, refusal(204, "")).status(), 204);
        assert_eq!(
            in_dialect(Dialect::Grpc, refusal(429, "no json")).headers()["grpc-message"],
            "Too Many Requests"
        );
        assert!(in_dialect(Dialect::Grpc, refusal(429, "")).headers().get(RETRY_AFTER).is_none());
    }
}
