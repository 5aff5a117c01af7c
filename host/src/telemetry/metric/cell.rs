//! The cells that metrics count in: one shard for each worker, summed at a scrape.
//!
//! Written by the request path through the handles of `metric`, read by its exposition. Never
//! locks, allocates or hashes after it was made.
//!
//! A worker is the only writer of its shard, so it adds by a load and a store; threads that are
//! no workers (control, admin) share shard 0 and add atomically. A shard starts on a cache line
//! of its own, so that workers never pull lines from each other.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread worker `index` (from 0) for all metrics, once, before it counts.
/// Two threads of one index that share a `Metrics` would lose counts; threads that never call
/// this, and workers beyond the number the `Metrics` was made for, share shard 0.
pub fn enter_worker(index: usize) {
    SHARD.set(index.saturating_add(1));
}

/// Who else writes to the shard in hand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Writers {
    One,
    Many,
}

/// Two lines: the prefetcher of x86 fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[derive(Debug)]
pub(super) struct Sharded<T> {
    shards: Box<[Padded<T>]>,
}

impl<T: Default> Sharded<T> {
    /// One shard for each worker and one for all other threads.
    pub(super) fn new(workers: usize) -> Sharded<T> {
        Sharded { shards: (0..=workers).map(|_| Padded::default()).collect() }
    }
}

impl<T> Sharded<T> {
    /// The calling thread's own cells.
    #[inline]
    pub(super) fn mine(&self) -> (&T, Writers) {
        match self.shards.get(SHARD.get()) {
            Some(shard) if SHARD.get() > 0 => (&shard.0, Writers::One),
            // There is always a shard 0, by construction.
            _ => (&self.shards[0].0, Writers::Many),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }
}

/// A whole number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(super) fn add(&self, by: u64, writers: Writers) {
        match writers {
            Writers::One => self.0.store(self.get().wrapping_add(by), Ordering::Relaxed),
            Writers::Many => {
                self.0.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number with a fraction, kept as its bits.
#[derive(Debug, Default)]
pub(super) struct Amount(AtomicU64);

impl Amount {
    #[inline]
    pub(super) fn add(&self, by: f64, writers: Writers) {
        match writers {
            Writers::One => self.set(self.get() + by),
            Writers::Many => {
                let add = |bits| Some((f64::from_bits(bits) + by).to_bits());
                let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
            }
        }
    }

    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Counts events.
#[derive(Debug)]
pub struct Counter(Sharded<Count>);

impl Counter {
    pub(super) fn new(workers: usize) -> Counter {
        Counter(Sharded::new(workers))
    }

    #[inline]
    pub fn add(&self, by: u64) {
        let (cell, writers) = self.0.mine();
        cell.add(by, writers);
    }

    /// The sum over all workers.
    pub fn get(&self) -> u64 {
        self.0.iter().map(Count::get).fold(0, u64::wrapping_add)
    }
}

/// A level that rises and falls. Its value is the sum of what each thread contributed, so what
/// one worker adds another may take away.
#[derive(Debug)]
pub struct Gauge(Sharded<AtomicI64>);

impl Gauge {
    pub(super) fn new(workers: usize) -> Gauge {
        Gauge(Sharded::new(workers))
    }

    #[inline]
    pub fn add(&self, by: i64) {
        match self.0.mine() {
            (cell, Writers::One) => {
                cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
            }
            (cell, Writers::Many) => {
                cell.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    /// Sets the calling worker's contribution; threads that are no workers have one in common.
    pub fn set(&self, value: i64) {
        self.0.mine().0.store(value, Ordering::Relaxed);
    }

    /// The sum over all workers.
    pub fn get(&self) -> i64 {
        self.0.iter().map(|cell| cell.load(Ordering::Relaxed)).fold(0, i64::wrapping_add)
    }
}

/// Bounds of a duration histogram: 16, so that their comparison stays a few vector instructions.
pub(super) type Bounds = [u64; 16];

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;

/// For whole exchanges and upstream answers, in nanoseconds: 100 µs to 10 s.
pub(super) const EXCHANGE_BOUNDS: Bounds = [
    100 * MICRO,
    250 * MICRO,
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    1_000 * MILLI,
    2_500 * MILLI,
    5_000 * MILLI,
    10_000 * MILLI,
];

/// For hook calls, in nanoseconds: 250 ns (a no-op's cost) to 100 ms (ten times the default limit).
pub(super) const HOOK_BOUNDS: Bounds = [
    250,
    500,
    MICRO,
    2_500,
    5 * MICRO,
    10 * MICRO,
    25 * MICRO,
    50 * MICRO,
    100 * MICRO,
    250 * MICRO,
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    10 * MILLI,
    25 * MILLI,
    100 * MILLI,
];

/// One shard of a duration histogram.
#[derive(Debug, Default)]
pub(super) struct DurationCells {
    counts: [Count; 16],
    over: Count,
    nanos: Count,
}

impl DurationCells {
    #[inline]
    pub(super) fn observe(&self, nanos: u64, bounds: &Bounds, writers: Writers) {
        let index = bounds.iter().filter(|bound| nanos > **bound).count();
        self.counts.get(index).unwrap_or(&self.over).add(1, writers);
        self.nanos.add(nanos, writers);
    }
}

/// What a histogram holds at a scrape: buckets as upper bound and their own count.
pub(super) struct Observed {
    pub(super) sum: f64,
    pub(super) count: u64,
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Observed {
    pub(super) fn durations(bounds: &Bounds, shards: &[&DurationCells]) -> Observed {
        let total =
            |pick: &dyn Fn(&DurationCells) -> u64| shards.iter().map(|cells| pick(cells)).sum::<u64>();
        let mut buckets: Vec<_> = bounds
            .iter()
            .enumerate()
            .map(|(index, bound)| (seconds(*bound), total(&|cells| cells.counts[index].get())))
            .collect();
        buckets.push((f64::INFINITY, total(&|cells| cells.over.get())));
        let count = buckets.iter().map(|(_, count)| count).sum();
        Observed { sum: seconds(total(&|cells| cells.nanos.get())), count, buckets }
    }
}

/// Counts durations by size.
#[derive(Debug)]
pub struct Histogram {
    shards: Sharded<DurationCells>,
    bounds: &'static Bounds,
}

impl Histogram {
    pub(super) fn new(workers: usize, bounds: &'static Bounds) -> Histogram {
        Histogram { shards: Sharded::new(workers), bounds }
    }

    #[inline]
    pub fn observe(&self, duration: Duration) {
        let (cells, writers) = self.shards.mine();
        cells.observe(nanos(duration), self.bounds, writers);
    }

    pub(super) fn get(&self) -> Observed {
        let shards: Vec<_> = self.shards.iter().collect();
        Observed::durations(self.bounds, &shards)
    }
}

#[inline]
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a sum of durations needs no more than 53 bits of precision")]
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_others_add_up() {
        let counter = Counter::new(2);
        let gauge = Gauge::new(2);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let (counter, gauge) = (&counter, &gauge);
                scope.spawn(move || {
                    enter_worker(worker);
                    for _ in 0..10_000 {
                        counter.add(1);
                        gauge.add(3);
                    }
                });
            }
            for _ in 0..3 {
                let (counter, gauge) = (&counter, &gauge);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        counter.add(1);
                        gauge.add(-1);
                    }
                });
            }
        });
        assert_eq!(counter.get(), 50_000);
        assert_eq!(gauge.get(), 30_000);
    }

    #[test]
    fn a_worker_too_many_counts_with_the_others() {
        let counter = Counter::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enter_worker(usize::MAX);
                counter.add(4);
            });
        });
        counter.add(1);
        assert_eq!(counter.get(), 5);
    }

    #[test]
    fn a_gauge_set_is_one_threads_share() {
        let gauge = Gauge::new(1);
        gauge.set(5);
        gauge.set(7);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enter_worker(0);
                gauge.set(2);
            });
        });
        assert_eq!(gauge.get(), 9);
    }

    #[test]
    fn amounts_add_from_many_threads() {
        let amount = Amount::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| amount.add(0.5, Writers::Many)));
            }
        });
        amount.add(0.25, Writers::One);
        assert!((amount.get() - 2_000.25).abs() < f64::EPSILON);
    }

    #[test]
    fn bounds_are_inclusive_and_rise() {
        assert!(EXCHANGE_BOUNDS.is_sorted() && HOOK_BOUNDS.is_sorted());
        let histogram = Histogram::new(1, &EXCHANGE_BOUNDS);
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        histogram.observe(Duration::MAX);
        let observed = histogram.get();
        assert_eq!(observed.count, 6);
        assert_eq!(observed.buckets[0], (0.0001, 2));
        assert_eq!(observed.buckets[1].1, 1);
        assert_eq!(observed.buckets[15], (10.0, 1));
        assert_eq!(observed.buckets[16], (f64::INFINITY, 2));
    }
}
