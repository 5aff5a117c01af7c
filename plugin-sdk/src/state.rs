//! Key-value state that all instances and workers share; with Redis, all gateways.

use std::time::Duration;

use crate::host::shared_state;
use crate::plan::millis;

/// A bucket of keys, opened in `configure` by a name that the operator granted.
pub struct Bucket(shared_state::Bucket);

impl Bucket {
    pub fn open(name: &str) -> Result<Self, String> {
        shared_state::Bucket::open(name).map(Bucket)
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    /// `lifetime`: none for ever. False when the bucket is full.
    pub fn set(&self, key: &str, value: &[u8], lifetime: Option<Duration>) -> bool {
        self.0.set(key, value, ttl(lifetime))
    }

    pub fn remove(&self, key: &str) {
        self.0.remove(key);
    }

    /// Adds and returns the new value; a missing key counts as 0.
    pub fn increment(&self, key: &str, delta: i64, lifetime: Option<Duration>) -> i64 {
        self.0.increment(key, delta, ttl(lifetime))
    }

    /// Sets if the value is still `expected` (none: absent).
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        lifetime: Option<Duration>,
    ) -> bool {
        self.0.compare_and_set(key, expected, value, ttl(lifetime))
    }
}

/// 0 means for ever on the wire, so that the shortest lifetime is one millisecond.
fn ttl(lifetime: Option<Duration>) -> u32 {
    lifetime.map_or(0, |lifetime| millis(lifetime).max(1))
}
