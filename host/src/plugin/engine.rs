//! The Wasm engine: its settings, its instance slots, and the ticker that goes with it.
//!
//! One engine serves the whole process; `load` compiles for it, `instance` runs on it. Concurrency
//! support is off: it triples the price of a call, and what suspends (a fetch) runs on a fiber.
//! Never compiles by itself.

use super::guest::TABLE_ELEMENTS_MAX;
use super::ticker::Ticker;
use std::sync::Arc;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

/// The most memory that any instance can be granted; the pool reserves address space, not memory.
pub const MEMORY_BYTES_MAX: usize = 1 << 30;

/// Linear memories at once, over all workers and policies. Each takes a little over 4 GiB of
/// address space, of which x86-64 and AArch64 have at least 128 TiB.
const MEMORIES: u32 = 8_000;

/// Instances that the pools of all workers hold at once: what is left is for guests with several
/// memories, and for policies that a reload configures.
pub const INSTANCES_MAX: usize = 6_000;

/// Bytes of a memory that stay mapped when its slot is emptied, so that the next instance takes
/// no page faults for them.
const KEEP_RESIDENT: usize = 64 << 10;

/// How instances get their memory. It is part of what compiled code is keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From slots reserved at start: a fresh instance costs microseconds.
    Pooling,
    /// From the operating system one by one, where address space is limited.
    OnDemand,
}

/// Whether the stacks of traps tell lines of source, where a component carries them. Finding a line
/// reads what the component says of itself, anew for each frame and for as long as that takes, which
/// a component can make seconds: on a worker nobody waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Told,
    Untold,
}

/// The engine with its ticker. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    allocation: Allocation,
    lines: Lines,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// Starts the engine: pooling where the address space allows it, else on demand.
    pub fn start(lines: Lines) -> wasmtime::Result<Runtime> {
        match engine(Allocation::Pooling, lines, MEMORIES) {
            Ok(engine) => Ok(Runtime::ticking(engine, Allocation::Pooling, lines)),
            Err(error) => {
                tracing::warn!(%error, "no room for pooled instances; they are allocated one by one");
                let engine = engine(Allocation::OnDemand, lines, MEMORIES)?;
                Ok(Runtime::ticking(engine, Allocation::OnDemand, lines))
            }
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    pub fn lines(&self) -> Lines {
        self.lines
    }

    /// What instances of this engine hold while they live.
    pub(super) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    fn ticking(engine: Engine, allocation: Allocation, lines: Lines) -> Runtime {
        let ticker = Ticker::start(&engine).unwrap_or_else(|error| {
            tracing::error!(%error, "no thread for the epoch: policies would run without a time limit");
            std::process::abort();
        });
        Runtime { engine, allocation, lines, ticker }
    }
}

/// An engine with our settings and room for so many memories. Compiling in a child process uses
/// the same settings with no more than one, since slots take address space and do not matter there.
pub fn engine(allocation: Allocation, lines: Lines, memories: u32) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_component_model(true)
        .memory_init_cow(true)
        .wasm_backtrace_details(match lines {
            Lines::Told => WasmBacktraceDetails::Enable,
            Lines::Untold => WasmBacktraceDetails::Disable,
        })
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    if allocation == Allocation::Pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(memories)
            .total_core_instances(memories * 4)
            .total_memories(memories)
            .total_tables(memories * 2)
            .total_stacks(memories)
            .max_core_instances_per_component(64)
            .max_memories_per_component(8)
            .max_tables_per_component(64)
            .max_memory_size(MEMORY_BYTES_MAX)
            .table_elements(TABLE_ELEMENTS_MAX)
            .max_unused_warm_slots(256)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    } else {
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    }
    Engine::new(&config)
}
