//! `witgate key add`: makes a subscription key, prints it once, and writes its hash into the file.
//!
//! The file is edited as text, one insertion, so comments and formatting stay. The result is
//! checked before it replaces the file: if it would not be the old configuration and one key more,
//! nothing is written. Never stores or logs the key itself.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock;
use crate::config::model::Config;
use crate::config::source::{self, Entry, Node, Source, Value};
use crate::config::{self, Loaded};

/// Bytes of randomness in a key.
const KEY_BYTES: usize = 32;

/// A key that has been written (as its hash) into the configuration.
pub struct Added {
    /// To be shown once; nothing keeps it.
    pub key: String,
    pub product: String,
}

/// Adds a key and prints it to `out`, or says to `err` why not. Returns the exit code.
pub fn run(
    path: &Path,
    consumer: &str,
    product: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    match add(path, consumer, product) {
        Ok(added) => {
            writeln!(out, "{}", added.key)?;
            writeln!(
                err,
                "a key of consumer \"{consumer}\" for product \"{}\"; it is shown this once, {} has its hash",
                added.product,
                path.display()
            )?;
            Ok(0)
        }
        Err(why) => {
            writeln!(err, "{}", why.trim_end())?;
            Ok(1)
        }
    }
}

/// Makes a key for the consumer's subscription to the product; consumer and subscription are made
/// if there are none. Without `product`: the only one that the consumer has, or that there is.
pub fn add(path: &Path, consumer: &str, product: Option<&str>) -> Result<Added, String> {
    // The file itself, not the link to it, is replaced.
    let real = fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let source = source::read(path).map_err(|report| report.to_string())?;
    let loaded = config::check_source(&source).map_err(|report| report.to_string())?;
    let product = product_for(&loaded.config, consumer, product)?;

    let mut secret = [0; KEY_BYTES];
    clock::random_bytes(&mut secret);
    let key = URL_SAFE_NO_PAD.encode(secret);
    let text = with_key(path, &source, &loaded, consumer, &product, &hash_of(&key))?;
    replace(&real, source.text(), &text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Added { key, product })
}

fn hash_of(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    hash
}

fn product_for(config: &Config, consumer: &str, product: Option<&str>) -> Result<String, String> {
    let declared = || config.products.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(product) = product {
        if config.products.iter().any(|it| it.name == product) {
            return Ok(product.to_owned());
        }
        return Err(format!("no product is named \"{product}\" (declared: {})", declared()));
    }
    let subscribed: Vec<&str> = config
        .consumers
        .iter()
        .filter(|it| it.name == consumer)
        .flat_map(|it| it.subscriptions.iter().map(|subscription| subscription.product.as_str()))
        .collect();
    match (subscribed.as_slice(), config.products.as_slice()) {
        ([product], _) => Ok((*product).to_owned()),
        ([], [product]) => Ok(product.name.clone()),
        ([], []) => Err("the configuration has no products to subscribe to".to_owned()),
        _ => Err(format!("which product? say `--product NAME` (declared: {})", declared())),
    }
}

/// The file's text with one key more.
fn with_key(
    path: &Path,
    source: &Source,
    loaded: &Loaded,
    consumer: &str,
    product: &str,
    hash: &[u8; 32],
) -> Result<String, String> {
    let by_hand = |why: &str| {
        let hash = shown_hash(hash);
        format!("{}: {why}; nothing was written (a key's hash looks like {hash})", path.display())
    };
    let insertion = insertion(source, consumer, product, &shown_hash(hash)).ok_or_else(|| {
        by_hand("the place for the key cannot be found in this layout; please add a subscription by hand")
    })?;
    let mut text = source.text().to_owned();
    text.insert_str(insertion.at, &insertion.text);
    let changed = config::load_text(path, text.clone())
        .map_err(|report| by_hand(&format!("with the key added, it would not be valid:\n{report}")))?;
    if is_one_key_more(loaded, &changed, consumer, product, hash) {
        Ok(text)
    } else {
        Err(by_hand("with the key added, it would say something else"))
    }
}

fn shown_hash(hash: &[u8; 32]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn is_one_key_more(old: &Loaded, new: &Loaded, consumer: &str, product: &str, hash: &[u8; 32]) -> bool {
    let grants = |loaded: &Loaded| {
        let mut grants = Vec::new();
        for consumer in &loaded.config.consumers {
            for subscription in &consumer.subscriptions {
                for key in &subscription.keys {
                    grants.push((consumer.name.clone(), subscription.product.clone(), *key));
                }
            }
        }
        grants.sort();
        grants
    };
    let rest = |loaded: &Loaded| {
        let mut all = config::effective(&loaded.config);
        all["consumers"].take();
        all
    };
    let mut expected = grants(old);
    expected.push((consumer.to_owned(), product.to_owned(), *hash));
    expected.sort();
    grants(new) == expected && rest(old) == rest(new)
}

struct Insertion {
    /// Byte offset.
    at: usize,
    text: String,
}

/// Where to put the key, by what is there already.
fn insertion(source: &Source, consumer: &str, product: &str, hash: &str) -> Option<Insertion> {
    let layout = Layout { text: source.text() };
    let root = &source.root;
    let Some(consumers) = root.get("consumers") else {
        return layout.consumers_added(root, consumer, product, hash);
    };
    let named = |node: &&Node| text_at(node, "name") == Some(consumer);
    let Some(known) = consumers.items().iter().find(named) else {
        return layout.item_added(
            consumers,
            &[("name", Written::Text(consumer)), ("subscriptions", Written::Subscription { product, hash })],
        );
    };
    let Some(subscriptions) = known.get("subscriptions") else {
        let name = known.entry("name")?;
        return layout.entry_added(known, name, "subscriptions", &Written::Subscription { product, hash });
    };
    let subscribed = |node: &&Node| text_at(node, "product") == Some(product);
    let Some(subscription) = subscriptions.items().iter().find(subscribed) else {
        return layout.item_added(
            subscriptions,
            &[("product", Written::Text(product)), ("keys", Written::Keys { hash })],
        );
    };
    match subscription.get("keys") {
        Some(keys) => layout.scalar_added(keys, hash),
        None => {
            let product = subscription.entry("product")?;
            layout.entry_added(subscription, product, "keys", &Written::Keys { hash })
        }
    }
}

fn text_at<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    match &node.get(key)?.value {
        Value::Text(text) => Some(text.reveal()),
        _ => None,
    }
}

/// A value to be written, on one line.
enum Written<'a> {
    Text(&'a str),
    Keys { hash: &'a str },
    Subscription { product: &'a str, hash: &'a str },
}

impl Written<'_> {
    fn inline(&self, json: bool) -> String {
        let key = |key: &str| if json { format!("\"{key}\"") } else { key.to_owned() };
        match self {
            Written::Text(text) => scalar(text, json),
            Written::Keys { hash } => format!("[\"{hash}\"]"),
            Written::Subscription { product, hash } => format!(
                "[{{ {}: {}, {}: [\"{hash}\"] }}]",
                key("product"),
                scalar(product, json),
                key("keys")
            ),
        }
    }
}

/// Plain where that is a text in every YAML, else in double quotes, as JSON has them.
fn scalar(text: &str, json: bool) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && text != "n"
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain && !json { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// The text of a file, seen as lines and brackets.
struct Layout<'t> {
    text: &'t str,
}

impl Layout<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn is_flow(&self, node: &Node) -> bool {
        matches!(self.byte(node.place.start), Some(b'[' | b'{'))
    }

    fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// The offset just behind a value.
    fn end_of(&self, node: &Node) -> Option<usize> {
        if node.place.aliased {
            return None;
        }
        let (last, close) = match &node.value {
            Value::List(items) => (items.last().map(|item| self.end_of(item)), b']'),
            Value::Map(entries) => (entries.last().map(|entry| self.end_of(&entry.node)), b'}'),
            _ => return Some(node.place.start + node.place.len),
        };
        if !self.is_flow(node) {
            return last?;
        }
        // Between the last value and the bracket are only commas, white space and comments.
        let mut at = match last {
            Some(end) => end?,
            None => node.place.start + 1,
        };
        loop {
            match self.byte(at)? {
                byte if byte == close => return Some(at + 1),
                b'#' => at = self.line_end(at),
                b',' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                _ => return None,
            }
        }
    }

    /// The offset of the end of the line on which `at` stands, before its newline.
    fn line_end(&self, at: usize) -> usize {
        // A block scalar ends behind its newline.
        let at = if at > 0 && self.byte(at - 1) == Some(b'\n') { at - 1 } else { at };
        let end =
            self.text.get(at..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |end| at + end);
        if end > at && self.byte(end - 1) == Some(b'\r') { end - 1 } else { end }
    }

    /// What stands before `at` on its line.
    fn before(&self, at: usize) -> Option<&str> {
        let start = self.text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
        self.text.get(start..at)
    }

    /// Whether keys here are in quotes, as JSON needs them.
    fn is_json(&self, entries: &[Entry]) -> bool {
        entries.first().is_some_and(|entry| self.byte(entry.key_place.start) == Some(b'"'))
    }

    fn root_is_json(&self) -> bool {
        self.text.trim_start().starts_with("{")
    }

    /// A text behind the last item of a list.
    fn scalar_added(&self, list: &Node, hash: &str) -> Option<Insertion> {
        if self.is_flow(list) {
            return self.flow_item(list, &format!("\"{hash}\""));
        }
        let (at, indent) = self.block_end(list)?;
        Some(Insertion { at, text: format!("{}{indent}- \"{hash}\"", self.newline()) })
    }

    /// A map behind the last item of a list.
    fn item_added(&self, list: &Node, entries: &[(&str, Written<'_>)]) -> Option<Insertion> {
        if self.is_flow(list) {
            let json = match list.items().first().map(|item| &item.value) {
                Some(Value::Map(entries)) => self.is_json(entries),
                _ => self.root_is_json(),
            };
            let quoted = |key: &str| if json { format!("\"{key}\"") } else { key.to_owned() };
            let pairs: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", quoted(key), value.inline(json)))
                .collect();
            return self.flow_item(list, &format!("{{ {} }}", pairs.join(", ")));
        }
        let (at, indent) = self.block_end(list)?;
        let mut text = String::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            let lead = if index == 0 { "- " } else { "  " };
            text.push_str(&format!("{}{indent}{lead}{key}: {}", self.newline(), value.inline(false)));
        }
        Some(Insertion { at, text })
    }

    fn flow_item(&self, list: &Node, item: &str) -> Option<Insertion> {
        if list.place.aliased {
            return None;
        }
        match list.items().last() {
            Some(last) => Some(Insertion { at: self.end_of(last)?, text: format!(", {item}") }),
            None => Some(Insertion { at: list.place.start + 1, text: item.to_owned() }),
        }
    }

    /// Behind the last line of a block list, and what stands before its dashes.
    fn block_end(&self, list: &Node) -> Option<(usize, &str)> {
        let last = list.items().last()?;
        let end = self.end_of(last)?;
        let indent = self.before(last.place.start)?.trim_end().strip_suffix('-')?;
        if list.place.aliased || !indent.trim().is_empty() {
            return None;
        }
        Some((self.line_end(end), indent))
    }

    /// A key behind another of the same map.
    fn entry_added(&self, map: &Node, after: &Entry, key: &str, value: &Written<'_>) -> Option<Insertion> {
        if map.place.aliased || after.key_place.aliased {
            return None;
        }
        let end = self.end_of(&after.node)?;
        if self.is_flow(map) {
            let json = self.byte(after.key_place.start) == Some(b'"');
            let key = if json { format!("\"{key}\"") } else { key.to_owned() };
            return Some(Insertion { at: end, text: format!(", {key}: {}", value.inline(json)) });
        }
        let indent = self.before(after.key_place.start)?;
        if !indent.chars().all(|c| matches!(c, ' ' | '-')) {
            return None;
        }
        let indent = indent.replace('-', " ");
        let text = format!("{}{indent}{key}: {}", self.newline(), value.inline(false));
        Some(Insertion { at: self.line_end(end), text })
    }

    /// The key `consumers` at the end of the file.
    fn consumers_added(&self, root: &Node, consumer: &str, product: &str, hash: &str) -> Option<Insertion> {
        let Value::Map(entries) = &root.value else { return None };
        let subscription = Written::Subscription { product, hash };
        if self.is_flow(root) {
            let json = self.is_json(entries);
            let quoted = |key: &str| if json { format!("\"{key}\"") } else { key.to_owned() };
            let text = format!(
                ", {}: [{{ {}: {}, {}: {} }}]",
                quoted("consumers"),
                quoted("name"),
                scalar(consumer, json),
                quoted("subscriptions"),
                subscription.inline(json)
            );
            return Some(Insertion { at: self.end_of(&entries.last()?.node)?, text });
        }
        let newline = self.newline();
        let first = if self.text.ends_with('\n') { "" } else { newline };
        let indent = self.before(entries.first()?.key_place.start)?;
        let text = format!(
            "{first}{newline}{indent}consumers:{newline}{indent}  - name: {}{newline}{indent}    subscriptions: {}{newline}",
            scalar(consumer, false),
            subscription.inline(false)
        );
        Some(Insertion { at: self.text.len(), text })
    }
}

/// Puts `new` in the place of the file, whole or not at all, if it still is `old`. Mode and owner
/// stay, so that a gateway that could read it still can.
fn replace(path: &Path, old: &str, new: &str) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{:016x}.new", clock::random_u64()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(new.as_bytes())?;
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (metadata.uid(), metadata.gid()) {
            std::os::unix::fs::fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        file.set_permissions(metadata.permissions())?;
        file.sync_all()?;
        if fs::read(path)? != old.as_bytes() {
            return Err(io::Error::other("the file changed meanwhile; nothing was written"));
        }
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What is left over holds no key, only a hash; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const HEAD: &str = "\
listeners: [{ name: public, address: \"127.0.0.1:8080\" }]
upstreams: { a: { endpoints: [\"http://127.0.0.1:9001\"] } }
apis: [{ name: a, path: /, upstream: a }]
products: [{ name: starter, apis: [a] }, { name: gold, apis: [a] }]
";
    const OLD: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

    /// What `consumers` (after `HEAD`) becomes when Ann gets a key for the starter product.
    fn edited(consumers: &str) -> Result<String, String> {
        edited_whole(&format!("{HEAD}{consumers}"))
            .map(|text| text.strip_prefix(HEAD).map(str::to_owned).unwrap_or(text))
    }

    fn edited_whole(text: &str) -> Result<String, String> {
        let path = Path::new("w.yaml");
        let source = source::parse(path, text.replace("OLD", OLD)).unwrap();
        let loaded = config::check_source(&source).unwrap();
        let hash = [0xbb; 32];
        let text = with_key(path, &source, &loaded, "ann", "starter", &hash)?;
        Ok(text.replace(OLD, "OLD").replace(&shown_hash(&hash), "NEW"))
    }

    #[test]
    fn adds_to_a_subscription_and_keeps_comments() {
        assert_eq!(
            edited(
                "consumers:\n  # people\n  - name: ann\n    subscriptions:\n      - product: starter  # cheap\n        keys:\n          - \"OLD\"  # laptop\n\n  # the end\n"
            )
            .unwrap(),
            "consumers:\n  # people\n  - name: ann\n    subscriptions:\n      - product: starter  # cheap\n        keys:\n          - \"OLD\"  # laptop\n          - \"NEW\"\n\n  # the end\n"
        );
        assert_eq!(
            edited("consumers: [{ name: ann, subscriptions: [{ product: starter, keys: [OLD, ] }] }] # x")
                .unwrap(),
            "consumers: [{ name: ann, subscriptions: [{ product: starter, keys: [OLD, \"NEW\", ] }] }] # x"
        );
    }

    #[test]
    fn makes_what_is_missing() {
        assert_eq!(
            edited(
                "consumers:\n- name: ann\n  subscriptions:\n  - product: starter # x\n    suspended: false\n"
            )
            .unwrap(),
            "consumers:\n- name: ann\n  subscriptions:\n  - product: starter # x\n    keys: [\"NEW\"]\n    suspended: false\n"
        );
        assert_eq!(
            edited("consumers:\n  - name: ann\n    subscriptions:\n      - product: gold\n        keys: [\n          OLD, # x\n        ]\n  - name: bob\n").unwrap(),
            "consumers:\n  - name: ann\n    subscriptions:\n      - product: gold\n        keys: [\n          OLD, # x\n        ]\n      - product: starter\n        keys: [\"NEW\"]\n  - name: bob\n"
        );
        assert_eq!(
            edited("consumers:\n  - name: bob\n  - { name: ann }\n").unwrap(),
            "consumers:\n  - name: bob\n  - { name: ann, subscriptions: [{ product: starter, keys: [\"NEW\"] }] }\n"
        );
        assert_eq!(
            edited("consumers:\n  - name: bob").unwrap(),
            "consumers:\n  - name: bob\n  - name: ann\n    subscriptions: [{ product: starter, keys: [\"NEW\"] }]"
        );
        assert_eq!(
            edited("consumers: []\n").unwrap(),
            "consumers: [{ name: ann, subscriptions: [{ product: starter, keys: [\"NEW\"] }] }]\n"
        );
        assert_eq!(
            edited("# end").unwrap(),
            "# end\n\nconsumers:\n  - name: ann\n    subscriptions: [{ product: starter, keys: [\"NEW\"] }]\n"
        );
    }

    #[test]
    fn windows_newlines_stay() {
        let text = format!("{HEAD}consumers:\n  - name: bob\n").replace('\n', "\r\n");
        let text = edited_whole(&text).unwrap();
        assert!(
            text.ends_with("  - name: ann\r\n    subscriptions: [{ product: starter, keys: [\"NEW\"] }]\r\n")
        );
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    }

    #[test]
    fn json_stays_json() {
        let json = r#"{"listeners": [{"name": "p", "address": "127.0.0.1:1"}], "apis": [],
            "products": [{"name": "starter", "apis": ["a"]}]"#
            .replace(
                r#""apis": [],"#,
                r#""apis": [{"name": "a", "path": "/", "chain": [{"plugin": "x"}]}],"#,
            );
        for rest in [
            r#"}"#,
            r#", "consumers": []}"#,
            r#", "consumers": [{"name": "ann"}]}"#,
            r#", "consumers": [{"name": "ann", "subscriptions": [{"product": "starter"}]}]}"#,
            r#", "consumers": [{"name": "ann", "subscriptions": [{"product": "starter", "keys": ["OLD"]}]}]}"#,
        ] {
            let text = edited_whole(&format!("{json}{rest}")).unwrap();
            let value: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
            assert!(value["consumers"].to_string().contains("NEW"), "{text}");
        }
    }

    #[test]
    fn refuses_what_would_change_more_than_it_should() {
        let aliased = "consumers:\n  - name: bob\n    subscriptions: &s [{ product: starter }]\n  - name: ann\n    subscriptions: *s\n";
        let why = edited(aliased).unwrap_err();
        assert!(why.contains("nothing was written"), "{why}");
    }

    #[test]
    fn names_that_need_quotes_get_them() {
        assert_eq!(scalar("mobile-app", false), "mobile-app");
        assert_eq!(scalar("auth0|1", false), "\"auth0|1\"");
        assert_eq!(scalar("No", false), "\"No\"");
        assert_eq!(scalar("12", false), "\"12\"");
    }

    #[test]
    fn writes_the_file_keeps_its_mode_and_prints_the_key_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witgate.yaml");
        fs::write(&path, HEAD).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink(&path, &link).unwrap();

        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(run(&link, "Ann Smith", Some("gold"), &mut out, &mut err).unwrap(), 0);
        let key = String::from_utf8(out).unwrap();
        let key = key.trim_end();
        assert_eq!(key.len(), 43);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.contains(&shown_hash(&hash_of(key))) && !text.contains(key));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        let second = add(&path, "Ann Smith", None).unwrap();
        assert_ne!(second.key, key);
        assert_eq!(config::load(&path).unwrap().config.consumers[0].subscriptions[0].keys.len(), 2);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left");
    }

    #[test]
    fn says_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witgate.yaml");
        let why = |consumer: &str, product| add(&path, consumer, product).err().unwrap();
        assert!(why("ann", None).contains("No such file"));
        fs::write(&path, HEAD).unwrap();
        assert!(why("ann", None).contains("which product? say `--product NAME` (declared: starter, gold)"));
        assert!(why("ann", Some("silver")).contains("no product is named \"silver\""));
        assert!(why("", Some("gold")).contains("nothing was written"));
        assert!(why("${env:HOME}", Some("gold")).contains("nothing was written"));
        assert_eq!(fs::read_to_string(&path).unwrap(), HEAD);
        fs::write(&path, "listeners: 1\n").unwrap();
        assert!(why("ann", None).contains("\"1\" is not a list"));
    }
}
