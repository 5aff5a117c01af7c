//! `env`: time and randomness.

use crate::plugin::bindings::witgate::policy::env::Host;
use crate::plugin::guest::Guest;

/// Random bytes that one call may ask for.
const RANDOM_BYTES_MAX: u32 = 64 << 10;

impl Host for Guest {
    fn unix_millis(&mut self) -> u64 {
        called!("env.unix-millis()");
        u64::try_from(self.services.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }
    fn unix_nanos(&mut self) -> u64 {
        called!("env.unix-nanos()");
        u64::try_from(self.services.clock.unix().as_nanos()).unwrap_or(u64::MAX)
    }
    fn monotonic_nanos(&mut self) -> u64 {
        called!("env.monotonic-nanos()");
        // Go's runtime gives up at 0, where a trial begins.
        self.services.clock.monotonic_nanos().max(1)
    }
    fn random_u64(&mut self) -> u64 {
        called!("env.random-u64()");
        let mut bytes = [0; 8];
        self.services.clock.random(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
    /// At most 64 KiB a call.
    fn random_bytes(&mut self, len: u32) -> Vec<u8> {
        called!("env.random-bytes({len})");
        let mut bytes = vec![0; len.min(RANDOM_BYTES_MAX) as usize];
        self.services.clock.random(&mut bytes);
        bytes
    }
}
