//! One instance of a policy: a store, its guest, and the hooks it exports.
//!
//! `pool` makes and leases it, `chain` calls it. One call at a time; after a trap, a time-out or a
//! dropped call it is dead, which the lease sees to. Never outlives its worker's pool.

use super::bindings::{BodyVerdict, ChunkVerdict, Direction, Verdict};
use super::block::{Block, Given, Note};
use super::exports::{Answer, Hooks};
use super::facts::Facts;
use super::failure::Failure;
use super::guest::{Guest, Ran};
use super::hook::{Hook, Parameters, Values};
use super::load::Plugin;
use super::plan::{Ask, Plan};
use super::seats::Seat;
use super::ticker::{TICK, Ticking};
use super::trap;
use crate::telemetry::trace::one_line;
use std::collections::BTreeSet;
use std::time::Duration;
use wasmtime::component::{ComponentNamedList, Lift, ResourceAny, TypedFunc};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

/// Bytes that lifting one answer may allocate in the host, so that a small guest cannot return
/// one large string a million times over. Bodies of `BODY_BYTES_MAX` must fit.
const LIFT_BYTES_MAX: usize = 96 << 20;
/// `configure` parses, compiles patterns, warms up: it may take so many times a hook's time, up to
/// a bound that holds unless a hook's own time is longer.
const CONFIGURE_FACTOR: u64 = 50;
const CONFIGURE_TICKS_MAX: u64 = 5_000;
/// Log lines per call.
const LINES_MAX: u32 = 64;
/// Bytes of a guest's error text that are kept.
const ERROR_BYTES_MAX: usize = 1 << 10;
/// A guest that waits (for a fetch, for a WASI clock) is given up after this, whatever its ticks.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub struct Instance {
    store: Store<Guest>,
    hooks: Hooks,
    /// Memory that the guest lends for its hooks' values.
    block: Option<Block>,
    /// Runs on a fiber that can be suspended, instead of straight on the worker's stack.
    fiber: bool,
    ticks: u64,
    /// Among the instances of its worker; given up after the store.
    seat: Option<Seat>,
    #[expect(dead_code, reason = "held for its drop")]
    ticking: Ticking,
}

/// A header hook with its parameters: values in the order of the plan's reads, and the note that an
/// earlier hook of the same policy left for this exchange.
#[derive(Clone, Copy)]
pub enum HeaderCall<'a> {
    Request(Values<'a>),
    Response(Values<'a>, &'a [u8]),
}

/// A body filter that lives in a guest.
#[derive(Clone, Copy, Debug)]
pub struct Filter(ResourceAny);

impl Instance {
    /// Instantiates; on a worker this takes microseconds for a small component.
    pub(super) async fn new(
        plugin: &Plugin,
        guest: Guest,
        fiber: bool,
        time: Duration,
    ) -> Result<Instance, Failure> {
        let ticks = u64::try_from(time.div_duration_f64(TICK).ceil() as u128).unwrap_or(u64::MAX).max(1);
        let ticking = plugin.ticker.hold();
        let mut store = Store::new(plugin.pre.engine(), guest);
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(LIFT_BYTES_MAX);
        let start_ticks = configure_ticks(ticks);
        let linked = if fiber {
            store.epoch_deadline_callback(Guest::tick);
            store.set_epoch_deadline(1);
            store.data_mut().time_max = time_of(start_ticks);
            let ran = store.data().ran.clone();
            waited(&ran, plugin.pre.instantiate_async(&mut store)).await?
        } else {
            store.epoch_deadline_trap();
            store.set_epoch_deadline(start_ticks.saturating_add(1));
            plugin.pre.instantiate(&mut store)
        };
        let linked = linked.map_err(|error| failure(&store, error))?;
        let hooks =
            plugin.places.take(&linked, &mut store, plugin.is_checked()).map_err(Failure::Instance)?;
        plugin.set_checked();
        let block = plugin.lends_block().then(Block::default);
        Ok(Instance { store, hooks, block, fiber, ticks, seat: None, ticking })
    }

    /// Holds on to its seat for as long as it lives.
    pub(super) fn take_seat(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    pub(super) async fn config_schema(&mut self) -> Result<String, Failure> {
        let hook = self.hooks.config_schema;
        self.run(hook, (), configure_ticks(self.ticks), &mut None).await.map(|(text,)| text)
    }

    /// Calls `configure` and returns the plan that it made.
    pub(super) async fn configure(&mut self, config: &str) -> Result<Plan, Failure> {
        self.store.data_mut().plan = Some(Box::default());
        let hook = self.hooks.configure;
        let answer = self.run(hook, (config,), configure_ticks(self.ticks), &mut None).await;
        let plan = self.store.data_mut().plan.take();
        let (answer,) = answer?;
        answer.map_err(error)?;
        self.store.data_mut().settle();
        Ok(plan.map(|plan| *plan).unwrap_or_default())
    }

    /// What `configure` asked for, however it ended.
    pub(super) fn asks(&self) -> &BTreeSet<Ask> {
        self.store.data().asks()
    }

    /// Whether its calls never suspend, so that `now` can make them.
    pub fn is_prompt(&self) -> bool {
        !self.fiber
    }

    /// Calls a header hook at once, of an instance that is prompt. A hook that is not exported
    /// proceeds.
    ///
    /// # Errors
    /// `Failure`, after all of which but `Error` the instance is dead.
    pub fn now(&mut self, call: HeaderCall<'_>, facts: &mut Option<Box<Facts>>) -> Result<Verdict, Failure> {
        self.prepare(self.ticks);
        self.store.data_mut().facts = facts.take();
        let result = match call {
            HeaderCall::Request(values) => match self.hooks.on_request {
                Some(hook) => {
                    let given = Given { values, block: self.block.as_ref() };
                    hook.typed().call(&mut self.store, (given,))
                }
                None => Ok((Ok(Verdict::Proceed),)),
            },
            HeaderCall::Response(values, note) => match self.hooks.on_response {
                Some(hook) => {
                    let given = Given { values, block: self.block.as_ref() };
                    let note = Note { bytes: note, is_sdk: self.block.is_some() };
                    hook.typed().call(&mut self.store, (given, note))
                }
                None => Ok((Ok(Verdict::Proceed),)),
            },
        };
        *facts = self.store.data_mut().facts.take();
        match result {
            Ok((answer,)) => answer.map_err(error),
            Err(error) => Err(failure(&self.store, error)),
        }
    }

    /// As `now`, of any instance.
    pub async fn later(
        &mut self,
        call: HeaderCall<'_>,
        facts: &mut Option<Box<Facts>>,
    ) -> Result<Verdict, Failure> {
        match call {
            HeaderCall::Request(values) => match self.hooks.on_request {
                Some(hook) => self.call(hook, (Given { values, block: None },), facts).await,
                None => Ok(Verdict::Proceed),
            },
            HeaderCall::Response(values, note) => match self.hooks.on_response {
                Some(hook) => {
                    let note = Note { bytes: note, is_sdk: false };
                    self.call(hook, (Given { values, block: None }, note), facts).await
                }
                None => Ok(Verdict::Proceed),
            },
        }
    }

    /// Calls the hook for a collected body of the given direction.
    ///
    /// # Errors
    /// `Failure`, after all of which but `Error` the instance is dead.
    pub async fn on_body(
        &mut self,
        direction: Direction,
        body: &[u8],
        note: &[u8],
        facts: &mut Option<Box<Facts>>,
    ) -> Result<BodyVerdict, Failure> {
        let hook = match direction {
            Direction::Request => self.hooks.on_request_body,
            Direction::Response => self.hooks.on_response_body,
        };
        match hook {
            Some(hook) => self.call(hook, (body, note), facts).await,
            None => Ok(BodyVerdict::Proceed),
        }
    }

    /// Hands over finished exchanges, values in the order of the plan's `log-reads`.
    pub async fn on_log(
        &mut self,
        entries: &[Vec<Option<String>>],
        facts: &mut Option<Box<Facts>>,
    ) -> Result<(), Failure> {
        match self.hooks.on_log {
            Some(hook) => self.call(hook, (entries,), facts).await,
            None => Ok(()),
        }
    }

    pub async fn on_tick(&mut self, facts: &mut Option<Box<Facts>>) -> Result<(), Failure> {
        match self.hooks.on_tick {
            Some(hook) => self.call(hook, (), facts).await,
            None => Ok(()),
        }
    }

    /// Makes a body filter, which lives until it is closed or this instance ends.
    pub async fn open_filter(&mut self, direction: Direction, note: &[u8]) -> Result<Filter, Failure> {
        let Some(construct) = self.hooks.filter.as_ref().map(|hooks| hooks.construct) else {
            return Err(Failure::Instance("exports no body-stream".into()));
        };
        self.prepare(self.ticks);
        let result = self.run_typed(construct.typed(), (direction, note)).await;
        result.map(|(filter,)| Filter(filter))
    }

    /// Gives the next chunk of a body to its filter.
    pub async fn filter_chunk(
        &mut self,
        filter: Filter,
        data: &[u8],
        last: bool,
    ) -> Result<ChunkVerdict, Failure> {
        let Some(chunk) = self.hooks.filter.as_ref().map(|hooks| hooks.chunk) else {
            return Err(Failure::Instance("exports no body-stream".into()));
        };
        self.prepare(self.ticks);
        let (answer,) = self.run_typed(chunk.typed(), (filter.0, data, last)).await?;
        answer.map_err(error)
    }

    /// Ends a filter: its destructor runs, for no longer than a hook may.
    ///
    /// # Errors
    /// `Failure`, after which the instance is dead.
    pub async fn close_filter(&mut self, filter: Filter) -> Result<(), Failure> {
        self.prepare(self.ticks);
        let closed = if self.fiber {
            let ran = self.store.data().ran.clone();
            waited(&ran, filter.0.resource_drop_async(&mut self.store)).await?
        } else {
            filter.0.resource_drop(&mut self.store)
        };
        closed.map_err(|error| failure(&self.store, error))
    }

    /// Whether another instance has more room for the next call.
    pub(super) fn is_cramped(&self) -> bool {
        self.store.data().is_cramped()
    }

    /// Bytes of linear memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes()
    }

    async fn call<P, T>(
        &mut self,
        hook: Hook<P, Answer<T>>,
        params: P::At<'_>,
        facts: &mut Option<Box<Facts>>,
    ) -> Result<T, Failure>
    where
        P: Parameters,
        Answer<T>: ComponentNamedList + Lift + Send + Sync + 'static,
        for<'a> P::At<'a>: Send + Sync,
    {
        let (answer,) = self.run(hook, params, self.ticks, facts).await?;
        answer.map_err(error)
    }

    async fn run<P, R>(
        &mut self,
        hook: Hook<P, R>,
        params: P::At<'_>,
        ticks: u64,
        facts: &mut Option<Box<Facts>>,
    ) -> Result<R, Failure>
    where
        P: Parameters,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
        for<'a> P::At<'a>: Send + Sync,
    {
        self.prepare(ticks);
        self.store.data_mut().facts = facts.take();
        let result = self.run_typed(hook.typed(), params).await;
        *facts = self.store.data_mut().facts.take();
        result
    }

    fn prepare(&mut self, ticks: u64) {
        let guest = self.store.data_mut();
        guest.lines_left = LINES_MAX;
        if self.fiber {
            guest.time_max = time_of(ticks);
            guest.ran.reset();
            self.store.set_epoch_deadline(1);
        } else {
            // The tick in progress is as good as over, so one more makes sure of the whole time.
            self.store.set_epoch_deadline(ticks.saturating_add(1));
        }
    }

    async fn run_typed<P, R>(&mut self, typed: TypedFunc<P, R>, params: P) -> Result<R, Failure>
    where
        P: ComponentNamedList + wasmtime::component::Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let result = if self.fiber {
            let ran = self.store.data().ran.clone();
            waited(&ran, typed.call_async(&mut self.store, params)).await?
        } else {
            typed.call(&mut self.store, params)
        };
        result.map_err(|error| failure(&self.store, error))
    }
}

/// What a call on a fiber came to, unless the guest waits for too long. `ran` counts only while it runs.
async fn waited<T>(ran: &Ran, call: impl Future<Output = T>) -> Result<T, Failure> {
    let mut call = std::pin::pin!(call);
    let counted = std::future::poll_fn(|context| {
        ran.resume();
        let polled = call.as_mut().poll(context);
        ran.pause();
        polled
    });
    tokio::time::timeout(WAIT_MAX, counted).await.map_err(|_| Failure::Timeout)
}

/// What so many ticks come to.
fn time_of(ticks: u64) -> Duration {
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

fn configure_ticks(ticks: u64) -> u64 {
    ticks.saturating_mul(CONFIGURE_FACTOR).min(CONFIGURE_TICKS_MAX.max(ticks))
}

/// What the runtime's error means; the text is for the log.
fn failure(store: &Store<Guest>, error: wasmtime::Error) -> Failure {
    let guest = store.data();
    if error.is::<PoolConcurrencyLimitError>() {
        // The policy has no part in it.
        Failure::Busy
    } else if guest.out_of_time || matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt)) {
        Failure::Timeout
    } else if guest.out_of_memory {
        Failure::Memory
    } else {
        Failure::Trap(trap::tell(&error))
    }
}

fn error(text: String) -> Failure {
    Failure::Error(told(&text))
}

/// What is kept of a guest's text: a part of one line.
pub fn told(text: &str) -> String {
    one_line(text, ERROR_BYTES_MAX).into_owned()
}

/// Cuts a text of several lines to what is kept of it.
pub(super) fn bound(text: &mut String) {
    if text.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
