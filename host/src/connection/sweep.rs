//! Time-outs and drain of all connections of one listener on one worker, by one clock.
//!
//! A timer per connection would have to be set anew for every request (hyper's own
//! `header_read_timeout` allocates one each time, and counts idle time as reading). Here a request
//! costs two counter writes: a task looks over all connections once per tick, sees who has not
//! moved since when, and wakes those whose time is up. So a time-out is never early, and late by
//! two ticks at most. The same task passes on the drain's stage.
//!
//! ```text
//! Serve --drain--> Finish --first request, or none for FRESH--> Leave --GOODBYE--> Cut
//!   |`-- idle ---------------------------------------------------^                  ^
//!   `--- slow head, stalled client, or drain's end ---------------------------------'
//! ```

use super::Limits;
use super::wire::Pulse;
use crate::listener::{Drain, Stage};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Bounds of a tick: an eighth of the shortest time-out.
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(500);
/// How long a drain waits for the first request of a connection that is open already: it may be
/// on its way, and its client has no answer that says `Connection: close` to go by.
const FRESH: Duration = Duration::from_millis(500);
/// Streams that an HTTP/2 client may reset soon after it opened them, beyond `RESETS_PER_SECOND`.
/// A browser that looks something up at every key resets a few a second; a client that asks only
/// to cancel has the upstreams work for nobody (CVE-2023-44487). Only time gives any back: an
/// answer that the client lets end may have cost nothing, so it could buy what does.
const RESETS: u32 = 200;
const RESETS_PER_SECOND: u32 = 5;
/// A reset later than this is not soon: the client waited and gave up, as it does by the hundred
/// where an upstream is slow, and `Limits::http2_streams` bounds how many can wait.
const SOON: Duration = Duration::from_secs(1);
/// What is left is kept in thousandths, as a tick gives less than one.
const RESET: u32 = 1000;
/// A client may leave bytes of a next request behind, over which hyper does not hear that it left
/// while an answer is under way: this long after the last read its socket is looked at, and again.
const LOOK: Duration = Duration::from_secs(1);
/// How long a connection without requests may take to say goodbye: an HTTP/2 client has to
/// answer a PING before the last GOAWAY.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a connection has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    Serve,
    /// Answer what is in flight or may just be coming in, then close.
    Finish,
    /// Answer what is in flight, then close.
    Leave,
    /// Close now.
    Cut,
}

/// What a connection does, as far as time-outs tell it apart. The number changes with each move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle(u32),
    Head(u32),
    /// Requests are in flight, and the gateway or an upstream has to move.
    Busy,
    /// Answers are ready, and the client takes nothing.
    Stalled(u32),
    Finishing(Order),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) pulse: Arc<Pulse>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    /// The last request has a body, or had one that nobody may have read.
    pub(super) unread: Cell<bool>,
    /// Answers whose next piece is handed over, and which hyper has not asked for more.
    pub(super) handed: Cell<u32>,
    /// Grows with each piece.
    pub(super) pieces: Cell<u32>,
    /// Resets that are left, in thousandths.
    resets: Cell<u32>,
    /// Ticks so far.
    now: Cell<u32>,
    /// `SOON` in ticks.
    soon: u32,
    /// Ticks in which hyper read nothing, and does not wait for anything to read.
    deaf: Cell<u32>,
    last: Cell<(Phase, u32)>,
}

impl Link {
    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    /// Whether an HTTP/1 connection has to close once nothing is in flight.
    pub(super) fn leaves(&self) -> bool {
        match self.order.get() {
            Order::Serve => false,
            Order::Finish => self.pulse.turns() > 0,
            Order::Leave | Order::Cut => true,
        }
    }

    /// Who is to be woken by a new order.
    pub(super) fn park(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match &mut *slot {
            Some(parked) if parked.will_wake(waker) => {}
            Some(parked) => parked.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// A moment for `abandoned`.
    pub(super) fn now(&self) -> u32 {
        self.now.get()
    }

    /// The client left an exchange that began at `begun` before its answer was handed over whole,
    /// or reset the stream, or made this side reset it.
    pub(super) fn abandoned(&self, begun: u32) {
        if self.now.get().wrapping_sub(begun) > self.soon {
            return;
        }
        match self.resets.get().checked_sub(RESET) {
            Some(left) => self.resets.set(left),
            None => {
                self.pulse.set_calm();
                self.tell(Order::Cut);
            }
        }
    }

    fn grant(&self, resets: u32) {
        self.resets.set(self.resets.get().saturating_add(resets).min(RESETS * RESET));
    }

    fn tell(&self, order: Order) {
        if order > self.order.get() {
            self.order.set(order);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    fn look(&self, ticks: Ticks) {
        let deaf = self.pulse.grows_deaf() && self.pulse.in_flight() > 0;
        let count = if deaf { self.deaf.get() + 1 } else { 0 };
        if count < ticks.look {
            self.deaf.set(count);
            return;
        }
        self.deaf.set(0);
        self.pulse.set_look();
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn phase(&self) -> Phase {
        let in_flight = self.pulse.in_flight();
        if in_flight > 0 {
            if self.handed.get() >= in_flight { Phase::Stalled(self.pieces.get()) } else { Phase::Busy }
        } else if self.order.get() > Order::Serve {
            Phase::Finishing(self.order.get())
        } else if self.pulse.in_head() {
            Phase::Head(self.pulse.turns())
        } else {
            Phase::Idle(self.pulse.turns())
        }
    }

    /// One tick has passed.
    fn tick(&self, ticks: Ticks) {
        self.now.set(self.now.get().wrapping_add(1));
        self.grant(ticks.resets);
        self.look(ticks);
        let phase = self.phase();
        let (last, count) = self.last.get();
        if phase != last {
            self.last.set((phase, 0));
            return;
        }
        let count = count.saturating_add(1);
        self.last.set((phase, count));
        match phase {
            Phase::Idle(_) if count >= ticks.idle => self.tell(Order::Leave),
            Phase::Head(_) if count >= ticks.head => self.tell(Order::Cut),
            Phase::Stalled(_) if count >= ticks.idle => self.tell(Order::Cut),
            Phase::Finishing(Order::Finish) if count >= ticks.fresh && !self.leaves() => {
                self.tell(Order::Leave)
            }
            Phase::Finishing(_) if count >= ticks.goodbye => self.tell(Order::Cut),
            _ => {}
        }
    }
}

/// Time-outs in ticks.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    length: Duration,
    head: u32,
    idle: u32,
    fresh: u32,
    goodbye: u32,
    /// Resets that a tick gives back, in thousandths.
    resets: u32,
    soon: u32,
    look: u32,
}

impl Ticks {
    fn new(limits: &Limits) -> Ticks {
        let length = (limits.header_read.min(limits.idle) / 8).clamp(TICK_MIN, TICK_MAX);
        let count = |timeout: Duration| {
            u32::try_from(timeout.as_nanos().div_ceil(length.as_nanos())).unwrap_or(u32::MAX).max(1)
        };
        Ticks {
            length,
            head: count(limits.header_read),
            idle: count(limits.idle),
            fresh: count(FRESH),
            goodbye: count(GOODBYE),
            resets: u32::try_from(length.as_millis()).unwrap_or(0) * RESETS_PER_SECOND,
            soon: count(SOON),
            look: count(LOOK),
        }
    }
}

/// All connections of one listener on one worker.
#[derive(Debug)]
pub(super) struct Sweep {
    ticks: Ticks,
    stage: Cell<Order>,
    links: RefCell<Vec<Option<Rc<Link>>>>,
    free: RefCell<Vec<usize>>,
}

impl Sweep {
    /// Starts the task, which ends with the last reference to what this returns. Needs a
    /// `LocalRuntime` or `LocalSet`.
    pub(super) fn start(limits: &Limits, drain: Drain) -> Rc<Sweep> {
        let sweep = Rc::new(Sweep {
            ticks: Ticks::new(limits),
            stage: Cell::new(order_of(drain.stage())),
            links: RefCell::default(),
            free: RefCell::default(),
        });
        tokio::task::spawn_local(run(Rc::downgrade(&sweep), sweep.ticks, drain));
        sweep
    }

    /// Watches a new connection until the result is dropped.
    pub(super) fn join(self: &Rc<Sweep>) -> Joined {
        let link = Rc::new(Link {
            pulse: Arc::default(),
            order: Cell::new(self.stage.get()),
            waker: RefCell::new(None),
            unread: Cell::new(false),
            handed: Cell::new(0),
            pieces: Cell::new(0),
            resets: Cell::new(RESETS * RESET),
            now: Cell::new(0),
            soon: self.ticks.soon,
            deaf: Cell::new(0),
            last: Cell::new((Phase::Busy, 0)),
        });
        let mut links = self.links.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            links.push(None);
            links.len() - 1
        });
        links[index] = Some(Rc::clone(&link));
        Joined { sweep: Rc::clone(self), index, link }
    }

    fn tell_all(&self, order: Order) {
        self.stage.set(order);
        self.links.borrow().iter().flatten().for_each(|link| link.tell(order));
    }
}

fn order_of(stage: Stage) -> Order {
    match stage {
        Stage::Open => Order::Serve,
        Stage::Draining => Order::Finish,
        Stage::Cut => Order::Cut,
    }
}

async fn run(sweep: Weak<Sweep>, ticks: Ticks, drain: Drain) {
    let mut clock = interval(ticks.length);
    // After a pause of the worker, connections get their ticks one by one and not at once.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut draining, mut cut) = (pin!(drain.draining()), pin!(drain.cut()));
    let mut told = Order::Serve;
    loop {
        let stage = tokio::select! {
            biased;
            () = &mut cut, if told < Order::Cut => Some(Order::Cut),
            () = &mut draining, if told < Order::Finish => Some(Order::Finish),
            _ = clock.tick() => None,
        };
        let Some(sweep) = sweep.upgrade() else { return };
        match stage {
            Some(order) => {
                told = order;
                sweep.tell_all(order);
            }
            None => sweep.links.borrow().iter().flatten().for_each(|link| link.tick(ticks)),
        }
    }
}

/// A connection's place among those that are watched.
#[derive(Debug)]
pub(super) struct Joined {
    sweep: Rc<Sweep>,
    index: usize,
    pub(super) link: Rc<Link>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.sweep.links.borrow_mut()[self.index] = None;
        self.sweep.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::DrainControl;

    fn sweep() -> Rc<Sweep> {
        let limits =
            Limits { header_read: Duration::from_secs(2), idle: Duration::from_secs(4), ..Limits::default() };
        Rc::new(Sweep {
            ticks: Ticks::new(&limits),
            stage: Cell::new(Order::Serve),
            links: RefCell::default(),
            free: RefCell::default(),
        })
    }

    /// Ticks until the order is no longer `Serve`, at most 100.
    fn ticks_until_told(sweep: &Sweep, link: &Link, mut each: impl FnMut()) -> u32 {
        let told = (0..100).find(|_| {
            each();
            link.tick(sweep.ticks);
            link.order() != Order::Serve
        });
        told.unwrap_or(100)
    }

    #[test]
    fn an_idle_connection_finishes_and_then_is_cut() {
        let sweep = sweep();
        assert_eq!(
            (sweep.ticks.length, sweep.ticks.idle, sweep.ticks.head),
            (Duration::from_millis(250), 16, 8)
        );
        let joined = sweep.join();
        assert_eq!(ticks_until_told(&sweep, &joined.link, || {}), 16);
        assert_eq!(joined.link.order(), Order::Leave);
        (0..9).for_each(|_| joined.link.tick(sweep.ticks));
        assert_eq!(joined.link.order(), Order::Cut);
    }

    #[test]
    fn requests_keep_a_connection_and_so_does_a_slow_upstream() {
        let sweep = sweep();
        let joined = sweep.join();
        let pulse = Arc::clone(&joined.link.pulse);
        assert_eq!(
            ticks_until_told(&sweep, &joined.link, || {
                pulse.begin();
                pulse.end();
            }),
            100
        );
        pulse.begin();
        assert_eq!(ticks_until_told(&sweep, &joined.link, || {}), 100);
    }

    #[test]
    fn a_client_that_takes_nothing_is_cut() {
        let sweep = sweep();
        let joined = sweep.join();
        joined.link.pulse.begin();
        joined.link.handed.set(1);
        let pieces = || joined.link.pieces.set(joined.link.pieces.get() + 1);
        assert_eq!(ticks_until_told(&sweep, &joined.link, pieces), 100);
        assert!(ticks_until_told(&sweep, &joined.link, || {}) <= 16);
        assert_eq!(joined.link.order(), Order::Cut);
    }

    #[test]
    fn a_client_that_only_resets_is_cut() {
        let sweep = sweep();
        let link = sweep.join().link.clone();
        let abandon = || link.abandoned(link.now());
        (0..RESETS).for_each(|_| abandon());
        assert_eq!((link.order(), link.pulse.is_calm()), (Order::Serve, false));
        abandon();
        assert_eq!((link.order(), link.pulse.is_calm()), (Order::Cut, true));
    }

    #[test]
    fn a_client_that_resets_some_is_not_cut() {
        let sweep = sweep();
        let link = sweep.join().link.clone();
        let abandon = || link.abandoned(link.now());
        (0..RESETS).for_each(|_| abandon());
        // A few a second.
        for _ in 0..1000 {
            link.tick(Ticks { idle: u32::MAX, ..sweep.ticks });
            abandon();
        }
        // Those it has waited for.
        let begun = link.now();
        (0..=sweep.ticks.soon).for_each(|_| link.tick(Ticks { idle: u32::MAX, ..sweep.ticks }));
        (0..10 * RESETS).for_each(|_| link.abandoned(begun));
        assert_eq!(link.order(), Order::Serve);
    }

    #[test]
    fn a_drain_leaves_time_for_a_first_request_only() {
        let sweep = sweep();
        let (fresh, used) = (sweep.join(), sweep.join());
        used.link.pulse.begin();
        used.link.pulse.end();
        sweep.tell_all(Order::Finish);
        assert!(used.link.leaves() && !fresh.link.leaves());
        (0..3).for_each(|_| fresh.link.tick(sweep.ticks));
        assert_eq!(fresh.link.order(), Order::Leave);
    }

    #[test]
    fn places_are_used_again() {
        let sweep = sweep();
        let (first, second) = (sweep.join(), sweep.join());
        drop(first);
        let third = sweep.join();
        assert_eq!((second.index, third.index, sweep.links.borrow().len()), (1, 0, 2));
        sweep.tell_all(Order::Finish);
        assert_eq!(third.link.order(), Order::Finish);
        assert_eq!(sweep.join().link.order(), Order::Finish);
    }

    #[test]
    fn the_task_passes_the_drain_on_and_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .unwrap();
        runtime.block_on(async {
            let control = DrainControl::new();
            let sweep = Sweep::start(&Limits::default(), control.drain());
            let joined = sweep.join();
            let told = std::future::poll_fn(|cx| {
                joined.link.park(cx.waker());
                match joined.link.order() {
                    Order::Serve => std::task::Poll::Pending,
                    order => std::task::Poll::Ready(order),
                }
            });
            control.start();
            assert_eq!(told.await, Order::Finish);
        });
    }
}
