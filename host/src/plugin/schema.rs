//! A plugin's configuration schema: read, bounded, and held against configurations.
//!
//! `load` reads it, `compile` and `cli` ask for violations. Whoever checks a schema does so in the
//! gateway's own process and cannot be interrupted, and a few kilobytes of schema can stand for
//! more work than there is time. So it is counted first: what it stands for once all its references
//! are followed. Never fetches anything: references stay within the document.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The text of a schema. The gateway's own have 2 KiB at most.
const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Schemas that it stands for, and how deep they nest, with all references followed.
const SCHEMAS_MAX: u64 = 10_000;
const LEVELS_MAX: usize = 64;
/// Regular expressions, how large each may become, and how often it may try anew.
const PATTERNS_MAX: usize = 100;
const PATTERN_BYTES_MAX: usize = 1 << 20;
const BACKTRACKS_MAX: usize = 20_000;
/// What checking one configuration may take, where a schema refers to itself: such a schema stands
/// for more the deeper a configuration nests.
const CHECKS_MAX: u64 = 20_000_000;
const NESTED_LEVELS_MAX: usize = 600;

/// Keys of a schema whose values are no schemas, or count where they are referred to.
const DATA: [&str; 6] = ["const", "enum", "default", "examples", "$defs", "definitions"];
/// Keys whose values are schemas by name.
const NAMED: [&str; 3] = ["properties", "patternProperties", "dependentSchemas"];
/// Keys by which a schema would mean more than this document, or change what `#` means within it.
const BEYOND: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$vocabulary", "$dynamicAnchor"];

pub struct Schema {
    value: Value,
    validator: Validator,
    extent: Extent,
}

/// What a schema stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    schemas: u64,
    levels: usize,
    /// How often it comes back to what it is in the middle of.
    returns: u64,
}

impl Schema {
    /// # Errors
    /// Why it is none, or too much of one: to be read behind the plugin's name.
    pub fn read(text: &str) -> Result<Schema, String> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!(
                "has a schema of {} bytes; at most {SCHEMA_BYTES_MAX} are allowed",
                text.len()
            ));
        }
        let value = match text.trim() {
            "" => Value::Bool(true),
            text => serde_json::from_str(text)
                .map_err(|error| format!("has a schema that is no JSON: {error}"))?,
        };
        let extent = Survey::of(&value)?;
        let patterns =
            PatternOptions::fancy_regex().size_limit(PATTERN_BYTES_MAX).backtrack_limit(BACKTRACKS_MAX);
        let validator = jsonschema::draft202012::options()
            .with_pattern_options(patterns)
            .build(&value)
            .map_err(|error| format!("has a schema that is none: {error}"))?;
        Ok(Schema { value, validator, extent })
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What in `config` is against the schema.
    ///
    /// # Errors
    /// Nobody can tell in reasonable time: `config` nests too deep for a schema that refers to itself.
    pub fn violations<'i>(
        &'i self,
        config: &'i Value,
    ) -> Result<impl Iterator<Item = ValidationError<'i>>, String> {
        if self.extent.returns > 0 {
            let depth = depth(config);
            let checks =
                (0..depth).fold(self.extent.schemas, |checks, _| checks.saturating_mul(self.extent.returns));
            if checks > CHECKS_MAX || self.extent.levels.saturating_mul(depth) > NESTED_LEVELS_MAX {
                return Err(format!(
                    "the configuration nests {depth} deep, and the plugin's schema refers to itself: that takes too \
                     long to check"
                ));
            }
        }
        Ok(self.validator.iter_errors(config))
    }
}

/// Follows all references of one document.
struct Survey<'s> {
    root: &'s Value,
    extent: Extent,
    /// Targets of references that are being followed.
    open: HashSet<&'s str>,
}

impl<'s> Survey<'s> {
    fn of(root: &'s Value) -> Result<Extent, String> {
        let patterns = patterns(root);
        if patterns > PATTERNS_MAX {
            return Err(format!("has a schema with {patterns} patterns; at most {PATTERNS_MAX} are allowed"));
        }
        let mut survey = Survey { root, extent: Extent::default(), open: HashSet::from(["#"]) };
        survey.schema(root, 1)?;
        Ok(survey.extent)
    }

    fn schema(&mut self, schema: &'s Value, level: usize) -> Result<(), String> {
        self.extent.schemas += 1;
        self.extent.levels = self.extent.levels.max(level);
        if self.extent.schemas > SCHEMAS_MAX {
            return Err(format!(
                "has a schema that stands for more than {SCHEMAS_MAX}, its references followed"
            ));
        }
        if level > LEVELS_MAX {
            return Err(format!(
                "has a schema that nests more than {LEVELS_MAX} deep, its references followed"
            ));
        }
        match schema {
            Value::Object(keys) => self.keys(keys, level),
            // Not a schema, but what a key of one may have as its value: `allOf`.
            Value::Array(several) => several.iter().try_for_each(|one| self.schema(one, level)),
            _ => Ok(()),
        }
    }

    fn keys(&mut self, keys: &'s Map<String, Value>, level: usize) -> Result<(), String> {
        for (key, value) in keys {
            match (key.as_str(), value) {
                ("$ref", Value::String(target)) => self.follow(target, level)?,
                ("$id", Value::String(_)) if level > 1 => {
                    return Err("has a schema with another `$id` within, which no plugin may have".into());
                }
                (key, _) if BEYOND.contains(&key) => {
                    return Err(format!("has a schema with `{key}`, which no plugin may have"));
                }
                (key, _) if DATA.contains(&key) => {}
                (key, Value::Object(named)) if NAMED.contains(&key) => {
                    named.values().try_for_each(|one| self.schema(one, level + 1))?;
                }
                // Whatever else may hold schemas, known or not.
                (_, Value::Object(_) | Value::Array(_)) => self.schema(value, level + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn follow(&mut self, target: &'s str, level: usize) -> Result<(), String> {
        let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(found) = found else {
            return Err(format!(
                "has a schema with a reference to `{}`, which it does not have: `#/…` is what \
                                can be referred to",
                target.chars().take(60).collect::<String>()
            ));
        };
        if !self.open.insert(target) {
            self.extent.returns += 1;
            return Ok(());
        }
        let followed = self.schema(found, level + 1);
        self.open.remove(target);
        followed
    }
}

fn patterns(value: &Value) -> usize {
    match value {
        Value::Object(keys) => keys
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("pattern", Value::String(_)) => 1,
                ("patternProperties", Value::Object(named)) => named.len() + patterns(value),
                _ => patterns(value),
            })
            .sum(),
        Value::Array(values) => values.iter().map(patterns).sum(),
        _ => 0,
    }
}

/// Lists and maps around the innermost value.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(keys) => 1 + keys.values().map(depth).max().unwrap_or(0),
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: Value) -> String {
        match Schema::read(&schema.to_string()) {
            Ok(_) => panic!("it was read: {schema}"),
            Err(why) => why,
        }
    }

    fn count(schema: &Value, config: &Value) -> usize {
        Schema::read(&schema.to_string()).unwrap().violations(config).unwrap().count()
    }

    /// Each of 25 schemas refers to the next one twice.
    fn doubling(keyword: &str, last: Value) -> Value {
        let mut defs: Map<String, Value> = (0..25)
            .map(|number| {
                let next = json!({"$ref": format!("#/$defs/a{}", number + 1)});
                (format!("a{number}"), json!({keyword: [next, next], "unevaluatedProperties": false}))
            })
            .collect();
        defs.insert("a25".into(), last);
        json!({"$defs": defs, "$ref": "#/$defs/a0"})
    }

    #[test]
    fn a_schema_that_stands_for_more_than_there_is_time_for_is_refused() {
        for keyword in ["allOf", "anyOf", "oneOf", "prefixItems", "unheardOf"] {
            assert!(told(doubling(keyword, json!(true))).contains("stands for more than 10000"), "{keyword}");
        }
        // A property may be named as a key is, and a reference may lead to what is data elsewhere.
        let hidden = json!({"properties": {"const": doubling("allOf", json!(true))["$defs"]["a0"]},
                            "$defs": doubling("allOf", json!(true))["$defs"]});
        assert!(told(hidden).contains("stands for more than"));
        let hidden = json!({"const": {"allOf": [{"$ref": "#/$defs/a1"}, {"$ref": "#/$defs/a1"}]}, "$ref": "#/const",
                            "$defs": doubling("allOf", json!(true))["$defs"]});
        assert!(told(hidden).contains("stands for more than"));
    }

    #[test]
    fn a_schema_that_nests_deep_is_refused() {
        let chain: Map<String, Value> = (0..100)
            .map(|number| (format!("a{number}"), json!({"$ref": format!("#/$defs/a{}", number + 1)})))
            .chain([("a100".into(), json!(true))])
            .collect();
        assert!(told(json!({"$defs": chain, "$ref": "#/$defs/a0"})).contains("nests more than 64 deep"));
        let deep = (0..100).fold(json!(true), |inner, _| json!({"not": inner}));
        assert!(told(deep).contains("nests more than 64 deep"));
        assert!(Schema::read(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_checked_as_deep_as_there_is_time() {
        let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({"a": inner}));
        let once =
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": false});
        assert_eq!(count(&once, &nested(45)), 0);
        assert_eq!(count(&once, &json!({"a": {"a": {"b": 1}}})), 1);
        let twice =
            json!({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]});
        assert_eq!(count(&twice, &nested(8)), 0);
        let schema = Schema::read(&twice.to_string()).unwrap();
        let Err(why) = schema.violations(&nested(40)).map(drop) else { panic!("it was checked") };
        assert!(why.contains("nests 41 deep"), "{why}");
        // Nothing is ever decided by it, and nothing takes for ever.
        assert_eq!(count(&json!({"$ref": "#"}), &json!({})), 0);
        // At the bound there is stack enough.
        let long =
            (0..11).fold(json!({"properties": {"a": {"$ref": "#"}}}), |inner, _| json!({"allOf": [inner]}));
        assert_eq!(count(&long, &nested(20)), 0);
    }

    #[test]
    fn references_lead_nowhere_else() {
        for target in ["http://127.0.0.1:1/x", "file:///etc/passwd", "other.json", "#anchor", "#/$defs/none"]
        {
            assert!(told(json!({"$ref": target})).contains("with a reference to"), "{target}");
        }
        assert!(told(json!({"$dynamicRef": "#/x"})).contains("$dynamicRef"));
        assert!(told(json!({"properties": {"a": {"$id": "urn:a", "$ref": "#"}}})).contains("`$id`"));
    }

    #[test]
    fn patterns_are_bounded() {
        let many: Map<String, Value> = (0..101).map(|n| (format!("p{n}"), json!({"pattern": "x"}))).collect();
        assert!(told(json!({"properties": many})).contains("101 patterns; at most 100"));
        told(json!({"pattern": "((a{1000}){1000}){1000}"}));
        let again = json!({"pattern": "^(a|aa|aaa)*(?!c)$(?<=b)"});
        assert_eq!(count(&again, &json!("a".repeat(200))), 1);
        for usual in [r"^[\w-]{1,64}$", r"^(?!\.)[a-z0-9.-]+$", r"^\d{4}-\d{2}-\d{2}$"] {
            assert!(Schema::read(&json!({"pattern": usual}).to_string()).is_ok(), "{usual}");
        }
    }

    #[test]
    fn what_is_no_schema_says_so() {
        assert!(Schema::read("").is_ok_and(|schema| *schema.value() == Value::Bool(true)));
        assert!(told(json!({"type": "no-such"})).contains("has a schema that is none"));
        let why = Schema::read("{").map(drop).unwrap_err();
        assert!(why.contains("has a schema that is no JSON"), "{why}");
        let why = Schema::read(&" ".repeat(SCHEMA_BYTES_MAX + 1)).map(drop).unwrap_err();
        assert_eq!(why, "has a schema of 262145 bytes; at most 262144 are allowed");
    }
}
