//! What the admin port shows: health, metrics, the effective configuration without its secrets.

use crate::fixture::{assert_contains, assert_lacks, echo, jwt, setup};
use serde_json::json;
use witgate_test_support::{Origin, Request, eventually};

#[test]
fn health_and_readiness() {
    let origin = Origin::named("a");
    let gateway = setup().start(&echo(&origin, json!([])).text());
    assert_eq!(gateway.admin("/healthz").status, 200);
    assert_eq!(gateway.admin("/readyz").status, 200);
    assert_eq!(gateway.admin("/nowhere").status, 404);
    // Nothing of it is on the public side.
    gateway.get("/metrics").expect(404);
    gateway.get("/config").expect(404);
}

#[test]
fn exchanges_are_counted() {
    let origin = Origin::named("a");
    let gateway = setup().start(&echo(&origin, json!([{"plugin": "request-id"}])).text());
    for _ in 0..5 {
        gateway.get("/echo").expect(200);
    }
    gateway.get("/none").expect(404);
    let page = gateway.admin("/metrics");
    assert_contains(page.header("content-type").unwrap(), "text");
    eventually("five exchanges", || {
        let page = gateway.admin("/metrics").text();
        page.lines().any(|line| line.contains("api=\"echo\"") && line.contains("200") && line.ends_with(" 5"))
            || page
                .lines()
                .any(|line| line.contains("api=\"echo\"") && line.contains("proxied") && line.ends_with(" 5"))
    });
    let page = gateway.admin("/metrics").text();
    for word in ["witgate_", "request-id", "upstream=\"echo\"", "no_route"] {
        assert_contains(&page, word);
    }
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let origin = Origin::mirror();
    let config = echo(
        &origin,
        json!([jwt(json!({})), {"plugin": "header-rewrite", "config": {
            "request": {"set": {"X-Token": "${env:WITGATE_TEST_SECRET}"}},
        }}]),
    );
    let gateway = setup().env("WITGATE_TEST_SECRET", "hush-hush-1234").start(&config.text());
    let page = gateway.admin("/config").expect(200).text();
    assert_contains(&page, "echo");
    assert_lacks(&page, "hush-hush-1234");
    assert_lacks(gateway.log().text(), "hush-hush-1234");
    assert_lacks(gateway.admin("/metrics").text(), "hush-hush-1234");
}

#[test]
fn plugins_are_listed_with_what_they_may_do() {
    let origin = Origin::named("a");
    let gateway = setup().start(&echo(&origin, json!([{"plugin": "request-id"}])).text());
    assert_contains(gateway.admin("/plugins").expect(200).text(), "request-id");
}

#[test]
fn an_access_log_line_says_who_answered_and_why() {
    let origin = Origin::named("a");
    let gateway = setup().start(&echo(&origin, json!([])).text());
    gateway.get("/echo/x?secret=1").expect(200);
    gateway.get("/nowhere").expect(404);
    let entry = gateway.logged("/echo/x");
    assert_eq!(
        (&entry["method"], &entry["api"], &entry["status"], &entry["answered"], &entry["reason"]),
        (&json!("GET"), &json!("echo"), &json!(200), &json!("upstream"), &json!("proxied"))
    );
    for name in ["time", "id", "client", "bytes_out", "total_us", "upstream_us", "listener"] {
        assert!(!entry[name].is_null(), "{name} in {entry}");
    }
    let entry = gateway.logged("/nowhere");
    assert_eq!((&entry["answered"], &entry["reason"]), (&json!("gateway"), &json!("no_route")));
    assert_lacks(gateway.log().text(), "secret=1");
}

#[test]
fn a_token_guards_the_admin_port_when_it_is_set() {
    let origin = Origin::named("a");
    let config =
        echo(&origin, json!([])).set("admin", json!({"address": "127.0.0.1:0", "token": "let-me-in-please"}));
    let gateway = setup().start(&config.text());
    let page = gateway.admin("/config").text();
    assert_lacks(page, "let-me-in-please");
    // Anything but loopback needs one.
    let open = echo(&origin, json!([])).set("admin", json!({"address": "0.0.0.0:9901"}));
    let refused = setup().try_start(&open.text());
    assert!(refused.is_err(), "an admin port for the whole network without a token");
}

#[test]
fn browsers_of_other_sites_and_rebound_names_are_refused() {
    let origin = Origin::named("a");
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let address = gateway.address("admin");
    let own = format!("http://{address}");
    for (name, value) in [
        ("Host", "evil.example"),
        ("Host", "evil.example:9901"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
    ] {
        for request in [Request::get("/config"), Request::post("/reload", "")] {
            let answer = request.header(name, value).send(address);
            assert!(matches!(answer.status, 403 | 421), "{name}: {value}: {answer:?}");
            assert_lacks(answer.text(), "endpoints");
        }
    }
    let request = Request::post("/reload", "").header("Host", &address.to_string()).header("Origin", &own);
    request.header("Sec-Fetch-Site", "same-origin").send(address).expect(200);
}

#[test]
fn without_its_token_a_guarded_admin_port_tells_its_health_alone() {
    let origin = Origin::named("a");
    let config =
        echo(&origin, json!([])).set("admin", json!({"address": "127.0.0.1:0", "token": "let-me-in-please"}));
    let gateway = setup().start(&config.text());
    let address = gateway.address("admin");
    for path in ["/healthz", "/readyz"] {
        Request::get(path).send(address).expect(200);
    }
    for path in ["/metrics", "/config", "/plugins", "/"] {
        for token in ["", "let-me-in", "let-me-in-pleasE", "let-me-in-please "] {
            let answer =
                Request::get(path).header("Authorization", &format!("Bearer {token}x")).send(address);
            assert!(matches!(answer.status, 401 | 403), "{path}: {answer:?}");
        }
        Request::get(path).send(address).expect(401);
        Request::get(path).bearer("let-me-in-please").send(address).expect(200);
    }
}

#[test]
fn a_reload_takes_a_new_token_up_and_says_what_waits_for_the_next_start() {
    let origin = Origin::named("a");
    let config = |token: &str| echo(&origin, json!([])).set("admin.token", json!(token));
    let gateway = setup().start(&config("first-token").text());
    let ask = |token: &str| Request::get("/config").bearer(token).send(gateway.address("admin")).status;
    assert_eq!([ask("first-token"), ask("second-token")], [200, 401]);
    let done = gateway.reload(&config("second-token").text());
    assert_eq!([ask("first-token"), ask("second-token")], [401, 200]);
    assert!(!done.contains("next start"), "{done}");
    let told = gateway.reload(&config("second-token").set("server.drain", json!("7s")).text());
    assert_contains(told, "at the next start only: server.drain");
}
