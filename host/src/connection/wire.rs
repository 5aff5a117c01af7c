//! The byte stream as hyper sees it: remembers what was peeked, and notes what comes in.
//!
//! Made by `serve` for each connection; after an upgrade the tunnel reads on through it, and may
//! do so on any thread (hyper demands it), so the notes it shares with `sweep` are atomics:
//! plain loads and stores, only one thread ever writes. Never reads ahead beyond the preface.
//!
//! hyper has no way to say why it closes an HTTP/2 connection, so that is said here: a last GOAWAY
//! after the frame that is being written.

use super::sight::Sight;
use crate::listener::ClientStream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every HTTP/2 client begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// GOAWAY with this code (RFC 9113 section 6.8); any stream may have been acted on.
const fn goaway(code: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, code]
}
const FRAME_SIZE_ERROR: u8 = 6;
const ENHANCE_YOUR_CALM: u8 = 11;

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
    /// The client is to be told to calm down, and nothing else. HTTP/2 only.
    calm: AtomicBool,
    /// What the last read came to: `LISTENS`, `HEARD`, or `DEAF`.
    hearing: AtomicU8,
    /// `Wire` is to look whether the client is still there. HTTP/1 only.
    look: AtomicBool,
}

/// Nothing was there: hyper is woken when something comes, and be it the end.
const LISTENS: u8 = 0;
/// There was something. It may be the last that hyper reads for long: it reads no more while an
/// answer is under way and bytes of a next request are there.
const HEARD: u8 = 1;
/// The same, since the sweep looked last.
const DEAF: u8 = 2;

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

    pub(super) fn set_calm(&self) {
        self.calm.store(true, Relaxed);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Relaxed)
    }

    /// Whether hyper read something, and has not read since this was asked before.
    pub(super) fn grows_deaf(&self) -> bool {
        let hearing = self.hearing.load(Relaxed);
        if hearing == HEARD {
            self.hearing.store(DEAF, Relaxed);
        }
        hearing == DEAF
    }

    pub(super) fn set_look(&self) {
        self.look.store(true, Relaxed);
    }

    fn take_look(&self) -> bool {
        // A load alone where nobody asks, which is nearly always.
        self.look.load(Relaxed) && {
            self.look.store(false, Relaxed);
            // What follows an upgrade may well end one way before the other.
            self.in_flight() > 0
        }
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
    written: Frames,
    read: Frames,
}

/// Where in a frame of HTTP/2 (RFC 9113 section 4.1) that which went one way ends.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes of its head; 0: between two frames, if nothing is left.
    head: u8,
    length: u32,
    kind: u8,
    flags: u8,
    /// Bytes of its payload to come.
    left: u32,
    /// There was one of a length that its kind cannot have (section 4.2).
    misfit: bool,
}

impl Frames {
    fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= u32::try_from(count).unwrap_or(self.left);
                bytes = &bytes[count..];
                continue;
            }
            bytes = rest;
            match self.head {
                0..3 => self.length = self.length << 8 | u32::from(byte),
                3 => self.kind = byte,
                4 => self.flags = byte,
                _ => {}
            }
            self.head += 1;
            if self.head == 9 {
                let misfit = self.misfit || !self.fits();
                *self = Frames { left: self.length, misfit, ..Frames::default() };
            }
        }
    }

    fn is_between(&self) -> bool {
        self.head == 0 && self.left == 0
    }

    /// Sections 6.3 to 6.5, 6.7, 6.9.
    fn fits(&self) -> bool {
        match (self.kind, self.length) {
            (2, length) => length == 5,
            (3 | 8, length) => length == 4,
            (4, length) if self.flags & 1 != 0 => length == 0,
            (4, length) => length % 6 == 0,
            (6, length) => length == 8,
            _ => true,
        }
    }
}

impl<IO: AsyncRead + Unpin> Wire<IO> {
    pub(super) fn new(io: IO, pulse: Arc<Pulse>) -> Wire<IO> {
        pulse.settled.store(true, Relaxed);
        let sight = Sight::new();
        Wire {
            io,
            pulse,
            sight,
            peeked: [0; PREFACE.len()],
            peeked_length: 0,
            given: 0,
            http2: false,
            written: Frames::default(),
            // The preface is no frame.
            read: Frames { left: PREFACE.len() as u32, ..Frames::default() },
        }
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
        if self.http2 {
            self.read.advance(bytes);
            return;
        }
        if pulse.in_flight() != 0 {
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

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.pulse.is_calm() {
            // Nothing more is heard, so that hyper goes on to write.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.given < this.peeked_length {
            let left = &this.peeked[usize::from(this.given)..usize::from(this.peeked_length)];
            let count = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..count]);
            this.given += u8::try_from(count).unwrap_or(0);
        } else {
            let room = buffer.remaining();
            if Pin::new(&mut this.io).poll_read(cx, buffer)?.is_pending() {
                this.pulse.hearing.store(LISTENS, Relaxed);
                return Poll::Pending;
            }
            if buffer.filled().len() == before && room > 0 {
                this.pulse.ended.store(true, Relaxed);
            }
        }
        this.pulse.hearing.store(HEARD, Relaxed);
        this.note(&buffer.filled()[before..]);
        if this.read.misfit {
            // h2 would say PROTOCOL_ERROR, where the RFC names a code.
            return Poll::Ready(Err(this.part(cx, FRAME_SIZE_ERROR)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> Wire<IO> {
    /// Says once why the connection ends, if what was written allows it; an error then.
    fn part(&mut self, cx: &mut Context<'_>, code: u8) -> io::Error {
        if self.http2 && self.written.is_between() {
            // All or nothing, and no second try: the connection is being cut.
            let written = Pin::new(&mut self.io).poll_write(cx, &goaway(code));
            let flushed = Pin::new(&mut self.io).poll_flush(cx);
            tracing::debug!(?written, ?flushed, code, "an HTTP/2 client is sent away");
            self.http2 = false;
        }
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl<IO: ClientStream> AsyncWrite for Wire<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.pulse.is_calm() {
            return Poll::Ready(Err(this.part(cx, ENHANCE_YOUR_CALM)));
        }
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        if this.http2 {
            this.written.advance(&bytes[..count]);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pulse.is_calm() {
            return Poll::Ready(Err(self.part(cx, ENHANCE_YOUR_CALM)));
        }
        // hyper flushes whenever it is woken.
        if self.pulse.take_look() && !self.http2 && self.io.is_left() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
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
        let this = &mut *self;
        if this.pulse.is_calm() {
            return Poll::Ready(Err(this.part(cx, ENHANCE_YOUR_CALM)));
        }
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        if this.http2 {
            let mut left = count;
            for slice in slices {
                let length = left.min(slice.len());
                this.written.advance(&slice[..length]);
                left -= length;
            }
        }
        Poll::Ready(Ok(count))
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

    #[tokio::test]
    async fn the_last_word_comes_between_two_frames() {
        let frames = [&[0, 0, 3, 0, 0, 0, 0, 0, 1][..], b"abc", &[0, 0, 0, 4, 1, 0, 0, 0, 0]].concat();
        // After whole frames it is said, within one it is not.
        for (length, said) in
            [(0, true), (12, true), (21, true), (1, false), (9, false), (11, false), (20, false)]
        {
            let (mut client, server) = duplex(64);
            let pulse = Arc::<Pulse>::default();
            let mut wire = Wire::new(server, Arc::clone(&pulse));
            wire.set_http2();
            let (first, second) = frames[..length].split_at(length / 2);
            wire.write_all(first).await.unwrap();
            wire.write_all(second).await.unwrap();
            wire.flush().await.unwrap();
            pulse.set_calm();
            assert!(wire.flush().await.is_err());
            assert!(wire.write_all(b"more").await.is_err());
            drop(wire);
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).await.unwrap();
            let expected = if said {
                [&frames[..length], &goaway(ENHANCE_YOUR_CALM)].concat()
            } else {
                frames[..length].to_vec()
            };
            assert_eq!(bytes, expected, "{length}");
        }
    }
}
