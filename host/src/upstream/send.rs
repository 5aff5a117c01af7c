//! A request's way to an upstream and its response's way back, tries included.
//!
//! Called by `exchange` and by the plugins' HTTP client. Here alone is decided what may be sent
//! again:
//!
//! | what happened | sent again |
//! | --- | --- |
//! | the idle connection had died, nothing was sent | at once on a new connection, always |
//! | no connection to be had | within attempts and budget, whatever the method |
//! | HTTP/2 peer refused the stream, or its GOAWAY leaves it out, so nothing was done | the same, where the body can be replayed |
//! | a used connection died after the request went out | idempotent methods, once, on a new connection |
//! | a status of `retry.statuses` | idempotent methods, within attempts and budget |
//! | time-out, reset of a new connection, nonsense | never |
//!
//! There is no pause between tries: the budget bounds what they add, and another endpoint is
//! preferred. The first and the fourth cost no budget: a peer may close an idle connection whenever
//! it likes, and as each takes a connection that had served, they cannot multiply. "Idempotent"
//! also needs a body that can be replayed. Where a request has but one try, the connection's socket
//! is looked at first. Never buffers a body to make it replayable; never edits fields but `Host` and framing.

use super::body::{Carrier, Download, Upload};
use super::dial::DialError;
use super::framing::check_framing;
use super::http1::{Http1, Wait};
use super::http2::Http2;
use super::pool::{Active, Local, Pool, bit};
use super::replay::Replay;
use super::settings::Protocol;
use crate::message::body::Body;
use crate::telemetry::reason::Reason;
use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// What a caller says of one request, and learns of it.
#[derive(Debug, Default)]
pub struct Call {
    /// In place of `timeouts.response`, for each try; zero: none.
    pub timeout: Option<Duration>,
    /// A 101 is welcome; the response carries hyper's `OnUpgrade` then. HTTP/1 only: an HTTP/2
    /// endpoint gets the request without the wish.
    pub upgrade: bool,

    /// Tries made.
    pub attempts: u32,
    /// `host:port` of the last try.
    pub endpoint: Option<Arc<str>>,
    /// Time spent on connecting, of all tries.
    pub connect: Duration,
    /// Time until the response's head, or the failure.
    pub took: Duration,
    /// Something of a streaming request body was taken from the client.
    pub body_started: bool,
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    /// Active checks found all endpoints dead, or none has a weight.
    NoHealthyEndpoint,
    ConnectFailed(Box<str>),
    ConnectTimeout,
    ResponseTimeout,
    /// The connection ended before the response's head.
    Reset(Box<str>),
    /// The upstream's answer is none.
    Protocol(Box<str>),
    /// The client's body broke, or whoever makes it says so.
    RequestBody,
}

impl Failure {
    pub fn reason(&self) -> Reason {
        match self {
            Failure::NoHealthyEndpoint => Reason::NoHealthyEndpoint,
            Failure::ConnectFailed(_) => Reason::ConnectFailed,
            Failure::ConnectTimeout => Reason::ConnectTimeout,
            Failure::ResponseTimeout => Reason::ResponseTimeout,
            Failure::Reset(_) => Reason::UpstreamReset,
            Failure::Protocol(_) => Reason::UpstreamProtocol,
            Failure::RequestBody => Reason::BodyBroken,
        }
    }

    /// For the log only: it may name addresses.
    pub fn detail(&self) -> String {
        match self {
            Failure::ConnectFailed(what) | Failure::Reset(what) | Failure::Protocol(what) => what.to_string(),
            Failure::NoHealthyEndpoint => "no endpoint is healthy".into(),
            Failure::ConnectTimeout => "connecting took too long".into(),
            Failure::ResponseTimeout => "no response in time".into(),
            Failure::RequestBody => "the request's body broke off".into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail())
    }
}

impl Error for Failure {}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Failure {
        match error {
            DialError::Timeout => Failure::ConnectTimeout,
            DialError::Failed(what) => Failure::ConnectFailed(what),
        }
    }
}

/// A try that failed, by what it leaves to try.
enum Miss {
    /// Nothing went out; the request is where it was.
    Unsent(Failure),
    /// Sent, and certainly not acted on.
    Refused(Failure),
    /// Sent on a connection that had served before and died since.
    Stale(Failure),
    Final(Failure),
}

/// What the tries of a request share.
struct Tries {
    /// The request, until it goes out: it is large, and stays in this one place on its way down.
    request: Option<Request<Body>>,
    /// Its effect is the same once or twice (RFC 9110, section 9.2.2).
    idempotent: bool,
    /// Of a body that streams.
    upload: Option<Rc<Upload>>,
    /// The request, where it may be needed again after it went out.
    replay: Option<Replay>,
    timeout: Duration,
    /// A connection died under this request: the other idle ones are no better.
    connect_anew: bool,
}

impl Pool {
    /// Sends a request and returns the response when its head is there.
    ///
    /// `request`: URI in origin form, fields final except `Host`, no hop-by-hop fields but for those
    /// of an upgrade. An early response is returned at once, even while the request's body is still
    /// under way; when such a response ends first, its connection is closed and the body dropped.
    /// Dropping the future, or the response's body before its end, cancels the request: an HTTP/1
    /// connection is closed, an HTTP/2 stream reset.
    pub async fn send(
        self: &Rc<Pool>,
        request: Request<Body>,
        call: &mut Call,
    ) -> Result<Response<Body>, Failure> {
        let begun = Instant::now();
        let now = self.clock.nanos_at(|| begun.into_std());
        let settings = &self.upstream.settings;
        self.upstream.counters.requests.fetch_add(1, Relaxed);
        if settings.retry.attempts > 0 {
            self.upstream.budget.deposit(now);
        }
        let timeout = call.timeout.unwrap_or(settings.timeouts.response);
        let (request, upload) = self.frame(request, timeout);
        let mut tries = Tries {
            idempotent: request.method().is_idempotent(),
            upload,
            replay: Replay::is_possible(request.body()).then(|| self.take_replay()),
            timeout,
            connect_anew: false,
            request: Some(request),
        };
        let sent = self.send_until_done(&mut tries, call, now).await;
        call.body_started = tries.upload.as_ref().is_some_and(|upload| upload.is_started());
        if let Some(replay) = tries.replay {
            self.return_replay(replay);
        }
        if sent.is_err() {
            self.upstream.counters.failures.fetch_add(1, Relaxed);
        }
        call.took = begun.elapsed();
        sent
    }

    async fn send_until_done(
        self: &Rc<Pool>,
        tries: &mut Tries,
        call: &mut Call,
        now: u64,
    ) -> Result<Response<Body>, Failure> {
        let retry = &self.upstream.settings.retry;
        let mut tried = 0;
        let mut last = Failure::NoHealthyEndpoint;
        loop {
            let Some((index, local)) =
                self.pick(now, tried).and_then(|index| Some((index, self.local(index)?)))
            else {
                return Err(last);
            };
            tried |= bit(index);
            call.attempts += 1;
            call.endpoint = Some(local.address.clone());
            let outcome = match self.upstream.settings.protocol {
                Protocol::Http1 => self.try_http1(index, local, tries, call, now).await,
                // Boxed, for HTTP/1 need not carry its weight.
                Protocol::Http2 => Box::pin(self.try_http2(index, local, tries, call, now)).await,
            };
            let may_retry = |wanted: bool| {
                wanted && call.attempts <= retry.attempts && {
                    let granted = self.upstream.budget.withdraw(self.clock.monotonic_nanos());
                    let counters = &self.upstream.counters;
                    let counter = if granted { &counters.retries } else { &counters.budget_exhausted };
                    counter.fetch_add(1, Relaxed);
                    granted
                }
            };
            let replay = |idempotent: bool| {
                if idempotent { tries.replay.as_ref().and_then(Replay::restore) } else { None }
            };
            match outcome {
                Ok(response) => {
                    if !retry.statuses.contains(&response.status().as_u16()) {
                        local.shared.record_success();
                        return Ok(response);
                    }
                    self.record_failure(index);
                    match replay(tries.idempotent) {
                        Some(again) if may_retry(true) => tries.request = Some(again),
                        _ => return Ok(response),
                    }
                }
                Err(Miss::Unsent(failure)) => {
                    self.record_failure(index);
                    if !may_retry(retry.connect_failure) {
                        return Err(failure);
                    }
                    last = failure;
                }
                Err(Miss::Refused(failure)) => match replay(true) {
                    Some(again) if may_retry(true) => (tries.request, last) = (Some(again), failure),
                    _ => return Err(failure),
                },
                Err(Miss::Stale(failure)) => match replay(tries.idempotent) {
                    Some(again) if !tries.connect_anew => {
                        tries.connect_anew = true;
                        self.upstream.counters.retries.fetch_add(1, Relaxed);
                        (tries.request, last) = (Some(again), failure);
                    }
                    _ => return Err(failure),
                },
                Err(Miss::Final(failure)) => {
                    if !matches!(failure, Failure::RequestBody) {
                        self.record_failure(index);
                    }
                    return Err(failure);
                }
            }
        }
    }

    async fn try_http1(
        self: &Rc<Pool>,
        index: usize,
        local: &Local,
        tries: &mut Tries,
        call: &mut Call,
        now: u64,
    ) -> Result<Response<Body>, Miss> {
        let active = Active::new(self, index);
        let mut at = now;
        loop {
            let idle = if tries.connect_anew { None } else { local.take_idle() };
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => match self.connect(call, Box::pin(self.open_http1(local))).await {
                    Ok(connection) => {
                        at = self.clock.monotonic_nanos();
                        connection
                    }
                    Err(failure) => return Err(Miss::Unsent(failure)),
                },
            };
            if reused && !(tries.idempotent && tries.replay.is_some()) {
                connection.look_first();
            }
            let mut request = tries.take()?;
            if tries.idempotent
                && (reused || !self.upstream.settings.retry.statuses.is_empty())
                && let Some(replay) = &mut tries.replay
            {
                replay.record(&request);
            }
            self.address_http1(local, &mut request);
            connection.wait.set(at, tries.timeout);
            if let Some(upload) = &tries.upload {
                upload.bind(&connection.wait);
            }
            let mut error = match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    return self
                        .accept_http1(response, connection, active, tries, call.upgrade)
                        .map_err(Miss::Final);
                }
                Err(error) => error,
            };
            match error.take_message() {
                // The connection was closed while it lay idle: no more than a late discovery.
                Some(back) if reused => {
                    tries.request = Some(back);
                    tries.connect_anew = true;
                }
                Some(back) => {
                    tries.request = Some(back);
                    let failure = Failure::ConnectFailed("the endpoint closed a new connection".into());
                    return Err(Miss::Unsent(failure));
                }
                None => {
                    let failure = tries.failure(error.error(), &connection.wait);
                    return Err(match failure {
                        Failure::Reset(_) if reused => Miss::Stale(failure),
                        _ => Miss::Final(failure),
                    });
                }
            }
        }
    }

    fn accept_http1(
        &self,
        response: Response<Incoming>,
        connection: Http1,
        active: Active,
        tries: &Tries,
        upgrade: bool,
    ) -> Result<Response<Body>, Failure> {
        connection.wait.clear();
        let (parts, body) = response.into_parts();
        check_framing(&parts.headers)?;
        let upload = tries.upload.clone();
        if let Some(upload) = &upload {
            upload.set_answered();
        }
        if parts.extensions.get::<OnUpgrade>().is_some() {
            if !upgrade || parts.status != StatusCode::SWITCHING_PROTOCOLS {
                return Err(Failure::Protocol("the endpoint switched protocols unasked".into()));
            }
            connection.release();
            return Ok(Response::from_parts(parts, Body::Empty));
        }
        // A connection that is ready for the next request has read this response to its end: what
        // there is of the body lies in the channel, and watching it would watch nothing.
        let body = if body.is_end_stream() {
            active.settle(connection, upload.as_deref());
            Body::Empty
        } else if connection.is_ready() {
            active.settle(connection, None);
            Body::Incoming(body)
        } else {
            let idle = self.upstream.settings.timeouts.idle;
            Body::wrap(Download::new(body, Carrier::Http1(connection), active, upload, idle))
        };
        Ok(Response::from_parts(parts, body))
    }

    async fn try_http2(
        self: &Rc<Pool>,
        index: usize,
        local: &Local,
        tries: &mut Tries,
        call: &mut Call,
        now: u64,
    ) -> Result<Response<Body>, Miss> {
        let active = Active::new(self, index);
        let mut request = tries.take()?;
        if call.upgrade {
            // HTTP/2 has none, and whoever is asked may pass the wish over (RFC 9110, section 7.8).
            // To fail would blame an endpoint for what any client can ask.
            request.headers_mut().remove(CONNECTION);
            request.headers_mut().remove(UPGRADE);
        }
        if let Some(replay) = &mut tries.replay {
            replay.record(&request);
        }
        self.address_http2(local, &mut request)
            .map_err(|error| Miss::Final(Failure::Protocol(error.to_string().into())))?;
        let mut at = now;
        let mut found_dead = false;
        loop {
            let reused;
            let mut connection = match local.take_http2() {
                Some(connection) => {
                    reused = true;
                    connection
                }
                None => {
                    // One opens it, the others wait and share it.
                    let opening = local.opening.lock().await;
                    reused = false;
                    let opened = match local.take_http2() {
                        Some(connection) => Ok(connection),
                        None => {
                            let dial = Http2::connect(&local.shared.dialer, self.connect_timeout());
                            self.connect(call, Box::pin(dial))
                                .await
                                .inspect(|connection| local.keep_http2(connection))
                        }
                    };
                    drop(opening);
                    at = self.clock.monotonic_nanos();
                    match opened {
                        Ok(connection) => connection,
                        Err(failure) => {
                            tries.request = Some(request);
                            return Err(Miss::Unsent(failure));
                        }
                    }
                }
            };
            let stream = connection.open();
            let wait = Wait::new();
            wait.set(at, tries.timeout);
            if let Some(upload) = &tries.upload {
                upload.bind(&wait);
            }
            let sending = connection.sender.try_send_request(request);
            let sent = if tries.timeout.is_zero() {
                Some(sending.await)
            } else {
                wait.bound(sending, &self.clock, tries.timeout).await
            };
            let mut error = match sent {
                Some(Ok(response)) => {
                    if let Some(upload) = &tries.upload {
                        upload.set_answered();
                    }
                    let (parts, body) = response.into_parts();
                    let body = if body.is_end_stream() {
                        // A trailers-only answer of gRPC ends with its head, and its trailers are there.
                        Body::Empty
                    } else {
                        let idle = self.upstream.settings.timeouts.idle;
                        let upload = tries.upload.clone();
                        Body::wrap(Download::new(body, Carrier::Http2(stream), active, upload, idle))
                    };
                    return Ok(Response::from_parts(parts, body));
                }
                Some(Err(error)) => error,
                None => return Err(Miss::Final(Failure::ResponseTimeout)),
            };
            match error.take_message() {
                // As above; once is bad luck.
                Some(back) if reused && !found_dead => {
                    request = back;
                    found_dead = true;
                }
                Some(back) => {
                    tries.request = Some(back);
                    let failure = Failure::ConnectFailed("the endpoint closed a new connection".into());
                    return Err(Miss::Unsent(failure));
                }
                None => return Err(tries.miss_http2(&error, &wait, reused)),
            }
        }
    }

    /// Counts and times what connects. Boxed, or every request's future had room for a handshake.
    async fn connect<T>(
        &self,
        call: &mut Call,
        dial: Pin<Box<impl Future<Output = Result<T, DialError>>>>,
    ) -> Result<T, Failure> {
        let counters = &self.upstream.counters;
        counters.connects.fetch_add(1, Relaxed);
        let begun = Instant::now();
        let connected = dial.await;
        call.connect += begun.elapsed();
        connected.map_err(|error| {
            counters.connect_failures.fetch_add(1, Relaxed);
            error.into()
        })
    }

    async fn open_http1(&self, local: &Local) -> Result<Http1, DialError> {
        Http1::connect(&local.shared.dialer, self.connect_timeout(), &self.clock).await
    }

    fn connect_timeout(&self) -> Duration {
        self.upstream.settings.timeouts.connect
    }

    fn record_failure(&self, index: usize) {
        self.upstream.record_failure(index, self.clock.monotonic_nanos());
    }
}

impl Tries {
    /// The request, to be sent or put back.
    fn take(&mut self) -> Result<Request<Body>, Miss> {
        self.request.take().ok_or_else(|| Miss::Final(Failure::Protocol("the request is gone".into())))
    }

    /// What hyper's error means.
    fn failure(&self, error: &hyper::Error, wait: &Wait) -> Failure {
        if self.upload.as_ref().is_some_and(|upload| upload.is_broken()) {
            return Failure::RequestBody;
        }
        if wait.is_expired() {
            return Failure::ResponseTimeout;
        }
        let text = describe(error);
        if error.is_parse() || error.is_parse_too_large() {
            return Failure::Protocol(text);
        }
        Failure::Reset(text)
    }

    fn miss_http2(&self, error: &TrySendError<Request<Body>>, wait: &Wait, reused: bool) -> Miss {
        let failure = self.failure(error.error(), wait);
        let Some(cause) = error.error().source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
            return if reused { Miss::Stale(failure) } else { Miss::Final(failure) };
        };
        // RFC 9113, sections 6.8 and 8.7: nothing was done of a refused stream, nor of one that a
        // GOAWAY leaves out, whatever its code. h2 tells no others of the peer's GOAWAY: those that it
        // counts in go on, or end with the connection.
        let refused =
            cause.is_remote() && (cause.reason() == Some(h2::Reason::REFUSED_STREAM) || cause.is_go_away());
        match failure {
            Failure::RequestBody | Failure::ResponseTimeout => Miss::Final(failure),
            failure if refused => Miss::Refused(failure),
            Failure::Reset(text) if !cause.is_remote() && cause.reason().is_some() => {
                Miss::Final(Failure::Protocol(text))
            }
            // The connection ended, not the stream.
            failure if reused && cause.is_io() => Miss::Stale(failure),
            failure => Miss::Final(failure),
        }
    }
}

/// hyper's error with all that caused it.
fn describe(error: &hyper::Error) -> Box<str> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.into()
}
