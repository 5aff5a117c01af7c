//! An upstream that does as it is told, byte for byte, and remembers what it was asked.
//!
//! A thread per connection, plain HTTP/1 by hand, so that it can break every rule: stop at any
//! byte, reset, stall, answer before the body, speak another protocol after 101.

use crate::PATIENCE;
use crate::raw::{Stream, find};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The head, byte for byte, with its empty line.
    pub raw_head: Vec<u8>,
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Counts connections from 0.
    pub connection: usize,
    /// Counts requests of the connection from 0.
    pub nth: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} came {} times: {values:?}", values.len());
        values.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }
}

/// What an origin does on a connection of its own accord.
type Act = Box<dyn FnOnce(&mut dyn Stream) -> io::Result<()> + Send>;

/// What to do about a request.
pub enum Reply {
    /// Send these bytes; keep the connection.
    Bytes(Vec<u8>),
    /// Send these bytes, then close.
    Close(Vec<u8>),
    /// Send these bytes, then reset the connection.
    Reset(Vec<u8>),
    /// Anything else; the connection closes after it.
    Drive(Act),
}

impl Reply {
    pub fn ok(body: impl AsRef<[u8]>) -> Reply {
        Reply::with(200, &[("content-type", "text/plain")], body)
    }

    pub fn json(body: &serde_json::Value) -> Reply {
        Reply::with(200, &[("content-type", "application/json")], body.to_string())
    }

    pub fn status(status: u16) -> Reply {
        Reply::with(status, &[], format!("status {status}"))
    }

    pub fn with(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
        let mut bytes = format!("HTTP/1.1 {status} Test\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let body = body.as_ref();
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Reply::Bytes(bytes)
    }

    pub fn raw(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bytes(bytes.as_ref().to_vec())
    }

    pub fn drive(act: impl FnOnce(&mut dyn Stream) -> io::Result<()> + Send + 'static) -> Reply {
        Reply::Drive(Box::new(act))
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    /// Answer as soon as the head is there, whatever the body does.
    early: bool,
    tls: Option<Arc<rustls::ServerConfig>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl Origin {
    pub fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Origin {
        Origin::launch(Box::new(script), false, None)
    }

    /// Answers when the head is there; `Seen::body` is empty.
    pub fn start_early(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Origin {
        Origin::launch(Box::new(script), true, None)
    }

    pub fn start_tls(
        config: Arc<rustls::ServerConfig>,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Origin {
        Origin::launch(Box::new(script), false, Some(config))
    }

    /// Says `name` and what it was asked, as a plain text.
    pub fn named(name: &'static str) -> Origin {
        Origin::start(move |seen| Reply::ok(format!("{name} {} {}", seen.method, seen.target)))
    }

    /// Tells all it saw of the head as JSON, so that a test sees what reached the upstream.
    pub fn mirror() -> Origin {
        Origin::start(|seen| {
            let mut headers = serde_json::Map::new();
            for (name, value) in &seen.headers {
                let values = headers.entry(name.to_lowercase()).or_insert_with(|| serde_json::json!([]));
                values.as_array_mut().unwrap().push(value.as_str().into());
            }
            Reply::json(&serde_json::json!({
                "method": seen.method,
                "target": seen.target,
                "headers": headers,
                "body": String::from_utf8_lossy(&seen.body),
            }))
        })
    }

    fn launch(script: Box<Script>, early: bool, tls: Option<Arc<rustls::ServerConfig>>) -> Origin {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            early,
            tls,
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = accepting.connections.fetch_add(1, Ordering::AcqRel);
                let shared = accepting.clone();
                std::thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::AcqRel);
                    let _ = shared.serve(stream, number);
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Origin { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `endpoints:`.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, tcp: TcpStream, number: usize) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(3 * PATIENCE))?;
        let socket = tcp.try_clone()?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let session = rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Box::new(rustls::StreamOwned::new(session, tcp))
            }
        };
        let mut reader = Reader { pending: Vec::new() };
        for nth in 0.. {
            let Some(mut seen) = reader.head(&mut *stream)? else { return Ok(()) };
            seen.connection = number;
            seen.nth = nth;
            if !self.early {
                if seen.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                reader.body(&mut *stream, &mut seen)?;
            }
            let reply = (self.script)(&seen);
            self.seen.lock().unwrap().push(seen);
            match reply {
                Reply::Bytes(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                }
                Reply::Close(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                    return socket.shutdown(std::net::Shutdown::Both);
                }
                Reply::Reset(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                    // Lets what was sent arrive before the reset overtakes it.
                    std::thread::sleep(Duration::from_millis(50));
                    return socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                }
                Reply::Drive(act) => return act(&mut *stream),
            }
        }
        Ok(())
    }
}

/// With room for all that connect at the same moment; the standard library's 128 is not.
fn listen() -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    fn fill(&mut self, stream: &mut dyn Stream) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let read = stream.read(&mut buffer)?;
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    fn until(&mut self, stream: &mut dyn Stream, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.pending, end) {
                return Ok(self.pending.drain(..at + end.len()).collect());
            }
            if self.fill(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn exactly(&mut self, stream: &mut dyn Stream, count: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() < count {
            if self.fill(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.pending.drain(..count).collect())
    }

    /// `None` when the connection ends between requests.
    fn head(&mut self, stream: &mut dyn Stream) -> io::Result<Option<Seen>> {
        if self.pending.is_empty() && self.fill(stream)? == 0 {
            return Ok(None);
        }
        let raw_head = self.until(stream, b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&raw_head).into_owned();
        let mut lines = text.trim_end().split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_string);
        let mut part = || first.next().unwrap_or_default();
        let (method, target, version) = (part(), part(), part());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_string(), value.trim().to_string())).collect();
        let (body, trailers) = (Vec::new(), Vec::new());
        Ok(Some(Seen { raw_head, method, target, version, headers, body, trailers, connection: 0, nth: 0 }))
    }

    fn body(&mut self, stream: &mut dyn Stream, seen: &mut Seen) -> io::Result<()> {
        if seen.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.until(stream, b"\r\n")?;
                let line = String::from_utf8_lossy(&line).into_owned();
                let size = line.trim_end().split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
                if size == 0 {
                    break;
                }
                let chunk = self.exactly(stream, size)?;
                seen.body.extend(chunk);
                self.exactly(stream, 2)?;
            }
            loop {
                let line = self.until(stream, b"\r\n")?;
                if line == b"\r\n" {
                    return Ok(());
                }
                seen.trailers.push(crate::raw::field(String::from_utf8_lossy(&line).trim_end()));
            }
        }
        let length = seen.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if let Some((_, length)) = length {
            let length = length.parse().map_err(io::Error::other)?;
            seen.body = self.exactly(stream, length)?;
        }
        Ok(())
    }
}

/// Reads until the other end closes; for `Reply::Drive`.
pub fn drain(stream: &mut dyn Stream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    Ok(all)
}

/// Writes and flushes; for `Reply::Drive`.
pub fn say(stream: &mut dyn Stream, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    stream.write_all(bytes.as_ref())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Request};

    #[test]
    fn answers_and_remembers() {
        let origin = Origin::named("a");
        let answer = Request::post("/x?y=1", "hello").header("X-A", "1").send(origin.address()).expect(200);
        assert_eq!(answer.text(), "a POST /x?y=1");
        let seen = origin.only();
        assert_eq!((seen.header("x-a"), seen.body.as_slice()), (Some("1"), b"hello".as_slice()));
    }

    #[test]
    fn reads_chunks_and_trailers() {
        let origin = Origin::mirror();
        let mut connection = Connection::open(origin.address());
        let answer = connection.ask(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        );
        assert_eq!(answer.json()["body"], "hello");
        assert_eq!(origin.only().trailers, [("X-T".to_string(), "1".to_string())]);
        assert_eq!(connection.ask("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").json()["target"], "/2");
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn breaks_off_where_it_is_told() {
        let origin =
            Origin::start(|_| Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()));
        let answer = Request::get("/").send(origin.address());
        assert!(!answer.complete);
        assert_eq!(answer.text(), "half");
    }
}
