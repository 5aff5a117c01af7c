//! WebSocket and other upgrades: after the request hooks, byte for byte, both ways.

use crate::fixture::{Config, echo, probe, setup, setup_with_probe};
use serde_json::json;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use witgate_test_support::origin::say;
use witgate_test_support::{Connection, Origin, Reply, Request, eventually};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Version: 13\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An unmasked Close with 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// Greets in the same segment as the 101, then echoes.
fn echoing() -> Origin {
    Origin::start(|seen| {
        if seen.header("upgrade").is_none() {
            return Reply::ok("no upgrade");
        }
        Reply::drive(|stream| {
            say(stream, format!("{SWITCH}hello first"))?;
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => say(stream, &buffer[..read])?,
                }
            }
        })
    })
}

fn upgrade(connection: &mut Connection, path: &str) -> witgate_test_support::Answer {
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n"));
    connection.try_answer(false).unwrap()
}

#[test]
fn a_websocket_passes_from_its_first_byte() {
    // Case K6.
    let origin = echoing();
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let mut connection = gateway.connect();
    let answer = upgrade(&mut connection, "/echo/ws");
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(connection.read_bytes(11), b"hello first");
    let seen = origin.only();
    assert!(seen.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    for length in [1, 100, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|index| (index % 256) as u8).collect();
        connection.send(&bytes);
        assert!(connection.read_bytes(length) == bytes);
    }
    connection.finish();
    assert!(connection.closes_within(Duration::from_secs(10)));
    eventually("the upstream's end", || origin.open() == 0);
    assert_eq!(gateway.logged("/echo/ws")["status"], 101);
}

#[test]
fn a_policy_refuses_an_upgrade_like_any_request() {
    let origin = echoing();
    let deny = probe(json!({"request": {"do": "reply", "status": 403}}));
    let gateway = setup_with_probe().start(&echo(&origin, json!([deny])).text());
    assert_eq!(upgrade(&mut gateway.connect(), "/echo").status, 403);
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_upstream_may_decline_to_switch() {
    let origin = Origin::named("plain");
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let mut connection = gateway.connect();
    assert_eq!(upgrade(&mut connection, "/echo").status, 200);
    // Still HTTP: the next request on this connection is one.
    if !connection.closes_within(Duration::from_millis(100)) {
        Request::get("/echo").send_on(&mut connection).expect(200);
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_not_passed_on() {
    let origin = Origin::start(|_| Reply::raw(SWITCH));
    let gateway = setup().start(&echo(&origin, json!([])).text());
    gateway.get("/echo").expect(502);
}

#[test]
fn tunnels_end_with_either_side() {
    let origin = Origin::start(|_| Reply::drive(|stream| say(stream, format!("{SWITCH}bye"))));
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let mut connection = gateway.connect();
    assert_eq!(upgrade(&mut connection, "/echo").status, 101);
    assert_eq!(connection.read_to_close(), b"bye");

    let origin = echoing();
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let mut connection = gateway.connect();
    assert_eq!(upgrade(&mut connection, "/echo").status, 101);
    connection.reset();
    eventually("the upstream's end", || origin.open() == 0);
}

/// Greets, then hands on what it gets to the test and says what it is told.
fn scripted() -> (Origin, mpsc::Sender<&'static [u8]>, mpsc::Receiver<Vec<u8>>) {
    let (say_this, to_say) = mpsc::channel::<&'static [u8]>();
    let (heard, hear) = mpsc::channel();
    let to_say = Arc::new(Mutex::new(to_say));
    let origin = Origin::start(move |_| {
        let (to_say, heard) = (to_say.clone(), heard.clone());
        Reply::drive(move |stream| {
            say(stream, format!("{SWITCH}\u{1}\u{2}hi"))?;
            for bytes in to_say.lock().unwrap().iter() {
                say(stream, bytes)?;
            }
            let _ = heard.send(witgate_test_support::origin::drain(stream)?);
            Ok(())
        })
    });
    (origin, say_this, hear)
}

#[test]
fn o3_an_idle_websocket_is_told_1001_and_counted() {
    let (origin, say_this, hear) = scripted();
    drop(say_this);
    let config: Config = echo(&origin, json!([])).set("server.drain", json!("10m"));
    let gateway = setup().start(&config.text());
    let mut connection = gateway.connect();
    assert_eq!(upgrade(&mut connection, "/echo").status, 101);
    assert_eq!(connection.read_bytes(4), b"\x01\x02hi");
    gateway.terminate();
    assert_eq!(connection.read_bytes(4), GOING_AWAY);
    // Counted: the gateway waits for the answer, and hands it on.
    let answer = b"\x88\x82mask\x6e\x88";
    connection.send(answer);
    assert_eq!(connection.read_to_close(), b"");
    assert_eq!(hear.recv().unwrap(), answer);
    assert!(gateway.wait().success());
}

#[test]
fn o3_a_close_comes_between_two_frames() {
    let (origin, say_this, _hear) = scripted();
    let config: Config = echo(&origin, json!([])).set("server.drain", json!("10m"));
    let gateway = setup().start(&config.text());
    let mut connection = gateway.connect();
    assert_eq!(upgrade(&mut connection, "/echo").status, 101);
    assert_eq!(connection.read_bytes(4), b"\x01\x02hi");
    say_this.send(b"\x80\x05hal").unwrap();
    assert_eq!(connection.read_bytes(5), b"\x80\x05hal");
    gateway.terminate();
    eventually("the drain", || std::net::TcpStream::connect(gateway.public()).is_err());
    say_this.send(b"f.\x81\x03too late").unwrap();
    assert_eq!(connection.read_bytes(6), [b"f.", &GOING_AWAY[..]].concat());
    // A client that does not answer has a grace, and then it is over.
    assert_eq!(connection.read_to_close(), b"");
    assert!(gateway.wait().success());
}

#[test]
fn tunnels_count_among_the_connections() {
    let origin = echoing();
    let config = echo(&origin, json!([])).set("listeners.0.limits", json!({"connections": 3}));
    let gateway = setup().start(&config.text());
    let mut held: Vec<Connection> = (0..3).map(|_| gateway.connect()).collect();
    for connection in &mut held {
        assert_eq!(upgrade(connection, "/echo").status, 101);
        connection.read_bytes(11);
    }
    assert!(gateway.connect().closes_within(Duration::from_secs(5)));
    held.pop();
    eventually("room again", || {
        let mut connection = gateway.connect();
        let _ = connection.try_send(Request::get("/echo").bytes());
        connection.try_answer(false).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn k6_the_first_frames_of_both_sides_arrive() {
    // The upstream's comes in one segment with its 101, the client's before it.
    let origin = Origin::start_early(|_| {
        Reply::drive(|stream| {
            say(stream, format!("{SWITCH}\u{1}\u{2}hi"))?;
            let mut heard = [0; 9];
            stream.read_exact(&mut heard)?;
            say(stream, heard)
        })
    });
    let gateway = setup().start(&echo(&origin, json!([])).text());
    for _ in 0..20 {
        let mut connection = gateway.connect();
        assert_eq!(upgrade(&mut connection, "/echo").status, 101);
        assert_eq!(connection.read_bytes(4), b"\x01\x02hi");
        connection.send(b"\x81\x83maskabc");
        assert_eq!(connection.read_to_close(), b"\x81\x83maskabc");
    }
}

#[test]
fn a_tunnel_does_not_hold_up_a_shutdown() {
    // Case O3.
    let origin = echoing();
    let config: Config = echo(&origin, json!([])).set("server.drain", json!("1s"));
    let gateway = setup().start(&config.text());
    let mut connection = gateway.connect();
    assert_eq!(upgrade(&mut connection, "/echo").status, 101);
    assert!(gateway.stop().success());
}
