//! Verdicts, messages and failures in the words of a case's `expect`.
//!
//! `exchange` and `stage` use it. One form for each thing, so that a difference is one.

use crate::plugin::{BodyVerdict, ChunkVerdict, Edit, Failure, Reply, Verdict};
use base64::Engine as _;
use http::HeaderMap;
use serde_json::{Map, Value, json};

pub fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Proceed => "proceed".into(),
        Verdict::Amend(list) => json!({ "amend": edits(list) }),
        Verdict::Respond(made) => json!({ "respond": reply(made) }),
    }
}

pub fn body_verdict(verdict: &BodyVerdict) -> Value {
    match verdict {
        BodyVerdict::Proceed => "proceed".into(),
        BodyVerdict::Amend(list) => json!({ "amend": edits(list) }),
        BodyVerdict::Replace((bytes, list)) => json!({ "replace": text(bytes), "amend": edits(list) }),
        BodyVerdict::Respond(made) => json!({ "respond": reply(made) }),
    }
}

pub fn chunk_verdict(verdict: &ChunkVerdict) -> Value {
    match verdict {
        ChunkVerdict::Proceed => "proceed".into(),
        ChunkVerdict::Replace(bytes) => json!({ "replace": text(bytes) }),
        ChunkVerdict::Abort(why) => json!({ "abort": why }),
    }
}

/// A failure in one line; where a trap happened is no part of what can be expected.
pub fn failure(failure: &Failure) -> Value {
    let told = match failure {
        Failure::Trap(_) => "trapped".to_string(),
        failure => failure.to_string(),
    };
    json!({ "fails": told })
}

fn edits(edits: &[Edit]) -> Vec<String> {
    let told = |edit: &Edit| match edit {
        Edit::Set((name, value)) => format!("set {name}: {value}"),
        Edit::Append((name, value)) => format!("append {name}: {value}"),
        Edit::Remove(name) => format!("remove {name}"),
        Edit::Note(bytes) => format!("note {}", text(bytes)),
    };
    edits.iter().map(told).collect()
}

fn reply(reply: &Reply) -> Value {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &reply.headers {
        add(&mut headers, name, value.clone());
    }
    json!({ "status": reply.status, "headers": headers, "body": text(&reply.body) })
}

pub fn headers(map: &HeaderMap) -> Value {
    let mut headers = Map::new();
    for (name, value) in map {
        add(&mut headers, name.as_str(), text(value.as_bytes()));
    }
    Value::Object(headers)
}

/// One line is a text, several are a list.
fn add(headers: &mut Map<String, Value>, name: &str, value: String) {
    match headers.get_mut(name) {
        None => drop(headers.insert(name.into(), value.into())),
        Some(Value::Array(lines)) => lines.push(value.into()),
        Some(line) => *line = vec![line.take(), value.into()].into(),
    }
}

/// As it is, or in base64 where it is no text.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let edits = vec![
            Edit::Set(("a".into(), "1".into())),
            Edit::Append(("b".into(), "2".into())),
            Edit::Remove("c".into()),
            Edit::Note(vec![0xff]),
        ];
        assert_eq!(
            verdict(&Verdict::Amend(edits)),
            json!({ "amend": ["set a: 1", "append b: 2", "remove c", "note base64:/w=="] })
        );
        let lines = |values: &[&str]| values.iter().map(|v| ("x".to_string(), v.to_string())).collect();
        let made = Reply { status: 401, headers: lines(&["1", "2", "3"]), body: b"no".to_vec() };
        assert_eq!(
            verdict(&Verdict::Respond(made)),
            json!({ "respond": { "status": 401, "headers": { "x": ["1", "2", "3"] }, "body": "no" } })
        );
        assert_eq!(failure(&Failure::Trap("wasm at 0x1".into())), json!({ "fails": "trapped" }));
    }
}
