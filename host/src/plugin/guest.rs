//! What a store holds beside the guest's own memory: handles, limits, and what it was lent.
//!
//! One per instance. `imports` reads and writes it while guest code runs; `instance` prepares it
//! before each call and clears it after. Never shared between instances.

use super::facts::Facts;
use super::imports::printed::Printed;
use super::plan::{Ask, Plan};
use super::policy::{About, Services};
use crate::state::{Bucket, Limiter};
use crate::telemetry::metric::GuestMetric;
use crate::token::Verifier;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Result, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Handles of each kind that one instance may make.
pub(super) const HANDLES_MAX: usize = 64;
/// Elements of one table; a component with more functions than this is no policy.
pub(super) const TABLE_ELEMENTS_MAX: usize = 65_536;
/// Bytes of a name asked for that is worth telling; a longer one is granted by nobody.
const ASK_BYTES_MAX: usize = 1 << 10;

pub struct Guest {
    pub(super) about: Arc<About>,
    pub(super) services: Arc<Services>,
    pub(super) facts: Option<Box<Facts>>,
    /// Present in `configure` only, when alone plans and handles can be made.
    pub(super) plan: Option<Box<Plan>>,
    asks: BTreeSet<Ask>,
    pub(super) limiters: Vec<Arc<Limiter>>,
    pub(super) verifiers: Vec<Arc<Verifier>>,
    pub(super) buckets: Vec<Arc<Bucket>>,
    pub(super) metrics: Vec<Arc<GuestMetric>>,
    /// Log lines that this call may still write.
    pub(super) lines_left: u32,
    /// For how long a guest on a fiber may run, and how long it has.
    pub(super) time_max: Duration,
    pub(super) ran: Arc<Ran>,
    pub(super) out_of_time: bool,
    memory_bytes: usize,
    memory_bytes_max: usize,
    /// What it might still take when it was configured.
    memory_bytes_room: usize,
    /// It has called an upstream, so that answers of whatever length were put into its memory.
    pub(super) fetched: bool,
    pub(super) out_of_memory: bool,
    printed: Option<Printed>,
    wasi: Option<Box<Wasi>>,
}

struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl Guest {
    pub(super) fn new(about: Arc<About>, services: Arc<Services>, memory_bytes_max: usize) -> Guest {
        Guest {
            about,
            services,
            facts: None,
            plan: None,
            asks: BTreeSet::new(),
            limiters: Vec::new(),
            verifiers: Vec::new(),
            buckets: Vec::new(),
            metrics: Vec::new(),
            lines_left: 0,
            time_max: Duration::ZERO,
            ran: Arc::default(),
            out_of_time: false,
            memory_bytes: 0,
            memory_bytes_max,
            memory_bytes_room: memory_bytes_max,
            fetched: false,
            out_of_memory: false,
            printed: None,
            wasi: None,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What the guest's language prints.
    pub(super) fn printed(&mut self) -> &Printed {
        self.printed.get_or_insert_with(|| Printed::by(&self.about))
    }

    /// Notes what is asked for in `configure`, granted or not.
    pub(super) fn ask(&mut self, ask: fn(String) -> Ask, name: &str) {
        if self.plan.is_some() && self.asks.len() < HANDLES_MAX && name.len() <= ASK_BYTES_MAX {
            self.asks.insert(ask(name.to_string()));
        }
    }

    pub(super) fn asks(&self) -> &BTreeSet<Ask> {
        &self.asks
    }

    /// Bytes of linear memory that it may still take.
    pub(super) fn memory_left(&self) -> usize {
        self.memory_bytes_max.saturating_sub(self.memory_bytes)
    }

    /// Notes what room it has from here on.
    pub(super) fn settle(&mut self) {
        self.memory_bytes_room = self.memory_left();
    }

    /// Whether what calls to upstreams brought has taken half of its room. Memory is never given back,
    /// and answers are as long as what is left allows: all that come later would be short of it.
    pub(super) fn is_cramped(&self) -> bool {
        self.fetched && self.memory_left() < self.memory_bytes_room / 2
    }

    /// Called when an epoch tick passes while the guest runs on a fiber: others get their turn, and
    /// the guest its end when it has used its time. Told by the clock and not by the number of ticks:
    /// a guest that is in the host for long sees few of them.
    pub(super) fn tick(mut store: StoreContextMut<'_, Guest>) -> Result<UpdateDeadline> {
        let guest = store.data_mut();
        if guest.ran.so_far() >= guest.time_max {
            guest.out_of_time = true;
            return Ok(UpdateDeadline::Interrupt);
        }
        // The runtime looks at its sockets before it wakes who yields this way. Who only wakes itself
        // is called again at once, for as many turns as a worker takes between two such looks.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }
}

/// How long a call on a fiber has run: its waits for a fetch, and for its turn after a yield, are not
/// the guest's. Behind a lock that is never waited for, since the store is lent out while it runs.
#[derive(Debug, Default)]
pub(super) struct Ran(Mutex<Stretches>);

#[derive(Debug, Default)]
struct Stretches {
    ended: Duration,
    /// When the stretch that is not over began.
    since: Option<Instant>,
}

impl Ran {
    /// A new call starts.
    pub(super) fn reset(&self) {
        *self.stretches() = Stretches::default();
    }

    pub(super) fn resume(&self) {
        self.stretches().since = Some(Instant::now());
    }

    pub(super) fn pause(&self) {
        let mut stretches = self.stretches();
        if let Some(since) = stretches.since.take() {
            stretches.ended += since.elapsed();
        }
    }

    fn so_far(&self) -> Duration {
        let stretches = self.stretches();
        stretches.ended + stretches.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn stretches(&self) -> MutexGuard<'_, Stretches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last words of a guest that trapped in the middle of a line.
impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(printed) = &self.printed {
            printed.end();
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let grown = self.memory_bytes + desired.saturating_sub(current);
        if grown > self.memory_bytes_max {
            self.out_of_memory = true;
            return Ok(false);
        }
        self.memory_bytes = grown;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let printed = self.printed.get_or_insert_with(|| Printed::by(&self.about));
        let wasi = self.wasi.get_or_insert_with(|| {
            Box::new(Wasi {
                context: super::imports::wasi::nothing(printed, &self.services.clock),
                table: ResourceTable::new(),
            })
        });
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}
