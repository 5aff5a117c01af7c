//! The answers of the admin listener and the fields all of them carry.
//!
//! Called by `route`. Never decides what to answer.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

pub(super) type Answer = Response<Full<Bytes>>;

/// Prometheus's text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) fn text(status: StatusCode, text: String) -> Answer {
    answer(status, TEXT, text)
}

pub(super) fn metrics(text: String) -> Answer {
    answer(StatusCode::OK, METRICS, text)
}

/// Indented, for `curl` and eyes.
pub(super) fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, JSON, format!("{value:#}\n"))
}

/// `policy`: the page's Content-Security-Policy.
pub(super) fn html(page: String, policy: HeaderValue) -> Answer {
    let mut answer = answer(StatusCode::OK, HTML, page);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    answer
}

/// RFC 9457. `kind`: the last part of its `type`.
pub(super) fn problem(status: StatusCode, kind: &str, detail: &str) -> Answer {
    let problem = serde_json::json!({
        "type": format!("urn:witgate:problem:{kind}"),
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(status, PROBLEM, format!("{problem:#}\n"))
}

fn answer(status: StatusCode, kind: HeaderValue, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let closed = "default-src 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(closed));
    answer
}
