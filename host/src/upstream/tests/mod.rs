//! Pools against scripted origins on loopback sockets.
//!
//! Everything runs on one `LocalRuntime`, as on a worker; an origin is a script for each connection
//! it accepts.

mod endpoints;
mod fetches;
mod http1;
mod http2;
mod simulation;
mod tls;

use super::*;
use crate::message::body::{Body, BodyError};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for a loaded machine; a test that takes it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test takes too long") });
}

/// A listener whose connections follow a script.
struct Origin {
    address: SocketAddr,
    /// Connections accepted.
    connections: Rc<Cell<usize>>,
    /// Heads read, in order.
    heads: Rc<RefCell<Vec<String>>>,
}

/// One connection of an [`Origin`].
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
    heads: Rc<RefCell<Vec<String>>>,
}

impl Origin {
    /// `script` gets the number of the connection, from 0.
    async fn new<S, F>(script: S) -> Origin
    where
        S: Fn(usize, Wire) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (connections, heads) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
        tokio::task::spawn_local({
            let (connections, heads) = (connections.clone(), heads.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let number = connections.replace(connections.get() + 1);
                    let wire = Wire { stream, read: Vec::new(), heads: heads.clone() };
                    tokio::task::spawn_local(script(number, wire));
                }
            }
        });
        Origin { address, connections, heads }
    }

    /// Answers every request, which must have no body, with `answer`.
    async fn always(answer: &'static str) -> Origin {
        Origin::new(move |_, mut wire| async move {
            while wire.head().await.is_some() {
                wire.say(answer).await;
            }
        })
        .await
    }

    fn heads(&self) -> usize {
        self.heads.borrow().len()
    }
}

impl Wire {
    /// The next request's head; `None` when the peer closed.
    async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = String::from_utf8(std::mem::replace(&mut self.read, rest)).expect("text");
                self.heads.borrow_mut().push(head.clone());
                return Some(head);
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.read.len() < bytes {
            self.more().await?;
        }
        let rest = self.read.split_off(bytes);
        Some(std::mem::replace(&mut self.read, rest))
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    async fn say(&mut self, text: &str) {
        // The peer may be gone, which is what some tests are about.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Waits until the peer has closed.
    async fn closed(&mut self) {
        while self.more().await.is_some() {}
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

fn settings(origins: &[SocketAddr]) -> Settings {
    Settings {
        name: "test".into(),
        endpoints: origins
            .iter()
            .map(|address| EndpointSettings {
                https: false,
                host: address.ip().to_string(),
                port: address.port(),
                weight: 1,
            })
            .collect(),
        protocol: Protocol::Http1,
        balance: Balance::RoundRobin,
        health: None,
        ejection: None,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(10),
            idle: Duration::ZERO,
        },
        retry: RetrySettings { attempts: 1, connect_failure: true, statuses: Vec::new(), budget_percent: 20 },
        tls: TlsSettings::default(),
        host: HostField::Preserve,
        idle_connections: 8,
    }
}

fn pool(settings: Settings) -> Rc<Pool> {
    Pool::new(Upstream::new(settings).expect("valid settings"), Clock::system())
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "api.test").body(body).expect("request")
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::Empty)
}

async fn send(pool: &Rc<Pool>, request: Request<Body>) -> Result<Response<Body>, Failure> {
    pool.send(request, &mut Call::default()).await
}

/// Status and whole body.
async fn read(response: Response<Body>) -> (StatusCode, Result<Bytes, BodyError>) {
    let status = response.status();
    (status, response.into_body().collect().await.map(|body| body.to_bytes()))
}

async fn ok(pool: &Rc<Pool>, request: Request<Body>) {
    let (status, body) = read(send(pool, request).await.expect("a response")).await;
    assert_eq!((status, &body.expect("a whole body")[..]), (StatusCode::OK, &b"ok"[..]));
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A port that nobody listens on.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address")
}

/// Lets other tasks run until `condition` holds; `run` bounds it.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A body made of what the test sends.
fn channel<T>() -> (tokio::sync::mpsc::UnboundedSender<Result<T, &'static str>>, Body)
where
    T: Into<Bytes> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Body::wrap(ChannelBody(receiver)))
}

struct ChannelBody<T>(tokio::sync::mpsc::UnboundedReceiver<Result<T, &'static str>>);

impl<T: Into<Bytes>> http_body::Body for ChannelBody<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|chunk| {
            chunk.map(|chunk| chunk.map(|text| http_body::Frame::data(text.into())).map_err(Into::into))
        })
    }
}
