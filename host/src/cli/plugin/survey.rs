//! What a component is and wants, found out as the gateway would: loaded, and configured once.
//!
//! `build` and `inspect` call it, `describe` prints it. Whatever the guest asks for in `configure`
//! is granted as far as that harms nobody: state is this process's own, secrets are made up, and
//! nothing is ever fetched. Files are read only where the configuration names them.

use super::misfit;
use crate::chain::step::StepPlan;
use crate::clock::Clock;
use crate::plugin::artifact::{Artifacts, ContentHash};
use crate::plugin::engine::{Lines, Runtime};
use crate::plugin::load::{self, Origin};
use crate::plugin::plan::Ask;
use crate::plugin::policy::{Grants, SecretBytes, Services};
use crate::plugin::schema::Schema;
use crate::plugin::{Plugin, Policy, Settings};
use crate::state::{BucketLimits, Buckets, Limiters};
use crate::telemetry::metric::Metrics;
use crate::telemetry::trace::{self, Format};
use crate::token::{Fetch, Fetching, Passwords, Verifiers};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// More than any operator grants without thinking; what is used of it is told.
const MEMORY_BYTES: usize = 256 << 20;
/// Per hook; `configure` may take fifty times as long.
const TIME: Duration = Duration::from_millis(100);
/// A guest that gives up at its first refusal asks for one thing more each time. As many as it
/// may hold handles of a kind.
const ROUNDS_MAX: usize = 64;
/// Violations of the schema that are told.
const VIOLATIONS_MAX: usize = 20;
const LIMITER_KEYS_MAX: usize = 1024;
/// As long as the longest HMAC key must be.
const SECRET_BYTES: usize = 64;

/// A component, not looked into yet.
pub struct Found {
    /// As configurations would name it.
    pub name: String,
    pub origin: Origin,
    pub bytes: Vec<u8>,
}

/// A component that fits the gateway.
pub struct Survey {
    pub plugin: Arc<Plugin>,
    pub outcome: Outcome,
}

/// What came of configuring it.
pub enum Outcome {
    /// No configuration was given, and the schema does not take an empty one.
    Unasked,
    /// The schema, the guest or the gateway refuses this configuration. `given`: it was asked for,
    /// and not just tried.
    Refused {
        given: bool,
        why: Vec<String>,
    },
    Planned(Box<Planned>),
}

pub struct Planned {
    pub config: Value,
    pub policy: Policy,
    pub asks: BTreeSet<Ask>,
    /// Linear memory in use after `configure`.
    pub memory_bytes: usize,
}

/// What loading and configuring take, without a gateway.
pub struct Bench {
    control: tokio::runtime::Runtime,
    runtime: Runtime,
    artifacts: Artifacts,
    services: Arc<Services>,
}

impl Bench {
    /// # Errors
    /// What could not be opened, as a sentence.
    pub fn open() -> Result<Bench, String> {
        // What a policy logs while it is configured, its panics above all, is worth seeing.
        trace::init(Format::Text)?;
        let control = crate::cli::control()?;
        let (runtime, artifacts) = Artifacts::with_engine(None, Lines::Told)?;
        let clock = Clock::system();
        let services = Services {
            buckets: Buckets::new(clock.clone(), BucketLimits::default()),
            limiters: Limiters::new(clock.clone(), LIMITER_KEYS_MAX),
            verifiers: Verifiers::new(clock.clone(), Arc::new(NoFetch), control.handle().clone()),
            passwords: Passwords::default(),
            metrics: Arc::new(Metrics::new(1, &clock)),
            clock,
        };
        Ok(Bench { control, runtime, artifacts, services: Arc::new(services) })
    }

    /// Loads `found`, and configures it with `config`, or with `{}` if its schema takes that.
    ///
    /// # Errors
    /// Why the gateway would refuse the component, naming what is missing or mismatched.
    pub fn survey(&self, found: &Found, config: Option<Value>) -> Result<Survey, String> {
        let Found { name, origin, bytes } = found;
        let plugin =
            Plugin::load(name, origin.clone(), bytes, &self.artifacts, &self.runtime, &self.services)
                .map_err(|why| self.refusal(found, &why))?;
        let plugin = Arc::new(plugin);
        let given = config.is_some();
        let config = config.unwrap_or_else(|| json!({}));
        let violations = violations(plugin.schema(), &config);
        let outcome = match (violations.is_empty(), given) {
            (false, true) => Outcome::Refused { given, why: violations },
            (false, false) => Outcome::Unasked,
            (true, _) => match self.configured(&plugin, config) {
                Ok(planned) => Outcome::Planned(Box::new(planned)),
                Err(why) => Outcome::Refused { given, why: vec![why] },
            },
        };
        Ok(Survey { plugin, outcome })
    }

    /// Makes sure that a component compiles, and so is valid.
    ///
    /// # Errors
    /// Why it does not.
    pub fn compiled(&self, found: &Found) -> Result<(), String> {
        load::component(&found.bytes, &self.artifacts, &self.runtime).map(drop)
    }

    /// Why the gateway would refuse a component, and all that is foreign in it.
    fn refusal(&self, found: &Found, why: &str) -> String {
        let mut told = match &found.origin {
            Origin::Bundled => format!("plugin `{}` {why}", found.name),
            Origin::File(path) => format!("plugin `{}` ({}) {why}", found.name, path.display()),
        };
        // Of what does not compile nobody knows how deep it nests: it is not looked into in this process.
        if self.artifacts.has(&self.runtime, ContentHash::of(&found.bytes)) {
            for line in misfit::tell(&found.bytes) {
                told += "\n  ";
                told += &line;
            }
        }
        told
    }

    fn configured(&self, plugin: &Arc<Plugin>, config: Value) -> Result<Planned, String> {
        let mut settings = Settings {
            label: plugin.name().into(),
            config: config.to_string().into(),
            memory_bytes: MEMORY_BYTES,
            time: TIME,
            instances: 1,
            on_error: None,
            fresh: false,
            grants: Grants { files: named(&config), base: PathBuf::from("."), ..Grants::default() },
        };
        let mut asks = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let asked = Policy::asks(plugin, &settings, &self.services)?;
            let known = asks.len();
            for ask in asked {
                grant(&ask, &mut settings.grants);
                asks.insert(ask);
            }
            if asks.len() == known {
                break;
            }
        }
        let policy = Policy::configure(plugin.clone(), settings, self.services.clone())?;
        StepPlan::of(&policy)
            .map_err(|why| format!("plugin `{}` made a plan that is not allowed: {why}", plugin.name()))?;
        let instance = self.control.block_on(policy.instance());
        let memory_bytes =
            instance.map_err(|failure| format!("plugin `{}` {failure}", plugin.name()))?.memory_bytes();
        Ok(Planned { config, policy, asks, memory_bytes })
    }
}

fn grant(ask: &Ask, grants: &mut Grants) {
    match ask {
        Ask::Bucket(name) => drop(grants.buckets.insert(name.clone())),
        Ask::Url(url) => drop(grants.urls.insert(url.clone())),
        Ask::Secret(name) => drop(grants.secrets.insert(name.clone(), SecretBytes([0; SECRET_BYTES].into()))),
        // Those that the configuration names are granted already; a stranger's component reads no
        // others.
        Ask::File(_) => {}
    }
}

/// What a configuration names as a whole value, which counts as the operator's grant.
pub fn named(config: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![config];
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => drop(names.insert(text.clone())),
            Value::Array(values) => open.extend(values),
            Value::Object(fields) => open.extend(fields.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    names
}

fn violations(schema: &Schema, config: &Value) -> Vec<String> {
    let told = |violation: jsonschema::ValidationError<'_>| match violation.instance_path().to_string() {
        path if path.is_empty() => violation.to_string(),
        path => format!("{path}: {violation}"),
    };
    match schema.violations(config) {
        Ok(violations) => violations.take(VIOLATIONS_MAX).map(told).collect(),
        Err(why) => vec![why],
    }
}

/// A survey asks nobody: whatever is to be fetched never arrives.
struct NoFetch;

impl Fetch for NoFetch {
    fn get<'a>(&'a self, _url: &'a str) -> Fetching<'a> {
        Box::pin(std::future::pending())
    }
}
