//! Paths and queries: one normal form, in which nothing is hidden.
//!
//! The oracle for paths is a second, slow reading: whatever somebody behind the gateway decodes or
//! resolves, once or several times, leads to the same segments.

use http::uri::PathAndQuery;
use std::borrow::Cow;
use witgate::message::path::{check_query, normalise};
use witgate::message::query::{query_value, without_parameter};

pub const PATH_WORDS: &[&str] = &[
    "/",
    "//",
    ".",
    "..",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "\\",
    "%25",
    "%252e",
    "%3b",
    ";",
    "a",
    "admin",
    "%41",
    "%c3%bc",
    "%c0%ae",
    "%ff",
    "%",
    "%0",
    "?",
    "#",
    " ",
    "\u{fc}",
    "\t",
    "%00",
    "%7f",
    "~",
    "%7e",
    "%2525",
    "%25%32%66",
    "{",
    "|",
    ":",
    "@",
    "*",
    "..;",
    ".;x=1",
    "%2e%2e;",
    "/../",
    "/./",
];

pub const QUERY_WORDS: &[&str] = &[
    "key",
    "%6bey",
    "k%65y",
    "KEY",
    "=",
    "&",
    "a",
    "+",
    "%20",
    "%",
    "%f",
    "%ff",
    ";",
    "#",
    " ",
    "\0",
    "1",
    "key=1",
    "&key",
    "%6B%65%79",
];

pub fn path(input: &[u8]) {
    let raw = String::from_utf8_lossy(input);
    let Ok(normal) = normalise(&raw) else { return };
    assert_normal(&normal);
    let again = normalise(&normal);
    assert_eq!(again, Ok(Cow::Borrowed(&*normal)), "{raw:?} has more than one normal form");
    // The router gets the text, the upstream a `PathAndQuery` of it.
    let target = PathAndQuery::try_from(&*normal).unwrap_or_else(|error| panic!("{normal:?}: {error}"));
    assert_eq!((target.path(), target.query()), (&*normal, None));
    assert_eq!(resolved(raw.as_bytes()), decoded(normal.as_bytes()), "{raw:?} became {normal:?}");
}

pub fn query(input: &[u8]) {
    let query = String::from_utf8_lossy(input);
    let clean = check_query(&query).is_ok();
    assert_eq!(clean, !query.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#'), "{query:?}");
    for name in ["key", "a", "\u{fc}"] {
        let rest = without_parameter(&query, name);
        match query_value(&query, name) {
            Ok(None) => assert_eq!(rest, query),
            Ok(Some(_)) => assert_ne!(rest, query, "{name:?} stayed in {query:?}"),
            Err(_) => {}
        }
        if let Ok(Some(left)) = query_value(&rest, name) {
            panic!("{name:?} is still in {rest:?} of {query:?}: {left:?}");
        }
        assert!(check_query(&rest).is_ok() || !clean, "{query:?} became {rest:?}");
    }
}

/// What a path in normal form never has, however often it is decoded.
pub fn assert_normal(path: &str) {
    assert!(path.starts_with('/'), "{path:?}");
    assert!(
        path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\"#<>?[\\]^`{|}".contains(&byte)),
        "{path:?}"
    );
    let segments: Vec<&str> = path[1..].split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        assert!(!segment.is_empty() || index + 1 == segments.len(), "an empty segment in {path:?}");
    }
    let mut seen = path.as_bytes().to_vec();
    for layer in 0..4 {
        let parts: Vec<&[u8]> = seen[1..].split(|byte| matches!(byte, b'/' | b'\\')).collect();
        assert_eq!(parts.len(), segments.len(), "layer {layer} of {path:?} has other segments");
        for part in parts {
            let name = part.split(|byte| *byte == b';').next().unwrap();
            assert!(name != b"." && name != b"..", "layer {layer} of {path:?} has dots");
            assert!(!part.iter().any(|byte| *byte < 0x20 || *byte == 0x7f), "layer {layer} of {path:?}");
        }
        seen = decoded(&seen);
    }
}

/// Percent-decoded once, where there are two digits.
fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut made = Vec::new();
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match (byte, digit(path.get(at + 1)), digit(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                made.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                made.push(byte);
                at += 1;
            }
        }
    }
    made
}

/// A raw path decoded once and its segments resolved, the simplest way (RFC 3986, 5.2.4).
fn resolved(raw: &[u8]) -> Vec<u8> {
    let decoded = decoded(raw);
    let segments: Vec<&[u8]> = decoded[1..].split(|byte| *byte == b'/').collect();
    let mut stack: Vec<&[u8]> = Vec::new();
    let mut folder = false;
    for segment in segments {
        folder = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(stack.pop()),
            segment => stack.push(segment),
        }
    }
    let mut made = Vec::new();
    for segment in &stack {
        made.push(b'/');
        made.extend_from_slice(segment);
    }
    if folder || made.is_empty() {
        made.push(b'/');
    }
    made
}
