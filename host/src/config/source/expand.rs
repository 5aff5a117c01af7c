//! From raw values to the tree: `${env:NAME}` and `${file:path}` expanded, double keys found.
//!
//! Called by `source` only. What cannot be expanded is reported and becomes `Value::Broken`, never
//! an empty text. Expanded text is not expanded again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::super::diagnostic::{Diagnostic, Listing};
use super::super::model::At;
use super::yaml::{Raw, place_of};
use super::{Entry, Node, Place, Text, Value, item_segment, key_segment, read_bounded, text_of};

/// Bytes of a file named by `${file:path}`; a bundle of certificates fits.
const SECRET_FILE_BYTES_MAX: u64 = 256 << 10;
/// Bytes that all expansions of a file together may bring.
const EXPANDED_BYTES_MAX: usize = 4 << 20;

/// Expands what was parsed, and finds keys that are given twice.
pub(super) struct Expand<'l> {
    file: Arc<str>,
    folder: PathBuf,
    /// Where the walk stands.
    segments: Vec<String>,
    /// Contents of `${file:}`, or why there are none.
    cache: HashMap<PathBuf, Result<String, String>>,
    bytes: usize,
    files: Vec<PathBuf>,
    mistakes: Vec<Diagnostic>,
    listing: &'l mut Listing,
}

impl<'l> Expand<'l> {
    pub(super) fn new(path: &Path, folder: &Path, listing: &'l mut Listing) -> Expand<'l> {
        Expand {
            file: path.display().to_string().into(),
            folder: folder.to_path_buf(),
            segments: Vec::new(),
            cache: HashMap::new(),
            bytes: 0,
            files: vec![path.to_path_buf()],
            mistakes: Vec::new(),
            listing,
        }
    }

    /// The files read, the configuration itself first, and what went wrong.
    pub(super) fn finish(self) -> (Vec<PathBuf>, Vec<Diagnostic>) {
        (self.files, self.mistakes)
    }

    pub(super) fn node(&mut self, spanned: Spanned<Raw>) -> Node {
        let place = place_of(&spanned);
        let value = match spanned.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Number(value) => Value::Number(value),
            Raw::Text(text) => self.text(text, place),
            Raw::List(items) => Value::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| {
                        self.segments.push(item_segment(item.value.name(), index));
                        let node = self.node(item);
                        self.segments.pop();
                        node
                    })
                    .collect(),
            ),
            Raw::Map(pairs) => Value::Map(self.entries(pairs)),
        };
        if !matches!(value, Value::List(_) | Value::Map(_)) {
            self.measure(place);
        }
        Node { value, place }
    }

    fn entries(&mut self, pairs: Vec<(Spanned<String>, Spanned<Raw>)>) -> Vec<Entry> {
        let mut seen: HashMap<String, u32> = HashMap::with_capacity(pairs.len());
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let key_place = place_of(&key);
            self.measure(key_place);
            let segment = match self.segments.as_slice() {
                [map] if NAMED_MAPS.contains(&map.as_str()) => item_segment(Some(&key.value), 0),
                above => key_segment(&key.value, above.is_empty()),
            };
            self.segments.push(segment);
            if let Some(line) = seen.get(&key.value) {
                let message = format!("the key \"{}\" is given twice (first on line {line})", key.value);
                self.mistake(key_place, message, None);
            } else {
                seen.insert(key.value.clone(), key_place.line);
                let node = self.node(value);
                entries.push(Entry { key: key.value, key_place, node });
            }
            self.segments.pop();
        }
        entries
    }

    /// Tells the listing how wide a key or scalar is; one of several lines up to the first's end.
    fn measure(&mut self, place: Place) {
        let Some(text) = self.listing.text().get(place.start..place.start.saturating_add(place.len)) else {
            return;
        };
        let width = text.lines().next().unwrap_or_default().trim_end().chars().count();
        let width = u32::try_from(width).unwrap_or(u32::MAX);
        self.listing.set_width(place.line, place.column, width);
    }

    fn mistake(&mut self, place: Place, message: String, expected: Option<&str>) {
        let at = At {
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            path: self.segments.concat(),
        };
        let mut diagnostic = Diagnostic::error(&at, message);
        diagnostic.expected = expected.map(str::to_owned);
        self.mistakes.push(diagnostic);
    }

    fn text(&mut self, written: String, place: Place) -> Value {
        if !written.contains("${") {
            return Value::Text(Text { text: written, written: None });
        }
        let mut text = String::with_capacity(written.len());
        let mut rest = written.as_str();
        let mut expanded = false;
        let mut broken = false;
        while let Some(dollar) = rest.find("${") {
            let (before, after) = rest.split_at(dollar);
            if let Some(literal) = before.strip_suffix('$') {
                text.push_str(literal);
                text.push_str("${");
                rest = &after[2..];
                continue;
            }
            text.push_str(before);
            let Some(end) = after.find('}') else {
                self.mistake(
                    place,
                    format!("\"{written}\" has a `${{` without a `}}`"),
                    Some(REFERENCE_FORMS),
                );
                return Value::Broken;
            };
            match self.reference(&after[2..end]) {
                Ok(value) => {
                    text.push_str(&value);
                    self.bytes += value.len();
                    expanded = true;
                }
                Err((message, expected)) => {
                    self.mistake(place, message, expected);
                    broken = true;
                }
            }
            rest = &after[end + 1..];
            if self.bytes > EXPANDED_BYTES_MAX {
                self.mistake(place, "all expansions together bring more than 4 MiB".to_owned(), None);
                return Value::Broken;
            }
        }
        text.push_str(rest);
        if broken {
            return Value::Broken;
        }
        Value::Text(Text { text, written: expanded.then_some(written) })
    }

    /// The value of what stands between `${` and `}`.
    fn reference(&mut self, reference: &str) -> Result<String, (String, Option<&'static str>)> {
        let (kind, name) = reference.split_once(':').unwrap_or((reference, ""));
        match kind {
            "env" if is_variable_name(name) => match std::env::var(name) {
                Ok(value) if value.is_empty() => {
                    Err((format!("the environment variable \"{name}\" is empty"), None))
                }
                Ok(value) => Ok(value),
                Err(std::env::VarError::NotPresent) => {
                    Err((format!("the environment variable \"{name}\" is not set"), None))
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err((format!("the environment variable \"{name}\" is not UTF-8"), None))
                }
            },
            "file" if !name.is_empty() => {
                let path = self.folder.join(name);
                let content = match self.cache.get(&path) {
                    Some(content) => content.clone(),
                    None => {
                        let content = secret_file(&path);
                        self.files.push(path.clone());
                        self.cache.insert(path, content.clone());
                        content
                    }
                };
                content.map_err(|why| (format!("the file \"{name}\" cannot be read: {why}"), None))
            }
            _ => Err((format!("`${{{reference}}}` is not a reference"), Some(REFERENCE_FORMS))),
        }
    }
}

/// Maps whose keys are names that the file chose, which paths show as they show those of lists.
const NAMED_MAPS: [&str; 3] = ["upstreams", "policies", "secrets"];

const REFERENCE_FORMS: &str = "`${env:NAME}` or `${file:path}`; write `$${` for a plain `${`";

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The content without the newline at its end, which editors and `echo` put there.
fn secret_file(path: &Path) -> Result<String, String> {
    let mut text = read_bounded(path, SECRET_FILE_BYTES_MAX, "such a file").and_then(text_of)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}
