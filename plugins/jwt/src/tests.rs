//! Tokens that a scripted verifier judges, and what becomes of their claims.

use serde_json::{Value, json};
use witgate::consumers::Refusal;
use witgate::testing::{self, Harness, Host};
use witgate::token::{KeySource, TokenFault};

use super::*;

fn host() -> Host {
    Host::new()
        .token("good", json!({ "sub": "ada", "client_id": "app", "roles": ["a", "b"], "level": 3 }))
        .token("bare", json!({ "iss": "x" }))
        .token("split", json!({ "sub": "ada\r\nx-admin: 1" }))
        .bad_token("old", TokenFault::Expired)
        .bad_token("nokeys", TokenFault::KeysUnavailable)
        .consumer("app", Some("starter"))
        .refused_consumer("late", Refusal::QuotaExceeded)
}

fn jwt(more: Value) -> Harness<Jwt> {
    let mut config = json!({ "secret": "s" });
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    testing::policy(config).expect("configured")
}

fn challenge(verdict: &Verdict) -> &str {
    verdict.reply().and_then(|reply| reply.get("www-authenticate")).unwrap_or("")
}

#[test]
fn a_bearer_token() {
    let _host = host();
    let policy = jwt(json!({}));
    for good in ["Bearer good", "bearer good", "BEARER   good"] {
        assert_eq!(policy.request([("authorization", good)]), Verdict::Proceed, "{good}");
    }
}

#[test]
fn without_a_token() {
    let _host = host();
    let policy = jwt(json!({}));
    for none in
        [None, Some("Basic Zm9v"), Some("BearerX good"), Some("X-Bearer good"), Some("good"), Some("")]
    {
        let verdict = policy.request(none.map(|value| ("authorization", value)));
        assert_eq!(verdict.status(), Some(401), "{none:?}");
        assert_eq!(challenge(&verdict), "Bearer", "{none:?}");
    }
}

#[test]
fn bad_tokens() {
    let _host = host();
    for optional in [false, true] {
        let policy = jwt(json!({ "optional": optional }));
        let verdict = policy.request([("authorization", "Bearer old")]);
        assert_eq!(verdict.status(), Some(401));
        assert_eq!(
            challenge(&verdict),
            "Bearer error=\"invalid_token\", error_description=\"the token has expired\""
        );
        let forged = policy.request([("authorization", "Bearer forged.x.y")]);
        assert!(challenge(&forged).contains("the signature is wrong"));
        let verdict = policy.request([("authorization", "Bearer nokeys")]);
        assert_eq!(verdict.status(), Some(503));
        assert_eq!(challenge(&verdict), "");
    }
}

#[test]
fn what_was_meant_as_a_token_is_none_that_may_pass() {
    let _host = host();
    for optional in [false, true] {
        let policy = jwt(json!({ "optional": optional }));
        for bad in [
            "Bearer",
            "bearer ",
            "Bearer\tgood",
            "Bearer \tgood",
            "\tBearer\tgood",
            " Bearer,good",
            "Bearer=good",
            "Bearer, good",
            "Bearer:good",
            "Bearer \"good\"",
            "Bearer good,",
            "Bearer good x",
            "Bearer good, Basic Zm9v",
            "Bearer\u{a0}good",
            "\u{a0}Bearer good",
            "Basic Zm9v, Bearer good",
            "Basic Zm9v,bearer good",
            "Basic Zm9v Bearer good",
            ",Bearer good",
            "Bearer Bearer good",
        ] {
            let verdict = policy.request([("authorization", bad)]);
            assert_eq!(verdict.status(), Some(401), "{bad:?}");
            assert!(challenge(&verdict).contains("the token is malformed"), "{bad:?}");
        }
        let good = policy.request([("authorization", " Bearer  good ")]);
        assert_eq!(good, Verdict::Proceed);
    }
    let elsewhere = jwt(json!({ "optional": true, "token": { "header": "x-token" } }));
    for bad in ["Bearer\tgood", "Bearer", "x, Bearer good", "forged"] {
        assert_eq!(elsewhere.request([("x-token", bad)]).status(), Some(401), "{bad:?}");
    }
    assert_eq!(elsewhere.request([("x-token", "")]), Verdict::Proceed);
}

#[test]
fn a_token_hides_behind_no_other_value_of_its_name() {
    let _host = host();
    let query = jwt(json!({ "optional": true, "token": { "query": "jwt" } }));
    let ask = |value: &str, query_text: &str| query.request([("query:jwt", value), (":query", query_text)]);
    assert_eq!(ask("", "jwt=&jwt=forged").status(), Some(401));
    assert_eq!(ask("good", "jwt=good&%6awt=forged").status(), Some(401));
    assert_eq!(query.request([(":query", "JWT=forged")]).status(), Some(401));
    assert_eq!(ask("good", "jwt=good&a=1").status(), None);
    assert_eq!(ask("", "jwt=&a=1").status(), None);

    let cookie = jwt(json!({ "optional": true, "token": { "cookie": "t" } }));
    let ask = |value: &str, field: &str| cookie.request([("cookie:t", value), ("cookie", field)]);
    assert_eq!(ask("", "t=; t=forged").status(), Some(401));
    assert_eq!(ask("", "t=; a=1").status(), None);
    // Browsers send a cookie of each path, the nearest first.
    assert_eq!(ask("good", "t=good; t=old").status(), None);
}

#[test]
fn two_tokens_are_none() {
    let _host = host();
    let verdict =
        jwt(json!({})).request([("authorization", "Bearer good"), ("authorization", "Bearer good")]);
    assert_eq!(verdict.status(), Some(401));
    assert!(challenge(&verdict).starts_with("Bearer error=\"invalid_request\""));
}

#[test]
fn claims_become_headers_that_clients_cannot_set() {
    let _host = host();
    let policy = jwt(json!({
        "optional": true,
        "claims_to_headers": { "sub": "x-user", "roles": "x-roles", "level": "x-level" },
    }));
    let forged = ("x-user", "root");
    let verdict = policy.request([("authorization", "Bearer good"), forged]);
    assert_eq!(verdict.written("x-user"), Some("ada"));
    assert_eq!(verdict.written("x-roles"), Some("[\"a\",\"b\"]"));
    assert_eq!(verdict.written("x-level"), Some("3"));
    for unnamed in [policy.request([forged]), policy.request([("authorization", "Bearer bare"), forged])] {
        for header in ["x-user", "x-roles", "x-level"] {
            assert!(unnamed.removes(header), "{header}");
        }
    }
}

#[test]
fn claims_that_cannot_be_headers_as_they_are() {
    let _host = host()
        .token("edges", json!({ "sub": " Anna\t" }))
        .token("delete", json!({ "sub": "\u{7f}" }))
        .token("long", json!({ "sub": "a".repeat((64 << 10) + 1) }));
    let policy = jwt(json!({ "claims_to_headers": { "sub": "x-user" } }));
    assert_eq!(policy.request([("authorization", "Bearer edges")]).written("x-user"), Some("Anna"));
    for bad in ["Bearer split", "Bearer delete", "Bearer long"] {
        assert_eq!(policy.request([("authorization", bad)]).status(), Some(401), "{bad}");
    }
}

#[test]
fn a_claim_names_the_consumer() {
    let _host = host().token("late", json!({ "client_id": "late" })).token("x", json!({ "client_id": "x" }));
    let policy = jwt(json!({ "consumer_claim": "client_id" }));
    let status = |token: &str| policy.request([("authorization", &*format!("Bearer {token}"))]).status();
    assert_eq!(status("good"), None);
    assert_eq!(status("late"), Some(429));
    let late = policy.request([("authorization", "Bearer late")]);
    assert_eq!(late.reply().and_then(|reply| reply.get("retry-after")), Some("60"));
    assert_eq!(status("x"), Some(403));
    assert_eq!(status("bare"), Some(403));
}

#[test]
fn tokens_elsewhere_and_not_passed_on() {
    let _host = host();
    let header = jwt(json!({ "token": { "header": "X-Token" }, "forward": false }));
    assert!(header.request([("x-token", "good")]).removes("x-token"));
    assert!(header.request([("x-token", "Bearer good")]).removes("x-token"));

    let cookie = jwt(json!({ "token": { "cookie": "session" }, "forward": false }));
    let verdict = cookie.request([("cookie:session", "good"), ("cookie", "a=1; session=good")]);
    assert_eq!(verdict.written("cookie"), Some("a=1"));
    assert!(cookie.request([("cookie:session", "good"), ("cookie", "session=good")]).removes("cookie"));

    for (crumbs, expected) in [
        (";".repeat(80_000), None),
        (";".repeat(80 << 10), Some(431)),
        ("a=1;".repeat(16_000), None),
        ("a=1;".repeat(17_000), Some(431)),
    ] {
        let field = format!("{crumbs} session=good");
        let verdict = cookie.request([("cookie:session", "good"), ("cookie", &*field)]);
        assert_eq!(verdict.status(), expected);
        let blank = crumbs.starts_with(';');
        assert_eq!(verdict.removes("cookie"), expected.is_none() && blank);
    }

    let query = jwt(json!({ "token": { "query": "jwt" }, "forward": false }));
    let verdict = query.request([("query:jwt", "good"), (":query", "jwt=good&a=1")]);
    assert_eq!(verdict.written(":query"), Some("a=1"));

    let bearer = jwt(json!({ "forward": false }));
    assert!(bearer.request([("authorization", "Bearer good")]).removes("authorization"));
}

#[test]
fn the_rules_reach_the_verifier() {
    let host = host();
    let _policy = testing::policy::<Jwt>(json!({
        "jwks": { "keys": [] }, "jwks_url": "https://id/jwks", "jwks_file": "keys.json", "public_key": "PEM",
        "issuer": "https://id", "audience": ["a", "b"], "algorithms": ["RS256", "ES512", "Ed25519"],
        "leeway": "1500ms", "required_claims": ["sub"],
    }))
    .expect("configured");
    let rules = host.rules().remove(0);
    let keys = [
        KeySource::Inline("{\"keys\":[]}".into()),
        KeySource::Inline("PEM".into()),
        KeySource::File("keys.json".into()),
        KeySource::Url("https://id/jwks".into()),
    ];
    assert_eq!(rules.keys, keys);
    assert_eq!((rules.issuers, rules.audiences.len()), (vec!["https://id".to_string()], 2));
    assert_eq!(rules.algorithms, ["RS256", "ES512", "Ed25519"]);
    assert_eq!((rules.leeway_seconds, rules.required_claims), (2, vec!["sub".into(), "exp".into()]));
}

#[test]
fn tokens_must_expire_unless_told_otherwise() {
    let host = host();
    let required = |more: Value| {
        let _policy = jwt(more);
        host.rules().pop().map(|rules| rules.required_claims).unwrap_or_default()
    };
    assert_eq!(required(json!({})), ["exp"]);
    assert_eq!(required(json!({ "require_exp": true, "required_claims": ["exp", "sub"] })), ["exp", "sub"]);
    assert_eq!(required(json!({ "require_exp": false })), [""; 0]);
    assert_eq!(required(json!({ "require_exp": false, "required_claims": ["exp"] })), ["exp"]);
    assert!(testing::policy::<Jwt>(json!({ "secret": "s", "require_exp": "no" })).is_err());
}

#[test]
fn mistakes() {
    for bad in [
        json!({}),
        json!({ "issuer": "https://id" }),
        json!({ "jwks": 1 }),
        json!({ "secret": "s", "algorithms": ["none"] }),
        json!({ "secret": "s", "algorithms": ["HS1"] }),
        json!({ "secret": "s", "leeway": 5 }),
        json!({ "secret": "s", "token": { "body": "x" } }),
        json!({ "secret": "s", "token": { "cookie": "" } }),
        json!({ "secret": "s", "token": { "cookie": "a;b" } }),
        json!({ "secret": "s", "token": { "cookie": "a=b" } }),
        json!({ "secret": "s", "token": { "query": "" } }),
        json!({ "secret": "s", "token": { "header": "a b" } }),
        json!({ "secret": "s", "claims_to_headers": { "sub": "x user" } }),
        json!({ "secret": "s", "claims_to_headers": { "sub": "x-a", "iss": "X-A" } }),
        json!({ "secret": "s", "claims_to_headers": { "sub": "Authorization" } }),
        json!({ "secret": "s", "issuers": "x" }),
    ] {
        assert!(testing::policy::<Jwt>(bad.clone()).is_err(), "{bad}");
    }
}
