//! The components that `build.rs` made.

use std::path::Path;

/// Does what its configuration says, good and bad: see `tests/guests/probe`.
pub fn probe() -> &'static Path {
    Path::new(env!("WITGATE_TEST_PROBE"))
}

/// Calls upstreams: see `tests/guests/caller`.
pub fn caller() -> &'static Path {
    Path::new(env!("WITGATE_TEST_CALLER"))
}

/// The demo's own policy: see `examples/airline/policy`.
pub fn airline_policy() -> &'static Path {
    Path::new(env!("AIRLINE_POLICY"))
}

/// Does next to nothing: see `benches/guests/plain`.
pub fn bench_plain() -> &'static Path {
    Path::new(env!("WITGATE_BENCH_PLAIN"))
}
