//! The components that `build.rs` made of `tests/guests/*`.

use std::path::Path;

/// Does what its configuration says, good and bad: see `tests/guests/probe`.
pub fn probe() -> &'static Path {
    Path::new(env!("WITGATE_TEST_PROBE"))
}

/// Calls upstreams: see `tests/guests/caller`.
pub fn caller() -> &'static Path {
    Path::new(env!("WITGATE_TEST_CALLER"))
}
