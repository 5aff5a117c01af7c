//! One GET and its answer, for the control runtime: key sets and health checks.
//!
//! Called by `token` and by this room's health checks. A connection for each call, no redirects,
//! bounded in time and bytes. Never on a request's way: that is `Pool::send`.

use super::dial::{DialError, Dialer, Stream};
use super::settings::Protocol;
use super::{UpstreamError, tls};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What a fetch may cost.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// All of it, look-up to last byte.
    pub timeout: Duration,
    /// Bytes of the body.
    pub bytes: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum FetchError {
    /// Not an absolute `http` or `https` URL.
    Url,
    Tls(UpstreamError),
    Connect(String),
    Timeout,
    /// Anything but 200; redirects are not followed.
    Status(StatusCode),
    TooLarge,
    /// The exchange broke.
    Broken(hyper::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Url => f.write_str("not an absolute http or https URL"),
            FetchError::Tls(error) => error.fmt(f),
            FetchError::Connect(what) => f.write_str(what),
            FetchError::Timeout => f.write_str("took too long"),
            FetchError::Status(status) => write!(f, "answered {status}"),
            FetchError::TooLarge => f.write_str("the answer is too large"),
            FetchError::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FetchError {}

impl From<hyper::Error> for FetchError {
    fn from(error: hyper::Error) -> FetchError {
        FetchError::Broken(error)
    }
}

impl From<DialError> for FetchError {
    fn from(error: DialError) -> FetchError {
        match error {
            DialError::Timeout => FetchError::Timeout,
            DialError::Failed(what) => FetchError::Connect(what.into()),
        }
    }
}

/// The body behind `url`, which must answer 200. `roots`: a PEM bundle trusted beside the Mozilla
/// roots.
pub async fn get(url: &str, limits: FetchLimits, roots: Option<&Path>) -> Result<Bytes, FetchError> {
    let url: Uri = url.parse().map_err(|_| FetchError::Url)?;
    let https = match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(FetchError::Url),
    };
    let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.ok_or(FetchError::Url)?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let config = if https { Some(tls::fetch_config(roots).map_err(FetchError::Tls)?) } else { None };
    let config = config.as_ref().map(|config| (config, name));
    let dialer = Dialer::with(name, port, Protocol::Http1, config).map_err(FetchError::Tls)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| FetchError::Url)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = request(path, host).ok_or(FetchError::Url)?;
    let exchange = async {
        let stream = dialer.dial(Duration::ZERO).await?;
        let answer = exchange_http1(stream, request, limits.bytes).await?;
        if answer.status == StatusCode::OK { Ok(answer.body) } else { Err(FetchError::Status(answer.status)) }
    };
    tokio::time::timeout(limits.timeout, exchange).await.unwrap_or(Err(FetchError::Timeout))
}

/// The status that an endpoint answers a check with.
pub(super) async fn probe(
    dialer: &Dialer,
    protocol: Protocol,
    path: &str,
    host: &HeaderValue,
    timeout: Duration,
) -> Result<StatusCode, FetchError> {
    let request = request(path, host.clone()).ok_or(FetchError::Url)?;
    let exchange = async {
        let stream = dialer.dial(Duration::ZERO).await?;
        match protocol {
            // Of the body nobody reads anything: the status is all.
            Protocol::Http1 => exchange_status_http1(stream, request).await,
            Protocol::Http2 => exchange_status_http2(stream, request, dialer.is_tls()).await,
        }
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(FetchError::Timeout))
}

fn request(path: &str, host: HeaderValue) -> Option<Request<Empty<Bytes>>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("witgate/", env!("CARGO_PKG_VERSION"))));
    Some(request)
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

async fn exchange_http1(
    stream: Stream,
    request: Request<Empty<Bytes>>,
    bytes_max: usize,
) -> Result<Answer, FetchError> {
    let (mut sender, _connection) = handshake_http1(stream).await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if body.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body: body.freeze() })
}

async fn exchange_status_http1(
    stream: Stream,
    request: Request<Empty<Bytes>>,
) -> Result<StatusCode, FetchError> {
    let (mut sender, _connection) = handshake_http1(stream).await?;
    Ok(sender.send_request(request).await?.status())
}

async fn handshake_http1(stream: Stream) -> Result<(http1::SendRequest<Empty<Bytes>>, Running), FetchError> {
    let (sender, connection) = http1::Builder::new()
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((sender, Running::spawn(connection)))
}

async fn exchange_status_http2(
    stream: Stream,
    mut request: Request<Empty<Bytes>>,
    tls: bool,
) -> Result<StatusCode, FetchError> {
    let host = request.headers_mut().remove(HOST).ok_or(FetchError::Url)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(host.as_bytes().try_into().map_err(|_| FetchError::Url)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| FetchError::Url)?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .handshake(TokioIo::new(stream))
        .await?;
    let _connection = Running::spawn(connection);
    Ok(sender.send_request(request).await?.status())
}

/// A connection's task, ended with whoever holds this.
struct Running(JoinHandle<()>);

impl Running {
    fn spawn(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Running {
        Running(tokio::spawn(async move {
            // The request on it tells what went wrong.
            let _ = connection.await;
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
