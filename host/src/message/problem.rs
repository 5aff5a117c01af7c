//! The gateway's own answers: problem documents (RFC 9457), and for gRPC callers trailers-only
//! responses, which is the only refusal that they understand.
//!
//! Called by `exchange` (and by `connection` for what fails before an exchange). Never tells a
//! client a trap's text, an upstream's address or a secret: `detail` is public by its type's
//! contract.

use bytes::{BufMut, BytesMut};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Response, StatusCode};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

use super::body::Body;
use super::path::push_escape;
use crate::telemetry::reason::Reason;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How a caller wants to be refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    Http,
    Grpc,
    GrpcWeb,
}

impl Dialect {
    /// By the content type of the request.
    pub fn of(headers: &HeaderMap) -> Dialect {
        let Some(kind) = headers.get(CONTENT_TYPE) else { return Dialect::Http };
        let kind = kind.as_bytes();
        let begins_with =
            |prefix: &[u8]| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if begins_with(b"application/grpc-web") {
            return Dialect::GrpcWeb;
        }
        let rest = kind.get("application/grpc".len()..).unwrap_or_default();
        if begins_with(b"application/grpc") && matches!(rest, [] | [b'+' | b';' | b' ', ..]) {
            return Dialect::Grpc;
        }
        Dialect::Http
    }
}

/// An answer of the gateway itself.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    pub reason: Reason,
    /// In place of the reason's own.
    pub status: Option<StatusCode>,
    /// Shown to the client, so it may name only what the client sent or may know.
    pub detail: Option<Cow<'a, str>>,
    pub request_id: Option<&'a str>,
    /// For 405.
    pub allow: Option<HeaderValue>,
    /// Rounded up to whole seconds.
    pub retry_after: Option<Duration>,
}

impl<'a> Problem<'a> {
    pub fn new(reason: Reason) -> Problem<'a> {
        Problem { reason, status: None, detail: None, request_id: None, allow: None, retry_after: None }
    }

    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Problem<'a> {
        self.status = Some(status);
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'a, str>>) -> Problem<'a> {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn request_id(mut self, id: &'a str) -> Problem<'a> {
        self.request_id = Some(id);
        self
    }

    #[must_use]
    pub fn allow(mut self, methods: HeaderValue) -> Problem<'a> {
        self.allow = Some(methods);
        self
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Problem<'a> {
        self.retry_after = Some(wait);
        self
    }

    pub fn into_response(self, dialect: Dialect) -> Response<Body> {
        let mut response = match dialect {
            Dialect::Http => self.document(),
            Dialect::Grpc | Dialect::GrpcWeb => {
                let message = self.detail.as_deref().unwrap_or(self.reason.title());
                trailers_only(dialect, grpc_status(self.status.unwrap_or(self.reason.status())), message)
            }
        };
        let headers = response.headers_mut();
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, methods);
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn document(&self) -> Response<Body> {
        #[derive(Serialize)]
        struct Document<'d> {
            r#type: Label,
            title: &'static str,
            status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'d str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'d str>,
        }
        let status = self.status.unwrap_or(self.reason.status());
        let document = Document {
            r#type: Label(self.reason),
            title: self.reason.title(),
            status: status.as_u16(),
            detail: self.detail.as_deref(),
            request_id: self.request_id,
        };
        let mut text = BytesMut::with_capacity(256).writer();
        // Writing to memory, nothing here can fail; were it to, the status still tells.
        let written = serde_json::to_writer(&mut text, &document);
        let body = if written.is_ok() { text.into_inner().freeze() } else { Default::default() };
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        // 404 and 405 may otherwise be cached by heuristics (RFC 9110, 15.1).
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        *response.body_mut() = Body::full(body);
        response
    }
}

/// The `type` of a problem: no place on the net to fetch, a name to compare.
struct Label(Reason);

impl Serialize for Label {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:witgate:problem:{}", self.0.label()))
    }
}

/// A gRPC refusal without a message: all in the head, HTTP status 200. Also for what a policy
/// refuses.
pub fn trailers_only(dialect: Dialect, status: u8, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    let kind = match dialect {
        Dialect::GrpcWeb => "application/grpc-web+proto",
        Dialect::Grpc | Dialect::Http => "application/grpc",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::try_from(encode_message(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// The gRPC status of a status of HTTP, as gRPC's own mapping has it
/// (`http-grpc-status-mapping.md`).
pub fn grpc_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,                   // INTERNAL
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 => 12,                   // UNIMPLEMENTED
        429 | 502 | 503 | 504 => 14, // UNAVAILABLE
        _ => 2,                      // UNKNOWN
    }
}

/// Percent-encoding of `grpc-message`: everything but visible ASCII and space, and `%` itself.
fn encode_message(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte as char),
            _ => push_escape(&mut encoded, byte),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn body(response: Response<Body>) -> Vec<u8> {
        match response.into_body() {
            Body::Full(bytes) => bytes.to_vec(),
            Body::Empty => Vec::new(),
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn a_problem_document() {
        let response = Problem::new(Reason::PathRefused)
            .detail("a \"quoted\"\n\u{1}ü path")
            .request_id("abc")
            .retry_after(Duration::from_millis(1500))
            .into_response(Dialect::Http);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let length = response.headers()[CONTENT_LENGTH].clone();
        let body = body(response);
        assert_eq!(length, body.len().to_string());
        let document: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            document,
            json!({
                "type": "urn:witgate:problem:path_refused",
                "title": "The path is ambiguous",
                "status": 400,
                "detail": "a \"quoted\"\n\u{1}ü path",
                "request_id": "abc",
            })
        );
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let response = Problem::new(Reason::MethodNotAllowed)
            .allow(HeaderValue::from_static("GET, HEAD"))
            .into_response(Dialect::Http);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        let document: Value = serde_json::from_slice(&body(response)).expect("JSON");
        assert_eq!(document.as_object().map(|members| members.len()), Some(3));
    }

    #[test]
    fn every_reason_has_its_document() {
        for reason in Reason::ALL {
            let response = Problem::new(*reason).into_response(Dialect::Http);
            assert_eq!(response.status(), reason.status());
            assert!(!body(response).is_empty());
        }
    }

    #[test]
    fn grpc_callers_get_trailers_only() {
        let response =
            Problem::new(Reason::NoHealthyEndpoint).detail("100% ü\r\n").into_response(Dialect::Grpc);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "100%25 %C3%BC%0D%0A");
        assert!(matches!(response.body(), Body::Empty));
        let refused = Problem::new(Reason::NoRoute).into_response(Dialect::GrpcWeb);
        assert_eq!(refused.headers()["grpc-status"], "12");
        assert_eq!(refused.headers()[CONTENT_TYPE], "application/grpc-web+proto");
    }

    #[test]
    fn callers_are_known_by_their_content_type() {
        let of = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            Dialect::of(&headers)
        };
        assert_eq!(of("application/grpc"), Dialect::Grpc);
        assert_eq!(of("Application/gRPC+proto"), Dialect::Grpc);
        assert_eq!(of("application/grpc;x=1"), Dialect::Grpc);
        assert_eq!(of("application/grpc-web-text"), Dialect::GrpcWeb);
        assert_eq!(of("application/grpcx"), Dialect::Http);
        assert_eq!(of("application/json"), Dialect::Http);
        assert_eq!(Dialect::of(&HeaderMap::new()), Dialect::Http);
    }
}
