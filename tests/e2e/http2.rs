//! HTTP/2 with clients: prior knowledge in clear, floods, malformed messages, gRPC.

use crate::fixture::{Config, echo, probe, setup, setup_with_probe};
use hyper::Method;
use serde_json::json;
use std::time::Duration;
use witgate_test_support::frames::{self, END_HEADERS, END_STREAM, block, frame};
use witgate_test_support::http2::{H2Client, H2Origin, H2Reply};
use witgate_test_support::{Connection, Gateway, Origin, Request, eventually};

fn start() -> (Gateway, Origin) {
    let origin = Origin::mirror();
    let gateway = setup().start(&echo(&origin, json!([])).text());
    (gateway, origin)
}

#[test]
fn prior_knowledge_works_in_clear() {
    let (gateway, origin) = start();
    let mut client = H2Client::clear(gateway.public());
    let answer = client.ask(Method::POST, "/echo/x?y", &[("x-a", "1")], b"hello".to_vec());
    assert_eq!(answer.status, 200);
    let seen = origin.only();
    assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/echo/x?y", b"hello".as_slice()));
    assert_eq!((seen.header("x-a"), seen.header("host")), (Some("1"), Some("localhost")));
    assert_eq!(gateway.logged("/echo/x")["status"], 200);
}

#[test]
fn many_streams_share_a_connection() {
    let (gateway, _origin) = start();
    let mut client = H2Client::clear(gateway.public());
    let paths: Vec<_> = (0..100).map(|index| format!("/echo/{index}")).collect();
    for (path, answer) in paths.iter().zip(client.get_all(&paths)) {
        let body: serde_json::Value = serde_json::from_slice(&answer.unwrap().body).unwrap();
        assert_eq!(body["target"], json!(path));
    }
}

#[test]
fn cookies_in_crumbs_are_one_to_policy_and_upstream() {
    // RFC 9113, 8.2.3.
    let origin = Origin::mirror();
    let see = probe(json!({
        "reads": ["cookie", "cookie:b"], "writes": ["x-seen-*"], "request": {"do": "echo", "prefix": "x-seen-"},
    }));
    let gateway = setup_with_probe().start(&echo(&origin, json!([see])).text());
    let mut connection = frames::open(gateway.public());
    let fields = frames::get("/echo", &[("cookie", "a=1"), ("cookie", "b=2")]);
    connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &fields));
    frames::until(&mut connection, |frame| frame.kind == frames::HEADERS && frame.stream == 1).unwrap();
    let seen = origin.only();
    assert_eq!((seen.header("x-seen-0"), seen.header("x-seen-1")), (Some("a=1; b=2"), Some("2")));
    // And to an HTTP/1 upstream, which may read only the first line.
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
}

/// Sends one HEADERS frame and says whether anything reached the upstream.
#[track_caller]
fn malformed(gateway: &Gateway, origin: &Origin, fields: &[u8]) {
    origin.forget();
    let mut connection = frames::open(gateway.public());
    connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, fields));
    let end = frames::until(&mut connection, |frame| {
        matches!(frame.kind, frames::RST_STREAM | frames::GOAWAY)
            || frame.kind == frames::HEADERS && frame.stream == 1
    });
    let _ = end;
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[test]
fn fields_that_http2_forbids_never_become_http1() {
    // Case B4.
    let (gateway, origin) = start();
    for field in [
        ("transfer-encoding", "chunked"),
        ("connection", "x"),
        ("keep-alive", "1"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        ("x a", "space"),
        ("x\r\ny", "1"),
        ("x:y", "1"),
        ("", "empty"),
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\u{0}b"),
        (":unknown", "1"),
        (":path", "/echo/second"),
    ] {
        malformed(&gateway, &origin, &frames::get("/echo", &[field]));
    }
    let base = |method, path| {
        block(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")])
    };
    for fields in [
        base("GET", "/echo HTTP/1.1\r\nx: y"),
        base("GET", "/echo\r\n"),
        base("GET", ""),
        base("GET", "echo"),
        base("G T", "/echo"),
        base("GET\r\n", "/echo"),
        block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        block(&[(":scheme", "http"), (":path", "/echo"), (":authority", "a")]),
        block(&[
            ("x", "1"),
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/echo"),
            (":authority", "a"),
        ]),
    ] {
        malformed(&gateway, &origin, &fields);
    }
    gateway.get("/echo").expect(200);
}

/// A HEADERS frame on stream 1, the end of the request only with `end`; then what became of the stream:
/// an answer, or the code of its reset.
fn outcome(connection: &mut Connection, end: u8, fields: &[u8]) -> Result<(), u32> {
    connection.send(frame(frames::HEADERS, END_HEADERS | end, 1, fields));
    let first = frames::until(connection, |frame| {
        matches!(frame.kind, frames::HEADERS | frames::RST_STREAM | frames::GOAWAY)
    });
    let first = first.expect("an answer or an error");
    assert_ne!(first.kind, frames::GOAWAY, "the connection ended: {first:?}");
    assert_eq!(first.stream, 1);
    if first.kind == frames::RST_STREAM { Err(first.code()) } else { Ok(()) }
}

#[test]
fn malformed_requests_reset_their_stream_only() {
    // Case B5; RFC 9113, 8.1.1.
    let (gateway, origin) = start();
    let request = |method, path, authority, more: &[(&'static str, &'static str)]| {
        let first = [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)];
        block(&[&first[..], more].concat())
    };
    let malformed = [
        request("GET", "/echo", "localhost", &[("host", "other.example")]),
        request("GET", "/echo", "localhost", &[("x", " a")]),
        request("GET", "/echo", "localhost", &[("x", "a\t")]),
        request("GET", "/echo", "user@localhost", &[]),
        request("GET", "*", "localhost", &[]),
        block(&[(":method", "CONNECT")]),
        block(&[(":method", "CONNECT"), (":authority", "a")]),
    ];
    for fields in &malformed {
        for end in [END_STREAM, 0] {
            let shown = String::from_utf8_lossy(fields);
            let mut connection = frames::open(gateway.public());
            assert_eq!(outcome(&mut connection, end, fields), Err(frames::PROTOCOL_ERROR), "{shown}");
            // What comes of the body later is nobody's; the next stream is served.
            if end == 0 {
                connection.send(frame(frames::DATA, END_STREAM, 1, b"late"));
            }
            let fields = frames::get("/echo/next", &[]);
            connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 3, &fields));
            let next = frames::until(&mut connection, |frame| frame.kind == frames::HEADERS).unwrap();
            assert_eq!(next.stream, 3, "{shown}");
        }
    }
    let refused = 2 * malformed.len();
    assert!(origin.seen().iter().all(|seen| seen.target == "/echo/next"), "{:?}", origin.seen());
    assert_eq!(origin.count(), refused);
    let line = gateway.logged("/echo");
    assert_eq!((&line["status"], &line["reason"]), (&json!(400), &json!("malformed_request")), "{line}");
    let counted = r#"witgate_exchanges_total{api="",status="400",reason="malformed_request"}"#;
    eventually("all are counted", || gateway.metric(counted) == Some(refused as f64));
}

#[test]
fn what_only_the_gateway_refuses_is_answered() {
    let (gateway, origin) = start();
    let pseudo = |method, scheme| [(":method", method), (":scheme", scheme), (":path", "/echo")];
    let many = [("x", "1"); 101];
    for fields in [
        block(&pseudo("GET", "http")),
        block(&[&pseudo("GET", "ftp")[..], &[(":authority", "a")]].concat()),
        block(&[&pseudo("GET", "http")[..], &[("host", "a, b")]].concat()),
        block(&[(":method", "CONNECT"), (":authority", "a:443")]),
        frames::get("/echo", &many),
    ] {
        let answered = outcome(&mut frames::open(gateway.public()), END_STREAM, &fields);
        assert_eq!(answered, Ok(()), "{}", String::from_utf8_lossy(&fields));
    }
    assert_eq!(origin.count(), 0);
    for (status, reason, times) in
        [(400, "malformed_request", 3.0), (501, "malformed_request", 1.0), (431, "headers_too_large", 1.0)]
    {
        let series = format!(r#"witgate_exchanges_total{{api="",status="{status}",reason="{reason}"}}"#);
        eventually(&series, || gateway.metric(&series) == Some(times));
    }
}

#[test]
fn a_client_that_sends_nothing_but_malformed_requests_is_sent_away() {
    // Case B3, one at a time: it makes the gateway reset.
    let (gateway, _origin) = start();
    let mut connection = frames::open(gateway.public());
    let fields = frames::get("/echo", &[("x", " a")]);
    let goaway = (0..1_000_u32).find_map(|index| {
        let _ = connection.try_send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1 + 2 * index, &fields));
        let ended = frames::until(&mut connection, |frame| {
            matches!(frame.kind, frames::HEADERS | frames::RST_STREAM | frames::GOAWAY)
        });
        ended.filter(|frame| frame.kind == frames::GOAWAY)
    });
    assert_eq!(goaway.map(|frame| frame.code()), Some(frames::ENHANCE_YOUR_CALM));
    gateway.get("/echo").expect(200);
}

#[test]
fn a_length_that_is_not_kept_is_an_error() {
    // Case B6.
    let (gateway, origin) = start();
    let post = |length| {
        block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/echo"),
            (":authority", "a"),
            ("content-length", length),
        ])
    };
    malformed(&gateway, &origin, &post("5"));
    let mut connection = frames::open(gateway.public());
    connection.send(frame(frames::HEADERS, END_HEADERS, 1, &post("3")));
    connection.send(frame(frames::DATA, END_STREAM, 1, b"too long"));
    frames::until(&mut connection, |frame| {
        matches!(frame.kind, frames::RST_STREAM | frames::GOAWAY) || frame.kind == frames::HEADERS
    });
    assert!(origin.seen().is_empty());
    eventually("no upstream left waiting", || origin.open() == 0 || gateway.get("/echo").status == 200);
}

#[test]
fn a_flood_of_resets_ends_the_connection_and_nobody_elses() {
    // Case B1.
    let (gateway, _origin) = start();
    let before = gateway.resident();
    let mut connection = frames::open(gateway.public());
    let fields = frames::get("/echo", &[]);
    let mut cut = false;
    'flood: for batch in 0..500_u32 {
        let mut bytes = Vec::new();
        for index in 0..100 {
            let stream = 1 + 2 * (batch * 100 + index);
            bytes.extend(frame(frames::HEADERS, END_HEADERS | END_STREAM, stream, &fields));
            bytes.extend(frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        if connection.try_send(bytes).is_err() {
            cut = true;
            break 'flood;
        }
    }
    let goaway = frames::until(&mut connection, |frame| frame.kind == frames::GOAWAY);
    assert!(cut || goaway.is_some(), "the flood was taken to its end");
    if let Some(goaway) = goaway {
        assert_eq!(goaway.code(), frames::ENHANCE_YOUR_CALM);
    }
    gateway.get("/echo").expect(200);
    assert!(gateway.resident().saturating_sub(before) < 128 << 20);
}

#[test]
fn endless_continuations_end_the_connection() {
    // Case B2.
    let (gateway, _origin) = start();
    let mut connection = frames::open(gateway.public());
    connection.send(frame(frames::HEADERS, END_STREAM, 1, &frames::get("/echo", &[])));
    let mut broken = false;
    for _ in 0..20_000 {
        if connection.try_send(frame(frames::CONTINUATION, 0, 1, &[])).is_err() {
            broken = true;
            break;
        }
    }
    broken |= frames::until(&mut connection, |frame| frame.kind == frames::GOAWAY).is_some();
    connection.set_timeout(Duration::from_secs(5));
    broken |= connection.closes_within(Duration::from_secs(5));
    assert!(broken);
    gateway.get("/echo").expect(200);
    assert!(gateway.log().lines().len() < 1_000);
}

#[test]
fn resets_that_the_server_is_made_to_send_are_counted() {
    // Case B3.
    let (gateway, _origin) = start();
    let mut connection = frames::open(gateway.public());
    let fields = frames::get("/echo", &[]);
    for index in 0..10_000_u32 {
        let stream = 1 + 2 * index;
        let mut bytes = frame(frames::HEADERS, END_HEADERS, stream, &fields);
        bytes.extend(frame(frames::WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
        if connection.try_send(bytes).is_err() {
            break;
        }
    }
    gateway.get("/echo").expect(200);
    assert!(gateway.resident() < 512 << 20);
}

#[test]
fn frames_of_a_wrong_length_are_told_apart() {
    // RFC 9113, 4.2.
    let (gateway, _origin) = start();
    const PRIORITY: u8 = 0x2;
    for (kind, flags, stream, length) in [
        (PRIORITY, 0, 1, 4),
        (frames::RST_STREAM, 0, 1, 3),
        (frames::SETTINGS, 0, 0, 3),
        (frames::SETTINGS, frames::ACK, 0, 6),
        (frames::PING, 0, 0, 6),
        (frames::WINDOW_UPDATE, 0, 0, 3),
    ] {
        let mut connection = frames::open(gateway.public());
        let fields = frames::get("/echo", &[]);
        connection.send(frame(frames::HEADERS, END_HEADERS, 1, &fields));
        connection.send(frame(kind, flags, stream, &[0; 8][..length]));
        let end = frames::until(&mut connection, |frame| frame.kind == frames::GOAWAY);
        assert_eq!(end.map(|frame| frame.code()), Some(frames::FRAME_SIZE_ERROR), "{kind} of {length}");
    }
}

#[test]
fn a_client_must_not_push() {
    // RFC 9113, 8.4.
    let (gateway, _origin) = start();
    let mut connection = frames::open(gateway.public());
    let promise = [&2_u32.to_be_bytes()[..], &frames::get("/echo", &[])].concat();
    connection.send(frame(frames::PUSH_PROMISE, END_HEADERS, 1, &promise));
    let end = frames::until(&mut connection, |frame| frame.kind == frames::GOAWAY);
    assert_eq!(end.map(|frame| frame.code()), Some(frames::PROTOCOL_ERROR));
}

#[test]
fn header_limits_hold_for_http2() {
    let origin = Origin::mirror();
    let config = echo(&origin, json!([])).set("listeners.0.limits", json!({"header_bytes": "16KiB"}));
    let gateway = setup().start(&config.text());
    let mut client = H2Client::clear(gateway.public());
    let big = "y".repeat(40_000);
    let answer = client.try_ask(Method::GET, "/echo", &[("x-big", &big)], Vec::new());
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431));
    assert_eq!(origin.count(), 0);
}

// --- gRPC

fn grpc(reply: H2Reply, chain: serde_json::Value) -> (Gateway, H2Origin) {
    let origin = H2Origin::start(move |_| reply.clone());
    let config = Config::new()
        .upstream_with("grpc", json!({"endpoints": [origin.url()], "protocol": "http2"}))
        .api(json!({"name": "grpc", "path": "/", "upstream": "grpc", "chain": chain}));
    (setup_with_probe().start(&config.text()), origin)
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

#[test]
fn grpc_calls_keep_their_trailers() {
    let reply = H2Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc".into())],
        chunks: vec![b"\0\0\0\0\x01a".to_vec(), b"\0\0\0\0\x01b".to_vec()],
        trailers: vec![("grpc-status", "0".into()), ("x-more", "1".into())],
    };
    let (gateway, origin) = grpc(reply, json!([]));
    let mut client = H2Client::clear(gateway.public());
    let answer = client.ask(Method::POST, "/pkg.Service/Call", GRPC, b"\0\0\0\0\x01q".to_vec());
    assert_eq!(answer.body, b"\0\0\0\0\x01a\0\0\0\0\x01b");
    assert_eq!((answer.trailer("grpc-status"), answer.trailer("x-more")), (Some("0"), Some("1")));
    let seen = &origin.seen()[0];
    assert_eq!(seen.headers.get("te").unwrap(), "trailers");
    assert_eq!(seen.body, b"\0\0\0\0\x01q");
}

#[test]
fn pseudo_header_fields_in_trailers_reach_no_upstream() {
    // RFC 9113, 8.1: malformed, but h2 drops them.
    let (gateway, origin) = grpc(H2Reply { status: 200, ..H2Reply::default() }, json!([]));
    post_with_trailers(&gateway, &[(":method", "DELETE"), (":path", "/b"), ("x-sum", "1")]);
    let seen = &origin.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str(), seen.body.as_slice()),
        ("POST", "/a", &b"data"[..])
    );
    let names: Vec<_> = seen.trailers.iter().flat_map(|trailers| trailers.keys()).collect();
    assert_eq!(names, ["x-sum"]);
}

/// A POST with these trailers on a connection of its own, up to the end of its answer.
fn post_with_trailers(gateway: &Gateway, trailers: &[(&str, &str)]) -> frames::Frame {
    let mut connection = frames::open(gateway.public());
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "a")];
    connection.send(frame(frames::HEADERS, END_HEADERS, 1, &block(&head)));
    connection.send(frame(frames::DATA, 0, 1, b"data"));
    connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    let is_end = |frame: &frames::Frame| {
        frame.stream == 1 && (frame.kind == frames::RST_STREAM || frame.flags & END_STREAM != 0)
    };
    frames::until(&mut connection, is_end).unwrap()
}

#[test]
fn what_policies_and_the_gateway_judge_in_heads_does_not_come_behind_the_body() {
    // The kind of D2 to D5: an upstream that merges trailers would believe there what was refused here.
    let policy =
        probe(json!({"reads": ["x-role"], "writes": ["x-user", "x-claim-*"], "request": {"do": "pass"}}));
    let (gateway, origin) = grpc(H2Reply { status: 200, ..H2Reply::default() }, json!([policy]));
    post_with_trailers(
        &gateway,
        &[
            ("x-role", "admin"),
            ("x-user", "root"),
            ("x-claim-sub", "root"),
            ("x_user", "root"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-original-url", "/admin"),
            ("authorization", "Basic cm9vdDo="),
            ("cookie", "session=root"),
            ("host", "admin"),
            ("content-length", "4"),
            ("content-type", "text/html"),
            ("x-sum", "1"),
        ],
    );
    let trailers = origin.seen()[0].trailers.clone().unwrap();
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);

    // Who reads all fields has seen none of these.
    let policy = probe(json!({"reads": ["headers:*"], "request": {"do": "pass"}}));
    let (gateway, origin) = grpc(H2Reply { status: 200, ..H2Reply::default() }, json!([policy]));
    post_with_trailers(&gateway, &[("x-sum", "1")]);
    assert!(origin.seen()[0].trailers.clone().unwrap_or_default().is_empty());
}

#[test]
fn white_space_around_a_value_of_trailers_is_malformed_too() {
    // RFC 9113, 8.2.1.
    let (gateway, origin) = grpc(H2Reply { status: 200, ..H2Reply::default() }, json!([]));
    for value in [" 1", "1 ", "\t1"] {
        let end = post_with_trailers(&gateway, &[("x-sum", value)]);
        let seen = origin.seen();
        assert!(seen.iter().all(|seen| seen.trailers.is_none()), "{value:?}: {end:?}, {seen:?}");
    }
    post_with_trailers(&gateway, &[("x-sum", "1 2")]);
    assert!(origin.seen().iter().any(|seen| seen.trailers.is_some()));
}

#[test]
fn what_a_policy_takes_out_of_an_answer_does_not_come_behind_it() {
    let reply = H2Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc".into())],
        chunks: vec![b"\0\0\0\0\x01a".to_vec()],
        trailers: vec![
            ("grpc-status", "0".into()),
            ("x-internal", "secret".into()),
            ("set-cookie", "a=b".into()),
            ("content-length", "6".into()),
            ("x-more", "1".into()),
        ],
    };
    let writes = json!(["x-internal", "grpc-*"]);
    let policy = probe(json!({"reads": [], "writes": writes, "response": {"do": "pass"}}));
    let (gateway, _origin) = grpc(reply, json!([policy]));
    let mut client = H2Client::clear(gateway.public());
    let answer = client.ask(Method::POST, "/pkg.Service/Call", GRPC, b"\0\0\0\0\x01q".to_vec());
    let names: Vec<_> = answer.trailers.iter().flat_map(|trailers| trailers.keys()).collect();
    assert_eq!(names, ["grpc-status", "x-more"]);
}

#[test]
fn a_wish_to_switch_protocols_is_passed_over_and_blames_no_endpoint() {
    let origin = H2Origin::start(|_| H2Reply { status: 200, ..H2Reply::default() });
    let upstream = json!({"endpoints": [origin.url()], "protocol": "http2", "ejection": {"failures": 1}});
    let config = Config::new().upstream_with("up", upstream).simple("up", json!([]));
    let gateway = setup().start(&config.text());
    for _ in 0..10 {
        let wish = Request::get("/up").header("Connection", "upgrade").header("Upgrade", "websocket");
        wish.send(gateway.public()).expect(200);
    }
    assert_eq!(origin.seen().len(), 10);
    assert!(origin.seen().iter().all(|seen| !seen.headers.contains_key("upgrade")));
}

#[test]
fn grpc_trailers_only_answers_are_kept() {
    // Case K5.
    let reply = H2Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc".into()), ("grpc-status", "5".into())],
        ..H2Reply::default()
    };
    let (gateway, _origin) = grpc(reply, json!([]));
    let answer = H2Client::clear(gateway.public()).ask(Method::POST, "/pkg.Service/Call", GRPC, Vec::new());
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("5")));
}

#[test]
fn grpc_callers_are_refused_in_their_own_way() {
    let (gateway, origin) = grpc(
        H2Reply { status: 200, ..H2Reply::default() },
        json!([probe(json!({"request": {"do": "trap"}}))]),
    );
    let answer = H2Client::clear(gateway.public()).ask(Method::POST, "/pkg.Service/Call", GRPC, Vec::new());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status"), Some("14"), "{answer:?}");
    assert!(answer.body.is_empty());
    assert!(origin.seen().is_empty());
}

#[test]
fn a_policys_refusal_reaches_grpc_callers_as_a_grpc_status() {
    let never = json!({"allow": ["192.0.2.1/32"]});
    let (gateway, origin) = grpc(
        H2Reply { status: 200, ..H2Reply::default() },
        json!([{"plugin": "ip-filter", "config": never}]),
    );
    let answer = H2Client::clear(gateway.public()).ask(Method::POST, "/pkg.Service/Call", GRPC, Vec::new());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status"), Some("7"), "{answer:?}");
    assert!(answer.header("grpc-message").is_some() && answer.body.is_empty(), "{answer:?}");
    assert!(origin.seen().is_empty());
    // To anybody else it is what the policy made of it.
    Request::get("/pkg.Service/Call").send(gateway.public()).expect(403);
}

#[test]
fn the_preface_in_single_bytes_is_understood() {
    let (gateway, _origin) = start();
    let mut connection = Connection::open(gateway.public());
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        connection.send([*byte]);
    }
    connection.send(frame(frames::SETTINGS, 0, 0, &[]));
    assert!(frames::until(&mut connection, |frame| frame.kind == frames::SETTINGS).is_some());
    // And what only begins like it is refused.
    let mut connection = Connection::open(gateway.public());
    connection.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    connection.read_to_close();
    Request::get("/echo").send(gateway.public()).expect(200);
}
