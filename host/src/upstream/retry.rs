//! How many retries an upstream can take: a share of its requests over the last seconds.
//!
//! `send` asks before each retry that adds load. When everything behind is down, retries must not
//! multiply the traffic; a share caps that whatever the number of attempts. Shared by all workers;
//! they may overshoot by one each, and a request counted at a second's turn may be lost. Never
//! reads a clock of its own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The window, in seconds: long enough to smooth bursts, short enough to close fast.
const WINDOW: usize = 10;
/// Retries that a window grants however few requests it saw, or a quiet upstream would have none.
const MINIMUM: u64 = 10;
const NANOS: u64 = 1_000_000_000;

pub(super) struct Budget {
    percent: u64,
    /// One a second, used in a ring.
    slots: [Slot; WINDOW],
}

struct Slot {
    /// Whose counts these are; `u64::MAX`: nobody's yet.
    second: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

impl Budget {
    pub(super) fn new(percent: u32) -> Budget {
        Budget {
            percent: u64::from(percent),
            slots: std::array::from_fn(|_| Slot {
                second: AtomicU64::new(u64::MAX),
                requests: AtomicU32::new(0),
                retries: AtomicU32::new(0),
            }),
        }
    }

    /// Counts a request that came from outside. `now` in nanoseconds.
    pub(super) fn deposit(&self, now: u64) {
        if let Some(slot) = self.slot(now / NANOS) {
            slot.requests.fetch_add(1, Relaxed);
        }
    }

    /// Takes a retry out, if there is one left. `now` in nanoseconds.
    pub(super) fn withdraw(&self, now: u64) -> bool {
        if self.percent == 0 {
            return false;
        }
        let second = now / NANOS;
        let oldest = second.saturating_sub(WINDOW as u64 - 1);
        let (mut requests, mut retries) = (0, 0);
        for slot in &self.slots {
            if (oldest..=second).contains(&slot.second.load(Relaxed)) {
                requests += u64::from(slot.requests.load(Relaxed));
                retries += u64::from(slot.retries.load(Relaxed));
            }
        }
        let allowed = retries < (requests * self.percent / 100).max(MINIMUM);
        if allowed && let Some(slot) = self.slot(second) {
            slot.retries.fetch_add(1, Relaxed);
        }
        allowed
    }

    fn slot(&self, second: u64) -> Option<&Slot> {
        let slot = self.slots.get((second % WINDOW as u64) as usize)?;
        let seen = slot.second.load(Relaxed);
        if seen != second && slot.second.compare_exchange(seen, second, Relaxed, Relaxed).is_ok() {
            slot.requests.store(0, Relaxed);
            slot.retries.store(0, Relaxed);
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use proptest::prelude::*;
    use std::time::Duration;

    /// `rate` requests a second for `seconds`, all of which fail and would be retried `attempts`
    /// times; returns calls beyond the first of each.
    fn outage(budget: &Budget, clock: &Clock, rate: u64, seconds: u64, attempts: u32) -> u64 {
        let mut extra = 0;
        for _ in 0..rate * seconds {
            budget.deposit(clock.monotonic_nanos());
            for _ in 0..attempts {
                if !budget.withdraw(clock.monotonic_nanos()) {
                    break;
                }
                extra += 1;
            }
            clock.advance(Duration::from_nanos(NANOS / rate));
        }
        extra
    }

    #[test]
    fn an_outage_adds_no_more_than_its_share() {
        for (rate, attempts) in [(500, 3), (50, 1), (5_000, 10)] {
            let (budget, clock) = (Budget::new(20), Clock::manual(Duration::ZERO));
            let extra = outage(&budget, &clock, rate, 30, attempts);
            let requests = rate * 30;
            assert!(extra <= requests / 5 + MINIMUM, "{extra} of {requests}");
            assert!(extra >= requests / 6, "{extra} of {requests}");
        }
    }

    #[test]
    fn a_quiet_upstream_has_a_few_and_gets_them_back() {
        let (budget, clock) = (Budget::new(20), Clock::manual(Duration::ZERO));
        let spend = |budget: &Budget| (0..100).filter(|_| budget.withdraw(clock.monotonic_nanos())).count();
        assert_eq!(spend(&budget) as u64, MINIMUM);
        clock.advance(Duration::from_secs(WINDOW as u64 - 1));
        assert_eq!(spend(&budget), 0);
        clock.advance(Duration::from_secs(1));
        assert_eq!(spend(&budget) as u64, MINIMUM);
    }

    #[test]
    fn old_requests_earn_nothing() {
        let (budget, clock) = (Budget::new(50), Clock::manual(Duration::ZERO));
        (0..1_000).for_each(|_| budget.deposit(clock.monotonic_nanos()));
        clock.advance(Duration::from_secs(3_600));
        let granted = (0..1_000).filter(|_| budget.withdraw(clock.monotonic_nanos())).count();
        assert_eq!(granted as u64, MINIMUM);
    }

    #[test]
    fn nothing_per_cent_is_nothing() {
        let budget = Budget::new(0);
        budget.deposit(0);
        assert!(!budget.withdraw(0));
    }

    proptest! {
        /// Beside a model that remembers everything: any traffic, any pauses, any share.
        #[test]
        fn what_is_granted_is_what_the_window_says(
            percent in 0u32..=100,
            events in proptest::collection::vec((0u64..3 * NANOS, 0u32..4, 1usize..20), 1..300),
        ) {
            let (budget, clock) = (Budget::new(percent), Clock::manual(Duration::ZERO));
            let mut past: Vec<(u64, bool)> = Vec::new();
            for (pause, kind, count) in events {
                clock.advance(Duration::from_nanos(if kind == 3 { pause } else { pause / 1_000 }));
                let now = clock.monotonic_nanos();
                let recent = |&&(second, _): &&(u64, bool)| second + WINDOW as u64 > now / NANOS;
                for _ in 0..count {
                    if kind == 0 {
                        budget.deposit(now);
                        past.push((now / NANOS, false));
                    } else {
                        let retries = past.iter().filter(recent).filter(|(_, retry)| *retry).count() as u64;
                        let requests = past.iter().filter(recent).count() as u64 - retries;
                        let share = (requests * u64::from(percent) / 100).max(MINIMUM);
                        let granted = budget.withdraw(now);
                        prop_assert_eq!(granted, percent > 0 && retries < share);
                        if granted {
                            past.push((now / NANOS, true));
                        }
                    }
                }
            }
        }
    }
}
