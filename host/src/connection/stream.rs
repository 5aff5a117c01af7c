//! Streams of HTTP/2 on their way through hyper: ends those whose client takes nothing of an answer.
//!
//! Made by `serve` for each connection. hyper waits without a bound for a client to open a stream's
//! window, and `sweep` cuts a connection only if nothing of it moves; so one upload that drips, or an
//! answer that flows, would keep all others for ever. Never ends a stream that waits for the gateway
//! or an upstream.

use super::sweep::Link;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// A timer fires this often within the time-out and sees whether anything moved: so what moves costs
/// no timer that is set anew.
const PARTS: u32 = 4;

/// Spawns a connection's streams onto the worker's own thread.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    link: Rc<Link>,
    idle: Duration,
}

impl Tasks {
    pub(super) fn new(link: &Rc<Link>, idle: Duration) -> Tasks {
        Tasks { link: Rc::clone(link), idle }
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(watch(future, Rc::clone(&self.link), self.idle / PARTS));
    }
}

/// Drives a stream to its end, or until its client took nothing for `PARTS` parts; dropping it resets.
async fn watch(future: impl Future, link: Rc<Link>, part: Duration) {
    let mut future = pin!(future);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let (mut handed, mut quiet) = (false, 0);
    poll_fn(|cx| {
        let (handed_before, pieces_before) = (link.handed.get(), link.pieces.get());
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Meanwhile nobody's answer but this stream's can have moved them.
        if link.pieces.get() != pieces_before {
            quiet = 0;
        }
        if link.handed.get() != handed_before {
            handed = link.handed.get() > handed_before;
        }
        if !handed {
            return Poll::Pending;
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(part)));
        // The first part may have begun before the last move.
        while quiet <= PARTS {
            ready!(timer.as_mut().poll(cx));
            timer.as_mut().reset(Instant::now() + part);
            quiet += 1;
        }
        Poll::Ready(())
    })
    .await;
}
