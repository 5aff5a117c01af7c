//! HTTP/1 as bytes: a connection that sends whatever it is told and reads answers by their framing.
//!
//! Deliberately small and strict: what it cannot parse is a test's failure.

use crate::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What both a plain and a TLS connection can do.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub struct Connection {
    stream: Box<dyn Stream>,
    tcp: TcpStream,
    /// Read, but not part of an answer yet.
    pub pending: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub version: String,
    /// In order, names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body came to the end that its framing promised.
    pub complete: bool,
}

impl Answer {
    /// The only value of a header; panics when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} came {} times: {values:?}", values.len());
        values.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// Panics with the whole answer when the status is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}\n{}", self.text());
        self
    }

    /// A problem document (RFC 9457) of the gateway with this reason.
    #[track_caller]
    pub fn expect_problem(self, status: u16, reason: &str) -> Answer {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{problem}");
        let kind = problem["type"].as_str().unwrap_or_default();
        assert_eq!(kind.rsplit(['/', ':', '#']).next(), Some(reason), "{problem}");
        answer
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let tcp = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let stream = tcp.try_clone().unwrap();
        Connection::over(Box::new(stream), tcp)
    }

    /// `stream` is what carries bytes, `tcp` the socket below it.
    pub fn over(stream: Box<dyn Stream>, tcp: TcpStream) -> Connection {
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        Connection { stream, tcp, pending: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// No more will be sent.
    pub fn finish(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Breaks off with a reset.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        self.tcp.set_read_timeout(Some(timeout)).unwrap();
    }

    pub fn set_write_timeout(&mut self, timeout: Duration) {
        self.tcp.set_write_timeout(Some(timeout)).unwrap();
    }

    /// Reads what comes next; 0 at the end.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let read = self.stream.read(&mut buffer)?;
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// Everything up to the other end's close (or reset); panics when it stays open.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("still open; so far: {:?}", String::from_utf8_lossy(&self.pending))
                }
                Err(_) => break,
            }
            assert!(Instant::now() < end, "still sending");
        }
        std::mem::take(&mut self.pending)
    }

    /// True when the other end has closed, or does within this time.
    pub fn closes_within(&mut self, time: Duration) -> bool {
        self.set_timeout(time);
        let closed = match self.fill() {
            Ok(read) => read == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.set_timeout(PATIENCE);
        closed
    }

    /// Reads exactly so many bytes.
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            let read = self.fill().unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.pending));
        }
        self.pending.drain(..count).collect()
    }

    /// Reads until `end` has come, and returns all up to and with it.
    pub fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.pending, end) {
                return Ok(self.pending.drain(..at + end.len()).collect());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The answer to a request other than HEAD.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap_or_else(|error| {
            panic!("no answer ({error}); so far: {:?}", String::from_utf8_lossy(&self.pending))
        })
    }

    /// Skips 100 Continue and the like. An answer whose body breaks off is one that is not
    /// `complete`; no head at all is an error.
    pub fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        loop {
            let mut answer = self.head()?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                continue;
            }
            let bodiless = to_head || matches!(answer.status, 101 | 204 | 304);
            answer.complete = bodiless || self.body(&mut answer).is_ok();
            return Ok(answer);
        }
    }

    /// The head of an answer, interim ones too; its body stays unread.
    pub fn head(&mut self) -> io::Result<Answer> {
        let head = self.read_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let mut status_line = lines.next().unwrap_or_default().splitn(3, ' ');
        let version = status_line.next().unwrap_or_default().to_string();
        assert!(version.starts_with("HTTP/1."), "not an answer: {head:?}");
        let status = status_line.next().unwrap_or_default().parse().unwrap_or_else(|_| panic!("{head:?}"));
        let reason = status_line.next().unwrap_or_default().to_string();
        let headers = lines.map(field).collect();
        let (body, trailers) = (Vec::new(), Vec::new());
        Ok(Answer { status, reason, version, headers, body, trailers, complete: false })
    }

    fn body(&mut self, answer: &mut Answer) -> io::Result<()> {
        let chunked = answer.all("transfer-encoding").iter().any(|v| v.eq_ignore_ascii_case("chunked"));
        if chunked {
            assert!(answer.all("content-length").is_empty(), "two framings: {answer:?}");
            loop {
                let line = self.read_until(b"\r\n")?;
                let size = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(size.trim_end().split(';').next().unwrap_or(""), 16)
                    .unwrap_or_else(|_| panic!("not a chunk size: {size:?}"));
                if size == 0 {
                    break;
                }
                self.take(size, &mut answer.body)?;
                let mut end = Vec::new();
                self.take(2, &mut end)?;
                assert_eq!(end, b"\r\n");
            }
            loop {
                let line = self.read_until(b"\r\n")?;
                if line == b"\r\n" {
                    return Ok(());
                }
                answer.trailers.push(field(String::from_utf8_lossy(&line).trim_end()));
            }
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            return self.take(length, &mut answer.body);
        }
        loop {
            answer.body.append(&mut self.pending);
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    /// Moves so many bytes into `to`; what came before an early end stays there.
    fn take(&mut self, count: usize, to: &mut Vec<u8>) -> io::Result<()> {
        let mut missing = count;
        loop {
            let now = missing.min(self.pending.len());
            to.extend(self.pending.drain(..now));
            missing -= now;
            if missing == 0 {
                return Ok(());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends, reads the answer, and stays open.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes);
        self.answer()
    }
}

pub fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
    (name.to_string(), value.trim().to_string())
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
