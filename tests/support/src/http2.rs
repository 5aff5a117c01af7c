//! HTTP/2 in both roles: a client with prior knowledge or over TLS, and an upstream with trailers.
//!
//! Each has a small runtime of its own, so that tests stay blocking.

use crate::PATIENCE;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

#[derive(Debug)]
pub struct H2Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl H2Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name)?.to_str().ok()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub struct H2Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    /// Ends when the server has closed the connection.
    done: tokio::task::JoinHandle<()>,
    authority: String,
    scheme: &'static str,
}

impl H2Client {
    /// In clear, with prior knowledge.
    pub fn clear(address: SocketAddr) -> H2Client {
        let runtime = runtime();
        let (sender, done) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            handshake(stream).await
        });
        H2Client { runtime, sender, done, authority: "localhost".into(), scheme: "http" }
    }

    pub fn tls(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> H2Client {
        let runtime = runtime();
        let server = ServerName::try_from(name.to_string()).unwrap();
        let (sender, done) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(server, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()), "ALPN");
            handshake(stream).await
        });
        H2Client { runtime, sender, done, authority: name.into(), scheme: "https" }
    }

    pub fn get(&mut self, path: &str) -> H2Answer {
        self.ask(Method::GET, path, &[], Vec::new())
    }

    pub fn ask(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> H2Answer {
        self.try_ask(method, path, headers, body).unwrap()
    }

    pub fn try_ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<H2Answer, String> {
        let authority = headers.iter().find(|(name, _)| *name == ":authority").map(|(_, value)| *value);
        let authority = authority.unwrap_or(&self.authority);
        let mut request = hyper::Request::builder();
        request = request.method(method).uri(format!("{}://{authority}{path}", self.scheme));
        for (name, value) in headers.iter().filter(|(name, _)| !name.starts_with(':')) {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                sender.ready().await.map_err(|error| error.to_string())?;
                let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let (parts, body) = response.into_parts();
                let collected = body.collect().await.map_err(|error| error.to_string())?;
                let trailers = collected.trailers().cloned();
                let body = collected.to_bytes().to_vec();
                Ok(H2Answer { status: parts.status, headers: parts.headers, body, trailers })
            })
            .await
            .unwrap_or_else(|_| panic!("no answer to {path} within {PATIENCE:?}"))
        })
    }

    /// All at once on this connection; the answers in order.
    pub fn get_all(&mut self, paths: &[String]) -> Vec<Result<H2Answer, String>> {
        let (authority, scheme) = (self.authority.clone(), self.scheme);
        let sender = self.sender.clone();
        self.runtime.block_on(async {
            let calls: Vec<_> = paths
                .iter()
                .map(|path| {
                    let mut sender = sender.clone();
                    let request = hyper::Request::get(format!("{scheme}://{authority}{path}"));
                    let request = request.body(Full::new(Bytes::new())).unwrap();
                    tokio::spawn(async move {
                        sender.ready().await.map_err(|error| error.to_string())?;
                        let response =
                            sender.send_request(request).await.map_err(|error| error.to_string())?;
                        let (parts, body) = response.into_parts();
                        let body =
                            body.collect().await.map_err(|error| error.to_string())?.to_bytes().to_vec();
                        Ok(H2Answer { status: parts.status, headers: parts.headers, body, trailers: None })
                    })
                })
                .collect();
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                answers.push(call.await.unwrap());
            }
            answers
        })
    }

    /// True once the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.done.is_finished()
    }
}

async fn handshake<S>(stream: S) -> (SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let done = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, done)
}

/// What an HTTP/2 upstream answers.
#[derive(Clone, Default)]
pub struct H2Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub chunks: Vec<Vec<u8>>,
    pub trailers: Vec<(&'static str, String)>,
}

/// A request as an HTTP/2 upstream saw it.
#[derive(Clone, Debug)]
pub struct H2Seen {
    pub method: String,
    pub path: String,
    pub authority: Option<String>,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// An upstream that speaks HTTP/2 in clear.
pub struct H2Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<H2Seen>>>,
    runtime: Option<Runtime>,
}

impl H2Origin {
    pub fn start(script: impl Fn(&H2Seen) -> H2Reply + Send + Sync + 'static) -> H2Origin {
        let runtime = runtime();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (script, record) = (Arc::new(script), seen.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, record) = (script.clone(), record.clone());
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        answer(request, script.clone(), record.clone())
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        H2Origin { address, seen, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<H2Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Frames = StreamBody<FrameList>;

async fn answer(
    request: hyper::Request<Incoming>,
    script: Arc<impl Fn(&H2Seen) -> H2Reply>,
    record: Arc<Mutex<Vec<H2Seen>>>,
) -> Result<hyper::Response<Frames>, Infallible> {
    let (parts, body) = request.into_parts();
    let (body, trailers) = match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            (collected.to_bytes().to_vec(), trailers)
        }
        Err(_) => (Vec::new(), None),
    };
    let seen = H2Seen {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: parts.uri.authority().map(ToString::to_string),
        headers: parts.headers,
        body,
        trailers,
    };
    let reply = script(&seen);
    record.lock().unwrap().push(seen);
    let mut response = hyper::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let mut frames: Vec<_> = reply.chunks.into_iter().map(|chunk| Frame::data(Bytes::from(chunk))).collect();
    if !reply.trailers.is_empty() {
        let fields =
            reply.trailers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        frames.push(Frame::trailers(fields.collect()));
    }
    Ok(response.body(StreamBody::new(FrameList(frames.into_iter()))).unwrap())
}

/// Frames that are all there already, as a stream.
pub struct FrameList(std::vec::IntoIter<Frame<Bytes>>);

impl futures_core::Stream for FrameList {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_go_both_ways() {
        let origin = H2Origin::start(|seen| H2Reply {
            status: 200,
            chunks: vec![seen.body.clone()],
            trailers: vec![("grpc-status", "0".into())],
            ..H2Reply::default()
        });
        let mut client = H2Client::clear(origin.address);
        let answer = client.ask(Method::POST, "/pkg.Service/Call", &[("te", "trailers")], b"abc".to_vec());
        assert_eq!((answer.text().as_str(), answer.trailer("grpc-status")), ("abc", Some("0")));
        assert_eq!(origin.seen()[0].path, "/pkg.Service/Call");
    }
}
