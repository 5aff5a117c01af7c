//! What the gateway's own parts cost, one by one: hooks, chains, fresh instances, router, reload.
//!
//! `make bench` runs them all, `cargo bench -p witgate --bench micro -- router` those whose name
//! holds a word. Runs are short; `-- --measurement-time 10` makes them longer and surer.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

mod chain;
mod gateway;
mod hook;
mod languages;
mod reload;
mod router;

use criterion::Criterion;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    hook::all(&mut criterion);
    languages::all(&mut criterion);
    chain::all(&mut criterion);
    router::all(&mut criterion);
    reload::all(&mut criterion);
    criterion.final_summary();
}
