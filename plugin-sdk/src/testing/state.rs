//! What the host of a unit test holds, and how the policy's calls find it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::bindings::imports::witgate::policy::metrics::Kind;
use crate::consumers::{Consumer, Refusal};
use crate::http::{FetchError, FetchRequest, FetchResponse};
use crate::limit::{Outcome, Quota};
use crate::log::Level;
use crate::token::{Rules, TokenFault};
use crate::{BodyMode, Fallback};

/// When a quota that is used up begins anew, in seconds.
pub(crate) const QUOTA_RESETS: u32 = 60;

thread_local! {
    /// The host of the test that runs on this thread.
    static CURRENT: RefCell<Rc<RefCell<State>>> = RefCell::default();
}

/// Runs `use_it` with the host of this thread, for the time of one import.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    let state = CURRENT.with_borrow(Rc::clone);
    let mut state = state.borrow_mut();
    use_it(&mut state)
}

/// Makes `state` the host of this thread.
pub(crate) fn install(state: &Rc<RefCell<State>>) {
    CURRENT.set(Rc::clone(state));
}

/// The host of this thread; a new one where nobody holds it any more, because with
/// `--test-threads=1` one thread runs many tests.
pub(crate) fn current() -> Rc<RefCell<State>> {
    let state = CURRENT.with_borrow(Rc::clone);
    if Rc::strong_count(&state) > 2 {
        return state;
    }
    let fresh = Rc::default();
    install(&fresh);
    fresh
}

/// What a policy said of itself in `configure`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announced {
    pub request_reads: Vec<String>,
    pub response_reads: Vec<String>,
    pub log_reads: Vec<String>,
    pub writes: Vec<String>,
    pub request_body: Option<(BodyMode, u32)>,
    pub response_body: Option<(BodyMode, u32)>,
    pub on_error: Option<Fallback>,
    pub tick_millis: Option<u32>,
}

/// A metric of the policy under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: String,
    pub labels: Vec<(String, String)>,
    /// The sum of a counter, the last value of a gauge or histogram.
    pub value: f64,
    pub observations: Vec<f64>,
    kind: Kind,
}

pub(crate) struct State {
    pub(crate) plan: Announced,
    pub(crate) now_millis: u64,
    random: u64,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) headers_granted: bool,
    buckets: HashMap<(String, String), (Vec<u8>, Option<u64>)>,
    limiters: Vec<(String, Quota)>,
    /// The theoretical arrival time (GCRA) of a limiter's key, in nanoseconds.
    arrivals: HashMap<(usize, String), u64>,
    pub(crate) rules: Vec<Rules>,
    pub(crate) tokens: HashMap<String, Result<String, TokenFault>>,
    pub(crate) consumer_keys: HashMap<String, Result<Consumer, Refusal>>,
    pub(crate) consumer_names: HashMap<String, Result<Consumer, Refusal>>,
    /// How the last look-up of a consumer ended.
    pub(crate) quota_exceeded: bool,
    pub(crate) secrets: HashMap<String, Vec<u8>>,
    pub(crate) passwords: HashMap<String, String>,
    pub(crate) answers: HashMap<(String, String), Result<FetchResponse, FetchError>>,
    pub(crate) fetches: Vec<FetchRequest>,
    pub(crate) configuring: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            plan: Announced::default(),
            // 2026-01-01T00:00:00Z: tests are alike on every day.
            now_millis: 1_767_225_600_000,
            random: 0x9E37_79B9_7F4A_7C15,
            logs: Vec::new(),
            metrics: Vec::new(),
            headers: Vec::new(),
            headers_granted: false,
            buckets: HashMap::new(),
            limiters: Vec::new(),
            arrivals: HashMap::new(),
            rules: Vec::new(),
            tokens: HashMap::new(),
            consumer_keys: HashMap::new(),
            consumer_names: HashMap::new(),
            quota_exceeded: false,
            secrets: HashMap::new(),
            passwords: HashMap::new(),
            answers: HashMap::new(),
            fetches: Vec::new(),
            configuring: false,
        }
    }
}

impl State {
    /// A look-up of a consumer has ended.
    pub(crate) fn identified(
        &mut self,
        found: Option<Result<Consumer, Refusal>>,
    ) -> Result<Consumer, Refusal> {
        let found = found.unwrap_or(Err(Refusal::Unknown));
        self.quota_exceeded = matches!(found, Err(Refusal::QuotaExceeded));
        found
    }

    /// Handles are made in `configure` only, there as here.
    pub(crate) fn must_be_configuring(&self, what: &str) {
        assert!(self.configuring, "{what} can be made in `configure` only");
    }

    /// xorshift64: chance that repeats itself.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    pub(crate) fn define_metric(
        &mut self,
        kind: Kind,
        name: &str,
        labels: &[(String, String)],
    ) -> Result<u32, String> {
        self.must_be_configuring("a metric");
        let same = |metric: &Metric| metric.name == name && metric.labels == labels;
        if let Some(index) = self.metrics.iter().position(same) {
            let known = self.metrics[index].kind;
            return if known == kind { Ok(index as u32) } else { Err(format!("`{name}` has another kind")) };
        }
        let labels = labels.to_vec();
        self.metrics.push(Metric { name: name.into(), labels, value: 0.0, observations: Vec::new(), kind });
        Ok(self.metrics.len() as u32 - 1)
    }

    pub(crate) fn metric(&mut self, index: u32) -> &mut Metric {
        &mut self.metrics[index as usize]
    }

    pub(crate) fn bucket_get(&mut self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let (value, expiry) = self.buckets.get(&(bucket.into(), key.into()))?;
        expiry.is_none_or(|expiry| self.now_millis < expiry).then(|| value.clone())
    }

    pub(crate) fn bucket_set(&mut self, bucket: &str, key: &str, value: &[u8], ttl_millis: u32) {
        let expiry = (ttl_millis > 0).then(|| self.now_millis + u64::from(ttl_millis));
        self.buckets.insert((bucket.into(), key.into()), (value.to_vec(), expiry));
    }

    pub(crate) fn bucket_remove(&mut self, bucket: &str, key: &str) {
        self.buckets.remove(&(bucket.into(), key.into()));
    }

    pub(crate) fn limiter(&mut self, name: &str, quota: Quota) -> Result<usize, String> {
        self.must_be_configuring("a limiter");
        if quota.count == 0 || quota.period_millis == 0 {
            return Err("a quota must allow something in some time".into());
        }
        let known = self.limiters.iter().position(|(known, other)| known == name && *other == quota);
        Ok(known.unwrap_or_else(|| {
            self.limiters.push((name.into(), quota));
            self.limiters.len() - 1
        }))
    }

    pub(crate) fn check_limit(&mut self, limiter: usize, key: &str, cost: u32) -> Outcome {
        let quota = self.limiters[limiter].1;
        let burst = if quota.burst == 0 { quota.count } else { quota.burst };
        let interval = u64::from(quota.period_millis) * 1_000_000 / u64::from(quota.count);
        let (now, room) = (self.now_millis * 1_000_000, interval * u64::from(burst));
        let arrival = self.arrivals.entry((limiter, key.into())).or_insert(now);
        let filled = (*arrival).max(now) + interval * u64::from(cost) - now;
        let millis = |nanos: u64| nanos.div_ceil(1_000_000) as u32;
        if filled <= room {
            *arrival = now + filled;
            let remaining = ((room - filled) / interval) as u32;
            Outcome { allowed: true, remaining, retry_after_millis: 0, reset_millis: millis(filled) }
        } else {
            let held = arrival.saturating_sub(now);
            Outcome {
                allowed: false,
                remaining: 0,
                retry_after_millis: millis(filled - room),
                reset_millis: millis(held),
            }
        }
    }
}
