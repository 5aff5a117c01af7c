//! Whole exchanges from raw bytes: a client that sends anything, the gateway on real sockets in this
//! process, and an upstream that reads strictly.
//!
//! What must hold: the upstream gets requests that can be read in one way only, with a normal path
//! and no field that ends at the gateway; of what a strict reader takes of the client's bytes, the
//! upstream gets exactly that, in order, and of the rest nothing that was not there; nobody is
//! answered more often than asked; the connection ends.

use crate::http1::{Message, Reading, find, read};
use crate::path::assert_normal;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use witgate::message::path::{check_query, normalise};
use witgate::server::{Gateway, Origin};

pub const HTTP1_WORDS: &[&str] = &[
    "GET /a HTTP/1.1\r\n",
    "GET /a/b?c=d HTTP/1.1\r\n",
    "POST /a HTTP/1.1\r\n",
    "HEAD / HTTP/1.1\r\n",
    "GET /../a HTTP/1.1\r\n",
    "GET http://h/a HTTP/1.1\r\n",
    "GET /a#b HTTP/1.1\r\n",
    "GET /a HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "CONNECT h:80 HTTP/1.1\r\n",
    "Host: h\r\n",
    "Host: h\r\n\r\n",
    "\r\n",
    "\n",
    "\r",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length: 5, 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "transfer-encoding: chunked\r\n",
    "hello",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX-T: 1\r\n\r\n",
    "5;x=y\r\n",
    "5\n",
    "Connection: close\r\n",
    "Connection: x-a, content-length\r\n",
    "Connection: keep-alive\r\n",
    "X-A: 1\r\n",
    "X_A: 1\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "TE: trailers\r\n",
    " ",
    "\t",
    ":",
    "GET ",
    " HTTP/1.1",
    "/",
    "..",
    "%2e",
    "\0",
    "\u{ff}",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "X-A : 1\r\n",
    " folded\r\n",
    "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
];

/// Frames, a length of three bytes and all, and pieces of header blocks (RFC 7541, appendix A: 0x82 is
/// `:method: GET`, 0x86 `:scheme: http`, 0x84 `:path: /`, 0x41 a literal `:authority`).
pub const HTTP2_WORDS: &[&str] = &[
    "\0\0\u{6}\u{1}\u{5}\0\0\0\u{1}",
    "\0\0\u{9}\u{1}\u{4}\0\0\0\u{3}",
    "\0\0\0\0\u{1}\0\0\0\u{1}",
    "\0\0\u{5}\0\u{1}\0\0\0\u{3}hello",
    "\0\0\u{4}\u{3}\0\0\0\0\u{1}\0\0\0\u{8}",
    "\0\0\u{4}\u{8}\0\0\0\0\0\0\0\u{1}\0",
    "\0\0\u{8}\u{6}\0\0\0\0\0pingpong",
    "\0\0\0\u{4}\u{1}\0\0\0\0",
    "A\u{1}h",
    "D\u{4}/a#b",
    "D\u{5}/../a",
    "D\u{2}/a",
    "\0",
    "@\u{2}te\u{8}trailers",
    "@\u{11}transfer-encoding\u{7}chunked",
    "@\u{e}content-length\u{1}5",
    "@\u{4}host\u{1}x",
    "\u{1}",
    "\u{5}",
    "h",
    "@\u{a}connection\u{3}x-a",
    "@\u{3}x\r\n\u{1}1",
];

/// Sent by nobody but the gateway, or meant for it alone.
const ENDS_HERE: &[&str] = &[
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];

/// So long nothing may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A client whose bytes are doubtful listens so long for an answer before it hangs up.
const LISTENS: Duration = Duration::from_millis(25);

struct Scene {
    gateway: SocketAddr,
    seen: Arc<Mutex<Vec<Result<Message, String>>>>,
    _runtime: Runtime,
    _gateway: Arc<Gateway>,
}

static SCENE: LazyLock<Mutex<Scene>> = LazyLock::new(|| Mutex::new(Scene::start()));

impl Scene {
    fn start() -> Scene {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = upstream.local_addr().unwrap();
        let told = seen.clone();
        std::thread::spawn(move || {
            for stream in upstream.incoming().flatten() {
                let told = told.clone();
                std::thread::spawn(move || serve(stream, &told));
            }
        });
        // Free a moment ago; a test that takes it in between makes this one fail, loudly.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "listeners: [{{ name: public, address: '{listen}' }}]\nserver: {{ workers: 1 }}\naccess_log: {{ enabled: false }}\n\
             upstreams: {{ a: {{ endpoints: ['http://{address}'] }} }}\napis: [{{ name: a, path: /, upstream: a }}]\n"
        );
        let folder = std::env::temp_dir();
        let config = witgate::config::load_text(&folder.join("witgate.yaml"), text)
            .unwrap_or_else(|report| panic!("{report}"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gateway = runtime.block_on(Gateway::start(Origin::Given(Box::new(config.config)))).unwrap();
        Scene { gateway: listen, seen, _runtime: runtime, _gateway: gateway }
    }
}

/// Reads requests to the connection's end; whatever is not plain is told as it is.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Result<Message, String>>>) {
    let mut pending = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match read(&pending) {
            Reading::Whole(message, length) => {
                pending.drain(..length);
                let head = message.method == "HEAD";
                seen.lock().unwrap().push(Ok(message));
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", if head { "" } else { "ok" });
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                continue;
            }
            Reading::Doubtful("trailers") if find(&pending, b"\r\n\r\n").is_some() => {
                // The gateway passes trailers on; a reader that wants none hangs up.
                return;
            }
            Reading::Doubtful(why) => {
                let shown = String::from_utf8_lossy(&pending).into_owned();
                seen.lock().unwrap().push(Err(format!("{why}: {shown:?}")));
                return;
            }
            Reading::Incomplete => {}
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => pending.extend_from_slice(&buffer[..count]),
        }
    }
}

pub fn http1(input: &[u8]) {
    let mut expected = Vec::new();
    let mut at = 0;
    // Once something is not plain, what the gateway makes of the rest is its own affair.
    let mut doubtful = false;
    let mut asked = 0;
    while at < input.len() {
        let message = match read(&input[at..]) {
            Reading::Whole(message, length) => {
                at += length;
                message
            }
            Reading::Incomplete => break,
            Reading::Doubtful(_) => {
                doubtful = true;
                break;
            }
        };
        if !is_unremarkable(&message) {
            doubtful = true;
            break;
        }
        asked += 1;
        expected.push(message);
    }
    let (seen, answer) = talk(input, (!doubtful).then_some(asked));
    for (index, message) in seen.iter().enumerate() {
        let message = message
            .as_ref()
            .unwrap_or_else(|why| panic!("{:?} became {why}", String::from_utf8_lossy(input)));
        assert_clean(message);
        let Some(sent) = expected.get(index) else {
            assert!(doubtful, "{:?} became {seen:?}", String::from_utf8_lossy(input));
            continue;
        };
        assert_eq!((&message.method, &message.target), (&sent.method, &normal(&sent.target).unwrap()));
        assert_eq!(message.body, sent.body, "{:?}", String::from_utf8_lossy(input));
    }
    assert!(seen.len() >= expected.len(), "{} of {} reached the upstream", seen.len(), expected.len());
    let statuses =
        answer.split(|byte| *byte == b'\n').filter(|line| find(line, b"HTTP/1.1 200 ").is_some()).count();
    assert!(statuses <= seen.len(), "{statuses} answers to {} requests", seen.len());
}

pub fn http2(input: &[u8]) {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // Words are text; header blocks need bytes beyond it.
    let indexed = input.iter().map(|byte| match byte {
        b'G' => 0x82,
        b'S' => 0x86,
        b'P' => 0x84,
        byte => *byte,
    });
    bytes.extend(indexed);
    let (seen, _) = talk(&bytes, None);
    for message in &seen {
        assert_clean(message.as_ref().unwrap_or_else(|why| panic!("{input:?} became {why}")));
    }
}

/// What every request must be like that an upstream gets.
fn assert_clean(message: &Message) {
    let (path, query) =
        message.target.split_once('?').map_or((&*message.target, None), |(p, q)| (p, Some(q)));
    assert_normal(path);
    assert!(query.is_none_or(|query| check_query(query).is_ok()), "{message:?}");
    for name in ENDS_HERE {
        let left = message.all(name);
        let passed_on = match *name {
            "te" => left == ["trailers"],
            "expect" => left == ["100-continue"],
            "connection" => left == ["upgrade"] && message.all("upgrade").len() == 1,
            "upgrade" => {
                let carries_http = |protocol: &str| {
                    let name = protocol.split('/').next().unwrap().to_ascii_lowercase();
                    ["h2c", "h2", "h3", "http", "tls"].contains(&name.as_str())
                };
                left.len() == 1 && !left[0].split(',').any(|protocol| carries_http(protocol.trim()))
            }
            _ => false,
        };
        assert!(left.is_empty() || passed_on, "{name} in {message:?}");
    }
    for name in ["host", "x-forwarded-for", "x-forwarded-proto", "forwarded"] {
        assert_eq!(message.all(name).len(), 1, "{name} in {message:?}");
    }
    assert_eq!(message.all("x-forwarded-for"), ["127.0.0.1"], "{message:?}");
    assert!(!message.fields.iter().any(|(name, _)| name.contains('_')), "{message:?}");
}

/// Nothing in it that the gateway answers itself, or treats in a way of its own.
fn is_unremarkable(message: &Message) -> bool {
    let special = ["connection", "upgrade", "expect", "te", "keep-alive", "proxy-connection", "trailer"];
    let host = message.all("host");
    let plain_host = |host: &str| {
        !host.is_empty() && host.len() < 100 && host.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let repeated = message.fields.iter().any(|(name, _)| message.all(name).len() > 1);
    ["GET", "POST", "PUT", "DELETE", "PATCH"].contains(&message.method.as_str())
        && host.len() == 1
        && plain_host(host[0])
        && !repeated
        && !message.fields.iter().any(|(name, _)| special.contains(&name.as_str()))
        && normal(&message.target).is_some()
}

fn normal(target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = normalise(path).ok()?;
    match query {
        Some(query) => check_query(query).ok().map(|()| format!("{path}?{query}")),
        None => Some(path.into_owned()),
    }
}

/// Sends the bytes, waits for so many answers (or for a while), hangs up, and reads to the end.
fn talk(input: &[u8], answers: Option<usize>) -> (Vec<Result<Message, String>>, Vec<u8>) {
    let scene = SCENE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    scene.seen.lock().unwrap().clear();
    let mut stream = TcpStream::connect(scene.gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    // In two parts, so that heads and bodies are cut at any byte.
    let cut = input.iter().fold(input.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(*byte))
        % (input.len() + 1);
    // Fails where the gateway has closed already.
    let _ = stream.write_all(&input[..cut]).and_then(|()| stream.write_all(&input[cut..]));
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    let done = |answer: &[u8]| {
        let heads = answer.windows(9).filter(|window| *window == b"HTTP/1.1 ").count();
        answers.is_some_and(|count| heads >= count && (count == 0 || answer.ends_with(b"\r\n\r\nok")))
    };
    stream.set_read_timeout(Some(if answers.is_some() { PATIENCE } else { LISTENS })).unwrap();
    while !done(&answer) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(_) if answers.is_none() => break,
            Err(error) => panic!(
                "{:?}: no answer, {error}: {:?}",
                String::from_utf8_lossy(input),
                String::from_utf8_lossy(&answer)
            ),
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!("{:?}: the connection stays open", String::from_utf8_lossy(input))
            }
            Err(_) => break,
        }
    }
    let seen = scene.seen.lock().unwrap().clone();
    (seen, answer)
}
