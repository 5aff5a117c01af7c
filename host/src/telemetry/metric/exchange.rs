//! What is counted of exchanges: per API, and per consumer.
//!
//! `exchange` counts each one once, when it is over. Never sees a name or a label: those belong
//! to the handle, resolved at a reload.

use super::cell::{Count, Counter, DurationCells, EXCHANGE_BOUNDS, Observed, Sharded, Writers, nanos};
use crate::telemetry::reason::Reason;
use std::array;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Pairs of status and reason that one worker tells apart for one API; an upstream that answers
/// with more kinds of status has the rest counted as status `other`.
const PAIRS_MAX: usize = 48;
const REASONS: usize = Reason::ALL.len();

/// One API's exchanges.
#[derive(Debug)]
pub struct ApiMetrics {
    shards: Sharded<ApiCells>,
}

impl ApiMetrics {
    pub(super) fn new(workers: usize) -> ApiMetrics {
        ApiMetrics { shards: Sharded::new(workers) }
    }

    /// Counts a finished exchange. `status`: what the client was told; `total`: from the first
    /// byte of the head to the last of the answer; `upstream`: until the upstream's head had
    /// arrived; the bytes are those of the bodies.
    #[inline]
    pub fn exchange(
        &self,
        status: u16,
        reason: Reason,
        total: Duration,
        upstream: Option<Duration>,
        bytes_in: u64,
        bytes_out: u64,
    ) {
        let (cells, writers) = self.shards.mine();
        cells.outcomes.count(status, reason, writers);
        cells.total.observe(nanos(total), &EXCHANGE_BOUNDS, writers);
        if let Some(upstream) = upstream {
            cells.upstream.observe(nanos(upstream), &EXCHANGE_BOUNDS, writers);
        }
        cells.bytes_in.add(bytes_in, writers);
        cells.bytes_out.add(bytes_out, writers);
    }

    /// Exchanges by status (none: told apart no more) and reason.
    pub(super) fn outcomes(&self) -> BTreeMap<(Option<u16>, &'static str), u64> {
        let mut sums = BTreeMap::new();
        for cells in self.shards.iter() {
            for (status, reason, count) in cells.outcomes.iter() {
                *sums.entry((status, reason.label())).or_default() += count;
            }
        }
        sums
    }

    pub(super) fn total(&self) -> Observed {
        self.durations(|cells| &cells.total)
    }

    pub(super) fn upstream(&self) -> Observed {
        self.durations(|cells| &cells.upstream)
    }

    pub(super) fn bytes_in(&self) -> u64 {
        self.shards.iter().map(|cells| cells.bytes_in.get()).sum()
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.shards.iter().map(|cells| cells.bytes_out.get()).sum()
    }

    fn durations(&self, pick: fn(&ApiCells) -> &DurationCells) -> Observed {
        let shards: Vec<_> = self.shards.iter().map(pick).collect();
        Observed::durations(&EXCHANGE_BOUNDS, &shards)
    }
}

#[derive(Debug, Default)]
struct ApiCells {
    outcomes: Outcomes,
    total: DurationCells,
    upstream: DurationCells,
    bytes_in: Count,
    bytes_out: Count,
}

/// Counts by status and reason, in a table that fills in the order pairs are first seen: a dense
/// one would take 120 KiB for each API and worker, and an API sees a handful of pairs.
#[derive(Debug)]
struct Outcomes {
    /// 0: free; never changes once taken.
    keys: [AtomicU32; PAIRS_MAX],
    counts: [Count; PAIRS_MAX],
    rest: [Count; REASONS],
}

impl Default for Outcomes {
    fn default() -> Outcomes {
        Outcomes {
            keys: array::from_fn(|_| AtomicU32::new(0)),
            counts: array::from_fn(|_| Count::default()),
            rest: array::from_fn(|_| Count::default()),
        }
    }
}

impl Outcomes {
    #[inline]
    fn count(&self, status: u16, reason: Reason, writers: Writers) {
        let key = (u32::from(status) << 16) | (reason as u32 + 1);
        for (slot, count) in self.keys.iter().zip(&self.counts) {
            let held = slot.load(Ordering::Relaxed);
            if held == key || (held == 0 && take(slot, key)) {
                return count.add(1, writers);
            }
        }
        self.rest[reason.index()].add(1, writers);
    }

    fn iter(&self) -> impl Iterator<Item = (Option<u16>, Reason, u64)> {
        let pairs = self.keys.iter().zip(&self.counts).filter_map(|(slot, count)| {
            let key = slot.load(Ordering::Relaxed);
            let reason = Reason::ALL.get((key & 0xffff).checked_sub(1)? as usize)?;
            Some((Some((key >> 16) as u16), *reason, count.get()))
        });
        let rest = Reason::ALL.iter().zip(&self.rest).map(|(reason, count)| (None, *reason, count.get()));
        pairs.chain(rest).filter(|(.., count)| *count > 0)
    }
}

/// False where another thread took the slot for another key.
#[cold]
fn take(slot: &AtomicU32, key: u32) -> bool {
    match slot.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => true,
        Err(held) => held == key,
    }
}

/// One consumer's exchanges under one product.
#[derive(Debug)]
pub struct ConsumerMetrics {
    pub(super) exchanges: Counter,
}

impl ConsumerMetrics {
    pub(super) fn new(workers: usize) -> ConsumerMetrics {
        ConsumerMetrics { exchanges: Counter::new(workers) }
    }

    #[inline]
    pub fn exchange(&self) {
        self.exchanges.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::enter_worker;

    fn count(api: &ApiMetrics, status: u16, reason: Reason) {
        api.exchange(status, reason, Duration::from_millis(1), None, 1, 2);
    }

    #[test]
    fn exchanges_are_told_apart_by_status_and_reason() {
        let api = ApiMetrics::new(2);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let api = &api;
                scope.spawn(move || {
                    enter_worker(worker);
                    count(api, 200, Reason::Proxied);
                    count(api, 503, Reason::PolicyTrap);
                });
            }
        });
        count(&api, 503, Reason::NoHealthyEndpoint);
        let outcomes = api.outcomes();
        assert_eq!(outcomes[&(Some(200), "proxied")], 2);
        assert_eq!(outcomes[&(Some(503), "policy_trap")], 2);
        assert_eq!(outcomes[&(Some(503), "no_healthy_endpoint")], 1);
        assert_eq!((api.bytes_in(), api.bytes_out(), api.total().count, api.upstream().count), (5, 10, 5, 0));
    }

    #[test]
    fn an_upstream_that_makes_up_statuses_fills_no_memory() {
        let api = ApiMetrics::new(1);
        for status in 100..1_000 {
            count(&api, status, Reason::Proxied);
        }
        count(&api, 404, Reason::NoRoute);
        let outcomes = api.outcomes();
        assert_eq!(outcomes.values().sum::<u64>(), 901);
        assert_eq!(outcomes.len(), PAIRS_MAX + 2);
        assert_eq!(outcomes[&(None, "no_route")], 1);
    }

    #[test]
    fn many_threads_share_a_shard_without_loss() {
        let api = ApiMetrics::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u16 {
                let api = &api;
                scope.spawn(move || {
                    (0..1_000).for_each(|n| count(api, 200 + (n + thread) % 8, Reason::Proxied))
                });
            }
        });
        assert_eq!(api.outcomes().values().sum::<u64>(), 4_000);
        assert_eq!(api.outcomes().len(), 8);
    }
}
