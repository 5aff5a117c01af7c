//! Documents merged from scripted answers, whole, partial and refused.

use serde_json::{Value, json};
use witgate::http::FetchError;
use witgate::testing::{self, Harness, Host};

use super::*;

fn aggregate(config: Value) -> Harness<Aggregate> {
    testing::policy(config).expect("configured")
}

fn overview() -> Harness<Aggregate> {
    aggregate(json!({
        "parts": {
            "employee": { "upstream": "employees", "path": "/api/employee/{param:id}" },
            "flights": {
                "upstream": "flights", "path": "/api/flight?pilot={param:id}&{:query}",
                "optional": true, "timeout": "2s", "headers": { "X-Part": "flights", "accept": "application/json" },
            },
        },
        "pass_headers": ["authorization", "Accept"],
    }))
}

const GET: (&str, &str) = (":method", "GET");

fn reply(verdict: Verdict) -> Reply {
    match verdict {
        Verdict::Respond(reply) => reply,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn parts_are_merged_as_they_were_written() {
    let host = Host::new()
        .answer("employees", "/api/employee/7", 200, " {\"id\": 7, \"pay\": 1.50}\n")
        .answer("flights", "/api/flight?pilot=7&", 200, "[]");
    let reply = reply(overview().request([GET, ("param:id", "7")]));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, br#"{"employee":{"id": 7, "pay": 1.50},"flights":[]}"#);
    assert_eq!(reply.get("content-type"), Some("application/json"));
    assert_eq!(reply.get("x-partial"), None);
    assert_eq!(host.fetches().len(), 2);
}

#[test]
fn named_headers_are_passed_and_no_others() {
    let host = Host::new();
    overview().request([
        GET,
        ("param:id", "7"),
        ("authorization", "Bearer x"),
        ("accept", "a"),
        ("accept", "b"),
        ("cookie", "secret"),
    ]);
    let fetches = host.fetches();
    let headers = |index: usize| -> Vec<(&str, &str)> {
        fetches[index].headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    };
    assert_eq!(headers(0), [("authorization", "Bearer x"), ("accept", "a"), ("accept", "b")]);
    assert_eq!(
        headers(1),
        [("X-Part", "flights"), ("accept", "application/json"), ("authorization", "Bearer x")]
    );
    assert_eq!((fetches[0].timeout_millis, fetches[1].timeout_millis), (0, 2000));
}

#[test]
fn an_optional_part_may_fail() {
    let place = "/api/flight?pilot=7&";
    for (answer, why) in [
        (Err(FetchError::Connect), "the service cannot be reached"),
        (Err(FetchError::Timeout), "the answer is late"),
        (Ok((503, "{}")), "the answer has status 503"),
        (Ok((200, "<html>")), "the answer is not JSON"),
        (Ok((200, "")), "the answer is not JSON"),
        (Ok((200, "{} {}")), "the answer is not JSON"),
        (Ok((200, "1},\"x\":{")), "the answer is not JSON"),
    ] {
        let host = Host::new().answer("employees", "/api/employee/7", 200, "1");
        let _host = match answer {
            Ok((status, body)) => host.answer("flights", place, status, body),
            Err(error) => host.failure("flights", place, error),
        };
        let reply = reply(overview().request([GET, ("param:id", "7")]));
        let document: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(document, json!({ "employee": 1, "flights": null, "errors": { "flights": why } }));
        assert_eq!((reply.status, reply.get("x-partial")), (200, Some("flights")));
    }
}

#[test]
fn a_required_part_may_not() {
    let _host = Host::new().failure("employees", "/api/employee/7", FetchError::Connect).answer(
        "flights",
        "/api/flight?pilot=7&",
        200,
        "[]",
    );
    let reply = reply(overview().request([GET, ("param:id", "7")]));
    let problem: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!((reply.status, &problem["part"]), (502, &json!("employee")));
    assert_eq!(problem["detail"], json!("the service cannot be reached"));
}

/// Bytes of all answers together, unless told otherwise.
const ROOM: usize = 512 << 10;

/// A document of so many bytes.
fn long(bytes: usize) -> String {
    format!("\"{}\"", "a".repeat(bytes - 2))
}

#[test]
fn all_answers_together_are_bounded() {
    let place = "/api/flight?pilot=7&";
    let half = ROOM / 2;
    for (required, optional, status, partial) in [
        (half, half, 200, None),
        (half, half + 1, 200, Some("flights")),
        (ROOM, 2, 200, Some("flights")),
        (ROOM + 1, 2, 502, None),
    ] {
        let _host = Host::new().answer("employees", "/api/employee/7", 200, &long(required)).answer(
            "flights",
            place,
            200,
            &long(optional),
        );
        let reply = reply(overview().request([GET, ("param:id", "7")]));
        assert_eq!((reply.status, reply.get("x-partial")), (status, partial), "{required} {optional}");
        if status == 200 {
            assert_eq!(reply.body.len(), reply.body.capacity(), "a document that grows is there twice");
        }
        let document: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let why = match status {
            200 => &document["errors"]["flights"],
            _ => &document["detail"],
        };
        let expected = (status, partial) != (200, None);
        assert_eq!(why.as_str(), expected.then_some("the answer is too large"));
    }
}

#[test]
fn an_optional_part_takes_no_room_from_another() {
    let _host = Host::new().answer("u", "/a", 200, &long(ROOM - 1)).answer("u", "/b", 200, "{}");
    let policy = aggregate(json!({ "parts": {
        "a": { "upstream": "u", "path": "/a", "optional": true }, "b": { "upstream": "u", "path": "/b" },
    } }));
    let reply = reply(policy.request([GET]));
    assert_eq!(reply.body, br#"{"a":null,"b":{},"errors":{"a":"the answer is too large"}}"#);
}

#[test]
fn a_missing_grant_is_the_operators_mistake() {
    let _host = Host::new().failure("flights", "/api/flight?pilot=7&", FetchError::NotGranted).answer(
        "employees",
        "/api/employee/7",
        200,
        "1",
    );
    assert!(overview().try_request([GET, ("param:id", "7")]).is_err());
}

#[test]
fn values_cannot_lead_elsewhere() {
    let host = Host::new();
    let policy = overview();
    for bad in [".", "..", ""] {
        assert_eq!(policy.request([GET, ("param:id", bad)]).status(), Some(400), "{bad}");
    }
    assert_eq!(policy.request([GET]).status(), Some(400));
    assert_eq!(policy.request([GET, ("param:id", "1"), ("param:id", "2")]).status(), Some(400));
    assert!(host.fetches().is_empty());
    policy.request([GET, ("param:id", "../x?y#z%2f"), (":query", "a=%2F")]);
    assert_eq!(host.fetches()[0].path, "/api/employee/..%2Fx%3Fy%23z%252f");
    assert_eq!(host.fetches()[1].path, "/api/flight?pilot=..%2Fx%3Fy%23z%252f&a=%2F");
}

#[test]
fn other_methods_are_refused() {
    let reply = reply(overview().request([(":method", "POST"), ("param:id", "7")]));
    assert_eq!((reply.status, reply.get("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn mistakes() {
    let part = |more: Value| {
        let mut part = json!({ "upstream": "u", "path": "/" });
        if let (Some(part), Value::Object(more)) = (part.as_object_mut(), more) {
            part.extend(more);
        }
        json!({ "parts": { "a": part } })
    };
    for bad in [
        json!({}),
        json!({ "parts": {} }),
        json!({ "parts": { "a b": { "upstream": "u", "path": "/" } } }),
        json!({ "parts": { "errors": { "upstream": "u", "path": "/" } } }),
        part(json!({ "path": "x" })),
        part(json!({ "path": "/{param}/{nope:x}" })),
        part(json!({ "path": "/{:query}" })),
        part(json!({ "path": "/ x" })),
        part(json!({ "path": "/#x" })),
        part(json!({ "upstream": "" })),
        part(json!({ "method": "G T" })),
        part(json!({ "method": "get" })),
        part(json!({ "method": "CONNECT" })),
        part(json!({ "timeout": "0s" })),
        part(json!({ "headers": { "host": "x" } })),
        part(json!({ "headers": { "x": "a\nb" } })),
        part(json!({ "url": "http://x" })),
        json!({ "parts": { "a": { "upstream": "u", "path": "/" } }, "max_bytes": 0 }),
        json!({ "parts": { "a": { "upstream": "u", "path": "/" } }, "max_bytes": (3 << 20) + 1 }),
    ] {
        assert!(testing::policy::<Aggregate>(bad.clone()).is_err(), "{bad}");
    }
    for header in ["accept-encoding", "Host", "a b", "if-none-match"] {
        let mut config = part(json!({}));
        config["pass_headers"] = json!([header]);
        assert!(testing::policy::<Aggregate>(config).is_err(), "{header}");
    }
}
