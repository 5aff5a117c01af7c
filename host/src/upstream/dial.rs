//! Name look-up, TCP and TLS: from an endpoint to a byte stream.
//!
//! Called by `http1` and `http2` when no connection is at hand, and by health checks and fetches on
//! the control runtime, so all here is `Send`. Never speaks HTTP, never tries again: who called
//! decides that.

use super::UpstreamError;
use super::settings::{Protocol, Settings};
use crate::socket;
use arc_swap::ArcSwapOption;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long addresses of a name are believed: `getaddrinfo` tells no TTL, and this is what
/// orchestrators commonly give.
const ADDRESSES_TTL: Duration = Duration::from_secs(30);
/// How long a failed look-up is believed, so that an outage of DNS is not a flood of look-ups.
const FAILURE_TTL: Duration = Duration::from_secs(1);
/// Addresses kept of one name.
const ADDRESSES_MAX: usize = 16;
/// After this silence the kernel begins to ask whether the peer is still there: streams may be
/// quiet for hours, and a peer that lost power never says good-bye.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Knows how to reach one endpoint.
pub(super) struct Dialer {
    host: Box<str>,
    port: u16,
    /// The host as an address, which needs no look-up.
    literal: Option<IpAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    protocol: Protocol,
    addresses: ArcSwapOption<Addresses>,
    /// Held while a name is looked up: one at a time for each endpoint.
    lookup: tokio::sync::Mutex<()>,
    /// Spreads connections over the addresses of a name.
    turn: AtomicUsize,
}

struct Addresses {
    list: Vec<SocketAddr>,
    /// Why the list is empty.
    error: Option<Box<str>>,
    until: Instant,
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum DialError {
    Timeout,
    Failed(Box<str>),
}

impl DialError {
    fn new(what: &str, error: &dyn fmt::Display) -> DialError {
        DialError::Failed(format!("{what}: {error}").into())
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Timeout => f.write_str("connecting took too long"),
            DialError::Failed(what) => f.write_str(what),
        }
    }
}

impl Dialer {
    /// `tls`: speak TLS with this configuration.
    pub(super) fn new(
        host: &str,
        port: u16,
        settings: &Settings,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Dialer, UpstreamError> {
        let name = settings.tls.server_name.as_deref().unwrap_or(host);
        Dialer::with(host, port, settings.protocol, tls.map(|config| (config, name)))
    }

    pub(super) fn with(
        host: &str,
        port: u16,
        protocol: Protocol,
        tls: Option<(&Arc<rustls::ClientConfig>, &str)>,
    ) -> Result<Dialer, UpstreamError> {
        let tls = match tls {
            Some((config, name)) => {
                let server_name = ServerName::try_from(name.to_owned())
                    .map_err(|_| UpstreamError::ServerName(name.into()))?;
                Some((TlsConnector::from(config.clone()), server_name))
            }
            None => None,
        };
        Ok(Dialer {
            host: host.into(),
            port,
            literal: host.parse().ok(),
            tls,
            protocol,
            addresses: ArcSwapOption::empty(),
            lookup: tokio::sync::Mutex::new(()),
            turn: AtomicUsize::new(0),
        })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A stream to the endpoint within `timeout` (zero: however long it takes). Dropping it gives
    /// up the attempt and leaves nothing behind.
    pub(super) async fn dial(&self, timeout: Duration) -> Result<Stream, DialError> {
        if timeout.is_zero() {
            return self.dial_until(None).await;
        }
        let deadline = Instant::now() + timeout;
        tokio::time::timeout_at(deadline, self.dial_until(Some(deadline)))
            .await
            .unwrap_or(Err(DialError::Timeout))
    }

    async fn dial_until(&self, deadline: Option<Instant>) -> Result<Stream, DialError> {
        let tcp = self.connect(deadline).await?;
        // Neither is worth failing for.
        let _ = tcp.set_nodelay(true);
        let _ = SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let Some((connector, name)) = &self.tls else {
            return Ok(Stream { transport: Transport::Plain(tcp), probe: Probe::default() });
        };
        let stream = connector
            .connect(name.clone(), tcp)
            .await
            .map_err(|error| DialError::new("TLS handshake", &error))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        match self.protocol {
            Protocol::Http2 if agreed != Some(b"h2") => {
                Err(DialError::Failed("TLS handshake: the endpoint does not speak HTTP/2".into()))
            }
            Protocol::Http1 | Protocol::Http2 => {
                Ok(Stream { transport: Transport::Tls(Box::new(stream)), probe: Probe::default() })
            }
        }
    }

    /// Tries every address once, each for a fair part of the time that is left, so that a dead one
    /// does not eat the turn of a live one.
    async fn connect(&self, deadline: Option<Instant>) -> Result<TcpStream, DialError> {
        if let Some(address) = self.literal {
            let address = SocketAddr::new(address, self.port);
            return TcpStream::connect(address).await.map_err(|error| DialError::new("connect", &error));
        }
        let addresses = self.resolve().await?;
        let count = addresses.list.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut last = DialError::Failed("the name has no address".into());
        for tried in 0..count {
            let Some(address) = addresses.list.get((first.wrapping_add(tried)) % count) else { break };
            let attempt = TcpStream::connect(*address);
            let outcome = match deadline {
                None => attempt.await,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let part = left / u32::try_from(count - tried).unwrap_or(1);
                    match tokio::time::timeout(part, attempt).await {
                        Ok(outcome) => outcome,
                        Err(_) => {
                            last = DialError::Timeout;
                            continue;
                        }
                    }
                }
            };
            match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => last = DialError::new("connect", &error),
            }
        }
        Err(last)
    }

    async fn resolve(&self) -> Result<Arc<Addresses>, DialError> {
        if let Some(known) = self.fresh() {
            return known;
        }
        let _one_at_a_time = match (self.lookup.try_lock(), self.addresses.load_full()) {
            (Ok(guard), _) => guard,
            // Somebody is looking already, and what was true lately still serves.
            (Err(_), Some(stale)) if !stale.list.is_empty() => return Ok(stale),
            (Err(_), _) => self.lookup.lock().await,
        };
        if let Some(known) = self.fresh() {
            return known;
        }
        let (list, error) = match tokio::net::lookup_host((&*self.host, self.port)).await {
            Ok(found) => {
                let list: Vec<_> = found.take(ADDRESSES_MAX).collect();
                let error = list.is_empty().then(|| "look-up: the name has no address".into());
                (list, error)
            }
            Err(error) => (Vec::new(), Some(format!("look-up: {error}").into())),
        };
        let found = match (error, self.addresses.load_full()) {
            (None, _) => Addresses { list, error: None, until: Instant::now() + ADDRESSES_TTL },
            // A resolver that fails takes no service down whose address was known.
            (Some(_), Some(old)) if !old.list.is_empty() => {
                Addresses { list: old.list.clone(), error: None, until: Instant::now() + FAILURE_TTL }
            }
            (error, _) => Addresses { list, error, until: Instant::now() + FAILURE_TTL },
        };
        let found = Arc::new(found);
        self.addresses.store(Some(found.clone()));
        usable(found)
    }

    fn fresh(&self) -> Option<Result<Arc<Addresses>, DialError>> {
        let known = self.addresses.load_full()?;
        (known.until > Instant::now()).then(|| usable(known))
    }
}

fn usable(addresses: Arc<Addresses>) -> Result<Arc<Addresses>, DialError> {
    match &addresses.error {
        Some(error) => Err(DialError::Failed(error.clone())),
        None => Ok(addresses),
    }
}

/// A connected stream.
pub(super) struct Stream {
    transport: Transport,
    probe: Probe,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Asks a stream to look at its socket itself before it says that there is nothing to read.
///
/// The runtime learns of a peer's close only when it next polls the kernel, and until then an idle
/// connection looks alive. For a request that can be sent only once, a system call is worth it.
#[derive(Clone, Default)]
pub(super) struct Probe(Arc<AtomicBool>);

impl Probe {
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    pub(super) fn probe(&self) -> Probe {
        self.probe.clone()
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The peer's end, if the socket has seen it; anything else the runtime will tell.
    fn look(&self) -> Poll<io::Result<()>> {
        match SockRef::from(self.tcp()).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Poll::Ready(Ok(())),
            Ok(_) => Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if polled.is_pending()
            && this.probe.0.load(Ordering::Relaxed)
            && this.probe.0.swap(false, Ordering::Relaxed)
        {
            return this.look();
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => socket::poll_write_vectored(Pin::new(stream), cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
