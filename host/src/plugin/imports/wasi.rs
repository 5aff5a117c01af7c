//! WASI for the toolchains that cannot do without it: nothing but clocks, chance and a log.
//!
//! Dynamic languages import all of WASI whether they use it or not. They get no files, no
//! arguments, no environment and no sockets; what they print becomes log lines of their policy.

use super::printed::Printed;
use crate::clock::Clock;
use std::time::Duration;
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

/// Random bytes that a guest under a manual clock gets, again and again.
const TRIAL_BYTES: usize = 1 << 10;

pub(in crate::plugin) fn nothing(printed: &Printed, clock: &Clock) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(printed.clone()).stderr(printed.clone()).allow_tcp(false).allow_udp(false);
    // The system's clocks and chance are WASI's own already.
    if clock.is_manual() {
        let mut bytes = vec![0; TRIAL_BYTES];
        clock.random(&mut bytes);
        wasi.wall_clock(Shown(clock.clone()))
            .monotonic_clock(Shown(clock.clone()))
            .insecure_random(Deterministic::new(bytes.clone()))
            .secure_random(Deterministic::new(bytes))
            .insecure_random_seed(0);
    }
    wasi.build()
}

/// The gateway's clock as WASI shows it.
struct Shown(Clock);

impl HostWallClock for Shown {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }
    fn now(&self) -> Duration {
        self.0.unix()
    }
}

impl HostMonotonicClock for Shown {
    fn resolution(&self) -> u64 {
        1
    }
    fn now(&self) -> u64 {
        self.0.monotonic_nanos().max(1)
    }
}
