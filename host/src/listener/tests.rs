//! Real handshakes over real sockets.

use super::certificates::tests::{NOW, write};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Greets, notes the peer, and reads until the client closes.
#[derive(Default)]
struct Greet(RefCell<Vec<(Protocol, Rc<Peer>)>>);

impl Streams for Greet {
    async fn serve<IO>(self: Rc<Self>, mut io: IO, protocol: Protocol, peer: Rc<Peer>)
    where
        IO: ClientStream,
    {
        self.0.borrow_mut().push((protocol, peer));
        let _ = io.write_all(b"hello").await;
        let _ = io.flush().await;
        let _ = io.read_to_end(&mut Vec::new()).await;
    }
}

struct Gateway {
    address: std::net::SocketAddr,
    greet: Rc<Greet>,
    counters: Arc<Counters>,
    _control: DrainControl,
}

impl Gateway {
    async fn start(settings: Settings, tls: Option<Arc<Tls>>) -> Gateway {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (control, greet, counters) = (DrainControl::new(), Rc::<Greet>::default(), Arc::default());
        let listener = Listener { settings, tls, counters: Arc::clone(&counters), drain: control.drain() };
        tokio::task::spawn_local(accept(socket, Rc::new(listener), Rc::clone(&greet)));
        Gateway { address, greet, counters, _control: control }
    }

    /// Shakes hands, waits for the greeting, returns the server's certificate.
    async fn greet(&self, config: ClientConfig, name: &str) -> std::io::Result<CertificateDer<'static>> {
        let stream = TcpStream::connect(self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await?;
        stream.read_exact(&mut [0; 5]).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }
}

fn run(test: impl AsyncFnOnce()) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test()).await.expect("the test ends");
    });
}

fn certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}

fn client(roots: &[&CertificateSettings], alpn: &[&str]) -> ClientConfig {
    with_identity(roots, alpn, None)
}

fn with_identity(
    roots: &[&CertificateSettings],
    alpn: &[&str],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> ClientConfig {
    let mut store = RootCertStore::empty();
    roots.iter().for_each(|root| store.add(certificate(&root.cert)).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn load(
    certificates: &[&CertificateSettings],
    client_auth: Option<ClientAuth>,
) -> Result<Tls, CertificateError> {
    let certificates = certificates.iter().map(|one| (*one).clone()).collect();
    Tls::load(TlsSettings { certificates, client_auth, http2: true }, Arc::new(default_provider()), NOW, &[])
}

#[test]
fn certificates_are_chosen_by_server_name_and_protocols_by_alpn() {
    let directory = tempfile::tempdir().unwrap();
    let exact = write(directory.path(), "exact", &["api.example.test"], 2090);
    let wild = write(directory.path(), "wild", &["*.example.test"], 2090);
    let tls = Arc::new(load(&[&wild, &exact], None).unwrap());
    run(async || {
        let gateway = Gateway::start(Settings::named("tls"), Some(tls)).await;
        let both = [&exact, &wild];
        for (name, expected) in [("api.example.test", &exact), ("b.example.test", &wild)] {
            let shown = gateway.greet(client(&both, &["h2", "http/1.1"]), name).await.unwrap();
            assert_eq!(shown, certificate(&expected.cert), "{name}");
        }
        assert!(gateway.greet(client(&both, &[]), "other.test").await.is_err());
        gateway.greet(client(&both, &["http/1.1"]), "b.example.test").await.unwrap();
        gateway.greet(client(&both, &[]), "b.example.test").await.unwrap();
        assert!(gateway.greet(client(&both, &["spdy/3"]), "b.example.test").await.is_err());

        let seen = gateway.greet.0.borrow();
        let protocols: Vec<_> = seen.iter().map(|(protocol, _)| *protocol).collect();
        assert_eq!(protocols, [Protocol::Http2, Protocol::Http2, Protocol::Http1, Protocol::Http1]);
        let facts = seen[1].1.tls.as_ref().unwrap();
        assert_eq!(facts.server_name.as_deref(), Some("b.example.test"));
        assert_eq!(&*facts.certificate_hosts.as_ref().unwrap()[0], "*.example.test");
        assert!(facts.client_certificate.is_none());
        assert_eq!(gateway.counters.handshakes_failed(), 2);
    });
}

/// L4
#[test]
fn a_reload_is_seen_by_the_next_handshake_and_a_bad_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let first = write(directory.path(), "one", &["a.test"], 2090);
    let tls = Arc::new(load(&[&first], None).unwrap());
    run(async || {
        let gateway = Gateway::start(Settings::named("tls"), Some(Arc::clone(&tls))).await;
        let old = certificate(&first.cert);
        let kept = client(&[&first], &[]);

        let second = write(directory.path(), "two", &["a.test"], 2090);
        std::fs::copy(&second.cert, &first.cert).unwrap();
        let error = tls.reload(NOW).unwrap_err();
        assert_eq!(error.file, first.key);
        assert_eq!(gateway.greet(kept.clone(), "a.test").await.unwrap(), old);

        std::fs::copy(&second.key, &first.key).unwrap();
        tls.reload(NOW).unwrap();
        let shown = gateway.greet(client(&[&second], &[]), "a.test").await.unwrap();
        assert_eq!(shown, certificate(&second.cert));

        std::fs::write(&first.cert, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
        assert!(tls.reload(NOW).is_err());
        gateway.greet(client(&[&second], &[]), "a.test").await.unwrap();
        assert_eq!(tls.files().count(), 2);
    });
}

struct Authority {
    file: std::path::PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = directory.join(name);
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { file, issuer: Issuer::new(params, key) }
    }

    fn identity(&self, common_name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

#[test]
fn client_certificates_are_verified_and_described() {
    let directory = tempfile::tempdir().unwrap();
    let server = write(directory.path(), "server", &["a.test"], 2090);
    let (ours, other) = (Authority::new(directory.path(), "ca"), Authority::new(directory.path(), "other"));
    run(async || {
        for required in [false, true] {
            let auth = ClientAuth { ca: ours.file.clone(), required };
            let tls = Arc::new(load(&[&server], Some(auth)).unwrap());
            let gateway = Gateway::start(Settings::named("tls"), Some(Arc::clone(&tls))).await;
            let known = with_identity(&[&server], &[], Some(ours.identity("bob, admin")));
            gateway.greet(known.clone(), "a.test").await.unwrap();
            {
                let seen = gateway.greet.0.borrow();
                let facts = seen[0].1.tls.as_ref().unwrap().client_certificate.as_ref().unwrap();
                assert!(facts.subject.contains(r"CN=bob\, admin"), "{}", facts.subject);
                assert_eq!(facts.fingerprint.len(), 64);
            }
            let unknown = with_identity(&[&server], &[], Some(other.identity("bob")));
            assert!(gateway.greet(unknown, "a.test").await.is_err());
            assert_eq!(gateway.greet(client(&[&server], &[]), "a.test").await.is_ok(), !required);

            // Once the roots change, neither a certificate nor a ticket of the old ones is good.
            std::fs::copy(&other.file, directory.path().join("ca.new")).unwrap();
            let before = std::fs::read(&ours.file).unwrap();
            std::fs::copy(&other.file, &ours.file).unwrap();
            tls.reload(NOW).unwrap();
            assert!(gateway.greet(known, "a.test").await.is_err());
            std::fs::write(&ours.file, before).unwrap();
        }
    });
}

/// L3
#[test]
fn client_roots_that_are_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = write(directory.path(), "server", &["a.test"], 2090);
    let ca = directory.path().join("ca");
    let auth = || Some(ClientAuth { ca: ca.clone(), required: false });
    assert_eq!(load(&[&server], auth()).unwrap_err().file, ca);
    for text in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&ca, text).unwrap();
        assert_eq!(load(&[&server], auth()).unwrap_err().file, ca, "{text}");
    }
}

/// Hands on one byte at a time.
async fn trickle(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut byte = [0];
    while matches!(from.read(&mut byte).await, Ok(1)) {
        if to.write_all(&byte).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// L5, and the others do not wait for it.
#[test]
fn slow_handshakes_delay_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = write(directory.path(), "server", &["a.test"], 2090);
    let tls = Arc::new(load(&[&server], None).unwrap());
    run(async || {
        let settings = Settings { handshake: Duration::from_millis(700), ..Settings::named("tls") };
        let gateway = Gateway::start(settings, Some(tls)).await;
        let mut silent = TcpStream::connect(gateway.address).await.unwrap();
        let start = Instant::now();

        let stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (near, far) = tokio::io::duplex(1024);
        let (from_gateway, to_gateway) = stream.into_split();
        let (from_client, to_client) = tokio::io::split(far);
        tokio::task::spawn_local(trickle(from_client, to_gateway));
        tokio::task::spawn_local(trickle(from_gateway, to_client));
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client(&[&server], &[])));
        let name = ServerName::try_from("a.test").unwrap();
        let mut stream = connector.connect(name, near).await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        gateway.greet(client(&[&server], &[]), "a.test").await.unwrap();
        assert_eq!(gateway.counters.handshakes_failed(), 0);

        // The silent one is closed in the end.
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(700));
        assert_eq!(gateway.counters.handshakes_failed(), 1);
    });
}

#[test]
fn connections_over_the_cap_are_closed_and_counted() {
    run(async || {
        let settings = Settings { connections: 2, ..Settings::named("plain") };
        let gateway = Gateway::start(settings, None).await;
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            open.push(stream);
        }
        for _ in 0..3 {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            assert_eq!(stream.read(&mut [0; 5]).await.unwrap_or(0), 0);
        }
        assert_eq!((gateway.counters.active(), gateway.counters.refused()), (2, 3));
        open.clear();
        while gateway.counters.active() > 0 {
            tokio::task::yield_now().await;
        }
        TcpStream::connect(gateway.address).await.unwrap().read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(gateway.counters.accepted(), 6);
    });
}

/// Closing a socket resets what waits in its queue; a drain serves it first.
#[test]
fn what_is_queued_when_the_drain_starts_is_served() {
    run(async || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let control = DrainControl::new();
        control.start();
        let greet = Rc::<Greet>::default();
        let listener = Listener {
            settings: Settings::named("plain"),
            tls: None,
            counters: Arc::default(),
            drain: control.drain(),
        };
        accept(TcpListener::from_std(socket).unwrap(), Rc::new(listener), Rc::clone(&greet)).await;
        assert_eq!(control.held(), 20);
        drop(clients);
        assert_eq!(control.wait(Duration::from_secs(20)).await, 0);
        assert_eq!(greet.0.borrow().len(), 20);
    });
}
