//! Bodies: streamed with back-pressure, buffered for policies within limits, filtered chunk by
//! chunk, and never silently short.

use crate::fixture::{echo, probe, setup, setup_with_probe, with};
use serde_json::{Value, json};
use std::sync::mpsc;
use std::time::Duration;
use witgate_test_support::origin::say;
use witgate_test_support::{Gateway, Origin, Reply, Request};

fn start(origin: &Origin, config: Value) -> Gateway {
    setup_with_probe().start(&echo(origin, json!([probe(config)])).text())
}

#[test]
fn large_bodies_pass_both_ways() {
    let origin = Origin::start(|seen| Reply::ok(&seen.body));
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let body: Vec<u8> = (0..8_u32 << 20).map(|index| (index % 251) as u8).collect();
    let answer = gateway.send(Request::post("/echo", body.clone())).expect(200);
    assert!(answer.complete && answer.body == body);

    let mut connection = gateway.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(100_000) {
        connection.send(format!("{:x}\r\n", chunk.len()));
        connection.send(chunk);
        connection.send("\r\n");
    }
    connection.send("0\r\n\r\n");
    assert!(connection.answer().expect(200).body == body);
}

#[test]
fn chunks_arrive_before_the_end() {
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let wait = std::sync::Arc::new(wait);
    let origin = Origin::start(move |_| {
        let wait = wait.clone();
        Reply::drive(move |stream| {
            say(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            )?;
            say(stream, "9\r\ndata: 1\n\n\r\n")?;
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
            say(stream, "9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        })
    });
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let mut connection = gateway.connect();
    connection.send(Request::get("/echo").bytes());
    assert_eq!(connection.head().unwrap().status, 200);
    connection.read_until(b"data: 1\n\n").unwrap();
    go.send(()).unwrap();
    connection.read_until(b"data: 2\n\n").unwrap();
}

#[test]
fn a_slow_reader_slows_the_upstream() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let total = 512 << 20;
    let origin = Origin::start(move |_| {
        let counter = counter.clone();
        Reply::drive(move |stream| {
            say(stream, format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n"))?;
            let piece = vec![b'x'; 1 << 20];
            while counter.load(Ordering::Relaxed) < total {
                say(stream, &piece)?;
                counter.fetch_add(piece.len(), Ordering::Relaxed);
            }
            Ok(())
        })
    });
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let before = gateway.resident();
    let mut connection = gateway.connect();
    connection.send(Request::get("/echo").bytes());
    connection.head().unwrap();
    // Nothing is read for a while; sockets' buffers fill, and then the upstream must wait.
    std::thread::sleep(Duration::from_secs(1));
    let stalled = sent.load(Ordering::Relaxed);
    assert!(stalled < 64 << 20, "{stalled} bytes were taken from the upstream with nobody reading");
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
}

#[test]
fn an_upstream_that_dies_is_never_a_short_body() {
    // Case K4.
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let sized = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello".to_vec();
    for bytes in [chunked, sized] {
        let origin = Origin::start(move |_| Reply::Close(bytes.clone()));
        let gateway = setup().start(&echo(&origin, json!([])).text());
        let answer = gateway.get("/echo");
        assert!(!answer.complete, "{answer:?}");
        assert_eq!(gateway.logged("/echo")["reason"], "response_broken");
    }
}

#[test]
fn buffered_bodies_can_be_replaced() {
    let origin = Origin::mirror();
    let gateway = start(
        &origin,
        json!({"request_body": "buffer", "body_limit": 1000, "writes": ["x-body-bytes"], "body": {"do": "prefix"},
               "request": {"do": "edits", "edits": [{"note": "note:"}]}}),
    );
    let seen = gateway.send(Request::post("/echo", "hello")).expect(200).json();
    assert_eq!(seen["body"], "note:hello");
    assert_eq!(seen["headers"]["x-body-bytes"], json!(["5"]));
    assert_eq!(seen["headers"]["content-length"], json!(["10"]));
}

#[test]
fn buffered_responses_can_be_replaced() {
    let origin = Origin::named("quiet");
    let gateway =
        start(&origin, json!({"response_body": "buffer", "body_limit": 1000, "body": {"do": "upper"}}));
    assert_eq!(gateway.get("/echo").expect(200).text(), "QUIET GET /ECHO");
}

#[test]
fn bodies_over_a_policys_limit_are_refused() {
    let origin = Origin::start(|seen| Reply::ok(&seen.body));
    let config = json!({"request_body": "buffer", "body_limit": 10, "body": {"do": "upper"}});
    let gateway = start(&origin, config);
    assert_eq!(gateway.send(Request::post("/echo", "0123456789")).expect(200).text(), "0123456789");
    gateway.send(Request::post("/echo", "0123456789a")).expect_problem(413, "body_too_large");
    let mut connection = gateway.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n");
    assert_eq!(connection.answer().status, 413);

    let gateway =
        start(&origin, json!({"response_body": "buffer", "body_limit": 10, "body": {"do": "upper"}}));
    gateway.send(Request::post("/echo", "0123456789a")).expect_problem(502, "upstream_body_too_large");
}

#[test]
fn a_body_hook_may_refuse_or_fail() {
    let origin = Origin::mirror();
    let ask = |act: Value| {
        let config = json!({"request_body": "buffer", "body_limit": 1000, "body": act});
        start(&origin, config).send(Request::post("/echo", "hello"))
    };
    assert_eq!(ask(json!({"do": "refuse", "status": 422})).status, 422);
    assert_eq!(ask(json!({"do": "trap"})).status, 503);
    assert_eq!(ask(json!({"do": "giant", "bytes": 200 << 20})).status, 503);
    assert_eq!(origin.count(), 0);
}

#[test]
fn streams_are_filtered_chunk_by_chunk() {
    let origin = Origin::start(|seen| Reply::ok(&seen.body));
    let gateway = start(&origin, json!({"request_body": "stream", "body": {"do": "upper"}}));
    assert_eq!(gateway.send(Request::post("/echo", "hello")).expect(200).text(), "HELLO");
    let long = "abc".repeat(300_000);
    assert!(gateway.send(Request::post("/echo", long.clone())).expect(200).text() == long.to_uppercase());

    let gateway = start(&origin, json!({"response_body": "stream", "body": {"do": "swallow"}}));
    assert_eq!(gateway.send(Request::post("/echo", "hello")).expect(200).text(), "");
}

#[test]
fn a_filter_s_instance_serves_again_after_its_body() {
    let origin = Origin::mirror();
    let serve = |act: &str, instances: u32| {
        let policy = probe(json!({
            "request_body": "stream", "body": {"do": act}, "writes": ["x-calls"], "request": {"do": "calls"},
        }));
        let policy = with(policy, json!({"limits": {"instances": instances}}));
        setup_with_probe().start(&echo(&origin, json!([policy])).set("server.workers", json!(1)).text())
    };
    let gateway = serve("upper", 1);
    for calls in ["1", "2", "3"] {
        let seen = gateway.send(Request::post("/echo", "hello")).expect(200).json();
        assert_eq!(
            (seen["headers"]["x-calls"][0].as_str(), seen["body"].as_str()),
            (Some(calls), Some("HELLO"))
        );
    }
    // Nor does one that broke its body off end with it.
    let gateway = serve("abort", 1);
    for _ in 0..3 {
        gateway.send(Request::post("/echo", "hello"));
        assert_eq!(gateway.metric(r#"witgate_policy_instances{"#), Some(1.0));
    }
}

#[test]
fn a_stream_that_is_aborted_is_broken_off() {
    let origin = Origin::start(|seen| Reply::ok(&seen.body));
    for act in [json!({"do": "abort"}), json!({"do": "trap"})] {
        let gateway = start(&origin, json!({"response_body": "stream", "body": act}));
        let mut connection = gateway.connect();
        connection.send(Request::post("/echo", "hello").bytes());
        // A head may have gone out; a clean end must not.
        if let Ok(answer) = connection.try_answer(false) {
            assert!(!answer.complete || answer.status >= 500, "{act}: {answer:?}");
        }
    }
}

#[test]
fn an_early_answer_wins_over_the_body() {
    // Case K2: the upstream says 413 at once; the client is not asked for the body.
    let origin =
        Origin::start_early(|_| Reply::Close(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let mut connection = gateway.connect();
    connection
        .send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(connection.try_answer(false).unwrap().status, 413);
}

#[test]
fn answers_without_bodies_stay_without() {
    // Case K3: bytes after a 204 or 304 never reach the client, nor the next answer.
    for status in [204, 304] {
        let origin =
            Origin::start(move |_| Reply::raw(format!("HTTP/1.1 {status} X\r\nx-a: 1\r\n\r\nEXTRA")));
        let gateway = setup().start(&echo(&origin, json!([])).text());
        let mut connection = gateway.connect();
        for _ in 0..3 {
            connection.send(Request::get("/echo").bytes());
            let answer = connection.try_answer(false).unwrap();
            assert!(answer.status == status || answer.status == 502, "{answer:?}");
            if connection.closes_within(Duration::from_millis(50)) {
                assert!(connection.pending.is_empty());
                connection = gateway.connect();
            }
            assert!(connection.pending.is_empty(), "{:?}", connection.pending);
        }
    }
}
