//! `--update`: puts what happened into the suite's own text, and leaves the rest as it was written.
//!
//! `trial` calls it. A case's lines are found by where its name stands; only its `expect` changes.

use super::Outcome;
use super::case::Suite;
use super::report::yaml;
use std::fs;
use std::path::Path;

/// Rewrites the suite at `path`; returns how many cases changed.
///
/// # Errors
/// Why it cannot be: the suite is then as it was.
pub fn write(path: &Path, outcomes: &[Outcome]) -> Result<usize, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let suite = Suite::read(path)?;
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let mut changed = 0;
    // From the last to the first, so that the places of those before stay what they are.
    for (at, case) in suite.cases.iter().enumerate().rev() {
        let Some(outcome) = outcomes.iter().find(|outcome| outcome.name == case.name.value) else { continue };
        if outcome.passed() {
            continue;
        }
        let line = usize::try_from(case.name.defined.line()).unwrap_or(0).saturating_sub(1);
        let next = suite.cases.get(at + 1).and_then(|next| usize::try_from(next.name.defined.line()).ok());
        replace(&mut lines, line, next.map_or(usize::MAX, |next| next.saturating_sub(1)), outcome).ok_or_else(
            || {
                format!(
                    "{}: case `{}` is not written as a block that begins with `- name:`, so it cannot be updated",
                    path.display(),
                    case.name.value
                )
            },
        )?;
        changed += 1;
    }
    if changed > 0 {
        let text = lines.join("\n") + "\n";
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(changed)
}

/// Replaces the `expect` of the case whose name stands at `start`, or adds one; the next case's
/// name stands at `end`.
fn replace(lines: &mut Vec<String>, start: usize, end: usize, outcome: &Outcome) -> Option<()> {
    let first = lines.get(start)?;
    let dash = first.len() - first.trim_start().len();
    if !first.trim_start().starts_with("- name:") {
        return None;
    }
    let indent = dash + 2;
    let end = end.min(lines.len());
    let mut expect = None;
    let mut last = start;
    for (at, line) in lines.iter().enumerate().take(end).skip(start + 1) {
        let depth = line.len() - line.trim_start().len();
        if line.trim().is_empty() || line.trim_start().starts_with('#') && depth < indent {
            continue;
        }
        if depth < indent {
            break;
        }
        last = at;
        if depth == indent && line.trim_start().starts_with("expect:") {
            expect = Some(at);
        }
    }
    let range = match expect {
        None => last + 1..last + 1,
        Some(at) => {
            let inside = |line: &&String| line.len() - line.trim_start().len() > indent;
            let length = lines[at + 1..=last.max(at)].iter().take_while(inside).count();
            at..at + 1 + length
        }
    };
    let margin = " ".repeat(indent);
    let mut block = vec![format!("{margin}expect:")];
    block.extend(yaml(&outcome.seen).lines().map(|line| format!("{margin}  {line}").trim_end().to_string()));
    lines.splice(range, block);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn update(text: &str, outcomes: &[(&str, Value)]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, text).unwrap();
        let outcomes: Vec<Outcome> = outcomes
            .iter()
            .map(|(name, seen)| Outcome {
                name: name.to_string(),
                expected: Value::Null,
                seen: seen.clone(),
                steps: vec![],
            })
            .collect();
        write(&path, &outcomes)?;
        Ok(fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn only_the_expectation_changes() {
        let text = "# Ours.\ncases:\n  - name: one   # first\n    expect:\n      log:\n        - old\n    \
                    request: { path: /a }\n\n  # The other.\n  - name: two\n    request: { path: /b }\n";
        let updated =
            update(text, &[("one", json!({ "log": ["new"] })), ("two", json!({ "log": [] }))]).unwrap();
        assert!(updated.starts_with("# Ours.\ncases:\n  - name: one   # first\n    expect:\n      log:\n"));
        assert!(updated.contains("- new") && !updated.contains("old"), "{updated}");
        assert!(
            updated.contains("\n    request: { path: /a }\n\n  # The other.\n  - name: two"),
            "{updated}"
        );
        assert!(updated.contains("request: { path: /b }\n    expect:\n      log: []"), "{updated}");
        assert_eq!(update(&updated, &[]).unwrap(), updated);
    }

    #[test]
    fn a_case_in_a_line_is_left_alone() {
        let why = update("cases: [{ name: one }]", &[("one", json!({}))]).unwrap_err();
        assert!(why.contains("cannot be updated"), "{why}");
    }
}
