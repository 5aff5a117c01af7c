//! What callers try on those who tell them apart: tokens, keys and addresses, limits, headers that
//! some gateway believed, answers that some gateway kept. `policies` has the policies as an operator
//! uses them.

use crate::fixture::{
    Config, assert_contains, assert_lacks, echo, jwt, key_hash, probe, setup, setup_with_probe,
};
use serde_json::{Value, json};
use witgate_test_support::{Gateway, Origin, Reply, Request};

const KEY: &str = "wg_the_key_that_nobody_may_see_0123456789";

fn with_key(origin: &Origin, key: &str) -> Config {
    echo(origin, json!([{"plugin": "api-key"}]))
        .set("products", json!([{"name": "basic", "apis": ["echo"]}]))
        .set("consumers", json!([{"name": "acme", "subscriptions": [{"product": "basic", "keys": [key]}]}]))
}

#[test]
fn e6_what_is_no_token_is_a_cheap_401() {
    let origin = Origin::named("up");
    let config =
        echo(&origin, json!([jwt(json!({}))])).set("listeners.0.limits", json!({"header_bytes": "200KiB"}));
    let gateway = setup().start(&config.text());
    for token in ["a.b.@@@".to_string(), ".".repeat(60 << 10), "a.".repeat(60 << 10), "x".repeat(100 << 10)] {
        let answer = gateway.send(Request::get("/echo").bearer(&token)).expect(401);
        assert_contains(answer.header("www-authenticate").unwrap(), "Bearer");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn f1_a_key_is_in_no_log_however_talkative() {
    let origin = Origin::mirror();
    let setup = setup().env("WITGATE_LOG", "trace");
    let gateway = setup.start(&with_key(&origin, &key_hash(KEY)).text());
    for path in ["/echo", "/elsewhere"] {
        gateway.get(&format!("{path}?subscription-key={KEY}&a=1"));
        gateway.send(Request::get(path).header("Ocp-Apim-Subscription-Key", KEY));
        // Refused, for another reason than the key.
        gateway.send(Request::get(&format!("{path}%2f?subscription-key={KEY}"))).expect(400);
        gateway.send(Request::new("BREW", &format!("{path}?subscription-key={KEY}")));
    }
    gateway.logged("/echo");
    assert_lacks(gateway.log().text(), KEY);
    for page in ["/metrics", "/config", "/plugins", "/"] {
        assert_lacks(gateway.admin(page).text(), KEY);
    }
    for seen in origin.seen() {
        assert_lacks(format!("{seen:?}"), KEY);
    }
}

#[test]
fn f2_a_secret_that_cannot_be_had_refuses_all() {
    let origin = Origin::named("up");
    for reference in ["${env:WITGATE_TEST_NO_SUCH}", "${file:no/such/file}", "", "sha256:", "plain"] {
        let config = with_key(&origin, reference);
        let Err(refused) = setup().try_start(&config.text()) else { panic!("{reference}: it started") };
        assert_contains(&refused.text, "keys");
    }
    // Nor is a variable that is empty a key of everybody.
    let setup_empty = setup().env("WITGATE_TEST_EMPTY", "");
    assert!(setup_empty.try_start(&with_key(&origin, "${env:WITGATE_TEST_EMPTY}").text()).is_err());
    let admin = json!({"address": "127.0.0.1:0", "token": "${env:WITGATE_TEST_NO_SUCH}"});
    assert!(setup().try_start(&echo(&origin, json!([])).set("admin", admin).text()).is_err());

    let gateway = setup().start(&with_key(&origin, &key_hash(KEY)).text());
    gateway.reload_refused(&with_key(&origin, "${env:WITGATE_TEST_NO_SUCH}").text());
    gateway.get("/echo").expect(401);
    gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", "")).expect(401);
    gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", KEY)).expect(200);
}

fn limited(more: Value) -> (Gateway, Origin) {
    let origin = Origin::named("up");
    let mut config = json!({"requests": 2, "per": "1h"});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let config = echo(&origin, json!([{"plugin": "rate-limit", "config": config}]))
        .set("server.trusted_proxies", json!(["127.0.0.0/8"]));
    (setup().start(&config.text()), origin)
}

#[test]
fn g1_addresses_of_one_network_are_one_client() {
    let (gateway, origin) = limited(json!({}));
    let from = |address: &str| gateway.send(Request::get("/echo").header("X-Forwarded-For", address)).status;
    assert_eq!([from("2001:db8:0:1::1"), from("2001:db8:0:1:ffff::2")], [200, 200]);
    for last in 3..20 {
        assert_eq!(from(&format!("2001:db8:0:1::{last:x}")), 429);
    }
    assert_eq!(from("2001:db8:0:2::1"), 200, "another network");
    // An IPv4 address in IPv6's clothes is that IPv4 address.
    assert_eq!([from("192.0.2.1"), from("::ffff:192.0.2.1"), from("192.0.2.1")], [200, 200, 429]);
    assert_eq!(origin.count(), 5);
}

#[test]
fn g3_a_limit_that_hides_its_fields_still_says_429() {
    let (gateway, origin) = limited(json!({"headers": false}));
    for _ in 0..2 {
        let answer = gateway.get("/echo").expect(200);
        assert!(
            answer.header("ratelimit").is_none() && answer.header("ratelimit-policy").is_none(),
            "{answer:?}"
        );
    }
    let refused = gateway.get("/echo").expect(429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert!(
        refused.header("ratelimit").is_none() && refused.header("ratelimit-policy").is_none(),
        "{refused:?}"
    );
    assert_eq!(origin.count(), 2);
}

#[test]
fn d5_headers_that_name_another_path_or_method_are_not_believed() {
    let origin = Origin::mirror();
    let deny = probe(json!({"request": {"do": "reply", "status": 403}}));
    let config = Config::new()
        .upstream("up", &origin)
        .api(json!({"name": "admin", "path": "/admin", "upstream": "up", "chain": [deny]}))
        .api(json!({"name": "public", "path": "/public", "upstream": "up"}));
    let gateway = setup_with_probe().start(&config.text());
    for name in [
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Forwarded-Prefix",
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Forwarded-Host",
    ] {
        gateway.send(Request::get("/admin").header(name, "/public")).expect(403);
        assert_eq!(origin.count(), 0, "{name}");
        let seen = gateway.send(Request::get("/public/x").header(name, "/admin")).expect(200).json();
        assert_eq!((&seen["target"], &seen["method"]), (&json!("/public/x"), &json!("GET")), "{name}");
        origin.forget();
    }
}

#[test]
fn i1_i2_nothing_is_kept_of_an_answer() {
    let origin = Origin::start(|seen| {
        let body = format!("{} {}", seen.method, seen.header("host").unwrap_or("-"));
        Reply::with(200, &[("cache-control", "public, max-age=3600"), ("etag", "\"1\"")], body)
    });
    let gateway = setup().start(&echo(&origin, json!([])).text());
    for (number, method) in ["GET", "GET", "POST", "HEAD", "GET", "DELETE", "GET"].into_iter().enumerate() {
        let answer = gateway.send(Request::new(method, "/echo").header("Host", "a.example")).expect(200);
        assert!(method == "HEAD" || answer.text().starts_with(method), "{answer:?}");
        assert_eq!(origin.count(), number + 1, "{method} was answered from somewhere else");
    }
    gateway.send(Request::get("/echo").header("Host", "b.example")).expect(200);
    assert_eq!(origin.count(), 8);
}
