//! TLS to the upstream: whom it trusts, what it shows of itself, what it speaks.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use std::path::PathBuf;
use tokio_rustls::TlsAcceptor;

/// A certificate authority with its files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("write");
        Authority { issuer, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.issuer).expect("certificate"), key)
    }

    fn server(&self, name: &str, alpn: &[u8], clients: bool) -> TlsAcceptor {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("root");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("identity");
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Serves HTTP/1.1 or HTTP/2, whatever was agreed on, and answers with the name that was asked for.
async fn origin(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::task::spawn_local(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let mut connection = h2::server::handshake(stream).await.expect("handshake");
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let mut body = respond.send_response(Response::new(()), false).expect("head");
                        body.send_data(name.clone().into(), true).expect("body");
                    }
                    return;
                }
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|length| length > 0) {
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        stream.write_all(answer.as_bytes()).await.expect("write");
                    }
                }
            });
        }
    });
    address
}

fn https(address: SocketAddr, authority: &Authority) -> Settings {
    let mut settings = settings(&[address]);
    settings.endpoints[0].https = true;
    settings.tls.ca = Some(authority.file("ca.pem"));
    settings.tls.server_name = Some("origin.test".into());
    settings
}

async fn answer(pool: &Rc<Pool>) -> Result<String, Failure> {
    let (_, body) = read(send(pool, get("/")).await?).await;
    Ok(String::from_utf8(body.expect("body").to_vec()).expect("text"))
}

#[test]
fn a_trusted_origin_is_spoken_to_by_its_name() {
    run(async {
        let authority = Authority::new();
        for (protocol, alpn) in [(Protocol::Http1, &b"http/1.1"[..]), (Protocol::Http2, b"h2")] {
            let address = origin(authority.server("origin.test", alpn, false)).await;
            let mut settings = https(address, &authority);
            settings.protocol = protocol;
            let pool = pool(settings);
            for _ in 0..3 {
                assert_eq!(answer(&pool).await.expect("a response"), "origin.test");
            }
            assert_eq!(count(&pool.upstream().counters().connects), 1);
        }
    });
}

#[test]
fn an_untrusted_or_misnamed_origin_is_refused() {
    run(async {
        let (authority, other) = (Authority::new(), Authority::new());
        let address = origin(authority.server("origin.test", b"http/1.1", false)).await;
        let mut untrusted = https(address, &other);
        let mut misnamed = https(address, &authority);
        misnamed.tls.server_name = Some("other.test".into());
        let mut mozilla = https(address, &authority);
        mozilla.tls.ca = None;
        untrusted.retry.attempts = 0;
        for settings in [untrusted, misnamed, mozilla] {
            let failure = answer(&pool(settings)).await.expect_err("refused");
            assert!(matches!(&failure, Failure::ConnectFailed(what) if what.contains("TLS")), "{failure:?}");
        }
    });
}

#[test]
fn an_origin_that_does_not_speak_http2_is_refused() {
    run(async {
        let authority = Authority::new();
        let address = origin(authority.server("origin.test", b"http/1.1", false)).await;
        let mut settings = https(address, &authority);
        settings.protocol = Protocol::Http2;
        let failure = answer(&pool(settings)).await.expect_err("refused");
        assert!(matches!(failure, Failure::ConnectFailed(_)), "{failure:?}");
    });
}

#[test]
fn a_client_certificate_is_shown_where_one_is_asked_for() {
    run(async {
        let authority = Authority::new();
        let (certificate, key) = authority.issue("gateway.test");
        std::fs::write(authority.file("client.pem"), certificate.pem()).expect("write");
        std::fs::write(authority.file("client.key"), key.serialize_pem()).expect("write");
        let address = origin(authority.server("origin.test", b"http/1.1", true)).await;
        let mut settings = https(address, &authority);
        assert!(answer(&pool(settings.clone())).await.is_err());
        settings.tls.client_cert = Some(authority.file("client.pem"));
        settings.tls.client_key = Some(authority.file("client.key"));
        assert_eq!(answer(&pool(settings)).await.expect("a response"), "origin.test");
    });
}

#[test]
fn a_fetch_trusts_its_extra_roots() {
    run(async {
        let authority = Authority::new();
        let address = origin(authority.server("localhost", b"http/1.1", false)).await;
        let url = format!("https://localhost:{}/jwks.json", address.port());
        let limits = fetch::FetchLimits { timeout: Duration::from_secs(5), bytes: 100 };
        let body = fetch::get(&url, limits, Some(&authority.file("ca.pem"))).await.expect("fetched");
        assert_eq!(body, "localhost");
        assert!(matches!(fetch::get(&url, limits, None).await, Err(fetch::FetchError::Connect(_))));
        let missing = authority.file("missing.pem");
        assert!(matches!(fetch::get(&url, limits, Some(&missing)).await, Err(fetch::FetchError::Tls(_))));
    });
}
