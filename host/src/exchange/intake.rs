//! A request made fit for its chain: its path normal, its headers honest, its route found.
//!
//! The first stage of `run`. What is refused here has met no policy and no upstream. Never waits.

use super::Inlet;
use super::expectation;
use super::view::View;
use crate::chain::Subject;
use crate::chain::request::memory;
use crate::message::body::{Body, BodyError};
use crate::message::forwarded::remove_claims;
use crate::message::headers::{is_padded, protocols, receive_request};
use crate::message::path::{check_query, normalise};
use crate::message::peer::Peer;
use crate::message::problem::Dialect;
use crate::message::trailers;
use crate::router::{Found, ListenerId};
use crate::telemetry::reason::Reason;
use crate::upstream;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::borrow::Cow;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A request on its way to its chain.
pub struct Intake {
    pub view: Rc<View>,
    /// On the heap from the start: it is large, handed on often, and outlives the story.
    pub subject: Box<Subject>,
    pub body: Body,
    /// Index into the snapshot's routes.
    pub route: usize,
    /// Set for an OPTIONS request that only a policy can answer: the methods that are allowed.
    pub preflight: Option<HeaderValue>,
    pub upgrade: Option<Upgrade>,
    /// The client waits to be asked for the body.
    pub expects: bool,
    pub counted: Rc<Counted>,
}

/// The client wants to go over to another protocol.
pub struct Upgrade {
    pub protocol: HeaderValue,
    pub client: OnUpgrade,
}

impl Upgrade {
    /// Whether the client offered to speak this.
    pub fn offers(&self, protocol: &HeaderValue) -> bool {
        protocols(&self.protocol).any(|offered| offered.eq_ignore_ascii_case(protocol.as_bytes()))
    }
}

/// Why a request was refused before it had a chain.
pub struct Refused {
    pub reason: Reason,
    /// For 405.
    pub allow: Option<HeaderValue>,
    pub dialect: Dialect,
    /// As received.
    pub path: String,
}

pub fn take(inlet: &Inlet, peer: &Rc<Peer>, mut request: Request<Incoming>) -> Result<Intake, Refused> {
    let client_upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, incoming) = request.into_parts();
    let (dialect, version) = (Dialect::of(&parts.headers), parts.version);
    let refuse =
        |reason, parts: &Parts| Refused { reason, allow: None, dialect, path: parts.uri.path().to_string() };
    let target = target(&parts).map_err(|reason| refuse(reason, &parts))?;
    let Ok(received) = receive_request(&mut parts.headers) else {
        return Err(refuse(Reason::RepeatedHeader, &parts));
    };
    if inlet.body_bytes != 0 && content_length(&parts.headers).is_some_and(|length| length > inlet.body_bytes)
    {
        return Err(refuse(Reason::BodyTooLarge, &parts));
    }
    let view = inlet.worker.view();
    let authority = authority(&parts).map_err(|reason| refuse(reason, &parts))?;
    let host = authority.as_ref().and_then(|authority| authority.to_str().ok());
    let client = peer.forwarded.client(&parts.headers, host, &view.snapshot.trusted);
    if !client.peer_trusted {
        remove_claims(&mut parts.headers);
    }
    // hyper asks the client for the body when somebody reads it.
    let expects = expectation::is_stated(parts.version, &parts.headers);
    parts.headers.remove(EXPECT);
    // It gives back what was sent (RFC 9110, 9.3.8): also what policies add, which is not for the client.
    if parts.method == Method::TRACE {
        let allow = Some(HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        return Err(Refused { allow, ..refuse(Reason::MethodNotAllowed, &parts) });
    }
    let found = view.snapshot.router.find(ListenerId(inlet.listener), host, &parts.method, target.path());
    let (found, preflight) = match found {
        Found::Route(found) => (found, None),
        Found::Preflight { matched, allow } => (matched, Some(allow)),
        Found::MethodNotAllowed { allow, .. } => {
            return Err(Refused { allow: Some(allow), ..refuse(Reason::MethodNotAllowed, &parts) });
        }
        Found::NotFound { .. } => return Err(refuse(Reason::NoRoute, &parts)),
    };
    let route = found.route.0 as usize;
    let matched = &view.snapshot.routes[route];
    // A gRPC stream may be quiet for as long as both sides like, and has its own deadlines.
    let quiet = version == Version::HTTP_2
        && dialect == Dialect::Grpc
        && matched.upstream.is_some_and(|index| {
            view.snapshot.upstreams[index].settings().protocol == upstream::Protocol::Http2
        });
    let idle = if quiet { Duration::ZERO } else { inlet.idle };
    let patience = Patience::new(idle, version);
    let (body, counted) = count(incoming, inlet.body_bytes, patience, (&view, route));
    if !matches!(body, Body::Empty) {
        respell_length(&mut parts.headers);
    }
    let chain = &matched.chain;
    let facts = chain.lends.then(|| inlet.worker.facts(&view, &matched.api));
    let subject = Box::new(Subject {
        method: parts.method,
        routed: target.clone(),
        target,
        authority,
        headers: parts.headers,
        response: None,
        client,
        peer: peer.clone(),
        id: inlet.worker.draw_id(),
        dialect,
        api: matched.api.clone(),
        operation: matched.operation.clone(),
        parameters: matched.parameters.clone(),
        params: found.params,
        prefix_end: found.prefix_end,
        identity: None,
        claims: None,
        facts,
        context: Vec::new(),
        upstream: None,
        memory: memory(chain),
        end: None,
    });
    // HTTP/1.0 has no upgrades (RFC 9110 section 7.8).
    let upgrade = received.upgrade.filter(|_| version == Version::HTTP_11);
    let upgrade = upgrade.map(|protocol| Upgrade { protocol, client: client_upgrade });
    Ok(Intake { subject, body, route, preflight, upgrade, expects, counted, view })
}

/// The one normal form of the request's path, with its query.
fn target(parts: &Parts) -> Result<PathAndQuery, Reason> {
    let Some(target) = parts.uri.path_and_query() else { return Err(Reason::MalformedRequest) };
    if target.query().is_some_and(|query| check_query(query).is_err()) {
        return Err(Reason::PathRefused);
    }
    match normalise(target.path()).map_err(|_| Reason::PathRefused)? {
        Cow::Borrowed(normal) if normal.len() == target.path().len() => Ok(target.clone()),
        normal => match target.query() {
            Some(query) => PathAndQuery::try_from(format!("{normal}?{query}")),
            None => PathAndQuery::try_from(normal.into_owned()),
        }
        .map_err(|_| Reason::PathRefused),
    }
}

fn authority(parts: &Parts) -> Result<Option<HeaderValue>, Reason> {
    match parts.uri.authority() {
        Some(authority) => {
            HeaderValue::from_str(authority.as_str()).map(Some).map_err(|_| Reason::MalformedRequest)
        }
        None => Ok(parts.headers.get(HOST).cloned()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `05` is a length to some, and octal to others.
fn respell_length(headers: &mut HeaderMap) {
    let spelled = headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes().starts_with(b"0"));
    if spelled && let Some(length) = content_length(headers) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Bytes of a request's body, as they come, and what the client did wrong about them.
#[derive(Debug, Default)]
pub struct Counted {
    pub bytes: Cell<u64>,
    /// Why the body broke off, where it was the gateway that broke it off.
    pub broken: Cell<Option<Reason>>,
    /// The client has the head of its answer.
    pub answered: Cell<bool>,
    /// An HTTP/1 body ended with trailers, after which the connection is not to be trusted: the library looks for
    /// CRLF CRLF at their end, but reads them up to a bare line feed, so that a request behind them may be lost.
    pub trailed: Cell<bool>,
}

/// `limit` in bytes; 0: no bound. `route`: with the view that its chain is of.
fn count(
    incoming: Incoming,
    limit: u64,
    patience: Patience,
    (view, route): (&Rc<View>, usize),
) -> (Body, Rc<Counted>) {
    let counted = Rc::new(Counted::default());
    if incoming.is_end_stream() {
        return (Body::Empty, counted);
    }
    let limit = if limit == 0 { u64::MAX } else { limit };
    let view = Rc::clone(view);
    (Body::wrap(Counting { incoming, counted: counted.clone(), limit, patience, view, route }), counted)
}

struct Counting {
    incoming: Incoming,
    counted: Rc<Counted>,
    limit: u64,
    patience: Patience,
    view: Rc<View>,
    route: usize,
}

impl Counting {
    /// # Errors
    /// HTTP/2 forbids such trailers.
    fn receive(&self, trailers: &mut HeaderMap) -> Result<(), Reason> {
        if trailers.values().any(is_padded) {
            return Err(Reason::MalformedRequest);
        }
        if !self.patience.listens {
            self.counted.trailed.set(true);
            if self.counted.answered.get() {
                // Too late to say so: a body that breaks off closes the connection.
                return Err(Reason::MalformedRequest);
            }
        }
        trailers::receive_request(trailers);
        self.view.snapshot.routes[self.route].chain.sift_request_trailers(trailers);
        Ok(())
    }

    fn break_off(&self, reason: Reason) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.counted.broken.set(Some(reason));
        Poll::Ready(Some(Err(reason.title().into())))
    }
}

impl http_body::Body for Counting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        match &mut polled {
            Poll::Pending if this.patience.is_over(&this.counted, cx) => {
                return this.break_off(Reason::RequestTimeout);
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(Err(reason)) = frame.trailers_mut().map(|trailers| this.receive(trailers)) {
                    return this.break_off(reason);
                }
                let count = frame.data_ref().map_or(0, |data| data.len() as u64);
                // An HTTP/2 frame may be empty, and is no progress then.
                this.patience.waiting &= count == 0;
                let bytes = this.counted.bytes.get() + count;
                this.counted.bytes.set(bytes);
                if bytes > this.limit {
                    return this.break_off(Reason::BodyTooLarge);
                }
            }
            _ => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// How long a client may send nothing of a body that somebody waits for. While the upstream takes
/// nothing, nobody waits, and the client is not to blame. On HTTP/2 both sides may talk at once:
/// there a client that has its answer's head may be quiet while it listens.
struct Patience {
    /// Zero: without end.
    idle: Duration,
    listens: bool,
    /// Made when a body is waited for the first time, which most never are.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    fn new(idle: Duration, version: Version) -> Patience {
        Patience { idle, listens: version == Version::HTTP_2, timer: None, waiting: false }
    }

    /// The body is pending.
    fn is_over(&mut self, counted: &Counted, cx: &mut Context<'_>) -> bool {
        if self.idle.is_zero() || self.listens && counted.answered.get() {
            return false;
        }
        let idle = self.idle;
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waiting {
                    timer.as_mut().reset(Instant::now() + idle);
                }
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep(idle))),
        };
        self.waiting = true;
        timer.as_mut().poll(cx).is_ready()
    }
}
