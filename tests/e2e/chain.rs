//! Policies in order: requests forwards, responses backwards; what each may see and change.

use crate::fixture::{Config, assert_contains, assert_lacks, echo, probe, setup_with_probe, told, with};
use serde_json::{Value, json};
use witgate_test_support::origin::drain;
use witgate_test_support::{Gateway, Origin, Reply, Request, Setup, eventually, guests};

fn start(origin: &Origin, chain: Value) -> Gateway {
    setup_with_probe().start(&echo(origin, chain).text())
}

/// Appends `name` to `x-way` both ways.
fn waypoint(name: &str) -> Value {
    let mark = json!({"do": "edits", "edits": [{"append": ["x-way", name]}]});
    probe(json!({"writes": ["x-way"], "request": mark, "response": mark}))
}

/// What the probe is told by a header.
fn act(act: &Value) -> Request {
    Request::get("/echo").header("x-do", &act.to_string())
}

#[test]
fn requests_run_forwards_and_responses_backwards() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([waypoint("1"), waypoint("2"), waypoint("3")]));
    let answer = gateway.get("/echo").expect(200);
    assert_eq!(answer.json()["headers"]["x-way"], json!(["1", "2", "3"]));
    assert_eq!(answer.all("x-way"), ["3", "2", "1"]);
}

#[test]
fn an_operation_follows_its_api_or_replaces_it() {
    let origin = Origin::mirror();
    let config = Config::new().upstream("up", &origin).policy("second", waypoint("2")).api(json!({
        "name": "api", "path": "/api", "upstream": "up", "chain": [waypoint("1"), "second"],
        "operations": [
            {"match": {"path": "/more"}, "chain": [waypoint("3")]},
            {"match": {"path": "/instead"}, "chain": [waypoint("4")], "inherit": false},
        ],
    }));
    let gateway = setup_with_probe().start(&config.text());
    let way = |path: &str| gateway.get(path).expect(200).json()["headers"]["x-way"].clone();
    assert_eq!(way("/api/plain"), json!(["1", "2"]));
    assert_eq!(way("/api/more"), json!(["1", "2", "3"]));
    assert_eq!(way("/api/instead"), json!(["4"]));
}

#[test]
fn after_a_reply_only_the_policies_passed_see_the_response() {
    let origin = Origin::mirror();
    let reply = probe(
        json!({"request": {"do": "reply", "status": 403, "headers": [["x-own", "yes"]], "body": "no"}}),
    );
    let gateway = start(&origin, json!([waypoint("1"), waypoint("2"), reply, waypoint("4")]));
    let answer = gateway.get("/echo").expect(403);
    assert_eq!(answer.all("x-way"), ["2", "1"]);
    assert_eq!((answer.header("x-own"), answer.text().as_str()), (Some("yes"), "no"));
    assert_eq!(origin.count(), 0);
    let entry = gateway.logged("/echo");
    assert_eq!((&entry["status"], &entry["answered"]), (&json!(403), &json!("policy")));
}

#[test]
fn a_policy_reads_what_it_declared_in_that_order() {
    let origin = Origin::mirror();
    let reads = [
        "x-b",
        ":method",
        "x-missing",
        "query:q",
        "client:ip",
        "cookie:c",
        "param:id",
        "api:name",
        "operation:name",
        ":path",
        ":query",
        ":scheme",
        ":authority",
    ];
    let see = json!({"do": "echo", "prefix": "x-seen-"});
    let chain = json!([probe(json!({"reads": reads, "writes": ["x-seen-*"], "request": see}))]);
    let config = Config::new().upstream("up", &origin).api(json!({
        "name": "api", "path": "/api", "upstream": "up", "chain": chain,
        "operations": [{"name": "one", "match": {"methods": ["GET"], "path": "/{id}"}}],
    }));
    let gateway = setup_with_probe().start(&config.text());
    let request = Request::get("/api/7?q=a%20b&r=1")
        .header("Host", "front.example")
        .header("X-B", "b")
        .header("Cookie", "a=1; c=2");
    let seen = gateway.send(request).expect(200).json()["headers"].clone();
    let expected = [
        "b",
        "GET",
        "(none)",
        "a b",
        "127.0.0.1",
        "2",
        "7",
        "api",
        "one",
        "/api/7",
        "q=a%20b&r=1",
        "http",
        "front.example",
    ];
    for (index, value) in expected.iter().enumerate() {
        assert_eq!(seen[format!("x-seen-{index}")], json!([value]), "{}", reads[index]);
    }
}

#[test]
fn a_policy_sees_every_line_of_a_repeated_header() {
    let origin = Origin::mirror();
    let see = json!({"do": "echo", "prefix": "x-seen-"});
    let gateway =
        start(&origin, json!([probe(json!({"reads": ["x-role"], "writes": ["x-seen-*"], "request": see}))]));
    let request = Request::get("/echo").header("X-Role", "user").header("x-role", "admin");
    let headers = gateway.send(request).expect(200).json()["headers"].clone();
    assert_eq!(headers["x-seen-0"], json!(["user|admin"]));
    assert_eq!(headers["x-role"], json!(["user", "admin"]));
}

#[test]
fn repeated_singletons_are_refused() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([]));
    for name in ["Authorization", "Content-Type", "Origin"] {
        let request = Request::get("/echo").header(name, "a").header(name, "b");
        gateway.send(request).expect_problem(400, "repeated_header");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_value_that_is_not_utf8_never_reaches_a_policy() {
    let origin = Origin::start(|_| {
        witgate_test_support::Reply::raw(b"HTTP/1.1 200 OK\r\nx-r: \xff\r\ncontent-length: 0\r\n\r\n")
    });
    let chain = json!([probe(json!({"reads": ["x-a"]}))]);
    let gateway = start(&origin, chain);
    let mut connection = gateway.connect();
    let answer = connection.ask(b"GET /echo HTTP/1.1\r\nHost: h\r\nx-a: \xff\r\n\r\n");
    answer.expect_problem(400, "header_not_utf8");
    assert_eq!(origin.count(), 0);
    // What nobody reads passes as it is.
    gateway.connect().ask(b"GET /echo HTTP/1.1\r\nHost: h\r\nx-b: \xff\r\n\r\n").expect(200);

    // Whoever may list all headers reads them all.
    let gateway = start(&origin, json!([probe(json!({"reads": ["headers:*"]}))]));
    let answer = gateway.connect().ask(b"GET /echo HTTP/1.1\r\nHost: h\r\nx-b: \xff\r\n\r\n");
    answer.expect_problem(400, "header_not_utf8");

    let gateway = start(&origin, json!([probe(json!({"response_reads": ["x-r"]}))]));
    assert_eq!(gateway.get("/echo").status, 502);
}

#[test]
fn edits_set_append_and_remove() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&["x-a", "x-b", "x-c", "x-p-*"])]));
    let edits = json!({"do": "edits", "edits": [
        {"set": ["X-A", "new"]}, {"append": ["x-b", "2"]}, {"remove": "x-c"}, {"set": ["x-p-q", "prefix"]},
    ]});
    let request = act(&edits).header("X-A", "1").header("x-a", "2").header("X-B", "1").header("x-c", "gone");
    let headers = gateway.send(request).expect(200).json()["headers"].clone();
    assert_eq!(headers["x-a"], json!(["new"]));
    assert_eq!(headers["x-b"], json!(["1", "2"]));
    assert_eq!(headers["x-c"], Value::Null);
    assert_eq!(headers["x-p-q"], json!(["prefix"]));
}

#[test]
fn a_note_reaches_the_later_hooks_of_the_same_policy_only() {
    let origin = Origin::mirror();
    let keeps = |text: &str| {
        probe(json!({
            "writes": ["x-note"],
            "request": {"do": "edits", "edits": [{"note": text}]},
            "response": {"do": "echo_note"},
        }))
    };
    let gateway = start(&origin, json!([keeps("mine")]));
    assert_eq!(gateway.get("/echo").expect(200).header("x-note"), Some("mine"));
    // The first policy's response hook runs last, and it has its own note.
    let gateway = start(&origin, json!([keeps("first"), keeps("second")]));
    assert_eq!(gateway.get("/echo").expect(200).header("x-note"), Some("first"));
}

#[test]
fn headers_can_be_listed_when_that_was_planned() {
    let origin = Origin::mirror();
    let lists = |reads: &[&str]| {
        json!([probe(json!({"reads": reads, "writes": ["x-headers"], "request": {"do": "headers"}}))])
    };
    let gateway = start(&origin, lists(&["headers:*"]));
    let seen = gateway.send(Request::get("/echo").header("X-One", "1")).expect(200).json();
    assert_contains(&seen["headers"]["x-headers"], "x-one");

    let gateway = start(&origin, lists(&[]));
    let answer = gateway.send(Request::get("/echo").header("X-One", "1"));
    if answer.status == 200 {
        assert_lacks(answer.text(), "\"x-headers\":[\"x-one");
        assert_eq!(answer.json()["headers"]["x-headers"], json!([""]));
    } else {
        assert_eq!(answer.status, 503);
    }
}

#[test]
fn a_body_hook_sees_no_headers_that_another_policy_asked_for() {
    let origin = Origin::mirror();
    let curious = probe(json!({"reads": ["headers:*"]}));
    let modest = |reads: &[&str]| {
        probe(json!({
            "reads": reads, "request_body": "buffer", "body_limit": 1000,
            "writes": ["x-headers"], "body": {"do": "headers"},
        }))
    };
    let ask = |chain: Value| {
        let gateway = start(&origin, chain);
        gateway.send(Request::post("/echo", "hello").header("X-One", "1")).expect(200).json()
    };
    let seen = ask(json!([curious, modest(&[])]));
    assert_eq!(seen["headers"]["x-headers"], json!([""]));
    assert_eq!(seen["body"], "hello", "amending leaves the body");
    assert_contains(&ask(json!([curious, modest(&["headers:*"])]))["headers"]["x-headers"], "x-one");
}

#[test]
fn instances_are_reused_unless_each_request_wants_its_own() {
    let origin = Origin::mirror();
    let counts = probe(json!({"writes": ["x-calls"], "request": {"do": "calls"}}));
    let calls = |gateway: &Gateway| -> Vec<u64> {
        let mut connection = gateway.connect();
        let request = Request::get("/echo");
        let ask = |_| request.send_on(&mut connection).expect(200).json()["headers"]["x-calls"][0].clone();
        (0..10).map(ask).map(|calls| calls.as_str().unwrap().parse().unwrap()).collect()
    };
    let reused = calls(&start(&origin, json!([counts.clone()])));
    assert!(reused.iter().max() > Some(&1), "{reused:?}");
    let fresh = calls(&start(&origin, json!([with(counts, json!({"isolation": "request"}))])));
    assert_eq!(fresh, [1; 10]);
}

#[test]
fn a_policy_chooses_the_upstream_among_those_granted() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    // Told by the client, because a name in the policy's own configuration counts as granted.
    let choose = |name: &str, allow: Value| {
        let policy = with(told(&["upstream:name"]), json!({"allow": allow}));
        let config = Config::new().upstream("a", &a).upstream("b", &b).simple("a", json!([policy]));
        let edits = json!({"do": "edits", "edits": [{"set": ["upstream:name", name]}]}).to_string();
        setup_with_probe().start(&config.text()).send(Request::get("/a/x").header("x-do", &edits))
    };
    assert_eq!(choose("b", json!({"upstreams": ["b"]})).expect(200).text(), "b GET /a/x");
    assert_eq!(choose("b", json!({})).status, 503);
    assert_eq!(choose("nowhere", json!({"upstreams": ["b"]})).status, 503);
}

#[test]
fn the_operator_caps_what_a_policy_writes() {
    let origin = Origin::mirror();
    let policy = with(told(&["x-a", "x-b"]), json!({"allow": {"writes": ["x-a"]}}));
    let config = echo(&origin, json!([policy]));
    // Either the plan is refused at start, or the write is refused when it comes.
    if let Ok(gateway) = setup_with_probe().try_start(&config.text()) {
        let edit = |name: &str| act(&json!({"do": "edits", "edits": [{"set": [name, "1"]}]}));
        gateway.send(edit("x-a")).expect(200);
        gateway.send(edit("x-b")).expect(503);
    }
}

#[test]
fn state_is_shared_and_counts_every_call_once() {
    let origin = Origin::mirror();
    let counts = with(
        probe(json!({"bucket": "b", "writes": ["x-count"], "request": {"do": "count", "key": "k", "by": 1}})),
        json!({"allow": {"buckets": ["b"]}}),
    );
    let gateway = start(&origin, json!([counts]));
    let (threads, each) = (8, 50);
    let mut counts: Vec<u64> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = gateway.connect();
                    let ask = |_| {
                        let seen = Request::get("/echo").send_on(&mut connection).expect(200).json();
                        seen["headers"]["x-count"][0].as_str().unwrap().parse::<u64>().unwrap()
                    };
                    (0..each).map(ask).collect::<Vec<_>>()
                })
            })
            .collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    counts.sort_unstable();
    assert_eq!(counts, (1..=threads * each).collect::<Vec<_>>());
}

#[test]
fn buckets_are_opened_in_configure_only() {
    let origin = Origin::mirror();
    let open = json!({"do": "late_open", "name": "b"});
    let gateway = start(&origin, json!([probe(json!({"request": open, "writes": ["x-late"]}))]));
    let answer = gateway.get("/echo");
    if answer.status == 200 {
        assert_eq!(answer.json()["headers"]["x-late"], json!(["refused"]));
    } else {
        answer.expect(503);
    }
}

#[test]
fn plans_are_made_in_configure_only() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([probe(json!({"request": {"do": "late_plan"}}))]));
    let answer = gateway.send(Request::get("/echo").header("Authorization", "secret"));
    // Ignored or an error, but never heeded; the next request fares no better.
    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
    let answer = gateway.send(Request::get("/echo").header("Authorization", "secret"));
    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
}

fn caller(setup: Setup, origins: &[(&str, &Origin)], config: Value, allow: Value) -> Gateway {
    let policy = json!({"plugin": "caller", "config": config, "allow": allow});
    let mut all = Config::new();
    for (name, origin) in origins {
        all = all.upstream(name, origin);
    }
    let config = all.api(json!({"name": "call", "path": "/call", "chain": [policy]}));
    setup.plugin("caller", guests::caller()).start(&config.text())
}

#[test]
fn a_policy_calls_upstreams_by_name() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let calls = json!({"calls": [
        {"upstream": "a", "path": "/1?x"}, {"upstream": "b", "path": "/2", "method": "POST", "body": "hi"},
    ]});
    for together in [false, true] {
        let mut config = calls.clone();
        config["together"] = json!(together);
        let allow = json!({"upstreams": ["a", "b"]});
        let gateway = caller(crate::fixture::setup(), &[("a", &a), ("b", &b)], config, allow);
        assert_eq!(gateway.get("/call").expect(200).text(), "200 a GET /1?x;200 b POST /2");
    }
    assert_eq!(b.seen()[0].body, b"hi");
}

#[test]
fn a_policy_calls_only_what_was_granted() {
    let (a, secret) = (Origin::named("a"), Origin::named("secret"));
    // Named as a whole value of the operator's own configuration: granted. `/2` is not a name.
    let config = json!({"calls": [{"upstream": "a", "path": "/"}]});
    let gateway = caller(crate::fixture::setup(), &[("a", &a), ("secret", &secret)], config, json!({}));
    assert_eq!(gateway.get("/call").expect(200).text(), "200 a GET /");
    assert_eq!(secret.count(), 0);
    let config = json!({"calls": [{"upstream": "nowhere", "path": "/"}]});
    let gateway = caller(crate::fixture::setup(), &[("a", &a)], config, json!({}));
    assert_eq!(gateway.get("/call").expect(200).text(), "not-granted");
}

#[test]
fn calls_that_fail_are_values() {
    let slow = Origin::start(|_| Reply::drive(|stream| drain(stream).map(|_| ())));
    let config = json!({"calls": [{"upstream": "slow", "path": "/", "timeout_millis": 100}]});
    let allow = json!({"upstreams": ["slow"]});
    let gateway = caller(crate::fixture::setup(), &[("slow", &slow)], config, allow);
    assert_eq!(gateway.get("/call").expect(200).text(), "timeout");
}

#[test]
fn finished_exchanges_reach_the_log_hook() {
    let origin = Origin::mirror();
    let policy = with(
        probe(
            json!({"bucket": "b", "log_reads": [":path", ":status", "api:name"], "log": {"do": "collect"}}),
        ),
        json!({"allow": {"buckets": ["b"]}}),
    );
    let gateway = start(&origin, json!([policy]));
    gateway.get("/echo/one").expect(200);
    gateway.get("/echo/two").expect(200);
    for path in ["one", "two"] {
        gateway.log().wait_for(0, &format!("probe-entry /echo/{path} 200 echo"));
    }
}

#[test]
fn ticks_come_by_themselves() {
    let origin = Origin::mirror();
    let policy = with(
        probe(json!({
            "bucket": "b", "tick_millis": 100, "writes": ["x-count"],
            "request": {"do": "count", "key": "tick", "by": 0},
        })),
        json!({"allow": {"buckets": ["b"]}}),
    );
    let gateway = start(&origin, json!([policy]));
    let ticks = || -> u64 {
        let seen = gateway.get("/echo").expect(200).json();
        seen["headers"]["x-count"][0].as_str().unwrap().parse().unwrap()
    };
    eventually("three ticks", || ticks() >= 3);
}

#[test]
fn a_policy_counts_in_metrics_of_its_own() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([probe(json!({"metric": "seen", "request": {"do": "metric"}}))]));
    for _ in 0..3 {
        gateway.get("/echo").expect(200);
    }
    eventually("the metric", || {
        let page = gateway.admin("/metrics").text();
        page.lines().any(|line| {
            line.starts_with("witgate_policy_") && line.contains("seen") && line.ends_with(" 3.0")
        })
    });
}

#[test]
fn what_a_policy_logs_is_in_the_log() {
    let origin = Origin::mirror();
    let gateway =
        start(&origin, json!([probe(json!({"request": {"do": "log", "text": "a word from inside"}}))]));
    gateway.get("/echo").expect(200);
    assert_contains(gateway.log().wait_for(0, "a word from inside"), "probe");
}

#[test]
fn what_a_client_says_of_itself_does_not_survive_a_policy_that_says_it() {
    // Case D2 and D3.
    let origin = Origin::mirror();
    let edits = json!({"do": "edits", "edits": [{"set": ["x-user", "anna"]}]});
    let gateway = start(&origin, json!([probe(json!({"writes": ["x-user"], "request": edits}))]));
    let request = Request::get("/echo")
        .header("X-User", "root")
        .header("X_User", "root")
        .header("Connection", "close, X-User, X-Forwarded-For");
    let headers = gateway.send(request).expect(200).json()["headers"].clone();
    assert_eq!(headers["x-user"], json!(["anna"]));
    assert_eq!(headers["x_user"], Value::Null);
    assert_eq!(headers["x-forwarded-for"], json!(["127.0.0.1"]));
}

#[test]
fn an_answer_that_a_policy_makes_one_without_content_has_no_length() {
    let origin = Origin::named("a");
    let edit = json!({"do": "edits", "edits": [{"set": [":status", "204"]}]});
    let chain = json!([probe(json!({"writes": [":status"], "response": edit}))]);
    let gateway = setup_with_probe().start(&echo(&origin, chain).text());
    let answer = gateway.get("/echo").expect(204);
    assert_eq!((answer.header("content-length"), &*answer.body), (None, &b""[..]));
}
