//! A survey in words for people, or as one JSON document for scripts.
//!
//! `build` and `inspect` print it. What a component says of itself is a stranger's text: no line
//! of it can forge another one, or reach the terminal as a command.

use super::survey::{Outcome, Planned, Survey, named};
use crate::plugin::Plugin;
use crate::plugin::load::Origin;
use crate::plugin::plan::{Ask, BodyMode, OnError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Alternatives of a type that are followed down; a schema may refer to itself.
const KIND_DEPTH_MAX: u32 = 4;

pub fn text(survey: &Survey) -> String {
    let plugin = &*survey.plugin;
    let mut lines = vec![format!("{}: {} bytes, sha256 {}", plugin.name(), plugin.bytes(), plugin.hash())];
    let mut say = |what: &str, how: &str| lines.push(format!("  {what:<14}{how}"));
    say("hooks", &plugin.exports().names().join(", "));
    for (number, line) in imports(plugin).into_iter().enumerate() {
        say(if number == 0 { "imports" } else { "" }, &line);
    }
    say(
        "runs",
        match plugin.needs_fiber() {
            true => "on a fiber: some of what it imports can make it wait",
            false => "straight on the worker: nothing that it imports can make it wait",
        },
    );
    for (number, line) in keys(plugin.schema().value()).into_iter().enumerate() {
        say(if number == 0 { "configuration" } else { "" }, &line);
    }
    match &survey.outcome {
        Outcome::Unasked => say("plan", "depends on the configuration: --config '{…}' shows it"),
        Outcome::Refused { given: false, why } => {
            say(
                "plan",
                &format!("depends on the configuration: --config '{{…}}' shows it ({})", why.join("; ")),
            );
        }
        Outcome::Refused { given: true, why } => {
            for (number, why) in why.iter().enumerate() {
                say(if number == 0 { "refused" } else { "" }, why);
            }
        }
        Outcome::Planned(planned) => {
            say("plan", &format!("with {}", planned.config));
            for (what, how) in plan(planned) {
                lines.push(format!("    {what:<20}{how}"));
            }
        }
    }
    lines
        .into_iter()
        .map(|line| line.replace(|letter: char| letter.is_control(), "\u{fffd}") + "\n")
        .collect()
}

/// Interfaces by their package: `witgate:policy@0.1.0: log, plan`.
fn imports(plugin: &Plugin) -> Vec<String> {
    let mut packages: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for import in plugin.imports() {
        let (package, interface) = import.split_once('/').unwrap_or(("", import));
        let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
        let at = if version.is_empty() { "" } else { "@" };
        packages.entry(format!("{package}{at}{version}")).or_default().push(interface);
    }
    let lines = packages.into_iter().map(|(package, mut interfaces)| {
        interfaces.sort_unstable();
        format!("{package}: {}", interfaces.join(", "))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { vec!["nothing".to_string()] } else { lines }
}

/// The keys of a configuration, a line each.
fn keys(schema: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty())
    else {
        let closed = schema["additionalProperties"] == false;
        return vec![if closed { "none".into() } else { "any; --json shows its schema".into() }];
    };
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let told = |(name, property): (&String, &Value)| {
        let mut line = format!("{name}: {}", kind(property, 0));
        if required.iter().any(|required| required == name) {
            line += ", required";
        } else if let Some(default) = property.get("default").filter(|default| !default.is_null()) {
            line += &format!(", {default} by default");
        }
        if let Some(about) = property["description"].as_str() {
            let paragraph: Vec<_> =
                about.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            line += &format!(" ({})", paragraph.join(" ").trim_end_matches('.'));
        }
        line
    };
    properties.iter().map(told).collect()
}

fn kind(schema: &Value, depth: u32) -> String {
    let joined = |kinds: Vec<String>| kinds.join(" or ");
    if depth > KIND_DEPTH_MAX {
        return "…".into();
    }
    if let Some(values) = schema["enum"].as_array() {
        return joined(values.iter().map(Value::to_string).collect());
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return name.to_string();
    }
    if let Some(kinds) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        return joined(kinds.iter().map(|schema| kind(schema, depth + 1)).collect());
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => match schema.get("items") {
            Some(items) => format!("list of {}", kind(items, depth + 1)),
            None => "list".into(),
        },
        Value::String(name) => name.clone(),
        Value::Array(kinds) => joined(kinds.iter().filter_map(Value::as_str).map(String::from).collect()),
        _ => "any".into(),
    }
}

fn plan(planned: &Planned) -> Vec<(&'static str, String)> {
    let plan = &planned.policy.plan;
    let mut lines = Vec::new();
    for (what, names) in [
        ("reads", &plan.request_reads),
        ("of the response", &plan.response_reads),
        ("of the log", &plan.log_reads),
        ("writes", &plan.writes),
    ] {
        if !names.is_empty() {
            lines.push((what, names.join(", ")));
        }
    }
    for (what, mode) in [("request body", plan.request_body), ("response body", plan.response_body)] {
        match mode {
            BodyMode::Skip => {}
            BodyMode::Buffer(limit) => lines.push((what, format!("collected, up to {limit} bytes"))),
            BodyMode::Stream => lines.push((what, "seen as it streams".into())),
        }
    }
    if let Some(period) = plan.tick {
        lines.push(("tick", format!("every {} ms", period.as_millis())));
    }
    lines.push(("on error", format!("{}, unless on_error says otherwise", on_error(planned))));
    let named = named(&planned.config);
    for ask in &planned.asks {
        let (what, list, name) = ask_in_words(ask);
        let granted = match named.contains(name) {
            true => "granted by the configuration, which names it".to_string(),
            false => format!("needs `allow: {{ {list}: [{}] }}`", Value::from(name)),
        };
        lines.push(("asks for", format!("{what} {name}: {granted}")));
    }
    if calls_out(&planned.policy.plugin) {
        let how = "upstreams that the configuration names as a whole value, or `allow: { upstreams: […] }`";
        lines.push(("may call", how.into()));
    }
    lines.push(("memory", format!("{} bytes when configured", planned.memory_bytes)));
    lines
}

fn calls_out(plugin: &Plugin) -> bool {
    plugin.imports().iter().any(|import| import.starts_with("witgate:policy/http-client"))
}

fn on_error(planned: &Planned) -> &'static str {
    match planned.policy.on_error {
        OnError::Deny => "deny",
        OnError::Skip => "skip",
    }
}

/// What it is, the list of `allow` that grants it, and its name.
fn ask_in_words(ask: &Ask) -> (&'static str, &'static str, &str) {
    match ask {
        Ask::Bucket(name) => ("the bucket", "buckets", name),
        Ask::File(name) => ("the file", "files", name),
        Ask::Secret(name) => ("the secret", "secrets", name),
        Ask::Url(name) => ("the URL", "urls", name),
    }
}

pub fn json(survey: &Survey) -> Value {
    let plugin = &*survey.plugin;
    let mut document = json!({
        "name": plugin.name(),
        "file": match plugin.origin() {
            Origin::Bundled => Value::Null,
            Origin::File(path) => path.to_string_lossy().into(),
        },
        "bytes": plugin.bytes(),
        "sha256": plugin.hash().to_string(),
        "fits": true,
        "hooks": plugin.exports().names(),
        "imports": plugin.imports(),
        "needs_fiber": plugin.needs_fiber(),
        "schema": plugin.schema().value(),
    });
    match &survey.outcome {
        Outcome::Unasked => {}
        Outcome::Refused { why, .. } => document["refused"] = json!(why),
        Outcome::Planned(planned) => document["plan"] = plan_json(planned),
    }
    document
}

fn plan_json(planned: &Planned) -> Value {
    let plan = &planned.policy.plan;
    let body = |mode| match mode {
        BodyMode::Skip => json!({ "mode": "skip" }),
        BodyMode::Buffer(limit) => json!({ "mode": "buffer", "limit": limit }),
        BodyMode::Stream => json!({ "mode": "stream" }),
    };
    let mut asks = Map::new();
    for ask in &planned.asks {
        let (_, list, name) = ask_in_words(ask);
        if let Value::Array(names) = asks.entry(list).or_insert_with(|| json!([])) {
            names.push(name.into());
        }
    }
    json!({
        "config": planned.config,
        "request_reads": plan.request_reads,
        "response_reads": plan.response_reads,
        "log_reads": plan.log_reads,
        "writes": plan.writes,
        "request_body": body(plan.request_body),
        "response_body": body(plan.response_body),
        "on_error": on_error(planned),
        "tick_millis": plan.tick.map(|period| period.as_millis() as u64),
        "asks": asks,
        "memory_bytes": planned.memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_schema() {
        let schema = json!({
            "type": "object",
            "required": ["header"],
            "properties": {
                "header": { "type": "string", "description": "The\nheader.\n\nMore of it." },
                "trust": { "type": "boolean", "default": false },
                "by": { "enum": ["ip", "consumer"] },
                "per": { "anyOf": [{ "$ref": "#/$defs/Duration" }, { "type": "null" }] },
                "list": { "type": "array", "items": { "type": ["string", "integer"] } },
            },
        });
        let expected = [
            "by: \"ip\" or \"consumer\"",
            "header: string, required (The header)",
            "list: list of string or integer",
            "per: Duration or null",
            "trust: boolean, false by default",
        ];
        let mut keys = keys(&schema);
        keys.sort();
        assert_eq!(keys, expected);
    }

    #[test]
    fn schemas_without_keys() {
        assert_eq!(keys(&json!(true)), ["any; --json shows its schema"]);
        assert_eq!(keys(&json!({ "additionalProperties": false })), ["none"]);
        assert_eq!(keys(&json!({ "properties": 3 })), ["any; --json shows its schema"]);
    }

    #[test]
    fn kinds_end() {
        let mut schema = json!({ "type": "string" });
        for _ in 0..50 {
            schema = json!({ "anyOf": [schema] });
        }
        assert_eq!(kind(&schema, 0), "…");
    }
}
