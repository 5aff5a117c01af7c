//! Upstreams that refuse, stall, break and come back: balance, health, ejection, retries, pools.

use crate::fixture::{Config, assert_lacks, echo, setup};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use witgate_test_support::origin::drain;
use witgate_test_support::{Gateway, Origin, Reply, Request, eventually};

fn start(upstream: Value) -> Gateway {
    setup().start(&Config::new().upstream_with("up", upstream).simple("up", json!([])).text())
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn spread(gateway: &Gateway, count: usize) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    let mut connection = gateway.connect();
    for _ in 0..count {
        let text = Request::get("/up").send_on(&mut connection).expect(200).text();
        *found.entry(text.split(' ').next().unwrap().to_string()).or_default() += 1;
    }
    found
}

#[test]
fn round_robin_is_even_and_weighted() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = start(json!({"endpoints": [a.url(), b.url()], "balance": "round_robin"}));
    let found = spread(&gateway, 100);
    assert!((40..=60).contains(&found["a"]), "{found:?}");
    let gateway =
        start(json!({"endpoints": [a.url(), {"url": b.url(), "weight": 3}], "balance": "round_robin"}));
    let found = spread(&gateway, 100);
    assert!((15..=35).contains(&found["a"]), "{found:?}");
    let gateway =
        start(json!({"endpoints": [a.url(), {"url": b.url(), "weight": 0}], "balance": "round_robin"}));
    assert_eq!(spread(&gateway, 20).get("b"), None);
}

#[test]
fn random_and_least_request_use_all() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for balance in ["random", "least_request"] {
        let gateway = start(json!({"endpoints": [a.url(), b.url()], "balance": balance}));
        let found = spread(&gateway, 100);
        assert_eq!(found.len(), 2, "{balance}: {found:?}");
    }
}

#[test]
fn connections_are_kept_and_reused() {
    let origin = Origin::named("a");
    let gateway = start(json!({"endpoints": [origin.url()]}));
    let mut connection = gateway.connect();
    for _ in 0..50 {
        Request::get("/up").send_on(&mut connection).expect(200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_connection_that_the_upstream_closed_is_no_error() {
    // Case K1: closed right after the answer, without a word about it.
    let origin = Origin::start(|seen| {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
        if seen.nth == 2 { Reply::Close(bytes) } else { Reply::Bytes(bytes) }
    });
    let gateway = start(json!({"endpoints": [origin.url()]}));
    let mut connection = gateway.connect();
    for round in 0..300 {
        Request::get("/up").send_on(&mut connection).expect(200);
        if round % 3 == 2 {
            std::thread::sleep(Duration::from_millis(round % 7));
        }
    }
}

#[test]
fn nobody_there_is_502_and_says_nothing_about_where() {
    let url = nobody();
    let gateway = start(json!({"endpoints": [url], "ejection": {"failures": 1000}}));
    let answer = gateway.get("/up").expect_problem(502, "connect_failed");
    assert_lacks(answer.text(), url.trim_start_matches("http://127.0.0.1:"));
    assert_eq!(gateway.logged("/up")["reason"], "connect_failed");
}

#[test]
fn an_upstream_that_stalls_is_504() {
    // For as long as the gateway does not give up.
    let origin = Origin::start(|_| Reply::drive(|stream| drain(stream).map(|_| ())));
    let gateway = start(json!({"endpoints": [origin.url()], "timeouts": {"response": "300ms"}}));
    gateway.get("/up").expect_problem(504, "response_timeout");
}

#[test]
fn an_upstream_that_breaks_off_is_502() {
    for reply in [
        || Reply::Close(Vec::new()),
        || Reply::Reset(Vec::new()),
        || Reply::Close(b"HTTP/1.1 200 O".to_vec()),
    ] {
        let origin = Origin::start(move |_| reply());
        let gateway = start(json!({"endpoints": [origin.url()], "retry": {"attempts": 0}}));
        assert_eq!(gateway.get("/up").status, 502);
    }
}

#[test]
fn a_request_that_was_never_sent_is_tried_elsewhere() {
    let origin = Origin::named("a");
    let gateway = start(json!({
        "endpoints": [nobody(), origin.url()], "balance": "round_robin",
        "retry": {"attempts": 1, "budget": "100%"}, "ejection": {"failures": 1000},
    }));
    for _ in 0..20 {
        gateway.send(Request::post("/up", "body")).expect(200);
    }
    assert!(origin.seen().iter().all(|seen| seen.body == b"body"));
}

#[test]
fn statuses_are_tried_again_for_idempotent_methods_only() {
    // Case J1.
    let origin = Origin::start(|_| Reply::status(503));
    let gateway = start(json!({
        "endpoints": [origin.url()], "retry": {"attempts": 2, "on": ["connect_failure", "503"], "budget": "100%"},
        "ejection": {"failures": 1000},
    }));
    gateway.get("/up").expect(503);
    assert_eq!(origin.count(), 3);
    origin.forget();
    gateway.send(Request::post("/up", "x")).expect(503);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_post_is_never_sent_twice() {
    let origin = Origin::start(|_| Reply::Reset(Vec::new()));
    let gateway = start(json!({
        "endpoints": [origin.url()], "retry": {"attempts": 3, "on": ["connect_failure", "502", "503"]},
        "ejection": {"failures": 1000},
    }));
    gateway.send(Request::post("/up", "x")).expect(502);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_second_try_has_the_same_body_or_is_not_made() {
    // Case J2.
    let origin =
        Origin::start(
            |seen| if seen.nth == 0 && seen.connection == 0 { Reply::status(503) } else { Reply::ok("") },
        );
    let gateway = start(json!({
        "endpoints": [origin.url()], "retry": {"attempts": 1, "on": ["503"], "budget": "100%"},
        "ejection": {"failures": 1000},
    }));
    let body = vec![b'x'; 1 << 20];
    let answer = gateway.send(Request::new("PUT", "/up").body(body.clone()));
    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
    assert!(origin.seen().iter().all(|seen| seen.body == body));
}

#[test]
fn retries_keep_to_their_budget() {
    // Case J3.
    let origin = Origin::start(|_| Reply::status(503));
    let gateway = start(json!({
        "endpoints": [origin.url()], "retry": {"attempts": 3, "on": ["503"], "budget": "20%"},
        "ejection": false,
    }));
    let mut connection = gateway.connect();
    for _ in 0..500 {
        Request::get("/up").send_on(&mut connection).expect(503);
    }
    let extra = origin.count() - 500;
    assert!(extra <= 150, "{extra} retries of 500 requests");
}

#[test]
fn an_unhealthy_endpoint_is_left_out_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(false));
    let state = well.clone();
    let sick = Origin::start(move |seen| match (seen.target.as_str(), state.load(Ordering::Acquire)) {
        ("/healthz", false) => Reply::status(500),
        ("/healthz", true) => Reply::ok("ok"),
        _ => Reply::ok("sick"),
    });
    let good = Origin::named("good");
    let gateway = start(json!({
        "endpoints": [sick.url(), good.url()], "balance": "round_robin",
        "health": {"path": "/healthz", "interval": "100ms"},
    }));
    eventually("the sick one is out", || !spread(&gateway, 10).contains_key("sick"));
    well.store(true, Ordering::Release);
    eventually("it is back", || spread(&gateway, 10).contains_key("sick"));
}

#[test]
fn an_endpoint_that_fails_is_ejected_and_comes_back() {
    let (fails, count) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (state, counter) = (fails.clone(), count.clone());
    let flaky = Origin::start(move |_| {
        counter.fetch_add(1, Ordering::AcqRel);
        if state.load(Ordering::Acquire) { Reply::Reset(Vec::new()) } else { Reply::ok("flaky") }
    });
    let good = Origin::named("good");
    let gateway = start(json!({
        "endpoints": [flaky.url(), good.url()], "balance": "round_robin",
        "ejection": {"failures": 3, "period": "1s", "max_percent": 50}, "retry": {"attempts": 0},
    }));
    for _ in 0..40 {
        gateway.get("/up");
    }
    let asked = count.load(Ordering::Acquire);
    assert!(asked <= 15, "the failing endpoint was asked {asked} times of 40");
    fails.store(false, Ordering::Release);
    eventually("it is back", || gateway.get("/up").text().starts_with("flaky"));
}

#[test]
fn a_client_that_leaves_ends_the_upstreams_work() {
    let origin = Origin::start(|_| {
        Reply::drive(|stream| {
            // Ends when the gateway closes its connection.
            let _ = stream.read(&mut [0; 16]);
            Ok(())
        })
    });
    let gateway = start(json!({"endpoints": [origin.url()]}));
    let mut connection = gateway.connect();
    connection.send(Request::get("/up").bytes());
    eventually("the request", || origin.count() == 1);
    drop(connection);
    eventually("its end", || origin.open() == 0);
    assert_eq!(gateway.logged("/up")["reason"], "client_closed");
}

#[test]
fn an_api_without_upstream_and_answer_is_404() {
    let origin = Origin::named("a");
    let config = echo(&origin, json!([]))
        .api(json!({"name": "empty", "path": "/empty", "chain": [{"plugin": "request-id"}]}));
    let Ok(gateway) = setup().try_start(&config.text()) else { return };
    gateway.get("/empty").expect_problem(404, "nothing_answers");
}
