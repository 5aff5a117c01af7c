//! Answers on their way out: counted while they are written, and those to refused requests.
//!
//! Called by `serve`. Never changes what a service answered, but for what HTTP itself rules out.

use super::Fault;
use super::sweep::Link;
use crate::message::body::{Body, BodyError};
use crate::message::problem::{Dialect, Problem};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Counts as a request in flight from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    link: Rc<Link>,
    /// The last piece of the answer is handed over; it is the client's turn.
    handed: Cell<bool>,
    /// Nothing is left to hand over.
    ended: Cell<bool>,
    /// A moment of `Link::now`.
    begun: u32,
}

impl InFlight {
    /// Returns what `sight` saw of the head as well.
    pub(super) fn begin(link: &Rc<Link>) -> (InFlight, u8) {
        let (seen, begun) = (link.pulse.begin(), link.now());
        (InFlight { link: Rc::clone(link), handed: Cell::new(false), ended: Cell::new(false), begun }, seen)
    }

    fn set_handed(&self, handed: bool) {
        if self.handed.replace(handed) != handed {
            let count = self.link.handed.get();
            self.link.handed.set(if handed { count + 1 } else { count.saturating_sub(1) });
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.set_handed(false);
        self.link.pulse.end();
        if !self.ended.get() {
            self.link.abandoned(self.begun);
        }
    }
}

/// A body that keeps its request in flight.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    in_flight: InFlight,
}

impl Answer {
    /// What hyper is to send to a request of this version; `to_head`: of the method HEAD. On a
    /// connection that leaves, hyper says so itself, unless it has not been told yet.
    pub(super) fn response(
        mut response: Response<Body>,
        version: Version,
        to_head: bool,
        in_flight: InFlight,
    ) -> Response<Answer> {
        if version == Version::HTTP_2 {
            remove_forbidden_body(&mut response, to_head);
        }
        if in_flight.link.leaves()
            && version != Version::HTTP_2
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // hyper does not ask for the end of a body that has ended.
        in_flight.ended.set(response.body().is_end_stream());
        response.map(|body| Answer { body, in_flight })
    }
}

/// hyper sends what it is given on HTTP/2, where some answers may have no content (RFC 9110 section
/// 6.4.1); on HTTP/1 it looks after that itself.
fn remove_forbidden_body(response: &mut Response<Body>, to_head: bool) {
    let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !(to_head || bodiless) || response.body().is_end_stream() {
        return;
    }
    if to_head && let Some(length @ 1..) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    *response.body_mut() = Body::Empty;
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.in_flight.set_handed(polled.is_ready());
        // A body that breaks is not the client's doing.
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.in_flight.ended.set(true);
        }
        let pieces = &self.in_flight.link.pieces;
        pieces.set(pieces.get().wrapping_add(1));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells the client what is wrong. HTTP/1 closes: where one request ends and the next begins may
/// be in doubt.
pub(super) fn refusal(fault: Fault, request: &Parts) -> Response<Body> {
    let problem = Problem::new(fault.reason()).status(fault.status()).detail(fault.detail());
    let mut response = problem.into_response(Dialect::of(&request.headers));
    if request.version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_refusal_is_a_problem_document() {
        let request = |version| http::Request::builder().version(version).body(()).unwrap().into_parts().0;
        let response = refusal(Fault::TransferCoding, &request(Version::HTTP_11));
        assert_eq!(response.status(), 501);
        assert_eq!(response.headers()["connection"], "close");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], 501);
        assert_eq!(problem["type"], "urn:witgate:problem:malformed_request");
        assert_eq!(problem["detail"], Fault::TransferCoding.detail());
        let response = refusal(Fault::HostMissing, &request(Version::HTTP_2));
        assert!(!response.headers().contains_key("connection"));
        let mut grpc = request(Version::HTTP_2);
        grpc.headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        let response = refusal(Fault::HostMissing, &grpc);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &HeaderValue::from_static("13"))
        );
    }
}
