//! Policies of a configuration: checked against their plugin's schema, configured, given slots.
//!
//! A policy whose plugin, configuration, limits and grants are what they were is taken over with
//! its instances, counters and quarantine.

use super::{Catalogue, Workshop, grants, refuse};
use crate::chain::Writes;
use crate::chain::step::{Step, StepPlan};
use crate::config::model::{At, Config, Isolation, OnError, Policy as Written};
use crate::config::{Diagnostic, Report};
use crate::plugin::engine::MEMORY_BYTES_MAX;
use crate::plugin::instance::told;
use crate::plugin::plan::OnError as Fallback;
use crate::plugin::{Plugin, Policy, Settings};
use crate::snapshot::Snapshot;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const MEMORY_BYTES: u64 = 16 << 20;
const TIME: Duration = Duration::from_millis(10);
/// A policy that calls out keeps an instance for as long as the slowest upstream takes.
const INSTANCES: u32 = 64;
const INSTANCES_ON_FIBERS: u32 = 512;
/// Mistakes of one policy's configuration that are listed.
const VIOLATIONS_MAX: usize = 20;

pub struct Policies<'a> {
    workshop: &'a Workshop,
    config: &'a Config,
    base: PathBuf,
    running: HashMap<Arc<str>, Vec<Arc<Policy>>>,
    slots: Vec<Arc<Policy>>,
    plans: Vec<Arc<StepPlan>>,
    /// Slots of named policies, by index in the configuration; `Err`: it was refused.
    named: HashMap<usize, Result<usize, ()>>,
    labels: HashSet<String>,
}

impl<'a> Policies<'a> {
    pub fn new(workshop: &'a Workshop, config: &'a Config, base: PathBuf, before: Option<&Snapshot>) -> Self {
        let mut running: HashMap<Arc<str>, Vec<Arc<Policy>>> = HashMap::new();
        for policy in before.iter().flat_map(|snapshot| &snapshot.policies) {
            running.entry(policy.label().clone()).or_default().push(policy.clone());
        }
        let labels = config.policies.iter().filter_map(|policy| policy.name.clone()).collect();
        Policies {
            workshop,
            config,
            base,
            running,
            slots: vec![],
            plans: vec![],
            named: HashMap::new(),
            labels,
        }
    }

    /// A step for a named policy; `None` if it was refused.
    pub fn named(&mut self, index: usize, catalogue: &mut Catalogue, report: &mut Report) -> Option<Step> {
        let slot = match self.named.get(&index) {
            Some(known) => *known,
            None => {
                let written = self.config.policies.get(index)?;
                let label = written.name.clone().unwrap_or_else(|| written.plugin.clone());
                let slot = self.make(written, label, catalogue, report).ok_or(());
                self.named.insert(index, slot);
                slot
            }
        };
        slot.ok().map(|slot| self.step(slot))
    }

    /// A step for a policy in its place. `place` names the API (and operation) for its label.
    pub fn in_place(
        &mut self,
        written: &Written,
        place: &str,
        catalogue: &mut Catalogue,
        report: &mut Report,
    ) -> Option<Step> {
        let label = self.label(&format!("{place}/{}", written.plugin));
        self.make(written, label, catalogue, report).map(|slot| self.step(slot))
    }

    /// Configures the named policies that stand in no chain.
    pub fn rest(&mut self, catalogue: &mut Catalogue, report: &mut Report) {
        for index in 0..self.config.policies.len() {
            self.named(index, catalogue, report);
        }
    }

    pub fn into_slots(self) -> Vec<Arc<Policy>> {
        self.slots
    }

    fn step(&self, slot: usize) -> Step {
        Step { policy: self.slots[slot].clone(), slot, plan: self.plans[slot].clone() }
    }

    /// A label that nothing else in this configuration has: counters and metrics go by it.
    fn label(&mut self, wanted: &str) -> String {
        let mut label = wanted.to_string();
        let mut number = 1;
        while !self.labels.insert(label.clone()) {
            number += 1;
            label = format!("{wanted}#{number}");
        }
        label
    }

    fn make(
        &mut self,
        written: &Written,
        label: String,
        catalogue: &mut Catalogue,
        report: &mut Report,
    ) -> Option<usize> {
        let plugin = match catalogue.get(&written.plugin, self.workshop) {
            Ok(plugin) => plugin,
            Err(why) => {
                let names = catalogue.names();
                let mistake = Diagnostic::error(&written.at, why);
                report.push(match names.contains(&written.plugin) {
                    true => mistake,
                    false => mistake.with_declared(&written.plugin, names.iter().map(String::as_str)),
                });
                return None;
            }
        };
        if !fits_schema(written, &plugin, report) {
            return None;
        }
        let settings = self.settings(written, &plugin, label.into(), report)?;
        let before = self.running.get(&settings.label).map_or(&[][..], Vec::as_slice);
        if let Some(same) = before.iter().find(|p| p.plugin.hash() == plugin.hash() && p.settings == settings)
        {
            let same = same.clone();
            return self.keep(same, &written.at, report);
        }
        // An upgrade of a plugin under an unchanged configuration must not widen what the policy
        // may do without the operator's word.
        let replaced =
            before.iter().find(|p| p.settings == settings && p.plugin.name() == plugin.name()).cloned();
        match Policy::configure(plugin, settings, self.workshop.services.clone()) {
            Ok(policy) => {
                if let Some(replaced) = replaced
                    && policy.settings.grants.writes.is_none()
                    && let [beyond, ..] = Writes::beyond(&policy.plan.writes, &replaced.plan.writes)[..]
                {
                    let why = format!(
                        "the new plugin `{}` wants to write `{beyond}`, which the one it replaces did not; \
                         `allow: {{ writes: […] }}` grants it",
                        policy.plugin.name()
                    );
                    refuse(report, &written.at, why);
                    return None;
                }
                self.keep(Arc::new(policy), &written.at, report)
            }
            Err(why) => {
                refuse(report, &written.config_at, why);
                None
            }
        }
    }

    fn keep(&mut self, policy: Arc<Policy>, at: &At, report: &mut Report) -> Option<usize> {
        match StepPlan::of(&policy) {
            Ok(plan) => {
                self.slots.push(policy);
                self.plans.push(Arc::new(plan));
                Some(self.slots.len() - 1)
            }
            Err(why) => {
                refuse(
                    report,
                    at,
                    format!(
                        "plugin `{}` made a plan that is not allowed: {}",
                        policy.plugin.name(),
                        told(&why)
                    ),
                );
                None
            }
        }
    }

    fn settings(
        &self,
        written: &Written,
        plugin: &Plugin,
        label: Arc<str>,
        report: &mut Report,
    ) -> Option<Settings> {
        let defaults = &self.config.plugins.limits;
        let memory = written.limits.memory.or(defaults.memory).unwrap_or(MEMORY_BYTES);
        if memory > MEMORY_BYTES_MAX as u64 {
            refuse(
                report,
                &written.at,
                format!("a memory limit of {memory} bytes; at most {MEMORY_BYTES_MAX} are allowed"),
            );
            return None;
        }
        let instances = if plugin.needs_fiber() { INSTANCES_ON_FIBERS } else { INSTANCES };
        Some(Settings {
            label,
            config: written.config.to_string().into(),
            memory_bytes: memory as usize,
            time: written.limits.time.or(defaults.time).unwrap_or(TIME),
            instances: written.limits.instances.or(defaults.instances).unwrap_or(instances).max(1),
            on_error: written.on_error.map(|on_error| match on_error {
                OnError::Deny => Fallback::Deny,
                OnError::Skip => Fallback::Skip,
            }),
            fresh: written.isolation == Isolation::Request,
            grants: grants::of(written, self.config, &self.base),
        })
    }
}

/// Checks a policy's configuration against its plugin's schema, each violation at its own place.
fn fits_schema(written: &Written, plugin: &Plugin, report: &mut Report) -> bool {
    let violations = match plugin.schema().violations(&written.config) {
        Ok(violations) => violations,
        Err(why) => {
            refuse(report, &written.config_at, format!("plugin `{}`: {why}", plugin.name()));
            return false;
        }
    };
    let mut fits = true;
    for violation in violations.take(VIOLATIONS_MAX) {
        fits = false;
        let pointer = violation.instance_path().to_string();
        let at = written.config_positions.position_of(&pointer).unwrap_or_else(|| written.config_at.clone());
        refuse(report, &at, format!("plugin `{}`: {}", plugin.name(), violation.masked()));
    }
    fits
}
