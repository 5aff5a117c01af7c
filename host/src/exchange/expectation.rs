//! `Expect: 100-continue` on its way to an upstream (RFC 9110 section 10.1.1).
//!
//! hyper asks a client for its body when somebody first reads it. So the body is not read before
//! the upstream has said whether it wants it, or has had its time: what refuses by the head alone
//! spares both sides the body. Used by `send`; what a policy reads is asked for at once.

use crate::message::body::{Body, BodyError};
use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an upstream may say nothing before it gets the body all the same: many never say 100.
/// What curl waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the client waits to be asked. Nobody can ask an HTTP/1.0 client, and hyper asks none on
/// HTTP/2.
pub fn is_stated(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// States the expectation to an HTTP/1 upstream, and holds the body back until that has answered.
pub fn state(request: &mut Request<Body>) {
    if request.body().is_end_stream() {
        return;
    }
    let asked = Arc::new(Notify::new());
    let told = Arc::clone(&asked);
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            told.notify_one();
        }
    });
    request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
    let body = std::mem::take(request.body_mut());
    let asked = async move { drop(tokio::time::timeout(PATIENCE, asked.notified()).await) };
    *request.body_mut() = Body::wrap(Held { body, asked: Some(Box::pin(asked)) });
}

/// A body that waits to be asked for.
struct Held {
    body: Body,
    asked: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(asked) = &mut this.asked {
            ready!(asked.as_mut().poll(cx));
            this.asked = None;
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_to_be_asked() {
        let stated = |version, value| {
            is_stated(version, &HeaderMap::from_iter([(EXPECT, HeaderValue::from_static(value))]))
        };
        assert!(stated(Version::HTTP_11, "100-Continue"));
        assert!(!stated(Version::HTTP_11, "200-ok"));
        assert!(!stated(Version::HTTP_10, "100-continue"));
        assert!(!stated(Version::HTTP_2, "100-continue"));
        assert!(!is_stated(Version::HTTP_11, &HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_request_without_a_body_expects_nothing() {
        let mut request = Request::new(Body::Empty);
        state(&mut request);
        assert!(request.headers().is_empty());
        let mut request = Request::new(Body::full("hello"));
        state(&mut request);
        assert_eq!(request.headers()[EXPECT], "100-continue");
        let polled =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(request.body_mut()).poll_frame(cx).is_pending()));
        assert!(polled.await);
    }
}
