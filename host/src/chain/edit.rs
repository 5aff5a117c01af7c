//! Turns what a guest asks for into what may be done.
//!
//! `amend` checks a verdict's edits against the policy's plan; only what passed (`Permitted`) can be
//! applied. All edits of a verdict are checked before the first is applied: a verdict with one
//! forbidden edit changes nothing. Also judges the replies that a policy makes.

use super::plan::{Writes, is_framing};
use super::subject::Subject;
use crate::consumer::Identity;
use crate::message::body::Body;
use crate::message::headers::is_padded;
use crate::message::path::{check_query, normalise};
use crate::plugin::{Edit, Reply};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use smallvec::SmallVec;

/// Edits of one verdict.
pub const EDITS_MAX: usize = 256;
/// Bytes of one note; it is kept for the exchange's life.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one value.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Header lines of a reply.
pub const REPLY_HEADERS_MAX: usize = 256;
/// Bytes of a reply's body, and of a body that a policy puts in place of another (which may also
/// be as long as the policy's plan lets the original be).
pub const REPLY_BYTES_MAX: usize = 8 << 20;

/// An edit that the plan allows.
struct Permitted(Change);

enum Change {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
    Method(Method),
    Path(Box<str>),
    Query(Option<Box<str>>),
    Authority(HeaderValue),
    Status(StatusCode),
    Upstream(String),
    Consumer(String),
    Context(Box<str>, Option<String>),
    Note(Vec<u8>),
}

/// Checks the edits of a verdict and applies them: all, or none if one is not allowed.
///
/// # Errors
/// The first edit that is not allowed, and why, for the log.
pub fn amend(
    edits: Vec<Edit>,
    writes: &Writes,
    responding: bool,
    subject: &mut Subject,
    step: usize,
) -> Result<(), String> {
    // Most verdicts have one edit: it needs no room to wait for others.
    match <[Edit; 1]>::try_from(edits) {
        Ok([edit]) => apply([Permitted(change(edit, writes, responding)?)], subject, step),
        Err(edits) => apply(permit(edits, writes, responding)?, subject, step),
    }
}

/// Checks all edits of a verdict.
///
/// # Errors
/// The first edit that is not allowed, and why, for the log.
fn permit(edits: Vec<Edit>, writes: &Writes, responding: bool) -> Result<SmallVec<[Permitted; 4]>, String> {
    if edits.len() > EDITS_MAX {
        return Err(format!("{} edits; at most {EDITS_MAX} are allowed", edits.len()));
    }
    edits.into_iter().map(|edit| change(edit, writes, responding).map(Permitted)).collect()
}

fn change(edit: Edit, writes: &Writes, responding: bool) -> Result<Change, String> {
    match edit {
        Edit::Note(note) if note.len() <= NOTE_BYTES_MAX => Ok(Change::Note(note)),
        Edit::Note(note) => {
            Err(format!("a note of {} bytes; at most {NOTE_BYTES_MAX} are allowed", note.len()))
        }
        // Most edits set a header that the plan names.
        Edit::Set((name, value)) if let Some(header) = writes.declared(&name) => {
            Ok(Change::Set(header.clone(), header_value(&name, value)?))
        }
        Edit::Set((name, value)) if is_special(&name) => special(&name, Some(value), writes, responding),
        Edit::Remove(name) if is_special(&name) => special(&name, None, writes, responding),
        Edit::Append((name, _)) if is_special(&name) => {
            Err(format!("`{name}` has one value and cannot be appended to"))
        }
        Edit::Set((name, value)) => Ok(Change::Set(header_name(&name, writes)?, header_value(&name, value)?)),
        Edit::Append((name, value)) => {
            Ok(Change::Append(header_name(&name, writes)?, header_value(&name, value)?))
        }
        Edit::Remove(name) => Ok(Change::Remove(header_name(&name, writes)?)),
    }
}

fn is_special(name: &str) -> bool {
    name.contains(':')
}

fn special(name: &str, value: Option<String>, writes: &Writes, responding: bool) -> Result<Change, String> {
    let undeclared = || format!("`{name}` is not among the writes that its plan declares");
    let bad = |value: &str| format!("`{name}` cannot be {value:?}");
    if let Some(value) = &value
        && value.len() > VALUE_BYTES_MAX
    {
        return Err(format!("`{name}` of {} bytes; at most {VALUE_BYTES_MAX} are allowed", value.len()));
    }
    if let Some(context) = name.strip_prefix("context:") {
        return match writes.context(context) {
            true => Ok(Change::Context(context.into(), value)),
            false => Err(undeclared()),
        };
    }
    let declared = match name {
        ":method" => writes.method,
        ":path" => writes.path,
        ":query" => writes.query,
        ":authority" => writes.authority,
        ":status" => writes.status,
        "upstream:name" => writes.upstream,
        "consumer:name" => writes.consumer,
        _ => false,
    };
    if !declared {
        return Err(undeclared());
    }
    if responding != (name == ":status") {
        let when = if responding { "after the request was sent" } else { "before there is a response" };
        return Err(format!("`{name}` cannot be changed {when}"));
    }
    let Some(value) = value else {
        return match name {
            ":query" => Ok(Change::Query(None)),
            _ => Err(format!("`{name}` cannot be removed")),
        };
    };
    match name {
        ":method" => Method::from_bytes(value.as_bytes())
            .ok()
            .filter(|method| *method != Method::CONNECT)
            .map(Change::Method)
            .ok_or_else(|| bad(&value)),
        // A policy gets no way around the one normalisation.
        ":path" => match normalise(&value) {
            Ok(normal) if *normal == *value && value.starts_with('/') => Ok(Change::Path(value.into())),
            _ => Err(bad(&value)),
        },
        ":query" if value.is_empty() => Ok(Change::Query(None)),
        ":query" if check_query(&value).is_ok() => Ok(Change::Query(Some(value.into()))),
        ":authority" => match value.parse::<http::uri::Authority>() {
            Ok(authority) if !authority.as_str().contains('@') => {
                HeaderValue::try_from(value.as_str()).map(Change::Authority).map_err(|_| bad(&value))
            }
            _ => Err(bad(&value)),
        },
        ":status" => status(value.parse().unwrap_or(0)).map(Change::Status),
        "upstream:name" if writes.upstreams.contains(&value) => Ok(Change::Upstream(value)),
        "upstream:name" => Err(format!("upstream `{value}` is not granted")),
        "consumer:name" => Ok(Change::Consumer(value)),
        _ => Err(bad(&value)),
    }
}

fn header_name(name: &str, writes: &Writes) -> Result<HeaderName, String> {
    if let Some(declared) = writes.declared(name) {
        return Ok(declared.clone());
    }
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
    if is_framing(parsed.as_str()) {
        return Err(format!("`{parsed}` frames the message and cannot be written by a policy"));
    }
    match writes.header(parsed.as_str()) {
        true => Ok(parsed),
        false => Err(format!("`{parsed}` is not among the writes that its plan declares")),
    }
}

/// `HeaderValue` refuses CR, LF, NUL and the other controls itself (RFC 9110 5.5).
fn header_value(name: &str, value: String) -> Result<HeaderValue, String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("`{name}` of {} bytes; at most {VALUE_BYTES_MAX} are allowed", value.len()));
    }
    // White space at its edges is no part of a value (RFC 9110, 5.5), and an HTTP/2 upstream may end the
    // connection that everybody shares for it (RFC 9113, 8.2.1).
    let unfit = |_| format!("the value for `{name}` has characters that no header may have");
    let parsed = HeaderValue::try_from(value).map_err(unfit)?;
    match is_padded(&parsed) {
        true => HeaderValue::from_bytes(parsed.as_bytes().trim_ascii()).map_err(unfit),
        false => Ok(parsed),
    }
}

fn status(code: u16) -> Result<StatusCode, String> {
    match code {
        200..=599 => StatusCode::from_u16(code).map_err(|_| format!("{code} is no status")),
        _ => Err(format!("status {code}; 200 to 599 are allowed")),
    }
}

/// Applies what was permitted, for the step at `step`.
///
/// # Errors
/// If path and query together are longer than a target can be; then nothing was applied.
fn apply<C>(changes: C, subject: &mut Subject, step: usize) -> Result<(), String>
where
    C: AsRef<[Permitted]> + IntoIterator<Item = Permitted>,
{
    if let Some(target) = retargeted(changes.as_ref(), &subject.target)? {
        subject.target = target;
    }
    for change in changes {
        change.apply(subject, step);
    }
    Ok(())
}

impl Permitted {
    /// All but a new target, which is made of path and query both.
    #[inline]
    fn apply(self, subject: &mut Subject, step: usize) {
        match self.0 {
            Change::Set(name, value) => {
                subject.headers_in_hand_mut().insert(name, value);
            }
            Change::Append(name, value) => {
                subject.headers_in_hand_mut().append(name, value);
            }
            Change::Remove(name) => {
                subject.headers_in_hand_mut().remove(name);
            }
            Change::Method(method) => subject.method = method,
            Change::Path(_) | Change::Query(_) => {}
            Change::Authority(authority) => subject.authority = Some(authority),
            Change::Status(status) => {
                if let Some(response) = &mut subject.response {
                    response.status = status;
                }
            }
            Change::Upstream(name) => subject.upstream = Some(name),
            Change::Consumer(name) => {
                subject.identity = Some(Identity { consumer: name.into(), product: None });
            }
            Change::Context(name, value) => {
                subject.context.retain(|(known, _)| *known != name);
                if let Some(value) = value {
                    subject.context.push((name, value));
                }
            }
            Change::Note(note) => {
                if let Some(memory) = subject.memory.get_mut(step) {
                    memory.note = note;
                }
            }
        }
    }
}

/// The target that the changes make of `target`; none if they leave it alone.
fn retargeted(changes: &[Permitted], target: &PathAndQuery) -> Result<Option<PathAndQuery>, String> {
    let (mut path, mut query, mut changed) = (target.path(), target.query(), false);
    for Permitted(change) in changes {
        match change {
            Change::Path(to) => (path, changed) = (to, true),
            Change::Query(to) => (query, changed) = (to.as_deref(), true),
            _ => {}
        }
    }
    if !changed {
        return Ok(None);
    }
    let made = match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    made.map(Some).map_err(|_| "path and query together are too long for a target".to_string())
}

/// A policy's own response, checked.
///
/// # Errors
/// What is not allowed about it, for the log.
pub fn reply(reply: Reply) -> Result<Response<Body>, String> {
    if reply.headers.len() > REPLY_HEADERS_MAX {
        return Err(format!(
            "a reply with {} header lines; at most {REPLY_HEADERS_MAX} are allowed",
            reply.headers.len()
        ));
    }
    if reply.body.len() > REPLY_BYTES_MAX {
        return Err(format!("a reply of {} bytes; at most {REPLY_BYTES_MAX} are allowed", reply.body.len()));
    }
    let status = status(reply.status)?;
    let mut response = Response::new(Body::full(reply.body));
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
        if is_framing(parsed.as_str()) {
            return Err(format!("`{parsed}` frames the message and cannot be set in a reply"));
        }
        let value = header_value(parsed.as_str(), value)?;
        response.headers_mut().append(parsed, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(names: &[&str]) -> Writes {
        Writes::parse(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), None).unwrap()
    }

    fn set(name: &str, value: &str) -> Edit {
        Edit::Set((name.into(), value.into()))
    }

    #[test]
    fn forbidden_edits_are_refused_whole() {
        let all = writes(&["x-*", ":path", ":method", ":query", ":authority", "context:a"]);
        let forbidden = [
            set("content-length", "5"),
            set("Host", "b"),
            set("transfer-encoding", "chunked"),
            set("x-a", "a\r\nset-cookie: b"),
            set("x-a", "a\0"),
            set("", "x"),
            set("x a", "x"),
            set("authorization", "x"),
            set(":path", "/a/../b"),
            set(":path", "a"),
            set(":path", "/a?b"),
            set(":method", "GE T"),
            set(":method", "CONNECT"),
            set(":authority", "a@b"),
            set(":status", "200"),
            set("context:b", "x"),
            set("upstream:name", "x"),
            set(":nope", "x"),
            Edit::Append((":path".into(), "/x".into())),
            Edit::Remove(":path".into()),
            Edit::Remove("content-type".into()),
            Edit::Note(vec![0; NOTE_BYTES_MAX + 1]),
            set("x-a", &"x".repeat(VALUE_BYTES_MAX + 1)),
        ];
        for edit in forbidden {
            let text = format!("{edit:.60?}");
            assert!(permit(vec![set("x-ok", "1"), edit], &all, false).is_err(), "{text}");
        }
        assert!(permit(vec![set("x-ok", "1"); EDITS_MAX + 1], &all, false).is_err());
    }

    #[test]
    fn declared_edits_are_permitted() {
        let all = writes(&["X-*", ":path", ":method", ":query", ":status", "context:a"]);
        let edits =
            vec![set("X-A", "ä"), set(":path", "/b"), set(":method", "PUT"), Edit::Remove(":query".into())];
        assert_eq!(permit(edits, &all, false).unwrap().len(), 4);
        assert!(permit(vec![set(":status", "404")], &all, true).is_ok());
        assert!(permit(vec![set(":path", "/b")], &all, true).is_err());
    }

    #[test]
    fn upstreams_are_chosen_among_those_granted() {
        let granted = writes(&["upstream:name"]).among(&["b".to_string()].into());
        assert!(permit(vec![set("upstream:name", "b")], &granted, false).is_ok());
        assert!(permit(vec![set("upstream:name", "c")], &granted, false).is_err());
        assert!(
            permit(vec![set("upstream:name", "b")], &granted, true).is_err(),
            "the request has been sent"
        );
    }

    #[test]
    fn path_and_query_change_together_or_not_at_all() {
        let all = writes(&[":path", ":query"]);
        let target = PathAndQuery::from_static("/a?x=1");
        let made = |edits: Vec<Edit>| retargeted(&permit(edits, &all, false).unwrap(), &target);
        assert_eq!(made(vec![set(":path", "/b")]).unwrap().unwrap(), "/b?x=1");
        assert_eq!(made(vec![set(":query", "y=2"), set(":path", "/b")]).unwrap().unwrap(), "/b?y=2");
        assert_eq!(made(vec![Edit::Remove(":query".into())]).unwrap().unwrap(), "/a");
        assert_eq!(made(vec![Edit::Note(vec![1])]).unwrap(), None);
        let long = "x".repeat(60_000);
        assert!(made(vec![set(":path", &format!("/{long}")), set(":query", &long)]).is_err());
    }

    #[test]
    fn replies_are_judged() {
        let make = |status, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            reply(Reply { status, headers, body: b"x".to_vec() })
        };
        assert!(make(404, &[("x-a", "1"), ("x-a", "2")]).is_ok());
        assert!(make(100, &[]).is_err() && make(600, &[]).is_err() && make(0, &[]).is_err());
        assert!(make(200, &[("content-length", "9")]).is_err());
        assert!(make(200, &[("x", "a\nb")]).is_err());
    }
}
