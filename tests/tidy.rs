//! Holds the arrows between the rooms of `host/src`, and what every file there begins with.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// In the order of `lib.rs`: a room uses rooms below it only. Rooms of one line do not use each
/// other, but for what `PEERS` says.
const ROOMS: &[&[&str]] = &[
    &["cli"],
    &["server"],
    &["admin"],
    &["compile"],
    &["config"],
    &["listener"],
    &["connection"],
    &["exchange"],
    &["snapshot"],
    &["router"],
    &["chain"],
    &["plugin"],
    &["consumer", "token", "upstream"],
    &["state"],
    &["message"],
    &["telemetry"],
    &["clock"],
];

/// `config` imports no other room; only these read its types.
const CONFIG_READERS: &[&str] = &["cli", "server", "compile", "config"];

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut open) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&root).unwrap().to_path_buf(), text);
            }
        }
    }
    found
}

fn room_of(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_string())
}

/// Every `crate::room` of a file outside comments.
fn uses(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for part in line.split("crate::").skip(1) {
            if let Some(list) = part.strip_prefix('{') {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(
                    list.split(',').filter_map(|name| name.trim().split("::").next()).map(str::to_string),
                );
            } else {
                found.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
        }
    }
    found
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room_of(&path).filter(|room| rank(room).is_some()) else { continue };
        for used in uses(&text).into_iter().filter(|used| *used != room) {
            let (Some(from), Some(to)) = (rank(&room), rank(&used)) else { continue };
            let reads_config = used == "config" && CONFIG_READERS.contains(&room.as_str());
            if from >= to && !reads_config {
                wrong.push(format!("{}: {room} uses {used}, which is not below it", path.display()));
            }
            if used == "config" && !reads_config {
                wrong.push(format!("{}: only {CONFIG_READERS:?} read the configuration", path.display()));
            }
            if room == "config" {
                wrong.push(format!("{}: config uses {used}, but imports no other room", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_place() {
    let unplaced: Vec<_> = sources()
        .keys()
        .filter_map(|path| room_of(path))
        .filter(|room| rank(room).is_none() && room != "lib" && room != "main")
        .collect();
    assert!(unplaced.is_empty(), "{unplaced:?}");
}

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !text.starts_with("//!") && path != Path::new("main.rs"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no header: {silent:?}");
}
