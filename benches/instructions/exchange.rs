//! A whole exchange in one process: a client that writes bytes, the gateway's connection on a
//! socket of its own, and an upstream that answers 1 KiB.
//!
//! All three on one thread. The two ends do as little as can be, and the same in every round.

use crate::gateway::{Bench, config, rewrite};
use crate::{UNCOUNTED, measured_rounds};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_local;
use witgate::clock::Clock;
use witgate::connection::{Connections, Limits};
use witgate::exchange::{Exchange, Inlet, Worker};
use witgate::listener::{DrainControl, Protocol, Streams};
use witgate::message::forwarded::{ForwardedCache, Scheme};
use witgate::message::peer::Peer;
use witgate::plugin::Seats;
use witgate::snapshot::cell::SnapshotCell;
use witgate::telemetry::metric::Metrics;

const REQUEST: &[u8] = b"GET /api/flights/LX1234 HTTP/1.1\r\n\
    Host: api.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-GB,en;q=0.8,de;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Cookie: session=8d3f0a6c1b5e4f27; theme=dark\r\n\
    Referer: https://app.example.com/flights/today\r\n\
    X-Client-Version: 4.18.2\r\n\r\n";

pub fn run(policies: usize, rounds: u32) {
    // The kernel takes connections of a socket that listens, whoever accepts them later.
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let to = upstream.local_addr().unwrap();
    let bench = Bench::new();
    let policies: Vec<_> = (0..policies).map(rewrite).collect();
    // Compiling runs guests to their end, which no runtime's thread may do.
    let snapshot = bench.compile(&config(&policies, "").replace("127.0.0.1:1'", &format!("{to}'")), None);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    let (mut client, _kept) = runtime.block_on(async {
        let upstream = TcpListener::from_std(upstream).unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        spawn_local(async move {
            let (stream, _) = upstream.accept().await.unwrap();
            answer(stream).await;
        });
        let (reloads, generations) = watch::channel(0);
        let cell = SnapshotCell::new(snapshot);
        let clock = Clock::system();
        let metrics = Arc::new(Metrics::new(1, &clock));
        let worker = Worker::start(0, Seats::share(1), &cell, clock, metrics, None, generations);
        let control = DrainControl::new();
        let limits = Limits::default();
        let exchange = Exchange::new(Inlet {
            worker,
            listener: 0,
            body_bytes: 10 << 20,
            request: std::time::Duration::from_secs(60),
            idle: limits.idle,
            drain: control.drain(),
        });
        let connections = Connections::new(exchange, &limits, control.drain());
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, from) = front.accept().await.unwrap();
        spawn_local(connections.serve(stream, Protocol::Http1, peer(from)));
        (client, (bench, cell, control, reloads))
    });
    let mut ask = |rounds| {
        runtime.block_on(async {
            let mut answer = vec![0; 4096];
            for _ in 0..rounds {
                client.write_all(REQUEST).await.unwrap();
                let mut length = 0;
                while !answer[..length].ends_with(b"\"}") {
                    length += client.read(&mut answer[length..]).await.unwrap();
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"));
            }
        });
    };
    ask(UNCOUNTED);
    measured_rounds(|| ask(rounds));
}

fn peer(address: SocketAddr) -> Rc<Peer> {
    let forwarded = ForwardedCache::new(address.ip(), Scheme::Http);
    Rc::new(Peer { address, listener: "public".into(), forwarded, tls: None })
}

/// Answers each head that is there.
async fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let body = format!("{{\"log\":\"{}\"}}", "x".repeat(1024 - 10));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nserver: bench\r\ndate: Wed, 25 Nov 2026 06:00:00 GMT\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\nconnection: keep-alive\r\n\r\n{body}",
        body.len()
    );
    let mut head = vec![0; 4096];
    let mut length = 0;
    loop {
        match stream.read(&mut head[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(more) => length += more,
        }
        if head[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}
