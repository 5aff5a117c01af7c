//! One HTTP/1 connection to an endpoint, and its only clock.
//!
//! Made by `send`, kept by `pool` while idle. A request's time-out costs a store into a cell: the
//! connection's task holds one timer, which fires seldom and looks then whether time is really
//! over. Never serves two requests at once, never a second one after one that went wrong.

use super::dial::{DialError, Dialer, Probe, Stream};
use crate::clock::Clock;
use crate::message::body::Body;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes of a response's head; as much as browsers take.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes read ahead of whoever reads the body.
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// How often a connection's timer looks, at the least. An idle connection is closed the second
/// time, so after 30 to 60 s: before the 60 to 75 s after which common servers would do it.
const LOOK: Duration = Duration::from_secs(30);

/// Deadline of a connection that waits for nobody.
const NEVER: u64 = u64::MAX;
/// Deadline of a connection in the pool.
const IDLE: u64 = u64::MAX - 1;

/// What a connection waits for.
pub(super) struct Wait {
    /// The worker's clock in nanoseconds, or [`NEVER`], or [`IDLE`].
    deadline: Cell<u64>,
    /// Idle since before the timer last looked.
    seen_idle: Cell<bool>,
    /// Time was over and the connection is closed.
    expired: Cell<bool>,
}

impl Wait {
    pub(super) fn new() -> Rc<Wait> {
        let (seen_idle, expired) = (Cell::new(false), Cell::new(false));
        Rc::new(Wait { deadline: Cell::new(NEVER), seen_idle, expired })
    }

    /// Until `timeout` from `now`; zero: without end.
    pub(super) fn set(&self, now: u64, timeout: Duration) {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(NEVER);
        self.deadline.set(if nanos == 0 { NEVER } else { now.saturating_add(nanos).min(IDLE - 1) });
    }

    pub(super) fn clear(&self) {
        self.deadline.set(NEVER);
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    fn set_idle(&self) {
        self.deadline.set(IDLE);
        self.seen_idle.set(false);
    }

    /// How long until it is worth another look; `None`: time is over.
    fn look(&self, now: u64, most: Duration) -> Option<Duration> {
        match self.deadline.get() {
            NEVER => Some(most),
            IDLE => (!self.seen_idle.replace(true)).then_some(most),
            deadline if deadline > now => Some(Duration::from_nanos(deadline - now).min(most)),
            _ => None,
        }
    }

    /// `future`, or `None` when this wait is over before. A deadline that comes nearer is seen when
    /// `future` is polled next, or after `most`.
    pub(super) async fn bound<F: Future>(
        &self,
        future: F,
        clock: &Clock,
        most: Duration,
    ) -> Option<F::Output> {
        let most = most.min(LOOK);
        let mut future = pin!(future);
        let mut timer = pin!(tokio::time::sleep(most));
        // When the timer will fire; 0: not set yet.
        let mut at = 0;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if self.deadline.get() >= at && at != 0 && !timer.is_elapsed() {
                return Poll::Pending;
            }
            loop {
                let now = clock.monotonic_nanos();
                let Some(pause) = self.look(now, most) else {
                    self.expired.set(true);
                    return Poll::Ready(None);
                };
                at = now.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(NEVER));
                timer.as_mut().reset(Instant::now() + pause);
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

/// The sender's side of a connection. Dropping it closes the connection: politely when it is idle,
/// at once when it is not, with the request body it may still be reading.
pub(super) struct Http1 {
    pub(super) sender: SendRequest<Body>,
    pub(super) wait: Rc<Wait>,
    probe: Probe,
    task: JoinHandle<()>,
    /// The stream is somebody else's now.
    upgraded: bool,
}

impl Http1 {
    /// Connects, and starts the connection's task on this worker.
    pub(super) async fn connect(
        dialer: &Dialer,
        timeout: Duration,
        clock: &Clock,
    ) -> Result<Http1, DialError> {
        let stream = dialer.dial(timeout).await?;
        let probe = stream.probe();
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .handshake::<TokioIo<Stream>, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| DialError::Failed(error.to_string().into()))?;
        let wait = Wait::new();
        let task = tokio::task::spawn_local({
            let (wait, clock) = (wait.clone(), clock.clone());
            async move {
                if let Some(Err(error)) = wait.bound(connection.with_upgrades(), &clock, LOOK).await {
                    tracing::debug!(%error, "upstream connection ended");
                }
            }
        });
        Ok(Http1 { sender, wait, probe, task, upgraded: false })
    }

    /// Whether a request may be put on it.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(super) fn set_idle(&self) {
        self.wait.set_idle();
    }

    /// Makes sure of the socket before the next request is written to it.
    pub(super) fn look_first(&self) {
        self.probe.ask();
    }

    /// Lets go of the connection without closing it, for the protocol that it was switched to.
    pub(super) fn release(mut self) {
        self.wait.clear();
        self.upgraded = true;
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if !self.upgraded && !self.sender.is_ready() {
            self.task.abort();
        }
    }
}
