//! Calls to upstreams on behalf of guests, through the worker's own pools.
//!
//! `worker` runs one of these per `FetchJob`. Grants were checked where the guest asked; here the
//! request is made well-formed and the answer bounded. Never retries by itself: that is the
//! upstream's own policy.

use super::view::View;
use crate::chain::plan::is_framing;
use crate::message::body::Body;
use crate::message::path::{check_query, normalise};
use crate::plugin::FetchJob;
use crate::plugin::bindings::witgate::policy::http_client::{FetchError, FetchRequest, FetchResponse};
use crate::telemetry::reason::Reason;
use crate::upstream::{Call, Failure};
use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use std::rc::Rc;
use std::time::Duration;

/// A call that says nothing about time gets its upstream's, and at most this.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of an answer, whatever the guest's memory allows.
const BYTES_MAX: usize = 16 << 20;

pub async fn run(view: Rc<View>, mut job: FetchJob) {
    let bytes_max = job.bytes_max.min(BYTES_MAX);
    let answer = tokio::select! {
        answer = fetch(&view, job.request, bytes_max) => answer,
        // The guest is gone, and with it whoever wanted to know.
        () = job.reply.closed() => return,
    };
    let _ = job.reply.send(answer);
}

async fn fetch(view: &View, asked: FetchRequest, bytes_max: usize) -> Result<FetchResponse, FetchError> {
    let index = *view.snapshot.upstream_names.get(&asked.upstream).ok_or(FetchError::NotGranted)?;
    let timeout = match asked.timeout_millis {
        0 => None,
        millis => Some(Duration::from_millis(u64::from(millis)).min(TIME_MAX)),
    };
    let request = request(asked).ok_or(FetchError::Protocol)?;
    let work = async {
        let mut call = Call { timeout, ..Call::default() };
        let response =
            view.upstreams[index].send(request, &mut call).await.map_err(|failure| error(&failure))?;
        collect(response, bytes_max).await
    };
    tokio::time::timeout(timeout.unwrap_or(TIME_MAX), work).await.unwrap_or(Err(FetchError::Timeout))
}

fn request(asked: FetchRequest) -> Option<Request<Body>> {
    let (path, query) = match asked.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (asked.path.as_str(), None),
    };
    let normal = normalise(path).ok()?;
    if !normal.starts_with('/') || query.is_some_and(|query| check_query(query).is_err()) {
        return None;
    }
    let target = match query {
        Some(query) => PathAndQuery::try_from(format!("{normal}?{query}")),
        None => PathAndQuery::try_from(normal.into_owned()),
    };
    let mut request = Request::new(Body::full(asked.body));
    *request.method_mut() =
        Method::from_bytes(asked.method.as_bytes()).ok().filter(|m| *m != Method::CONNECT)?;
    *request.uri_mut() = target.ok()?.into();
    for (name, value) in asked.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !is_framing(name.as_str()))?;
        request.headers_mut().append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(request)
}

async fn collect(response: Response<Body>, bytes_max: usize) -> Result<FetchResponse, FetchError> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| FetchError::Protocol)?.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        // A value that is not UTF-8 has no form in the guest's strings.
        Some((name.as_str().to_string(), std::str::from_utf8(value.as_bytes()).ok()?.to_string()))
    });
    Ok(FetchResponse { status: parts.status.as_u16(), headers: headers.collect(), body: bytes.into() })
}

fn error(failure: &Failure) -> FetchError {
    match failure.reason() {
        Reason::NoHealthyEndpoint => FetchError::NoHealthyEndpoint,
        Reason::ResponseTimeout => FetchError::Timeout,
        Reason::ConnectFailed | Reason::ConnectTimeout => FetchError::Connect,
        _ => FetchError::Protocol,
    }
}
