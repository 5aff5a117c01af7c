//! Clients of every kind, each a thread with a seed of its own, and what becomes of their requests.

use crate::scene::Scene;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;
use witgate_oracles::Seed;
use witgate_test_support::http2::H2Client;
use witgate_test_support::{Connection, Request};

/// Ways to be lost that are shown; the rest is counted.
const EXAMPLES_MAX: usize = 20;
/// Requests of one connection.
const REQUESTS_PER_CONNECTION: u64 = 60;
const BODY_BYTES_MAX: u64 = 200_000;

pub struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    counts: BTreeMap<&'static str, u64>,
    lost: u64,
    examples: Vec<String>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally(Mutex::default())
    }

    pub fn add(&self, what: &'static str) {
        *self.0.lock().unwrap().counts.entry(what).or_default() += 1;
    }

    pub fn lose(&self, how: String) {
        let mut counts = self.0.lock().unwrap();
        counts.lost += 1;
        let how = format!("lost: {how}");
        if counts.examples.len() < EXAMPLES_MAX && !counts.examples.contains(&how) {
            counts.examples.push(how);
        }
    }

    pub fn lost(&self) -> u64 {
        self.0.lock().unwrap().lost
    }

    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap().counts.iter().map(|(what, count)| (*what, *count)).collect()
    }

    pub fn examples(&self) -> Vec<String> {
        self.0.lock().unwrap().examples.clone()
    }
}

type Client = fn(&Scene, &Tally, &mut Seed);

pub fn start(scene: &Arc<Scene>, tally: &Arc<Tally>, end: Instant, seed: u64) -> Vec<JoinHandle<()>> {
    let clients: [Client; 7] = [http1, http1, http2, http2, denied, faulty, rude];
    let start = |(number, client): (usize, Client)| {
        let (scene, tally) = (scene.clone(), tally.clone());
        std::thread::spawn(move || {
            let mut seed = Seed::new(seed.wrapping_mul(1000) + number as u64);
            while Instant::now() < end && tally.lost() <= 100 {
                client(&scene, &tally, &mut seed);
            }
        })
    };
    clients.into_iter().enumerate().map(start).collect()
}

/// A connection that is used again and again; what comes back is what the upstream was sent.
fn http1(scene: &Scene, tally: &Tally, seed: &mut Seed) {
    let mut connection = Connection::open(scene.gateway.public());
    for _ in 0..=seed.below(REQUESTS_PER_CONNECTION) {
        let path = format!("/{}/{}", seed.pick(&["sound", "streamed", "plain"]), seed.draw());
        let body = vec![b'a' + seed.below(26) as u8; seed.below(BODY_BYTES_MAX) as usize];
        let (request, expected) = match seed.below(3) {
            0 => (
                Request::post(&path, body.clone()).bytes(),
                [format!("POST {path} ").into_bytes(), body].concat(),
            ),
            1 => (chunked(&path, &body), [format!("POST {path} ").into_bytes(), body].concat()),
            _ => (Request::get(&path).bytes(), format!("GET {path} ").into_bytes()),
        };
        if let Err(error) = connection.try_send(&request) {
            return tally.lose(format!("{path} could not be sent: {error}"));
        }
        match connection.try_answer(false) {
            Ok(answer) if answer.status == 200 && answer.complete && answer.body == expected => {
                tally.add("requests over HTTP/1.1, right");
                if answer.header("connection") == Some("close") {
                    return;
                }
            }
            Ok(answer) => return tally.lose(format!("{path}: {} {:.200}", answer.status, answer.text())),
            Err(error) => return tally.lose(format!("{path}: no answer, {error}")),
        }
    }
}

fn chunked(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(7_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Several streams at once, to upstreams of both versions.
fn http2(scene: &Scene, tally: &Tally, seed: &mut Seed) {
    let mut client = H2Client::clear(scene.gateway.public());
    for _ in 0..=seed.below(10) {
        let paths: Vec<String> = (0..=seed.below(20)).map(|_| format!("/sound/{}", seed.draw())).collect();
        for (path, answer) in paths.iter().zip(client.get_all(&paths)) {
            match answer {
                Ok(answer) if answer.status == 200 && answer.text() == format!("GET {path} ") => {
                    tally.add("requests over HTTP/2, right");
                }
                Ok(answer) => tally.lose(format!("{path} over HTTP/2: {answer:.200?}")),
                Err(error) => tally.lose(format!("{path} over HTTP/2: {error}")),
            }
        }
        let body = vec![b'x'; seed.below(BODY_BYTES_MAX) as usize];
        match client.try_ask("POST".parse().unwrap(), "/http2/echo", &[], body.clone()) {
            Ok(answer)
                if answer.status == 200
                    && answer.body == body
                    && answer.trailer("x-trailer") == Some("1") =>
            {
                tally.add("requests over HTTP/2 to HTTP/2, right");
            }
            Ok(answer) => tally.lose(format!("/http2: {} and {} bytes", answer.status, answer.body.len())),
            Err(error) => tally.lose(format!("/http2: {error}")),
        }
    }
}

/// Never let through.
fn denied(scene: &Scene, tally: &Tally, seed: &mut Seed) {
    let answer = Request::get(&format!("/keyed/{}", seed.draw())).send(scene.gateway.public());
    match answer.status {
        401 => tally.add("requests without a key, refused"),
        status => tally.lose(format!("/keyed without a key: {status}")),
    }
    // Not a flood: refusals cost next to nothing.
    std::thread::sleep(std::time::Duration::from_millis(5));
}

/// Anything may come, but it comes.
fn faulty(scene: &Scene, tally: &Tally, seed: &mut Seed) {
    let mut connection = Connection::open(scene.gateway.public());
    let path = format!("/faulty/{}", seed.draw());
    let request = if seed.below(2) == 0 { Request::get(&path) } else { Request::post(&path, "x") };
    let _ = connection.try_send(request.bytes());
    match connection.try_answer(false) {
        Ok(_) => tally.add("requests to a failing upstream, ended"),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            tally.lose(format!("{path}: no end"));
        }
        Err(_) => tally.add("requests to a failing upstream, ended"),
    }
}

/// Says half of something, or nonsense, and goes away.
fn rude(scene: &Scene, tally: &Tally, seed: &mut Seed) {
    let mut connection = Connection::open(scene.gateway.public());
    let whole = Request::post("/sound/rude", vec![b'r'; 5_000]).bytes();
    let at = seed.below(whole.len() as u64) as usize;
    let _ = match seed.below(3) {
        0 => connection.try_send(&whole[..at]),
        1 => connection.try_send(&whole[at..]),
        _ => connection.try_send((0..200).map(|_| seed.below(256) as u8).collect::<Vec<_>>()),
    };
    if seed.below(2) == 0 {
        connection.reset();
    }
    tally.add("clients that broke off");
    std::thread::sleep(std::time::Duration::from_millis(2));
}
