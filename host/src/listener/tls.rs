//! TLS of one listener: which certificate, which protocol, who the client is.
//!
//! `compile` makes a [`Tls`], reloads it when a file changes, and keeps it over reloads;
//! `accept` shakes hands with it. A reload that fails leaves everything as it was. Connections
//! that are open keep what they shook hands with. ClientHello sizes are rustls's to bound.

use super::Protocol;
use super::certificates::{CertificateError, CertificateSettings, Certificates, load_chain, normalise};
use super::client_certificate::{describe, is_timely};
use super::slot::Socket;
use crate::message::peer::PeerTls;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::CertificateDer;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a listener with TLS is made from.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub certificates: Vec<CertificateSettings>,
    pub client_auth: Option<ClientAuth>,
    /// Offer HTTP/2 by ALPN beside HTTP/1.1.
    pub http2: bool,
}

/// Whose certificates clients may (or must) show.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// PEM, one or more roots.
    pub ca: PathBuf,
    /// Without a certificate: no handshake.
    pub required: bool,
}

/// TLS of one listener, shared by its workers.
#[derive(Debug)]
pub struct Tls {
    resolver: Arc<Resolver>,
    config: ArcSwap<ServerConfig>,
    /// The roots that `config` was built from; taken by reloads only, one at a time.
    roots: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
    settings: TlsSettings,
}

impl Tls {
    /// Loads all files. `now` is the time since the Unix epoch; `running` serve already: what is in use
    /// there may stay, whatever the clock says.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(
        settings: TlsSettings,
        provider: Arc<CryptoProvider>,
        now: Duration,
        running: &[Arc<Tls>],
    ) -> Result<Tls, CertificateError> {
        let in_use = |chain: &[CertificateDer<'static>]| {
            running.iter().any(|tls| tls.resolver.certificates.load().has(chain))
        };
        let certificates = Certificates::load(&settings.certificates, &provider, now, in_use)?;
        let roots = load_roots(&settings)?;
        let resolver = Arc::new(Resolver { certificates: ArcSwap::from_pointee(certificates) });
        let config = build(&settings, &provider, &resolver, &roots)?;
        let (config, roots) = (ArcSwap::from_pointee(config), Mutex::new(roots));
        Ok(Tls { resolver, config, roots, provider, settings })
    }

    /// Loads all files again; handshakes that begin afterwards use them. Session tickets stay
    /// good unless the client roots changed: a resumed session would bring along a client that
    /// nobody vouches for any more.
    ///
    /// # Errors
    /// The first file that cannot be used, and why. What was loaded last stays in use.
    pub fn reload(&self, now: Duration) -> Result<(), CertificateError> {
        // Holds no half-done state, so a poisoned lock is as good as any.
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.resolver.certificates.load();
        let certificates =
            Certificates::load(&self.settings.certificates, &self.provider, now, |chain| last.has(chain))?;
        let new_roots = load_roots(&self.settings)?;
        if *roots != new_roots {
            self.config.store(Arc::new(build(&self.settings, &self.provider, &self.resolver, &new_roots)?));
            *roots = new_roots;
        }
        self.resolver.certificates.store(Arc::new(certificates));
        Ok(())
    }

    /// The files to watch.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        let certificates = self.settings.certificates.iter();
        let roots = self.settings.client_auth.iter().map(|auth| auth.ca.as_path());
        certificates.flat_map(|one| [one.cert.as_path(), one.key.as_path()]).chain(roots)
    }

    /// When the first certificate expires, since the Unix epoch.
    pub fn expires(&self) -> Option<Duration> {
        self.resolver.certificates.load().expires()
    }

    /// Shakes hands. Dropping it closes the stream. A client whose certificate has run out since its
    /// session began is refused, as it would be with a session of its own.
    pub(super) async fn accept(
        &self,
        stream: Socket,
    ) -> std::io::Result<(TlsStream<Socket>, Protocol, PeerTls)> {
        let config = self.config.load_full();
        let stream = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await?;
        let (_, connection) = stream.get_ref();
        if connection.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Some(chain) = connection.peer_certificates()
            && !config.time_provider.current_time().is_some_and(|now| is_timely(chain, now))
        {
            return Err(std::io::Error::other("the client certificate of the resumed session has expired"));
        }
        let protocol =
            if connection.alpn_protocol() == Some(ALPN_HTTP2) { Protocol::Http2 } else { Protocol::Http1 };
        let server_name = connection.server_name().map(normalise);
        let certificate_hosts = server_name.as_deref().and_then(|name| {
            self.resolver.certificates.load().choose(Some(name)).and_then(|entry| entry.hosts.clone())
        });
        let client_certificate =
            connection.peer_certificates().and_then(<[_]>::first).map(|certificate| describe(certificate));
        Ok((stream, protocol, PeerTls { server_name, certificate_hosts, client_certificate }))
    }
}

const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

#[derive(Debug)]
struct Resolver {
    certificates: ArcSwap<Certificates>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.load();
        certificates.choose(hello.server_name()).map(|entry| Arc::clone(&entry.certified))
    }
}

fn load_roots(settings: &TlsSettings) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    settings.client_auth.as_ref().map_or(Ok(Vec::new()), |auth| load_chain(&auth.ca))
}

fn build(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    resolver: &Arc<Resolver>,
    roots: &[CertificateDer<'static>],
) -> Result<ServerConfig, CertificateError> {
    // Problems of the provider itself have no file of their own; the first certificate's will do.
    let first = settings.certificates.first().map(|one| one.cert.clone()).unwrap_or_default();
    let failed = |error: rustls::Error| CertificateError::new(&first, error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match &settings.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => {
            let refused = |why: String| CertificateError::new(&auth.ca, why);
            let mut store = RootCertStore::empty();
            for root in roots {
                store.add(root.clone()).map_err(|error| refused(format!("not a root: {error}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
            let verifier = if auth.required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| refused(error.to_string()))?)
        }
    };
    let resolver: Arc<Resolver> = Arc::clone(resolver);
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = if settings.http2 {
        vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()]
    } else {
        vec![ALPN_HTTP1.to_vec()]
    };
    // Resumption without state: any worker takes any ticket, and no table grows.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(failed)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}
