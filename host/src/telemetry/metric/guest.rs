//! Metrics that policies define for themselves, through the WIT interface `metrics`.
//!
//! `plugin` defines them while a policy configures itself and adds to them from its hooks. Never
//! lets a guest touch the gateway's own names, nor make more series than the bounds allow.

use super::cell::{Amount, Count, Observed, Sharded, Writers};
use std::array;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Series of one policy; with its labels fixed at `define`, a policy that needs more counts users.
const SERIES_PER_POLICY_MAX: usize = 1_000;
/// Series of all policies together: some 10 MiB with two workers.
const SERIES_MAX: usize = 20_000;
const LABELS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 128;

/// Before a policy's own name in all that is exposed for it.
pub(super) const PREFIX: &str = "witgate_policy_";

/// Upper bounds of a guest's histogram, whatever its unit: 1, 2.5 and 5 in each decade.
const BOUNDS: [f64; 22] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0,
    500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestKind {
    Counter,
    Gauge,
    Histogram,
}

impl GuestKind {
    const fn label(self) -> &'static str {
        match self {
            GuestKind::Counter => "counter",
            GuestKind::Gauge => "gauge",
            GuestKind::Histogram => "histogram",
        }
    }

    /// What the exposition writes for a family of this kind; a name that one family writes is
    /// closed to all others, or the text would be invalid.
    const fn suffixes(self) -> &'static [&'static str] {
        match self {
            GuestKind::Counter => &["", "_total"],
            GuestKind::Gauge => &[""],
            GuestKind::Histogram => &["", "_bucket", "_sum", "_count"],
        }
    }
}

/// One series of a policy's own. Adding neither locks nor allocates.
#[derive(Debug)]
pub struct GuestMetric(Cells);

#[derive(Debug)]
enum Cells {
    Counter(Sharded<Amount>),
    /// One cell: what was set last holds for all workers.
    Gauge(Amount),
    Histogram(Sharded<GuestBuckets>),
}

#[derive(Debug)]
struct GuestBuckets {
    counts: [Count; BOUNDS.len()],
    over: Count,
    sum: Amount,
}

impl Default for GuestBuckets {
    fn default() -> GuestBuckets {
        GuestBuckets {
            counts: array::from_fn(|_| Count::default()),
            over: Count::default(),
            sum: Amount::default(),
        }
    }
}

impl GuestMetric {
    fn new(kind: GuestKind, workers: usize) -> GuestMetric {
        GuestMetric(match kind {
            GuestKind::Counter => Cells::Counter(Sharded::new(workers)),
            GuestKind::Gauge => Cells::Gauge(Amount::default()),
            GuestKind::Histogram => Cells::Histogram(Sharded::new(workers)),
        })
    }

    /// Adds to a counter (nothing below zero) or a gauge; to a histogram, observes. A number that
    /// is none is ignored: one would spoil the sum for good.
    pub fn add(&self, delta: f64) {
        match &self.0 {
            _ if !delta.is_finite() => {}
            Cells::Counter(_) if delta < 0.0 => {}
            Cells::Counter(shards) => {
                let (cell, writers) = shards.mine();
                cell.add(delta, writers);
            }
            Cells::Gauge(cell) => cell.add(delta, Writers::Many),
            Cells::Histogram(_) => self.observe(delta),
        }
    }

    /// Observes a value in a histogram or sets a gauge; to a counter, adds.
    pub fn observe(&self, value: f64) {
        match &self.0 {
            _ if !value.is_finite() => {}
            Cells::Counter(_) => self.add(value),
            Cells::Gauge(cell) => cell.set(value),
            Cells::Histogram(shards) => {
                let (cells, writers) = shards.mine();
                let index = BOUNDS.iter().filter(|bound| value > **bound).count();
                cells.counts.get(index).unwrap_or(&cells.over).add(1, writers);
                cells.sum.add(value, writers);
            }
        }
    }

    fn value(&self) -> f64 {
        match &self.0 {
            Cells::Counter(shards) => shards.iter().map(Amount::get).sum(),
            Cells::Gauge(cell) => cell.get(),
            Cells::Histogram(_) => 0.0,
        }
    }

    fn observed(&self) -> Observed {
        let Cells::Histogram(shards) = &self.0 else {
            return Observed { sum: 0.0, count: 0, buckets: Vec::new() };
        };
        let total = |pick: &dyn Fn(&GuestBuckets) -> u64| shards.iter().map(pick).sum::<u64>();
        let mut buckets: Vec<_> = BOUNDS
            .iter()
            .enumerate()
            .map(|(index, bound)| (*bound, total(&|cells| cells.counts[index].get())))
            .collect();
        buckets.push((f64::INFINITY, total(&|cells| cells.over.get())));
        let count = buckets.iter().map(|(_, count)| count).sum();
        Observed { sum: shards.iter().map(|cells| cells.sum.get()).sum(), count, buckets }
    }
}

/// The labels of a series, `policy` first.
pub(super) type Labels = Vec<(String, String)>;

/// A family at a scrape; `name` without `PREFIX`.
pub(super) enum Family {
    Counter { name: String, series: Vec<(Labels, f64)> },
    Gauge { name: String, series: Vec<(Labels, f64)> },
    Histogram { name: String, series: Vec<(Labels, Observed)> },
}

/// All series of all policies.
#[derive(Debug)]
pub(super) struct Guests {
    workers: usize,
    /// By family, then labels; a `BTreeMap` so that the exposition has an order.
    families: BTreeMap<String, (GuestKind, BTreeMap<Labels, Arc<GuestMetric>>)>,
    /// Names that the exposition writes, each with the family that owns it; none: the gateway's.
    claims: HashMap<String, Option<String>>,
}

impl Guests {
    /// `reserved`: names, without `PREFIX`, that are the gateway's own.
    pub(super) fn new(workers: usize, reserved: &[(GuestKind, &str)]) -> Guests {
        let mut guests = Guests { workers, families: BTreeMap::new(), claims: HashMap::new() };
        for (kind, name) in reserved {
            guests.claim(*kind, name, None);
        }
        guests
    }

    pub(super) fn define(
        &mut self,
        policy: &str,
        kind: GuestKind,
        name: &str,
        labels: &[(String, String)],
    ) -> Result<Arc<GuestMetric>, String> {
        // The suffix is the exposition's to add.
        let name =
            if kind == GuestKind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        check_name(name)?;
        let labels = check_labels(policy, labels)?;
        match self.families.get(name) {
            Some((held, _)) if *held != kind => {
                return Err(format!("metric `{name}` is already a {}, not a {}", held.label(), kind.label()));
            }
            Some((_, series)) => {
                if let Some(metric) = series.get(&labels) {
                    return Ok(metric.clone());
                }
            }
            None => self.check_free(kind, name)?,
        }
        self.make_room(policy)?;
        if !self.families.contains_key(name) {
            self.claim(kind, name, Some(name));
        }
        let metric = Arc::new(GuestMetric::new(kind, self.workers));
        let (_, series) = self.families.entry(name.to_owned()).or_insert_with(|| (kind, BTreeMap::new()));
        series.insert(labels, metric.clone());
        Ok(metric)
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let families = self.families.iter().map(|(name, (kind, series))| {
            let name = name.clone();
            let values = || series.iter().map(|(labels, metric)| (labels.clone(), metric.value())).collect();
            match kind {
                GuestKind::Counter => Family::Counter { name, series: values() },
                GuestKind::Gauge => Family::Gauge { name, series: values() },
                GuestKind::Histogram => {
                    let series = series.iter().map(|(labels, metric)| (labels.clone(), metric.observed()));
                    Family::Histogram { name, series: series.collect() }
                }
            }
        });
        families.collect()
    }

    fn check_free(&self, kind: GuestKind, name: &str) -> Result<(), String> {
        for suffix in kind.suffixes() {
            if let Some(owner) = self.claims.get(&format!("{name}{suffix}")) {
                let owner = owner.as_deref().unwrap_or("the gateway itself");
                return Err(format!(
                    "metric `{name}` would write `{name}{suffix}`, which is taken by {owner}"
                ));
            }
        }
        Ok(())
    }

    fn claim(&mut self, kind: GuestKind, name: &str, owner: Option<&str>) {
        for suffix in kind.suffixes() {
            self.claims.insert(format!("{name}{suffix}"), owner.map(str::to_owned));
        }
    }

    /// Series that no instance holds any more make room, and only when it is needed: a counter
    /// should outlive a reload.
    fn make_room(&mut self, policy: &str) -> Result<(), String> {
        if self.has_room(policy) {
            return Ok(());
        }
        for (_, series) in self.families.values_mut() {
            series.retain(|_, metric| Arc::strong_count(metric) > 1);
        }
        let families = &mut self.families;
        families.retain(|_, (_, series)| !series.is_empty());
        self.claims.retain(|_, owner| owner.as_ref().is_none_or(|owner| families.contains_key(owner)));
        if self.has_room(policy) {
            return Ok(());
        }
        Err(format!(
            "too many metrics: a policy may have {SERIES_PER_POLICY_MAX} series, all policies {SERIES_MAX}"
        ))
    }

    fn has_room(&self, policy: &str) -> bool {
        let all = self.families.values().flat_map(|(_, series)| series.keys());
        let (mut own, mut count) = (0, 0);
        for labels in all {
            count += 1;
            own += usize::from(labels.first().is_some_and(|(_, value)| value == policy));
        }
        own < SERIES_PER_POLICY_MAX && count < SERIES_MAX
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if is_name(name) {
        Ok(())
    } else {
        Err(format!(
            "{name:.80?} is no name for a metric: a letter or `_`, then letters, digits and `_`, at most {NAME_BYTES_MAX}"
        ))
    }
}

/// Checks and sorts, so that the order in which a guest names its labels makes no difference.
fn check_labels(policy: &str, labels: &[(String, String)]) -> Result<Labels, String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("{} labels; a metric may have {LABELS_MAX}", labels.len()));
    }
    let mut checked = labels.to_vec();
    checked.sort_unstable();
    for (name, value) in &checked {
        if !is_name(name) || name.starts_with("__") || matches!(name.as_str(), "policy" | "le" | "quantile") {
            return Err(format!("{name:.80?} is no name for a label, or a reserved one"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("the value of label `{name}` is longer than {VALUE_BYTES_MAX} bytes"));
        }
    }
    if let Some(pair) = checked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("label `{}` is there twice", pair[0].0));
    }
    checked.insert(0, ("policy".to_owned(), policy.to_owned()));
    Ok(checked)
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|first| plain(first) && !first.is_ascii_digit())
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests() -> Guests {
        Guests::new(1, &[(GuestKind::Counter, "calls"), (GuestKind::Histogram, "call_duration_seconds")])
    }

    fn label(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_same_definition_gives_the_same_cells() {
        let mut guests = guests();
        let (a, b) = (label("a", "1"), label("b", "2"));
        let first = guests.define("p", GuestKind::Counter, "hits_total", &[a.clone(), b.clone()]).unwrap();
        let second = guests.define("p", GuestKind::Counter, "hits", &[b, a]).unwrap();
        let other = guests.define("q", GuestKind::Counter, "hits", &[]).unwrap();
        first.add(1.5);
        second.observe(2.0);
        other.add(1.0);
        assert!((first.value() - 3.5).abs() < f64::EPSILON);
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn bad_definitions_are_refused_and_say_why() {
        let mut guests = guests();
        let mut check = |kind, name: &str, labels: &[(String, String)], expected: &str| {
            let told = guests.define("p", kind, name, labels).unwrap_err();
            assert!(told.contains(expected), "{told}");
        };
        let long = "x".repeat(65);
        for name in ["", "1x", "a-b", "a b", "a\n", "é", "a:b", long.as_str()] {
            check(GuestKind::Counter, name, &[], "is no name for a metric");
        }
        for name in ["", "policy", "le", "__x", "a b", "\""] {
            check(GuestKind::Gauge, "x", &[label(name, "")], "is no name for a label");
        }
        check(GuestKind::Gauge, "x", &[label("a", "1"), label("a", "2")], "twice");
        check(GuestKind::Gauge, "x", &[label("a", &"v".repeat(129))], "longer");
        check(GuestKind::Gauge, "x", &vec![label("a", ""); 9], "9 labels");
    }

    #[test]
    fn no_two_families_write_one_name() {
        let mut guests = guests();
        guests.define("p", GuestKind::Histogram, "size", &[]).unwrap();
        guests.define("p", GuestKind::Counter, "hits", &[]).unwrap();
        let mut check = |kind, name| guests.define("q", kind, name, &[]).map(|_| ()).unwrap_err();
        assert!(check(GuestKind::Counter, "size").contains("already a histogram"));
        assert!(check(GuestKind::Gauge, "size_count").contains("taken by size"));
        assert!(check(GuestKind::Gauge, "hits_total").contains("taken by hits"));
        assert!(check(GuestKind::Counter, "calls").contains("the gateway"));
        assert!(check(GuestKind::Gauge, "call_duration_seconds_sum").contains("the gateway"));
        assert!(check(GuestKind::Counter, "_total").contains("no name"));
    }

    #[test]
    fn series_are_bounded_and_unheld_ones_make_room() {
        let mut guests = guests();
        let mut held = Vec::new();
        for n in 0..SERIES_PER_POLICY_MAX {
            held.push(guests.define("p", GuestKind::Counter, "x", &[label("n", &n.to_string())]).unwrap());
        }
        assert!(guests.define("p", GuestKind::Counter, "y", &[]).unwrap_err().contains("too many"));
        guests.define("q", GuestKind::Counter, "y", &[]).unwrap();
        held.pop();
        guests.define("p", GuestKind::Counter, "y", &[]).unwrap();
        drop(held);
        for n in 0..SERIES_PER_POLICY_MAX {
            guests.define("p", GuestKind::Counter, "z", &[label("n", &n.to_string())]).unwrap();
        }
        // The last holder of `x` is gone, so its name is free for another kind.
        guests.define("p", GuestKind::Gauge, "x", &[]).unwrap();
        assert!(guests.define("p", GuestKind::Gauge, "calls", &[]).is_err());
    }

    #[test]
    fn what_is_no_number_or_falls_is_ignored() {
        let mut guests = guests();
        let counter = guests.define("p", GuestKind::Counter, "c", &[]).unwrap();
        let gauge = guests.define("p", GuestKind::Gauge, "g", &[]).unwrap();
        let histogram = guests.define("p", GuestKind::Histogram, "h", &[]).unwrap();
        for metric in [&counter, &gauge, &histogram] {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                metric.add(value);
                metric.observe(value);
            }
        }
        counter.add(-1.0);
        gauge.observe(4.0);
        gauge.add(-1.5);
        histogram.observe(3.0);
        histogram.add(-3.0);
        histogram.observe(1e9);
        let observed = histogram.observed();
        assert_eq!((counter.value(), gauge.value(), observed.count), (0.0, 2.5, 3));
        assert_eq!((observed.buckets[0].1, observed.buckets[11].1, observed.buckets[22].1), (1, 1, 1));
    }
}
