//! Keeps a policy that fails again and again out of the way, for longer each time.
//!
//! `pool` asks before it leases and tells how each call went. States: serving → (after
//! `FAILURES_IN_A_ROW`) out until a time → one call on trial → serving, or out for twice as long.
//! Shared by all workers; a policy that works pays one relaxed load a call.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// So many failures without a success between them take a policy out.
pub const FAILURES_IN_A_ROW: u32 = 5;
const FIRST_NANOS: u64 = 1_000_000_000;
const LONGEST_NANOS: u64 = 60_000_000_000;

#[derive(Debug, Default)]
pub struct Quarantine {
    failures: AtomicU32,
    /// Monotonic nanoseconds until which the policy is out; 0: it serves.
    until: AtomicU64,
    /// How often in a row it was put out, which sets how long.
    times: AtomicU32,
}

impl Quarantine {
    /// Whether it serves as if it had never failed: nothing to ask the clock about.
    pub fn is_clear(&self) -> bool {
        self.until.load(Ordering::Relaxed) == 0
    }

    /// Whether a call may go ahead at `now`. After the time is up one caller gets through as the
    /// trial; the others wait for how that goes.
    pub fn admits(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = now();
        now >= until
            && self
                .until
                .compare_exchange(until, now + FIRST_NANOS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
            self.times.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure at `now`; true if it put the policy out.
    pub fn failed(&self, now: u64) -> bool {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES_IN_A_ROW {
            return false;
        }
        let times = self.times.fetch_add(1, Ordering::Relaxed).min(16);
        self.until.store(now + (FIRST_NANOS << times).min(LONGEST_NANOS), Ordering::Relaxed);
        true
    }

    pub fn is_out(&self, now: u64) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && now < until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fail(quarantine: &Quarantine, times: u32, now: u64) {
        for _ in 0..times {
            quarantine.failed(now);
        }
    }

    #[test]
    fn a_success_between_failures_keeps_it_serving() {
        let quarantine = Quarantine::default();
        for _ in 0..100 {
            fail(&quarantine, FAILURES_IN_A_ROW - 1, 0);
            quarantine.succeeded();
        }
        assert!(quarantine.admits(|| 0));
    }

    #[test]
    fn out_then_one_trial_then_out_for_longer() {
        let quarantine = Quarantine::default();
        fail(&quarantine, FAILURES_IN_A_ROW, 0);
        assert!(!quarantine.admits(|| FIRST_NANOS - 1));
        assert!(quarantine.admits(|| FIRST_NANOS));
        assert!(!quarantine.admits(|| FIRST_NANOS), "only one call is on trial");
        assert!(quarantine.failed(FIRST_NANOS));
        assert!(!quarantine.admits(|| FIRST_NANOS * 2));
        assert!(quarantine.admits(|| FIRST_NANOS * 3));
        quarantine.succeeded();
        assert!(quarantine.admits(|| FIRST_NANOS * 3) && quarantine.admits(|| FIRST_NANOS * 3));
    }

    #[test]
    fn never_out_for_longer_than_the_bound() {
        let quarantine = Quarantine::default();
        fail(&quarantine, 1_000, 7);
        assert!(quarantine.admits(|| 7 + LONGEST_NANOS));
    }

    proptest! {
        /// A policy that is well and ill by turns, as long as it likes, under any traffic.
        #[test]
        fn the_ill_are_out_and_the_well_come_back(
            spells in proptest::collection::vec((any::<bool>(), 1u64..40, 1u64..3 * FIRST_NANOS), 1..60),
        ) {
            let (quarantine, mut now) = (Quarantine::default(), 1);
            let mut in_a_row = 0;
            for (well, calls, pause) in spells {
                for _ in 0..calls {
                    let out = quarantine.is_out(now);
                    let admitted = quarantine.admits(|| now);
                    prop_assert!(!(out && admitted), "a call while it is out");
                    prop_assert!(admitted || in_a_row >= FAILURES_IN_A_ROW, "out after {} failures", in_a_row);
                    if admitted && well {
                        quarantine.succeeded();
                        in_a_row = 0;
                    } else if admitted {
                        in_a_row += 1;
                        prop_assert_eq!(quarantine.failed(now), in_a_row >= FAILURES_IN_A_ROW);
                        prop_assert!(in_a_row < FAILURES_IN_A_ROW || !quarantine.admits(|| now));
                    }
                    now += pause;
                }
            }
            // However it was: two trials apart from now it serves, if it is well.
            now += LONGEST_NANOS;
            prop_assert!(quarantine.admits(|| now));
            quarantine.succeeded();
            prop_assert!(quarantine.admits(|| now) && quarantine.admits(|| now));
        }
    }
}
