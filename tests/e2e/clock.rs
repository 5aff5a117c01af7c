//! The wall clock is set while the gateway runs: what goes by it follows at once, and all else does
//! not notice.

use crate::fixture::{
    Config, assert_contains, assert_lacks, echo, jwt, key_hash, probe, setup, setup_with_probe,
};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::json;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use witgate_test_support::certs::Authority;
use witgate_test_support::{
    Answer, Connection, Gateway, Origin, PATIENCE, Reply, Request, WallClock, eventually, tokens,
};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const YEAR: i64 = 365 * 24 * HOUR;
const KEY: &str = "wg_clock_key";

/// Off by so much: to and fro, where 32 bits end, and from the first to the last year that Linux lets
/// anybody set.
fn steps() -> [i64; 7] {
    let now = i64::try_from(tokens::now()).unwrap();
    [HOUR, -HOUR, 13 * YEAR, 100 * YEAR, 200 * YEAR, MINUTE - now, 0]
}

fn start(config: &Config) -> (Gateway, WallClock) {
    let (setup, clock) = WallClock::of(setup_with_probe());
    (setup.start(&config.text()), clock)
}

#[test]
fn requests_under_way_and_all_that_waits_take_no_notice() {
    let ((arrive, arrived), (release, released)) = (channel(), channel());
    let held = Mutex::new((arrive, released));
    let origin = Origin::start(move |seen| {
        if seen.target.ends_with("/held") {
            let (arrive, released) = &*held.lock().unwrap();
            arrive.send(()).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
        }
        Reply::ok("whole")
    });
    let config = echo(&origin, json!([probe(json!({"reads": [], "request": {"do": "pass"}}))]))
        .set("upstreams.echo.timeouts", json!({"response": "1m", "idle": "1m"}));
    let (gateway, clock) = start(&config);
    let mut idle = gateway.connect();
    for off in steps() {
        let mut held = gateway.connect();
        held.send(Request::get("/echo/held").bytes());
        arrived.recv_timeout(PATIENCE).unwrap();
        clock.set_off(off);
        idle.send(Request::get("/echo/idle").bytes());
        assert_eq!(idle.try_answer(false).unwrap().text(), "whole", "off by {off} s");
        assert_eq!(gateway.get("/echo/new").expect(200).text(), "whole", "off by {off} s");
        release.send(()).unwrap();
        assert_eq!(held.try_answer(false).unwrap().text(), "whole", "off by {off} s");
        let uptime = gateway.metric("witgate_uptime_seconds").unwrap();
        assert!((0.0..1e6).contains(&uptime), "up for {uptime} s, off by {off} s");
    }
    eventually("the log", || gateway.access_log("/echo/new").len() == steps().len());
    for path in ["/echo/held", "/echo/idle", "/echo/new"] {
        for entry in gateway.access_log(path) {
            let micros = entry["total_us"].as_f64().unwrap();
            assert!((0.0..1e9).contains(&micros), "{entry}");
        }
    }
    assert_lacks(gateway.log().text(), "panicked");
}

#[test]
fn tokens_are_judged_by_the_clock_as_it_stands() {
    let origin = Origin::named("a");
    let (gateway, clock) = start(&echo(&origin, json!([jwt(json!({}))])));
    let now = tokens::now();
    let (from, to) = (now.saturating_sub(60), now + 600);
    let token = tokens::RSA.sign(&json!({"iss": "https://id.test", "aud": "api", "nbf": from, "exp": to}));
    let ask = || gateway.send(Request::get("/echo").bearer(&token)).status;
    for (off, status) in [(0, 200), (HOUR, 401), (0, 200), (-HOUR, 401), (200 * YEAR, 401), (0, 200)] {
        clock.set_off(off);
        assert_eq!(ask(), status, "off by {off} s");
    }
}

#[test]
fn a_subscription_ends_when_the_clock_says_so() {
    let origin = Origin::named("a");
    let keys = json!([{"keys": [key_hash(KEY)], "product": "starter", "expires": "2199-01-01T00:00:00Z"}]);
    let config = echo(&origin, json!([{"plugin": "api-key"}]))
        .set("products", json!([{"name": "starter", "apis": ["echo"]}]))
        .set("consumers", json!([{"name": "mobile", "subscriptions": keys}]));
    let (gateway, clock) = start(&config);
    let ask = || gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", KEY)).status;
    for (off, status) in [(0, 200), (200 * YEAR, 403), (-HOUR, 200)] {
        clock.set_off(off);
        assert_eq!(ask(), status, "off by {off} s");
    }
}

#[test]
fn a_rate_limit_goes_by_a_clock_that_nobody_sets() {
    let origin = Origin::named("a");
    let limit = json!({"plugin": "rate-limit", "config": {"requests": 2, "per": "1h", "by": "client"}});
    let (gateway, clock) = start(&echo(&origin, json!([limit])));
    gateway.get("/echo").expect(200);
    gateway.get("/echo").expect(200);
    for off in steps() {
        clock.set_off(off);
        let refused = gateway.get("/echo").expect(429);
        let wait: i64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=HOUR).contains(&wait), "{wait} s, off by {off} s");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_quota_follows_the_calendar() {
    let origin = Origin::named("a");
    let config = echo(&origin, json!([{"plugin": "api-key"}]))
        .set(
            "products",
            json!([{"name": "starter", "apis": ["echo"], "quota": {"requests": 2, "per": "1h"}}]),
        )
        .set(
            "consumers",
            json!([{"name": "mobile", "subscriptions": [{"product": "starter", "keys": [key_hash(KEY)]}]}]),
        );
    let (gateway, clock) = start(&config);
    let ask = || gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", KEY));
    // In the middle of an hour, so that the test's own seconds change nothing.
    let half_past = HOUR / 2 - i64::try_from(tokens::now()).unwrap() % HOUR;
    clock.set_off(half_past);
    assert_eq!([ask().status, ask().status, ask().status], [200, 200, 429]);
    clock.set_off(half_past + HOUR);
    assert_eq!([ask().status, ask().status, ask().status], [200, 200, 429]);
    // A little back: the hour that has begun goes on, nobody is given another.
    clock.set_off(half_past);
    let refused = ask().expect(429);
    let wait: i64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((HOUR..2 * HOUR).contains(&wait), "{wait}");
    // Far back: nobody waits for an hour that is long to come.
    clock.set_off(half_past - 10 * HOUR);
    assert_eq!([ask().status, ask().status, ask().status], [200, 200, 429]);
}

/// Everything goes to `origin`, over a listener with this `tls`.
fn over_tls(tls: &serde_json::Value, origin: &Origin) -> Config {
    Config::new()
        .set("listeners", json!([{"name": "tls", "address": "127.0.0.1:0", "tls": tls}]))
        .upstream("a", origin)
        .api(json!({"name": "all", "path": "/", "upstream": "a"}))
}

/// One request over TLS, with how the handshake went.
fn shake_hands(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<(HandshakeKind, Answer)> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
    session.complete_io(&mut tcp)?;
    let kind = session.handshake_kind().unwrap();
    let socket = tcp.try_clone()?;
    let mut connection = Connection::over(Box::new(rustls::StreamOwned::new(session, tcp)), socket);
    connection.try_send(Request::get("/").bytes())?;
    Ok((kind, connection.try_answer(false)?))
}

#[test]
fn a_session_ends_with_the_certificate_that_began_it() {
    let (authority, clients, origin) = (Authority::default(), Authority::new("clients"), Origin::named("a"));
    let certificate = authority.server(&["localhost"]);
    let tls = json!({
        "certificates": [{"cert": "a.pem", "key": "a.key"}],
        "client_auth": {"ca": "clients.pem", "mode": "optional"},
    });
    let config = over_tls(&tls, &origin);
    let (setup, clock) = WallClock::of(setup());
    let setup = setup.file("a.pem", &certificate.cert).file("a.key", &certificate.key);
    let gateway = setup.file("clients.pem", clients.pem()).start(&config.text());
    let address = gateway.address("tls");

    let anna = clients.client_certificate_for("anna", Duration::from_secs(3_600));
    let (anna, nobody) = (authority.client(Some(&anna)), authority.client(None));
    for client in [&anna, &nobody] {
        assert_eq!(shake_hands(address, client).unwrap().0, HandshakeKind::Full);
        assert_eq!(shake_hands(address, client).unwrap().0, HandshakeKind::Resumed);
    }
    // Well within the time of a ticket.
    clock.set_off(HOUR + 10 * MINUTE);
    let late = shake_hands(address, &anna);
    assert!(late.is_err(), "a session outlived its certificate: {late:?}");
    assert_eq!(shake_hands(address, &nobody).unwrap().0, HandshakeKind::Resumed);
    for off in steps() {
        clock.set_off(off);
        assert_eq!(shake_hands(address, &nobody).unwrap().1.status, 200, "off by {off} s");
    }
    assert_eq!(shake_hands(address, &anna).unwrap().1.status, 200);
    assert_lacks(gateway.log().text(), "panicked");
}

#[test]
fn a_certificate_that_expires_in_use_stays_and_holds_up_no_other_change() {
    let (authority, origin) = (Authority::default(), Origin::named("a"));
    let certificate = authority.server_between(&["localhost"], 2020, 2100);
    let tls = json!({"certificates": [{"cert": "a.pem", "key": "a.key"}]});
    let config = over_tls(&tls, &origin);
    let (setup, clock) = WallClock::of(setup());
    let setup = setup.file("a.pem", &certificate.cert).file("a.key", &certificate.key);
    let gateway = setup.start(&config.text());
    let expiry = || gateway.metric("witgate_certificate_expiry_seconds{listener=\"tls\"}");
    eventually("the first of January 2100", || expiry() == Some(4_102_444_800.0));

    let client = authority.client(None);
    for (off, path) in [(100 * YEAR, "/late"), (-10 * YEAR, "/early")] {
        clock.set_off(off);
        let text = config.clone().api(json!({"name": "new", "path": path, "upstream": "a"})).text();
        gateway.reload(&text);
        assert_eq!(shake_hands(gateway.address("tls"), &client).unwrap().1.status, 200);
    }
    // One that does not serve yet is judged.
    let other = authority.server_between(&["localhost"], 2019, 2100);
    gateway.write_file("b.pem", &other.cert);
    gateway.write_file("b.key", &other.key);
    clock.set_off(100 * YEAR);
    let text = config.text().replace("a.pem", "b.pem").replace("a.key", "b.key");
    assert_contains(gateway.reload_refused(&text), "reload refused");
    assert_contains(gateway.log().text(), "expired on");
}
