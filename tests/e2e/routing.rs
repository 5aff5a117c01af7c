//! APIs by host and path prefix, operations by method and template, 404 and 405, rewrites.

use crate::fixture::{Config, assert_contains, setup};
use serde_json::json;
use witgate_test_support::{Gateway, Origin, Request};

/// Which upstream answers a request; `-` for the gateway's own 404.
#[track_caller]
fn check(gateway: &Gateway, host: &str, target: &str, expected: &str) {
    let answer = gateway.send(Request::get(target).header("Host", host));
    let text = answer.text();
    let found = if answer.status == 404 { "-" } else { text.split(' ').next().unwrap() };
    assert_eq!(found, expected, "{host}{target}: {answer:?}");
}

fn two(apis: &[serde_json::Value]) -> (Gateway, Origin, Origin) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut config = Config::new().upstream("a", &a).upstream("b", &b);
    for api in apis {
        config = config.api(api.clone());
    }
    (setup().start(&config.text()), a, b)
}

#[test]
fn the_longer_prefix_wins_in_any_order() {
    let short = json!({"name": "short", "path": "/api", "upstream": "a"});
    let long = json!({"name": "long", "path": "/api/deep", "upstream": "b"});
    for apis in [[short.clone(), long.clone()], [long, short]] {
        let (gateway, _a, _b) = two(&apis);
        check(&gateway, "h", "/api", "a");
        check(&gateway, "h", "/api/", "a");
        check(&gateway, "h", "/api/x", "a");
        check(&gateway, "h", "/api/deep", "b");
        check(&gateway, "h", "/api/deep/x?y", "b");
        check(&gateway, "h", "/api/deeper", "a");
        check(&gateway, "h", "/apiary", "-");
        check(&gateway, "h", "/", "-");
    }
}

#[test]
fn prefixes_end_on_segment_borders() {
    let (gateway, _a, _b) = two(&[json!({"name": "a", "path": "/api/employee", "upstream": "a"})]);
    check(&gateway, "h", "/api/employee", "a");
    check(&gateway, "h", "/api/employees", "-");
    check(&gateway, "h", "/api/emp", "-");
    check(&gateway, "h", "/API/employee", "-");
}

#[test]
fn hosts_are_exact_before_wildcard_before_any() {
    let (a, b, c) = (Origin::named("exact"), Origin::named("wildcard"), Origin::named("any"));
    let config = Config::new()
        .upstream("a", &a)
        .upstream("b", &b)
        .upstream("c", &c)
        .api(json!({"name": "any", "path": "/", "upstream": "c"}))
        .api(json!({"name": "wildcard", "hosts": ["*.example.com"], "path": "/", "upstream": "b"}))
        .api(json!({"name": "exact", "hosts": ["api.example.com"], "path": "/", "upstream": "a"}));
    let gateway = setup().start(&config.text());
    check(&gateway, "api.example.com", "/x", "exact");
    check(&gateway, "API.Example.COM", "/x", "exact");
    check(&gateway, "api.example.com:8080", "/x", "exact");
    // Case L2: a trailing dot is the same name.
    check(&gateway, "api.example.com.", "/x", "exact");
    check(&gateway, "other.example.com", "/x", "wildcard");
    check(&gateway, "example.com", "/x", "any");
    check(&gateway, "notexample.com", "/x", "any");
    check(&gateway, "api.example.com.evil.org", "/x", "any");
}

#[test]
fn operations_choose_by_method_and_template() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let operations = json!([
        {"name": "rest", "match": {"methods": ["GET"], "path": "/files/{*rest}"}, "upstream": "b"},
        {"name": "one", "match": {"methods": ["GET"], "path": "/{id}"}, "upstream": "a"},
        {"name": "badge", "match": {"methods": ["GET"], "path": "/{id}/badge"}, "upstream": "b"},
        {"name": "me", "match": {"methods": ["GET"], "path": "/me"}, "upstream": "b"},
        {"name": "add", "match": {"methods": ["POST"], "path": "/"}, "upstream": "a"},
    ]);
    let config = Config::new().upstream("a", &a).upstream("b", &b).api(json!({
        "name": "api", "path": "/api", "upstream": "a", "operations_only": true, "operations": operations,
    }));
    let gateway = setup().start(&config.text());
    check(&gateway, "h", "/api/7", "a");
    check(&gateway, "h", "/api/me", "b");
    check(&gateway, "h", "/api/7/badge", "b");
    check(&gateway, "h", "/api/7/other", "-");
    check(&gateway, "h", "/api/files/a/b/c", "b");
    gateway.send(Request::post("/api", "x")).expect(200);

    gateway.get("/api/7").expect(200);
    let entry = gateway.logged("/api/7");
    assert_eq!((&entry["api"], &entry["operation"]), (&json!("api"), &json!("one")));
}

#[test]
fn an_unknown_path_is_a_problem_document() {
    let (gateway, a, _b) = two(&[json!({"name": "a", "path": "/a", "upstream": "a"})]);
    let answer = gateway.get("/nowhere").expect_problem(404, "no_route");
    assert!(answer.json()["title"].is_string());
    assert_eq!(a.count(), 0);
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let (gateway, a, _b) = two(&[json!({
        "name": "a", "path": "/a", "upstream": "a", "operations_only": true,
        "operations": [
            {"match": {"methods": ["GET"], "path": "/{id}"}},
            {"match": {"methods": ["PUT", "DELETE"], "path": "/{id}"}},
        ],
    })]);
    let answer = gateway.send(Request::post("/a/1", "x")).expect_problem(405, "method_not_allowed");
    let mut allowed: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed.iter().filter(|method| !matches!(**method, "HEAD" | "OPTIONS")).count(), 3);
    for method in ["GET", "PUT", "DELETE"] {
        assert!(allowed.contains(&method), "{allowed:?}");
    }
    assert_eq!(a.count(), 0);
}

#[test]
fn the_path_can_be_rewritten_for_the_upstream() {
    let a = Origin::named("a");
    let config = Config::new()
        .upstream("a", &a)
        .api(json!({"name": "keep", "path": "/keep", "upstream": "a"}))
        .api(json!({"name": "strip", "path": "/strip", "upstream": "a", "strip_prefix": true}))
        .api(json!({"name": "replace", "path": "/replace", "upstream": "a", "rewrite": "/v2"}));
    let gateway = setup().start(&config.text());
    for (target, seen) in [
        ("/keep/x?y=1", "/keep/x?y=1"),
        ("/strip/x?y=1&y=2", "/x?y=1&y=2"),
        ("/strip", "/"),
        ("/strip/", "/"),
        ("/replace/x", "/v2/x"),
        ("/replace", "/v2"),
    ] {
        assert_eq!(gateway.get(target).expect(200).text(), format!("a GET {seen}"));
    }
}

#[test]
fn a_head_request_has_no_body() {
    let (gateway, a, _b) = two(&[json!({"name": "a", "path": "/a", "upstream": "a"})]);
    let mut connection = gateway.connect();
    connection.send("HEAD /a/x HTTP/1.1\r\nHost: h\r\n\r\n");
    // The origin answers with a body, which case K3 forbids to pass on.
    let answer = connection.try_answer(true).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(connection.ask("GET /a/y HTTP/1.1\r\nHost: h\r\n\r\n").text(), "a GET /a/y");
    assert_eq!(a.count(), 2);
}

#[test]
fn an_api_can_be_bound_to_listeners() {
    let a = Origin::named("a");
    let config = Config::new()
        .set(
            "listeners",
            json!([{"name": "public", "address": "127.0.0.1:0"}, {"name": "inside", "address": "127.0.0.1:0"}]),
        )
        .upstream("a", &a)
        .api(json!({"name": "both", "path": "/both", "upstream": "a"}))
        .api(json!({"name": "inner", "path": "/inner", "upstream": "a", "listeners": ["inside"]}));
    let gateway = setup().start(&config.text());
    let ask = |listener: &str, path: &str| Request::get(path).send(gateway.address(listener)).status;
    assert_eq!(ask("public", "/both"), 200);
    assert_eq!(ask("inside", "/both"), 200);
    assert_eq!(ask("public", "/inner"), 404);
    assert_eq!(ask("inside", "/inner"), 200);
}

#[test]
fn the_host_field_goes_on_as_configured() {
    let (a, b, c) = (Origin::mirror(), Origin::mirror(), Origin::mirror());
    let config = Config::new()
        .upstream("a", &a)
        .upstream_with("b", json!({"endpoints": [b.url()], "host": "endpoint"}))
        .upstream_with("c", json!({"endpoints": [c.url()], "host": "fixed.example"}))
        .simple("a", json!([]))
        .simple("b", json!([]))
        .simple("c", json!([]));
    let gateway = setup().start(&config.text());
    for (path, host) in
        [("/a", "front.example".to_string()), ("/b", b.address().to_string()), ("/c", "fixed.example".into())]
    {
        let seen = gateway.send(Request::get(path).header("Host", "front.example")).expect(200).json();
        assert_eq!(seen["headers"]["host"], json!([host]), "{path}");
        assert_eq!(seen["headers"]["x-forwarded-host"], json!(["front.example"]), "{path}");
    }
}

#[test]
fn nobody_is_trusted_to_say_who_the_client_is() {
    let origin = Origin::mirror();
    let config = crate::fixture::echo(&origin, json!([]));
    let gateway = setup().start(&config.text());
    let request = Request::get("/echo")
        .header("X-Forwarded-For", "10.0.0.1")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Uri", "/public")
        .header("Forwarded", "for=10.0.0.1")
        .header("X-Real-IP", "10.0.0.1");
    let headers = gateway.send(request.clone()).expect(200).json()["headers"].clone();
    assert_eq!(headers["x-forwarded-for"], json!(["127.0.0.1"]));
    assert_eq!(headers["x-forwarded-proto"], json!(["http"]));
    assert_contains(&headers["forwarded"], "for=127.0.0.1");
    for name in headers.as_object().unwrap() {
        assert!(!name.1.to_string().contains("10.0.0.1"), "{headers}");
    }

    let trusting = config.set("server.trusted_proxies", json!(["127.0.0.0/8"]));
    let gateway = setup().start(&trusting.text());
    let headers = gateway.send(request).expect(200).json()["headers"].clone();
    assert_contains(&headers["x-forwarded-for"], "10.0.0.1");
}

#[test]
fn without_a_file_it_is_a_reverse_proxy() {
    let origin = Origin::named("a");
    // The default port may be taken on the machine that runs this, so it is not used here.
    let gateway = setup()
        .launch(&["run", "--to", &origin.url(), "--listen", "127.0.0.1:0"])
        .unwrap_or_else(|refused| panic!("{}", refused.text));
    assert_eq!(gateway.get("/any/path?x=1").expect(200).text(), "a GET /any/path?x=1");
}

#[test]
fn a_host_that_cannot_be_read_does_not_go_past_the_policies_of_one_that_can() {
    let origin = Origin::mirror();
    let closed = json!([{"plugin": "api-key"}]);
    let config = Config::new()
        .upstream("up", &origin)
        .api(json!({"name": "open", "path": "/", "upstream": "up"}))
        .api(json!({"name": "admin", "hosts": ["admin.test", "*.priv.test"], "path": "/", "upstream": "up", "chain": closed}));
    let gateway = setup().start(&config.text());
    gateway.send(Request::get("/").header("Host", "other.test")).expect(200);
    origin.forget();
    for host in [
        "admin.test",
        "ADMIN.test.:80",
        "admin.test:000080",
        "admin.test.:000080",
        "admin.test..",
        ".admin.test",
        "~.priv.test",
        "x~.priv.test",
        "x..priv.test",
        ".priv.test",
        &format!("{}.priv.test", "a".repeat(260)),
    ] {
        let status = gateway.send(Request::get("/").header("Host", host)).status;
        assert!(matches!(status, 400 | 401), "{host}: {status}");
        let status = gateway.send(Request::get(&format!("http://{host}/")).header("Host", host)).status;
        assert!(matches!(status, 400 | 401), "{host} in the target: {status}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn another_spelling_of_a_path_meets_the_same_policies() {
    let origin = Origin::mirror();
    let closed = json!([{"plugin": "api-key"}]);
    let operation = |path: &str| json!({"match": {"path": path}, "chain": closed});
    let config = Config::new()
        .upstream("up", &origin)
        .api(json!({
            "name": "things", "path": "/v1", "upstream": "up",
            "operations": [operation("/things:purge"), operation("/a(b)+c=d'e@f"), operation("/admin/{*rest}")],
        }))
        .api(json!({"name": "pinned", "path": "/v1:admin", "upstream": "up", "chain": closed}))
        .api(json!({"name": "rest", "path": "/", "upstream": "up"}));
    let gateway = setup().start(&config.text());
    for path in [
        "/v1/things:purge",
        "/v1/things%3Apurge",
        "/v1/things%3apurge;x=1",
        "/v1/a(b)+c=d'e@f",
        "/v1/a%28b%29%2bc%3Dd%27e%40f",
        "/v1/admin%3bx/y",
        "/v1/admin;x/y",
        "/v1:admin/x",
        "/v1%3Aadmin/x",
    ] {
        assert_eq!(gateway.get(path).status, 401, "{path}");
    }
    assert_eq!(origin.count(), 0);
    // What goes on is spelled as it was.
    gateway.get("/v1/other%3Athing").expect(200);
    assert_eq!(origin.only().target, "/v1/other%3Athing");
}

#[test]
fn another_method_does_not_go_past_the_policies_of_a_path() {
    let origin = Origin::mirror();
    let config = Config::new().upstream("up", &origin).api(json!({
        "name": "api", "path": "/", "upstream": "up",
        "operations": [{"match": {"methods": ["GET"], "path": "/admin"}, "chain": [{"plugin": "api-key"}]}],
    }));
    let gateway = setup().start(&config.text());
    for method in ["POST", "PUT", "PROPFIND", "get"] {
        let answer = gateway.send(Request::new(method, "/admin")).expect(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_ne!(gateway.send(Request::new(method, "/admin")).status, 200, "{method}");
    }
    assert_eq!(origin.count(), 0);
    gateway.send(Request::new("PUT", "/other")).expect(200);
    // It would give back what policies add.
    gateway.send(Request::new("TRACE", "/other")).expect(405);
    assert_eq!(origin.count(), 1);
}
