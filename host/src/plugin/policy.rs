//! A policy: a plugin with its configuration, its plan and what the operator grants it.
//!
//! Made by `compile` at each reload (or taken over when nothing of it changed), shared by all
//! workers; each worker's `Pool` makes its instances. Never changes after it is made, but for its
//! quarantine.

use super::facts::Facts;
use super::failure::Failure;
use super::guest::Guest;
use super::instance::Instance;
use super::load::Plugin;
use super::plan::{Ask, OnError, Plan};
use super::quarantine::Quarantine;
use crate::clock::Clock;
use crate::state::{Buckets, Limiters};
use crate::telemetry::metric::{Metrics, PolicyMetrics};
use crate::token::{Passwords, Verifiers};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the host's own machinery offers to guests; one for the whole process.
pub struct Services {
    pub clock: Clock,
    pub buckets: Buckets,
    pub limiters: Limiters,
    pub verifiers: Verifiers,
    pub passwords: Passwords,
    pub metrics: Arc<Metrics>,
}

/// Everything that makes one policy differ from another. Equal settings on an equal plugin make
/// the same policy, which a reload takes over with its instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// In metrics, logs and the shared names of its limiters.
    pub label: Arc<str>,
    /// JSON text.
    pub config: Arc<str>,
    pub memory_bytes: usize,
    /// Per hook call.
    pub time: Duration,
    /// Instances per worker.
    pub instances: u32,
    pub on_error: Option<OnError>,
    /// A fresh instance for each request.
    pub fresh: bool,
    pub grants: Grants,
}

/// What the operator grants, by `allow` or by naming it in the policy's own configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    pub upstreams: BTreeSet<String>,
    pub buckets: BTreeSet<String>,
    pub urls: BTreeSet<String>,
    pub files: BTreeSet<String>,
    /// Granted secrets with their values.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// Caps what the plan may declare as written; `None`: the plan is the cap.
    pub writes: Option<BTreeSet<String>>,
    /// Relative paths in a policy's configuration are relative to this.
    pub base: std::path::PathBuf,
}

/// A secret's value, which no log shows.
#[derive(Clone, PartialEq)]
pub struct SecretBytes(pub Arc<[u8]>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What an instance knows of its own policy.
pub struct About {
    pub label: Arc<str>,
    pub grants: Grants,
}

pub struct Policy {
    pub about: Arc<About>,
    pub plugin: Arc<Plugin>,
    pub settings: Settings,
    pub plan: Plan,
    pub on_error: OnError,
    pub metrics: Arc<PolicyMetrics>,
    pub services: Arc<Services>,
    pub quarantine: Quarantine,
    /// Differs from every other policy of this process.
    pub id: u64,
    /// Set by its first time-out: from then on it runs on fibers that yield at every tick, so that
    /// its endless loops cost others no more than a tick at a time.
    suspect: AtomicBool,
}

impl Policy {
    /// Configures the plugin in an instance of its own and takes down its plan. Blocks for as long
    /// as the guest's `configure` takes, which is bounded.
    ///
    /// # Errors
    /// What the guest, or the runtime, has against this configuration.
    pub fn configure(
        plugin: Arc<Plugin>,
        settings: Settings,
        services: Arc<Services>,
    ) -> Result<Policy, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let about = Arc::new(About { label: settings.label.clone(), grants: settings.grants.clone() });
        let metrics = services.metrics.policy(&settings.label);
        let mut policy = Policy {
            about,
            plugin,
            settings,
            plan: Plan::default(),
            on_error: OnError::Deny,
            metrics,
            services,
            quarantine: Quarantine::default(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            suspect: AtomicBool::new(false),
        };
        let (_, plan) = block_on(policy.instance_with_plan())?.map_err(|failure| match failure {
            Failure::Error(text) => format!("plugin `{}` says: {text}", policy.plugin.name()),
            failure => format!("plugin `{}` {failure}", policy.plugin.name()),
        })?;
        if let Some(fault) = plan.faults.first() {
            return Err(format!(
                "plugin `{}` made a plan that is not allowed: {fault}",
                policy.plugin.name()
            ));
        }
        policy.on_error = policy.settings.on_error.or(plan.on_error).unwrap_or(OnError::Deny);
        policy.plan = plan;
        Ok(policy)
    }

    /// What `configure` asks the host for, whether `settings` grant it or not, and however it ends.
    /// Blocks as `configure` does.
    ///
    /// # Errors
    /// Why there is no instance to ask.
    pub fn asks(
        plugin: &Plugin,
        settings: &Settings,
        services: &Arc<Services>,
    ) -> Result<BTreeSet<Ask>, String> {
        let about = Arc::new(About { label: settings.label.clone(), grants: settings.grants.clone() });
        let guest = Guest::new(about, services.clone(), settings.memory_bytes);
        block_on(async {
            let mut instance = Instance::new(plugin, guest, plugin.needs_fiber(), settings.time).await?;
            // How it ends is for `configure` to tell.
            let _ = instance.configure(&settings.config).await;
            Ok(instance.asks().clone())
        })?
        .map_err(|failure: Failure| format!("plugin `{}` {failure}", plugin.name()))
    }

    pub fn label(&self) -> &Arc<str> {
        &self.about.label
    }

    /// A new instance, configured.
    pub async fn instance(&self) -> Result<Instance, Failure> {
        let (instance, plan) = self.instance_with_plan().await.map_err(|failure| match failure {
            // No answer to a request: what a request could not have caused counts against the policy.
            Failure::Error(text) => Failure::Instance(format!("its `configure` says: {text}")),
            failure => failure,
        })?;
        // A guest whose plan changes from instance to instance would read what was never checked.
        if plan != self.plan {
            return Err(Failure::Instance("its plan is another than at first".into()));
        }
        Ok(instance)
    }

    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    async fn instance_with_plan(&self) -> Result<(Instance, Plan), Failure> {
        let guest = Guest::new(self.about.clone(), self.services.clone(), self.settings.memory_bytes);
        let fiber = self.plugin.needs_fiber() || self.suspect.load(Ordering::Relaxed);
        let mut instance = Instance::new(&self.plugin, guest, fiber, self.settings.time).await?;
        let plan = instance.configure(&self.settings.config).await?;
        Ok((instance, plan))
    }

    /// Whether hooks of this policy need to be lent the exchange's facts.
    pub fn wants_facts(&self) -> bool {
        self.plugin.wants_facts()
    }

    pub fn is_quarantined(&self) -> bool {
        self.quarantine.is_out(self.services.clock.monotonic_nanos())
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("label", &self.about.label).field("plan", &self.plan).finish()
    }
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("api", &self.api).finish_non_exhaustive()
    }
}

/// Runs guest code to its end on the calling thread, which must not be a worker's.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| format!("no runtime to configure in: {error}"))?;
    Ok(runtime.block_on(future))
}
