//! The first-party policies as an operator uses them.

use crate::fixture::{Config, assert_contains, assert_lacks, echo, jwt, key_hash, setup, with};
use serde_json::{Value, json};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use witgate_test_support::tokens::{self, EC, OTHER_RSA, RSA, claims, claims_with, now};
use witgate_test_support::{Answer, Gateway, Origin, Reply, Request, eventually};

fn start(origin: &Origin, chain: Value) -> Gateway {
    setup().start(&echo(origin, chain).text())
}

// --- jwt

fn bearer(gateway: &Gateway, token: &str) -> Answer {
    gateway.send(Request::get("/echo").bearer(token))
}

#[test]
fn jwt_lets_good_tokens_pass() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([jwt(json!({}))]));
    for key in [&*RSA, &*EC] {
        bearer(&gateway, &key.sign(&claims("anna"))).expect(200);
    }
    // An audience may be a list.
    bearer(&gateway, &RSA.sign(&claims_with("aud", json!(["other", "api"])))).expect(200);
}

#[test]
fn jwt_refuses_the_rest_with_401() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([jwt(json!({}))]));
    let answer = gateway.get("/echo").expect(401);
    assert_contains(answer.header("www-authenticate").unwrap(), "Bearer");
    let past = now() - 3600;
    let good = RSA.sign(&claims("anna"));
    let parts: Vec<&str> = good.split('.').collect();
    let refused: Vec<(&str, String)> = vec![
        ("expired", RSA.sign(&claims_with("exp", json!(past)))),
        ("not yet", RSA.sign(&claims_with("nbf", json!(now() + 3600)))),
        ("issuer", RSA.sign(&claims_with("iss", json!("https://evil.test")))),
        ("no issuer", RSA.sign(&claims_with("iss", Value::Null))),
        ("audience", RSA.sign(&claims_with("aud", json!("other")))),
        ("no audience", RSA.sign(&claims_with("aud", Value::Null))),
        ("another's key", OTHER_RSA.sign(&claims("anna"))),
        (
            "another's key under a known id",
            OTHER_RSA.sign_raw_header(&json!({"alg": "RS256", "kid": "rsa-1"}), &claims("anna")),
        ),
        ("forged claims", format!("{}.{}.{}", parts[0], parts[1].replace('a', "b"), parts[2])),
        ("cut signature", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..parts[2].len() - 4])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("not base64", "a.b.@@@".into()),
        ("empty", String::new()),
        ("dots", ".".repeat(8000)),
    ];
    for (what, token) in refused {
        let answer = bearer(&gateway, &token);
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert!(answer.header("www-authenticate").is_some(), "{what}");
    }
    assert_eq!(origin.count(), 0);
    for scheme in ["Basic YTpi", "bearer", "Token x"] {
        gateway.send(Request::get("/echo").header("Authorization", scheme)).expect(401);
    }
}

/// An upstream may read less strictly than the gateway.
#[test]
fn jwt_that_is_optional_lets_no_malformed_token_pass() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([jwt(json!({"optional": true}))]));
    for bad in [
        "Bearer\tFORGED",
        "Bearer=FORGED",
        "Bearer, FORGED",
        "Bearer",
        "bearer\t FORGED",
        "Basic YTpi, Bearer FORGED",
    ] {
        let refused = gateway.send(Request::get("/echo").header("Authorization", bad)).expect(401);
        assert_contains(refused.header("www-authenticate").unwrap(), "invalid_token");
    }
    assert_eq!(origin.count(), 0);
    gateway.get("/echo").expect(200);
    gateway.send(Request::get("/echo").header("Authorization", "Basic YTpi")).expect(200);
    bearer(&gateway, &RSA.sign(&claims("anna"))).expect(200);
}

#[test]
fn jwt_never_accepts_alg_none() {
    // Case E1.
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([jwt(json!({}))]));
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        for signature in ["", "x"] {
            let token = tokens::unsigned(&json!({"alg": alg, "typ": "JWT"}), &claims("root"), signature);
            bearer(&gateway, &token).expect(401);
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn jwt_binds_the_algorithm_to_the_key() {
    // Case E2: HS256 keyed with what everybody knows of the RSA key.
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([jwt(json!({}))]));
    let jwk = RSA.jwk.to_string();
    let n = RSA.jwk["n"].as_str().unwrap();
    for secret in [RSA.pem.as_bytes(), RSA.pem.trim_end().as_bytes(), jwk.as_bytes(), n.as_bytes(), b""] {
        for kid in [json!("rsa-1"), Value::Null] {
            let mut header = json!({"alg": "HS256", "typ": "JWT"});
            if !kid.is_null() {
                header["kid"] = kid;
            }
            bearer(&gateway, &tokens::hs256(secret, &header, &claims("root"))).expect(401);
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn jwt_honours_critical_extensions_and_ignores_keys_in_the_token() {
    // Case E3 and E4.
    let origin = Origin::mirror();
    let keys = Origin::named("keys");
    let gateway = start(&origin, json!([jwt(json!({}))]));
    for header in [
        json!({"alg": "RS256", "kid": "rsa-1", "crit": ["x"], "x": 1}),
        json!({"alg": "RS256", "kid": "rsa-1", "crit": []}),
        json!({"alg": "RS256", "kid": "rsa-1", "b64": false, "crit": ["b64"]}),
    ] {
        bearer(&gateway, &RSA.sign_raw_header(&header, &claims("anna"))).expect(401);
    }
    for header in [
        json!({"alg": "RS256", "jwk": OTHER_RSA.jwk}),
        json!({"alg": "RS256", "jku": keys.url()}),
        json!({"alg": "RS256", "x5u": keys.url()}),
        json!({"alg": "RS256", "kid": "../../dev/null"}),
        json!({"alg": "RS256", "kid": "x'; DROP TABLE keys"}),
    ] {
        bearer(&gateway, &OTHER_RSA.sign_raw_header(&header, &claims("root"))).expect(401);
    }
    assert_eq!((origin.count(), keys.connections()), (0, 0));
}

#[test]
fn jwt_has_a_leeway_and_requires_claims() {
    let origin = Origin::mirror();
    let policy = jwt(json!({"leeway": "60s", "required_claims": ["sub", "tenant", "exp"]}));
    let gateway = start(&origin, json!([policy]));
    let mut good = claims("anna");
    good["tenant"] = json!("t");
    bearer(&gateway, &RSA.sign(&good)).expect(200);
    good["exp"] = json!(now() - 30);
    bearer(&gateway, &RSA.sign(&good)).expect(200);
    good["exp"] = json!(now() - 90);
    bearer(&gateway, &RSA.sign(&good)).expect(401);
    bearer(&gateway, &RSA.sign(&claims("anna"))).expect(401);
    // A token that never expires is refused where `exp` is required.
    good.as_object_mut().unwrap().remove("exp");
    bearer(&gateway, &RSA.sign(&good)).expect(401);
}

#[test]
fn jwt_passes_claims_on_and_strips_what_the_client_says() {
    // Case D4.
    let origin = Origin::mirror();
    let policy = jwt(json!({"claims_to_headers": {"sub": "X-User", "role": "X-Role"}}));
    let gateway = start(&origin, json!([policy]));
    let mut token = claims("anna");
    token["role"] = json!("pilot");
    let request =
        Request::get("/echo").bearer(&RSA.sign(&token)).header("X-User", "root").header("X-Role", "root");
    let headers = gateway.send(request).expect(200).json()["headers"].clone();
    assert_eq!((&headers["x-user"], &headers["x-role"]), (&json!(["anna"]), &json!(["pilot"])));
    let request = Request::get("/echo").bearer(&RSA.sign(&claims("anna"))).header("X-Role", "root");
    let headers = gateway.send(request).expect(200).json()["headers"].clone();
    assert_eq!(headers["x-role"], Value::Null);
    // A claim cannot smuggle a line, and what no header can have makes the token invalid.
    for bad in ["a\r\nx-injected: b", "\u{7f}", "\0"] {
        token["role"] = json!(bad);
        bearer(&gateway, &RSA.sign(&token)).expect(401);
    }
    token["role"] = json!(" co pilot\t");
    let headers = bearer(&gateway, &RSA.sign(&token)).expect(200).json()["headers"].clone();
    assert_eq!(headers["x-role"], json!(["co pilot"]));
}

#[test]
fn jwt_fetches_keys_and_follows_their_rotation() {
    use std::sync::{Arc, Mutex};
    let published = Arc::new(Mutex::new(tokens::jwks(&[&RSA])));
    let served = published.clone();
    let keys = Origin::start(move |_| {
        let text = served.lock().unwrap().clone();
        Reply::with(200, &[("content-type", "application/json")], text)
    });
    let origin = Origin::mirror();
    let mut policy = jwt(json!({"jwks_url": format!("{}/jwks.json", keys.url())}));
    policy["config"].as_object_mut().unwrap().remove("jwks");
    let gateway = start(&origin, json!([policy]));
    eventually("the first keys", || bearer(&gateway, &RSA.sign(&claims("anna"))).status == 200);
    let fetched = keys.count();
    for _ in 0..50 {
        bearer(&gateway, &RSA.sign(&claims("anna"))).expect(200);
    }
    assert_eq!(keys.count(), fetched, "keys are cached");

    // Case E5: unknown key ids cannot make it fetch again and again.
    for index in 0..200 {
        let header = json!({"alg": "RS256", "kid": format!("unknown-{index}")});
        let answer = bearer(&gateway, &OTHER_RSA.sign_raw_header(&header, &claims("root")));
        assert_eq!(answer.status, 401);
    }
    assert!(keys.count() <= fetched + 2, "{} fetches", keys.count());
    bearer(&gateway, &RSA.sign(&claims("anna"))).expect(200);
}

#[test]
fn jwt_follows_the_file_of_its_keys() {
    let origin = Origin::mirror();
    let mut policy = jwt(json!({"jwks_file": "keys.json"}));
    policy["config"].as_object_mut().unwrap().remove("jwks");
    let config = echo(&origin, json!([policy])).text();
    let gateway = setup().file("keys.json", tokens::jwks(&[&RSA])).start(&config);
    bearer(&gateway, &RSA.sign(&claims("anna"))).expect(200);
    bearer(&gateway, &EC.sign(&claims("anna"))).expect(401);
    gateway.write_file("keys.json", tokens::jwks(&[&EC]));
    eventually("the new keys", || bearer(&gateway, &EC.sign(&claims("anna"))).status == 200);
    bearer(&gateway, &RSA.sign(&claims("anna"))).expect(401);
}

#[test]
fn jwt_with_no_keys_at_hand_lets_nobody_in() {
    let origin = Origin::mirror();
    let keys = Origin::start(|_| Reply::status(500));
    let mut policy = jwt(json!({"jwks_url": keys.url()}));
    policy["config"].as_object_mut().unwrap().remove("jwks");
    let gateway = start(&origin, json!([policy]));
    let answer = bearer(&gateway, &RSA.sign(&claims("anna")));
    assert!(matches!(answer.status, 401 | 503), "{answer:?}");
    assert_eq!(origin.count(), 0);
}

/// Whoever has a token may send it among as many crumbs as a head can hold, and takes it from nobody.
#[test]
fn jwt_takes_its_cookie_out_of_any_field() {
    let origin = Origin::mirror();
    let policy = jwt(json!({"token": {"cookie": "session"}, "forward": false}));
    let config = echo(&origin, json!([policy])).set("listeners.0.limits", json!({"header_bytes": "512KiB"}));
    let gateway = setup().start(&config.text());
    let session = format!(" session={}", RSA.sign(&claims("anna")));
    let ask =
        |crumbs: &str| gateway.send(Request::get("/echo").header("Cookie", &format!("{crumbs}{session}")));
    for _ in 0..6 {
        assert_eq!(ask(&";".repeat(60_000)).expect(200).json()["headers"]["cookie"], Value::Null);
        let kept = ask(&"a;".repeat(30_000)).expect(200).json()["headers"]["cookie"][0].clone();
        assert_eq!(kept.as_str().map(|kept| kept.split(';').count()), Some(30_000));
        ask(&"a=1; ".repeat(80_000)).expect(431);
    }
    ask("").expect(200);
}

// --- api-key and consumers

const KEY: &str = "wg_test_mobile_app_0123456789";

fn with_consumers(config: Config) -> Config {
    let other = json!({"name": "other", "path": "/other", "upstream": "echo"});
    config.api(other).set("products", json!([{"name": "starter", "apis": ["echo"]}, {"name": "other", "apis": ["other"]}])).set(
        "consumers",
        json!([
            {"name": "mobile", "subscriptions": [{"product": "starter", "keys": [key_hash(KEY)]}]},
            {"name": "elsewhere", "subscriptions": [{"product": "other", "keys": [key_hash("wg_other")]}]},
            {"name": "asleep", "subscriptions": [
                {"product": "starter", "keys": [key_hash("wg_asleep")], "suspended": true}]},
        ]),
    )
}

#[test]
fn api_key_identifies_the_consumer_and_keeps_the_key() {
    let origin = Origin::mirror();
    let config = with_consumers(echo(&origin, json!([{"plugin": "api-key"}])));
    let gateway = setup().start(&config.text());
    let by_header = Request::get("/echo/h").header("Ocp-Apim-Subscription-Key", KEY);
    let seen = gateway.send(by_header).expect(200).text();
    assert_lacks(&seen, KEY);
    let seen = gateway.get(&format!("/echo/q?a=1&subscription-key={KEY}&b=2")).expect(200).json();
    assert_eq!(seen["target"], "/echo/q?a=1&b=2");
    assert_eq!(gateway.logged("/echo/h")["consumer"], "mobile");
    assert_eq!(gateway.logged("/echo/q")["product"], "starter");
    // Case F1.
    gateway.admin("/metrics");
    assert_lacks(gateway.log().text(), KEY);
    assert_lacks(gateway.admin("/config").text(), KEY);
}

#[test]
fn api_key_refuses_all_others() {
    let origin = Origin::mirror();
    let config = with_consumers(echo(&origin, json!([{"plugin": "api-key"}])));
    let gateway = setup().start(&config.text());
    let ask = |key: &str| gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", key)).status;
    gateway.get("/echo").expect(401);
    for wrong in ["", "x", &KEY[1..], &format!("{KEY}x"), &key_hash(KEY)] {
        assert_eq!(ask(wrong), 401, "{wrong:?}");
    }
    assert_eq!(ask("wg_other"), 403, "a good key of another product");
    assert!(matches!(ask("wg_asleep"), 401 | 403));
    gateway.get("/echo?subscription-key=").expect(401);
    assert_eq!(origin.count(), 0);
}

// --- rate-limit

#[test]
fn rate_limit_lets_exactly_so_many_pass() {
    // Case G2: in parallel too.
    let origin = Origin::named("a");
    let limit = json!({"plugin": "rate-limit", "config": {"requests": 10, "per": "1h", "by": "client"}});
    let gateway = start(&origin, json!([limit]));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| (0..10).map(|_| gateway.get("/echo").status).collect::<Vec<_>>()))
            .collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)));
    assert_eq!(origin.count(), 10);
}

#[test]
fn rate_limit_says_when_to_come_back() {
    let origin = Origin::named("a");
    let limit = json!({"plugin": "rate-limit", "config": {"requests": 2, "per": "1h", "by": "client"}});
    let gateway = start(&origin, json!([limit]));
    let first = gateway.get("/echo").expect(200);
    assert!(first.header("ratelimit").is_some(), "{first:?}");
    assert!(first.header("ratelimit-policy").is_some(), "{first:?}");
    gateway.get("/echo").expect(200);
    let refused = gateway.get("/echo").expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    // Case G4: another address in a header is not another client.
    gateway.send(Request::get("/echo").header("X-Forwarded-For", "10.9.8.7")).expect(429);
    gateway.send(Request::get("/echo").header("X-Real-IP", "10.9.8.7")).expect(429);
}

#[test]
fn rate_limit_counts_by_header_and_by_consumer() {
    let origin = Origin::named("a");
    let by = |by: &str| json!({"plugin": "rate-limit", "config": {"requests": 1, "per": "1h", "by": by}});
    let gateway = start(&origin, json!([by("header:x-tenant")]));
    let ask = |tenant: &str| gateway.send(Request::get("/echo").header("X-Tenant", tenant)).status;
    assert_eq!([ask("a"), ask("a"), ask("b"), ask("b")], [200, 429, 200, 429]);

    let config = with_consumers(echo(&origin, json!([{"plugin": "api-key"}, by("consumer")])));
    let gateway = setup().start(&config.text());
    let ask = || gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", KEY)).status;
    assert_eq!([ask(), ask()], [200, 429]);
}

#[test]
fn rate_limit_refills() {
    let origin = Origin::named("a");
    let limit = json!({"plugin": "rate-limit", "config": {"requests": 1, "per": "1s", "by": "client"}});
    let gateway = start(&origin, json!([limit]));
    gateway.get("/echo").expect(200);
    eventually("the next second", || gateway.get("/echo").status == 200);
}

// --- header-rewrite

#[test]
fn header_rewrite_changes_requests_and_responses() {
    let origin = Origin::start(|seen| {
        Reply::with(
            200,
            &[("server", "secret/1.2"), ("x-seen", seen.header("x-api").unwrap_or("-")), ("x-keep", "1")],
            seen.all("x-trace").join(","),
        )
    });
    let rewrite = json!({"plugin": "header-rewrite", "config": {
        "request": {"set": {"X-Api": "{api:name}"}, "append": {"X-Trace": "gateway"}, "remove": ["X-Debug"]},
        "response": {"set": {"X-Frame-Options": "DENY"}, "remove": ["Server"]},
    }});
    let gateway = start(&origin, json!([rewrite]));
    let request = Request::get("/echo").header("X-Trace", "client").header("X-Debug", "1");
    let answer = gateway.send(request).expect(200);
    assert_eq!(answer.header("x-seen"), Some("echo"));
    assert_eq!(answer.text(), "client,gateway");
    assert_eq!(answer.header("server"), None);
    assert_eq!((answer.header("x-frame-options"), answer.header("x-keep")), (Some("DENY"), Some("1")));
    assert_eq!(origin.only().header("x-debug"), None);
}

/// The configuration of `docs/policies.md`, and the same prefix in responses.
#[test]
fn header_rewrite_removes_all_headers_that_begin_so() {
    let origin = Origin::start(|seen| {
        let headers = [("server", "secret/1.2"), ("x-internal-host", "a"), ("X-Internal-Load", "9")];
        Reply::with(200, &headers, format!("{:?} {:?}", seen.header("x-internal-a"), seen.header("x-client")))
    });
    let rewrite = json!({"plugin": "header-rewrite", "config": {
        "request": {
            "remove": ["x-debug", "x-internal-*"],
            "set": {"x-client": "{client:ip}", "x-api": "{api:name}"},
        },
        "response": {
            "remove": ["server", "x-powered-by", "x-internal-*"], "set": {"x-request": "{request:id}"},
        },
    }});
    let gateway = start(&origin, json!([rewrite]));
    let request = Request::get("/echo").header("X-Internal-A", "1").header("X-Internal-B", "2");
    let answer = gateway.send(request).expect(200);
    assert_eq!(answer.text(), "None Some(\"127.0.0.1\")");
    assert!(answer.header("x-request").is_some(), "{answer:?}");
    for gone in ["server", "x-internal-host", "x-internal-load"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

/// What a client sends is no failure of the policy.
#[test]
fn header_rewrite_refuses_values_that_no_header_can_have() {
    let origin = Origin::mirror();
    let request = json!({"set": {"x-q": "{query:q}"}});
    let gateway = start(&origin, json!([{"plugin": "header-rewrite", "config": {"request": request}}]));
    for bad in ["%0d", "%0a", "%00", "%7f", "a%0d%0ax-evil:%20b"] {
        let refused = gateway.get(&format!("/echo?q={bad}")).expect(400);
        assert_eq!(refused.json()["title"], "A value of the request cannot stand in a header field");
    }
    assert_eq!(origin.count(), 0);
    let edged = gateway.get("/echo?q=%20%09a%20b%20").expect(200).json();
    assert_eq!(edged["headers"]["x-q"], json!(["a b"]));

    let response = json!({"set": {"x-q": "{query:q}"}});
    let gateway = start(&origin, json!([{"plugin": "header-rewrite", "config": {"response": response}}]));
    assert_eq!(gateway.get("/echo?q=%0d").expect(200).header("x-q"), None);
    assert_eq!(gateway.get("/echo?q=+a+").expect(200).header("x-q"), Some("a"));
}

/// Values go into one block of the policy's memory, which grows with them and serves again.
#[test]
fn values_of_any_length_arrive_whole() {
    let origin = Origin::start(|seen| Reply::with(200, &[], seen.header("x-copy").unwrap_or("none")));
    let rewrite = json!({"plugin": "header-rewrite", "config": {
        "request": {"set": {"X-Copy": "{x-long}{x-absent}|{user-agent}"}},
    }});
    let copies = json!({"plugin": "header-rewrite", "config": {
        "request": {"set": {"X-Copy": "{x-long}|{user-agent}"}},
    }});
    let gateway = start(&origin, json!([rewrite, copies]));
    for length in [0, 1, 60, 3_000, 20_000, 7, 2_048, 9_999, 0] {
        let long: String = ('a'..='z').cycle().take(length).collect();
        let request = Request::get("/echo").header("X-Long", &long).header("User-Agent", "grüezi");
        assert_eq!(gateway.send(request).expect(200).text(), format!("{long}|grüezi"), "{length}");
    }
    let without = gateway.send(Request::get("/echo").header("User-Agent", "x"));
    assert_eq!(without.expect(200).text(), "none", "a template with an absent value sets nothing");
}

// --- aggregate

fn aggregate(parts: Value, config: Config) -> Config {
    config.api(json!({"name": "overview", "path": "/overview", "chain": [
        {"plugin": "aggregate", "config": parts},
    ]}))
}

fn slow(millis: u64) -> Origin {
    Origin::start(move |_| {
        std::thread::sleep(Duration::from_millis(millis));
        Reply::json(&json!({"slow": true}))
    })
}

#[test]
fn aggregate_merges_what_several_upstreams_say() {
    let (a, b) = (Origin::mirror(), Origin::start(|_| Reply::json(&json!([1, 2]))));
    let config = Config::new().upstream("a", &a).upstream("b", &b);
    let parts = json!({"parts": {"first": {"upstream": "a", "path": "/x"}, "second": {"upstream": "b", "path": "/y"}}});
    let gateway = setup().start(&aggregate(parts, config).text());
    let answer = gateway.send(Request::get("/overview").header("X-Secret", "1")).expect(200);
    assert_contains(answer.header("content-type").unwrap(), "application/json");
    let all = answer.json();
    assert_eq!((&all["first"]["target"], &all["second"]), (&json!("/x"), &json!([1, 2])));
    // Client headers go on only when they are named.
    assert_lacks(all["first"]["headers"].to_string(), "x-secret");
}

#[test]
fn aggregate_asks_all_at_once() {
    // Each part answers only once all three have been asked.
    let asked = Arc::new((Mutex::new(0), Condvar::new()));
    let together = || {
        let asked = asked.clone();
        Origin::start(move |_| {
            let (count, changed) = &*asked;
            let mut count = count.lock().unwrap();
            *count += 1;
            changed.notify_all();
            let (count, _) = changed.wait_timeout_while(count, Duration::from_secs(10), |n| *n < 3).unwrap();
            if *count < 3 { Reply::status(500) } else { Reply::json(&json!({"together": true})) }
        })
    };
    let (a, b, c) = (together(), together(), together());
    let config = Config::new().upstream("a", &a).upstream("b", &b).upstream("c", &c);
    let part = |name: &str| json!({"upstream": name, "path": "/", "timeout": "20s"});
    let parts = json!({"parts": {"a": part("a"), "b": part("b"), "c": part("c")}});
    let gateway = setup().start(&aggregate(parts, config).text());
    gateway.get("/overview").expect(200);
}

#[test]
fn aggregate_flags_partial_results() {
    let (a, b) = (Origin::start(|_| Reply::json(&json!({"a": 1}))), slow(3000));
    let config = Config::new().upstream("a", &a).upstream("b", &b);
    let part = |optional: bool| {
        json!({"parts": {
            "a": {"upstream": "a", "path": "/"},
            "b": {"upstream": "b", "path": "/", "timeout": "200ms", "optional": optional},
        }})
    };
    let gateway = setup().start(&aggregate(part(true), config.clone()).text());
    let answer = gateway.get("/overview").expect(200);
    assert_eq!(answer.header("x-partial"), Some("b"));
    let all = answer.json();
    assert_eq!((&all["a"], &all["b"]), (&json!({"a": 1}), &Value::Null));
    assert_contains(&all["errors"]["b"], "late");
    let gateway = setup().start(&aggregate(part(false), config).text());
    let refused = gateway.get("/overview").expect(502);
    assert_eq!(refused.json()["part"], "b");
}

/// Who asks for much gets nothing, and takes nothing from others.
#[test]
fn aggregate_bounds_what_its_parts_bring() {
    let origin = Origin::start(|seen| {
        let bytes: usize = seen.target.split_once('=').and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(0);
        Reply::with(200, &[], format!("\"{}\"", "a".repeat(bytes)))
    });
    let part = json!({"upstream": "a", "path": "/x?{:query}"});
    let parts = json!({"parts": {"a": part, "b": part}, "max_bytes": 3 << 20});
    // One instance, until it is replaced: what a request leaves behind, the next one finds.
    let start = |memory: &str| {
        let config = aggregate(parts.clone(), Config::new().upstream("a", &origin))
            .set("apis.0.chain.0.limits", json!({"instances": 1, "memory": memory}))
            .set("server.workers", json!(1));
        setup().start(&config.text())
    };
    let ask = |gateway: &Gateway, bytes: usize| gateway.get(&format!("/overview?bytes={bytes}"));
    let gateway = start("16MiB");
    for round in 0..3 {
        assert_contains(ask(&gateway, 6_000_000).expect(502).text(), "the answer is too large");
        for bytes in [500_000, 1_500_000, 1] {
            assert!(ask(&gateway, bytes).expect(200).text().len() > 2 * bytes, "{round} {bytes}");
        }
        ask(&gateway, 3_000_000).expect(502);
    }
    // Answers that take nearly all of its memory leave no instance that is short of it.
    let gateway = start("8MiB");
    for bytes in [1_500_000, 500_000, 500_000, 1] {
        ask(&gateway, bytes).expect(200);
    }
}

#[test]
fn aggregate_passes_named_headers_on() {
    let a = Origin::mirror();
    let config = Config::new().upstream("a", &a);
    let parts = json!({"parts": {"a": {"upstream": "a", "path": "/"}}, "pass_headers": ["Accept-Language"]});
    let gateway = setup().start(&aggregate(parts, config).text());
    let request = Request::get("/overview").header("Accept-Language", "de").header("Cookie", "x=1");
    let headers = gateway.send(request).expect(200).json()["a"]["headers"].clone();
    assert_eq!((&headers["accept-language"], &headers["cookie"]), (&json!(["de"]), &Value::Null));
}

// --- cors

#[test]
fn cors_answers_preflights_before_authentication() {
    // Case H1.
    let origin = Origin::mirror();
    let cors = json!({"plugin": "cors", "config": {
        "allow_origins": ["https://app.example.com"], "allow_methods": ["GET", "PUT"],
        "allow_headers": ["Authorization"], "max_age": "10m",
    }});
    let gateway = start(&origin, json!([cors, jwt(json!({}))]));
    let preflight = |from: &str| {
        gateway.send(
            Request::new("OPTIONS", "/echo")
                .header("Origin", from)
                .header("Access-Control-Request-Method", "PUT")
                .header("Access-Control-Request-Headers", "authorization"),
        )
    };
    let answer = preflight("https://app.example.com");
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_contains(answer.header("access-control-allow-methods").unwrap(), "PUT");
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    assert_eq!(preflight("https://evil.example").header("access-control-allow-origin"), None);
    assert_eq!(preflight("null").header("access-control-allow-origin"), None);
    assert_eq!(preflight("https://app.example.com.evil.org").header("access-control-allow-origin"), None);
    assert_eq!(origin.count(), 0);

    // A refusal by a later policy is still readable for the page.
    let refused = gateway.send(Request::get("/echo").header("Origin", "https://app.example.com")).expect(401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example.com"));
    let request = Request::get("/echo").header("Origin", "https://app.example.com");
    let answer = gateway.send(request.bearer(&RSA.sign(&claims("anna")))).expect(200);
    assert_contains(answer.all("vary").join(",").to_lowercase(), "origin");
}

#[test]
fn cors_refuses_any_origin_with_credentials() {
    // Case H2.
    let origin = Origin::mirror();
    let cors = json!({"plugin": "cors", "config": {"allow_origins": ["*"], "credentials": true}});
    assert!(setup().try_start(&echo(&origin, json!([cors])).text()).is_err());
}

// --- ip-filter

#[test]
fn ip_filter_allows_and_denies_networks() {
    let origin = Origin::named("a");
    let ask = |config: Value| {
        start(&origin, json!([{"plugin": "ip-filter", "config": config}])).get("/echo").status
    };
    assert_eq!(ask(json!({"allow": ["127.0.0.0/8"]})), 200);
    assert_eq!(ask(json!({"allow": ["10.0.0.0/8", "::1"]})), 403);
    assert_eq!(ask(json!({"deny": ["127.0.0.1"]})), 403);
    assert_eq!(ask(json!({"deny": ["10.0.0.0/8"]})), 200);
    assert_eq!(ask(json!({"allow": ["127.0.0.0/8"], "deny": ["127.0.0.1/32"]})), 403);
}

#[test]
fn ip_filter_refuses_what_is_no_network() {
    let origin = Origin::named("a");
    for bad in ["127.0.0.0/33", "localhost", "", "1.2.3", "::/129"] {
        let config = echo(&origin, json!([{"plugin": "ip-filter", "config": {"allow": [bad]}}]));
        assert!(setup().try_start(&config.text()).is_err(), "{bad:?}");
    }
}

#[test]
fn ip_filter_believes_trusted_proxies_only() {
    let origin = Origin::named("a");
    let chain = json!([{"plugin": "ip-filter", "config": {"allow": ["10.0.0.0/8"]}}]);
    let request = Request::get("/echo").header("X-Forwarded-For", "10.1.1.1");
    let gateway = start(&origin, chain.clone());
    gateway.send(request.clone()).expect(403);
    let config = echo(&origin, chain).set("server.trusted_proxies", json!(["127.0.0.1"]));
    let gateway = setup().start(&config.text());
    gateway.send(request).expect(200);
    // The rightmost untrusted hop is the client; what stands left of it anybody may have written.
    let request = Request::get("/echo").header("X-Forwarded-For", "10.1.1.1, 192.0.2.1");
    gateway.send(request).expect(403);
}

// --- request-id

#[test]
fn request_id_gives_every_exchange_a_name() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([{"plugin": "request-id"}]));
    let answer = gateway.get("/echo/id").expect(200);
    let id = answer.header("x-request-id").expect("in the response").to_string();
    assert_eq!(answer.json()["headers"]["x-request-id"], json!([id]));
    assert_eq!(gateway.logged("/echo/id")["id"], json!(id));
    let other = gateway.get("/echo").expect(200);
    assert_ne!(other.header("x-request-id"), Some(id.as_str()));
}

#[test]
fn named_policies_are_reused() {
    let origin = Origin::named("a");
    let config = Config::new()
        .upstream("up", &origin)
        .policy("closed", with(json!({"plugin": "ip-filter"}), json!({"config": {"allow": ["10.0.0.0/8"]}})))
        .api(json!({"name": "one", "path": "/one", "upstream": "up", "chain": ["closed"]}))
        .api(json!({"name": "two", "path": "/two", "upstream": "up", "chain": ["closed"]}))
        .api(json!({"name": "open", "path": "/open", "upstream": "up"}));
    let gateway = setup().start(&config.text());
    assert_eq!(["/one", "/two", "/open"].map(|path| gateway.get(path).status), [403, 403, 200]);
}

// --- what comes twice, or at the edges

#[test]
fn two_tokens_in_a_query_or_a_cookie_are_none() {
    let origin = Origin::named("a");
    let good = RSA.sign(&claims("anna"));
    let gateway = start(&origin, json!([jwt(json!({"token": {"query": "t"}}))]));
    gateway.get(&format!("/echo?t={good}")).expect(200);
    for query in [format!("t={good}&t=forged"), format!("t=forged&t={good}"), format!("t={good}&%74={good}")]
    {
        gateway.get(&format!("/echo?{query}")).expect(401);
    }
    let gateway = start(&origin, json!([jwt(json!({"token": {"cookie": "t"}}))]));
    gateway.send(Request::get("/echo").header("Cookie", &format!("a=b; t={good}"))).expect(200);
    gateway.send(Request::get("/echo").header("Cookie", &format!("t={good}; t=forged"))).expect(401);
    let lines = Request::get("/echo").header("Cookie", &format!("t={good}")).header("Cookie", "t=forged");
    gateway.send(lines).expect(401);

    let gateway = setup().start(&with_consumers(echo(&origin, json!([{"plugin": "api-key"}]))).text());
    gateway.get(&format!("/echo?subscription-key={KEY}")).expect(200);
    gateway.get(&format!("/echo?subscription-key={KEY}&subscription-key=bad")).expect(401);
}

#[test]
fn a_field_that_a_policy_sets_goes_on_whatever_its_name() {
    // The kind of D2: fields that clients may not claim, but policies may set.
    let origin = Origin::mirror();
    let names =
        ["x-real-ip", "x-forwarded-user", "x-client-ip", "true-client-ip", "x-original-url", "x-host"];
    let set: Value = names
        .iter()
        .map(|name| (name.to_string(), json!("by-policy")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let gateway = start(&origin, json!([{"plugin": "header-rewrite", "config": {"request": {"set": set}}}]));
    let mut request = Request::get("/echo");
    for name in names {
        request = request.header(name, "by-client");
    }
    gateway.send(request).expect(200);
    let seen = origin.only();
    for name in names {
        assert_eq!(seen.all(name), ["by-policy"], "{name}");
    }
}

#[test]
fn white_space_at_the_edges_of_what_a_policy_sets_is_taken_off() {
    let origin = Origin::mirror();
    let set = json!({"x-q": "{query:q}", "x-host": "{host}"});
    let gateway = start(&origin, json!([{"plugin": "header-rewrite", "config": {"request": {"set": set}}}]));
    let mut client = witgate_test_support::http2::H2Client::clear(gateway.public());
    client.get("/echo?q=%20x%09");
    let seen = origin.only();
    assert_eq!(seen.header("x-q"), Some("x"));
    // Whatever version of HTTP named the host.
    assert_eq!(seen.header("x-host"), seen.header("host"));
}
