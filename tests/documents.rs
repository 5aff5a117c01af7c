//! Holds what the documents say to what the code does: rooms, limits, defaults, failures, the keys
//! of policies, and every configuration that a reader could copy.
//!
//! Reads tables of Markdown by the heading above them. A ```` ```yaml ```` block whose first line is
//! `# witgate.yaml` is a complete configuration. `tidy.rs` does the same for sources.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use witgate::telemetry::reason::{Fault, Reason};

/// What every complete configuration begins with.
const COMPLETE: &str = "# witgate.yaml\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The part of a document from a heading to the next of its rank or a higher one.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no `{heading}`"));
    let body = &text[start + heading.len() + 2..];
    let rank = heading.chars().take_while(|c| *c == '#').count();
    let ends = |line: &str| {
        let marks = line.chars().take_while(|c| *c == '#').count();
        (1..=rank).contains(&marks) && line[marks..].starts_with(' ')
    };
    let mut length = 0;
    let mut fenced = false;
    for line in body.split_inclusive('\n') {
        fenced ^= line.starts_with("```");
        if !fenced && ends(line) {
            break;
        }
        length += line.len();
    }
    &body[..length]
}

/// The rows of all tables in a text, without heads.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            inside = false;
            continue;
        };
        if line.trim_start().starts_with("---") {
            inside = true;
        } else if inside {
            rows.push(line.split('|').map(str::trim).collect());
        }
    }
    rows
}

/// What stands between backticks, if a cell is that alone.
fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|text| !text.contains('`'))
}

#[test]
fn rooms_are_those_of_lib_rs() {
    let text = read("ARCHITECTURE.md");
    let told: Vec<&str> =
        rows(section(&text, "## The rooms")).iter().filter_map(|row| quoted(row[0])).collect();
    let lib = read("host/src/lib.rs");
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), declared);
    assert_eq!(told.len(), declared.len());
}

#[test]
fn failures_are_those_of_the_code() {
    let text = read("ARCHITECTURE.md");
    let told: Vec<[String; 3]> = rows(section(&text, "## Failures"))
        .iter()
        .map(|row| [quoted(row[0]).unwrap().into(), row[1].into(), row[2].into()])
        .collect();
    let fault = |fault| match fault {
        Fault::None => "none",
        Fault::Client => "client",
        Fault::Policy => "policy",
        Fault::Upstream => "upstream",
        Fault::Gateway => "gateway",
    };
    let known: Vec<[String; 3]> = Reason::ALL
        .iter()
        .map(|reason| {
            [reason.label().into(), reason.status().as_u16().to_string(), fault(reason.fault()).into()]
        })
        .collect();
    assert_eq!(told, known);
    let operating = read("docs/operating.md");
    let reasons = section(&operating, "## Reasons");
    let untold: Vec<String> = known
        .into_iter()
        .map(|[label, ..]| label)
        .filter(|label| !reasons.contains(&format!("`{label}`")))
        .collect();
    assert_none(&untold);
}

/// Constants of `host/src` by their place, as ARCHITECTURE.md cites them (`plugin/plan::NAMES_MAX`),
/// with their type and what they are set to.
fn constants() -> BTreeMap<String, (String, String)> {
    let folder = root().join("host/src");
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.clone()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let place = path.strip_prefix(&folder).unwrap().with_extension("");
        if place.iter().any(|part| part == "tests") {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            // At the margin only: what stands further in is a detail of its function.
            let Some((_, constant)) = line.split_once("const ").filter(|(before, _)| {
                before.is_empty() || before.starts_with("pub") && !before.contains("fn")
            }) else {
                continue;
            };
            if let Some((name, rest)) = constant.split_once(": ")
                && let Some((kind, value)) = rest.split_once(" = ")
            {
                let place = format!("{}::{name}", place.display());
                found.insert(place, (kind.into(), value.trim_end_matches(';').into()));
            }
        }
    }
    found
}

/// A product or shift of numbers.
fn number(expression: &str) -> Option<u64> {
    let product = |text: &str| {
        text.split('*').try_fold(1_u64, |product, factor| {
            product.checked_mul(factor.trim().replace('_', "").parse().ok()?)
        })
    };
    match expression.split_once("<<") {
        Some((number, bits)) => Some(product(number)? << product(bits)?),
        None => product(expression),
    }
}

/// As the table has it: `64 KiB`, `4,096`, `5 ms`, `366 d`.
fn shown(name: &str, kind: &str, expression: &str) -> Option<String> {
    if kind == "Duration" {
        let (unit, count) = expression.strip_prefix("Duration::from_")?.strip_suffix(')')?.split_once('(')?;
        let count = number(count)?;
        return match unit {
            "secs" if count % 86_400 == 0 => Some(format!("{} d", count / 86_400)),
            "secs" => Some(format!("{count} s")),
            "millis" => Some(format!("{count} ms")),
            _ => None,
        };
    }
    let count = number(expression)?;
    if (expression.contains("<<") || expression.contains("* 1024")) && !name.contains("KIB") {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let (bits, unit) = units.into_iter().find(|(bits, _)| count.is_multiple_of(1 << bits))?;
        return Some(format!("{} {unit}", count >> bits));
    }
    let digits = count.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap());
    Some(grouped.collect::<Vec<_>>().join(","))
}

#[test]
fn limits_are_those_of_the_code() {
    let text = read("ARCHITECTURE.md");
    let mut cited = BTreeMap::new();
    for row in rows(section(&text, "### What the code bounds")) {
        if let Some(place) = quoted(row[0]) {
            assert!(
                cited.insert(place.to_string(), row[1].to_string()).is_none(),
                "{place} stands there twice"
            );
        }
    }
    let known = constants();
    let mut wrong = Vec::new();
    for (place, told) in &cited {
        let name = place.rsplit("::").next().unwrap();
        match known.get(place).map(|(kind, value)| shown(name, kind, value)) {
            None => wrong.push(format!("{place}: there is no such constant")),
            Some(shown) if shown.as_ref() != Some(told) => {
                wrong.push(format!("{place}: the table says {told}, the code {shown:?}"));
            }
            Some(_) => {}
        }
    }
    for (place, (kind, value)) in &known {
        let name = place.rsplit("::").next().unwrap();
        let is_bound = name.ends_with("_MAX") || name.ends_with("_MIN") || kind == "Duration";
        if is_bound && shown(name, kind, value).is_some() && !cited.contains_key(place) {
            wrong.push(format!("{place} = {value}: not in the table"));
        }
    }
    assert_none(&wrong);
}

/// The value at `listeners[].limits.idle`; of a list the first.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, key| match key.strip_suffix("[]") {
        Some(key) => &value[key][0],
        None => &value[key],
    })
}

#[test]
fn defaults_are_those_of_the_checker() {
    let config = "listeners: [{ name: public, address: \"127.0.0.1:0\" }]\n\
                  upstreams: { origin: { endpoints: [\"http://127.0.0.1:1\"] } }\n";
    let loaded = witgate::config::load_text(Path::new("witgate.yaml"), config.into()).unwrap();
    let effective = witgate::config::effective(&loaded.config);
    let mut wrong = Vec::new();
    for document in ["ARCHITECTURE.md", "SECURITY.md"] {
        let text = read(document);
        let told: Vec<_> = rows(&text)
            .into_iter()
            .filter_map(|row| Some((quoted(row[0])?.to_string(), row[1].to_string())))
            .filter(|(key, _)| {
                ["listeners[].", "server.", "upstreams."].iter().any(|start| key.starts_with(start))
            })
            .collect();
        assert!(told.len() > 5, "{document}");
        for (key, told) in told {
            let value = at(&effective, &key);
            let known = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            if known != told {
                wrong.push(format!("{document}: `{key}` is said to be {told}, but is {known}"));
            }
        }
    }
    assert_none(&wrong);
}

/// All documents that people read, by their path from the root.
fn documents() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    for folder in [".", "docs", "examples/airline"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(&root).unwrap().display().to_string().replace("./", ""));
            }
        }
    }
    found.sort();
    found
}

/// The complete configurations of a document.
fn examples(text: &str) -> Vec<&str> {
    let fences = text.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    fences.filter(|block| block.starts_with(COMPLETE)).collect()
}

#[test]
fn examples_load_without_a_warning() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents() {
        for example in examples(&read(&document)) {
            count += 1;
            match witgate::config::load_text(Path::new("witgate.yaml"), example.to_string()) {
                Ok(loaded) if loaded.warnings.is_empty() => {}
                Ok(loaded) => wrong.push(format!("{document}:\n{}", loaded.report())),
                Err(report) => wrong.push(format!("{document}:\n{report}")),
            }
        }
    }
    assert!(count > 8, "the blocks are found");
    assert_none(&wrong);
}

/// With their plugins compiled and configured, as a gateway would.
#[test]
fn examples_of_policies_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for example in examples(&read("docs/policies.md")) {
        let path = folder.path().join("witgate.yaml");
        fs::write(&path, example).unwrap();
        let check =
            Command::new(env!("CARGO_BIN_EXE_witgate")).args(["check", "-c"]).arg(&path).output().unwrap();
        if !check.status.success() {
            wrong.push(format!("{example}\n{}", String::from_utf8_lossy(&check.stderr)));
        }
    }
    assert_none(&wrong);
}

#[test]
fn keys_of_policies_are_those_of_their_schemas() {
    let schema = Command::new(env!("CARGO_BIN_EXE_witgate")).arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    let text = read("docs/policies.md");
    let mut policies = 0;
    for (name, schema) in schema["$defs"].as_object().unwrap() {
        let Some(policy) = name.strip_prefix("config-of-") else { continue };
        policies += 1;
        let known: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let keys = section(&text, &format!("## {policy}"));
        // Of a key inside another, and of several that share a row, the outermost.
        let told: BTreeSet<&str> = rows(keys)
            .iter()
            .filter(|row| row.len() == 4)
            .flat_map(|row| row[0].split(", "))
            .filter_map(quoted)
            .map(|key| key.split('.').next().unwrap())
            .collect();
        assert_eq!(told, known, "{policy}");
    }
    assert_eq!(policies, 8);
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = read(&document);
        let anchors: BTreeSet<String> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| line.trim_start_matches('#').trim().to_lowercase())
            .map(|title| {
                title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect()
            })
            .map(|title: String| title.replace(' ', "-"))
            .collect();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let folder = Path::new(&document).parent().unwrap().to_path_buf();
            let leads = match target.split_once('#') {
                _ if target.contains("://") => true,
                Some(("", anchor)) => anchors.contains(anchor),
                Some((file, _)) => root().join(folder).join(file).exists(),
                None => root().join(folder).join(target).exists(),
            };
            if !leads {
                wrong.push(format!("{document}: nothing is at {target}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn each_language_has_a_page_that_says_its_tools_and_commands() {
    use witgate_toolchain::Language;
    let mut wrong = Vec::new();
    for language in Language::ALL {
        let (folder, tools) = (language.folder(), language.tools());
        let page = format!("docs/languages/{folder}.md");
        let text = read(&page);
        let wanted = tools.iter().map(|tool| tool.package().to_string()).chain([
            format!("witgate plugin new tenants --language {}\n", language.name()),
            "witgate plugin build tenants\n".into(),
            "witgate plugin test tenants\n".into(),
            format!("../../examples/policies/{folder}"),
        ]);
        wrong.extend(
            wanted.filter(|wanted| !text.contains(wanted)).map(|wanted| format!("{page} lacks {wanted:?}")),
        );
        for kept in [
            format!("examples/policies/{folder}/plugin.yaml"),
            format!("tests/languages/{folder}/plugin.yaml"),
        ] {
            if !root().join(&kept).is_file() {
                wrong.push(format!("{kept} is missing"));
            }
        }
    }
    assert_none(&wrong);
}
