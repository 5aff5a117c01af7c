//! Every bound of a listener, and what happens at it.

use crate::fixture::{Config, echo, setup};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use witgate_test_support::{Connection, Gateway, Origin, Reply, Request, eventually};

fn limited(origin: &Origin, limits: Value) -> Gateway {
    let config = echo(origin, json!([])).set("listeners.0.limits", limits);
    setup().start(&config.text())
}

#[test]
fn too_many_or_too_large_fields_are_431() {
    // CASES D6.
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({"header_bytes": "16KiB", "header_count": 50}));
    let many = |count: usize| (0..count).map(|index| format!("x-{index}: 1\r\n")).collect::<String>();
    let ask = |fields: &str| {
        let mut connection = gateway.connect();
        let _ = connection.try_send(format!("GET /echo HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        connection.try_answer(false).map_or(0, |answer| answer.status)
    };
    assert_eq!(ask(&many(40)), 200);
    assert_eq!(ask(&many(60)), 431);
    assert_eq!(ask(&format!("x: {}\r\n", "y".repeat(8_000))), 200);
    assert!(matches!(ask(&format!("x: {}\r\n", "y".repeat(40_000))), 431));
    assert!(matches!(ask(&many(20_000)), 431 | 0));
    assert!(matches!(ask(&format!("x: {}\r\n", "y".repeat(2_000_000))), 431 | 0));
    assert_eq!(origin.count(), 2);
    gateway.get("/echo").expect(200);
}

#[test]
fn a_target_that_is_too_long_is_refused() {
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({"header_bytes": "16KiB"}));
    let mut connection = gateway.connect();
    let _ = connection.try_send(format!("GET /echo/{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(100_000)));
    let status = connection.try_answer(false).map_or(0, |answer| answer.status);
    assert!(matches!(status, 414 | 431 | 0), "{status}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_head_that_dribbles_in_is_ended() {
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({"header_read": "500ms"}));
    let mut connection = gateway.connect();
    connection.send("GET /echo HTTP/1.1\r\nHost: h\r\n");
    let start = Instant::now();
    connection.read_to_close();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_idle_connection_is_ended() {
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({"idle": "500ms"}));
    let mut connection = gateway.connect();
    Request::get("/echo").send_on(&mut connection).expect(200);
    assert!(connection.closes_within(Duration::from_secs(10)));
    // One that has sent nothing at all, too.
    assert!(gateway.connect().closes_within(Duration::from_secs(15)));
}

#[test]
fn a_request_that_takes_too_long_is_ended() {
    let origin = Origin::start(|_| {
        std::thread::sleep(Duration::from_secs(3));
        Reply::ok("late")
    });
    let gateway = limited(&origin, json!({"request": "300ms"}));
    let start = Instant::now();
    let answer = gateway.get("/echo");
    assert!(matches!(answer.status, 408 | 504), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn bodies_are_bounded_when_told_so() {
    let origin = Origin::start(|seen| Reply::ok(seen.body.len().to_string()));
    let gateway = limited(&origin, json!({"body_bytes": "1KiB"}));
    assert_eq!(gateway.send(Request::post("/echo", vec![b'x'; 1024])).expect(200).text(), "1024");
    gateway.send(Request::post("/echo", vec![b'x'; 1025])).expect_problem(413, "body_too_large");
    let mut connection = gateway.connect();
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let body = chunk.repeat(3);
    let _ = connection.try_send(format!(
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n"
    ));
    assert_eq!(connection.try_answer(false).map_or(413, |answer| answer.status), 413);
}

#[test]
fn connections_over_the_limit_wait_or_are_refused_and_come_back() {
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({"connections": 4}));
    let mut held: Vec<Connection> = (0..4).map(|_| gateway.connect()).collect();
    for connection in &mut held {
        Request::get("/echo").send_on(connection).expect(200);
    }
    let mut over = gateway.connect();
    over.set_timeout(Duration::from_millis(500));
    let _ = over.try_send(Request::get("/echo").bytes());
    assert!(over.try_answer(false).map_or(true, |answer| answer.status == 503));
    // Those that are in go on.
    Request::get("/echo").send_on(&mut held[0]).expect(200);
    drop(held);
    drop(over);
    eventually("room again", || {
        let mut connection = gateway.connect();
        connection.set_timeout(Duration::from_millis(500));
        let _ = connection.try_send(Request::get("/echo").bytes());
        connection.try_answer(false).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn many_connections_and_resets_leave_nothing_behind() {
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({}));
    for _ in 0..50 {
        gateway.get("/echo").expect(200);
    }
    let (files, resident) = (gateway.open_files(), gateway.resident());
    for round in 0..1_000 {
        let mut connection = gateway.connect();
        if round % 2 == 0 {
            let _ = connection.try_send("GET /echo HTTP/1.1\r\nHost");
        } else {
            let _ = connection.try_send(Request::get("/echo").bytes());
        }
        connection.reset();
    }
    eventually("all files closed", || gateway.open_files() <= files + 8);
    let grown = gateway.resident().saturating_sub(resident);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
}

#[test]
fn http2_can_be_turned_off() {
    let origin = Origin::named("up");
    let config: Config = echo(&origin, json!([])).set("listeners.0.http2", json!(false));
    let gateway = setup().start(&config.text());
    gateway.get("/echo").expect(200);
    let mut connection = witgate_test_support::frames::open(gateway.public());
    let settings = witgate_test_support::frames::next(&mut connection)
        .is_some_and(|frame| frame.kind == 4 && frame.stream == 0);
    assert!(!settings, "it spoke HTTP/2");
}
