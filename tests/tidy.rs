//! Holds what no compiler holds: the arrows between the rooms of `host/src`, what every file
//! begins with, where panics may be, and what must not stand in a file at all.
//!
//! Reads the sources as text, with comments, strings and tests blanked. The order of the rooms is
//! the one of `host/src/lib.rs` and stands nowhere else. `documents.rs` does the same for prose.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Besides `config` itself, the only rooms that see its types.
const CONFIG_READERS: [&str; 3] = ["cli", "server", "compile"];

/// Each needs an `#[expect]` with its reason just above, outside tests.
const PANICS: [&str; 6] = [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"];

/// How many lines above a panic its `#[expect]` may begin.
const EXPECT_LINES: usize = 5;

/// A name that says nothing; STYLE asks for nouns that do.
const EMPTY_NAMES: [&str; 9] =
    ["common", "core", "helper", "helpers", "manager", "misc", "types", "util", "utils"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All files below `folder` that are no symbolic links, but for what is built or fetched.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = entry.file_name().to_string_lossy().into_owned();
            // `tools/wasm-target.sh` writes down where it found this machine's compiler.
            if matches!(name.as_str(), ".git" | "target" | "node_modules" | "wasm-target.env") {
                continue;
            }
            // What `witgate plugin build` makes beside a plugin's manifest.
            if name == "build" && path.with_file_name("plugin.yaml").is_file() {
                continue;
            }
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A source of `host/src`.
struct Source {
    /// Below `host/src`.
    path: PathBuf,
    text: String,
    /// The text with comments, strings and tests blanked, line by line as it was.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.components().next().unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs")
    }

    /// How deep in the tree of modules its own module lies: `config/check/mod.rs` at 2.
    fn depth(&self) -> usize {
        let stem = self.path.file_stem().unwrap();
        let folders = self.path.components().count() - 1;
        folders + usize::from(stem != "mod")
    }

    /// Whether all of it is for tests.
    fn is_test(&self) -> bool {
        self.path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
    }
}

fn sources() -> Vec<Source> {
    let folder = root().join("host/src");
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = without_tests(blanked(&text));
        Source { path: path.strip_prefix(&folder).unwrap().to_path_buf(), text, code }
    };
    files(&folder).into_iter().filter(rust).map(read).collect()
}

/// The rooms from the top down, as `lib.rs` declares them.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(root().join("host/src/lib.rs")).unwrap();
    let name = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_string());
    let rooms: Vec<String> = text.lines().filter_map(name).collect();
    assert_eq!(rooms.last().map(String::as_str), Some("clock"), "the lowest room");
    rooms
}

/// Blanks comments, strings and characters; every other byte, and every line, stays in its place.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => until(&chars, at, |_, c| c == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if raw_hashes(&chars, at).is_some() => raw_string(&chars, at),
            '\'' => match (chars.get(at + 1), chars.get(at + 2)) {
                (Some('\\'), _) => until(&chars, at + 3, |_, c| c == '\'') + 1,
                (_, Some('\'')) => at + 3,
                // A lifetime.
                _ => at,
            },
            _ => at,
        };
        for c in &mut out[at..end.min(chars.len())] {
            if *c != '\n' {
                *c = ' ';
            }
        }
        at = end.max(at + 1);
    }
    out.into_iter().collect()
}

fn until(chars: &[char], from: usize, is_end: impl Fn(usize, char) -> bool) -> usize {
    (from..chars.len()).find(|at| is_end(*at, chars[*at])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// How many hashes a raw string at `at` has; none if there is no such string.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| chars[before]);
    if before.is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = raw_hashes(chars, at).unwrap();
    let closes = |at: usize, c: char| {
        c == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    until(chars, at + hashes + 2, closes) + hashes + 1
}

/// Blanks whatever follows a `#[cfg(test)]`, up to its semicolon or closing brace.
fn without_tests(code: String) -> String {
    let mut out = code;
    let mark = "#[cfg(test)]";
    while let Some(start) = out.find(mark) {
        let mut depth = 0;
        let mut end = out.len();
        for (at, byte) in out.bytes().enumerate().skip(start + mark.len()) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(byte, b';' | b'}') {
                end = at + 1;
                break;
            }
        }
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first names of all `crate::` paths, groups included.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, mark) in code.match_indices("crate::") {
        if code[..at].ends_with(is_name) {
            continue;
        }
        let rest = code[at + mark.len()..].trim_start();
        let name = |text: &str| text.trim_start().chars().take_while(|c| is_name(*c)).collect::<String>();
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let (mut depth, mut item) = (0, 0);
        for (at, byte) in group.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b',' if depth == 0 => {
                    found.insert(name(&group[item..]));
                    item = at + 1;
                }
                b'}' if depth == 0 => {
                    found.insert(name(&group[item..at]));
                    break;
                }
                b'}' => depth -= 1,
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

/// Whether some `super::super::` path leaves the room, where `uses` could not see where it goes.
fn climbs_out(code: &str, depth: usize) -> bool {
    // Braces that are open, and whether each is an inline module's.
    let mut open: Vec<bool> = Vec::new();
    let mut supers = 0;
    let mut last = "";
    let mut module = false;
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let length = if is_name(c) {
            code[at..].find(|c| !is_name(c)).unwrap_or(code.len() - at)
        } else {
            c.len_utf8()
        };
        let token = &code[at..at + length];
        at += length;
        match token {
            "super" => supers += 1,
            ":" => {}
            _ => supers = 0,
        }
        if supers >= depth + open.iter().filter(|module| **module).count() {
            return true;
        }
        match token {
            "{" => {
                open.push(module);
                module = false;
            }
            "}" => drop(open.pop()),
            _ if is_name(c) => {
                module = last == "mod";
                last = token;
            }
            _ if token.trim().is_empty() => {}
            _ => module = false,
        }
    }
    false
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let rooms = rooms();
    let rank = |room: &str| rooms.iter().position(|known| known == room);
    let mut wrong = Vec::new();
    for source in sources() {
        let (room, path) = (source.room(), source.path.display());
        let Some(from) = rank(room) else { continue };
        for used in uses(&source.code).iter().filter(|used| *used != room) {
            match rank(used) {
                Some(to) if to <= from => {
                    wrong.push(format!("{path}: `{room}` uses `{used}`, which is above it"))
                }
                Some(_) if room == "config" && used != "file" => {
                    wrong.push(format!("{path}: `config` imports no room but `file`, but uses `{used}`"))
                }
                Some(_) if used == "config" && !CONFIG_READERS.contains(&room) => {
                    wrong.push(format!("{path}: only {CONFIG_READERS:?} see types of `config`"));
                }
                _ => {}
            }
        }
        if climbs_out(&source.code, source.depth()) {
            wrong.push(format!("{path}: a path of `super::` leaves the room; write `crate::`"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_module_at_the_top_is_a_room() {
    let rooms = rooms();
    let known = |room: &str| rooms.iter().any(|known| known == room) || matches!(room, "lib" | "main");
    let strange = sources()
        .iter()
        .filter(|source| !known(source.room()))
        .map(|s| s.path.display().to_string())
        .collect::<Vec<_>>();
    assert_none(&strange);
}

/// What it owns; who calls it; what it never does.
#[test]
fn rooms_say_what_they_are() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room();
        let is_front = source.path.ends_with("mod.rs") && source.path.components().count() == 2
            || source.path.components().count() == 1 && rooms.iter().any(|known| known == room);
        if !is_front {
            continue;
        }
        let header: Vec<&str> = source.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let text = header.join("\n");
        let path = source.path.display();
        let (owns, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        if !owns.trim().ends_with('.') && !owns.contains(':') {
            wrong.push(format!("{path}: the header does not begin with a sentence of what `{room}` owns"));
        }
        let named = rooms
            .iter()
            .map(String::as_str)
            .chain(["main"])
            .any(|other| other != room && rest.contains(&format!("`{other}`")));
        if !named && !rest.contains("Called by") {
            wrong.push(format!("{path}: the header does not say who calls `{room}`"));
        }
        if !text.contains("Never") && !text.contains("never") {
            wrong.push(format!("{path}: the header does not say what `{room}` never does"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn panics_have_a_reason() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let text: Vec<&str> = source.text.lines().collect();
        for (index, line) in source.code.lines().enumerate() {
            let found = PANICS.iter().find(|panic| {
                line.match_indices(**panic)
                    .any(|(at, _)| panic.starts_with('.') || !line[..at].ends_with(is_name))
            });
            let above = &text[index.saturating_sub(EXPECT_LINES)..=index];
            if let Some(found) = found
                && !above.iter().any(|line| line.contains("#[expect("))
            {
                wrong.push(format!(
                    "{}:{}: `{found}` without an `#[expect]`",
                    source.path.display(),
                    index + 1
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_source_says_what_it_is_for() {
    let root = root();
    let rust = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let silent = |path: &&PathBuf| !fs::read_to_string(path).unwrap().starts_with("//! ");
    let files = files(&root);
    let wrong: Vec<String> = files
        .iter()
        .filter(rust)
        .filter(silent)
        .map(|path| format!("{}: does not open with `//!`", path.strip_prefix(&root).unwrap().display()))
        .collect();
    assert_none(&wrong);
}

#[test]
fn names_say_something() {
    let empty = |path: &PathBuf| {
        path.iter().any(|part| {
            let stem = Path::new(part).file_stem().and_then(|stem| stem.to_str());
            stem.is_some_and(|stem| EMPTY_NAMES.contains(&stem))
        })
    };
    let wrong: Vec<String> = sources()
        .into_iter()
        .map(|source| source.path)
        .filter(empty)
        .map(|path| path.display().to_string())
        .collect();
    assert_none(&wrong);
}

/// What a file says must be true on every machine, not on the one where it was written.
#[test]
fn no_file_names_somebodys_machine() {
    let root = root();
    // Put together, or this file would name them.
    let places = ["work", "root", "home"].map(|folder| format!("/{folder}"));
    let beside = format!("{}/shared", "..");
    let mut wrong = Vec::new();
    for path in files(&root) {
        // Pictures, components and the like have no lines.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            let names = |place: &String| {
                line.match_indices(place.as_str()).any(|(at, place)| {
                    let part = |c: char| is_name(c) || matches!(c, '-' | '.' | '}' | '~');
                    !line[..at].ends_with(part) && !line[at + place.len()..].starts_with(part)
                })
            };
            if places.iter().any(names) || line.contains(&beside) {
                wrong.push(format!(
                    "{}:{}: {}",
                    path.strip_prefix(&root).unwrap().display(),
                    index + 1,
                    line.trim()
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn this_file_reads_rust() {
    let blank = blanked(
        "a /* crate::x /* */ */ b \"crate::y \\\" z\" 'c' '\\'' r#\"crate::\"\"# &'a str // crate::w\nend",
    );
    assert_eq!(blank.split_whitespace().collect::<Vec<_>>(), ["a", "b", "&'a", "str", "end"]);
    assert_eq!(blank.lines().count(), 2);

    let code = without_tests(
        "use a;\n#[cfg(test)]\nmod tests;\nuse b;\n#[cfg(test)]\nmod tests { fn f() { crate::x(); } }\n"
            .into(),
    );
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["use", "a;", "use", "b;"]);

    let found = uses("use crate::{a, b::{c, d}, e};\nfn f() { crate::g::h(); macrocrate::i() }");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g"]);

    assert!(!climbs_out("use super::x; mod tests { use super::super::y; }", 2));
    assert!(climbs_out("use super::super::x;", 2));
    assert!(climbs_out("mod a { use super::super::x; }", 1));
    assert!(!climbs_out("mod a { use super::x; }", 1));
}
