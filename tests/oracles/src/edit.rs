//! Edits of a hostile policy against its plan: nothing undeclared changes, and no framing field.
//!
//! An input is lines: `w NAME` (declared), `s NAME=VALUE`, `a NAME=VALUE`, `r NAME`, `n NOTE` (edits),
//! `h NAME=VALUE` and `b BODY` (of a reply with the status of `c`), `response` (when it is for one).

use crate::gateway::subject;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::collections::BTreeSet;
use witgate::chain::Writes;
use witgate::chain::edit::{amend, reply};
use witgate::chain::subject::ResponseHead;
use witgate::message::path::{check_query, normalise};
use witgate::plugin::{Edit, Reply};

pub const WORDS: &[&str] = &[
    "w ",
    "s ",
    "a ",
    "r ",
    "n ",
    "h ",
    "b ",
    "c 200",
    "c 101",
    "\n",
    "=",
    "x-a",
    "x-*",
    "X-A",
    ":path",
    ":query",
    ":method",
    ":status",
    ":authority",
    "context:a",
    "upstream:name",
    "consumer:name",
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "te",
    "trailer",
    "c*",
    "*",
    "\r\n",
    "\r",
    "\0",
    "/a/../b",
    "/b",
    "204",
    "101",
    "GET",
    "CONNECT",
    "a@b",
    "response\n",
    "w x-a\ns x-a=1\n",
    "w :path\ns :path=/b\n",
    "authorization",
    "set-cookie",
    "keep-alive",
    "\u{e4}",
];

/// RFC 9110, 7.6.1 and what else says where a message ends or whom it is for.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut declared = Vec::new();
    let mut edits = Vec::new();
    let mut made = Reply { status: 200, headers: Vec::new(), body: Vec::new() };
    let mut responding = false;
    for line in text.split('\n') {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            (name.to_string(), value.to_string())
        };
        match kind {
            "w" => declared.push(rest.to_ascii_lowercase()),
            "s" => edits.push(Edit::Set(pair())),
            "a" => edits.push(Edit::Append(pair())),
            "r" => edits.push(Edit::Remove(rest.to_string())),
            "n" => edits.push(Edit::Note(rest.into())),
            "h" => made.headers.push(pair()),
            "b" => made.body.extend_from_slice(rest.as_bytes()),
            "c" => made.status = rest.parse().unwrap_or(0),
            "response" => responding = true,
            _ => {}
        }
    }
    if let Ok(response) = reply(made) {
        assert!((200..600).contains(&response.status().as_u16()));
        assert_clean(response.headers(), &HeaderMap::new());
    }
    let Ok(writes) = Writes::parse(&declared, None) else { return };
    let granted: BTreeSet<String> = ["other".to_string()].into();
    let writes = writes.among(&granted);
    let mut subject = subject("/a/b?c=d", &fields());
    if responding {
        subject.response = Some(ResponseHead { status: StatusCode::OK, headers: fields() });
    }
    let before = (subject.method.clone(), subject.target.clone(), subject.authority.clone());
    if amend(edits, &writes, responding, &mut subject, 0).is_err() {
        assert_eq!((subject.method, subject.target, subject.authority), before, "all edits or none");
        let in_hand = subject.response.map_or(subject.headers, |response| response.headers);
        assert_eq!(in_hand, fields(), "all edits or none");
        assert!(subject.context.is_empty() && subject.upstream.is_none() && subject.identity.is_none());
        return;
    }
    let may = |name: &str| declared.iter().any(|said| said == name);
    assert!(subject.method == before.0 || may(":method"));
    assert!(subject.method != http::Method::CONNECT);
    assert!(subject.target.path() == before.1.path() || may(":path"), "{:?}", subject.target);
    assert_eq!(normalise(subject.target.path()).as_deref(), Ok(subject.target.path()));
    assert!(subject.target.query() == before.1.query() || may(":query"), "{:?}", subject.target);
    assert!(subject.target.query().is_none_or(|query| check_query(query).is_ok()));
    assert!(subject.authority == before.2 || may(":authority"));
    assert!(subject.upstream.as_ref().is_none_or(|name| may("upstream:name") && granted.contains(name)));
    assert!(subject.identity.is_none() || may("consumer:name"));
    assert!(subject.context.iter().all(|(name, _)| declared.contains(&format!("context:{name}"))));
    let untouched = |name: &str| {
        FRAMING.contains(&name)
            || !declared.iter().any(|said| match said.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => said == name,
            })
    };
    assert_only(&subject.headers, |_| responding, &untouched);
    if let Some(response) = &subject.response {
        assert!(response.status == StatusCode::OK || may(":status"));
        assert!(response.status.as_u16() >= 200);
        assert_only(&response.headers, |_| false, &untouched);
    }
}

/// What the message has before: each framing field once, and some others.
fn fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    for name in FRAMING.iter().chain(&["x-a", "x-b", "authorization", "content-type", "cookie"]) {
        fields.insert(HeaderName::from_static(name), HeaderValue::from_static("before"));
    }
    fields
}

/// Only fields that are not `untouched` differ from what they were.
fn assert_only(after: &HeaderMap, all: impl Fn(&str) -> bool, untouched: &impl Fn(&str) -> bool) {
    let before = fields();
    for name in after.keys().chain(before.keys()) {
        if all(name.as_str()) || untouched(name.as_str()) {
            let values = |map: &HeaderMap| map.get_all(name).iter().cloned().collect::<Vec<_>>();
            assert_eq!(values(after), values(&before), "{name} changed");
        }
    }
    assert_clean(after, &before);
}

fn assert_clean(fields: &HeaderMap, before: &HeaderMap) {
    for (name, value) in fields {
        let unsafe_byte = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.as_bytes().iter().any(unsafe_byte), "{name}: {value:?}");
        assert!(!FRAMING.contains(&name.as_str()) || before.contains_key(name), "{name} came in");
    }
}
