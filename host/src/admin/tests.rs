//! The admin listener over real sockets: who gets in, what is served, what is bounded.

use super::*;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

struct Scripted {
    ready: Mutex<Ready>,
    /// What the next reload gives, once it comes.
    reload: Mutex<Option<oneshot::Receiver<Result<String, String>>>>,
    reloaded: Mutex<Option<oneshot::Sender<()>>>,
}

impl Source for Scripted {
    fn ready(&self) -> Ready {
        *self.ready.lock().unwrap()
    }
    fn config(&self) -> Value {
        json!({ "apis": [{ "name": "employee-api", "path": "/api/<b>" }] })
    }
    fn plugins(&self) -> Value {
        json!([{ "name": "jwt", "hash": "abc" }])
    }
    fn upstreams(&self) -> Value {
        json!([{ "name": "employees", "endpoints": [{ "url": "http://127.0.0.1:1", "healthy": true }] }])
    }
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
        let (result, done) = (self.reload.lock().unwrap().take(), self.reloaded.lock().unwrap().take());
        Box::pin(async move {
            let result = result.expect("a reload is expected").await.expect("a result comes");
            if let Some(done) = done {
                let _ = done.send(());
            }
            result
        })
    }
    fn metrics(&self, out: &mut String) {
        out.push_str("witgate_uptime_seconds 1.0\n");
    }
}

struct Admin {
    address: SocketAddr,
    source: Arc<Scripted>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

async fn start(token: Option<&str>) -> Admin {
    start_within(TIMES, token).await
}

async fn start_within(times: Times, token: Option<&str>) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let source = Arc::new(Scripted {
        ready: Mutex::new(Ready::Yes),
        reload: Mutex::new(None),
        reloaded: Mutex::new(None),
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = Settings { token: Arc::new(token.and_then(Token::new).map(Arc::new).into()) };
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(serve_within(times, listener, settings, source.clone(), shutdown));
    Admin { address, source, stop, served }
}

struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn has(&self, field: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(field))
    }
}

impl Admin {
    async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a request with `fields`, reads until the connection closes.
    async fn ask(&self, line: &str, fields: &str) -> Answered {
        let host = format!("Host: localhost:{}\r\n", self.address.port());
        read(self.send(&format!("{line} HTTP/1.1\r\n{host}{fields}\r\n")).await).await
    }

    fn expect_reload(&self) -> oneshot::Sender<Result<String, String>> {
        let (give, result) = oneshot::channel();
        *self.source.reload.lock().unwrap() = Some(result);
        give
    }
}

async fn read(mut stream: TcpStream) -> Answered {
    let mut bytes = Vec::new();
    // A reset may follow the answer where the server left bytes unread.
    if let Err(error) = stream.read_to_end(&mut bytes).await {
        assert!(!bytes.is_empty(), "no answer: {error}");
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answered { status, head: head.to_owned(), body: body.to_owned() }
}

#[tokio::test]
async fn everything_is_served_with_its_type() {
    let admin = start(None).await;
    let expected = [
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ready\n"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "witgate_uptime_seconds 1.0\n"),
        ("/config?x=1", "application/json", "\"employee-api\""),
        ("/plugins", "application/json", "\"hash\": \"abc\""),
        ("/upstreams", "application/json", "\"healthy\": true"),
        ("/", "text/html; charset=utf-8", "<td>/api/&lt;b&gt;</td>"),
    ];
    for (path, kind, part) in expected {
        let answered = admin.ask(&format!("GET {path}"), "").await;
        assert_eq!(answered.status, 200, "{path}");
        assert!(answered.body.contains(part), "{path}: {}", answered.body);
        for field in
            [&format!("content-type: {kind}"), "x-content-type-options: nosniff", "cache-control: no-store"]
        {
            assert!(answered.has(field), "{path}: {field} is not in {}", answered.head);
        }
        let head = admin.ask(&format!("HEAD {path}"), "").await;
        let length = format!("content-length: {}", answered.body.len());
        assert!(head.status == 200 && head.body.is_empty() && head.has(&length), "{path}: {}", head.head);
    }
}

#[tokio::test]
async fn the_dashboard_allows_its_own_style_and_nothing_else() {
    let answered = start(None).await.ask("GET /", "").await;
    let style = answered.body.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style.as_bytes());
    let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash);
    let policy = answered.head.lines().find(|line| line.starts_with("content-security-policy")).unwrap();
    assert!(
        policy.contains("default-src 'none'; ") && policy.contains(&format!("'sha256-{hash}'")),
        "{policy}"
    );
    assert!(!answered.body.contains("<script"));
}

#[tokio::test]
async fn health_does_not_depend_on_readiness() {
    let admin = start(Some("s3cret")).await;
    for (ready, status, text) in [
        (Ready::Starting, 503, "starting\n"),
        (Ready::Yes, 200, "ready\n"),
        (Ready::Draining, 503, "draining\n"),
    ] {
        *admin.source.ready.lock().unwrap() = ready;
        let answered = admin.ask("GET /readyz", "").await;
        assert_eq!((answered.status, answered.body.as_str()), (status, text));
        assert_eq!(admin.ask("GET /healthz", "").await.status, 200);
    }
    // A probe may know no name and speak HTTP/1.0.
    assert_eq!(read(admin.send("GET /healthz HTTP/1.0\r\n\r\n").await).await.status, 200);
    assert_eq!(read(admin.send("GET /metrics HTTP/1.0\r\n\r\n").await).await.status, 421);
}

#[tokio::test]
async fn other_methods_and_paths_are_problems() {
    let admin = start(None).await;
    for (line, allow) in
        [("POST /config", "GET, HEAD"), ("OPTIONS /healthz", "GET, HEAD"), ("GET /reload", "POST")]
    {
        let answered = admin.ask(line, "").await;
        assert_eq!(answered.status, 405, "{line}");
        assert!(answered.has(&format!("allow: {allow}")), "{}", answered.head);
    }
    for path in ["/nothing", "/config/", "//config", "/metrics%00", "/..", "/Healthz"] {
        let answered = admin.ask(&format!("GET {path}"), "").await;
        assert_eq!(answered.status, 404, "{path}");
        assert!(answered.has("content-type: application/problem+json"), "{}", answered.head);
        let problem: Value = serde_json::from_str(&answered.body).unwrap();
        assert_eq!(problem["status"], 404);
    }
}

#[tokio::test]
async fn the_token_and_the_site_are_checked_before_anything_is_told() {
    let admin = start(Some("s3cret")).await;
    for path in ["/metrics", "/config", "/plugins", "/upstreams", "/", "/nothing"] {
        let answered = admin.ask(&format!("GET {path}"), "").await;
        assert_eq!(answered.status, 401, "{path}");
        assert!(answered.has("www-authenticate: Bearer"), "{}", answered.head);
    }
    let token = "Authorization: Bearer s3cret\r\n";
    assert_eq!(admin.ask("GET /metrics", token).await.status, 200);
    let foreign = format!("{token}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(admin.ask("GET /metrics", &foreign).await.status, 403);
    let foreign = format!("{token}Origin: http://evil.example\r\n");
    assert_eq!(admin.ask("POST /reload", &foreign).await.status, 403);
    let rebound = "GET /config HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(read(admin.send(rebound).await).await.status, 421);
}

#[tokio::test]
async fn a_reload_answers_with_its_report() {
    let admin = start(None).await;
    let results = [
        (Ok("1 API changed".to_owned()), 200, "1 API changed\n"),
        (Err("witgate.yaml:3:1: no\n1 error\n".to_owned()), 422, "witgate.yaml:3:1: no\n1 error\n"),
    ];
    for (result, status, text) in results {
        admin.expect_reload().send(result).unwrap();
        let answered = admin.ask("POST /reload", "Content-Length: 0\r\n").await;
        assert_eq!((answered.status, answered.body.as_str()), (status, text));
    }
    // Nothing is prepared, so the source panics.
    let answered = admin.ask("POST /reload", "").await;
    assert_eq!(answered.status, 500);
    assert!(!answered.body.contains("expected"), "{}", answered.body);
    assert_eq!(admin.ask("GET /healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_reload_goes_on_when_its_client_is_gone() {
    let admin = start(None).await;
    let give = admin.expect_reload();
    let (done, reloaded) = oneshot::channel();
    *admin.source.reloaded.lock().unwrap() = Some(done);
    let stream = admin.send("POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    while admin.source.reload.lock().unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    drop(stream);
    assert_eq!(admin.ask("GET /healthz", "").await.status, 200);
    give.send(Ok(String::new())).unwrap();
    reloaded.await.unwrap();
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let admin = start(None).await;
    let two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
    let answered = read(admin.send(&two).await).await;
    assert!(answered.has("connection: close") && answered.body == "ok\n", "{}", answered.head);
}

#[tokio::test]
async fn heads_are_bounded() {
    let admin = start(None).await;
    let many = "X: y\r\n".repeat(HEADERS_MAX + 1);
    assert_eq!(admin.ask("GET /healthz", &many).await.status, 431);
    let long = format!("X: {}\r\n", "y".repeat(HEAD_BYTES_MAX));
    assert_eq!(admin.ask("GET /healthz", &long).await.status, 431);
    assert_eq!(read(admin.send("nonsense\r\n\r\n").await).await.status, 400);
}

#[tokio::test]
async fn slow_clients_make_room_in_time() {
    let admin = start_within(Times { head: Duration::from_millis(50), ..TIMES }, None).await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        slow.push(admin.send("GET /healthz HTTP/1.1\r\n").await);
    }
    // This one is accepted when the head time of the others is over.
    assert_eq!(admin.ask("GET /healthz", "").await.status, 200);
}

#[tokio::test]
async fn answers_under_way_survive_the_shutdown() {
    let admin = start(None).await;
    let give = admin.expect_reload();
    let stream = admin.send("POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    while admin.source.reload.lock().unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    admin.stop.send(()).unwrap();
    while TcpStream::connect(admin.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    give.send(Ok("done".to_owned())).unwrap();
    assert_eq!(read(stream).await.body, "done\n");
    admin.served.await.unwrap();
}
