//! Which endpoint takes the next request.
//!
//! One per worker, so that turns need no lock; `Pool::pick` says who may be chosen. A worker
//! starts at a turn of its own, or all workers would fall on the first endpoint together. Never
//! knows why an endpoint is not fit.

use super::settings::Balance;
use std::cell::Cell;

/// Draws that may hit an unfit endpoint before the fit ones are added up.
const BLIND_DRAWS: u32 = 4;

pub(super) struct Balancer {
    kind: Balance,
    weights: Box<[u32]>,
    /// Sums of the weights up to and with each.
    sums: Box<[u64]>,
    /// Smooth weighted round robin, as nginx has it: each fit endpoint gains its weight, the
    /// richest is chosen and pays what all gained.
    turns: Box<[Cell<i64>]>,
    random: Random,
}

impl Balancer {
    pub(super) fn new(kind: Balance, weights: Box<[u32]>, seed: u64) -> Balancer {
        let sums = weights
            .iter()
            .scan(0, |sum, weight| {
                *sum += u64::from(*weight);
                Some(*sum)
            })
            .collect();
        let turns = weights.iter().map(|_| Cell::new(0)).collect();
        let balancer = Balancer { kind, weights, sums, turns, random: Random::new(seed) };
        if kind == Balance::RoundRobin {
            for _ in 0..balancer.random.below(balancer.weights.len() as u64) {
                balancer.in_turn(|_| true);
            }
        }
        balancer
    }

    /// Index of an endpoint that is `fit` and has a weight. `load`: its requests under way.
    pub(super) fn choose(&self, fit: impl Fn(usize) -> bool, load: impl Fn(usize) -> u32) -> Option<usize> {
        if let [weight] = self.weights[..] {
            return (weight > 0 && fit(0)).then_some(0);
        }
        match self.kind {
            Balance::RoundRobin => self.in_turn(fit),
            Balance::Random => self.draw(fit),
            Balance::LeastRequest => {
                let one = self.draw(&fit)?;
                // Both drawn by weight and compared for their weight: at rest, where loads are
                // equal, the first draw decides and shares follow the weights.
                let Some(other) = self.draw(|index| index != one && fit(index)) else {
                    return Some(one);
                };
                let per_weight = |mine: usize, theirs: usize| u64::from(load(mine)) * self.weight(theirs);
                Some(if per_weight(one, other) <= per_weight(other, one) { one } else { other })
            }
        }
    }

    fn weight(&self, index: usize) -> u64 {
        self.weights.get(index).copied().map_or(0, u64::from)
    }

    fn in_turn(&self, fit: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<(usize, i64)> = None;
        for (index, (weight, turn)) in self.weights.iter().zip(&self.turns).enumerate() {
            if *weight == 0 || !fit(index) {
                continue;
            }
            total += i64::from(*weight);
            turn.set(turn.get() + i64::from(*weight));
            if richest.is_none_or(|(_, most)| turn.get() > most) {
                richest = Some((index, turn.get()));
            }
        }
        let (index, _) = richest?;
        let turn = self.turns.get(index)?;
        turn.set(turn.get() - total);
        Some(index)
    }

    fn draw(&self, fit: impl Fn(usize) -> bool) -> Option<usize> {
        let total = *self.sums.last()?;
        if total == 0 {
            return None;
        }
        for _ in 0..BLIND_DRAWS {
            let at = self.random.below(total);
            let index = self.sums.partition_point(|sum| *sum <= at);
            if fit(index) {
                return Some(index);
            }
        }
        let fit_weight = |index: usize| if fit(index) { self.weight(index) } else { 0 };
        let total: u64 = (0..self.weights.len()).map(&fit_weight).sum();
        if total == 0 {
            return None;
        }
        let mut at = self.random.below(total);
        (0..self.weights.len()).find(|index| {
            let weight = fit_weight(*index);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        })
    }
}

/// A worker's own cheap numbers (xorshift64*), for spreading load only.
struct Random(Cell<u64>);

impl Random {
    fn new(seed: u64) -> Random {
        Random(Cell::new(seed | 1))
    }

    /// Uniform enough below `bound`; 0 for 0.
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        let drawn = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(drawn) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DRAWS: usize = 30_000;

    fn shares(kind: Balance, weights: &[u32], fit: impl Fn(usize) -> bool + Copy) -> Vec<usize> {
        let balancer = Balancer::new(kind, weights.into(), 7);
        let mut shares = vec![0; weights.len()];
        for _ in 0..DRAWS {
            if let Some(index) = balancer.choose(fit, |_| 0) {
                shares[index] += 1;
            }
        }
        shares
    }

    fn near(share: usize, expected: usize) -> bool {
        share.abs_diff(expected) < DRAWS / 50
    }

    #[test]
    fn shares_follow_weights() {
        for kind in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
            let shares = shares(kind, &[3, 0, 2, 1], |_| true);
            assert!(near(shares[0], DRAWS / 2), "{kind:?} {shares:?}");
            assert_eq!(shares[1], 0, "{kind:?}");
            assert!(near(shares[2], DRAWS / 3), "{kind:?} {shares:?}");
            assert!(near(shares[3], DRAWS / 6), "{kind:?} {shares:?}");
        }
    }

    #[test]
    fn the_unfit_get_nothing_and_the_others_their_part() {
        for kind in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
            let shares = shares(kind, &[1, 1, 1, 1], |index| index != 2);
            assert_eq!(shares[2], 0, "{kind:?}");
            assert!([0, 1, 3].iter().all(|index| near(shares[*index], DRAWS / 3)), "{kind:?} {shares:?}");
        }
    }

    #[test]
    fn nobody_fit_is_nobody() {
        for kind in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
            assert_eq!(shares(kind, &[1, 1], |_| false), [0, 0]);
            assert_eq!(shares(kind, &[0, 0], |_| true), [0, 0]);
            assert_eq!(shares(kind, &[0], |_| true), [0]);
        }
    }

    #[test]
    fn the_last_fit_one_of_many_is_found() {
        for kind in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
            let balancer = Balancer::new(kind, vec![1; 1_000].into(), 3);
            assert_eq!(balancer.choose(|index| index == 977, |_| 0), Some(977), "{kind:?}");
        }
    }

    #[test]
    fn round_robin_is_smooth() {
        let balancer = Balancer::new(Balance::RoundRobin, [5, 1, 1].into(), 1);
        let picks: Vec<_> = (0..14).filter_map(|_| balancer.choose(|_| true, |_| 0)).collect();
        // Never more than the five in seven that are due, and the light ones never back to back.
        for window in picks.windows(7) {
            assert_eq!(window.iter().filter(|index| **index == 0).count(), 5);
        }
    }

    #[test]
    fn least_request_avoids_the_busy() {
        let balancer = Balancer::new(Balance::LeastRequest, [1, 1].into(), 9);
        let loads = [10, 0];
        for _ in 0..100 {
            assert_eq!(balancer.choose(|_| true, |index| loads[index]), Some(1));
        }
        // Twice the weight carries twice the load before it counts as busier.
        let balancer = Balancer::new(Balance::LeastRequest, [2, 1].into(), 9);
        let loads = [3, 2];
        for _ in 0..100 {
            assert_eq!(balancer.choose(|_| true, |index| loads[index]), Some(0));
        }
    }

    #[test]
    fn workers_start_at_different_turns() {
        let first =
            |seed| Balancer::new(Balance::RoundRobin, vec![1; 8].into(), seed).choose(|_| true, |_| 0);
        let firsts: std::collections::HashSet<_> =
            (1..64).map(|n| first(u64::wrapping_mul(n, 0x9E37_79B9_7F4A_7C15))).collect();
        assert!(firsts.len() > 4);
    }

    proptest! {
        /// Endpoints that come and go at random: whoever is chosen is fit, and somebody is chosen
        /// whenever anybody is fit.
        #[test]
        fn the_chosen_is_fit(
            weights in proptest::collection::vec(0u32..5, 1..12),
            rounds in proptest::collection::vec((any::<u16>(), any::<[u8; 12]>()), 1..200),
            seed: u64,
        ) {
            for kind in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
                let balancer = Balancer::new(kind, weights.clone().into(), seed);
                for (mask, loads) in &rounds {
                    let fit = |index: usize| mask & (1 << index) != 0;
                    let chosen = balancer.choose(fit, |index| u32::from(loads[index]));
                    let anybody = (0..weights.len()).any(|index| fit(index) && weights[index] > 0);
                    prop_assert_eq!(chosen.is_some(), anybody, "{:?}", kind);
                    prop_assert!(chosen.is_none_or(|index| fit(index) && weights[index] > 0), "{:?}", kind);
                }
            }
        }
    }
}
