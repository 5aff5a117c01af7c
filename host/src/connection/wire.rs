//! The byte stream as hyper sees it: remembers what was peeked, and notes what comes in.
//!
//! Made by `serve` for each connection; after an upgrade the tunnel reads on through it, and may
//! do so on any thread (hyper demands it), so the notes it shares with `sweep` are atomics:
//! plain loads and stores, only one thread ever writes. Never reads ahead beyond the preface.

use super::sight::Sight;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every HTTP/2 client begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is known of a connection without asking hyper.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Requests whose answers are not all written.
    in_flight: AtomicU32,
    /// Grows when a request comes and when its answer is done.
    turns: AtomicU32,
    /// A head has begun and is not complete. HTTP/1 only.
    in_head: AtomicBool,
    /// hyper waits for a head: the next byte is its first.
    settled: AtomicBool,
    /// `sight`'s bits for the head that is being read.
    seen: AtomicU8,
    /// The client sends no more.
    ended: AtomicBool,
}

impl Pulse {
    /// A request is complete up to its body. Returns what `sight` saw of its head.
    pub(super) fn begin(&self) -> u8 {
        self.in_flight.store(self.in_flight() + 1, Relaxed);
        self.turns.store(self.turns().wrapping_add(1), Relaxed);
        self.in_head.store(false, Relaxed);
        let seen = self.seen.load(Relaxed);
        self.seen.store(0, Relaxed);
        seen
    }

    /// Its answer is written, or will never be.
    pub(super) fn end(&self) {
        self.in_flight.store(self.in_flight().saturating_sub(1), Relaxed);
        self.turns.store(self.turns().wrapping_add(1), Relaxed);
    }

    /// hyper has done all it can for now. Bytes that it read in the same go may have been the
    /// rest of a body; those of a later go begin a head.
    pub(super) fn settle(&self) {
        if self.in_flight() == 0 && !self.in_head() {
            self.settled.store(true, Relaxed);
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn turns(&self) -> u32 {
        self.turns.load(Relaxed)
    }

    pub(super) fn in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    pub(super) fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Wire<IO> {
    io: IO,
    pulse: Arc<Pulse>,
    sight: Sight,
    /// Bytes read by `sniff`, given to hyper first.
    peeked: [u8; PREFACE.len()],
    peeked_length: u8,
    given: u8,
    http2: bool,
}

impl<IO: AsyncRead + Unpin> Wire<IO> {
    pub(super) fn new(io: IO, pulse: Arc<Pulse>) -> Wire<IO> {
        pulse.settled.store(true, Relaxed);
        let sight = Sight::new();
        Wire { io, pulse, sight, peeked: [0; PREFACE.len()], peeked_length: 0, given: 0, http2: false }
    }

    /// The bytes are HTTP/2's: they have no heads that could be told.
    pub(super) fn set_http2(&mut self) {
        self.http2 = true;
        self.pulse.in_head.store(false, Relaxed);
    }

    /// Reads until it is certain whether the stream opens with the preface of HTTP/2; for nearly
    /// every HTTP/1 request the first byte decides. A stream that ends undecided is HTTP/1.
    pub(super) fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let length = usize::from(self.peeked_length);
            if self.peeked[..length] != PREFACE[..length] {
                return Poll::Ready(Ok(false));
            }
            if length == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            let mut buffer = ReadBuf::new(&mut self.peeked[length..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                self.pulse.ended.store(true, Relaxed);
                return Poll::Ready(Ok(false));
            }
            self.peeked_length = u8::try_from(length + read).unwrap_or(0);
            self.pulse.in_head.store(true, Relaxed);
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let pulse = &*self.pulse;
        if self.http2 || pulse.in_flight() != 0 {
            return;
        }
        if pulse.settled.load(Relaxed) {
            pulse.settled.store(false, Relaxed);
            pulse.in_head.store(true, Relaxed);
            self.sight.begin();
        }
        if pulse.in_head() {
            self.sight.feed(bytes);
            pulse.seen.store(self.sight.seen(), Relaxed);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if this.given < this.peeked_length {
            let left = &this.peeked[usize::from(this.given)..usize::from(this.peeked_length)];
            let count = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..count]);
            this.given += u8::try_from(count).unwrap_or(0);
        } else {
            let room = buffer.remaining();
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
            if buffer.filled().len() == before && room > 0 {
                this.pulse.ended.store(true, Relaxed);
            }
        }
        this.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    async fn sniff(chunks: &[&[u8]]) -> (bool, Vec<u8>) {
        let (mut client, server) = duplex(64);
        let all: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        let mut wire = Wire::new(server, Arc::default());
        let (http2, ()) = tokio::join!(poll_fn(|cx| wire.poll_sniff(cx)), async {
            for chunk in all {
                client.write_all(&chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(client);
        });
        let mut bytes = Vec::new();
        wire.read_to_end(&mut bytes).await.unwrap();
        (http2.unwrap(), bytes)
    }

    #[tokio::test]
    async fn the_preface_decides_and_no_byte_is_lost() {
        assert_eq!(sniff(&[b"GET / HTTP/1.1\r\n\r\n"]).await, (false, b"GET / HTTP/1.1\r\n\r\n".to_vec()));
        assert_eq!(sniff(&[b"P", b"UT /"]).await, (false, b"PUT /".to_vec()));
        assert_eq!(
            sniff(&[b"PRI * HTTP/2.0\r\n", b"\r\nSX"]).await,
            (false, b"PRI * HTTP/2.0\r\n\r\nSX".to_vec())
        );
        assert_eq!(sniff(&[b"PRI"]).await, (false, b"PRI".to_vec()));
        assert_eq!(sniff(&[]).await, (false, Vec::new()));
        let preface: Vec<&[u8]> = PREFACE.chunks(1).collect();
        assert_eq!(sniff(&preface).await, (true, PREFACE.to_vec()));
        let more = [&PREFACE[..], b"\0\0\0"].concat();
        assert_eq!(sniff(&[&more]).await, (true, more.clone()));
    }
}
