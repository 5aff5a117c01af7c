//! The policy's own metrics. Define them in `configure`; a hook passes numbers only.

use crate::bindings::imports::witgate::policy::metrics::Kind;
use crate::host::metrics;

/// Only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

/// Goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

/// How values spread.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Counter {
    /// Labels are fixed here: a series is a counter of its own.
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, String> {
        define(Kind::Counter, name, labels).map(Counter)
    }

    pub fn increment(self) {
        self.add(1.0);
    }

    pub fn add(self, delta: f64) {
        metrics::add(self.0, delta);
    }
}

impl Gauge {
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, String> {
        define(Kind::Gauge, name, labels).map(Gauge)
    }

    pub fn add(self, delta: f64) {
        metrics::add(self.0, delta);
    }

    pub fn set(self, value: f64) {
        metrics::observe(self.0, value);
    }
}

impl Histogram {
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, String> {
        define(Kind::Histogram, name, labels).map(Histogram)
    }

    pub fn observe(self, value: f64) {
        metrics::observe(self.0, value);
    }
}

fn define(kind: Kind, name: &str, labels: &[(&str, &str)]) -> Result<u32, String> {
    let labels: Vec<(String, String)> =
        labels.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
    metrics::define(kind, name, &labels)
}
