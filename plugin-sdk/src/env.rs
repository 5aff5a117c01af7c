//! Time and chance. The clocks are the host's; there are no others in a policy.

use std::time::Duration;

use crate::host::env;

/// Milliseconds since 1970.
pub fn unix_millis() -> u64 {
    env::unix_millis()
}

/// Time since 1970.
pub fn unix_time() -> Duration {
    Duration::from_nanos(env::unix_nanos())
}

/// Time since some moment in the past; never goes back.
pub fn monotonic() -> Duration {
    Duration::from_nanos(env::monotonic_nanos())
}

pub fn random_u64() -> u64 {
    env::random_u64()
}

pub fn random_bytes(len: u32) -> Vec<u8> {
    env::random_bytes(len)
}
