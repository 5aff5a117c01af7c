//! Bodies on their way to and from an upstream, where they need watching.
//!
//! Most need none: requests mostly have no body, and small responses have arrived whole when their
//! head is handed on. For the rest, [`Upload`] tells the response's time-out whether the client or
//! the upstream is being waited for, and [`Download`] gives the connection back when the body has
//! been read to its end, and closes it when it is dropped before. Never buffers.

use super::http1::{Http1, Wait};
use super::http2::Stream;
use super::pool::Active;
use crate::clock::Clock;
use crate::message::body::{Body, BodyError};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// What is known of a request body that streams; shared by its [`UploadBody`] and `send`.
pub(super) struct Upload {
    stage: Cell<Stage>,
    /// The response's head is here: its time-out is over.
    answered: Cell<bool>,
    /// The time-out in force, of the connection that the body goes to.
    wait: RefCell<Option<Rc<Wait>>>,
    timeout: Duration,
    clock: Clock,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Untouched,
    Flowing,
    /// Nothing more will come of it.
    Over,
    /// The client's side of it broke.
    Broken,
}

impl Upload {
    pub(super) fn new(timeout: Duration, clock: Clock) -> Rc<Upload> {
        Rc::new(Upload {
            stage: Cell::new(Stage::Untouched),
            answered: Cell::new(false),
            wait: RefCell::new(None),
            timeout,
            clock,
        })
    }

    /// From here on the body moves this time-out.
    pub(super) fn bind(&self, wait: &Rc<Wait>) {
        *self.wait.borrow_mut() = Some(wait.clone());
    }

    pub(super) fn set_answered(&self) {
        self.answered.set(true);
    }

    pub(super) fn is_started(&self) -> bool {
        self.stage.get() != Stage::Untouched
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage.get() == Stage::Over
    }

    pub(super) fn is_broken(&self) -> bool {
        self.stage.get() == Stage::Broken
    }

    /// A chunk went to the upstream: its time begins anew.
    fn progress(&self, stage: Stage) {
        self.stage.set(stage);
        self.with_wait(|wait| wait.set(self.clock.monotonic_nanos(), self.timeout));
    }

    /// The client is being waited for, and the upstream is not to blame.
    fn hold(&self) {
        self.with_wait(Wait::clear);
    }

    fn with_wait(&self, change: impl FnOnce(&Wait)) {
        if !self.answered.get()
            && let Some(wait) = &*self.wait.borrow()
        {
            change(wait);
        }
    }
}

/// The body that goes with an [`Upload`].
pub(super) struct UploadBody {
    pub(super) body: Body,
    pub(super) upload: Rc<Upload>,
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Pending => this.upload.hold(),
            Poll::Ready(Some(Ok(_))) if !this.body.is_end_stream() => this.upload.progress(Stage::Flowing),
            Poll::Ready(Some(Ok(_)) | None) => this.upload.progress(Stage::Over),
            Poll::Ready(Some(Err(_))) => this.upload.stage.set(Stage::Broken),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for UploadBody {
    fn drop(&mut self) {
        // hyper drops a body of known length without asking it for its end.
        if self.upload.stage.get() == Stage::Flowing {
            self.upload.stage.set(Stage::Over);
        }
    }
}

/// What a response body occupies until it ends.
pub(super) enum Carrier {
    Http1(Http1),
    Http2(#[expect(dead_code, reason = "held for its drop")] Stream),
}

/// A response body that had not arrived whole with its head.
pub(super) struct Download {
    body: Incoming,
    /// Until the body ends.
    carrier: Option<(Carrier, Active)>,
    upload: Option<Rc<Upload>>,
    /// `timeouts.idle`; zero: none.
    idle: Duration,
    /// Runs while somebody waits for a chunk.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Download {
    pub(super) fn new(
        body: Incoming,
        carrier: Carrier,
        active: Active,
        upload: Option<Rc<Upload>>,
        idle: Duration,
    ) -> Download {
        Download { body, carrier: Some((carrier, active)), upload, idle, timer: None, waiting: false }
    }

    fn end(&mut self) {
        match self.carrier.take() {
            Some((Carrier::Http1(connection), active)) => active.settle(connection, self.upload.as_deref()),
            Some((Carrier::Http2(_), _)) | None => {}
        }
    }

    /// Closes the connection, and the endpoint is to blame.
    fn fail(&mut self) {
        if let Some((_carrier, active)) = self.carrier.take() {
            active.record_failure();
        }
    }

    /// Whether the upstream has been silent for too long.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        if self.idle.is_zero() {
            return false;
        }
        if !self.waiting {
            self.waiting = true;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(Instant::now() + self.idle),
                None => self.timer = Some(Box::pin(tokio::time::sleep(self.idle))),
            }
        }
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = false;
                if this.body.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.fail();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Pending if this.carrier.is_some() && this.is_stalled(cx) => {
                this.fail();
                Poll::Ready(Some(Err(Box::new(Stalled))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The upstream sent nothing of a body for longer than `timeouts.idle`.
#[derive(Debug)]
struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream went silent in the middle of a body")
    }
}

impl std::error::Error for Stalled {}
