//! Faults that other gateways had, tried here from end to end; the letter and number in a test's
//! name are the group and case that it comes from. What the files by topic try already is not
//! tried again.

use crate::fixture::{Config, echo, probe, setup, setup_with_probe};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use witgate_test_support::certs::{Authority, Certified};
use witgate_test_support::client::{certificate_of, tls};
use witgate_test_support::frames::{self, ACK, END_HEADERS, END_STREAM, block, frame};
use witgate_test_support::http2::H2Client;
use witgate_test_support::origin::{drain, say};
use witgate_test_support::{Connection, Gateway, Origin, Reply, Request, Setup, eventually};

fn start(origin: &Origin) -> Gateway {
    setup().start(&echo(origin, json!([])).text())
}

/// Answers nothing until the other end closes.
fn silent() -> Origin {
    Origin::start_early(|_| Reply::drive(|stream| drain(stream).map(drop)))
}

// --- A: parsing and smuggling

#[test]
fn a5_a6_broken_chunks_are_400_and_close() {
    let origin = Origin::named("up");
    let gateway = start(&origin);
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20));
    let bodies = [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\n: x\r\n\r\n",
        "5\r\nhello\r\n0\r\nx y: 1\r\n\r\n",
        &long,
    ];
    for body in bodies {
        origin.forget();
        let shown = &body[..body.len().min(60)];
        let mut connection = gateway.connect();
        let _ = connection.try_send(format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
             GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        let answer = connection.try_answer(false).unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(answer.status, 400, "{shown:?}: {answer:?}");
        let rest = connection.read_to_close();
        assert!(rest.is_empty(), "{shown:?}: {:?}", String::from_utf8_lossy(&rest));
        assert!(origin.seen().is_empty(), "{shown:?}: {:?}", origin.seen());
    }
}

#[test]
fn a_a_bad_request_behind_a_good_one_is_refused_too() {
    let origin = Origin::named("up");
    let gateway = start(&origin);
    let lines = [
        "Content-Length: +5",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Host: b",
        ": x",
        "X: a\rb",
    ];
    for line in lines {
        origin.forget();
        let mut connection = gateway.connect();
        connection.send(format!(
            "GET /echo/good HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo/bad HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n\
             0\r\n\r\nGET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        connection.answer().expect(200);
        let answer = connection.answer();
        assert!(matches!(answer.status, 400 | 501), "{line:?}: {answer:?}");
        let rest = connection.read_to_close();
        assert!(rest.is_empty(), "{line:?}: {:?}", String::from_utf8_lossy(&rest));
        assert_eq!(origin.only().target, "/echo/good", "{line:?}");
    }
}

#[test]
fn a1_two_framings_behind_a_good_request_are_read_as_chunks_alone() {
    // RFC 9112, 6.1: refused, or read by the transfer coding alone, and the connection closed.
    let origin = Origin::named("up");
    let gateway = start(&origin);
    let mut connection = gateway.connect();
    connection.send(
        "GET /echo/good HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo/two HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    connection.answer().expect(200);
    let answer = connection.answer();
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
    let rest = connection.read_to_close();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    for seen in origin.seen().iter().filter(|seen| seen.target != "/echo/good") {
        assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/echo/two", b"hello".as_slice()));
        assert!(seen.all("content-length").is_empty() || seen.all("transfer-encoding").is_empty());
    }
}

#[test]
fn a7_http_1_0_is_framed_once_and_closed() {
    let origin = Origin::mirror();
    let gateway = start(&origin);
    for (request, status) in [
        ("GET /echo HTTP/1.0\r\n\r\n", 200),
        ("GET /echo HTTP/1.0\r\nHost: a\r\n\r\n", 200),
        ("POST /echo HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 200),
        ("POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400),
        ("POST /echo HTTP/1.0\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 400),
    ] {
        origin.forget();
        let mut connection = gateway.connect();
        connection.send(format!("{request}GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = connection.answer().expect(status);
        assert!(answer.all("transfer-encoding").is_empty(), "{answer:?}");
        let rest = connection.read_to_close();
        assert!(rest.is_empty(), "{request:?}: {:?}", String::from_utf8_lossy(&rest));
        assert!(origin.seen().iter().all(|seen| seen.target == "/echo"), "{:?}", origin.seen());
    }
}

#[test]
fn a_trailers_never_become_fields() {
    let origin = Origin::mirror();
    let gateway = start(&origin);
    let mut connection = gateway.connect();
    let answer = connection.ask(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-User, Content-Length\r\n\r\n\
         5\r\nhello\r\n0\r\nX-User: root\r\nContent-Length: 99\r\nHost: b\r\nTransfer-Encoding: gzip\r\n\r\n",
    );
    assert_eq!(answer.expect(200).header("connection"), Some("close"), "see smuggling.rs");
    let seen = origin.only();
    assert_eq!((seen.header("x-user"), seen.header("host")), (None, Some("a")));
    let names: Vec<_> = seen.trailers.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert!(
        !names.iter().any(|name| matches!(name.as_str(), "content-length" | "host" | "transfer-encoding"))
    );

    // Nor do they carry what a policy judges or sets.
    let chain = json!([probe(json!({"reads": ["x-role"], "writes": ["x-user"], "request": {"do": "pass"}}))]);
    let gateway = setup_with_probe().start(&echo(&origin, chain).text());
    origin.forget();
    gateway
        .connect()
        .ask(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-User, X-Role, X_User, X-Forwarded-For, X-Sum\r\n\r\n5\r\nhello\r\n0\r\n\
             X-User: root\r\nX-Role: admin\r\nX_User: root\r\nX-Forwarded-For: 1.1.1.1\r\nX-Sum: 1\r\n\r\n",
        )
        .expect(200);
    let names: Vec<_> = origin.only().trailers.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(names, ["x-sum"]);
}

#[test]
fn a_a_connection_of_many_bodies_stays_in_step() {
    // Whatever framing a request has, the next begins where it ends.
    let origin = Origin::mirror();
    let gateway = start(&origin);
    let mut connection = gateway.connect();
    let requests = [
        ("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ""),
        ("DELETE /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "x"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", ""),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /echo/x HTTP/1.1\r\nHost: a\r", ""),
        ("\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    ];
    for (request, body) in requests.iter().cycle().take(3 * requests.len()) {
        let answer = connection.ask(request).expect(200).json();
        let expected = if request.contains("30\r\n") { "GET /echo/x HTTP/1.1\r\nHost: a\r" } else { body };
        assert_eq!((&answer["target"], &answer["body"]), (&json!("/echo"), &json!(expected)), "{request:?}");
    }
    assert_eq!(origin.count(), 3 * requests.len());
}

// --- B: HTTP/2

/// Sends frames until the gateway ends the connection, and returns the GOAWAY's error.
fn flood(gateway: &Gateway, count: u32, bytes: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut connection = frames::open(gateway.public());
    for index in 0..count {
        if connection.try_send(bytes(1 + 2 * index)).is_err() {
            break;
        }
    }
    frames::until(&mut connection, |frame| frame.kind == frames::GOAWAY).map(|frame| frame.code())
}

#[test]
fn b1_a_reset_stream_ends_its_upstream_call() {
    let origin = silent();
    let gateway = start(&origin);
    let mut connection = frames::open(gateway.public());
    for index in 0..20_u32 {
        let stream = 1 + 2 * index;
        connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, stream, &frames::get("/echo", &[])));
        eventually("the upstream call", || origin.open() == 1);
        connection.send(frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        eventually("its end", || origin.open() == 0);
    }
    eventually("the log", || gateway.access_log("/echo").len() == 20);
    assert!(gateway.access_log("/echo").iter().all(|entry| entry["reason"] == "client_closed"));
}

#[test]
fn b1_paced_resets_are_bounded_too() {
    let origin = silent();
    let gateway = start(&origin);
    let mut connection = frames::open(gateway.public());
    let mut ended = None;
    let mut reset = 0;
    'attack: for batch in 0..100_u32 {
        let streams: Vec<u32> = (0..20).map(|index| 1 + 2 * (batch * 20 + index)).collect();
        let mut bytes = Vec::new();
        for stream in &streams {
            bytes.extend(frame(
                frames::HEADERS,
                END_HEADERS | END_STREAM,
                *stream,
                &frames::get("/echo", &[]),
            ));
        }
        // The answer to the PING says that the streams were accepted.
        bytes.extend(frame(frames::PING, 0, 0, b"accepted"));
        let _ = connection.try_send(bytes);
        loop {
            match frames::next(&mut connection) {
                Some(frame) if frame.kind == frames::PING && frame.flags & ACK != 0 => break,
                Some(frame) if frame.kind == frames::GOAWAY => {
                    ended = Some(frame.code());
                    break 'attack;
                }
                Some(_) => {}
                None => break 'attack,
            }
        }
        for stream in streams {
            let _ = connection.try_send(frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            reset += 1;
        }
    }
    assert!(reset < 1000, "{reset} resets were taken");
    assert_eq!(ended, Some(frames::ENHANCE_YOUR_CALM));
    eventually("no upstream call is left", || origin.open() == 0);
}

#[test]
fn b3_resets_that_the_client_provokes_end_the_connection() {
    let origin = silent();
    let gateway = start(&origin);
    let before = gateway.resident();
    let get = frames::get("/echo", &[]);
    let post = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/echo"),
        (":authority", "a"),
        ("content-length", "1"),
    ]);
    let open = |stream| frame(frames::HEADERS, END_HEADERS, stream, &get);
    let grow = |stream, by: u32| frame(frames::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    type Attack<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;
    let attacks: [(&str, Attack<'_>); 4] = [
        ("a window grown by nothing", Box::new(|stream| [open(stream), grow(stream, 0)].concat())),
        ("a window grown too far", Box::new(|stream| [open(stream), grow(stream, 0x7fff_ffff)].concat())),
        (
            "more than was announced",
            Box::new(|stream| {
                let data = frame(frames::DATA, END_STREAM, stream, b"more");
                [frame(frames::HEADERS, END_HEADERS, stream, &post), data].concat()
            }),
        ),
        (
            "data after the end",
            Box::new(|stream| {
                let head = frame(frames::HEADERS, END_HEADERS | END_STREAM, stream, &get);
                [head, frame(frames::DATA, 0, stream, b"more")].concat()
            }),
        ),
    ];
    for (what, attack) in attacks {
        let code = flood(&gateway, 10_000, attack);
        assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
    }
    eventually("no upstream call is left", || origin.open() == 0);
    let other = Origin::named("up");
    start(&other).get("/echo").expect(200);
    assert!(gateway.resident().saturating_sub(before) < 64 << 20);
}

#[test]
fn b_floods_of_control_frames_hurt_nobody() {
    let origin = Origin::named("up");
    let gateway = start(&origin);
    gateway.get("/echo").expect(200);
    let before = gateway.resident();
    let stream = frame(frames::HEADERS, END_HEADERS, 1, &frames::get("/echo", &[]));
    let floods = [
        ("PING", frame(frames::PING, 0, 0, b"12345678")),
        ("SETTINGS", frame(frames::SETTINGS, 0, 0, &[0, 1, 0, 0, 0x10, 0])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 3, 1])),
        ("empty DATA", frame(frames::DATA, 0, 1, b"")),
        ("unknown", frame(0xfa, 0, 0, b"x")),
        ("WINDOW_UPDATE", frame(frames::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
    ];
    let mut held = Vec::new();
    for (what, one) in floods {
        let mut connection = frames::open(gateway.public());
        connection.send(&stream);
        let many = one.repeat(1000);
        // Nothing is read meanwhile: what the gateway owes must not pile up.
        connection.set_write_timeout(Duration::from_millis(300));
        for _ in 0..200 {
            if connection.try_send(&many).is_err() {
                break;
            }
        }
        gateway.get("/echo").expect(200);
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{what}: grew by {grown} bytes");
        held.push(connection);
    }
}

#[test]
fn b_a_table_of_large_fields_is_not_multiplied() {
    // One large field in HPACK's table, named thousands of times in a head of a few bytes each.
    let origin = Origin::named("up");
    let gateway = start(&origin);
    let before = gateway.resident();
    let mut connection = frames::open(gateway.public());
    let large = "y".repeat(3900);
    let mut fields = frames::get("/echo", &[]);
    // A literal with incremental indexing: 0x40, then name and value.
    fields.push(0x40);
    fields.extend([4]);
    fields.extend(b"bomb");
    fields.extend([127, 0xbd, 0x1d]);
    fields.extend(large.as_bytes());
    // The newest entry of the dynamic table is 62.
    fields.extend(vec![0xbe; 10_000]);
    assert_eq!(127 + 0x3d + (0x1d << 7), large.len());
    connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &fields));
    let end = frames::until(&mut connection, |frame| {
        matches!(frame.kind, frames::HEADERS | frames::RST_STREAM | frames::GOAWAY)
    });
    assert!(end.is_some());
    assert!(origin.seen().is_empty());
    assert!(gateway.resident().saturating_sub(before) < 32 << 20);
    gateway.get("/echo").expect(200);
}

#[test]
fn b4_b6_malformed_messages_are_told_so() {
    let origin = Origin::named("up");
    let gateway = start(&origin);
    let base = |more: &[(&'static str, &'static str)]| frames::get("/echo", more);
    let heads = [
        base(&[("transfer-encoding", "chunked")]),
        base(&[("connection", "close")]),
        base(&[("te", "gzip")]),
        base(&[("x", "a\r\nb: c")]),
        base(&[("x y", "z")]),
        base(&[("content-length", "5")]),
        base(&[("content-length", "1"), ("content-length", "2")]),
        base(&[("host", "other.example")]),
        base(&[("x", " a")]),
        base(&[("x", "a\t")]),
        block(&[(":method", "GET"), (":scheme", "http"), (":path", "/echo x"), (":authority", "a")]),
        block(&[(":method", "G\0T"), (":scheme", "http"), (":path", "/echo"), (":authority", "a")]),
        block(&[(":method", "GET"), (":scheme", "http"), (":path", "/echo"), (":authority", "u@a")]),
        block(&[(":method", "CONNECT"), (":authority", "a:443")]),
    ];
    for (index, fields) in heads.iter().enumerate() {
        let mut connection = frames::open(gateway.public());
        connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, fields));
        let end = frames::until(&mut connection, |frame| {
            matches!(frame.kind, frames::HEADERS | frames::RST_STREAM | frames::GOAWAY)
        })
        .unwrap_or_else(|| panic!("{index}: nothing came"));
        match end.kind {
            // The first field of the answer, from the static table: 0x88 is 200.
            frames::HEADERS => assert_ne!(end.payload.first(), Some(&0x88), "{index}"),
            _ => assert_ne!(end.code(), 0, "{index}"),
        }
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    // And the connection of one that was refused goes on.
    let mut connection = frames::open(gateway.public());
    connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &base(&[("te", "gzip")])));
    connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 3, &base(&[])));
    let good = frames::until(&mut connection, |frame| frame.stream == 3 && frame.kind == frames::HEADERS);
    assert_eq!(good.unwrap().payload.first(), Some(&0x88));
}

#[test]
fn b_empty_frames_within_a_body_are_not_its_end() {
    let origin = Origin::start(|seen| Reply::ok(&seen.body));
    let chain = json!([probe(json!({"request_body": "stream", "body": {"do": "upper"}}))]);
    let gateway = setup_with_probe().start(&echo(&origin, chain).text());
    let mut connection = frames::open(gateway.public());
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "h")];
    connection.send(frame(frames::HEADERS, END_HEADERS, 1, &block(&post)));
    for (flags, data) in [(0, &b"hel"[..]), (0, b""), (0, b""), (0, b"lo"), (END_STREAM, b"")] {
        connection.send(frame(frames::DATA, flags, 1, data));
        std::thread::sleep(Duration::from_millis(30));
    }
    let mut body = Vec::new();
    loop {
        let frame = frames::next(&mut connection).unwrap();
        if frame.stream == 1 && frame.kind == frames::DATA {
            body.extend_from_slice(&frame.payload);
        }
        if frame.stream == 1 && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(body, b"HELLO");
}

// --- C: paths, over HTTP/2 as over HTTP/1

#[test]
fn c1_c2_c3_http2_paths_have_one_meaning() {
    let (open, guarded) = (Origin::named("open"), Origin::named("guarded"));
    let config = Config::new()
        .upstream("open", &open)
        .upstream("guarded", &guarded)
        .api(json!({"name": "open", "path": "/public", "upstream": "open"}))
        .api(json!({"name": "guarded", "path": "/admin", "upstream": "guarded"}));
    let gateway = setup().start(&config.text());
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public%2f..%2fadmin",
        "/public/..%5cadmin",
        "/public/..;/admin",
        "/public/%252e%252e/admin",
        "//admin",
        "/public#/../admin",
        "/public/..#",
        "/public?/../admin",
    ] {
        open.forget();
        let mut connection = frames::open(gateway.public());
        connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get(path, &[])));
        frames::until(&mut connection, |frame| {
            matches!(frame.kind, frames::HEADERS | frames::RST_STREAM | frames::GOAWAY)
        });
        // What was taken for public reaches the upstream as public, in the form that was judged.
        for seen in open.seen() {
            let target = seen.target.split('?').next().unwrap();
            assert!(target == "/public", "{path}: {target}");
        }
    }
    assert!(guarded.seen().iter().all(|seen| seen.target == "/admin"), "{:?}", guarded.seen());
}

// --- D: fields

#[test]
fn d6_too_many_fields_get_their_answer() {
    let origin = Origin::named("up");
    let gateway = start(&origin);
    let lines: String = (0..101).map(|index| format!("x{index}: y\r\n")).collect();
    let mut connection = gateway.connect();
    let answer = connection.ask(format!("GET /echo HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    answer.expect(431);
    connection.read_to_close();
    // One line too long for any head, of which no end comes.
    let mut connection = gateway.connect();
    let _ = connection.try_send(format!("GET /echo HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(60 << 10)));
    assert_eq!(connection.answer().status, 431);
    connection.read_to_close();
    assert_eq!(origin.count(), 0);
}

// --- J: retries

#[test]
fn j3_all_endpoints_down_fails_fast_and_within_the_budget() {
    let nobody = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let upstream = json!({
        "endpoints": [nobody(), nobody(), nobody()],
        "retry": {"attempts": 3, "budget": "20%"},
    });
    let gateway = setup().start(&Config::new().upstream_with("up", upstream).simple("up", json!([])).text());
    let mut connection = gateway.connect();
    for _ in 0..500 {
        let answer = Request::get("/up").send_on(&mut connection);
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    }
    eventually("the metric", || gateway.metric("witgate_upstream_retries_total").is_some());
    let retries = gateway.metric("witgate_upstream_retries_total").unwrap_or(0.0);
    assert!(retries <= 150.0, "{retries} retries of 500 requests");
}

// --- K: upstreams

#[test]
fn k1_an_idle_connection_that_closes_as_it_is_used_is_no_error() {
    const KEPT: Duration = Duration::from_millis(40);
    // Closes each connection that was idle for as long as the client pauses.
    let origin = Origin::start(|_| {
        Reply::drive(|stream| {
            say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
            std::thread::sleep(KEPT);
            Ok(())
        })
    });
    let gateway = start(&origin);
    let mut connection = gateway.connect();
    for round in 0..200_u64 {
        Request::get("/echo").send_on(&mut connection).expect(200);
        std::thread::sleep(KEPT - Duration::from_millis(2) + Duration::from_micros(40 * (round % 100)));
    }
}

#[test]
fn k2_a_client_whose_answer_is_there_is_not_asked_for_its_body() {
    let origin = Origin::start_early(|_| {
        Reply::drive(|stream| {
            say(stream, "HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")?;
            drain(stream).map(drop)
        })
    });
    for (chain, listener) in [(json!([]), json!({})), (json!([]), json!({"body_bytes": "1KiB"}))] {
        let gateway = setup().start(&echo(&origin, chain).set("listeners.0.limits", listener).text());
        let mut connection = gateway.connect();
        connection.send(
            "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n",
        );
        assert_eq!(connection.head().unwrap().status, 413);
        connection.read_to_close();
    }
    // A refusal of the gateway's own.
    let gateway = start(&origin);
    let mut connection = gateway.connect();
    connection.send("POST /none HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(connection.head().unwrap().status, 404);
    connection.read_to_close();
}

#[test]
fn k2_a_client_is_asked_for_its_body_when_somebody_wants_it() {
    let origin = Origin::mirror();
    let gateway = start(&origin);
    let mut connection = gateway.connect();
    connection.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send("hello");
    assert_eq!(connection.answer().expect(200).json()["body"], "hello");
}

#[test]
fn k2_an_upstream_that_says_100_gets_the_body_at_once_and_a_silent_one_soon() {
    for says_100 in [true, false] {
        let origin = Origin::start_early(move |seen| {
            assert_eq!(seen.header("expect"), Some("100-continue"));
            Reply::drive(move |stream| {
                if says_100 {
                    say(stream, "HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                let mut body = [0; 5];
                stream.read_exact(&mut body)?;
                say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")?;
                say(stream, body)
            })
        });
        let gateway = start(&origin);
        let mut connection = gateway.connect();
        let begun = Instant::now();
        connection
            .send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(connection.head().unwrap().status, 100);
        assert!(begun.elapsed() < Duration::from_secs(if says_100 { 1 } else { 5 }), "{:?}", begun.elapsed());
        connection.send("hello");
        assert_eq!(connection.answer().expect(200).text(), "hello");
        // One that does not wait for long is served too.
        let mut connection = gateway.connect();
        connection
            .send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(connection.answer().expect(200).text(), "hello");
    }
}

#[test]
fn k3_bodies_where_none_may_be_end_the_upstreams_connection() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let origin = Origin::start(move |_| {
            Reply::raw(format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nhello"))
        });
        let gateway = start(&origin);
        let mut connection = gateway.connect();
        for _ in 0..5 {
            connection.send(format!("{method} /echo HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = connection.try_answer(true).unwrap();
            assert!(matches!(answer.status, 200 | 204 | 304 | 502), "{answer:?}");
            if answer.status == 204 {
                // RFC 9110, 8.6.
                assert_eq!(answer.header("content-length"), None, "{answer:?}");
            }
            if connection.closes_within(Duration::from_millis(30)) {
                connection = gateway.connect();
            }
            assert!(connection.pending.is_empty(), "{method} {status}: {:?}", connection.pending);
        }
    }
}

#[test]
fn k3_a_head_request_has_no_body_on_http2_either() {
    let origin = Origin::named("up");
    let gateway = start(&origin);
    for path in ["/echo", "/none"] {
        let mut connection = frames::open(gateway.public());
        let head = [(":method", "HEAD"), (":scheme", "http"), (":path", path), (":authority", "a")];
        connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block(&head)));
        connection.send(frame(frames::PING, 0, 0, b"after it"));
        let mut end = None;
        while end.is_none() {
            let frame = frames::next(&mut connection).unwrap();
            if frame.stream == 1 {
                assert_ne!(
                    (frame.kind, frame.payload.is_empty()),
                    (frames::DATA, false),
                    "{path}: {frame:?}"
                );
                end = (frame.flags & END_STREAM != 0).then_some(frame.kind);
            }
        }
    }
}

#[test]
fn k4_a_body_that_breaks_has_no_clean_end_on_http2() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let sized = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello".to_vec();
    for bytes in [chunked, sized] {
        let origin = Origin::start(move |_| Reply::Close(bytes.clone()));
        let gateway = start(&origin);
        let mut connection = frames::open(gateway.public());
        connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &frames::get("/echo", &[])));
        loop {
            let frame = frames::next(&mut connection).expect("a reset of the stream");
            if frame.stream == 1 {
                let ended =
                    matches!(frame.kind, frames::DATA | frames::HEADERS) && frame.flags & END_STREAM != 0;
                assert!(!ended, "{frame:?}");
                if frame.kind == frames::RST_STREAM {
                    break;
                }
            }
        }
    }
}

#[test]
fn k_a_second_answer_is_nobodys() {
    // Two answers to one request: the second must not reach whoever asks next.
    let origin = Origin::start(|seen| {
        let own = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", seen.target.len(), seen.target);
        Reply::raw(format!("{own}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"))
    });
    let gateway = start(&origin);
    let mut connections: Vec<Connection> = (0..4).map(|_| gateway.connect()).collect();
    for round in 0..200 {
        let path = format!("/echo/{round}");
        let connection = &mut connections[round % 4];
        let answer = Request::get(&path).send_on(connection);
        if answer.status == 200 {
            assert_eq!(answer.text(), path);
        } else {
            answer.expect(502);
        }
    }
}

#[test]
fn k_no_tunnel_carries_http_past_the_policies() {
    // With h2c in a tunnel, every later request would reach the upstream unseen.
    let origin = Origin::start(|seen| {
        let protocol = seen.header("upgrade").unwrap_or("h2c");
        let protocol = if seen.target.ends_with("other") { "other" } else { protocol };
        Reply::Close(
            format!("HTTP/1.1 101 Switch\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n").into_bytes(),
        )
    });
    let gateway = start(&origin);
    let ask = |path: &str, version: &str, protocol: &str| {
        gateway.connect().ask(format!(
            "GET {path} HTTP/{version}\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        ))
    };
    for protocol in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.2"] {
        ask("/echo", "1.1", protocol).expect(502);
        assert_eq!(origin.only().header("upgrade"), None, "{protocol}");
        origin.forget();
    }
    ask("/echo", "1.0", "websocket").expect(502);
    assert_eq!(origin.only().header("upgrade"), None);
    // What was not offered is not spoken.
    ask("/echo/other", "1.1", "websocket").expect(502);
    ask("/echo", "1.1", "WebSocket").expect(101);
}

#[test]
fn k_interim_answers_without_end_are_bounded() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let origin = Origin::start(move |seen| {
        if seen.target.ends_with("few") {
            let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(3);
            return Reply::raw(format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
        }
        let stopped = stopped.clone();
        Reply::drive(move |stream| {
            while !stopped.load(Ordering::Acquire) {
                say(stream, "HTTP/1.1 103 Early Hints\r\n\r\n")?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    });
    let upstream = json!({"endpoints": [origin.url()], "timeouts": {"response": "500ms"}});
    let gateway = setup().start(&Config::new().upstream_with("up", upstream).simple("up", json!([])).text());
    assert_eq!(gateway.get("/up/few").expect(200).text(), "ok");
    let answer = gateway.get("/up/endless");
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
    stop.store(true, Ordering::Release);
}

#[test]
fn k_heads_of_upstreams_are_bounded_and_checked() {
    let many = (0..2_000).map(|index| format!("x{index}: y\r\n")).collect::<String>();
    for head in [
        format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(200 << 10)),
        format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nx: a\u{0}b\r\ncontent-length: 0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nx y: a\r\ncontent-length: 0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok".into(),
        "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n".into(),
        "HTTP/1.1 99 No\r\ncontent-length: 0\r\n\r\n".into(),
        "SSH-2.0-OpenSSH_9.2\r\n".into(),
    ] {
        let shown = head[..head.len().min(60)].to_string();
        let origin = Origin::start(move |_| Reply::Close(head.clone().into_bytes()));
        let answer = start(&origin).get("/echo");
        assert_eq!(answer.status, 502, "{shown:?}: {answer:?}");
    }
}

// --- L: TLS

fn secured(origin: &Origin, certificates: &[(&str, &Certified, &[&str])]) -> Gateway {
    let listed: Vec<Value> = certificates
        .iter()
        .map(|(name, _, hosts)| {
            let mut listed = json!({"cert": format!("certs/{name}.pem"), "key": format!("certs/{name}.key")});
            if !hosts.is_empty() {
                listed["hosts"] = json!(hosts);
            }
            listed
        })
        .collect();
    let files = certificates.iter().fold(setup(), |setup: Setup, (name, certified, _)| {
        setup
            .file(&format!("certs/{name}.pem"), &certified.cert)
            .file(&format!("certs/{name}.key"), &certified.key)
    });
    let config = Config::new()
        .set(
            "listeners",
            json!([{"name": "public", "address": "127.0.0.1:0", "tls": {"certificates": listed}}]),
        )
        .upstream("up", origin)
        .api(json!({"name": "all", "path": "/", "upstream": "up"}))
        .api(json!({"name": "app", "path": "/", "hosts": ["app.example.com"], "upstream": "up"}));
    files.start(&config.text())
}

#[test]
fn l1_l2_a_connection_serves_the_hosts_of_its_certificate() {
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let (wild, other) = (authority.server(&["*.example.com"]), authority.server(&["other.test"]));
    let gateway =
        secured(&origin, &[("wild", &wild, &["*.example.com"]), ("other", &other, &["other.test"])]);
    let statuses = [
        ("app.example.com", 200),
        ("more.example.com", 200),
        ("app.example.com.", 200),
        ("APP.example.com:443", 200),
        ("other.test", 421),
        ("other.test.", 421),
        ("deep.app.example.com", 421),
        ("example.com", 421),
        ("127.0.0.1", 421),
    ];
    let mut http2 = H2Client::tls(gateway.public(), "app.example.com", authority.client_h2());
    for (host, status) in statuses {
        let mut connection = tls(gateway.public(), "app.example.com", authority.client(None));
        let answer = Request::get("/").header("Host", host).send_on(&mut connection);
        assert_eq!(answer.status, status, "HTTP/1.1, {host}");
        let answer = http2.ask(hyper::Method::GET, "/", &[(":authority", host)], Vec::new());
        assert_eq!(answer.status, status, "HTTP/2, {host}");
    }
}

#[test]
fn l4_an_expired_certificate_never_replaces_a_good_one() {
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let (good, expired) = (authority.server(&["localhost"]), authority.expired(&["localhost"]));
    let gateway = secured(&origin, &[("a", &good, &[])]);
    let shown = || certificate_of(gateway.public(), "localhost", authority.client(None));
    assert_eq!(shown(), good.chain()[0].to_vec());
    let mark = gateway.log().mark();
    gateway.write_file("certs/a.pem", &expired.cert);
    gateway.write_file("certs/a.key", &expired.key);
    // Told, and not used.
    gateway.log().wait_for(mark, "certs/a.pem");
    assert_eq!(shown(), good.chain()[0].to_vec());
}

// --- N: reloads

#[test]
fn n3_a_route_never_opens_because_a_name_is_missing() {
    let origin = Origin::named("up");
    let good = echo(&origin, json!([{"plugin": "request-id"}]));
    let gateway = setup().start(&good.text());
    let broken = [
        good.clone().set("apis.0.chain", json!(["nobody"])),
        good.clone().set("apis.0.chain", json!([{"plugin": "nobody"}])),
        good.clone().set("apis.0.upstream", json!("nobody")),
        good.clone().set("apis.0.listeners", json!(["nobody"])),
        good.clone().set(
            "apis.0.operations",
            json!([{"match": {"methods": ["GET"], "path": "/x"}, "chain": ["nobody"]}]),
        ),
        good.clone().policy("keys", json!({"plugin": "nobody"})),
    ];
    for config in broken {
        gateway.reload_refused(&config.text());
        assert!(gateway.get("/echo").expect(200).header("x-request-id").is_some(), "{}", config.text());
        assert!(setup().try_start(&config.text()).is_err(), "{}", config.text());
    }
}

// --- O: the end

#[test]
fn o1_o2_a_drain_begins_nothing_new_and_breaks_nothing_off() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let origin = Origin::start(move |_| {
        let wait = wait.clone();
        Reply::drive(move |stream| {
            say(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
            say(stream, "4\r\nlast\r\n0\r\n\r\n")
        })
    });
    let gateway = setup().start(&echo(&origin, json!([])).set("server.drain", json!("20s")).text());
    let idle: Vec<Connection> = (0..20).map(|_| gateway.connect()).collect();
    let mut busy: Vec<Connection> = (0..20).map(|_| gateway.connect()).collect();
    for connection in &mut busy {
        connection.send(Request::get("/echo").bytes());
    }
    eventually("all requests", || origin.count() == 20);
    gateway.terminate();
    for mut connection in idle {
        assert!(connection.closes_within(Duration::from_secs(5)));
    }
    for _ in &busy {
        go.send(()).unwrap();
    }
    let mut texts = HashSet::new();
    for mut connection in busy {
        let answer = connection.answer().expect(200);
        assert!(answer.complete);
        texts.insert(answer.text());
        assert!(connection.closes_within(Duration::from_secs(5)));
    }
    assert_eq!(texts, HashSet::from(["firstlast".to_string()]));
    assert!(gateway.wait().success());
}
