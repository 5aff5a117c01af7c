//! What the end-to-end tests are made of: the real gateway, upstreams that do as they are told,
//! clients that send any bytes, tokens, certificates and misbehaving guests.
//!
//! Used by `tests/e2e`. Everything is blocking and on real sockets with ports that the system
//! picks; a test that fails panics with what was seen. Nothing here knows the gateway's code.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

pub mod certs;
pub mod client;
pub mod frames;
pub mod gateway;
pub mod guests;
pub mod http2;
pub mod log;
pub mod origin;
pub mod raw;
pub mod tokens;
pub mod wall_clock;

pub use client::Request;
pub use gateway::{Gateway, Running, Setup};
pub use origin::{Origin, Reply, Seen};
pub use raw::{Answer, Connection};
pub use wall_clock::WallClock;

use std::time::{Duration, Instant};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again until it is so; panics with `what` when patience ends.
pub fn eventually(what: &str, so: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, so);
}

/// The same with another patience, for what has to be compiled first.
pub fn eventually_within(patience: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !so() {
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
