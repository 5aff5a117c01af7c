//! Sockets to byte streams: binds, accepts, and shakes hands.
//!
//! `server` builds one [`Listener`] per worker and configured listener and hands each accepted
//! stream to a [`Streams`], which is `connection`. Never reads a byte of HTTP, and accepting
//! never waits for a handshake.
//!
//! ```text
//! bind (reload: before the swap) -> accept, per worker -> tls, in the stream's own task -> Streams
//!                                        `-- drain: says when to stop, counts what is left
//! ```

mod accept;
mod bind;
mod certificates;
mod client_certificate;
mod drain;
mod slot;
mod tls;

pub use accept::{Listener, accept};
pub use bind::Bound;
pub use certificates::{CertificateError, CertificateSettings, Certificates};
pub use drain::{Drain, DrainControl, DrainGuard, Stage};
pub use tls::{ClientAuth, Tls, TlsSettings};

use crate::message::peer::Peer;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a listener must know beside its sockets and certificates.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The listener's name in the configuration.
    pub name: Arc<str>,
    /// Connections of all workers together, tunnels too; one more is closed at once. Default 20,000.
    pub connections: usize,
    /// A TLS handshake, from accept to its end. Default 10 s.
    pub handshake: Duration,
    /// HTTP/2: in clear by prior knowledge, over TLS by ALPN. Default true.
    pub http2: bool,
}

impl Settings {
    /// The defaults of the configuration, for a listener of this name.
    pub fn named(name: &str) -> Settings {
        Settings { name: name.into(), connections: 20_000, handshake: Duration::from_secs(10), http2: true }
    }
}

/// What is spoken on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    /// HTTP/2 if the stream opens with its preface (prior knowledge), else HTTP/1.
    ByPreface,
}

/// A stream of bytes from and to a client.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The client sends no more than what may lie here unread, as far as the runtime has heard:
    /// costs no system call.
    fn is_left(&self) -> bool;
}

/// Who takes over accepted streams.
pub trait Streams: 'static {
    /// Drives one stream to its end. Dropping the future closes the stream.
    fn serve<IO>(self: Rc<Self>, io: IO, protocol: Protocol, peer: Rc<Peer>) -> impl Future<Output = ()>
    where
        IO: ClientStream;
}

/// Counts of one listener over all workers, for telemetry to read.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    active: AtomicUsize,
    handshakes_failed: AtomicU64,
    accept_errors: AtomicU64,
}

impl Counters {
    /// Connections accepted, refused ones included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections closed at once because `Settings::connections` were open.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections open now, those that became tunnels too.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// TLS handshakes that failed or took too long.
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }

    /// Errors of `accept` itself, such as too many open files.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
