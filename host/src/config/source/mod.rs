//! A configuration file as a tree of values, each of which knows where it stands.
//!
//! Called by `config::load`. Reads YAML (of which JSON is a subset; `yaml` alone knows the library)
//! and expands `${env:NAME}` and `${file:path}` (`expand`). The only module of `config` that reads
//! files. Never interprets a key, except to hide secrets: what values mean is for `check`.

mod expand;
mod positions;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::positions::Positions;

use self::expand::Expand;
use super::diagnostic::{Diagnostic, Listing, Report};
use super::model::At;

/// Bytes of a configuration file. A hundred thousand consumers need about 13 MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where a key or value stands in the file's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Byte offset of the first character.
    pub start: usize,
    /// Bytes, quotes included. Of lists and maps: meaningless.
    pub len: usize,
    /// The value came by an alias or a merge key: its text stands elsewhere than its use.
    pub aliased: bool,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What was written could not be expanded; that has been reported already.
    Broken,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

#[derive(Clone)]
pub struct Text {
    text: String,
    /// The text before expansion, if anything was expanded: then the value is a secret.
    written: Option<String>,
}

impl Text {
    /// The text to work with; secret if `is_secret`.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The text to show.
    pub fn written(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }

    pub fn is_secret(&self) -> bool {
        self.written.is_some()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written().fmt(f)
    }
}

impl Node {
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// As JSON, secrets expanded.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null | Value::Broken => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(value) => serde_json::Value::Number(value.clone()),
            Value::Text(text) => text.reveal().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
            }
        }
    }
}

/// A file that could be read, at least as YAML.
#[derive(Debug)]
pub struct Source {
    pub file: Arc<str>,
    /// Where relative paths begin.
    pub folder: PathBuf,
    pub root: Node,
    pub listing: Arc<Listing>,
    /// The configuration file and all that `${file:}` named.
    pub files: Vec<PathBuf>,
    /// What went wrong already: keys given twice, failed expansions.
    pub mistakes: Vec<Diagnostic>,
}

impl Source {
    pub fn at(&self, place: Place, path: String) -> At {
        At { file: self.file.clone(), line: place.line, column: place.column, path }
    }

    pub fn text(&self) -> &str {
        self.listing.text()
    }
}

/// Reads and expands a file. An error if there is no tree to work with.
pub fn read(path: &Path) -> Result<Source, Report> {
    match read_bounded(path, FILE_BYTES_MAX, "a configuration").and_then(text_of) {
        Ok(text) => parse(path, text),
        Err(why) => Err(refusal(path, None, 0, 0, format!("cannot be read: {why}"))),
    }
}

/// The same with a text in hand, as if it stood in the file at `path`.
pub fn parse(path: &Path, text: String) -> Result<Source, Report> {
    let parsed = yaml::parse(&text);
    let mut listing = Listing::new(text);
    let raw = match parsed {
        Ok(raw) => raw,
        Err(error) => {
            if listing.line(error.line).is_some_and(might_hold_secret) {
                listing.hide(error.line, error.line);
            }
            return Err(refusal(path, Some(listing), error.line, error.column, error.message));
        }
    };
    if matches!(raw.value, yaml::Raw::Null) {
        return Err(refusal(path, Some(listing), 0, 0, yaml::EMPTY.to_owned()));
    }
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut expand = Expand::new(path, &folder, &mut listing);
    let root = expand.node(raw);
    let (files, mistakes) = expand.finish();
    let file = path.display().to_string().into();
    hide_secrets(&root, &mut listing);
    Ok(Source { file, folder, root, listing: Arc::new(listing), files, mistakes })
}

fn refusal(path: &Path, listing: Option<Listing>, line: u32, column: u32, message: String) -> Report {
    let at = At { file: path.display().to_string().into(), line, column, path: String::new() };
    let mut report = Report::new(listing.map(Arc::new), vec![path.to_path_buf()]);
    report.push(Diagnostic::error(&at, message));
    report
}

fn read_bounded(path: &Path, bytes_max: u64, what: &str) -> Result<Vec<u8>, String> {
    crate::file::read(path, bytes_max).map_err(|error| match error.kind() {
        _ if path.is_dir() => "it is a folder".to_owned(),
        std::io::ErrorKind::FileTooLarge => format!("{what} has at most {} KiB", bytes_max >> 10),
        _ => plain(&error),
    })
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8 (the byte at offset {})", error.utf8_error().valid_up_to()))
}

/// `No such file or directory (os error 2)` as `no such file or directory`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Marks the lines where a secret stands in clear: in the places made for secrets, and in URLs.
fn hide_secrets(root: &Node, listing: &mut Listing) {
    let token = root.get("admin").and_then(|admin| admin.get("token"));
    let secrets = match root.get("secrets").map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let consumers = root.get("consumers").map(Node::items).unwrap_or_default();
    let subscriptions =
        consumers.iter().filter_map(|consumer| consumer.get("subscriptions")).flat_map(Node::items);
    let keys = subscriptions.filter_map(|subscription| subscription.get("keys")).flat_map(|keys| {
        if matches!(keys.value, Value::List(_)) { keys.items() } else { std::slice::from_ref(keys) }
    });
    let hashed =
        |node: &&Node| matches!(&node.value, Value::Text(text) if text.written().starts_with("sha256:"));
    let places = token.into_iter().chain(secrets.iter().map(|entry| &entry.node));
    for node in places.chain(keys.filter(|key| !hashed(key))) {
        if matches!(&node.value, Value::Text(text) if !text.is_secret())
            || matches!(node.value, Value::Number(_))
        {
            hide(node, listing);
        }
    }
    hide_passwords(root, listing);
}

fn hide_passwords(node: &Node, listing: &mut Listing) {
    match &node.value {
        Value::Text(text) if has_password(text.written()) => hide(node, listing),
        Value::List(items) => items.iter().for_each(|item| hide_passwords(item, listing)),
        Value::Map(entries) => entries.iter().for_each(|entry| hide_passwords(&entry.node, listing)),
        _ => {}
    }
}

fn hide(node: &Node, listing: &mut Listing) {
    let last = listing.line_of(node.place.start + node.place.len.saturating_sub(1));
    listing.hide(node.place.line, last.max(node.place.line));
}

/// Whether a text is a URL with a user name, and so probably with a password.
pub(super) fn has_password(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    })
}

/// Whether a line of a file that is not valid YAML might hold a secret.
fn might_hold_secret(line: &str) -> bool {
    const WORDS: [&str; 5] = ["token", "secret", "password", "key", "authorization"];
    let line = line.to_ascii_lowercase();
    WORDS.iter().any(|word| line.contains(word)) || (line.contains("://") && line.contains('@'))
}

/// `[name]`, else `[3]`.
pub(super) fn item_segment(name: Option<&str>, index: usize) -> String {
    match name {
        Some(name) => format!("[{name}]"),
        None => format!("[{index}]"),
    }
}

pub(super) fn key_segment(key: &str, first: bool) -> String {
    if first { key.to_owned() } else { format!(".{key}") }
}

#[cfg(test)]
mod tests {
    use super::super::model::PositionOf as _;
    use super::*;

    fn source(text: &str) -> Source {
        parse(Path::new("test.yaml"), text.to_owned()).unwrap()
    }

    fn place(node: &Node) -> (u32, u32) {
        (node.place.line, node.place.column)
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let source = source("a: 1\nb:\n  - x: [é, \"q\"]\n    y: { z: text }\n  - two\n");
        let b = source.root.entry("b").unwrap();
        assert_eq!((b.key_place.line, b.key_place.column), (2, 1));
        let first = &b.node.items()[0];
        assert_eq!(place(first), (3, 5));
        assert_eq!(place(first.get("x").unwrap()), (3, 8));
        let quoted = &first.get("x").unwrap().items()[1];
        assert_eq!(place(quoted), (3, 12));
        assert_eq!(&source.text()[quoted.place.start..][..quoted.place.len], "\"q\"");
        let z = first.get("y").unwrap().entry("z").unwrap();
        assert_eq!((z.key_place.line, z.key_place.column), (4, 10));
        assert_eq!(&source.text()[z.node.place.start..][..z.node.place.len], "text");
        assert_eq!(place(&b.node.items()[1]), (5, 5));
    }

    #[test]
    fn expands_and_remembers_that_the_value_is_secret() {
        let source = source("a: pre-${env:CARGO_PKG_NAME}-$${x}\nb: plain\n");
        assert!(source.mistakes.is_empty(), "{:?}", source.mistakes);
        let Value::Text(a) = &source.root.get("a").unwrap().value else { panic!() };
        assert_eq!(a.reveal(), "pre-witgate-${x}");
        assert!(a.is_secret());
        assert!(!format!("{a:?}").contains("witgate"));
        let Value::Text(b) = &source.root.get("b").unwrap().value else { panic!() };
        assert!(!b.is_secret());
    }

    #[test]
    fn what_cannot_be_expanded_is_reported_and_never_empty() {
        let source = source(
            "a: ${env:WITGATE_NO_SUCH}\nb: ${file:no/such}\nc: ${what}\nd: \"${env:X\"\ne: ${env:1 2}\nf: ${file:/}\n",
        );
        let messages: Vec<&str> = source.mistakes.iter().map(|m| m.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "the environment variable \"WITGATE_NO_SUCH\" is not set",
                "the file \"no/such\" cannot be read: no such file or directory",
                "`${what}` is not a reference",
                "\"${env:X\" has a `${` without a `}`",
                "`${env:1 2}` is not a reference",
                "the file \"/\" cannot be read: it is a folder",
            ]
        );
        assert!(matches!(source.root.get("a").unwrap().value, Value::Broken));
        assert_eq!(source.files.len(), 3);
    }

    #[test]
    fn keys_given_twice_are_all_reported() {
        let source = source("a: 1\nb: { c: 1, c: 2 }\na: 3\n");
        let shown: Vec<String> =
            source.mistakes.iter().map(|m| format!("{}:{} {}", m.at.line, m.at.column, m.at.path)).collect();
        assert_eq!(shown, ["2:12 b.c", "3:1 a"]);
    }

    #[test]
    fn alias_bombs_deep_nests_and_large_files_are_refused() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='i').zip('a'..='h') {
            bomb.push_str(&format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 10].join(", ")));
        }
        let refused = |text: &str| parse(Path::new("t"), text.to_owned()).unwrap_err().to_string();
        assert!(refused(&bomb).contains("aliases repeat more than"), "{}", refused(&bomb));
        assert!(refused(&"[".repeat(100_000)).contains("t:1:"));
        assert!(refused("a: 1\n---\nb: 2\n").contains("document"));
        assert!(refused("").contains("empty"));
        assert!(refused("a: [1\nb: 2").contains("not valid YAML"));
        let clear = refused("admin: { token: hunter2, x: ] }");
        assert!(clear.contains("not valid YAML") && !clear.contains("hunter2"), "{clear}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.yaml");
        std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("at most 16384 KiB"));
        std::fs::write(&path, b"a: \xff").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn pointers_find_places() {
        let source = source("config:\n  a/b: [1, { c: \"${env:CARGO_PKG_NAME}\" }]\n");
        let node = source.root.get("config").unwrap();
        let positions = Positions::of(&source, node, "p.config");
        let at = positions.position_of("/a~1b/1/c").unwrap();
        assert_eq!((at.line, at.column, at.path.as_str()), (2, 17, "p.config.a/b[1].c"));
        assert!(positions.is_secret("/a~1b/1/c") && !positions.is_secret("/a~1b/0"));
        assert!(positions.position_of("/nope").is_none());
        assert_eq!(positions.position_of("").unwrap().path, "p.config");
    }
}
