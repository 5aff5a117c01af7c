//! `env`: time and randomness.

use crate::clock;
use crate::plugin::bindings::witgate::policy::env::Host;
use crate::plugin::guest::Guest;

/// Random bytes that one call may ask for.
const RANDOM_BYTES_MAX: u32 = 64 << 10;

impl Host for Guest {
    fn unix_millis(&mut self) -> u64 {
        u64::try_from(self.services.clock.unix().as_millis()).unwrap_or(u64::MAX)
    }
    fn unix_nanos(&mut self) -> u64 {
        u64::try_from(self.services.clock.unix().as_nanos()).unwrap_or(u64::MAX)
    }
    fn monotonic_nanos(&mut self) -> u64 {
        self.services.clock.monotonic_nanos()
    }
    fn random_u64(&mut self) -> u64 {
        clock::random_u64()
    }
    /// At most 64 KiB a call.
    fn random_bytes(&mut self, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len.min(RANDOM_BYTES_MAX) as usize];
        clock::random_bytes(&mut bytes);
        bytes
    }
}
