//! `metrics`: series of a policy's own, shared by all its instances and bounded by the registry.

use super::{ONLY_IN_CONFIGURE, keep, room, short};
use crate::plugin::bindings::witgate::policy::metrics::{Host, Kind};
use crate::plugin::guest::Guest;
use crate::telemetry::metric::GuestKind;

impl Host for Guest {
    fn define(&mut self, kind: Kind, name: String, labels: Vec<(String, String)>) -> Result<u32, String> {
        called!("metrics.define({name})");
        if self.plan.is_none() {
            return Err(ONLY_IN_CONFIGURE.into());
        }
        short(&name)?;
        room(&self.metrics)?;
        let kind = match kind {
            Kind::Counter => GuestKind::Counter,
            Kind::Gauge => GuestKind::Gauge,
            Kind::Histogram => GuestKind::Histogram,
        };
        let metric = self.services.metrics.guest(&self.about.label, kind, &name, &labels)?;
        keep(&mut self.metrics, metric)
    }
    fn add(&mut self, metric: u32, delta: f64) {
        called!("metrics.add({metric}, {delta})");
        if let Some(metric) = self.metrics.get(metric as usize) {
            metric.add(delta);
        }
    }
    fn observe(&mut self, metric: u32, value: f64) {
        called!("metrics.observe({metric}, {value})");
        if let Some(metric) = self.metrics.get(metric as usize) {
            metric.observe(value);
        }
    }
}
