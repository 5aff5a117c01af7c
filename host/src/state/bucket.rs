//! Buckets of the `shared-state` import: small key-value maps shared by all workers.
//!
//! Opened in `configure`, used by hooks of any worker. A bucket is sharded by key, each shard
//! behind a lock that is held for one map operation; each operation is atomic. Expired entries
//! are invisible at once and are taken out by later writes, a few at a time. Never evicts a live
//! entry: a full bucket refuses.

use super::registry::Registry;
use crate::clock::Clock;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// More than any configuration of distinct policies opens.
const BUCKETS_MAX: usize = 1024;
/// Enough that two workers seldom meet, few enough that a bucket of three entries is small.
const SHARDS: usize = 16;
/// What an entry costs beside its key and value: map, expiry queue, allocations.
const ENTRY_BYTES: usize = 128;
/// Expired entries that each write takes out, so that a burst is gone after as many writes.
const SWEEP_PER_WRITE: usize = 4;
/// Expired entries that a write to a full bucket takes out of each shard before it gives up.
const SWEEP_WHEN_FULL: usize = 256;
const NEVER: u64 = u64::MAX;

/// Bounds of each bucket.
#[derive(Clone, Copy, Debug)]
pub struct BucketLimits {
    pub entries_max: usize,
    /// Keys, values and 128 bytes for each entry.
    pub bytes_max: usize,
}

impl Default for BucketLimits {
    fn default() -> BucketLimits {
        BucketLimits { entries_max: 100_000, bytes_max: 32 << 20 }
    }
}

/// All buckets of the gateway, by name.
pub struct Buckets {
    clock: Clock,
    limits: BucketLimits,
    registry: Registry<Box<str>, Bucket>,
}

impl Buckets {
    pub fn new(clock: Clock, limits: BucketLimits) -> Buckets {
        Buckets { registry: Registry::new(clock.clone(), "buckets", BUCKETS_MAX), clock, limits }
    }

    /// The bucket of this name, the same for all who open it. It outlives reloads: it is kept
    /// while anybody holds it and for ten minutes afterwards.
    pub fn open(&self, name: &str) -> Result<Arc<Bucket>, String> {
        self.registry.open(name.into(), || Ok(Bucket::new(self.clock.clone(), self.limits)))
    }

    /// Forgets buckets that nobody has held for ten minutes. Called now and then by `server`.
    pub fn sweep(&self) {
        self.registry.sweep();
    }
}

/// A map from text to bytes.
pub struct Bucket {
    clock: Clock,
    limits: BucketLimits,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    used: Used,
}

#[derive(Default)]
struct Shard {
    items: HashMap<Arc<str>, Item, RandomState>,
    /// Soonest first: exactly the entries that expire. What is left here of an entry that is gone
    /// would keep its key, which no bound counts any more.
    expiries: BTreeSet<(u64, Arc<str>)>,
}

struct Item {
    value: Value,
    expires_nanos: u64,
}

/// Counters stay numbers, so that counting neither parses nor allocates; outside they are their
/// decimal text, as in Redis.
#[derive(Clone)]
enum Value {
    Bytes(Box<[u8]>),
    Integer(i64),
}

#[derive(Default)]
struct Used {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

/// What an operation does to the entry that it looked at.
enum Change {
    None,
    Put {
        value: Value,
        expires_nanos: u64,
    },
    /// The entry exists and keeps its expiry.
    Replace {
        value: Value,
    },
}

impl Bucket {
    fn new(clock: Clock, limits: BucketLimits) -> Bucket {
        Bucket {
            clock,
            limits,
            hasher: RandomState::default(),
            shards: Default::default(),
            used: Used::default(),
        }
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let now = self.clock.monotonic_nanos();
        let shard = self.shard(key);
        let item = shard.items.get(key)?;
        (item.expires_nanos > now).then(|| item.value.to_vec())
    }

    /// `ttl` none: no expiry. False when the bucket is full; the old value then stays.
    pub fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> bool {
        let expires_nanos = self.expiry(ttl);
        self.update(key, |_| ((), Change::Put { value: Value::Bytes(value.into()), expires_nanos })).1
    }

    pub fn remove(&self, key: &str) {
        self.shard(key).remove(key, &self.used);
    }

    /// Adds, saturating, and returns the new value. A missing entry counts as 0, and so does one
    /// whose value is not the decimal text of an `i64`, which is then replaced. `ttl` counts from
    /// the first increment, so that an entry counts one window and then goes; later increments
    /// leave it. In a full bucket a new counter is not kept: each call returns its own `delta`.
    pub fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> i64 {
        let expires_nanos = self.expiry(ttl);
        self.update(key, |old| match old.and_then(Value::as_integer) {
            Some(count) => {
                let sum = count.saturating_add(delta);
                (sum, Change::Replace { value: Value::Integer(sum) })
            }
            None => (delta, Change::Put { value: Value::Integer(delta), expires_nanos }),
        })
        .0
    }

    /// Sets if the value is still `expected` (none: absent). False if it is not, or if the
    /// bucket is full.
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> bool {
        let expires_nanos = self.expiry(ttl);
        let (same, stored) = self.update(key, |old| {
            let same = match (old, expected) {
                (None, None) => true,
                (Some(old), Some(expected)) => old.is(expected),
                _ => false,
            };
            let change = if same {
                Change::Put { value: Value::Bytes(value.into()), expires_nanos }
            } else {
                Change::None
            };
            (same, change)
        });
        same && stored
    }

    /// All live entries, by key: for trials, which show what a policy left.
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let now = self.clock.monotonic_nanos();
        let mut entries = BTreeMap::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let live = shard.items.iter().filter(|(_, item)| item.expires_nanos > now);
            entries.extend(live.map(|(key, item)| (key.to_string(), item.value.to_vec())));
        }
        entries
    }

    /// Entries and bytes in use, expired ones not yet taken out included.
    pub fn usage(&self) -> (usize, usize) {
        (self.used.entries.load(Ordering::Relaxed), self.used.bytes.load(Ordering::Relaxed))
    }

    /// Looks at an entry and changes it in one step. Second of the result: whether what `decide`
    /// wanted was done, false when the bucket is full.
    fn update<T>(&self, key: &str, decide: impl Fn(Option<&Value>) -> (T, Change)) -> (T, bool) {
        let mut swept = false;
        loop {
            let now = self.clock.monotonic_nanos();
            let mut shard = self.shard(key);
            shard.drop_expired(now, SWEEP_PER_WRITE, &self.used);
            let expired = shard.items.get(key).is_some_and(|item| item.expires_nanos <= now);
            if expired {
                shard.remove(key, &self.used);
            }
            let (answer, change) = decide(shard.items.get(key).map(|item| &item.value));
            if shard.apply(key, change, &self.used, self.limits) {
                return (answer, true);
            }
            drop(shard);
            if swept {
                return (answer, false);
            }
            swept = true;
            for shard in &self.shards {
                // One lock at a time, so two full writers cannot wait for each other.
                shard.lock().unwrap_or_else(PoisonError::into_inner).drop_expired(
                    now,
                    SWEEP_WHEN_FULL,
                    &self.used,
                );
            }
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expiry(&self, ttl: Option<Duration>) -> u64 {
        match ttl {
            Some(ttl) => {
                let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(NEVER);
                self.clock.monotonic_nanos().saturating_add(nanos)
            }
            None => NEVER,
        }
    }
}

impl Shard {
    /// False, and nothing changed, when there is no room.
    fn apply(&mut self, key: &str, change: Change, used: &Used, limits: BucketLimits) -> bool {
        let (value, expires_nanos) = match change {
            Change::None => return true,
            Change::Put { value, expires_nanos } => (value, Some(expires_nanos)),
            Change::Replace { value } => (value, None),
        };
        if let Some(item) = self.items.get_mut(key) {
            if !used.resize(item.value.bytes(), value.bytes(), limits) {
                return false;
            }
            item.value = value;
            if let Some(expires_nanos) = expires_nanos.filter(|new| *new != item.expires_nanos) {
                let old = std::mem::replace(&mut item.expires_nanos, expires_nanos);
                if let Some((key, _)) = self.items.get_key_value(key) {
                    let key = Arc::clone(key);
                    self.note_expiry(key, Some(old), expires_nanos);
                }
            }
            return true;
        }
        if !used.add(entry_bytes(key, &value), limits) {
            return false;
        }
        let expires_nanos = expires_nanos.unwrap_or(NEVER);
        let key: Arc<str> = key.into();
        self.items.insert(Arc::clone(&key), Item { value, expires_nanos });
        self.note_expiry(key, None, expires_nanos);
        true
    }

    fn note_expiry(&mut self, key: Arc<str>, old: Option<u64>, new: u64) {
        let mut note = (old.unwrap_or(NEVER), key);
        if note.0 != NEVER {
            self.expiries.remove(&note);
        }
        if new != NEVER {
            note.0 = new;
            self.expiries.insert(note);
        }
    }

    fn drop_expired(&mut self, now: u64, most: usize, used: &Used) {
        for _ in 0..most {
            match self.expiries.first() {
                Some((expires_nanos, _)) if *expires_nanos <= now => {}
                _ => return,
            }
            let Some((_, key)) = self.expiries.pop_first() else { return };
            self.remove(&key, used);
        }
    }

    fn remove(&mut self, key: &str, used: &Used) {
        if let Some((key, item)) = self.items.remove_entry(key) {
            used.free(entry_bytes(&key, &item.value));
            self.note_expiry(key, Some(item.expires_nanos), NEVER);
        }
    }
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Integer(_) => size_of::<i64>(),
        }
    }

    fn to_vec(&self) -> Vec<u8> {
        match self {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Integer(count) => itoa::Buffer::new().format(*count).as_bytes().to_vec(),
        }
    }

    fn is(&self, other: &[u8]) -> bool {
        match self {
            Value::Bytes(bytes) => **bytes == *other,
            Value::Integer(count) => itoa::Buffer::new().format(*count).as_bytes() == other,
        }
    }

    fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(count) => Some(*count),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        }
    }
}

impl Used {
    fn add(&self, bytes: usize, limits: BucketLimits) -> bool {
        if !reserve(&self.entries, 1, limits.entries_max) {
            return false;
        }
        let fits = reserve(&self.bytes, bytes, limits.bytes_max);
        if !fits {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    fn resize(&self, old: usize, new: usize, limits: BucketLimits) -> bool {
        if new > old {
            return reserve(&self.bytes, new - old, limits.bytes_max);
        }
        self.bytes.fetch_sub(old - new, Ordering::Relaxed);
        true
    }

    fn free(&self, bytes: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn reserve(used: &AtomicUsize, more: usize, max: usize) -> bool {
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(more).filter(|sum| *sum <= max)
    })
    .is_ok()
}

fn entry_bytes(key: &str, value: &Value) -> usize {
    ENTRY_BYTES + key.len() + value.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(entries_max: usize, bytes_max: usize) -> (Clock, Bucket) {
        let clock = Clock::manual(Duration::ZERO);
        (clock.clone(), Bucket::new(clock, BucketLimits { entries_max, bytes_max }))
    }

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn a_name_is_one_bucket() {
        let buckets = Buckets::new(Clock::manual(Duration::ZERO), BucketLimits::default());
        let one = buckets.open("sessions").unwrap();
        assert!(one.set("k", b"v", None));
        assert_eq!(buckets.open("sessions").unwrap().get("k").as_deref(), Some(&b"v"[..]));
        assert_eq!(buckets.open("other").unwrap().get("k"), None);
    }

    #[test]
    fn entries_expire_to_the_nanosecond() {
        let (clock, bucket) = bucket(10, 10_000);
        assert!(bucket.set("k", b"v", SECOND));
        clock.advance(Duration::from_nanos(999_999_999));
        assert!(bucket.get("k").is_some());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(bucket.get("k"), None);
        assert!(bucket.compare_and_set("k", None, b"w", None), "an expired entry is absent");
        clock.advance(Duration::from_secs(1_000_000));
        assert_eq!(bucket.get("k").as_deref(), Some(&b"w"[..]));
    }

    #[test]
    fn a_full_bucket_refuses_until_entries_expire() {
        let (clock, bucket) = bucket(50, 1 << 20);
        for index in 0..50 {
            assert!(bucket.set(&index.to_string(), b"v", SECOND));
        }
        assert!(!bucket.set("more", b"v", None));
        assert!(bucket.set("7", b"w", SECOND), "replacing needs no room");
        assert_eq!(bucket.increment("counter", 5, None), 5);
        assert_eq!(bucket.increment("counter", 5, None), 5, "not kept");
        clock.advance(Duration::from_secs(2));
        for index in 0..50 {
            assert!(bucket.set(&format!("later {index}"), b"v", None));
        }
        assert_eq!(bucket.usage().0, 50);
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let (_, bucket) = bucket(100, ENTRY_BYTES + 1 + 100);
        assert!(bucket.set("k", &[0; 100], None));
        assert!(!bucket.set("k", &[0; 101], None));
        assert_eq!(bucket.get("k").map(|value| value.len()), Some(100), "the old value stays");
        assert!(!bucket.set("l", b"", None));
        bucket.remove("k");
        bucket.remove("k");
        assert_eq!(bucket.usage(), (0, 0));
        assert!(bucket.set("l", &[0; 100], None));
    }

    #[test]
    fn rewriting_one_entry_leaves_no_trail() {
        let (clock, bucket) = bucket(10, 10_000);
        for _ in 0..10_000 {
            clock.advance(Duration::from_nanos(1));
            assert!(bucket.set("k", b"v", SECOND));
        }
        let notes: usize = bucket.shards.iter().map(|shard| shard.lock().unwrap().expiries.len()).sum();
        assert!(notes < 32, "{notes}");
    }

    #[test]
    fn keys_that_were_removed_are_given_back() {
        let (clock, bucket) = bucket(10, 10_000);
        for number in 0..1_000 {
            let key = number.to_string();
            assert!(bucket.set(&key, b"v", SECOND));
            match number % 3 {
                0 => bucket.remove(&key),
                // No expiry any more, and then gone.
                1 => {
                    assert!(bucket.set(&key, b"v", None));
                    bucket.remove(&key);
                }
                _ => clock.advance(Duration::from_secs(1)),
            }
        }
        assert!(bucket.set("last", b"v", SECOND));
        let notes: usize = bucket.shards.iter().map(|shard| shard.lock().unwrap().expiries.len()).sum();
        assert!(notes <= bucket.usage().0, "{notes} notes, {:?}", bucket.usage());
    }

    #[test]
    fn increments_saturate_and_heal() {
        let (clock, bucket) = bucket(10, 10_000);
        assert_eq!(bucket.increment("n", i64::MAX, SECOND), i64::MAX);
        assert_eq!(bucket.increment("n", 1, SECOND), i64::MAX);
        assert!(bucket.compare_and_set("n", Some(b"9223372036854775807"), b"41", SECOND));
        assert_eq!(bucket.increment("n", 1, None), 42);
        assert_eq!(bucket.get("n").as_deref(), Some(&b"42"[..]));
        clock.advance(Duration::from_secs(1));
        assert_eq!(bucket.increment("n", -3, None), -3, "the window's end was kept");
        for broken in [&b"x"[..], b"", b"\xff", b"1.5", b"99999999999999999999"] {
            assert!(bucket.set("n", broken, None));
            assert_eq!(bucket.increment("n", 2, None), 2);
        }
    }

    #[test]
    fn compare_and_set_compares() {
        let (_, bucket) = bucket(10, 10_000);
        assert!(!bucket.compare_and_set("k", Some(b"a"), b"b", None));
        assert!(bucket.compare_and_set("k", None, b"a", None));
        assert!(!bucket.compare_and_set("k", None, b"c", None));
        assert!(!bucket.compare_and_set("k", Some(b"x"), b"c", None));
        assert!(bucket.compare_and_set("k", Some(b"a"), b"c", None));
        assert_eq!(bucket.get("k").as_deref(), Some(&b"c"[..]));
    }

    #[test]
    fn threads_lose_no_increment_and_one_wins_a_race() {
        let (_, bucket) = bucket(100, 100_000);
        let wins = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let (bucket, wins) = (&bucket, &wins);
                scope.spawn(move || {
                    for round in 0..500 {
                        bucket.increment("n", 1, None);
                        if bucket.compare_and_set(&format!("r{}", round % 50), None, &[thread], None) {
                            wins.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(bucket.increment("n", 0, None), 4_000);
        assert_eq!(wins.into_inner(), 50);
        assert_eq!(bucket.usage().0, 51);
    }
}
