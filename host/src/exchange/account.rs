//! The account of an exchange: metrics, access log, log policies, written once it is over.
//!
//! `run` opens it first and closes it with the answer; the answer's body carries it to its last
//! byte, or to where the client left. Every exchange is written down exactly once. Never changes
//! what the client gets.

use super::Inlet;
use super::intake::{Counted, Refused};
use super::outcome::{Answered, Outcome};
use super::view::View;
use crate::chain;
use crate::chain::Subject;
use crate::chain::subject::End;
use crate::connection::Fault;
use crate::message::body::{Body, BodyError};
use crate::message::id::RequestId;
use crate::message::peer::Peer;
use crate::message::problem::Problem;
use crate::message::trailers::receive_response;
use crate::snapshot::Route;
use crate::telemetry::access_log::{Answered as Who, Entry};
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// An account that is still open. Dropped unclosed, it says that the client went away.
pub struct Account(Option<Box<Record>>);

struct Record {
    inlet: Rc<Inlet>,
    peer: Rc<Peer>,
    started: Instant,
    method: Method,
    /// As received, of a request that was not admitted.
    path: String,
    /// That the client was told, of a request that was not admitted.
    id: Option<RequestId>,
    version: Version,
    admitted: Option<Admitted>,
    counted: Option<Rc<Counted>>,
    upstream: Option<Duration>,
    status: StatusCode,
    reason: Reason,
    answered: Answered,
    bytes_out: u64,
    trailers: HeaderMap,
    /// The answer's body was read to its end.
    whole: bool,
}

struct Admitted {
    view: Rc<View>,
    route: usize,
    /// What is told of an exchange that was broken off.
    id: RequestId,
    client: IpAddr,
    path: PathAndQuery,
    /// Comes home with the answer; an exchange that is broken off has none.
    subject: Option<Box<Subject>>,
}

impl Account {
    pub fn open(inlet: &Rc<Inlet>, peer: &Rc<Peer>, request: &Request<Incoming>) -> Account {
        Account(Some(Box::new(Record {
            inlet: inlet.clone(),
            peer: peer.clone(),
            started: Instant::now(),
            method: request.method().clone(),
            path: String::new(),
            id: None,
            version: request.version(),
            admitted: None,
            counted: None,
            upstream: None,
            status: Reason::ClientClosed.status(),
            reason: Reason::ClientClosed,
            answered: Answered::Client,
            bytes_out: 0,
            trailers: HeaderMap::new(),
            whole: false,
        })))
    }

    /// The request has a route.
    pub fn admit(&mut self, view: &Rc<View>, route: usize, subject: &Subject, counted: Rc<Counted>) {
        if let Some(record) = &mut self.0 {
            record.admitted = Some(Admitted {
                view: view.clone(),
                route,
                id: subject.id,
                client: subject.client.ip,
                path: subject.routed.clone(),
                subject: None,
            });
            record.counted = Some(counted);
        }
    }

    /// The upstream was asked; `call` says how long that took.
    pub fn called(&mut self, elapsed: Duration) {
        if let Some(record) = &mut self.0 {
            record.upstream = Some(elapsed);
        }
    }

    /// The reason as it really is: a body that broke off because the gateway broke it off.
    pub fn reason_of(&self, reason: Reason) -> Reason {
        self.0.as_ref().and_then(|record| record.body_broken()).unwrap_or(reason)
    }

    /// Answers a request that got no chain.
    pub fn refuse(mut self, refused: Refused) -> Response<Body> {
        let id = self.0.as_ref().map(|record| record.inlet.worker.draw_id());
        let mut problem = Problem::new(refused.reason);
        if let Some(allow) = refused.allow {
            problem = problem.allow(allow);
        }
        if let Some(id) = &id {
            problem = problem.request_id(id.as_str());
        }
        let response = problem.into_response(refused.dialect);
        if let Some(mut record) = self.0.take() {
            record.path = refused.path;
            record.id = id;
            record.reason = refused.reason;
            record.answered = Answered::Gateway;
            record.status = response.status();
            record.bytes_out = response.body().size_hint().exact().unwrap_or(0);
        }
        response
    }

    /// Makes the answer, which carries the account to its end.
    pub fn close(mut self, mut subject: Box<Subject>, outcome: Outcome) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        let (status, headers) = match &mut subject.response {
            // Log policies may still read what the client was told.
            Some(head) if self.0.as_ref().is_some_and(|record| record.logs()) => {
                (head.status, head.headers.clone())
            }
            Some(head) => (head.status, std::mem::take(&mut head.headers)),
            None => (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new()),
        };
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if status == StatusCode::NO_CONTENT {
            // RFC 9110, 8.6: also where a policy made it one.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let Some(mut record) = self.0.take() else { return response };
        if let Some(counted) = &record.counted {
            counted.answered.set(true);
            if counted.trailed.get() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        let no_body = subject.method == Method::HEAD || outcome.body.is_end_stream();
        record.status = status;
        record.reason = outcome.reason;
        record.answered = outcome.answered;
        if let Some(admitted) = &mut record.admitted {
            admitted.subject = Some(subject);
        }
        *response.body_mut() = match outcome.body {
            body if no_body => body,
            Body::Full(bytes) => {
                record.bytes_out = bytes.len() as u64;
                Body::Full(bytes)
            }
            body => Body::wrap(Told { body, record, failed: false }),
        };
        response
    }
}

impl Record {
    /// When an exchange that took `total` and ends now began, since the Unix epoch. Reckoned at the
    /// end, and so only where it is told.
    fn start(&self, total: Duration) -> Duration {
        self.inlet.worker.clock.unix().saturating_sub(total)
    }

    /// Log policies see what the upstream may say in trailers; the client, what the chain lets it have.
    fn tell_trailers(&mut self, trailers: &mut HeaderMap) {
        receive_response(trailers);
        self.trailers.clone_from(trailers);
        if let Some(admitted) = &self.admitted {
            admitted.view.snapshot.routes[admitted.route].chain.sift_response_trailers(trailers);
        }
    }

    /// Whether a policy is told how the exchange ended.
    fn logs(&self) -> bool {
        self.admitted
            .as_ref()
            .is_some_and(|admitted| admitted.view.snapshot.routes[admitted.route].chain.logs)
    }

    /// Why the request's body was broken off, if it was.
    fn body_broken(&self) -> Option<Reason> {
        self.counted.as_ref()?.broken.get()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let total = self.started.elapsed();
        let bytes_in = self.counted.as_ref().map_or(0, |counted| counted.bytes.get());
        let inlet = self.inlet.clone();
        let worker = &inlet.worker;
        let Some(mut admitted) = self.admitted.take() else {
            worker.unrouted.exchange(
                self.status.as_u16(),
                self.reason,
                total,
                None,
                bytes_in,
                self.bytes_out,
            );
            write_line(self, None, total, bytes_in);
            return;
        };
        let view = admitted.view.clone();
        let route = &view.snapshot.routes[admitted.route];
        route.metrics.exchange(
            self.status.as_u16(),
            self.reason,
            total,
            self.upstream,
            bytes_in,
            self.bytes_out,
        );
        if let Some(subject) = &mut admitted.subject {
            if let Some(identity) = &subject.identity {
                worker.consumer(identity).exchange();
            }
            if route.chain.logs {
                subject.end = Some(End {
                    start: self.start(total),
                    total,
                    upstream: self.upstream,
                    bytes_in,
                    bytes_out: self.bytes_out,
                    answered_by: self.answered.label(),
                    answered_why: self.reason.label(),
                    trailers: std::mem::take(&mut self.trailers),
                });
                chain::log::add(&route.chain, &view.waiting, subject);
            }
        }
        write_line(self, Some((route, &admitted)), total, bytes_in);
    }
}

fn write_line(record: &Record, admitted: Option<(&Route, &Admitted)>, total: Duration, bytes_in: u64) {
    let Some(access_log) = &record.inlet.worker.access_log else { return };
    let answered = match &record.answered {
        Answered::Upstream => Who::Upstream,
        Answered::Policy(name) => Who::Policy(name),
        Answered::Gateway => Who::Gateway,
        Answered::Client => Who::Client,
    };
    let subject = admitted.and_then(|(_, admitted)| admitted.subject.as_deref());
    access_log.write(&Entry {
        time: record.start(total),
        id: admitted
            .map_or(record.id.as_ref(), |(_, admitted)| Some(&admitted.id))
            .map_or("", RequestId::as_str),
        client: admitted.map_or(record.peer.address.ip().to_canonical(), |(_, admitted)| admitted.client),
        method: record.method.as_str(),
        path: admitted.map_or(&record.path, |(_, admitted)| admitted.path.path()),
        api: admitted.map(|(route, _)| &*route.api),
        operation: admitted.and_then(|(route, _)| route.operation.as_deref()),
        consumer: subject.and_then(|subject| subject.consumer()).map(|name| &**name),
        product: subject.and_then(|subject| subject.product()).map(|name| &**name),
        status: record.status.as_u16(),
        bytes_in,
        bytes_out: record.bytes_out,
        total,
        upstream: record.upstream,
        answered,
        reason: record.reason,
        listener: &record.peer.listener,
        protocol: match record.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        user_agent: None,
    });
}

/// Writes down a request that the connection refused itself.
pub fn refused(inlet: &Rc<Inlet>, peer: &Rc<Peer>, request: &Parts, fault: Fault) {
    let asked = (request.method.clone(), request.uri.path().to_string(), request.version);
    turned_away(inlet, peer, asked, fault.status(), fault.reason());
}

/// Writes down a head that could not be read: who sent it is known, and nothing else.
pub fn unread(inlet: &Rc<Inlet>, peer: &Rc<Peer>, reason: Reason) {
    let asked = (Method::from_bytes(b"-").unwrap_or_default(), String::new(), Version::HTTP_11);
    turned_away(inlet, peer, asked, reason.status(), reason);
}

/// `asked`: method, path and version.
fn turned_away(
    inlet: &Rc<Inlet>,
    peer: &Rc<Peer>,
    (method, path, version): (Method, String, Version),
    status: StatusCode,
    reason: Reason,
) {
    drop(Box::new(Record {
        inlet: inlet.clone(),
        peer: peer.clone(),
        started: Instant::now(),
        method,
        path,
        id: None,
        version,
        admitted: None,
        counted: None,
        upstream: None,
        status,
        reason,
        answered: Answered::Gateway,
        bytes_out: 0,
        trailers: HeaderMap::new(),
        whole: false,
    }));
}

/// A body that tells its account what became of it.
struct Told {
    body: Body,
    record: Box<Record>,
    /// The body broke.
    failed: bool,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.record.bytes_out += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_mut() {
                    this.record.tell_trailers(trailers);
                }
                this.record.whole |= this.body.is_end_stream();
            }
            // An upstream that answers while it is being sent a body breaks off with the body.
            Poll::Ready(Some(Err(_))) => {
                this.record.reason = this.record.body_broken().unwrap_or(Reason::ResponseBroken);
                this.failed = true;
            }
            Poll::Ready(None) => this.record.whole = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Neither its end nor an error was seen: whoever was reading it left.
        if !self.record.whole && !self.failed {
            self.record.reason = Reason::ClientClosed;
        }
    }
}
