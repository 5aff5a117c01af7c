//! Many connections at once: idle ones that stay, and active ones that all wait at a gate.

use crate::scene::Scene;
use crate::traffic::Tally;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::Duration;
use witgate_test_support::{Connection, Reply, Request, Seen};

/// So long the first of a rush wait for the last.
const GATE: Duration = Duration::from_secs(50);

static ARRIVED: Mutex<(usize, usize)> = Mutex::new((0, usize::MAX));
static OPENED: Condvar = Condvar::new();

/// As many descriptors as this user may have, here and in the gateway that is started afterwards.
pub fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.and_then(|count| count.try_into().ok()).unwrap_or(1_000_000)
}

/// Connections that say nothing, ever.
pub struct Crowd {
    open: Vec<TcpStream>,
    first_end: Option<String>,
}

impl Crowd {
    pub fn gather(address: SocketAddr, count: usize) -> Crowd {
        let open = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
        Crowd { open, first_end: None }
    }

    /// Those that the gateway has not closed.
    pub fn count_open(&mut self) -> usize {
        // Looked at once only: a reset is told to the first who asks.
        let first = &mut self.first_end;
        self.open.retain(|stream| {
            let end = end_of(stream);
            if let Some(end) = &end {
                first.get_or_insert_with(|| end.clone());
            }
            end.is_none()
        });
        self.open.len()
    }

    /// How the first of those that are no longer open ended.
    pub fn first_end(&self) -> Option<&str> {
        self.first_end.as_deref()
    }
}

fn end_of(stream: &TcpStream) -> Option<String> {
    stream.set_nonblocking(true).unwrap();
    match stream.peek(&mut [0]) {
        Ok(0) => Some("closed".into()),
        Ok(_) => Some("an answer to nothing".into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Answers once as many requests are there as `rush` has said.
pub fn at_the_gate(_: &Seen) -> Reply {
    let mut arrived = ARRIVED.lock().unwrap();
    arrived.0 += 1;
    if arrived.0 >= arrived.1 {
        OPENED.notify_all();
    }
    let (arrived, waited) = OPENED.wait_timeout_while(arrived, GATE, |(here, all)| here < all).unwrap();
    drop(arrived);
    match waited.timed_out() {
        true => Reply::status(500),
        false => Reply::ok("through"),
    }
}

/// So many requests, all in flight at the same moment; each is answered.
pub fn rush(scene: &Scene, count: usize, tally: &Tally) {
    ARRIVED.lock().unwrap().1 = count;
    let request = Request::get("/gate").bytes();
    let mut all: Vec<Connection> = (0..count).map(|_| Connection::open(scene.gateway.public())).collect();
    for connection in &mut all {
        connection.set_timeout(2 * GATE);
        connection.send(&request);
    }
    for connection in &mut all {
        match connection.try_answer(false) {
            Ok(answer) if answer.status == 200 && answer.text() == "through" => {
                tally.add("in flight at once")
            }
            Ok(answer) => tally.lose(format!("at the gate: {} {}", answer.status, answer.text())),
            Err(error) => tally.lose(format!("at the gate: {error}")),
        }
    }
}
