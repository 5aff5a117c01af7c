//! From text to raw values with positions: all that is known here of the YAML library.
//!
//! Called by `source` only. Bounds depth, size and aliases. Never expands or judges a value; keys
//! given twice are passed on, so that all of them can be reported.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::Place;

/// Nested lists and maps; DESIGN's deepest is 9, a policy's configuration may go deeper.
const DEPTH_MAX: usize = 48;
/// Values that aliases may repeat, all together: an alias bomb ends here.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// What is said of a file without a value.
pub(super) const EMPTY: &str = "the file is empty; a configuration has at least `listeners`";

/// Why a text is not YAML, or not to be read. Line and column from 1; 0 where unknown.
pub(super) struct SyntaxError {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) message: String,
}

pub(super) fn parse(text: &str) -> Result<Spanned<Raw>, SyntaxError> {
    let alias_limits = serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX };
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_events: 4_000_000,
            max_nodes: 2_000_000,
            // The second is seen, to be told from other excesses.
            max_documents: 2,
            enforce_alias_anchor_ratio: false,
        },
        // Reported by `expand`, which goes on to the rest of the file.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        alias_limits: alias_limits,
        // `on:` is a key of ours, not a truth value; a leading zero or an underscore is a mistake
        // to be reported, not a number to be guessed.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options).map_err(|error| {
        let (line, column) =
            error.location().map_or((0, 0), |at| (narrow(at.line()).max(1), narrow(at.column()).max(1)));
        SyntaxError { line, column, message: message_of(&error) }
    })
}

/// The place of a key or value, as its own text has it: of an alias, where the anchor stands.
pub(super) fn place_of<T>(spanned: &Spanned<T>) -> Place {
    let location = &spanned.defined;
    let span = location.span();
    let byte = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or_default();
    Place {
        line: narrow(location.line()).max(1),
        column: narrow(location.column()).max(1),
        start: byte(span.byte_offset()),
        len: byte(span.byte_len()),
        aliased: spanned.referenced != spanned.defined,
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The library's text without its position, which `At` has; its advice to programmers left out.
fn message_of(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::MultipleDocuments { .. } => "more than one YAML document; a configuration is one".to_owned(),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            format!("aliases repeat more than {ALIAS_EVENTS_MAX} values")
        }
        Error::AliasError { error, .. } => message_of(error),
        Error::Budget { .. } => format!(
            "too large or too deep; a configuration has one document, at most {DEPTH_MAX} levels and 16 MiB"
        ),
        Error::Eof { .. } => EMPTY.to_owned(),
        other => {
            let text = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            let line = text.lines().next().unwrap_or_default();
            let line = line.split(" at line ").next().unwrap_or_default();
            format!("not valid YAML: {}", line.trim().trim_end_matches('.'))
        }
    }
}

/// What the YAML library gives, before expansion.
pub(super) enum Raw {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Raw {
    /// The text under `name`, by which paths call an item of a list.
    pub(super) fn name(&self) -> Option<&str> {
        let Raw::Map(pairs) = self else { return None };
        pairs.iter().find_map(|(key, value)| match &value.value {
            Raw::Text(name) if key.value == "name" && !name.is_empty() => Some(name.as_str()),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Raw, E> {
        serde_json::Number::from_i128(value)
            .map(Raw::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Raw, E> {
        serde_json::Number::from_u128(value)
            .map(Raw::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        serde_json::Number::from_f64(value).map(Raw::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Raw::Map(pairs))
    }
}
