//! A suite of cases as it is written: what is given, what is asked, what shall come of it.
//!
//! Read by `trial`; `docs/testing.md` explains every key. Never judges a value that the gateway
//! itself will judge: configurations go to `compile` as they are.

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Bytes of a suite.
const SUITE_BYTES_MAX: u64 = 4 << 20;

/// A file of cases. What stands here holds for each case that says nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The policy's configuration (`plugin test` only).
    #[serde(default)]
    pub config: Option<Value>,
    /// What the operator allows the policy, as in a chain (`plugin test` only).
    #[serde(default)]
    pub allow: Option<Value>,
    /// A path template, for a policy that reads `param:NAME` (`plugin test` only).
    #[serde(default)]
    pub template: Option<String>,
    /// More keys of a gateway's configuration: `secrets`, `consumers`, `products` (`plugin test`
    /// only).
    #[serde(default)]
    pub gateway: Map<String, Value>,
    /// RFC 3339; 2026-01-01T00:00:00Z if left out.
    #[serde(default)]
    pub clock: Option<String>,
    #[serde(default)]
    pub seed: Option<u64>,
    /// What `http-client` gets from upstreams, by name.
    #[serde(default)]
    pub fetches: BTreeMap<String, Vec<Fetched>>,
    /// What URLs answer, by URL: key sets, say.
    #[serde(default)]
    pub urls: BTreeMap<String, Value>,
    pub cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: Spanned<String>,
    /// Instead of the suite's.
    #[serde(default)]
    pub config: Option<Value>,
    #[serde(default)]
    pub clock: Option<String>,
    #[serde(default)]
    pub seed: Option<u64>,
    /// Goes on where the case before ended, with its state and its clock.
    #[serde(default, rename = "continue")]
    pub goes_on: bool,
    /// How much later than the case before, such as `5m`.
    #[serde(default)]
    pub after: Option<String>,
    /// What is in shared state before, by bucket and key.
    #[serde(default)]
    pub state: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    pub request: Asked,
    /// What the upstream answers.
    #[serde(default)]
    pub upstream: Answer,
    /// Added to the suite's.
    #[serde(default)]
    pub fetches: BTreeMap<String, Vec<Fetched>>,
    #[serde(default)]
    pub expect: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    pub method: String,
    /// With the query, if there is one.
    pub path: String,
    pub headers: BTreeMap<String, Lines>,
    pub body: Content,
    /// The client's address.
    pub client: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The gateway's listener, where it has several.
    pub listener: Option<String>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            method: "GET".into(),
            path: "/".into(),
            headers: BTreeMap::new(),
            body: Content::default(),
            client: "192.0.2.1".into(),
            scheme: "http".into(),
            listener: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, Lines>,
    pub body: Content,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer { status: 200, headers: BTreeMap::new(), body: Content::default() }
    }
}

/// What a policy's own call gets.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Fetched {
    /// `timeout`, `connect`, `protocol`, `too-large` or `no-healthy-endpoint`.
    Error {
        error: String,
    },
    Answer(Answer),
}

/// The lines of a header.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    One(String),
    Many(Vec<String>),
}

impl Lines {
    pub fn iter(&self) -> std::slice::Iter<'_, String> {
        match self {
            Lines::One(line) => std::slice::from_ref(line),
            Lines::Many(lines) => lines,
        }
        .iter()
    }
}

/// A body: text, a list of chunks, or any other value, which is sent as JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Chunks(Vec<String>),
    Json(Map<String, Value>),
    #[default]
    None,
}

impl Content {
    pub fn chunks(&self) -> Vec<Vec<u8>> {
        match self {
            Content::Text(text) => vec![text.clone().into_bytes()],
            Content::Chunks(chunks) => chunks.iter().map(|chunk| chunk.clone().into_bytes()).collect(),
            Content::Json(map) => vec![Value::from(map.clone()).to_string().into_bytes()],
            Content::None => Vec::new(),
        }
    }
}

impl Suite {
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(path: &Path) -> Result<Suite, String> {
        let shown = path.display();
        let length = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
        if length > SUITE_BYTES_MAX {
            return Err(format!("{shown} has {length} bytes; at most {SUITE_BYTES_MAX} are read"));
        }
        let text = fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        // Scalars mean what they mean in the gateway's own configuration.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
        };
        let suite: Suite = serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| format!("{shown}: {error}"))?;
        match suite.cases.first() {
            None => Err(format!("{shown}: `cases` is empty")),
            Some(first) if first.goes_on => {
                Err(format!("{shown}: the first case has none before it to `continue`"))
            }
            Some(_) => Ok(suite),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Suite, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, text).unwrap();
        Suite::read(&path)
    }

    #[test]
    fn a_case_needs_a_name_and_no_more() {
        let suite = read("cases: [{ name: nothing }]").unwrap();
        assert_eq!((&*suite.cases[0].request.method, suite.cases[0].upstream.status), ("GET", 200));
    }

    #[test]
    fn bodies_of_all_kinds() {
        let body = |body: &str| {
            let suite = read(&format!("cases: [{{ name: a, request: {{ body: {body} }} }}]")).unwrap();
            suite.cases[0].request.body.chunks()
        };
        assert_eq!(body("text"), [b"text".to_vec()]);
        assert_eq!(body("[a, b]"), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(body("{ a: 1 }"), [br#"{"a":1}"#.to_vec()]);
        assert!(body("null").is_empty());
    }

    #[test]
    fn scalars_are_those_of_a_configuration() {
        let suite = read("cases: [{ name: a, config: { a: no, b: 007, c: 1_000, d: true, e: 5 } }]").unwrap();
        let expected = serde_json::json!({ "a": "no", "b": "007", "c": "1_000", "d": true, "e": 5 });
        assert_eq!(suite.cases[0].config, Some(expected));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, told) in [
            ("cases: []", "is empty"),
            ("cases: [{ name: a, expects: {} }]", "expects"),
            ("cases: [{ name: a, continue: true }]", "none before it"),
            ("cases: [{ nome: a }]", "nome"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
    }
}
