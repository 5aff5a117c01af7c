//! Every bound of a listener, and what happens at it.

use crate::fixture::{Config, echo, probe, setup, setup_with_probe};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use witgate_test_support::frames::{self, END_HEADERS, frame};
use witgate_test_support::http2::{H2Origin, H2Reply};
use witgate_test_support::origin::{drain, say};
use witgate_test_support::{Connection, Gateway, Origin, Reply, Request, eventually};

fn limited(origin: &Origin, limits: Value) -> Gateway {
    let config = echo(origin, json!([])).set("listeners.0.limits", limits);
    setup().start(&config.text())
}

#[test]
fn who_leaves_bytes_behind_leaves_no_exchange_behind() {
    // hyper reads nothing past the first byte of a next request until the answer is done.
    let streams = Arc::new(AtomicUsize::new(0));
    let counted = streams.clone();
    let origin = Origin::start(move |_| {
        let streams = counted.clone();
        Reply::drive(move |stream| {
            streams.fetch_add(1, Ordering::AcqRel);
            say(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")?;
            let ended = drain(stream);
            streams.fetch_sub(1, Ordering::AcqRel);
            ended.map(|_| ())
        })
    });
    let gateway = limited(&origin, json!({"connections": 2}));
    // None while no place is free.
    let open = |extra: usize| {
        let mut connection = gateway.connect();
        let head = "GET /echo/stream HTTP/1.1\r\nHost: h\r\n\r\n";
        connection.try_send(format!("{head}{}", "G".repeat(extra))).ok()?;
        connection.read_until(b"data: 1\n\n\r\n").ok()?;
        Some(connection)
    };
    let mut sound = open(1).unwrap();
    for (extra, reset) in [(1, false), (1, true), (100_000, true), (0, false)] {
        let mut opened = None;
        eventually("a place is free", || {
            opened = open(extra);
            opened.is_some()
        });
        assert_eq!(streams.load(Ordering::Acquire), 2);
        match opened {
            Some(connection) if reset => connection.reset(),
            left => drop(left),
        }
        eventually("the upstream is let go", || streams.load(Ordering::Acquire) == 1);
    }
    // Who stays is served on.
    assert!(!sound.closes_within(Duration::from_millis(100)));
}

#[test]
fn too_many_or_too_large_fields_are_431() {
    // Case D6.
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

/// A listener that waits half a second for a client.
fn impatient(origin: &Origin) -> Gateway {
    limited(origin, json!({"idle": "500ms"}))
}

/// The client is told, the connection closes, and what the upstream was being sent is broken off.
#[track_caller]
fn timed_out(gateway: &Gateway, origin: &Origin, connection: &mut Connection) {
    let answer = connection.answer().expect_problem(408, "request_timeout");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    connection.read_to_close();
    eventually("the upstream is rid of it", || origin.open() == 0);
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    eventually("the log", || !gateway.access_log("/echo").is_empty());
    assert_eq!(gateway.access_log("/echo")[0]["reason"], "request_timeout");
}

#[test]
fn a_body_that_stops_is_408() {
    let bodies = [
        "Content-Length: 10\r\n\r\nhel",
        "Content-Length: 10\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ];
    for body in bodies {
        let origin = Origin::named("up");
        let gateway = impatient(&origin);
        let mut connection = gateway.connect();
        connection.send(format!("POST /echo HTTP/1.1\r\nHost: h\r\n{body}"));
        timed_out(&gateway, &origin, &mut connection);
        gateway.get("/echo").expect(200);
    }
}

#[test]
fn a_body_that_stops_before_its_policy_has_it_is_408() {
    let origin = Origin::named("up");
    let chain =
        json!([probe(json!({"request_body": "buffer", "body_limit": 1000, "body": {"do": "upper"}}))]);
    let config = echo(&origin, chain).set("listeners.0.limits", json!({"idle": "500ms"}));
    let gateway = setup_with_probe().start(&config.text());
    let mut connection = gateway.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhel");
    timed_out(&gateway, &origin, &mut connection);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_body_that_stops_under_its_answer_breaks_the_answer_off() {
    let origin = Origin::start_early(|_| {
        Reply::drive(|stream| {
            say(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
            // Ends when the gateway closes its connection.
            drain(stream).map(drop)
        })
    });
    let gateway = impatient(&origin);
    let mut connection = gateway.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhel");
    let answer = connection.answer().expect(200);
    assert_eq!((answer.text().as_str(), answer.complete), ("hello", false));
    eventually("the upstream is rid of it", || origin.open() == 0);
    assert_eq!(gateway.logged("/echo")["reason"], "request_timeout");
}

#[test]
fn a_body_that_is_slow_but_steady_passes() {
    let origin = Origin::mirror();
    let gateway = impatient(&origin);
    let mut connection = gateway.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n");
    for byte in b"steadily" {
        std::thread::sleep(Duration::from_millis(150));
        connection.send([*byte]);
    }
    assert_eq!(connection.answer().expect(200).json()["body"], "steadily");
}

#[test]
fn an_upstream_that_takes_nothing_is_not_the_clients_fault() {
    let origin = Origin::start_early(|_| {
        Reply::drive(|stream| {
            std::thread::sleep(Duration::from_millis(1500));
            let (mut buffer, mut last) = (vec![0; 64 << 10], b'x');
            while last == b'x' {
                let count = stream.read(&mut buffer)?;
                last = buffer[count - 1];
            }
            say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        })
    });
    let gateway = impatient(&origin);
    let mut body = vec![b'x'; 16 << 20];
    body.push(b'.');
    gateway.send(Request::post("/echo", body)).expect(200);
}

#[test]
fn a_body_that_stops_on_http2_is_408() {
    let origin = Origin::named("up");
    let gateway = impatient(&origin);
    let mut connection = frames::open(gateway.public());
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "h")];
    connection.send(frame(frames::HEADERS, END_HEADERS, 1, &frames::block(&post)));
    connection.send(frame(frames::DATA, 0, 1, b"hel"));
    // No progress: they say nothing.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        let _ = connection.try_send(frame(frames::DATA, 0, 1, b""));
    }
    let head = frames::until(&mut connection, |frame| frame.kind == frames::HEADERS).expect("an answer");
    assert_eq!(head.stream, 1);
    eventually("the upstream is rid of it", || origin.open() == 0);
    assert_eq!((gateway.logged("/echo")["status"].as_u64(), origin.count()), (Some(408), 0));
}

#[test]
fn an_exchange_that_takes_too_long_is_408_and_closes() {
    let origin = Origin::start(|_| Reply::drive(|stream| drain(stream).map(|_| ())));
    let gateway = limited(&origin, json!({"request": "300ms"}));
    let requests = [
        "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe",
    ];
    for request in requests {
        let mut connection = gateway.connect();
        let answer = connection.ask(request).expect_problem(408, "request_timeout");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        connection.read_to_close();
    }
    eventually("the log", || gateway.access_log("/echo").len() == 3);
    assert!(gateway.access_log("/echo").iter().all(|entry| entry["reason"] == "request_timeout"));
    let counted = r#"witgate_exchanges_total{api="echo",status="408",reason="request_timeout"}"#;
    eventually("the metric", || gateway.metric(counted) == Some(3.0));
}

/// A gRPC call through a listener that waits half a second: a message, a pause, the end.
fn pausing(protocol: &str, kind: &str, upstream: String) -> u8 {
    let config = Config::new()
        .upstream_with("grpc", json!({"endpoints": [upstream], "protocol": protocol}))
        .api(json!({"name": "grpc", "path": "/", "upstream": "grpc"}))
        .set("listeners.0.limits", json!({"idle": "500ms"}));
    let gateway = setup().start(&config.text());
    let mut connection = frames::open(gateway.public());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/pkg.Service/Call"),
        (":authority", "h"),
        ("content-type", kind),
        ("te", "trailers"),
    ];
    connection.send(frame(frames::HEADERS, END_HEADERS, 1, &frames::block(&fields)));
    connection.send(frame(frames::DATA, 0, 1, b"hello"));
    std::thread::sleep(Duration::from_millis(1500));
    let _ = connection.try_send(frame(frames::DATA, frames::END_STREAM, 1, b""));
    let head = frames::until(&mut connection, |frame| frame.kind == frames::HEADERS).expect("an answer");
    head.payload[0]
}

#[test]
fn a_grpc_stream_may_be_quiet() {
    /// `:status: 200` in HPACK's static table.
    const OK: u8 = 0x88;
    let grpc = H2Origin::start(|_| H2Reply { status: 200, ..H2Reply::default() });
    assert_eq!(pausing("http2", "application/grpc", grpc.url()), OK);
    assert_eq!(grpc.seen()[0].body, b"hello");
    // What only says that it is gRPC may not.
    assert_ne!(pausing("http2", "text/plain", grpc.url()), OK);
    let plain = Origin::named("up");
    // A refusal in gRPC's own way is a 200 as well.
    pausing("http1", "application/grpc", plain.url());
    assert_eq!(plain.count(), 0);
}

#[test]
fn an_http2_client_that_listens_may_be_quiet() {
    let origin = Origin::start_early(|_| {
        Reply::drive(|stream| {
            say(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            std::thread::sleep(Duration::from_millis(1500));
            say(stream, "4\r\nlast\r\n0\r\n\r\n")
        })
    });
    let gateway = impatient(&origin);
    let mut connection = frames::open(gateway.public());
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "h")];
    connection.send(frame(frames::HEADERS, END_HEADERS, 1, &frames::block(&post)));
    connection.send(frame(frames::DATA, 0, 1, b"hel"));
    let last = frames::until(&mut connection, |frame| {
        assert_ne!(frame.kind, frames::RST_STREAM, "{frame:?}");
        frame.kind == frames::DATA && frame.payload == b"last"
    });
    assert!(last.is_some());
}

#[test]
fn heads_that_cannot_be_read_are_counted_and_logged() {
    let origin = Origin::named("up");
    let gateway = limited(&origin, json!({}));
    for _ in 0..3 {
        assert_eq!(gateway.connect().ask("GET /echo HTTP/1.1\r\nno colon\r\n\r\n").status, 400);
    }
    let mut connection = gateway.connect();
    let _ = connection.try_send(format!("GET /echo HTTP/1.1\r\nx: {}", "y".repeat(60 << 10)));
    assert_eq!(connection.answer().status, 431);
    let count = |status, reason| {
        gateway.metric(&format!(r#"witgate_exchanges_total{{api="",status="{status}",reason="{reason}"}}"#))
    };
    eventually("three of 400", || count(400, "malformed_request") == Some(3.0));
    eventually("one of 431", || count(431, "headers_too_large") == Some(1.0));
    eventually("four lines", || gateway.access_log("").len() == 4);
    let mut lines = gateway.access_log("");
    lines.sort_by_key(|line| line["status"].as_u64());
    let told = ["client", "method", "status", "reason"].map(|key| lines[3][key].clone());
    assert_eq!(told, [json!("127.0.0.1"), json!("-"), json!(431), json!("headers_too_large")]);
}
