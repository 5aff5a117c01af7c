//! Real sockets against `Connections`: raw bytes, HTTP/2 frames, time-outs, drain.

mod http1;
mod http2;

use super::*;
use crate::listener::{
    CertificateSettings, Counters, Drain, DrainControl, Listener, Settings, Tls, TlsSettings, accept,
};
use crate::message::forwarded::{ForwardedCache, Scheme};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a request asks of `Echo`, by path.
///
/// `/`: reads the body, answers with method, target and body. `/early`: answers 413 at once.
/// `/wait`: answers when told. `/endless`: a body that never ends. `/upgrade`: echoes a tunnel.
#[derive(Clone)]
struct Echo(Rc<Seen>);

#[derive(Default)]
struct Seen {
    requests: RefCell<Vec<String>>,
    refused: RefCell<Vec<Fault>>,
    release: Notify,
    waiting: Cell<usize>,
    most_waiting: Cell<usize>,
    dropped: Cell<usize>,
    drain: RefCell<Option<Drain>>,
}

/// Counts an exchange that was given up.
struct Waiting<'a>(&'a Seen, bool);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        self.0.dropped.set(self.0.dropped.get() + usize::from(!self.1));
    }
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = crate::message::body::BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))))
    }
}

impl Service for Echo {
    fn call(
        &self,
        _: &Rc<Peer>,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + 'static + use<> {
        let seen = Rc::clone(&self.0);
        let head = format!("{} {}", request.method(), request.uri());
        seen.requests.borrow_mut().push(head.clone());
        async move {
            let mut response = Response::new(Body::Empty);
            match request.uri().path() {
                "/early" => *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE,
                "/wait" => {
                    seen.waiting.set(seen.waiting.get() + 1);
                    seen.most_waiting.set(seen.most_waiting.get().max(seen.waiting.get()));
                    let mut waiting = Waiting(&seen, false);
                    seen.release.notified().await;
                    waiting.1 = true;
                }
                "/endless" => *response.body_mut() = Body::wrap(Endless),
                "/upgrade" => {
                    let guard = seen.drain.borrow().as_ref().map(Drain::guard);
                    let upgrade = hyper::upgrade::on(&mut request);
                    tokio::task::spawn_local(async move {
                        let mut tunnel = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                        let mut bytes = [0; 64];
                        while let Ok(count @ 1..) = tunnel.read(&mut bytes).await {
                            tunnel.write_all(&bytes[..count]).await.unwrap();
                        }
                        drop(guard);
                    });
                    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert("upgrade", http::HeaderValue::from_static("echo"));
                }
                _ => match request.into_body().collect().await {
                    Ok(body) => {
                        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                        *response.body_mut() = Body::full(format!("{head} [{text}]"));
                    }
                    Err(_) => *response.status_mut() = http::StatusCode::BAD_REQUEST,
                },
            }
            response
        }
    }

    fn refused(&self, _: &Rc<Peer>, _: &Parts, fault: Fault) {
        self.0.refused.borrow_mut().push(fault);
    }
}

struct Gateway {
    address: std::net::SocketAddr,
    seen: Rc<Seen>,
    control: DrainControl,
    counters: Arc<Counters>,
}

impl Gateway {
    async fn start(limits: Limits) -> Gateway {
        Gateway::start_with(limits, Settings::named("test")).await
    }

    async fn start_with(limits: Limits, settings: Settings) -> Gateway {
        Gateway::start_on(limits, settings, None).await
    }

    async fn start_on(limits: Limits, settings: Settings, tls: Option<Arc<Tls>>) -> Gateway {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (control, seen) = (DrainControl::new(), Rc::<Seen>::default());
        *seen.drain.borrow_mut() = Some(control.drain());
        let connections = Connections::new(Echo(Rc::clone(&seen)), &limits, control.drain());
        let counters = Arc::<Counters>::default();
        let listener = Listener { settings, tls, counters: Arc::clone(&counters), drain: control.drain() };
        tokio::task::spawn_local(accept(socket, Rc::new(listener), connections));
        Gateway { address, seen, control, counters }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own, and reads until the gateway closes it.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
        .await
        .expect("the gateway closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let mut bytes = [0; 1024];
        let count =
            tokio::time::timeout(Duration::from_secs(20), stream.read(&mut bytes)).await.unwrap().unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn run(test: impl AsyncFnOnce()) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test()).await.expect("the test ends");
    });
}

/// Waits for something that other tasks will make true.
async fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn the_future_of_an_http1_connection_stays_small() {
    /// Bytes per idle HTTP/1 connection in clear, beside hyper's buffers.
    const BOUND: usize = 1536;
    run(async || {
        let control = DrainControl::new();
        let connections = Connections::new(Echo(Rc::default()), &Limits::default(), control.drain());
        let forwarded = ForwardedCache::new([127, 0, 0, 1].into(), Scheme::Http);
        let peer = Rc::new(Peer {
            address: ([127, 0, 0, 1], 1).into(),
            listener: "test".into(),
            forwarded,
            tls: None,
        });
        let (stream, _other) = tokio::io::duplex(1);
        let size = size_of_val(&crate::listener::Streams::serve(
            connections,
            stream,
            crate::listener::Protocol::Http1,
            peer,
        ));
        assert!(size <= BOUND, "{size} bytes");
    });
}

fn short() -> Limits {
    Limits { header_read: Duration::from_millis(120), idle: Duration::from_millis(400), ..Limits::default() }
}

#[test]
fn a_slow_head_is_cut_and_an_idle_connection_closed() {
    run(async || {
        let patient = Limits { idle: Duration::from_secs(10), ..short() };
        let gateway = Gateway::start(patient.clone()).await;
        for bytes in ["G", "PRI * HT", "GET / HTTP/1.1\r\nHost"] {
            let start = Instant::now();
            assert_eq!(gateway.raw(bytes).await, "", "{bytes}");
            assert!(start.elapsed() >= short().header_read, "{bytes}");
            assert!(start.elapsed() < patient.idle, "{bytes}: {:?}", start.elapsed());
        }
        // A byte now and then does not help.
        let mut stream = gateway.connect().await;
        let start = Instant::now();
        while stream.write_all(b"G").await.is_ok() && start.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(start.elapsed() < Duration::from_secs(5));

        let gateway = Gateway::start(short()).await;
        let start = Instant::now();
        assert_eq!(gateway.raw("").await, "");
        assert!(start.elapsed() >= short().idle);

        let start = Instant::now();
        let answer = gateway.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(status(&answer), 200);
        assert!(start.elapsed() >= short().idle);
        until(|| gateway.counters.active() == 0).await;
    });
}

#[test]
fn requests_and_slow_answers_are_not_idle() {
    run(async || {
        let gateway = Gateway::start(short()).await;
        let mut stream = gateway.connect().await;
        let start = Instant::now();
        while start.elapsed() < short().idle * 3 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            read_until(&mut stream, "GET / []").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(short().idle * 3).await;
        assert_eq!(gateway.seen.waiting.get(), 1);
        gateway.seen.release.notify_waiters();
        assert_eq!(status(&read_until(&mut stream, "\r\n\r\n").await), 200);
    });
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    run(async || {
        let gateway = Gateway::start(short()).await;
        let mut stream = gateway.connect().await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(|| gateway.counters.active() == 1).await;
        until(|| gateway.counters.active() == 0).await;
        // HTTP/2: its window is never opened.
        let (mut client, driver) = http2(&gateway).await;
        let request = Request::get("http://a/endless").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let _ = driver.await.unwrap();
        while let Some(Ok(_)) = body.data().await {}
        assert!(!body.is_end_stream());
    });
}

#[test]
fn answers_that_a_client_does_not_take_end_whatever_else_it_does() {
    run(async || {
        let gateway = Gateway::start(short()).await;
        let (mut client, _driver) = http2(&gateway).await;
        // An upload that takes its time: what bounds it is not of this connection.
        let request = Request::post("http://a/").body(()).unwrap();
        let (answer, mut upload) = client.send_request(request, false).unwrap();
        let mut stalled = Vec::new();
        for _ in 0..3 {
            let (response, _) = client.send_request(get("http://a/endless"), true).unwrap();
            stalled.push(response.await.unwrap().into_body());
        }
        for mut body in stalled {
            // Taken from the connection's window, never given back.
            let error = loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    other => break other.unwrap().unwrap_err(),
                }
            };
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
        }
        // The upload and its connection are unharmed.
        upload.send_data(Bytes::from_static(b"late"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        assert_eq!(gateway.counters.active(), 1);
    });
}

async fn http2(
    gateway: &Gateway,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let (client, connection) = h2::client::handshake(gateway.connect().await).await.unwrap();
    let driver = tokio::task::spawn_local(connection);
    (client.ready().await.unwrap(), driver)
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

#[test]
fn without_http2_a_preface_is_no_request() {
    run(async || {
        let settings = Settings { http2: false, ..Settings::named("test") };
        let gateway = Gateway::start_with(Limits::default(), settings).await;
        gateway.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(gateway.seen.requests.borrow().is_empty());
    });
}

/// L1, and HTTP/2 by ALPN.
#[test]
fn over_tls_a_host_that_the_certificate_is_not_for_is_misdirected() {
    use rustls::crypto::aws_lc_rs::default_provider;
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["*.a.test".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("cert"), directory.path().join("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificates = vec![CertificateSettings { hosts: vec!["*.a.test".to_owned()], cert, key }];
    let settings = TlsSettings { certificates, client_auth: None, http2: true };
    let provider = Arc::new(default_provider());
    let tls = Tls::load(settings, Arc::clone(&provider), Duration::from_secs(1_790_000_000), &[]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    run(async || {
        let gateway = Gateway::start_on(Limits::default(), Settings::named("tls"), Some(Arc::new(tls))).await;
        let name = || rustls_pki_types::ServerName::try_from("x.a.test").unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        let stream = connector.connect(name(), gateway.connect().await).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::task::spawn_local(connection);
        let mut client: h2::client::SendRequest<Bytes> = client.ready().await.unwrap();
        for (host, expected) in
            [("x.a.test", 200), ("Y.A.TEST:8443", 200), ("b.test", 421), ("x.a.test", 200)]
        {
            let (response, _) = client.send_request(get(&format!("https://{host}/")), true).unwrap();
            assert_eq!(response.await.unwrap().status(), expected, "{host}");
        }
        config.alpn_protocols.clear();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name(), gateway.connect().await).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(status(&String::from_utf8_lossy(&answer)), 421);
        assert_eq!(*gateway.seen.refused.borrow(), [Fault::Misdirected; 2]);
        drop(client);
        driver.await.unwrap().unwrap();
    });
}

/// O1, O2: the idle are closed at once, the busy finish, new ones are not begun.
#[test]
fn a_drain_ends_idle_connections_and_lets_the_rest_finish() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let mut fresh = gateway.connect().await;
        let mut idle = gateway.connect().await;
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut idle, "GET / []").await;
        let mut busy = gateway.connect().await;
        busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut client, driver) = http2(&gateway).await;
        let streams: Vec<_> =
            (0..50).map(|_| client.send_request(get("http://a/wait"), true).unwrap().0).collect();
        let (_idle_client, idle_driver) = http2(&gateway).await;
        until(|| gateway.seen.waiting.get() == 51 && gateway.counters.active() == 5).await;

        let waiting = gateway.control.wait(Duration::from_secs(30));
        let rest = async {
            assert_eq!(read_all(&mut idle).await, "");
            assert_eq!(read_all(&mut fresh).await, "");
            idle_driver.await.unwrap().unwrap();
            until(|| std::net::TcpStream::connect(gateway.address).is_err()).await;
            gateway.seen.release.notify_waiters();
            let answer = read_all(&mut busy).await;
            assert!(status(&answer) == 200 && answer.contains("connection: close"), "{answer}");
            for stream in streams {
                assert_eq!(stream.await.unwrap().status(), 200);
            }
            drop(client);
            driver.await.unwrap().unwrap();
        };
        let (cut, ()) = tokio::join!(waiting, rest);
        assert_eq!(cut, 0);
    });
}

/// Neither the socket's queue nor what a client has just sent is lost.
#[test]
fn requests_that_are_on_their_way_when_the_drain_starts_are_answered() {
    run(async || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut clients = Vec::new();
        for index in 0..20 {
            let mut client = TcpStream::connect(address).await.unwrap();
            if index % 2 == 0 {
                client.write_all(request).await.unwrap();
            }
            clients.push(client);
        }
        let control = DrainControl::new();
        control.start();
        let connections = Connections::new(Echo(Rc::default()), &Limits::default(), control.drain());
        let listener = Listener {
            settings: Settings::named("test"),
            tls: None,
            counters: Arc::default(),
            drain: control.drain(),
        };
        accept(TcpListener::from_std(socket).unwrap(), Rc::new(listener), connections).await;
        for (index, client) in clients.iter_mut().enumerate() {
            if index % 2 == 1 {
                client.write_all(request).await.unwrap();
            }
            let answer = read_all(client).await;
            assert!(status(&answer) == 200 && answer.contains("connection: close"), "{index}: {answer}");
        }
        assert_eq!(control.wait(Duration::from_secs(20)).await, 0);
    });
}

#[test]
fn what_does_not_end_in_time_is_cut() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let mut busy = gateway.connect().await;
        busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut client, _driver) = http2(&gateway).await;
        let (response, _) = client.send_request(get("http://a/wait"), true).unwrap();
        until(|| gateway.seen.waiting.get() == 2).await;
        assert_eq!(gateway.control.wait(Duration::from_millis(50)).await, 2);
        assert_eq!(read_all(&mut busy).await, "");
        assert!(response.await.is_err());
        until(|| gateway.seen.dropped.get() == 2).await;
    });
}

/// O3, K6: a tunnel counts, and bytes that come with the request are its first.
#[test]
fn an_upgraded_connection_is_waited_for() {
    run(async || {
        let gateway = Gateway::start(short()).await;
        let mut tunnel = gateway.connect().await;
        tunnel
            .write_all(
                b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst",
            )
            .await
            .unwrap();
        assert_eq!(status(&read_until(&mut tunnel, "\r\n\r\nfirst").await), 101);
        // Longer than any time-out of connections.
        tokio::time::sleep(short().idle * 2).await;
        let waiting = gateway.control.wait(Duration::from_secs(30));
        let rest = async {
            tunnel.write_all(b"second").await.unwrap();
            read_until(&mut tunnel, "second").await;
            drop(tunnel);
        };
        let (cut, ()) = tokio::join!(waiting, rest);
        assert_eq!(cut, 0);
    });
}

#[test]
fn a_client_that_goes_away_ends_its_exchange() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let mut stream = gateway.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(|| gateway.seen.waiting.get() == 1).await;
        drop(stream);
        until(|| gateway.seen.dropped.get() == 1 && gateway.counters.active() == 0).await;
    });
}

#[test]
fn a_client_that_leaves_bytes_behind_ends_its_exchange_too() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let heads = [
            "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        ];
        let mut left = 0;
        // A socket that is closed while its bytes find no room is not heard of before they do.
        for (extra, reset) in [(1, false), (1, true), (10_000, false), (100_000, true)] {
            for head in heads {
                let mut stream = gateway.connect().await;
                let bytes = format!("{head}{}", "G".repeat(extra));
                stream.write_all(bytes.as_bytes()).await.unwrap();
                until(|| gateway.seen.waiting.get() == 1).await;
                if reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                drop(stream);
                left += 1;
                until(|| gateway.seen.dropped.get() == left && gateway.counters.active() == 0).await;
            }
        }
    });
}

#[test]
fn a_client_that_sends_ahead_and_waits_is_answered() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let mut stream = gateway.connect().await;
        let next =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
        stream.write_all(format!("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n{next}").as_bytes()).await.unwrap();
        until(|| gateway.seen.waiting.get() == 1).await;
        // Longer than it takes to look after it.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        gateway.seen.release.notify_one();
        let answers = read_until(&mut stream, "x]").await;
        assert_eq!((status(&answers), answers.matches("HTTP/1.1 200 OK").count()), (200, 2));
    });
}

#[test]
fn refusals_are_told_to_the_service() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        gateway.raw("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(*gateway.seen.refused.borrow(), [Fault::HostMissing]);
    });
}
