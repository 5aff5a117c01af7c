//! Byte streams to HTTP messages: drives HTTP/1.1 and HTTP/2 connections of clients.
//!
//! `listener` hands over streams, `server` brings the [`Service`] (which is `exchange`). What hyper
//! lets through though the RFCs say otherwise is refused here, before any service sees it. Never
//! looks into a body, and never bounds one: that is `exchange`'s.
//!
//! ```text
//! wire (preface, raw sight of heads) -> hyper -> strict, authority -> Service -> answer (body, counted)
//!                 `--- pulse ---- sweep: one clock per worker for idle, slow and stalled ones ---'
//!                                 stream: the same for single ones of HTTP/2
//! ```

mod answer;
mod authority;
mod serve;
mod sight;
mod stream;
mod strict;
mod sweep;
mod wire;

pub use authority::misdirected;
pub use serve::Connections;
pub use strict::{Fault, check};

use crate::message::body::Body;
use crate::message::peer::Peer;
use crate::telemetry::reason::Reason;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// Who answers requests.
pub trait Service: Clone + 'static {
    /// Answers one request. For an HTTP/1.1 upgrade it calls `hyper::upgrade::on` itself; such a
    /// tunnel outlives the connection and holds a `DrainGuard` of its own. The future is dropped
    /// when the client goes away.
    fn call(
        &self,
        peer: &Rc<Peer>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + 'static + use<Self>;

    /// Told of each request that was refused before `call`, for the access log and metrics.
    fn refused(&self, _peer: &Rc<Peer>, _request: &Parts, _fault: Fault) {}

    /// Told of each HTTP/1 head that could not be read, and was answered for that.
    fn unread(&self, _peer: &Rc<Peer>, _reason: Reason) {}
}

/// What one connection may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Total bytes of a request's head. Default 32 KiB. Over it: 431.
    pub header_bytes: usize,
    /// Fields in a request's head. Default 100. Over it: 431.
    pub header_count: usize,
    /// From the first byte of an HTTP/1 head to its end. Default 10 s.
    pub header_read: Duration,
    /// Between requests of one connection, before its first one, and for a client that takes
    /// nothing of an answer that is ready. Default 75 s.
    pub idle: Duration,
    /// Concurrent HTTP/2 streams of a connection. Default 128.
    pub http2_streams: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_bytes: 32 * 1024,
            header_count: 100,
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            http2_streams: 128,
        }
    }
}

#[cfg(test)]
mod tests;
