//! Golden files, the schema against the checker, and random input.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::check::keys;
use super::*;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config").join(kind)
}

fn yaml_files(kind: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// Compares with the file, or writes it when `UPDATE=1` is set.
fn golden(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, actual).unwrap();
        return Ok(());
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{}\n--- expected\n{expected}--- got\n{actual}", path.display()))
}

fn assert_all(results: Vec<Result<(), String>>) {
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}\n(UPDATE=1 rewrites the files)", failures.join("\n"));
}

#[test]
fn good_files() {
    let files = yaml_files("good");
    assert!(files.len() >= 10);
    let check = |path: &PathBuf| {
        let loaded = load(path).map_err(|report| report.to_string())?;
        let here = format!("{}/", folder("good").display());
        let shown = format!("{:#}\n", effective(&loaded.config)).replace(&here, "");
        let warnings = loaded.report().to_string().replace(&here, "");
        golden(&path.with_extension("json"), &shown)?;
        // Warnings have a file only where there are any.
        let warned = path.with_extension("warn");
        if warnings.is_empty() && !warned.exists() { Ok(()) } else { golden(&warned, &warnings) }
    };
    assert_all(files.iter().map(check).collect());
}

#[test]
fn bad_files() {
    let files = yaml_files("bad");
    assert!(files.len() >= 40);
    let check = |path: &PathBuf| {
        let here = format!("{}/", folder("bad").display());
        match load(path) {
            Ok(_) => Err(format!("{} is not refused", path.display())),
            Err(report) => golden(&path.with_extension("err"), &report.to_string().replace(&here, "")),
        }
    };
    assert_all(files.iter().map(check).collect());
}

/// What is in force, written as a file, is the same configuration again.
#[test]
fn effective_configurations_load() {
    for path in yaml_files("good") {
        let loaded = load(&path).unwrap();
        let mut first = effective(&loaded.config);
        // Only the beginning of a hash is shown.
        first["consumers"] = json!([]);
        let again = load_text(&path, first.to_string().replace("${", "$${"));
        let again = again.unwrap_or_else(|report| panic!("{}: {report}", path.display()));
        assert_eq!(effective(&again.config), first, "{}", path.display());
    }
}

/// The file as it is written, nothing expanded, as an editor sees it.
fn written(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    source::parse(path, text.replace("${", "$${")).unwrap().root.to_json()
}

#[test]
fn the_schema_takes_good_files_and_refuses_what_is_wrong_in_structure() {
    let validator = jsonschema::validator_for(&schema(&[])).unwrap();
    for path in yaml_files("good") {
        let violations: Vec<String> = validator
            .iter_errors(&written(&path))
            .map(|violation| format!("{}: {violation}", violation.instance_path()))
            .collect();
        assert!(violations.is_empty(), "{}: {violations:?}", path.display());
    }
    let wrong = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("structure-");
    let files: Vec<PathBuf> = yaml_files("bad").into_iter().filter(wrong).collect();
    assert!(files.len() >= 15);
    for path in files {
        assert!(!validator.is_valid(&written(&path)), "{} is not refused", path.display());
    }
}

#[test]
fn the_schema_and_the_checker_know_the_same_keys() {
    let schema = schema(&[]);
    let properties = |definition: &Value| -> BTreeSet<String> {
        definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let mut maps: BTreeSet<String> = BTreeSet::new();
    for known in keys::ALL {
        let definition = if known.name == "root" { &schema } else { &schema["$defs"][known.name] };
        let keys: BTreeSet<String> = known.keys.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(properties(definition), keys, "{}", known.name);
        assert_eq!(definition["additionalProperties"], json!(false), "{}", known.name);
        for (theirs, ours) in known.synonyms {
            assert!(known.keys.contains(ours) && !known.keys.contains(theirs), "{}: {theirs}", known.name);
        }
        maps.insert(known.name.to_owned());
    }
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        assert!(
            definition["properties"].is_null() || maps.contains(name),
            "{name} is unknown to the checker"
        );
    }
}

/// `full.yaml` has every key there is, and each of them arrives in the model.
#[test]
fn one_good_file_has_every_key() {
    let value = written(&folder("good").join("full.yaml"));
    let mut used = BTreeSet::new();
    gather(&value, &mut used);
    for known in keys::ALL {
        for key in known.keys.iter().filter(|key| **key != "redis") {
            assert!(used.contains(*key), "{}.{key} is not in full.yaml", known.name);
        }
    }
}

fn gather(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                keys.insert(key.clone());
                gather(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, keys)),
        _ => {}
    }
}

#[test]
fn schemas_of_plugins_are_merged_in() {
    let plugin = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": { "mode": { "$ref": "#/$defs/mode" } },
        "required": ["mode"],
        "additionalProperties": false,
        "$defs": { "mode": { "enum": ["a", "b"], "default": "#/a" } },
    });
    let schema = schema(&[("mine".to_owned(), plugin), ("silent".to_owned(), Value::Null)]);
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let with = |policy: Value| {
        json!({
            "listeners": [{ "name": "a", "address": "127.0.0.1:80" }],
            "apis": [{ "name": "a", "path": "/", "chain": [policy] }],
        })
    };
    assert!(validator.is_valid(&with(json!({ "plugin": "mine", "config": { "mode": "a" } }))));
    assert!(!validator.is_valid(&with(json!({ "plugin": "mine", "config": { "mode": "c" } }))));
    assert!(!validator.is_valid(&with(json!({ "plugin": "mine" }))));
    assert!(validator.is_valid(&with(json!({ "plugin": "silent", "config": { "x": 1 } }))));
    assert!(validator.is_valid(&with(json!({ "plugin": "other" }))));
}

#[test]
fn a_reverse_proxy_needs_no_file() {
    let config = reverse_proxy("http://[::1]:9000", "0.0.0.0:8080".parse().unwrap()).unwrap();
    assert_eq!(config.listeners[0].address.port(), 8080);
    assert_eq!((config.upstreams[0].endpoints[0].host.as_str(), config.apis[0].path.as_str()), ("::1", "/"));
    assert!(config.admin.is_none());
    assert!(
        reverse_proxy("localhost:9000", "0.0.0.0:8080".parse().unwrap())
            .unwrap_err()
            .contains("has no scheme")
    );
    assert!(reverse_proxy("http://${env:HOME}", "0.0.0.0:8080".parse().unwrap()).is_err());
}

#[test]
fn secrets_show_nowhere() {
    let text = "\
listeners: [{ name: a, address: \"127.0.0.1:80\" }]
admin: { address: \"127.0.0.1:99\", token: \"hunter2-token\" }
secrets: { s: \"${env:CARGO_PKG_DESCRIPTION}\" }
apis:
  - { name: a, path: /, chain: [{ plugin: x, config: { a: [{ \"b/c\": \"x-${env:CARGO_PKG_DESCRIPTION}\" }], d: 1, url: \"http://u:hunter2@h\" } }] }
";
    let secret = env!("CARGO_PKG_DESCRIPTION");
    let loaded = load_text(Path::new("t"), text.to_owned()).unwrap();
    let shown = format!("{}{:?}{}", effective(&loaded.config), loaded.report(), loaded.report());
    assert!(!shown.contains("hunter2") && !shown.contains(secret), "{shown}");
    let config = &effective(&loaded.config)["apis"][0]["chain"][0]["config"];
    assert_eq!(config, &json!({ "a": [{ "b/c": "***" }], "d": 1, "url": "***" }));

    for wrong in ["address: ${env:S}", "http2: ${env:S}", "tls: ${env:S}", "limits: { idle: \"${env:S}\" }"] {
        let text = format!("listeners:\n  - {}\n", wrong.replace("env:S", "env:CARGO_PKG_DESCRIPTION"));
        let report = load_text(Path::new("t"), text).unwrap_err().to_string();
        assert!(!report.contains(secret) && report.contains("${env:CARGO_PKG_DESCRIPTION}"), "{report}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = load_text(Path::new("t"), text).map_err(|report| report.to_string());
        }
    }

    #[test]
    fn random_yaml_does_not_panic(text in "([a-c]|[-:,\\[\\]{}&*#|>!%'\"]|[ \n\t]|\\$\\{|<<|é){0,60}") {
        let _ = load_text(Path::new("t"), text).map_err(|report| report.to_string());
    }

    /// A good file with a few cuts, swaps and insertions.
    #[test]
    fn mutations_of_a_good_file_do_not_panic(
        cuts in proptest::collection::vec((0.0..1.0_f64, 0_usize..30, "[-a-z:{}\\[\\],\"'0-9%/*& \n]{0,6}"), 1..6)
    ) {
        let mut text: Vec<char> = include_str!("../../../tests/config/good/full.yaml").chars().collect();
        for (at, length, insert) in cuts {
            let at = (at * text.len() as f64) as usize;
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let _ = load_text(Path::new("t"), text.into_iter().collect()).map_err(|report| report.to_string());
    }
}
