//! How the gateway proves whom it talks to: roots, client certificates, ALPN.
//!
//! Called by `Upstream::new` and `fetch`, never per connection: one rustls configuration serves an
//! upstream, and with it its session cache. Never accepts a certificate that does not verify.

use super::UpstreamError;
use super::settings::{Protocol, TlsSettings};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// Mozilla's roots in PEM are a fifth of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration of an upstream.
pub(super) fn client_config(
    settings: &TlsSettings,
    protocol: Protocol,
) -> Result<Arc<ClientConfig>, UpstreamError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(path) => add_file(&mut roots, path)?,
        None => add_mozilla(&mut roots),
    }
    let identity = match (&settings.client_cert, &settings.client_key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| file_error(key, &error))?;
            Some((certificates(cert)?, key))
        }
        (None, None) => None,
        _ => return Err(UpstreamError::HalfIdentity),
    };
    let alpn: &[u8] = match protocol {
        Protocol::Http1 => b"http/1.1",
        Protocol::Http2 => b"h2",
    };
    build(roots, identity, alpn)
}

/// The Mozilla roots and those of a file beside them, HTTP/1.1.
pub(super) fn fetch_config(extra: Option<&Path>) -> Result<Arc<ClientConfig>, UpstreamError> {
    let mut roots = RootCertStore::empty();
    add_mozilla(&mut roots);
    if let Some(path) = extra {
        add_file(&mut roots, path)?;
    }
    build(roots, None, b"http/1.1")
}

fn build(
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, UpstreamError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamError::Tls)?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(UpstreamError::Tls)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

fn add_mozilla(roots: &mut RootCertStore) {
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), UpstreamError> {
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| UpstreamError::File { path: path.into(), what: error.to_string() })?;
    }
    Ok(())
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| file_error(path, &error))?;
    if certificates.is_empty() {
        return Err(UpstreamError::File { path: path.into(), what: "no certificate in it".into() });
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, UpstreamError> {
    crate::file::read(path, FILE_BYTES_MAX)
        .map_err(|error| UpstreamError::File { path: path.into(), what: error.to_string() })
}

fn file_error(path: &Path, error: &PemError) -> UpstreamError {
    let what = match error {
        PemError::NoItemsFound => "no PEM section of the needed kind in it".into(),
        other => other.to_string(),
    };
    UpstreamError::File { path: path.into(), what }
}
