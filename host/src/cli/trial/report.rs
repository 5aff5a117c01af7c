//! What is told of a run: a line per case, the difference where there is one, JUnit XML on demand.
//!
//! `trial` calls it. Texts of policies are a stranger's: none reaches the terminal as a command.

use super::Outcome;
use crate::cli::plugin::printable;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Lines of context around a difference.
const CONTEXT_LINES: usize = 3;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Write what happened into the suites, as what is expected from now on
    #[arg(long)]
    pub update: bool,
    /// Show each hook: what it read, decided and called
    #[arg(short, long)]
    pub verbose: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Write a JUnit XML report as well
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// A run so far.
#[derive(Default)]
pub struct Summary {
    passed: usize,
    failed: usize,
    suites: Vec<Told>,
}

struct Told {
    path: PathBuf,
    cases: Vec<(String, Option<String>)>,
}

impl Summary {
    pub fn told(
        &mut self,
        path: &Path,
        outcomes: Vec<Outcome>,
        options: &Options,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut cases = Vec::new();
        for outcome in outcomes {
            if options.only.as_ref().is_some_and(|only| !outcome.name.contains(only.as_str())) {
                continue;
            }
            let passed = outcome.passed() || options.update;
            let word = match (passed, outcome.expected.is_null()) {
                (true, true) => "new ",
                (true, false) => "ok  ",
                (false, true) => "open",
                (false, false) => "FAIL",
            };
            writeln!(out, "{word} {}: {}", path.display(), printable(&outcome.name))?;
            let difference = (!passed).then(|| difference(&outcome));
            if options.verbose || !passed {
                for step in &outcome.steps {
                    writeln!(out, "       {}", printable(step).replace('\n', "\n       "))?;
                }
            }
            if let Some(difference) = &difference {
                writeln!(out, "{}", printable(difference))?;
            }
            match passed {
                true => self.passed += 1,
                false => self.failed += 1,
            }
            cases.push((outcome.name, difference));
        }
        self.suites.push(Told { path: path.to_path_buf(), cases });
        Ok(())
    }

    /// A suite that could not be run.
    pub fn broken(&mut self, path: &Path, why: String, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "FAIL {}", printable(&why))?;
        self.failed += 1;
        self.suites.push(Told { path: path.to_path_buf(), cases: vec![("suite".into(), Some(why))] });
        Ok(())
    }

    pub fn end(self, options: &Options, out: &mut dyn Write) -> io::Result<u8> {
        writeln!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if let Some(path) = &options.junit {
            let xml = junit(&self.suites)?;
            fs::write(path, xml).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        }
        Ok(u8::from(self.failed > 0))
    }
}

/// What is expected against what happened, line by line.
fn difference(outcome: &Outcome) -> String {
    if outcome.expected.is_null() {
        return format!(
            "       nothing is expected yet; --update writes what happened:\n{}",
            indented(&yaml(&outcome.seen))
        );
    }
    let (expected, seen) = (yaml(&outcome.expected), yaml(&outcome.seen));
    let diff = TextDiff::from_lines(&expected, &seen);
    let mut text = String::from("       - expected  + happened\n");
    for (at, group) in diff.grouped_ops(CONTEXT_LINES).iter().enumerate() {
        if at > 0 {
            text += "       …\n";
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            text += &format!("       {sign} {}\n", change.value().trim_end_matches('\n'));
        }
    }
    text.trim_end().to_string()
}

/// As YAML; what cannot be written so is written as JSON, which is YAML too.
pub(super) fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}\n"))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("         {line}\n")).collect::<String>().trim_end().to_string()
}

fn junit(suites: &[Told]) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    xml.write_event(Event::Start(BytesStart::new("testsuites")))?;
    for suite in suites {
        let failures = suite.cases.iter().filter(|(_, failure)| failure.is_some()).count();
        let name = suite.path.display().to_string();
        let mut start = BytesStart::new("testsuite");
        start.push_attribute(("name", &*name));
        start.push_attribute(("tests", &*suite.cases.len().to_string()));
        start.push_attribute(("failures", &*failures.to_string()));
        xml.write_event(Event::Start(start))?;
        for (case, failure) in &suite.cases {
            let mut start = BytesStart::new("testcase");
            start.push_attribute(("classname", &*name));
            start.push_attribute(("name", &*legal(case)));
            let Some(failure) = failure else {
                xml.write_event(Event::Empty(start))?;
                continue;
            };
            xml.write_event(Event::Start(start))?;
            let mut told = BytesStart::new("failure");
            told.push_attribute(("message", "came out otherwise than expected"));
            xml.write_event(Event::Start(told))?;
            xml.write_event(Event::Text(BytesText::new(&legal(failure))))?;
            xml.write_event(Event::End(BytesEnd::new("failure")))?;
            xml.write_event(Event::End(BytesEnd::new("testcase")))?;
        }
        xml.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuites")))?;
    let mut text = xml.into_inner();
    text.push(b'\n');
    Ok(text)
}

/// XML 1.0 has no way to write most control characters (section 2.2).
fn legal(text: &str) -> String {
    text.replace(|letter: char| letter.is_control() && letter != '\n' && letter != '\t', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(expected: Value, seen: Value) -> Outcome {
        Outcome { name: "a <case>".into(), expected, seen, steps: vec!["p on-request: \"proceed\"".into()] }
    }

    fn run(outcomes: Vec<Outcome>, options: &Options) -> (String, u8) {
        let mut out = Vec::new();
        let mut summary = Summary::default();
        summary.told(Path::new("s.yaml"), outcomes, options, &mut out).unwrap();
        let code = summary.end(options, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let differs = outcome(json!({ "answer": { "status": 401 } }), json!({ "answer": { "status": 200 } }));
        let (told, code) = run(vec![differs], &Options::default());
        assert_eq!(code, 1);
        for line in ["FAIL s.yaml: a <case>", "-   status: 401", "+   status: 200", "0 passed, 1 failed"] {
            assert!(told.contains(line), "{line}\n{told}");
        }
    }

    #[test]
    fn what_nobody_expects_is_open_until_it_is_updated() {
        let open = || outcome(Value::Null, json!({ "answer": { "status": 200 } }));
        let (told, code) = run(vec![open()], &Options::default());
        assert!(told.contains("--update") && code == 1, "{told}");
        let (told, code) = run(vec![open()], &Options { update: true, ..Options::default() });
        assert!(told.starts_with("new ") && code == 0, "{told}");
    }

    #[test]
    fn junit_is_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        let options = Options { junit: Some(path.clone()), ..Options::default() };
        run(vec![outcome(json!({ "log": ["a & b"] }), json!({ "log": ["\u{1b}"] }))], &options);
        let xml = fs::read_to_string(path).unwrap();
        assert!(xml.contains("name=\"a &lt;case&gt;\"") && xml.contains("failures=\"1\""), "{xml}");
        assert!(xml.contains("a &amp; b") && !xml.contains('\u{1b}'), "{xml}");
    }
}
