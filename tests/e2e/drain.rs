//! Shutdown: what is in flight ends whole, what is idle ends at once, and there is a bound.

use crate::fixture::{Config, echo, setup};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use witgate_test_support::frames::{self, END_HEADERS, END_STREAM, frame};
use witgate_test_support::origin::say;
use witgate_test_support::{Gateway, Origin, Reply, Request, eventually};

/// `/slow` waits for a word before it ends its answer.
fn waiting() -> (Origin, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let origin = Origin::start(move |seen| {
        if !seen.target.ends_with("slow") {
            return Reply::ok("quick");
        }
        let wait = wait.clone();
        Reply::drive(move |stream| {
            say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nslow")?;
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(30));
            say(stream, "slow")
        })
    });
    (origin, go)
}

fn start(origin: &Origin, drain: &str) -> Gateway {
    let config: Config = echo(origin, json!([])).set("server.drain", json!(drain));
    setup().start(&config.text())
}

fn no_longer_accepts(gateway: &Gateway) -> bool {
    let Ok(stream) = TcpStream::connect(gateway.public()) else { return true };
    // The kernel may have taken it before the socket closed; then nobody answers.
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    matches!(std::io::Read::read(&mut &stream, &mut [0]), Ok(0))
}

#[test]
fn what_is_in_flight_ends_whole() {
    let (origin, go) = waiting();
    let gateway = start(&origin, "20s");
    let mut slow = gateway.connect();
    slow.send(Request::get("/echo/slow").bytes());
    eventually("the slow request", || origin.count() == 1);
    gateway.terminate();
    eventually("no new connections", || no_longer_accepts(&gateway));
    go.send(()).unwrap();
    let answer = slow.answer().expect(200);
    assert_eq!((answer.text().as_str(), answer.complete), ("slowslow", true));
    assert!(slow.closes_within(Duration::from_secs(5)));
    assert!(gateway.wait().success());
}

#[test]
fn idle_connections_end_at_once() {
    // Case O1.
    let (origin, _go) = waiting();
    // Longer than a test waits for a gateway's end.
    let gateway = start(&origin, "10m");
    let mut idle = gateway.connect();
    Request::get("/echo").send_on(&mut idle).expect(200);
    let untouched = gateway.connect();
    assert!(gateway.stop().success());
    drop(untouched);
}

#[test]
fn the_drain_has_an_end() {
    let (origin, _go) = waiting();
    let gateway = start(&origin, "1s");
    let mut slow = gateway.connect();
    slow.send(Request::get("/echo/slow").bytes());
    eventually("the slow request", || origin.count() == 1);
    gateway.stop();
    assert!(!slow.answer().complete);
}

#[test]
fn o2_http2_clients_are_told_to_go_away_and_get_all_that_they_asked() {
    const STREAMS: u32 = 50;
    let (origin, go) = waiting();
    let gateway = start(&origin, "20s");
    let mut connection = frames::open(gateway.public());
    let fields = frames::get("/echo/slow", &[]);
    let streams: Vec<u32> = (0..STREAMS).map(|index| 1 + 2 * index).collect();
    for stream in &streams {
        connection.send(frame(frames::HEADERS, END_HEADERS | END_STREAM, *stream, &fields));
    }
    eventually("the slow requests", || origin.count() == streams.len());
    gateway.terminate();
    eventually("no new connections", || no_longer_accepts(&gateway));
    for _ in &streams {
        go.send(()).unwrap();
    }
    let (mut bodies, mut ended, mut told) = (HashMap::<u32, Vec<u8>>::new(), HashSet::new(), false);
    while ended.len() < streams.len() {
        let frame = frames::next(&mut connection).expect("the streams end before the connection");
        match frame.kind {
            frames::GOAWAY => {
                assert_eq!(frame.code(), 0);
                told = true;
            }
            // The gateway asks whether more is on its way before it says what it takes.
            frames::PING if frame.flags & frames::ACK == 0 => {
                connection.send(frames::frame(frames::PING, frames::ACK, 0, &frame.payload));
            }
            frames::DATA => bodies.entry(frame.stream).or_default().extend_from_slice(&frame.payload),
            frames::RST_STREAM => panic!("{frame:?}"),
            _ => {}
        }
        if matches!(frame.kind, frames::DATA | frames::HEADERS) && frame.flags & END_STREAM != 0 {
            ended.insert(frame.stream);
        }
    }
    assert!(told);
    assert!(streams.iter().all(|stream| bodies[stream] == b"slowslow"), "{bodies:?}");
    assert!(gateway.wait().success());
}

#[test]
fn readiness_ends_before_service_does() {
    let (origin, go) = waiting();
    let gateway = start(&origin, "20s");
    assert_eq!(gateway.admin("/readyz").status, 200);
    let mut slow = gateway.connect();
    slow.send(Request::get("/echo/slow").bytes());
    eventually("the slow request", || origin.count() == 1);
    gateway.terminate();
    let admin = gateway.address("admin");
    eventually("not ready", || match TcpStream::connect(admin) {
        Ok(_) => Request::get("/readyz").send(admin).status == 503,
        Err(_) => true,
    });
    go.send(()).unwrap();
    assert!(slow.answer().complete);
    assert!(gateway.wait().success());
}
