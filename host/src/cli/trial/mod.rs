//! Tries policies without a gateway: cases in YAML, each an exchange through a chain, and what came
//! of it.
//!
//! `plugin test` and `witgate test` call it. A case is compiled and run by the rooms that serve
//! requests (`compile`, `router`, `chain`, `plugin`), under a clock that stands still and chance
//! that repeats itself. Upstreams are what the case says; nothing here opens a socket.

mod capture;
pub mod case;
mod exchange;
mod report;
mod stage;
mod update;
mod words;

pub use report::{Options, Summary};

use case::{Case, Suite};
use serde_json::Value;
use stage::{Gateway, Stage};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the configuration of a suite's cases comes from.
pub enum Subject<'a> {
    /// One plugin at `path`, in a chain of its own.
    Plugin { path: &'a Path },
    /// The gateway's configuration at `path`.
    Config { path: &'a Path },
}

/// What came of one case.
pub struct Outcome {
    pub name: String,
    /// What is written under `expect`.
    pub expected: Value,
    /// What happened, as far as it was expected; all of it where nothing was.
    pub seen: Value,
    /// Each hook that was called, for people.
    pub steps: Vec<String>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.expected == self.seen
    }
}

/// The suites at `paths`: files, or folders whose `.yaml` files are meant.
///
/// # Errors
/// Which path holds none.
pub fn suites(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut suites = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut found: Vec<_> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
                .collect();
            found.sort();
            if found.is_empty() {
                return Err(format!("{} holds no .yaml file", path.display()));
            }
            suites.append(&mut found);
        } else {
            suites.push(path.clone());
        }
    }
    Ok(suites)
}

/// Runs all cases of the suites at `paths` and tells of them to `out`. Returns the exit code: 1 if
/// a case came out otherwise than expected, or could not be run.
pub fn run(
    subject: &Subject<'_>,
    paths: &[PathBuf],
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let mut summary = Summary::default();
    let stage = match Stage::open() {
        Ok(stage) => stage,
        Err(why) => {
            super::complain(&why);
            return Ok(1);
        }
    };
    for path in paths {
        match run_suite(&stage, subject, path, options) {
            Ok(outcomes) => {
                if options.update {
                    match update::write(path, &outcomes) {
                        Ok(0) => {}
                        Ok(changed) => writeln!(out, "{}: {changed} cases updated", path.display())?,
                        Err(why) => summary.broken(path, why, out)?,
                    }
                }
                summary.told(path, outcomes, options, out)?;
            }
            Err(why) => summary.broken(path, why, out)?,
        }
    }
    summary.end(options, out)
}

fn run_suite(
    stage: &Stage,
    subject: &Subject<'_>,
    path: &Path,
    options: &Options,
) -> Result<Vec<Outcome>, String> {
    let suite = Suite::read(path)?;
    let mut outcomes = Vec::new();
    let mut running: Option<Gateway> = None;
    for case in &suite.cases {
        if options.only.as_ref().is_some_and(|only| !case.name.value.contains(only.as_str())) {
            // What another case goes on from has to happen all the same.
            let continued = suite.cases.iter().any(|case| case.goes_on);
            if !continued {
                continue;
            }
        }
        let gateway = match running.take().filter(|_| case.goes_on) {
            Some(gateway) => gateway,
            None => Gateway::start(stage, subject, &suite, case, path)?,
        };
        let (seen, steps) = gateway.play(case, matches!(subject, Subject::Plugin { .. }))?;
        running = Some(gateway);
        outcomes.push(outcome(case, seen, steps));
    }
    Ok(outcomes)
}

fn outcome(case: &Case, seen: Value, steps: Vec<String>) -> Outcome {
    let expected = case.expect.clone().unwrap_or(Value::Null);
    let refused = seen.get("refused").cloned();
    let mut seen = if expected.is_null() { seen } else { within(&expected, seen) };
    // What never ran proves nothing, whatever of it is looked at.
    if let (Value::Object(seen), Some(why)) = (&mut seen, refused) {
        seen.insert("refused".into(), why);
    }
    Outcome { name: case.name.value.clone(), expected, seen, steps }
}

/// What of `seen` is spoken of in `expected`: a key that is not written is not looked at.
fn within(expected: &Value, seen: Value) -> Value {
    match (expected, seen) {
        (Value::Object(expected), Value::Object(mut seen)) => expected
            .iter()
            .map(|(key, expected)| {
                let seen = seen.remove(key).unwrap_or(Value::Null);
                (key.clone(), within(expected, seen))
            })
            .collect(),
        // What each step of a chain did; what is said of one more or less is a difference.
        (Value::Array(expected), Value::Array(seen)) if expected.len() == seen.len() => {
            expected.iter().zip(seen).map(|(expected, seen)| within(expected, seen)).collect()
        }
        (_, seen) => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_expected_is_looked_at() {
        let seen = json!({ "answer": { "status": 401, "body": "no" }, "log": ["a"] });
        let check = |expected: Value| within(&expected, seen.clone()) == expected;
        assert!(check(json!({ "answer": { "status": 401 } })));
        assert!(check(json!({ "log": ["a"] })));
        assert!(check(json!({ "sent": null })));
        assert!(!check(json!({ "answer": { "status": 200 } })));
        assert!(!check(json!({ "log": [] })));
        assert!(!check(json!({ "answer": { "status": 401, "more": 1 } })));
    }

    #[test]
    fn a_folder_means_its_yaml_files() {
        let folder = tempfile::tempdir().unwrap();
        assert!(suites(&[folder.path().to_path_buf()]).unwrap_err().contains("holds no .yaml"));
        for name in ["b.yaml", "a.yaml", "c.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = suites(&[folder.path().to_path_buf()]).unwrap();
        assert_eq!(found, [folder.path().join("a.yaml"), folder.path().join("b.yaml")]);
    }
}
