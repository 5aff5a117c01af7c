//! Rate limiters of the `rate-limit` import: GCRA, one cell per key.
//!
//! Opened in `configure`, checked by hooks of any worker. Time is counted in units of 1/`count`
//! nanosecond, so no rate is ever rounded. Never reads the wall clock.
//!
//! Written here rather than taken from `governor` 0.10, which cannot give what the import promises,
//! whatever `StateStore` and middleware it gets:
//! - `remaining` when a check refuses: for a cost of 3 with 2 left, `check_key_n` answers `NotUntil`,
//!   which knows a time and no count.
//! - `reset`: `StateSnapshot` keeps the arrival time to itself. A store of our own sees it go by, but
//!   all that is worked out from it is the whole of GCRA.
//! - A cost of 0, which only looks: it takes a `NonZeroU32` and has no call that does not take.
//! - Rates: `Quota` holds whole nanoseconds for one cell, rounded down: 999,983 a second become
//!   1,000,000, and more than 10⁹ a second are 10⁹.
//! - Long periods: it multiplies burst and period in 64 bits, unchecked. One in 366 days with a burst
//!   of 1,000 panics in a debug build and in release lets a cost of 600 pass but not one of 500.
//!
//! And it bounds no number of keys; the store for that would be the larger part of this file.

use super::registry::Registry;
use crate::clock::Clock;
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// More than any configuration of distinct policies makes.
const LIMITERS_MAX: usize = 4096;
const SHARDS: usize = 16;
/// Cells of one set: what a check looks through, four cache lines.
const WAYS: usize = 8;
/// Longer is a quota, which `counter` counts.
const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How much may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Requests (or cost) per period.
    pub count: u32,
    pub period: Duration,
    /// How much may come at once; 0: `count`.
    pub burst: u32,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub allowed: bool,
    /// How much could still come at once.
    pub remaining: u32,
    /// When the same cost would pass; 0 if it did, `u32::MAX` if it never will (cost over burst).
    pub retry_after_millis: u32,
    /// When the key will be as if it had never been seen.
    pub reset_millis: u32,
}

/// All limiters of the gateway, by name and quota.
pub struct Limiters {
    clock: Clock,
    room: Arc<Room>,
    registry: Registry<(Box<str>, Quota), Limiter>,
}

/// Cells that may still be allocated, over all limiters.
struct Room {
    cells_free: AtomicUsize,
    limiter_cells_max: usize,
}

impl Limiters {
    /// `keys_max`: how many keys are remembered over all limiters, 32 bytes each; no limiter takes
    /// more than half of them. Every limiter can remember 128 keys whatever the others hold.
    pub fn new(clock: Clock, keys_max: usize) -> Limiters {
        let room = Room { cells_free: AtomicUsize::new(keys_max), limiter_cells_max: keys_max / 2 };
        Limiters {
            registry: Registry::new(clock.clone(), "rate limiters", LIMITERS_MAX),
            clock,
            room: Arc::new(room),
        }
    }

    /// The same name and quota give the same counters, to everybody and across reloads: they are
    /// kept while anybody holds the limiter and for ten minutes afterwards.
    pub fn limiter(&self, name: &str, quota: Quota) -> Result<Arc<Limiter>, String> {
        if quota.count == 0 {
            return Err("a rate limit's count is 0: it would let nothing pass".to_owned());
        }
        if quota.period < Duration::from_millis(1) || quota.period > PERIOD_MAX {
            return Err("a rate limit's period must lie between 1 ms and 366 days".to_owned());
        }
        self.registry.open((name.into(), quota), || {
            Ok(Limiter::new(self.clock.clone(), Rate::new(quota), Arc::clone(&self.room)))
        })
    }

    /// Forgets limiters that nobody has held for ten minutes. Called now and then by `server`.
    pub fn sweep(&self) {
        self.registry.sweep();
    }
}

/// One rate limit with a cell for each key.
///
/// When there is no room for another key, the key of its set that is nearest to full allowance is
/// forgotten: a flood of fresh keys displaces other fresh keys, not those that are being limited.
pub struct Limiter {
    clock: Clock,
    rate: Rate,
    hashers: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
    room: Arc<Room>,
    /// Cells taken from `room`, to be given back.
    cells_taken: AtomicUsize,
}

/// A quota in units of 1/`count` nanosecond: a cost of one is `period` of them.
#[derive(Clone, Copy)]
struct Rate {
    units_per_nano: u128,
    cost: u128,
    /// The burst: how far ahead of now the arrival may be.
    tolerance: u128,
    burst: u32,
}

#[derive(Default)]
struct Shard {
    /// A power of two of sets, or none.
    sets: Vec<[Cell; WAYS]>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    key: u128,
    /// GCRA's theoretical arrival time, in units. Not after now: as good as empty.
    arrival: u128,
}

impl Limiter {
    fn new(clock: Clock, rate: Rate, room: Arc<Room>) -> Limiter {
        Limiter {
            clock,
            rate,
            hashers: Default::default(),
            shards: Default::default(),
            room,
            cells_taken: AtomicUsize::new(0),
        }
    }

    /// Takes `cost` from what `key` has left, or nothing at all if that is not enough; a cost of 0
    /// only looks. Atomic: of parallel checks exactly as many pass as the quota allows.
    pub fn check(&self, key: &str, cost: u32) -> Outcome {
        // 128 bits of two seeded hashes: two keys never share a cell by chance, and nobody who
        // does not know the seeds can make them.
        let [high, low] = [&self.hashers[0], &self.hashers[1]].map(|hasher| hasher.hash_one(key));
        let key = u128::from(high) << 64 | u128::from(low);
        let mut shard = self.shards[low as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: time never goes back within a cell.
        let now = u128::from(self.clock.monotonic_nanos()) * self.rate.units_per_nano;
        let found = shard.find(key);
        let (outcome, arrival) = self.rate.decide(now, found.as_ref().map_or(0, |cell| cell.arrival), cost);
        match (arrival, found) {
            (None, _) => {}
            (Some(arrival), Some(cell)) => cell.arrival = arrival,
            (Some(arrival), None) => shard.insert(Cell { key, arrival }, now, self),
        }
        outcome
    }

    /// Room for `more` cells in one shard that has `held`.
    fn take_room(&self, held: usize, more: usize) -> bool {
        // The first set of each shard is every limiter's own.
        if held == 0 {
            return true;
        }
        if held + more > (self.room.limiter_cells_max / SHARDS).max(WAYS) {
            return false;
        }
        let taken = self
            .room
            .cells_free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more));
        if taken.is_ok() {
            self.cells_taken.fetch_add(more, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.room.cells_free.fetch_add(*self.cells_taken.get_mut(), Ordering::Relaxed);
    }
}

impl Rate {
    fn new(quota: Quota) -> Rate {
        let burst = if quota.burst == 0 { quota.count } else { quota.burst };
        // No overflow: `PERIOD_MAX` is below 2^55 ns and a burst below 2^32.
        let cost = quota.period.as_nanos();
        Rate { units_per_nano: quota.count.into(), cost, tolerance: cost * u128::from(burst), burst }
    }

    /// The outcome, and the new arrival time if something was taken.
    fn decide(&self, now: u128, arrival: u128, cost: u32) -> (Outcome, Option<u128>) {
        let debt = arrival.saturating_sub(now);
        let wanted = debt + self.cost * u128::from(cost);
        let allowed = wanted <= self.tolerance;
        let debt = if allowed { wanted } else { debt };
        let retry_after_millis = if allowed {
            0
        } else if cost > self.burst {
            u32::MAX
        } else {
            self.millis(wanted - self.tolerance)
        };
        let outcome = Outcome {
            allowed,
            remaining: saturate(self.tolerance.saturating_sub(debt) / self.cost),
            retry_after_millis,
            reset_millis: self.millis(debt),
        };
        (outcome, (allowed && cost > 0).then_some(now + debt))
    }

    /// Rounded up, so that whoever waits so long is not refused again.
    fn millis(&self, units: u128) -> u32 {
        saturate(units.div_ceil(self.units_per_nano * 1_000_000))
    }
}

impl Shard {
    fn find(&mut self, key: u128) -> Option<&mut Cell> {
        let index = self.set_of(key)?;
        self.sets[index].iter_mut().find(|cell| cell.key == key && cell.arrival != 0)
    }

    fn insert(&mut self, new: Cell, now: u128, limiter: &Limiter) {
        if self.place(new, now) {
            return;
        }
        let held = self.sets.len() * WAYS;
        if limiter.take_room(held, held.max(WAYS)) {
            self.grow(now);
            if self.place(new, now) {
                return;
            }
        }
        if let Some(index) = self.set_of(new.key)
            && let Some(cell) = self.sets[index].iter_mut().min_by_key(|cell| cell.arrival)
        {
            *cell = new;
        }
    }

    /// Into a cell of the key's set that is as good as empty.
    fn place(&mut self, new: Cell, now: u128) -> bool {
        let Some(index) = self.set_of(new.key) else { return false };
        match self.sets[index].iter_mut().find(|cell| cell.arrival <= now) {
            Some(cell) => {
                *cell = new;
                true
            }
            None => false,
        }
    }

    fn grow(&mut self, now: u128) {
        let sets = (self.sets.len() * 2).max(1);
        let old = std::mem::replace(&mut self.sets, vec![[Cell::default(); WAYS]; sets]);
        for cell in old.into_iter().flatten().filter(|cell| cell.arrival > now) {
            // A set's cells part into two sets, so there is always room.
            self.place(cell, now);
        }
    }

    fn set_of(&self, key: u128) -> Option<usize> {
        let mask = self.sets.len().checked_sub(1)?;
        // The low bits chose the shard.
        Some((key >> 16) as usize & mask)
    }
}

fn saturate(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limiter(count: u32, period: Duration, burst: u32) -> (Clock, Limiters, Arc<Limiter>) {
        let clock = Clock::manual(Duration::ZERO);
        let limiters = Limiters::new(clock.clone(), 100_000);
        let limiter = limiters.limiter("test", Quota { count, period, burst }).unwrap();
        (clock, limiters, limiter)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn ten_a_minute() {
        let (clock, _limiters, limiter) = limiter(10, MINUTE, 0);
        for left in (0..10).rev() {
            let outcome = limiter.check("a", 1);
            assert!(outcome.allowed);
            assert_eq!(outcome.remaining, left);
        }
        let refused =
            Outcome { allowed: false, remaining: 0, retry_after_millis: 6_000, reset_millis: 60_000 };
        assert_eq!(limiter.check("a", 1), refused);
        assert!(limiter.check("b", 1).allowed, "keys are apart");
        clock.advance(Duration::from_nanos(5_999_999_999));
        assert_eq!(limiter.check("a", 1).retry_after_millis, 1, "rounded up");
        clock.advance(Duration::from_nanos(1));
        assert!(limiter.check("a", 1).allowed);
        assert!(!limiter.check("a", 1).allowed);
        clock.advance(MINUTE);
        assert_eq!(limiter.check("a", 0).remaining, 10);
        assert_eq!(limiter.check("a", 0).reset_millis, 0);
    }

    #[test]
    fn costs_are_taken_whole_or_not_at_all() {
        let (clock, _limiters, limiter) = limiter(10, Duration::from_secs(10), 5);
        assert_eq!(limiter.check("a", 3).remaining, 2);
        let outcome = limiter.check("a", 3);
        assert!(!outcome.allowed);
        assert_eq!((outcome.remaining, outcome.retry_after_millis), (2, 1_000));
        assert!(limiter.check("a", 2).allowed);
        assert_eq!(limiter.check("a", 6).retry_after_millis, u32::MAX);
        clock.advance(Duration::from_secs(5));
        assert!(limiter.check("a", 5).allowed);
    }

    #[test]
    fn odd_rates_are_not_rounded() {
        for count in [3, 7, 999_983, u32::MAX] {
            let (clock, _limiters, limiter) = limiter(count, Duration::from_secs(1), 0);
            assert!(limiter.check("a", count).allowed);
            assert!(!limiter.check("a", 1).allowed);
            clock.advance(Duration::from_secs(1));
            assert!(limiter.check("a", count).allowed, "{count}");
            assert!(!limiter.check("a", 1).allowed);
        }
    }

    #[test]
    fn of_two_hundred_parallel_checks_exactly_ten_pass() {
        let (_clock, _limiters, limiter) = limiter(10, MINUTE, 0);
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        if limiter.check("a", 1).allowed {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 10);
    }

    #[test]
    fn counters_outlive_a_reload_if_the_quota_is_unchanged() {
        let (_clock, limiters, limiter) = limiter(2, MINUTE, 0);
        assert!(limiter.check("a", 2).allowed);
        drop(limiter);
        limiters.sweep();
        let quota = Quota { count: 2, period: MINUTE, burst: 0 };
        assert!(!limiters.limiter("test", quota).unwrap().check("a", 1).allowed);
        assert!(limiters.limiter("other", quota).unwrap().check("a", 1).allowed);
        let wider = Quota { count: 3, ..quota };
        assert!(limiters.limiter("test", wider).unwrap().check("a", 1).allowed);
    }

    #[test]
    fn senseless_quotas_are_refused() {
        let limiters = Limiters::new(Clock::manual(Duration::ZERO), 100);
        for (count, period) in [(0, MINUTE), (1, Duration::ZERO), (1, PERIOD_MAX * 2)] {
            assert!(limiters.limiter("a", Quota { count, period, burst: 0 }).is_err());
        }
    }

    #[test]
    fn a_flood_of_keys_stays_bounded_and_does_not_free_a_limited_key() {
        let (clock, limiters, limiter) = limiter(10, MINUTE, 0);
        assert!(limiter.check("limited", 10).allowed);
        for key in 0..300_000 {
            limiter.check(&key.to_string(), 1);
        }
        assert!(!limiter.check("limited", 1).allowed);
        let cells: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().sets.len() * WAYS).sum();
        assert!(cells <= 50_000 + SHARDS * WAYS, "{cells}");
        assert_eq!(limiter.cells_taken.load(Ordering::Relaxed), cells - SHARDS * WAYS);

        let other = limiters.limiter("other", Quota { count: 1, period: MINUTE, burst: 0 }).unwrap();
        assert!(other.check("a", 1).allowed);
        assert!(!other.check("a", 1).allowed, "others still have room");
        drop(limiter);
        limiters.sweep();
        clock.advance(super::super::registry::GRACE);
        limiters.sweep();
        assert_eq!(limiters.room.cells_free.load(Ordering::Relaxed), 100_000, "given back");
    }

    #[test]
    fn old_keys_make_room_without_growth() {
        let (clock, _limiters, limiter) = limiter(1_000, Duration::from_secs(1), 0);
        for key in 0..100_000 {
            assert!(limiter.check(&key.to_string(), 1).allowed);
            clock.advance(Duration::from_millis(1));
        }
        assert!(limiter.cells_taken.load(Ordering::Relaxed) < 1_000);
    }

    proptest! {
        /// Against the definition: in no stretch of time passes more than burst + rate × time.
        #[test]
        fn never_more_than_the_quota(
            count in 1_u32..50, burst in 1_u32..50, period_ms in 1_u64..2_000,
            steps in prop::collection::vec((0_u64..200, 0_u32..5), 1..200),
        ) {
            let (clock, _limiters, limiter) = limiter(count, Duration::from_millis(period_ms), burst);
            let (mut passed, mut elapsed_ms) = (0_u64, 0_u64);
            for (pause_ms, cost) in steps {
                clock.advance(Duration::from_millis(pause_ms));
                elapsed_ms += pause_ms;
                let outcome = limiter.check("a", cost);
                prop_assert!(outcome.remaining <= burst);
                if outcome.allowed {
                    passed += u64::from(cost);
                } else if outcome.retry_after_millis != u32::MAX {
                    prop_assert!(outcome.remaining < cost);
                }
                prop_assert!(passed * period_ms <= u64::from(burst) * period_ms + u64::from(count) * elapsed_ms);
            }
            let refused = limiter.check("a", burst);
            clock.advance(Duration::from_millis(refused.retry_after_millis.into()));
            prop_assert!(limiter.check("a", 0).remaining == burst || refused.allowed, "waiting was enough");
        }
    }
}
