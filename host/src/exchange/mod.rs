//! One request's whole story: from its head to the last byte of its answer.
//!
//! `connection` calls `Exchange` (its `Service`) for each request; here the request is made fit,
//! routed, taken through its chain, sent to its upstream, and its response taken back. Everything
//! that can go wrong ends in one `Reason`. Never touches a socket, a certificate or a file.

mod account;
mod expectation;
mod fetch;
mod intake;
mod outcome;
mod tunnel;
mod view;
mod worker;

pub use view::View;
pub use worker::Worker;

use crate::chain::subject::ResponseHead;
use crate::chain::{self, Stop, Subject};
use crate::connection;
use crate::listener::Drain;
use crate::message::body::Body;
use crate::message::headers::receive_response;
use crate::message::peer::Peer;
use crate::snapshot::Route;
use crate::telemetry::reason::{Fault, Reason};
use crate::upstream::{Call, Protocol};
use account::Account;
use http::header::{ALLOW, CONNECTION, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use intake::Intake;
use outcome::{Answered, Outcome};
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tunnel::Spoken;

/// Answers the requests of one listener on one worker.
#[derive(Clone)]
pub struct Exchange(Rc<Inlet>);

/// What a listener allows its exchanges.
pub struct Inlet {
    pub worker: Rc<Worker>,
    /// The listener as the router knows it.
    pub listener: u16,
    /// Bytes of a request's body; 0: no bound.
    pub body_bytes: u64,
    /// One exchange up to its response's head; zero: no bound.
    pub request: Duration,
    /// For a client that sends nothing of a body that is waited for; zero: no bound.
    pub idle: Duration,
    pub drain: Drain,
}

impl Exchange {
    pub fn new(inlet: Inlet) -> Exchange {
        Exchange(Rc::new(inlet))
    }
}

impl connection::Service for Exchange {
    fn call(
        &self,
        peer: &Rc<Peer>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + 'static + use<> {
        // The story is some 4 KB: on the heap it is not moved about between hyper's futures, and a
        // connection that is idle holds no room for it.
        Box::pin(run(self.0.clone(), peer.clone(), request))
    }

    fn refused(&self, peer: &Rc<Peer>, request: &Parts, fault: connection::Fault) {
        account::refused(&self.0, peer, request, fault);
    }

    fn unread(&self, peer: &Rc<Peer>, reason: Reason) {
        account::unread(&self.0, peer, reason);
    }
}

/// Dropping the future (the client went away) drops the upstream call and destroys the instance
/// at work; the account tells that nobody waited for the answer.
async fn run(inlet: Rc<Inlet>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<Body> {
    let mut account = Account::open(&inlet, &peer, &request);
    let Intake { view, mut subject, body, route, preflight, upgrade, expects, counted } =
        match intake::take(&inlet, &peer, request) {
            Ok(intake) => intake,
            Err(refused) => return account.refuse(refused),
        };
    account.admit(&view, route, &subject, counted);
    let route = &view.snapshot.routes[route];
    let sending = Sending { body, upgrade, expects };
    let outcome = {
        // Pinned where it is made: it would be moved into the time limit otherwise.
        let mut story = pin!(tell(&inlet, &view, route, &mut subject, sending, preflight, &mut account));
        match inlet.request {
            Duration::ZERO => Some(story.await),
            limit => tokio::time::timeout(limit, story.as_mut()).await.ok(),
        }
    };
    let outcome = outcome.unwrap_or_else(|| Outcome::gateway(Reason::RequestTimeout).answer(&mut subject));
    account.close(subject, outcome)
}

/// What of a request is still to be sent on.
struct Sending {
    body: Body,
    upgrade: Option<intake::Upgrade>,
    /// The client waits to be asked for the body.
    expects: bool,
}

/// The story itself, stage by stage. Whatever ends it early has an answer, and that answer still
/// passes the response hooks of the policies that the request got past.
async fn tell(
    inlet: &Rc<Inlet>,
    view: &Rc<View>,
    route: &Route,
    subject: &mut Subject,
    sending: Sending,
    preflight: Option<HeaderValue>,
    account: &mut Account,
) -> Outcome {
    let Sending { body, upgrade, expects } = sending;
    let mut passed = 0;
    let forth = async {
        chain::request::run(&route.chain, &view.pools, subject, &mut passed).await?;
        let body = chain::body::request(&route.chain, &view.pools, subject, body).await?;
        ControlFlow::Continue(body)
    };
    let answered = match forth.await {
        // Nobody but a policy may answer a preflight for methods that the API does not have.
        ControlFlow::Continue(_) if preflight.is_some() => {
            let outcome = Outcome::gateway(Reason::MethodNotAllowed).answer(subject);
            if let (Some(head), Some(allow)) = (&mut subject.response, preflight) {
                head.headers.insert(ALLOW, allow);
            }
            outcome
        }
        ControlFlow::Continue(body) => {
            // A policy that wants the body has asked for it.
            let sending = Sending { body, upgrade, expects: expects && !route.chain.request_bodies };
            send(inlet, view, route, subject, sending, account).await
        }
        ControlFlow::Break(stop) => stopped(view, route, subject, stop, account, false),
    };
    back(view, route, subject, answered, passed, account).await
}

/// To the upstream and back to its response's head.
async fn send(
    inlet: &Rc<Inlet>,
    view: &View,
    route: &Route,
    subject: &mut Subject,
    sending: Sending,
    account: &mut Account,
) -> Outcome {
    let Sending { body, upgrade, expects } = sending;
    let chosen = match &subject.upstream {
        Some(name) => view.snapshot.upstream_names.get(name).copied(),
        None => route.upstream,
    };
    let Some(index) = chosen else { return Outcome::gateway(Reason::NothingAnswers).answer(subject) };
    let (pool, metrics) = (&view.upstreams[index], &view.snapshot.upstream_metrics[index]);
    let mut request = match outbound(route, subject, body, upgrade.as_ref()) {
        Ok(request) => request,
        Err(reason) => return Outcome::gateway(reason).answer(subject),
    };
    if expects && pool.upstream().settings().protocol == Protocol::Http1 {
        expectation::state(&mut request);
    }
    let mut call = Call { upgrade: upgrade.is_some(), ..Call::default() };
    let sent = pool.send(request, &mut call).await;
    account.called(call.took);
    match sent {
        Ok(response) => {
            metrics.answered(call.took);
            let (mut parts, body) = response.into_parts();
            let protocol = receive_response(&mut parts.headers);
            if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                let agreed = upgrade.zip(protocol).filter(|(upgrade, protocol)| upgrade.offers(protocol));
                let Some((upgrade, protocol)) = agreed else {
                    return Outcome::gateway(Reason::UpstreamProtocol).answer(subject);
                };
                let theirs = hyper::upgrade::on(Response::from_parts(parts.clone(), ()));
                let spoken = Spoken::of(protocol.as_bytes());
                tunnel::open(upgrade.client, theirs, spoken, inlet.drain.guard());
                parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                parts.headers.insert(UPGRADE, protocol);
            }
            subject.response = Some(ResponseHead { status: parts.status, headers: parts.headers });
            Outcome { reason: Reason::Proxied, answered: Answered::Upstream, body }
        }
        Err(failure) => {
            if failure.reason().fault() == Fault::Upstream {
                metrics.failed(failure.reason());
            }
            let reason = account.reason_of(failure.reason());
            tracing::debug!(request = %subject.id, upstream = pool.upstream().name(), "{}", failure.detail());
            Outcome::gateway(reason).answer(subject)
        }
    }
}

/// Back through the chain. A response hook may answer instead, or fail; then that is the response
/// for the hooks that are left.
async fn back(
    view: &View,
    route: &Route,
    subject: &mut Subject,
    mut outcome: Outcome,
    mut passed: usize,
    account: &mut Account,
) -> Outcome {
    let switched =
        subject.response.as_ref().is_some_and(|head| head.status == StatusCode::SWITCHING_PROTOCOLS);
    let steps = passed;
    while let ControlFlow::Break(stop) =
        chain::response::run(&route.chain, &view.pools, subject, &mut passed).await
    {
        outcome = stopped(view, route, subject, stop, account, true);
    }
    if switched || !route.chain.response_bodies {
        return outcome;
    }
    let body = std::mem::take(&mut outcome.body);
    match chain::body::response(&route.chain, &view.pools, subject, body, steps).await {
        ControlFlow::Continue(body) => Outcome { body, ..outcome },
        ControlFlow::Break(stop) => stopped(view, route, subject, stop, account, true),
    }
}

/// What the client gets when a chain stopped.
fn stopped(
    view: &View,
    route: &Route,
    subject: &mut Subject,
    stop: Stop,
    account: &Account,
    responding: bool,
) -> Outcome {
    let policy = |step: usize| route.chain.steps[step].policy.label().clone();
    match stop {
        Stop::Reply { step, reply } => {
            let pool = &view.pools[route.chain.steps[step].slot];
            match chain::response::reply(pool, reply) {
                Ok(response) => {
                    let (parts, body) = outcome::in_dialect(subject.dialect, response).into_parts();
                    subject.response = Some(ResponseHead { status: parts.status, headers: parts.headers });
                    Outcome { reason: Reason::Answered, answered: Answered::Policy(policy(step)), body }
                }
                Err(failure) => {
                    tracing::warn!(target: "policy", policy = %policy(step), request = %subject.id, "{failure}");
                    Outcome { answered: Answered::Policy(policy(step)), ..Outcome::gateway(failure.reason()) }
                        .answer(subject)
                }
            }
        }
        Stop::Failed { step, failure } => {
            Outcome { answered: Answered::Policy(policy(step)), ..Outcome::gateway(failure.reason()) }
                .answer(subject)
        }
        Stop::NotUtf8 { .. } if responding => Outcome::gateway(Reason::UpstreamProtocol).answer(subject),
        Stop::NotUtf8 { .. } => Outcome::gateway(Reason::HeaderNotUtf8).answer(subject),
        Stop::TooLarge { .. } if responding => Outcome::gateway(Reason::UpstreamBodyTooLarge).answer(subject),
        Stop::TooLarge { .. } => Outcome::gateway(Reason::BodyTooLarge).answer(subject),
        Stop::Broken if responding => Outcome::gateway(Reason::UpstreamReset).answer(subject),
        Stop::Broken => Outcome::gateway(account.reason_of(Reason::BodyBroken)).answer(subject),
    }
}

/// The request as the upstream gets it; an error if its path cannot be what the route says.
fn outbound(
    route: &Route,
    subject: &mut Subject,
    body: Body,
    upgrade: Option<&intake::Upgrade>,
) -> Result<Request<Body>, Reason> {
    let mut request = Request::new(body);
    *request.method_mut() = subject.method.clone();
    let matched = (subject.target.path() == subject.routed.path()).then_some(subject.prefix_end);
    *request.uri_mut() = match (route.rewrite.path(subject.target.path(), matched), subject.target.query()) {
        (None, _) => Uri::from(subject.target.clone()),
        (Some(path), None) => Uri::try_from(path).map_err(|_| Reason::PathRefused)?,
        (Some(path), Some(query)) => {
            Uri::try_from(format!("{path}?{query}")).map_err(|_| Reason::PathRefused)?
        }
    };
    // Response hooks and the log may still read what the client sent.
    let keep = route.chain.recalls;
    let mut headers = if keep { subject.headers.clone() } else { std::mem::take(&mut subject.headers) };
    subject.peer.forwarded.set(&mut headers, &subject.client);
    match &subject.authority {
        Some(authority) => drop(headers.insert(HOST, authority.clone())),
        None => drop(headers.remove(HOST)),
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade.protocol.clone());
    }
    *request.headers_mut() = headers;
    Ok(request)
}
