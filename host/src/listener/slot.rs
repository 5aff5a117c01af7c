//! A client's socket, and its place among those that the connection cap allows.
//!
//! `accept` takes a place for each socket; it is free when the socket is dropped, wherever that
//! went: with its connection, or with the tunnel that took it over. Never buffers, never blocks.

use super::{ClientStream, Counters};
use crate::socket;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// One of the connections that the cap allows.
#[derive(Debug)]
pub(super) struct Slot(Arc<Counters>);

impl Slot {
    pub(super) fn take(counters: &Arc<Counters>, limit: usize) -> Option<Slot> {
        // Counted first, so that workers that accept at the same instant never exceed the cap.
        let slot = Slot(Arc::clone(counters));
        (counters.active.fetch_add(1, Ordering::Relaxed) < limit).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    #[expect(dead_code, reason = "held for its drop")]
    slot: Slot,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, slot: Slot) -> Socket {
        Socket { stream, slot }
    }
}

impl ClientStream for TcpStream {
    fn is_left(&self) -> bool {
        let ready = pin!(self.ready(Interest::READABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }
}

impl ClientStream for Socket {
    fn is_left(&self) -> bool {
        self.stream.is_left()
    }
}

impl ClientStream for TlsStream<Socket> {
    fn is_left(&self) -> bool {
        self.get_ref().0.is_left()
    }
}

#[cfg(test)]
impl ClientStream for tokio::io::DuplexStream {
    fn is_left(&self) -> bool {
        false
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        socket::poll_write_vectored(Pin::new(&mut self.stream), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
