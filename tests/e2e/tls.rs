//! TLS: certificates by SNI, reloaded when files change; client certificates; ALPN; bad files.

use crate::fixture::{Config, assert_contains, probe, setup, setup_with_probe};
use serde_json::{Value, json};
use witgate_test_support::certs::{Authority, Certified};
use witgate_test_support::client::{certificate_of, tls, try_tls};
use witgate_test_support::http2::H2Client;
use witgate_test_support::{Origin, Reply, Request, Setup, eventually};

fn files(setup: Setup, name: &str, certified: &Certified) -> Setup {
    setup
        .file(&format!("certs/{name}.pem"), &certified.cert)
        .file(&format!("certs/{name}.key"), &certified.key)
}

fn listener(certificates: Value, client_auth: Value) -> Value {
    let mut tls = json!({"certificates": certificates});
    if !client_auth.is_null() {
        tls["client_auth"] = client_auth;
    }
    json!([{"name": "public", "address": "127.0.0.1:0"}, {"name": "tls", "address": "127.0.0.1:0", "tls": tls}])
}

fn certificate(name: &str, hosts: &[&str]) -> Value {
    let mut certificate = json!({"cert": format!("certs/{name}.pem"), "key": format!("certs/{name}.key")});
    if !hosts.is_empty() {
        certificate["hosts"] = json!(hosts);
    }
    certificate
}

fn config(origin: &Origin, certificates: Value, client_auth: Value) -> Config {
    Config::new()
        .set("listeners", listener(certificates, client_auth))
        .upstream("up", origin)
        .api(json!({"name": "all", "path": "/", "upstream": "up"}))
}

#[test]
fn requests_are_served_over_tls() {
    let (authority, origin) = (Authority::default(), Origin::mirror());
    let config = config(&origin, json!([certificate("a", &[])]), Value::Null);
    let gateway = files(setup(), "a", &authority.server(&["localhost"])).start(&config.text());
    let answer = Request::get("/x").send_tls(gateway.address("tls"), "localhost", &authority).expect(200);
    assert_eq!(answer.json()["headers"]["x-forwarded-proto"], json!(["https"]));
    let mut client = H2Client::tls(gateway.address("tls"), "localhost", authority.client_h2());
    assert_eq!(client.get("/x").status, 200);
}

#[test]
fn sni_chooses_the_certificate() {
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let (a, w, other) = (
        authority.server(&["a.example.com"]),
        authority.server(&["*.example.com"]),
        authority.server(&["other.test", "localhost"]),
    );
    let certificates = json!([
        certificate("other", &[]),
        certificate("w", &["*.example.com"]),
        certificate("a", &["a.example.com"]),
    ]);
    let setup = files(files(files(setup(), "a", &a), "w", &w), "other", &other);
    let gateway = setup.start(&config(&origin, certificates, Value::Null).text());
    let shown = |name: &str| certificate_of(gateway.address("tls"), name, authority.client(None));
    assert_eq!(shown("a.example.com"), a.chain()[0].to_vec());
    assert_eq!(shown("A.Example.COM"), a.chain()[0].to_vec());
    assert_eq!(shown("b.example.com"), w.chain()[0].to_vec());
    assert_eq!(shown("other.test"), other.chain()[0].to_vec());
}

#[test]
fn certificates_are_reloaded_when_their_files_change() {
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let (old, new) = (authority.server(&["localhost"]), authority.server(&["localhost"]));
    let config = config(&origin, json!([certificate("a", &[])]), Value::Null);
    let gateway = files(setup(), "a", &old).start(&config.text());
    let shown = || certificate_of(gateway.address("tls"), "localhost", authority.client(None));
    assert_eq!(shown(), old.chain()[0].to_vec());
    let mut open = tls(gateway.address("tls"), "localhost", authority.client(None));

    // Case L4: between the two writes certificate and key do not fit; the old pair stays.
    let mark = gateway.log().mark();
    gateway.write_file("certs/a.pem", &new.cert);
    gateway.log().wait_for(mark, "reload refused");
    assert_eq!(shown(), old.chain()[0].to_vec());
    gateway.write_file("certs/a.key", &new.key);
    eventually("the new certificate", || shown() == new.chain()[0].to_vec());
    Request::get("/").send_on(&mut open).expect(200);

    // Half a file, garbage: the last good pair stays.
    let mark = gateway.log().mark();
    gateway.write_file("certs/a.pem", &new.cert[..new.cert.len() / 2]);
    gateway.log().wait_for(mark, "reload refused");
    assert_eq!(shown(), new.chain()[0].to_vec());
}

#[test]
fn client_certificates_are_required_or_optional() {
    let (authority, clients, origin) = (Authority::default(), Authority::new("clients"), Origin::mirror());
    let strangers = Authority::new("strangers");
    let start = |mode: &str| {
        let auth = json!({"ca": "certs/clients.pem", "mode": mode});
        let see = probe(json!({
            "reads": ["client:cert-subject", "client:cert-fingerprint", "tls:sni"], "writes": ["x-seen-*"],
            "request": {"do": "echo", "prefix": "x-seen-"},
        }));
        let config = Config::new()
            .set("listeners", listener(json!([certificate("a", &[])]), auth))
            .upstream("up", &origin)
            .api(json!({"name": "all", "path": "/", "upstream": "up", "chain": [see]}));
        files(setup_with_probe(), "a", &authority.server(&["localhost"]))
            .file("certs/clients.pem", clients.pem())
            .start(&config.text())
    };
    let ask = |gateway: &witgate_test_support::Gateway, certificate: Option<&Certified>| {
        let mut connection =
            try_tls(gateway.address("tls"), "localhost", authority.client(certificate)).ok()?;
        connection.try_send(Request::get("/").bytes()).ok()?;
        connection.try_answer(false).ok()
    };
    let (anna, stranger) = (clients.client_certificate("anna"), strangers.client_certificate("anna"));

    let gateway = start("required");
    assert!(ask(&gateway, None).is_none());
    assert!(ask(&gateway, Some(&stranger)).is_none());
    let headers = ask(&gateway, Some(&anna)).unwrap().expect(200).json()["headers"].clone();
    assert_contains(&headers["x-seen-0"], "anna");
    assert_eq!(headers["x-seen-1"][0].as_str().unwrap().len(), 64);
    assert_eq!(headers["x-seen-2"], json!(["localhost"]));

    let gateway = start("optional");
    let headers = ask(&gateway, None).unwrap().expect(200).json()["headers"].clone();
    assert_eq!(headers["x-seen-0"], json!(["(none)"]));
    assert!(ask(&gateway, Some(&stranger)).is_none());
    ask(&gateway, Some(&anna)).unwrap().expect(200);
}

#[test]
fn bad_certificate_files_refuse_the_configuration() {
    // Case L3.
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let (a, b) = (authority.server(&["localhost"]), authority.server(&["localhost"]));
    let plain = config(&origin, json!([certificate("a", &[])]), Value::Null).text();
    let auth = json!({"ca": "certs/ca.pem", "mode": "required"});
    let mutual = config(&origin, json!([certificate("a", &[])]), auth).text();
    let mismatch = setup().file("certs/a.pem", &a.cert).file("certs/a.key", &b.key);
    let garbage = setup().file("certs/a.pem", "garbage").file("certs/a.key", &a.key);
    let empty = setup().file("certs/a.pem", "").file("certs/a.key", "");
    for (what, setup, text) in [
        ("missing", setup(), &plain),
        ("mismatch", mismatch, &plain),
        ("garbage", garbage, &plain),
        ("empty", empty, &plain),
        ("no CA", files(setup(), "a", &a), &mutual),
        ("garbage CA", files(setup(), "a", &a).file("certs/ca.pem", "garbage"), &mutual),
        ("empty CA", files(setup(), "a", &a).file("certs/ca.pem", ""), &mutual),
    ] {
        let refused = setup.try_start(text);
        let Err(refused) = refused else { panic!("{what}: it started") };
        assert_contains(&refused.text, "certs/");
    }
}

#[test]
fn a_slow_or_broken_handshake_stops_nobody() {
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let config = config(&origin, json!([certificate("a", &[])]), Value::Null);
    let gateway = files(setup(), "a", &authority.server(&["localhost"])).start(&config.text());
    let address = gateway.address("tls");
    let silent: Vec<_> = (0..50).map(|_| witgate_test_support::Connection::open(address)).collect();
    let mut half = witgate_test_support::Connection::open(address);
    half.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    let mut plain = witgate_test_support::Connection::open(address);
    plain.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    for _ in 0..5 {
        let start = std::time::Instant::now();
        Request::get("/").send_tls(address, "localhost", &authority).expect(200);
        assert!(start.elapsed() < std::time::Duration::from_secs(2));
    }
    drop(silent);
}

#[test]
fn a_hello_in_single_bytes_is_understood() {
    // Case L5.
    use std::io::{Read, Write};
    struct Dribble(std::net::TcpStream);
    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Dribble {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(1)])
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let (authority, origin) = (Authority::default(), Origin::named("up"));
    let config = config(&origin, json!([certificate("a", &[])]), Value::Null);
    let gateway = files(setup(), "a", &authority.server(&["localhost"])).start(&config.text());
    let tcp = std::net::TcpStream::connect(gateway.address("tls")).unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(authority.client(None), name).unwrap();
    let mut dribble = Dribble(tcp.try_clone().unwrap());
    session.complete_io(&mut dribble).unwrap();
    let stream = rustls::StreamOwned::new(session, dribble);
    let mut connection = witgate_test_support::Connection::over(Box::new(stream), tcp);
    Request::get("/").send_on(&mut connection).expect(200);
}

#[test]
fn upstreams_are_reached_over_tls_and_checked() {
    let (authority, strangers) = (Authority::default(), Authority::new("strangers"));
    let certified = authority.server(&["127.0.0.1", "up.test"]);
    let origin = Origin::start_tls(certified.server_config(), |_| Reply::ok("secret"));
    let ask = |tls: Value, ca: &Authority| {
        let config = Config::new()
            .upstream_with("up", json!({"endpoints": [origin.url()], "tls": tls}))
            .api(json!({"name": "all", "path": "/", "upstream": "up"}));
        setup().file("certs/ca.pem", ca.pem()).start(&config.text()).get("/").status
    };
    assert_eq!(ask(json!({"ca": "certs/ca.pem"}), &authority), 200);
    assert_eq!(ask(json!({"ca": "certs/ca.pem", "server_name": "up.test"}), &authority), 200);
    assert_eq!(ask(json!({"ca": "certs/ca.pem"}), &strangers), 502);
    assert_eq!(ask(json!({"ca": "certs/ca.pem", "server_name": "other.test"}), &authority), 502);
    assert_eq!(ask(json!({}), &authority), 502);
}

#[test]
fn an_expired_certificate_of_an_upstream_is_refused() {
    let authority = Authority::default();
    let origin =
        Origin::start_tls(authority.expired(&["127.0.0.1"]).server_config(), |_| Reply::ok("secret"));
    let config = Config::new()
        .upstream_with("up", json!({"endpoints": [origin.url()], "tls": {"ca": "certs/ca.pem"}}))
        .api(json!({"name": "all", "path": "/", "upstream": "up"}));
    let gateway = setup().file("certs/ca.pem", authority.pem()).start(&config.text());
    gateway.get("/").expect_problem(502, "connect_failed");
}
