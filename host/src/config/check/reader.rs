//! Reads typed values out of the tree, and reports each that is not what it should be.
//!
//! Used by the other modules of `check`. A value that is wrong is reported once and then replaced
//! by its default (or left out), so that one run finds all mistakes; the model made from such
//! stand-ins is thrown away. Never shows an expanded value.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::super::diagnostic::{Diagnostic, Report, nearest};
use super::super::model::{At, Secret};
use super::super::source::{
    Entry, Node, Place, Source, Text, Value, has_password, item_segment, key_segment,
};
use super::super::units::{self, Mistake};
use super::keys::Keys;

/// Longer values are cut in messages.
const SHOWN_CHARS_MAX: usize = 60;

pub(super) struct Reader<'s> {
    pub(super) source: &'s Source,
    pub(super) report: Report,
}

/// A value and the path that leads to it.
#[derive(Clone)]
pub(super) struct Field<'s> {
    pub(super) node: &'s Node,
    pub(super) path: String,
    /// Where the thing as a whole begins: its key, if it has one.
    pub(super) place: Place,
    /// Not to be shown, even where it stands in clear.
    hidden: bool,
}

impl<'s> Field<'s> {
    pub(super) fn root(node: &'s Node) -> Field<'s> {
        Field { node, path: String::new(), place: node.place, hidden: false }
    }

    fn entry(path: &str, entry: &'s Entry, segment: String) -> Field<'s> {
        Field { node: &entry.node, path: format!("{path}{segment}"), place: entry.key_place, hidden: false }
    }

    pub(super) fn hidden(mut self) -> Field<'s> {
        self.hidden = true;
        self
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }
}

/// A map whose keys are known.
pub(super) struct Table<'s> {
    entries: &'s [Entry],
    pub(super) path: String,
    pub(super) place: Place,
    known: &'static Keys,
    /// There are other keys, which have been reported: one of them may be what is missed.
    pub(super) has_unknown: bool,
}

impl<'s> Table<'s> {
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'s>> {
        debug_assert!(self.known.keys.contains(&key), "{} has no key {key}", self.known.name);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Field::entry(&self.path, entry, key_segment(key, self.path.is_empty())))
    }
}

/// Names that references may use, with the place each has in the model.
#[derive(Default)]
pub(super) struct Names<'s> {
    ordered: Vec<&'s str>,
    indexes: HashMap<&'s str, usize>,
}

impl<'s> Names<'s> {
    /// The keys of a map.
    pub(super) fn of_map(node: Option<&'s Node>) -> Names<'s> {
        match node.map(|node| &node.value) {
            Some(Value::Map(entries)) => Names::of(entries.iter().map(|entry| entry.key.as_str())),
            _ => Names::default(),
        }
    }

    /// The `name` of each item of a list.
    pub(super) fn of_list(node: Option<&'s Node>) -> Names<'s> {
        Names::of(node.map(Node::items).unwrap_or_default().iter().filter_map(name_of))
    }

    fn of(names: impl Iterator<Item = &'s str>) -> Names<'s> {
        let mut all = Names::default();
        for name in names {
            if !all.indexes.contains_key(name) {
                all.indexes.insert(name, all.ordered.len());
                all.ordered.push(name);
            }
        }
        all
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.indexes.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'s str> + '_ {
        self.ordered.iter().copied()
    }
}

fn name_of(node: &Node) -> Option<&str> {
    match &node.get("name")?.value {
        Value::Text(text) if !text.is_secret() => Some(text.reveal()),
        _ => None,
    }
}

/// What a path calls an item.
fn shown_name_of(node: &Node) -> Option<&str> {
    name_of(node).filter(|name| !name.is_empty())
}

impl<'s> Reader<'s> {
    pub(super) fn at(&self, field: &Field<'_>) -> At {
        self.source.at(field.node.place, field.path.clone())
    }

    /// Where the thing as a whole begins.
    pub(super) fn at_place(&self, place: Place, path: &str) -> At {
        self.source.at(place, path.to_owned())
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.report.push(diagnostic);
    }

    pub(super) fn error(&mut self, field: &Field<'_>, message: impl Into<String>, expected: &str) {
        let diagnostic = Diagnostic::error(&self.at(field), message).expecting(expected);
        self.push(diagnostic);
    }

    /// The value as a message calls it.
    pub(super) fn shown(&self, field: &Field<'_>) -> String {
        if field.hidden {
            return "the value".to_owned();
        }
        match &field.node.value {
            Value::Null | Value::Broken => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Text(text) if has_password(text.written()) => "the URL".to_owned(),
            Value::Text(text) => quoted(text.written()),
            Value::Bool(_) | Value::Number(_) => quoted(&self.written(field.node)),
        }
    }

    /// A number or truth value as it stands in the file.
    fn written(&self, node: &Node) -> String {
        let Place { start, len, .. } = node.place;
        match self.source.text().get(start..start.saturating_add(len)) {
            Some(text) if !text.is_empty() => text.trim_end().to_owned(),
            _ => match &node.value {
                Value::Bool(value) => value.to_string(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            },
        }
    }

    pub(super) fn wrong_kind(&mut self, field: &Field<'_>, kind: &str) {
        let message = match &field.node.value {
            // Reported when it could not be expanded.
            Value::Broken => return,
            Value::Null => "the key has no value".to_owned(),
            _ => format!("{} is not {kind}", self.shown(field)),
        };
        self.error(field, message, kind);
    }

    fn wrong_text(&mut self, field: &Field<'_>, mistake: Mistake) {
        let message = format!("{} {}", self.shown(field), mistake.what);
        self.error(field, message, &mistake.expected);
    }

    pub(super) fn missing(&mut self, table: &Table<'_>, key: &'static str, expected: &str) {
        debug_assert!(table.known.keys.contains(&key), "{} has no key {key}", table.known.name);
        let at = self.at_place(table.place, &table.path);
        self.push(Diagnostic::error(&at, format!("the key `{key}` is missing")).expecting(expected));
    }

    /// A map of known keys; each other key is reported.
    pub(super) fn table(&mut self, field: &Field<'s>, known: &'static Keys) -> Option<Table<'s>> {
        let Value::Map(entries) = &field.node.value else {
            self.wrong_kind(field, "a map");
            return None;
        };
        let mut has_unknown = false;
        for entry in entries.iter().filter(|entry| !known.keys.contains(&entry.key.as_str())) {
            has_unknown = true;
            let path = format!("{}{}", field.path, key_segment(&entry.key, field.path.is_empty()));
            let at = self.at_place(entry.key_place, &path);
            let synonym = known.synonyms.iter().find(|(other, _)| *other == entry.key).map(|(_, ours)| *ours);
            let near = synonym.or_else(|| nearest(&entry.key, known.keys.iter().copied()));
            let mut diagnostic = Diagnostic::error(&at, "no such key").with_nearest(near);
            if near.is_none() {
                diagnostic = diagnostic.expecting(format!("one of {}", known.keys.join(", ")));
            }
            self.push(diagnostic);
        }
        Some(Table { entries, path: field.path.clone(), place: field.place, known, has_unknown })
    }

    /// The map under `key`, if there is one.
    pub(super) fn table_at(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        known: &'static Keys,
    ) -> Option<Table<'s>> {
        let field = table.get(key)?;
        self.table(&field, known)
    }

    /// A map of names that the file chose.
    pub(super) fn named(&mut self, table: &Table<'s>, key: &'static str) -> Vec<(String, Field<'s>)> {
        let Some(field) = table.get(key) else { return Vec::new() };
        let Value::Map(entries) = &field.node.value else {
            self.wrong_kind(&field, "a map from names");
            return Vec::new();
        };
        let mut fields = Vec::with_capacity(entries.len());
        for entry in entries {
            let item = Field::entry(&field.path, entry, item_segment(Some(&entry.key), 0));
            if let Err(mistake) = units::name(&entry.key) {
                let at = self.at_place(entry.key_place, &item.path);
                let message = format!("{} {}", quoted(&entry.key), mistake.what);
                self.push(Diagnostic::error(&at, message).expecting(mistake.expected));
            }
            fields.push((entry.key.clone(), item));
        }
        fields
    }

    /// The items of a list, by name or number; `None` if there is no list.
    pub(super) fn list(&mut self, table: &Table<'s>, key: &'static str) -> Option<Vec<Field<'s>>> {
        let field = table.get(key)?;
        let Value::List(items) = &field.node.value else {
            self.wrong_kind(&field, "a list");
            return None;
        };
        let fields = items.iter().enumerate().map(|(index, node)| Field {
            node,
            path: format!("{}{}", field.path, item_segment(shown_name_of(node), index)),
            place: node.place,
            hidden: field.hidden,
        });
        Some(fields.collect())
    }

    /// The same where an empty list makes no sense.
    pub(super) fn filled_list(&mut self, table: &Table<'s>, key: &'static str) -> Option<Vec<Field<'s>>> {
        let items = self.list(table, key)?;
        if items.is_empty()
            && let Some(field) = table.get(key)
        {
            self.error(&field, "the list is empty", "at least one item");
        }
        Some(items)
    }

    /// Each item of a list by `unit`; each of which may stand only once.
    pub(super) fn units<T: Eq + Hash + Clone>(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        unit: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Vec<T> {
        self.distinct(table, key, |reader, field| reader.unit(field, &unit))
    }

    fn distinct<T: Eq + Hash + Clone>(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        mut read: impl FnMut(&mut Self, &Field<'s>) -> Option<T>,
    ) -> Vec<T> {
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for field in self.filled_list(table, key).unwrap_or_default() {
            let Some(value) = read(self, &field) else { continue };
            if seen.insert(value.clone()) {
                values.push(value);
            } else {
                let message = format!("{} stands in the list twice", self.shown(&field));
                let at = self.at(&field);
                self.push(Diagnostic::error(&at, message));
            }
        }
        values
    }

    /// A scalar as text; numbers as they were written.
    fn scalar(&mut self, field: &Field<'s>) -> Option<String> {
        match &field.node.value {
            Value::Text(text) => Some(text.reveal().to_owned()),
            Value::Bool(_) | Value::Number(_) => Some(self.written(field.node)),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Broken => {
                self.wrong_kind(field, "a single value");
                None
            }
        }
    }

    /// A scalar of one of the small languages of `units`.
    pub(super) fn unit<T>(
        &mut self,
        field: &Field<'s>,
        unit: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        let text = self.scalar(field)?;
        unit(&text).map_err(|mistake| self.wrong_text(field, mistake)).ok()
    }

    pub(super) fn unit_at<T>(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        unit: impl Fn(&str) -> Result<T, Mistake>,
    ) -> Option<T> {
        let field = table.get(key)?;
        self.unit(&field, unit)
    }

    /// The same where the key must be there.
    pub(super) fn needed<T>(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        unit: impl Fn(&str) -> Result<T, Mistake>,
        expected: &str,
    ) -> Option<T> {
        match table.get(key) {
            Some(field) => self.unit(&field, unit),
            None => {
                self.missing(table, key, expected);
                None
            }
        }
    }

    /// A text that is not to be mistaken for a number, such as a name.
    pub(super) fn text(&mut self, field: &Field<'s>) -> Option<&'s Text> {
        match &field.node.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                let message = format!("{} is not a text without quotes", self.shown(field));
                let expected = if field.hidden {
                    "the value in quotes".to_owned()
                } else {
                    format!("`\"{}\"`", self.written(field.node))
                };
                self.error(field, message, &expected);
                None
            }
            Value::Null | Value::List(_) | Value::Map(_) | Value::Broken => {
                self.wrong_kind(field, "a text");
                None
            }
        }
    }

    pub(super) fn secret(&mut self, field: Field<'s>) -> Option<Secret> {
        let field = field.hidden();
        let text = self.text(&field)?;
        if text.reveal().is_empty() {
            self.error(&field, "the value is empty", "`${env:NAME}` or `${file:path}`");
            return None;
        }
        if !text.is_secret() {
            let at = self.at(&field);
            self.push(
                Diagnostic::warning(&at, "a secret stands here in clear")
                    .expecting("`${env:NAME}` or `${file:path}`"),
            );
        }
        Some(Secret::new(text.reveal().to_owned()))
    }

    /// The name of a thing, which must be there and must be new.
    pub(super) fn name(
        &mut self,
        table: &Table<'s>,
        unit: fn(&str) -> Result<String, Mistake>,
        seen: &mut HashMap<String, u32>,
    ) -> String {
        let Some(field) = table.get("name") else {
            self.missing(table, "name", "a name to which others can refer");
            return String::new();
        };
        let Some(text) = self.text(&field) else { return String::new() };
        if text.is_secret() {
            // Names appear in messages, metrics and logs.
            self.error(&field, "a name cannot come from outside the file", "the name itself");
            return String::new();
        }
        match unit(text.reveal()) {
            Ok(name) => {
                self.once(&field, &name, "name", seen);
                name
            }
            Err(mistake) => {
                self.wrong_text(&field, mistake);
                String::new()
            }
        }
    }

    /// Reports a value that stood elsewhere before.
    pub(super) fn once(
        &mut self,
        field: &Field<'_>,
        value: &str,
        what: &str,
        seen: &mut HashMap<String, u32>,
    ) {
        match seen.get(value) {
            Some(line) => {
                let message =
                    format!("the {what} {} is given twice (first on line {line})", self.shown(field));
                let at = self.at(field);
                self.push(Diagnostic::error(&at, message));
            }
            None => {
                seen.insert(value.to_owned(), field.node.place.line);
            }
        }
    }

    /// The same of a thing that is not itself a value of the file; `what` calls it.
    pub(super) fn once_said(
        &mut self,
        field: &Field<'_>,
        value: &str,
        what: &str,
        seen: &mut HashMap<String, u32>,
    ) {
        if let Some(line) = seen.get(value) {
            let at = self.at(field);
            self.push(Diagnostic::error(&at, format!("a second {what} (first on line {line})")));
        } else {
            seen.insert(value.to_owned(), field.node.place.line);
        }
    }

    pub(super) fn boolean(&mut self, table: &Table<'s>, key: &'static str, default: bool) -> bool {
        let Some(field) = table.get(key) else { return default };
        match &field.node.value {
            Value::Bool(value) => *value,
            Value::Text(text) if text.is_secret() && matches!(text.reveal(), "true" | "false") => {
                text.reveal() == "true"
            }
            _ => {
                self.wrong_kind(&field, "`true` or `false`");
                default
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn integer<N>(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        default: N,
        range: RangeInclusive<u64>,
    ) -> N
    where
        N: TryFrom<u64>,
    {
        let Some(field) = table.get(key) else { return default };
        self.whole_number(&field, range).and_then(|number| N::try_from(number).ok()).unwrap_or(default)
    }

    pub(super) fn whole_number(&mut self, field: &Field<'s>, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match &field.node.value {
            Value::Number(number) => number.as_u64(),
            Value::Text(text) if text.is_secret() => text.reveal().parse().ok(),
            Value::Text(_) | Value::Bool(_) => None,
            Value::Null | Value::List(_) | Value::Map(_) | Value::Broken => {
                self.wrong_kind(field, "a whole number");
                return None;
            }
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            Some(_) => {
                let message = format!("{} is out of range", self.shown(field));
                self.error(field, message, &expected);
                None
            }
            None => {
                let message = format!("{} is not a whole number", self.shown(field));
                self.error(field, message, &expected);
                None
            }
        }
    }

    pub(super) fn duration(&mut self, table: &Table<'s>, key: &'static str, default: Duration) -> Duration {
        self.unit_at(table, key, units::duration).unwrap_or(default)
    }

    /// The same where none at all makes no sense.
    pub(super) fn some_duration(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        default: Duration,
    ) -> Duration {
        let Some(field) = table.get(key) else { return default };
        match self.unit(&field, units::duration) {
            Some(Duration::ZERO) => {
                self.error(&field, "zero is no time at all", "at least `1ms`");
                default
            }
            duration => duration.unwrap_or(default),
        }
    }

    /// A size in bytes in a range.
    pub(super) fn bytes(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let field = table.get(key)?;
        let bytes = self.unit(&field, units::bytes)?;
        if range.contains(&bytes) {
            return Some(bytes);
        }
        let message = format!("{} is out of range", self.shown(&field));
        let expected =
            format!("{} to {}", units::shown_bytes(*range.start()), units::shown_bytes(*range.end()));
        self.error(&field, message, &expected);
        None
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        default: T,
        words: &[(&'static str, T)],
    ) -> T {
        let Some(field) = table.get(key) else { return default };
        let Some(text) = self.scalar(&field) else { return default };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                let at = self.at(&field);
                let names = words.iter().map(|(word, _)| *word);
                let near = nearest(&text, names.clone());
                let expected = one_of(&names.collect::<Vec<_>>());
                let message = format!("{} is not a valid choice", self.shown(&field));
                self.push(Diagnostic::error(&at, message).with_nearest(near).expecting(expected));
                default
            }
        }
    }

    /// A path of the file system, from the configuration file's folder.
    pub(super) fn file(&mut self, table: &Table<'s>, key: &'static str) -> Option<PathBuf> {
        let field = table.get(key)?;
        let text = self.text(&field)?;
        if text.reveal().is_empty() || text.reveal().contains('\0') {
            let message = format!("{} is not a path", self.shown(&field));
            self.error(&field, message, "a path, absolute or from this file's folder");
            return None;
        }
        Some(self.source.folder.join(text.reveal()))
    }

    pub(super) fn needed_file(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        expected: &str,
    ) -> Option<PathBuf> {
        if table.get(key).is_none() {
            self.missing(table, key, expected);
            return None;
        }
        self.file(table, key)
    }

    /// A reference to a thing by its name.
    pub(super) fn reference(&mut self, field: &Field<'s>, what: &str, names: &Names<'_>) -> Option<String> {
        let text = self.text(field)?;
        let name = text.reveal();
        if names.index(name).is_some() {
            return Some(name.to_owned());
        }
        let shown = self.shown(field);
        let at = self.at(field);
        let diagnostic = if self.report.is_full() {
            Diagnostic::error(&at, format!("no {what} is named {shown}"))
        } else if names.ordered.is_empty() {
            Diagnostic::error(&at, format!("no {what} is named {shown}; none is declared"))
        } else {
            Diagnostic::error(&at, format!("no {what} is named {shown}"))
                .with_declared(text.written(), names.iter())
        };
        self.push(diagnostic);
        None
    }

    pub(super) fn references(
        &mut self,
        table: &Table<'s>,
        key: &'static str,
        what: &str,
        names: &Names<'_>,
    ) -> Vec<String> {
        self.distinct(table, key, |reader, field| reader.reference(field, what, names))
    }
}

pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() > SHOWN_CHARS_MAX {
        format!("\"{}…\"", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
    } else {
        format!("\"{text}\"")
    }
}

/// `a`, `a or b`, `a, b or c`.
fn one_of(words: &[&str]) -> String {
    match words {
        [first @ .., before, last] => {
            let first: String = first.iter().map(|word| format!("{word}, ")).collect();
            format!("{first}{before} or {last}")
        }
        _ => words.concat(),
    }
}
