//! After a 101: bytes both ways until either side has enough.
//!
//! Opened by the exchange, lives in a task of its own beside the connections that it took over.
//! A drain waits for it, and ends it: a WebSocket's client is told with a Close, between two
//! frames of its upstream, that the gateway goes away (RFC 6455 section 7.4.1). What speaks
//! another protocol, or stops within a frame, goes on until the drain cuts it.

mod frames;

use crate::listener::DrainGuard;
use frames::Frames;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes on their way, in each direction.
const BUFFER: usize = 8 * 1024;
/// How long a client may take to take and answer a Close.
const FAREWELL: Duration = Duration::from_secs(5);
/// A Close with 1001, going away; unmasked, as all that a server sends (RFC 6455 section 5.1).
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// What is spoken after the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    WebSocket,
    Other,
}

impl Spoken {
    /// By the value of `Upgrade`.
    pub fn of(protocol: &[u8]) -> Spoken {
        if protocol.eq_ignore_ascii_case(b"websocket") { Spoken::WebSocket } else { Spoken::Other }
    }
}

pub fn open(client: OnUpgrade, upstream: OnUpgrade, spoken: Spoken, guard: DrainGuard) {
    tokio::task::spawn_local(async move {
        let (draining, cut) = (guard.drain().draining(), guard.drain().cut());
        let carry = async {
            let (client, upstream) = tokio::try_join!(client, upstream).map_err(io::Error::other)?;
            Tunnel::new(TokioIo::new(client), TokioIo::new(upstream), spoken).carry(draining, FAREWELL).await
        };
        let ended = tokio::select! {
            ended = carry => ended,
            () = cut => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a tunnel broke");
        }
        drop(guard);
    });
}

struct Tunnel<C, U> {
    client: C,
    upstream: U,
    up: Flow,
    down: Flow,
}

/// Why a flow, or a tunnel, stands still for good.
#[derive(Debug, PartialEq, Eq)]
enum Halt {
    End,
    /// Held between two frames.
    Border,
}

impl<C, U> Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn new(client: C, upstream: U, spoken: Spoken) -> Tunnel<C, U> {
        Tunnel { client, upstream, up: Flow::new(spoken), down: Flow::new(spoken) }
    }

    /// To the end of both sides, or of the farewell. Dropped, it cuts both off.
    async fn carry(mut self, draining: impl Future<Output = ()>, farewell: Duration) -> io::Result<()> {
        let mut draining = pin!(draining);
        let mut leaving = false;
        let halt = poll_fn(|cx| {
            loop {
                let polled = self.poll(cx, leaving);
                if polled.is_ready() || leaving || draining.as_mut().poll(cx).is_pending() {
                    return polled;
                }
                leaving = true;
            }
        });
        if halt.await? == Halt::End {
            return Ok(());
        }
        // One that takes or answers nothing has had its time.
        let _ = tokio::time::timeout(farewell, self.say_goodbye()).await;
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, leaving: bool) -> Poll<io::Result<Halt>> {
        let up = self.up.poll(cx, &mut self.client, &mut self.upstream, false)?;
        match self.down.poll(cx, &mut self.upstream, &mut self.client, leaving)? {
            Poll::Ready(Halt::End) if up.is_pending() => Poll::Pending,
            down => down.map(Ok),
        }
    }

    /// Tells the client, hands its answer, a Close too, on to the upstream, and ends both.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        self.client.write_all(&GOING_AWAY).await?;
        self.client.flush().await?;
        let answered: io::Result<Halt> = poll_fn(|cx| {
            let polled = self.up.poll(cx, &mut self.client, &mut self.upstream, false)?;
            if self.up.is_closed() { Poll::Ready(Ok(Halt::End)) } else { polled.map(Ok) }
        })
        .await;
        answered?;
        // The server closes first (RFC 6455 section 7.1.1).
        let _ = self.client.shutdown().await;
        self.upstream.shutdown().await
    }
}

/// One direction.
struct Flow {
    buffer: Box<[u8]>,
    /// What is read and not written.
    start: usize,
    end: usize,
    unflushed: bool,
    stage: Stage,
    /// Of a WebSocket, as far as it is written.
    frames: Option<Frames>,
}

#[derive(Clone, Copy)]
enum Stage {
    Flowing,
    /// The sender has said all.
    Ended,
    /// And the receiver was told.
    Shut,
}

impl Flow {
    fn new(spoken: Spoken) -> Flow {
        Flow {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            unflushed: false,
            stage: Stage::Flowing,
            frames: (spoken == Spoken::WebSocket).then(Frames::default),
        }
    }

    fn is_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::is_closed)
    }

    /// Moves what there is. `hold`: stops before the next frame of a WebSocket begins.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        hold: bool,
    ) -> Poll<io::Result<Halt>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if let Stage::Shut = self.stage {
                return Poll::Ready(Ok(Halt::End));
            }
            // A side that has closed needs no word of ours.
            let left = self.frames.as_ref().filter(|frames| hold && !frames.is_closed()).map(Frames::left);
            if left == Some(0) {
                return Poll::Ready(Ok(Halt::Border));
            }
            if self.start < self.end {
                let most = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(BUFFER);
                let end = self.end.min(self.start.saturating_add(most));
                let bytes = &self.buffer[self.start..end];
                let count = ready!(Pin::new(&mut *to).poll_write(cx, bytes))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                if let Some(frames) = &mut self.frames {
                    frames.advance(&bytes[..count]);
                }
                self.start += count;
                self.unflushed = true;
                continue;
            }
            if let Stage::Ended = self.stage {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.stage = Stage::Shut;
                continue;
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer)? {
                Poll::Ready(()) => {
                    (self.start, self.end) = (0, buffer.filled().len());
                    if self.end == 0 {
                        self.stage = Stage::Ended;
                    }
                }
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
