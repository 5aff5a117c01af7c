//! Says whether what was seen of a pool may be so, from the documents alone: the table in `send`,
//! the window of `retry`, the ejections of `endpoint`.
//!
//! Fed by the simulation after each step. Where a race leaves two outcomes possible, as when an idle
//! connection closes just before a request, it keeps bounds in place of a count. Never asks the pool
//! for what it can know by itself.

use super::sites::Delivery;
use super::*;
use std::collections::HashMap;

const NANOS: u64 = 1_000_000_000;
/// The budget's window in seconds, and what it grants at least.
const WINDOW: u64 = 10;
const MINIMUM: u64 = 10;

pub(super) struct Step<'a> {
    pub(super) pool: &'a Pool,
    pub(super) now: u64,
    pub(super) endings: &'a [Ending],
    pub(super) plans: &'a HashMap<usize, Plan>,
    /// What endpoints saw, in order.
    pub(super) log: &'a [Delivery],
    pub(super) up: &'a [bool],
    /// Connections that were closed as soon as they were there.
    pub(super) hung_up: u64,
}

pub(super) struct Judge {
    settings: Settings,
    endpoints: Vec<Known>,
    before: Counts,
    /// Of each step with requests: its second, its requests, the fewest and the most retries that
    /// can have been taken from the budget.
    spent: Vec<(u64, u64, u64, u64)>,
    /// Deliveries before this step.
    seen: usize,
    /// No ejection is known to end later.
    last_end: u64,
}

#[derive(Clone, Default)]
struct Known {
    unhealthy: bool,
    ejected_until: u64,
    ejections: u32,
    /// Failures in a row: the fewest and the most that there can have been.
    failures: (u32, u32),
    /// The most in this step, which a success may have ended.
    peak: u32,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    requests: u64,
    failures: u64,
    retries: u64,
    connect_failures: u64,
    ejections: u64,
    refused: u64,
}

impl Counts {
    fn of(pool: &Pool) -> Counts {
        let counters = pool.upstream().counters();
        Counts {
            requests: count(&counters.requests),
            failures: count(&counters.failures),
            retries: count(&counters.retries),
            connect_failures: count(&counters.connect_failures),
            ejections: count(&counters.ejections),
            refused: count(&counters.budget_exhausted),
        }
    }

    fn since(&self, before: &Counts) -> Counts {
        Counts {
            requests: self.requests - before.requests,
            failures: self.failures - before.failures,
            retries: self.retries - before.retries,
            connect_failures: self.connect_failures - before.connect_failures,
            ejections: self.ejections - before.ejections,
            refused: self.refused - before.refused,
        }
    }
}

fn breaks_off(act: Act) -> bool {
    matches!(act, Act::Cut | Act::Close)
}

impl Judge {
    pub(super) fn new(settings: &Settings) -> Judge {
        Judge {
            settings: settings.clone(),
            endpoints: vec![Known::default(); settings.endpoints.len()],
            before: Counts::default(),
            spent: Vec::new(),
            seen: 0,
            last_end: 0,
        }
    }

    pub(super) fn set_healthy(&mut self, index: usize, healthy: bool) {
        let known = &mut self.endpoints[index];
        known.unhealthy = !healthy;
        if healthy {
            (known.ejected_until, known.failures) = (0, (0, 0));
        }
    }

    /// Those that get something when all is well.
    pub(super) fn weighty(&self) -> impl Iterator<Item = usize> {
        (0..self.endpoints.len()).filter(|index| self.settings.endpoints[*index].weight > 0)
    }

    pub(super) fn last_ejection_ends(&self) -> u64 {
        self.last_end
    }

    /// Who is out, and nobody else, at any time.
    pub(super) fn look(&self, pool: &Pool, now: u64) {
        for (index, (status, known)) in pool.upstream().endpoints().zip(&self.endpoints).enumerate() {
            assert_eq!(
                status.ejected,
                known.ejected_until > now,
                "endpoint {index} at {now}: {}",
                known.ejected_until
            );
            assert_eq!((status.healthy, status.active), (!known.unhealthy, 0), "endpoint {index}");
        }
    }

    pub(super) fn step(&mut self, step: &Step<'_>) {
        let counts = Counts::of(step.pool);
        let news = counts.since(&self.before);
        self.before = counts;
        let out: Vec<_> = self.endpoints.iter().map(|known| known.ejected_until > step.now).collect();
        for ending in step.endings {
            self.judge_request(step, ending);
        }
        self.judge_budget(step, &news);
        self.count_failures(step, &news);
        self.judge_ejections(step, &news, &out);
        self.judge_choices(step, &out);
        self.look(step.pool, step.now);
        self.seen += step.log.len();
    }

    /// A request that can be replayed, and whose effect is the same once or twice.
    fn may_go_twice(plan: &Plan) -> bool {
        plan.method != Method::POST && !matches!(plan.payload, Payload::Stream(_))
    }

    fn is_retried(&self, act: Act) -> bool {
        matches!(act, Act::Answer(status, _) if self.settings.retry.statuses.contains(&status))
    }

    fn judge_request(&self, step: &Step<'_>, ending: &Ending) {
        let plan = &step.plans[&ending.number];
        let twice = Self::may_go_twice(plan);
        let seen: Vec<_> =
            (self.seen..).zip(step.log).filter(|(_, delivery)| delivery.request == ending.number).collect();
        let told = format!("{plan:?}\n{ending:?}\n{seen:?}");
        let retry = &self.settings.retry;
        assert!(ending.attempts <= 2 + retry.attempts && seen.len() <= ending.attempts as usize, "{told}");
        if let [before @ .., _] = &seen[..] {
            let stale = |delivery: &Delivery| delivery.used && breaks_off(delivery.act);
            assert!(before.is_empty() || twice, "went out twice: {told}");
            assert!(
                before.iter().all(|(_, seen)| stale(seen) || self.is_retried(seen.act)),
                "went on: {told}"
            );
            assert!(before.iter().filter(|(_, seen)| stale(seen)).count() <= 1, "died twice: {told}");
        }
        let last = seen.last().map(|(serial, delivery)| (*serial, **delivery));
        match (&ending.result, last) {
            (Ok(answer), Some((serial, Delivery { act: Act::Answer(status, shape), .. }))) => {
                assert_eq!((answer.status, answer.serial), (status, serial), "{told}");
                let whole = answer.body.as_ref().is_none_or(|body| {
                    body.as_ref().is_ok_and(|body| *body == text_of(ending.number, serial, shape))
                });
                assert!(whole, "another's body, or half of it: {told}");
            }
            (Ok(answer), Some((serial, Delivery { act: Act::Short, .. }))) => {
                assert_eq!((answer.status, answer.serial), (200, serial), "{told}");
                assert!(answer.body.as_ref().is_none_or(Result::is_err), "half passes for whole: {told}");
            }
            (Err(Failure::Protocol(_)), Some((_, Delivery { act: Act::Nonsense(_), .. }))) => {}
            // A connection that served before, and dies, costs such a request nothing.
            (Err(Failure::Reset(_)), Some((_, Delivery { act: Act::Cut | Act::Close, used, .. })))
                if step.hung_up > 0 || !used || !twice => {}
            (Err(Failure::Reset(_)), last) if step.hung_up > 0 => {
                assert!(last.is_none_or(|(_, seen)| self.is_retried(seen.act)), "{told}");
            }
            (Err(Failure::ConnectFailed(_)), last) if step.hung_up > 0 || step.up.contains(&false) => {
                let goes_on = |seen: Delivery| self.is_retried(seen.act) || breaks_off(seen.act) && seen.used;
                assert!(last.is_none_or(|(_, seen)| twice && goes_on(seen)), "{told}");
            }
            (Err(Failure::NoHealthyEndpoint), None) => {
                assert!(self.weighty().all(|index| self.endpoints[index].unhealthy), "{told}");
                assert_eq!(ending.attempts, 0, "{told}");
            }
            _ => panic!("ended otherwise than it went: {told}"),
        }
    }

    /// Whether a request ended with what would have been tried again, had the budget allowed it.
    fn gave_up(&self, step: &Step<'_>, ending: &Ending) -> bool {
        let retry = &self.settings.retry;
        let wanted = match &ending.result {
            Ok(answer) => {
                retry.statuses.contains(&answer.status) && Self::may_go_twice(&step.plans[&ending.number])
            }
            Err(Failure::ConnectFailed(_)) => retry.connect_failure,
            Err(_) => false,
        };
        wanted && ending.attempts <= retry.attempts
    }

    fn judge_budget(&mut self, step: &Step<'_>, news: &Counts) {
        let ended = |kind: fn(&Failure) -> bool| {
            step.endings.iter().filter(|ending| ending.result.as_ref().is_err_and(kind)).count() as u64
        };
        let requests = step.endings.len() as u64;
        assert_eq!((news.requests, news.failures), (requests, ended(|_| true)));
        let tries: u64 = step.endings.iter().map(|ending| u64::from(ending.attempts.saturating_sub(1))).sum();
        assert_eq!(news.retries, tries, "retries are second and later tries: {:?}", step.endings);
        let gave_up = step.endings.iter().filter(|ending| self.gave_up(step, ending)).count() as u64;
        assert_eq!(news.refused, gave_up, "{:?}", step.endings);

        // What was tried again for a status or for want of a connection was granted. The others found
        // a connection dead, which some endpoints saw and some did not.
        let statuses = step
            .log
            .iter()
            .filter(|seen| self.is_retried(seen.act) && Self::may_go_twice(&step.plans[&seen.request]));
        let kept = step.endings.iter().filter(|ending| {
            let returned = ending
                .result
                .as_ref()
                .is_ok_and(|answer| self.settings.retry.statuses.contains(&answer.status));
            returned && Self::may_go_twice(&step.plans[&ending.number])
        });
        let unsent = news.connect_failures
            + step.hung_up.saturating_sub(ended(|kind| matches!(kind, Failure::Reset(_))));
        let granted_least = (statuses.count() + unsent as usize)
            .saturating_sub(kept.count())
            .saturating_sub(ended(|kind| matches!(kind, Failure::ConnectFailed(_))) as usize)
            as u64;
        let stale = step.log.iter().enumerate().filter(|(index, seen)| {
            let again = step.log[index + 1..].iter().any(|later| later.request == seen.request);
            seen.used && breaks_off(seen.act) && again
        });
        let granted_most = news.retries.checked_sub(stale.count() as u64).expect("every retry is counted");
        assert!(
            granted_least <= granted_most,
            "retries that nobody counted: {:?}\n{:?}",
            step.endings,
            step.log
        );

        let second = step.now / NANOS;
        self.spent.push((
            second,
            if self.settings.retry.attempts > 0 { requests } else { 0 },
            granted_least,
            granted_most,
        ));
        let window = || self.spent.iter().filter(|(then, ..)| then + WINDOW > second);
        let allowed = |requests: u64| match u64::from(self.settings.retry.budget_percent) {
            0 => 0,
            percent => (requests * percent / 100).max(MINIMUM),
        };
        let all: u64 = window().map(|(_, requests, ..)| requests).sum();
        let least: u64 = window().map(|(.., least, _)| least).sum();
        let most: u64 = window().map(|(.., most)| most).sum();
        assert!(granted_least == 0 || least <= allowed(all), "{least} retries of {all} requests");
        // In a step of several requests, some came after the refusal.
        assert!(
            news.refused == 0 || most >= allowed(all + 1 - requests),
            "{most} retries of {all} requests, and no more"
        );
    }

    fn count_failures(&mut self, step: &Step<'_>, news: &Counts) {
        let down: Vec<_> = self.weighty().filter(|index| !step.up[*index]).collect();
        let unseen = u32::try_from(news.connect_failures + step.hung_up).expect("few");
        for (index, known) in self.endpoints.iter_mut().enumerate() {
            let refused = if step.hung_up > 0 || down.contains(&index) { unseen } else { 0 };
            known.failures.1 += refused;
            known.peak = known.failures.1;
            if step.hung_up == 0 && down == [index] && step.endings.len() == 1 {
                known.failures.0 += refused;
            }
            for seen in step.log.iter().filter(|seen| seen.site == index) {
                let (least, most) = known.failures;
                known.failures = match seen.act {
                    Act::Cut | Act::Close if seen.used => (least, most),
                    Act::Short => {
                        let read = step.endings.iter().any(|ending| {
                            ending.number == seen.request
                                && ending.result.as_ref().is_ok_and(|answer| answer.body.is_some())
                        });
                        (u32::from(read), 1)
                    }
                    Act::Answer(..) if !self.settings.retry.statuses.contains(&503) => (0, 0),
                    Act::Answer(200, _) => (0, 0),
                    Act::Cut | Act::Close | Act::Nonsense(_) | Act::Answer(..) => (least + 1, most + 1),
                };
                // Several at once are counted in another order than they were seen.
                if step.endings.len() > 1 || refused > 0 {
                    known.failures = (0, most + 1);
                }
                known.peak = known.peak.max(known.failures.1);
            }
        }
    }

    fn judge_ejections(&mut self, step: &Step<'_>, news: &Counts, out: &[bool]) {
        let statuses: Vec<_> = step.pool.upstream().endpoints().collect();
        let Some(ejection) = &self.settings.ejection else {
            assert!(news.ejections == 0 && statuses.iter().all(|status| !status.ejected));
            return;
        };
        let share = statuses.len() * ejection.max_percent as usize / 100;
        let allowed = if ejection.max_percent == 0 { 0 } else { share.max(1) };
        let now_out = statuses.iter().filter(|status| status.ejected).count();
        let fresh = statuses.iter().zip(out).filter(|(status, out)| status.ejected && !**out).count();
        assert_eq!(news.ejections, fresh as u64);
        assert!(fresh == 0 || now_out <= allowed, "{now_out} of {} are out", statuses.len());
        let period = u64::try_from(ejection.period.as_nanos()).expect("short");
        for ((status, known), out) in statuses.iter().zip(&mut self.endpoints).zip(out) {
            let (least, most) = known.failures;
            if status.ejected && !out {
                assert!(known.peak >= ejection.failures, "out after {} failures", known.peak);
                let quiet = step.now - known.ejected_until > period << known.ejections.min(10);
                let doublings = if quiet { 0 } else { known.ejections };
                known.ejected_until = step.now + (period << doublings.min(10));
                known.ejections = doublings + 1;
                self.last_end = self.last_end.max(known.ejected_until);
                // What a success ended in between was not of those that count now.
                let counted = if known.peak == most { ejection.failures } else { 0 };
                known.failures = (0, most.saturating_sub(counted));
            } else if least >= ejection.failures {
                assert!(
                    *out || now_out >= allowed,
                    "still in after {least} failures: {:?}\n{:?}",
                    step.endings,
                    step.log
                );
                known.failures = (0, most.saturating_sub(ejection.failures));
            } else if most >= ejection.failures {
                // The count may have begun anew.
                known.failures.0 = 0;
            }
        }
    }

    /// Nobody gets anything who is out while another is in. Within a step the clock stands still:
    /// whoever was out is, and whoever is in was.
    fn judge_choices(&self, step: &Step<'_>, out: &[bool]) {
        let usable = |index: &usize| {
            let known = &self.endpoints[*index];
            !known.unhealthy && known.ejected_until <= step.now
        };
        let somebody = self.weighty().any(|index| usable(&index));
        for seen in step.log {
            assert!(self.settings.endpoints[seen.site].weight > 0, "no weight: {seen:?}");
            assert!(!self.endpoints[seen.site].unhealthy, "unhealthy: {seen:?}");
            assert!(!(somebody && out[seen.site]), "ejected: {seen:?}");
        }
    }
}
