//! Real sockets against `Connections`: raw bytes, HTTP/2 frames, time-outs, drain.

use super::*;
use crate::listener::{
    CertificateSettings, Counters, Drain, DrainControl, Listener, Settings, Tls, TlsSettings, accept,
};
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
        let peer = Rc::new(Peer { address: ([127, 0, 0, 1], 1).into(), listener: "test".into(), tls: None });
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

#[test]
fn malformed_requests_are_refused_and_nothing_follows_them() {
    // What is sent, the status, and whether hyper refuses it itself.
    let cases: &[(&str, u16)] = &[
        // A1: two lines; the last decides for hyper.
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: identity||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: identity|Transfer-Encoding: chunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||", 501),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||", 501),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding:\x0bchunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding : chunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding:| chunked||0||", 400),
        // A2
        ("POST / HTTP/1.1|Host: a|Content-Length: +5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5 5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 0x5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5,6||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: -5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551621||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 6||hello", 400),
        // A3
        ("POST / HTTP/1.1|Host: a|Content-Length:|Content-Length: 5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length:||hello", 400),
        // A4
        ("GET / HTTP/1.1|Host: a|: x|Content-Length: 5||hello", 400),
        ("GET / HTTP/1.1|Host: a|x y: z||", 400),
        ("GET / HTTP/1.1|Host: a|x\0: z||", 400),
        ("GET / HTTP/1.1|Host: a|x: \0||", 400),
        ("GET / HTTP/1.1|Host: a|x: y\rz||", 400),
        ("GET / HTTP/1.1|Host: a| folded: x||", 400),
        // A7
        ("POST / HTTP/1.0|Host: a|Transfer-Encoding: chunked|Connection: keep-alive||0||", 400),
        // A8
        ("GET admin HTTP/1.1|Host: a||", 400),
        ("GET * HTTP/1.1|Host: a||", 400),
        ("CONNECT / HTTP/1.1|Host: a||", 400),
        ("GET host:80 HTTP/1.1|Host: a||", 400),
        ("OPTIONS */x HTTP/1.1|Host: a||", 400),
        ("CONNECT a:443 HTTP/1.1|Host: a:443||", 501),
        ("GET  / HTTP/1.1|Host: a||", 400),
        ("GET / HTTP/1.2|Host: a||", 400),
        ("GET /|Host: a||", 400),
        // C3
        ("GET /public#/../admin HTTP/1.1|Host: a||", 400),
        ("GET http://a/x#y HTTP/1.1|Host: a||", 400),
        // Both lengths, in either order.
        ("POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 5||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: +x||0||", 400),
        // Hosts
        ("GET / HTTP/1.1||", 400),
        ("GET / HTTP/1.1|Host: a|Host: a||", 400),
        ("GET / HTTP/1.1|Host: a|Host: b||", 400),
        ("GET / HTTP/1.1|Host: u@a||", 400),
        ("GET / HTTP/1.1|Host: a/x||", 400),
        ("GET http://b/ HTTP/1.1|Host: a||", 400),
        ("GET http://u:p@a/ HTTP/1.1|Host: a||", 400),
    ];
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for (text, expected) in cases {
            let bytes = text.replace('|', "\r\n") + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            let answer = gateway.raw(&bytes).await;
            assert_eq!(status(&answer), *expected, "{text}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{text}: {answer:?}");
        }
        assert_eq!(*gateway.seen.requests.borrow(), [""; 0]);
    });
}

#[test]
fn broken_chunks_reach_no_end() {
    let cases = [
        // A5: bare LF.
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        // A6: more than 64 bits.
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
    ];
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for chunks in cases {
            gateway.seen.requests.borrow_mut().clear();
            let bytes = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let answer = gateway.raw(&bytes).await;
            assert_eq!(status(&answer), 400, "{chunks:?}: {answer:?}");
            assert_eq!(*gateway.seen.requests.borrow(), ["POST /"], "{chunks:?}");
        }
    });
}

#[test]
fn well_formed_requests_pass() {
    let cases = [
        ("GET / HTTP/1.0\r\n\r\n", "GET / []"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "OPTIONS * []"),
        ("GET http://A:80/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET http://A:80/x []"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "POST / [hello]",
        ),
        // RFC 9110 section 8.6: a repeated value may collapse.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "POST / [hello]",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;x=y\r\nhe#lo\r\n0\r\na: b\r\n\r\n",
            "POST / [he#lo]",
        ),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\nReferer: x#y\r\nConnection: close\r\n\r\n", "GET / []"),
    ];
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for (bytes, expected) in cases {
            let answer = gateway.raw(bytes).await;
            assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{bytes:?}: {answer:?}");
        }
    });
}

/// What `sight` cannot see of a pipelined head is still harmless: hyper frames once, and closes.
#[test]
fn both_lengths_in_a_pipelined_request_end_the_connection() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
        let second =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let third = "GET /third HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = gateway.raw(format!("{first}{second}{third}")).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(*gateway.seen.requests.borrow(), ["GET /first", "POST /"]);
    });
}

/// The rest of a body that comes after its answer is not mistaken for a head.
#[test]
fn requests_follow_each_other_on_one_connection() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let mut stream = gateway.connect().await;
        for _ in 0..3 {
            stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"#\r\n#\r\n\r\n").await.unwrap();
            read_until(&mut stream, "POST / [#\r\n#\r\n\r\n]").await;
            stream.write_all(b"GET /x?y HTTP/1.1\r\nHo").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"st: a\r\n\r\n").await.unwrap();
            read_until(&mut stream, "GET /x?y []").await;
        }
        assert_eq!(gateway.counters.accepted(), 1);
    });
}

#[test]
fn oversized_heads_get_431() {
    run(async || {
        let many = |count: usize| {
            let fields: String = (1..count).map(|index| format!("x{index}: y\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
        };
        for limit in [5, 100, 150] {
            let gateway = Gateway::start(Limits { header_count: limit, ..Limits::default() }).await;
            let answer = gateway.raw(many(limit + 1)).await;
            assert_eq!(status(&answer), 431, "{limit}: {answer}");
            let mut stream = gateway.connect().await;
            stream.write_all(many(limit).as_bytes()).await.unwrap();
            assert_eq!(status(&read_until(&mut stream, "GET / []").await), 200, "{limit}");
        }
        let gateway = Gateway::start(Limits::default()).await;
        // D6
        assert_eq!(status(&gateway.raw(many(20_000)).await), 431);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(2_000_000));
        assert_eq!(status(&gateway.raw(long).await), 431);
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(70_000));
        assert_eq!(status(&gateway.raw(long).await), 431);
        let fits =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx: {}\r\n\r\n", "y".repeat(32_000));
        assert_eq!(status(&gateway.raw(fits).await), 200);
    });
}

/// RFC 9112 section 9.6: the answer is not lost in a reset.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for target in ["/early", "/early#x"] {
            let mut stream = gateway.connect().await;
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            let sender = tokio::task::spawn_local(async move {
                let _ = writer.write_all(&vec![b'x'; 4_000_000]).await;
                writer
            });
            let mut answer = Vec::new();
            reader.read_to_end(&mut answer).await.unwrap();
            let expected = if target == "/early" { 413 } else { 400 };
            assert_eq!(status(&String::from_utf8_lossy(&answer)), expected);
            drop(sender.await);
        }
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
fn http2_with_prior_knowledge() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let (mut client, _driver) = http2(&gateway).await;
        let request = Request::post("http://a/x").body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(&response.body_mut().data().await.unwrap().unwrap()[..], b"POST http://a/x [hello]");

        // B5, and no host at all.
        let differs = Request::get("http://a/").header("host", "b").body(()).unwrap();
        for request in [differs, get("http://u@a/")] {
            let (response, _) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 400);
        }
        let (response, _) = client.send_request(get("http://a/after"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);

        // Too many fields, too many bytes.
        let mut many = get("http://a/");
        for index in 0..101 {
            let name = http::HeaderName::from_bytes(format!("x{index}").as_bytes()).unwrap();
            many.headers_mut().insert(name, http::HeaderValue::from_static("y"));
        }
        let (response, _) = client.send_request(many, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        let mut long = get("http://a/");
        long.headers_mut().insert("x", http::HeaderValue::from_str(&"y".repeat(40_000)).unwrap());
        let (response, _) = client.send_request(long, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        assert_eq!(*gateway.seen.requests.borrow(), ["POST http://a/x", "GET http://a/after"]);
    });
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

/// Frames by hand, for what no client library will send.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HPACK: GET, http, and the path and authority as literals without indexing.
fn head(path: &str) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x86];
    for (index, text) in [(0x04, path), (0x01, "a")] {
        bytes.push(index);
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends frames while it reads, until the gateway closes; returns the GOAWAY's error code.
async fn goaway(gateway: &Gateway, frames: Vec<Vec<u8>>) -> Option<u32> {
    let (mut reader, mut writer) = gateway.connect().await.into_split();
    let writing = tokio::task::spawn_local(async move {
        writer.write_all(PREFACE).await.unwrap();
        writer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        for bytes in frames {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // Kept open: the gateway is to end it.
        writer
    });
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_secs(20), reader.read(&mut chunk)).await
    {
        bytes.extend_from_slice(&chunk[..count]);
    }
    drop(writing.await);
    let mut rest = &bytes[..];
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 {
            return Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    None
}

/// B1: others are served meanwhile, and what was begun is given up.
#[test]
fn rapid_reset_ends_in_goaway() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let frames = (0..500).map(|batch: u32| {
            (0..100)
                .flat_map(|index| {
                    let stream = (batch * 100 + index) * 2 + 1;
                    [frame(1, 0x5, stream, &head("/wait")), frame(3, 0, stream, &8u32.to_be_bytes())].concat()
                })
                .collect()
        });
        let attack = goaway(&gateway, frames.collect());
        let others = async {
            for _ in 0..20 {
                let answer = gateway.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                assert_eq!(status(&answer), 200);
            }
        };
        let (code, ()) = tokio::join!(attack, others);
        assert_eq!(code, Some(11), "ENHANCE_YOUR_CALM");
        until(|| gateway.seen.waiting.get() == 0 && gateway.counters.active() == 0).await;
        assert!(gateway.seen.most_waiting.get() <= 128, "{}", gateway.seen.most_waiting.get());
    });
}

/// B2
#[test]
fn endless_continuation_ends_the_connection() {
    run(async || {
        for payload in [&b""[..], b"\x82"] {
            let gateway = Gateway::start(Limits::default()).await;
            let mut frames = vec![frame(1, 0x1, 1, &head("/"))];
            frames.extend((0..20_000).map(|_| frame(9, 0, 1, payload)));
            goaway(&gateway, frames).await;
            until(|| gateway.counters.accepted() == 1 && gateway.counters.active() == 0).await;
            assert!(gateway.seen.requests.borrow().is_empty());
        }
    });
}

/// B3: the client's errors make the server reset.
#[test]
fn resets_provoked_by_the_client_are_counted() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        // No increment ends the connection at once, too great a window resets the stream.
        for (increment, code) in [(0, 1), (i32::MAX.cast_unsigned(), 11)] {
            let frames = (0..10_000u32).map(|index| {
                let stream = index * 2 + 1;
                let update = frame(8, 0, stream, &increment.to_be_bytes());
                [frame(1, 0x5, stream, &head("/wait")), update.clone(), update].concat()
            });
            assert_eq!(goaway(&gateway, frames.collect()).await, Some(code));
            until(|| gateway.seen.waiting.get() == 0 && gateway.counters.active() == 0).await;
            assert!(gateway.seen.requests.borrow().len() < 1000);
        }
    });
}

/// B4, B6: never handed on.
#[test]
fn malformed_http2_heads_are_refused() {
    let literal = |name: &[u8], value: &[u8]| {
        let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
        bytes.extend(name);
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend(value);
        bytes
    };
    let fields: &[(&[u8], &[u8])] = &[
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"x"),
        (b"te", b"gzip"),
        (b"upgrade", b"h2c"),
        (b"X", b"y"),
        (b"x y", b"z"),
        (b"x\r\n", b"z"),
        (b"x", b"y\r\nz: 1"),
        (b"x", b"y\0"),
        (b"content-length", b"5"),
        (b"content-length", b"+5"),
        (b"host", b"b"),
        (b":path", b"/second"),
        (b":unknown", b"x"),
    ];
    run(async || {
        let gateway = Rc::new(Gateway::start(short()).await);
        let fields = fields
            .iter()
            .enumerate()
            .map(|(index, (name, value))| [head(&format!("/field-{index}")), literal(name, value)].concat());
        let paths = ["", "x", "/ x", "/\r\n", "/\0", "*"].map(head);
        // At once: a client that answers no PING has two seconds to go.
        let tasks: Vec<_> = fields
            .chain(paths)
            .map(|block| {
                let gateway = Rc::clone(&gateway);
                tokio::task::spawn_local(async move {
                    goaway(&gateway, vec![frame(1, 0x5, 1, &block)]).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*gateway.seen.requests.borrow(), [""; 0]);
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
    let tls = Tls::load(settings, Arc::clone(&provider), Duration::from_secs(1_790_000_000)).unwrap();
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
fn refusals_are_told_to_the_service() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        gateway.raw("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(*gateway.seen.refused.borrow(), [Fault::HostMissing]);
    });
}
