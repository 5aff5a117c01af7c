//! Drives one client connection from its first byte to its last.
//!
//! `server` makes one [`Connections`] per listener and worker; `listener` calls `serve` with each
//! stream. Every request passes `strict` first. Never ends on its own while a request is in
//! flight, unless the client takes nothing or the drain cuts it.

use super::answer::{Answer, InFlight, refusal};
use super::sight::{ENCODING, FRAGMENT, LENGTH};
use super::stream::Tasks;
use super::sweep::{Joined, Link, Order, Sweep};
use super::wire::Wire;
use super::{Fault, Limits, Service, misdirected, strict};
use crate::listener::{ClientStream, Drain, Protocol, Streams};
use crate::message::peer::Peer;
use crate::telemetry::reason::Reason;
use http::request::Parts;
use http::{Method, Response, Version};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// hyper keeps up to this many fields on the stack; with a limit of its own it allocates for
/// every request.
const FIELDS_ON_STACK: usize = 100;
/// Bytes read ahead or not yet written of an HTTP/1 connection, beside a head.
const BUFFER: usize = 64 * 1024;
/// HTTP/2 receive windows: what a client may send ahead of a slow upstream. hyper's 1 MiB per
/// stream would let 128 streams of one connection hold 128 MiB.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for the client, per HTTP/2 stream.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that were reset before anybody accepted them: more ends the connection
/// (CVE-2023-44487). The default of the h2 crate.
const PENDING_RESETS: usize = 20;
/// Streams that this side had to reset for the client's errors (CVE-2025-8671), over the whole
/// connection; hyper allows 1,024.
const ERROR_RESETS: usize = 256;
/// How long a closed connection still takes in what the client is sending, because a socket that
/// is closed with unread bytes is reset, and the answer may be lost with it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// All client connections of one listener on one worker.
pub struct Connections<S> {
    service: S,
    limits: Limits,
    http1: http1::Builder,
    sweep: Rc<Sweep>,
}

impl<S: Service> Connections<S> {
    /// Needs a `LocalRuntime` or `LocalSet`.
    pub fn new(service: S, limits: &Limits, drain: Drain) -> Rc<Connections<S>> {
        let mut http1 = http1::Builder::new();
        http1
            .half_close(false)
            .keep_alive(true)
            .pipeline_flush(false)
            .title_case_headers(false)
            // `sweep` does it, and tells reading from idling.
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes)
            .max_buf_size(BUFFER.max(limits.header_bytes.saturating_add(BUFFER / 8)));
        if limits.header_count > FIELDS_ON_STACK {
            http1.max_headers(limits.header_count);
        }
        let sweep = Sweep::start(limits, drain);
        Rc::new(Connections { service, limits: limits.clone(), http1, sweep })
    }

    fn http2(&self, link: &Rc<Link>) -> http2::Builder<Tasks> {
        let limits = &self.limits;
        let mut http2 = http2::Builder::new(Tasks::new(link, limits.idle));
        http2
            .max_concurrent_streams(limits.http2_streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS);
        http2
    }

    /// Answers one request, which is in flight until the result's body is dropped. An error resets the
    /// stream; hyper finds its code there.
    fn answer(
        &self,
        link: &Rc<Link>,
        peer: &Rc<Peer>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, h2::Error>> + use<S> {
        let (in_flight, seen) = InFlight::begin(link);
        link.unread.set(!request.body().is_end_stream());
        let (parts, body) = request.into_parts();
        let (version, to_head) = (parts.version, parts.method == Method::HEAD);
        let called = match self.judge(peer, &parts, seen) {
            Ok(()) => Ok(self.service.call(peer, Request::from_parts(parts, body))),
            Err(fault) => {
                self.service.refused(peer, &parts, fault);
                // What follows may not be what it seems; take it in and throw it away.
                link.unread.set(true);
                let malformed = version == Version::HTTP_2 && fault.is_malformed_http2();
                Err(if malformed { None } else { Some(refusal(fault, &parts)) })
            }
        };
        async move {
            let response = match called {
                Ok(future) => future.await,
                Err(Some(refusal)) => refusal,
                // RFC 9113 section 8.1.1.
                Err(None) => return Err(h2::Reason::PROTOCOL_ERROR.into()),
            };
            Ok(Answer::response(response, version, to_head, in_flight))
        }
    }

    fn judge(&self, peer: &Peer, request: &Parts, seen: u8) -> Result<(), Fault> {
        if seen & FRAGMENT != 0 {
            return Err(Fault::Fragment);
        }
        if seen & (LENGTH | ENCODING) == LENGTH | ENCODING {
            return Err(Fault::LengthAndEncoding);
        }
        if request.headers.len() > self.limits.header_count {
            return Err(Fault::FieldCount);
        }
        strict::check(request)?;
        match &peer.tls {
            Some(tls) if misdirected(tls, request) => Err(Fault::Misdirected),
            _ => Ok(()),
        }
    }

    async fn serve_http1<IO>(self: Rc<Self>, wire: Wire<IO>, joined: Joined, peer: Rc<Peer>)
    where
        IO: ClientStream,
    {
        let link = &joined.link;
        let mut connection = {
            let (this, link, peer) = (Rc::clone(&self), Rc::clone(link), Rc::clone(&peer));
            let service = service_fn(move |request| this.answer(&link, &peer, request));
            self.http1.serve_connection(TokioIo::new(wire), service).with_upgrades()
        };
        let ended =
            drive(link, &mut connection, |connection| connection.graceful_shutdown(), Link::leaves).await;
        let refused_by_hyper = matches!(&ended, Some(Err(error)) if error.is_parse());
        if let Some(Err(error)) = &ended
            && refused_by_hyper
        {
            let large = error.is_parse_too_large();
            self.service
                .unread(&peer, if large { Reason::HeadersTooLarge } else { Reason::MalformedRequest });
        }
        if ended.is_none() || link.pulse.ended() || !(link.unread.get() || refused_by_hyper) {
            return;
        }
        // None after an upgrade: the stream is the tunnel's.
        if let Some(parts) = connection.into_parts() {
            // On the heap: few connections end so, and all would carry the space.
            let mut lingering = Box::pin(tokio::time::timeout(LINGER, linger(parts.io.into_inner())));
            poll_fn(|cx| {
                link.park(cx.waker());
                if link.order() == Order::Cut {
                    Poll::Ready(())
                } else {
                    lingering.as_mut().poll(cx).map(drop)
                }
            })
            .await;
        }
    }

    async fn serve_http2<IO>(self: Rc<Self>, wire: Wire<IO>, joined: Joined, peer: Rc<Peer>)
    where
        IO: ClientStream,
    {
        let link = &joined.link;
        let mut connection = {
            let (this, link) = (Rc::clone(&self), Rc::clone(link));
            let service = service_fn(move |request| this.answer(&link, &peer, request));
            self.http2(&joined.link).serve_connection(TokioIo::new(wire), service)
        };
        // GOAWAY takes care of requests on their way by itself (RFC 9113 section 6.8).
        let leaves = |link: &Link| link.order() > Order::Serve;
        drive(link, &mut connection, |connection| connection.graceful_shutdown(), leaves).await;
    }
}

impl<S: Service> Streams for Connections<S> {
    async fn serve<IO>(self: Rc<Self>, io: IO, protocol: Protocol, peer: Rc<Peer>)
    where
        IO: ClientStream,
    {
        let joined = self.sweep.join();
        let mut wire = Wire::new(io, joined.link.pulse.clone());
        let http2 = match protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::ByPreface => {
                let link = &joined.link;
                let sniffed = poll_fn(|cx| {
                    link.park(cx.waker());
                    let sniffed = match link.order() {
                        Order::Cut => return Poll::Ready(None),
                        _ => wire.poll_sniff(cx).map(Result::ok),
                    };
                    match sniffed {
                        // Nothing was asked yet, so nothing is lost.
                        Poll::Pending if link.leaves() && !link.pulse.in_head() => Poll::Ready(None),
                        sniffed => sniffed,
                    }
                });
                let Some(http2) = sniffed.await else { return };
                http2
            }
        };
        if http2 {
            wire.set_http2();
            // On the heap: its state is several times that of an HTTP/1 connection.
            Box::pin(self.serve_http2(wire, joined, peer)).await;
        } else {
            self.serve_http1(wire, joined, peer).await;
        }
    }
}

/// Polls a connection to its end and obeys orders. `None`: it was cut. Dropping it closes.
async fn drive<C>(
    link: &Link,
    connection: &mut C,
    leave: impl Fn(Pin<&mut C>),
    leaves: impl Fn(&Link) -> bool,
) -> Option<Result<(), hyper::Error>>
where
    C: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    let mut leaving = false;
    poll_fn(|cx| {
        link.park(cx.waker());
        if link.order() == Order::Cut {
            if link.pulse.is_calm() {
                // Whatever it comes to: `wire` writes the last word and lets nothing else happen.
                let _ = Pin::new(&mut *connection).poll(cx);
            }
            return Poll::Ready(None);
        }
        loop {
            if !leaving && leaves(link) {
                leaving = true;
                leave(Pin::new(connection));
            }
            let polled = Pin::new(&mut *connection).poll(cx).map(Some);
            link.pulse.settle();
            // A first request that came during a drain makes the connection one that leaves.
            if polled.is_ready() || leaving || !leaves(link) {
                return polled;
            }
        }
    })
    .await
}

/// Takes in what the client still sends, until it has seen that nobody listens.
async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    // It may be shut down already; an error means that the client is gone.
    if io.shutdown().await.is_err() {
        return;
    }
    let mut bytes = [0; 4096];
    while matches!(io.read(&mut bytes).await, Ok(count) if count > 0) {}
}
