//! Certificates made on the spot: an authority of the test's own, servers and clients signed by it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// PEM texts.
#[derive(Clone)]
pub struct Certified {
    pub cert: String,
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new("witgate test authority")
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate for these names or addresses.
    pub fn server(&self, names: &[&str]) -> Certified {
        self.issue(
            CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap(),
        )
    }

    /// The same, good from the first day of one year to the first of another.
    pub fn server_between(&self, names: &[&str], from: i32, to: i32) -> Certified {
        let names = names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        self.issue(params)
    }

    /// Expired a long time ago.
    pub fn expired(&self, names: &[&str]) -> Certified {
        self.server_between(names, 2001, 2002)
    }

    pub fn client_certificate(&self, common_name: &str) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.issue(params)
    }

    /// The same, good for so long from now.
    pub fn client_certificate_for(&self, common_name: &str, time: Duration) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params.not_after =
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(crate::tokens::now()) + time;
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Certified { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Trusts this authority alone, and shows a certificate when asked.
    pub fn client(&self, certificate: Option<&Certified>) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match certificate {
            None => builder.with_no_client_auth(),
            Some(certified) => {
                builder.with_client_auth_cert(certified.chain(), certified.private_key()).unwrap()
            }
        })
    }

    /// The same for HTTP/2.
    pub fn client_h2(&self) -> Arc<rustls::ClientConfig> {
        let mut config = (*self.client(None)).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

impl Certified {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// For an upstream that speaks TLS.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let builder = rustls::ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(self.chain(), self.private_key()).unwrap())
    }
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
