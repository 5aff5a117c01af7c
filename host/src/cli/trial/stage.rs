//! What the cases of a run share, and the gateway of one case: compiled, but not listening.
//!
//! `trial` makes one stage per run and a gateway per case that starts afresh; `exchange` takes a
//! request through it.

use super::Subject;
use super::capture::Capture;
use super::case::{Case, Fetched, Suite};
use super::exchange::{Exchange, Played};
use super::words;
use crate::clock::Clock;
use crate::compile::{Compiled, Workshop, compile};
use crate::config::{self, Loaded, Report, units};
use crate::plugin::artifact::Artifacts;
use crate::plugin::engine::{Lines, Runtime};
use crate::plugin::policy::Services;
use crate::state::{BucketLimits, Buckets, Counters, Limiters};
use crate::telemetry::metric::Metrics;
use crate::token::{Fetch, Fetching, Passwords, Verifiers};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const CLOCK: &str = "2026-01-01T00:00:00Z";
const SEED: u64 = 1;
const LIMITER_KEYS_MAX: usize = 10_000;
/// A hook's time, unless the configuration has its own: a machine that tests is seldom idle.
const TIME: &str = "5s";
/// What the API's own upstream is called where the suite is of a plugin.
const UPSTREAM: &str = "upstream";

pub struct Stage {
    runtime: Runtime,
    artifacts: Artifacts,
    /// Keys are fetched there, and a case's own tasks run on the calling thread.
    control: tokio::runtime::Runtime,
}

impl Stage {
    /// # Errors
    /// What could not be opened, as a sentence.
    pub fn open() -> Result<Stage, String> {
        let (runtime, artifacts) = Artifacts::with_engine(None, Lines::Told)?;
        let control = crate::cli::control()?;
        Ok(Stage { runtime, artifacts, control })
    }
}

/// The gateway of a case, and of those that go on from it.
pub struct Gateway {
    workshop: Workshop,
    capture: Capture,
    /// `Err`: why the configuration was refused.
    compiled: Result<Compiled, String>,
    listeners: Vec<String>,
    fetches: BTreeMap<String, Vec<Fetched>>,
}

impl Gateway {
    /// # Errors
    /// What is wrong with the case itself.
    pub fn start(
        stage: &Stage,
        subject: &Subject<'_>,
        suite: &Suite,
        case: &Case,
        suite_path: &Path,
    ) -> Result<Gateway, String> {
        let wrong = |why: String| format!("{}: case `{}`: {why}", suite_path.display(), case.name.value);
        let clock = case.clock.as_deref().or(suite.clock.as_deref()).unwrap_or(CLOCK);
        let unix: jiff::Timestamp = clock.parse().map_err(|error| wrong(format!("clock: {error}")))?;
        let unix = Duration::try_from(unix.as_duration())
            .map_err(|_| wrong(format!("clock: {clock} is before 1970")))?;
        let clock = Clock::seeded(unix, case.seed.or(suite.seed).unwrap_or(SEED));
        let metrics = Arc::new(Metrics::new(1, &clock));
        let keys = suite.urls.iter().map(|(url, answer)| (url.clone(), plain(answer))).collect();
        let services = Services {
            buckets: Buckets::new(clock.clone(), BucketLimits::default()),
            limiters: Limiters::new(clock.clone(), LIMITER_KEYS_MAX),
            verifiers: Verifiers::new(clock.clone(), Arc::new(Canned(keys)), stage.control.handle().clone()),
            passwords: Passwords::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let counters = Counters::open(None, clock.clone()).map_err(|error| error.to_string())?;
        let workshop = Workshop {
            runtime: stage.runtime.clone(),
            artifacts: stage.artifacts.clone(),
            services: Arc::new(services),
            counters: Arc::new(counters),
            metrics,
            clock,
        };
        let mut fetches = suite.fetches.clone();
        fetches.extend(case.fetches.clone());
        let loaded = match subject {
            Subject::Config { path } => config::load(path),
            Subject::Plugin { path } => {
                let config = around(path, suite, case, &fetches).map_err(wrong)?;
                config::load_text(suite_path, config.to_string())
            }
        };
        let capture = Capture::default();
        let mut listeners = Vec::new();
        let compiled = capture.during(|| match loaded {
            Ok(loaded) => {
                listeners.extend(loaded.config.listeners.iter().map(|listener| listener.name.to_string()));
                compiled(&workshop, loaded)
            }
            Err(report) => Err(report),
        });
        let compiled = match (compiled, subject) {
            (Ok(compiled), _) => Ok(compiled),
            (Err(report), Subject::Plugin { .. }) => Err(said(&report)),
            // The configuration has a file of its own, whose lines are worth seeing.
            (Err(report), Subject::Config { .. }) => return Err(report.render("")),
        };
        Ok(Gateway { workshop, capture, compiled, listeners, fetches })
    }

    /// What came of the case, and each hook in words.
    ///
    /// # Errors
    /// What is wrong with the case itself.
    pub fn play(&self, case: &Case, one_policy: bool) -> Result<(Value, Vec<String>), String> {
        let wrong = |why: String| format!("case `{}`: {why}", case.name.value);
        if let Some(after) = &case.after {
            let after =
                units::duration(after).map_err(|_| wrong(format!("after: {after:?} is not a duration")))?;
            self.workshop.clock.advance(after);
        }
        let configured = self.capture.take();
        let compiled = match &self.compiled {
            Ok(compiled) => compiled,
            Err(why) => {
                return Ok((
                    json!({ "refused": why, "log": configured.log }),
                    vec![format!("refused: {why}")],
                ));
            }
        };
        let services = &self.workshop.services;
        for (name, entries) in &case.state {
            let bucket = services.buckets.open(name).map_err(wrong)?;
            for (key, value) in entries {
                bucket.set(key, value.as_bytes(), None);
            }
        }
        let exchange = Exchange {
            snapshot: &compiled.snapshot,
            clock: &self.workshop.clock,
            capture: &self.capture,
            listeners: &self.listeners,
            fetches: &self.fetches,
        };
        let local = tokio::task::LocalSet::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let played =
            self.capture.during(|| runtime.block_on(local.run_until(exchange.play(case)))).map_err(wrong)?;
        let mut steps = played.words();
        if !configured.calls.is_empty() {
            steps.insert(0, format!("configure\n  calls {}", configured.calls.join(", ")));
        }
        let mut seen = self.seen(played, one_policy);
        if let Some(Value::Array(log)) = seen.get_mut("log") {
            let after = std::mem::take(log);
            log.extend(configured.log.into_iter().map(Value::from).chain(after));
        }
        Ok((Value::Object(seen), steps))
    }

    fn seen(&self, played: Played, one_policy: bool) -> Map<String, Value> {
        let mut seen = Map::new();
        let lines = |of: fn(&super::exchange::Step) -> &Vec<String>| -> Value {
            played.steps.iter().flat_map(|step| of(step).iter().cloned()).collect()
        };
        let (log, calls) = (lines(|step| &step.heard.log), lines(|step| &step.heard.calls));
        if one_policy {
            for step in &played.steps {
                seen.insert(step.hook.into(), step.verdict.clone());
            }
            seen.insert("calls".into(), calls);
        } else {
            seen.insert("operation".into(), played.operation.into());
            let steps = played.steps.iter().map(|step| {
                json!({
                    "policy": step.policy, "hook": step.hook, "reads": step.reads,
                    "verdict": step.verdict, "calls": step.heard.calls,
                })
            });
            seen.insert("steps".into(), steps.collect());
        }
        seen.insert("log".into(), log);
        seen.insert("sent".into(), played.sent);
        seen.insert("answer".into(), played.answer);
        seen.insert("state".into(), self.state());
        seen
    }

    /// What is in all buckets that a policy may open.
    fn state(&self) -> Value {
        let Ok(compiled) = &self.compiled else { return Value::Null };
        let names: BTreeSet<&String> =
            compiled.snapshot.policies.iter().flat_map(|policy| &policy.settings.grants.buckets).collect();
        let mut state = Map::new();
        for name in names {
            let Ok(bucket) = self.workshop.services.buckets.open(name) else { continue };
            let entries: Map<String, Value> =
                bucket.entries().into_iter().map(|(key, value)| (key, words::text(&value).into())).collect();
            if !entries.is_empty() {
                state.insert(name.clone(), entries.into());
            }
        }
        state.into()
    }
}

fn compiled(workshop: &Workshop, loaded: Loaded) -> Result<Compiled, Report> {
    let mut config = loaded.config.clone();
    // What a running gateway has open is left alone.
    config.state.file = None;
    let report = loaded.report();
    compile(workshop, &config, loaded.folder, report, None)
}

/// The mistakes in words, without their places in a configuration that nobody wrote.
fn said(report: &Report) -> String {
    let told = report.to_json();
    let messages = told.as_array().into_iter().flatten().filter(|said| said["severity"] != "warning");
    messages.filter_map(|said| said["message"].as_str()).collect::<Vec<_>>().join("\n")
}

/// The configuration of a gateway that has this one policy, as JSON, which is YAML.
fn around(
    plugin: &Path,
    suite: &Suite,
    case: &Case,
    fetches: &BTreeMap<String, Vec<Fetched>>,
) -> Result<Value, String> {
    let name = plugin.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = plugin.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder: PathBuf = std::fs::canonicalize(folder.unwrap_or(Path::new(".")))
        .map_err(|error| format!("{}: {error}", plugin.display()))?;
    let mut link = json!({ "plugin": name });
    if let Some(config) = case.config.as_ref().or(suite.config.as_ref()) {
        link["config"] = config.clone();
    }
    if let Some(allow) = &suite.allow {
        link["allow"] = allow.clone();
    }
    let mut api = json!({ "name": "api", "path": "/", "upstream": UPSTREAM, "chain": [link] });
    if let Some(template) = &suite.template {
        api["operations"] = json!([{ "name": "operation", "path": template }]);
    }
    // Never connected to.
    let endpoint = json!({ "endpoints": ["http://127.0.0.1:9"] });
    let upstreams: Map<String, Value> = std::iter::once(UPSTREAM)
        .chain(fetches.keys().map(String::as_str))
        .map(|name| (name.to_string(), endpoint.clone()))
        .collect();
    let mut config = json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0" }],
        "plugins": { "directory": folder, "limits": { "time": TIME } },
        "upstreams": upstreams,
        "apis": [api],
    });
    for (key, value) in &suite.gateway {
        config[key] = value.clone();
    }
    Ok(config)
}

fn plain(answer: &Value) -> Bytes {
    match answer {
        Value::String(text) => text.clone().into(),
        value => value.to_string().into(),
    }
}

/// What URLs answer.
struct Canned(BTreeMap<String, Bytes>);

impl Fetch for Canned {
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        let answer = self.0.get(url).cloned();
        Box::pin(async move { answer.ok_or_else(|| format!("the suite has no answer for {url}")) })
    }
}
