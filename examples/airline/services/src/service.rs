//! One web API: `/healthz`, the list, one by id, adding one, and `whoami`, which tells the
//! headers that identify the caller, so that one sees what the gateway's policies did.
//!
//! Paths are the ones that the gateway publishes: `/api/employee`, `/api/employee/{id}`.

use crate::records::{Records, Refused};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// No sample record is larger.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long answers under way may take once the demo ends.
const DRAIN: Duration = Duration::from_secs(2);

/// What `whoami` tells; everything else about a request is nobody's business.
const TOLD: &[&str] = &[
    "authorization",
    "forwarded",
    "ocp-apim-subscription-key",
    "x-aircraft-registry",
    "x-api",
    "x-debug",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "x-role",
    "x-user",
];

pub struct Service {
    /// The last part of the base path: `employee` or `flight`.
    kind: String,
    /// Tells instances of one service apart.
    name: String,
    records: Records,
}

impl Service {
    pub fn new(kind: &str, name: &str, records: Records) -> Service {
        Service { kind: kind.into(), name: name.into(), records }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_string();
        if path == "/healthz" {
            return json_response(StatusCode::OK, &json!({"status": "ok", "service": self.name}));
        }
        let base = format!("/api/{}", self.kind);
        let Some(rest) = path.strip_prefix(&base).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        else {
            return problem(StatusCode::NOT_FOUND, &format!("nothing is at {path}"));
        };
        let id = rest.trim_start_matches('/');
        match (request.method(), id) {
            (&Method::GET, "whoami") => self.whoami(&request),
            (&Method::GET, "") => {
                let wanted = query(request.uri().query().unwrap_or_default());
                self.respond(StatusCode::OK, &self.records.list(&wanted), &request)
            }
            (&Method::GET, id) => match self.records.get(id) {
                Some(record) => self.respond(StatusCode::OK, &record, &request),
                None => problem(StatusCode::NOT_FOUND, &format!("there is no {} {id}", self.kind)),
            },
            (&Method::POST, "") => self.add(request).await,
            _ => {
                let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "GET, or POST to the list");
                response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, POST"));
                response
            }
        }
    }

    fn whoami(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut told = serde_json::Map::new();
        for name in TOLD {
            let lines: Vec<_> = request.headers().get_all(*name).iter().collect();
            if !lines.is_empty() {
                let lines: Vec<_> =
                    lines.iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
                told.insert((*name).into(), lines.join(", ").into());
            }
        }
        let target = request.uri().path_and_query().map(ToString::to_string);
        let who = json!({"service": self.name, "target": target, "headers": told});
        self.respond(StatusCode::OK, &who, request)
    }

    async fn add(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (_, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "the record is too large");
        };
        let Ok(record) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
            return problem(StatusCode::BAD_REQUEST, "the body is not JSON");
        };
        match self.records.add(record) {
            Ok(record) => json_response(StatusCode::CREATED, &record),
            Err(Refused::NotAnObject) => problem(StatusCode::BAD_REQUEST, "a record is a JSON object"),
            Err(Refused::Full) => problem(StatusCode::INSUFFICIENT_STORAGE, "no more records fit"),
        }
    }

    /// A good answer, with two headers that show what response policies do.
    fn respond(
        &self,
        status: StatusCode,
        body: &Value,
        request: &Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let mut response = json_response(status, body);
        let headers = response.headers_mut();
        if let Ok(name) = self.name.parse() {
            headers.insert("x-served-by", name);
        }
        headers.insert("server", hyper::header::HeaderValue::from_static("airline-services/0.1"));
        if let Some(registry) = request.headers().get("x-aircraft-registry") {
            headers.insert("x-registry-seen", registry.clone());
        }
        response
    }
}

/// Pairs of a query without escapes, which sample data has none of.
fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    json_response(status, &json!({"error": status.canonical_reason(), "detail": detail}))
}

/// Serves until SIGINT or SIGTERM, then lets the answers under way end.
pub async fn run(address: SocketAddr, service: Service) -> Result<(), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("{} ready: {address}", service.name);
    LocalSet::new().run_until(serve(listener, Rc::new(service))).await
}

async fn serve(listener: TcpListener, service: Rc<Service>) -> Result<(), String> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let (ending, end) = tokio::sync::watch::channel(false);
    let open = Rc::new(Cell::new(0_usize));
    loop {
        let stream = tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of file descriptors, say: others will close theirs.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (service, open, mut end) = (service.clone(), open.clone(), end.clone());
        open.set(open.get() + 1);
        tokio::task::spawn_local(async move {
            let answer = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            let mut connection = pin!(connection);
            tokio::select! {
                // A client that breaks off is its own affair.
                _ = connection.as_mut() => {}
                _ = end.changed() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            open.set(open.get() - 1);
        });
    }
    drop(listener);
    let _ = ending.send(true);
    let _ = tokio::time::timeout(DRAIN, async {
        while open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn queries_are_pairs() {
        assert_eq!(query("a=1&b&c="), [("a".into(), "1".into()), ("c".into(), String::new())]);
        assert!(query("").is_empty());
    }
}
