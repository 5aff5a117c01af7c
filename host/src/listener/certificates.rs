//! Server certificates: loads them from PEM files, checks them, and chooses one by server name.
//!
//! `compile` loads, `tls` keeps a set behind an `ArcSwap` and asks it at each handshake. What is
//! loaded fits together and is valid now, or it is not loaded. Never watches files.

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A PEM file of certificates, keys or roots is no longer; the Mozilla roots take 220 KB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where one certificate stands and for whom.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// Exact or `*.` names; empty: for every name that nothing else fits.
    pub hosts: Vec<String>,
    /// PEM, the server's own certificate first.
    pub cert: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why a set of certificates was refused. Its text never holds a file's content.
#[derive(Debug, PartialEq, Eq)]
pub struct CertificateError {
    pub file: PathBuf,
    pub why: String,
}

impl CertificateError {
    pub(super) fn new(file: &Path, why: impl Into<String>) -> CertificateError {
        CertificateError { file: file.to_owned(), why: why.into() }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for CertificateError {}

/// One certificate with its key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) certified: Arc<CertifiedKey>,
    /// Lower case; `None`: the default.
    pub(super) hosts: Option<Arc<[Box<str>]>>,
    not_after: i64,
}

/// All certificates of a listener.
#[derive(Debug)]
pub struct Certificates {
    entries: Vec<Entry>,
    exact: HashMap<Box<str>, usize>,
    /// Without the `*`, so with the leading dot.
    suffix: HashMap<Box<str>, usize>,
    default: Option<usize>,
}

impl Certificates {
    /// Reads and checks all files. `now` is the time since the Unix epoch; `in_use` tells
    /// the chains that serve already: these may stay though they have expired meanwhile, or the clock was
    /// set, because refusing them would keep out the renewed ones of other hosts and every other change.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(
        settings: &[CertificateSettings],
        provider: &CryptoProvider,
        now: Duration,
        in_use: impl Fn(&[CertificateDer<'static>]) -> bool,
    ) -> Result<Certificates, CertificateError> {
        let mut certificates = Certificates {
            entries: Vec::new(),
            exact: HashMap::new(),
            suffix: HashMap::new(),
            default: None,
        };
        for one in settings {
            let entry = load_entry(one, provider, now, &in_use)?;
            let index = certificates.entries.len();
            for host in entry.hosts.iter().flat_map(|hosts| hosts.iter()) {
                let (names, name) = match host.strip_prefix('*') {
                    Some(suffix) => (&mut certificates.suffix, suffix),
                    None => (&mut certificates.exact, &**host),
                };
                if names.insert(name.into(), index).is_some() {
                    return Err(CertificateError::new(
                        &one.cert,
                        format!("{host} has a certificate already"),
                    ));
                }
            }
            if entry.hosts.is_none() && certificates.default.replace(index).is_some() {
                return Err(CertificateError::new(&one.cert, "a second certificate without hosts"));
            }
            certificates.entries.push(entry);
        }
        Ok(certificates)
    }

    /// By exact name, then by `*.` and one label, then the default. Without a server name: the
    /// default, else the first. `None` ends the handshake.
    pub(super) fn choose(&self, server_name: Option<&str>) -> Option<&Entry> {
        let index = match server_name {
            Some(name) => {
                let name = normalise(name);
                self.exact
                    .get(&*name)
                    .or_else(|| self.suffix.get(&name[name.find('.').unwrap_or(name.len())..]))
                    .copied()
                    .or(self.default)?
            }
            None => self.default.unwrap_or(0),
        };
        self.entries.get(index)
    }

    /// Whether this chain is among them.
    pub(super) fn has(&self, chain: &[CertificateDer<'static>]) -> bool {
        self.entries.iter().any(|entry| entry.certified.cert == chain)
    }

    /// When the first of them expires, since the Unix epoch; for a metric and a warning.
    pub fn expires(&self) -> Option<Duration> {
        let seconds = self.entries.iter().map(|entry| entry.not_after).min()?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

/// Lower case, without a trailing dot: `API.Example.` is `api.example`.
pub(super) fn normalise(name: &str) -> Box<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

fn load_entry(
    settings: &CertificateSettings,
    provider: &CryptoProvider,
    now: Duration,
    in_use: impl Fn(&[CertificateDer<'static>]) -> bool,
) -> Result<Entry, CertificateError> {
    let chain = load_chain(&settings.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&settings.key)?)
        .map_err(|error| CertificateError::new(&settings.key, format!("no private key in PEM: {error}")))?;
    let refused = |why: String| CertificateError::new(&settings.cert, why);
    let known = in_use(&chain);
    let (not_after, hosts) = {
        let (_, own) = X509Certificate::from_der(chain.first().map_or(&[][..], |own| own))
            .map_err(|error| refused(format!("not an X.509 certificate: {error}")))?;
        let validity = own.validity();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < validity.not_before.timestamp() && !known {
            return Err(refused(format!("not valid before {}", validity.not_before)));
        }
        if now > validity.not_after.timestamp() && !known {
            return Err(refused(format!("expired on {}", validity.not_after)));
        }
        let hosts: Arc<[Box<str>]> = settings.hosts.iter().map(|host| normalise(host)).collect();
        if let Some(host) = hosts.iter().find(|host| !names(&own, host)) {
            return Err(refused(format!("the certificate is not for {host}")));
        }
        (validity.not_after.timestamp(), (!hosts.is_empty()).then_some(hosts))
    };
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::new(&settings.key, "the key does not belong to the certificate")
        }
        error => CertificateError::new(&settings.key, error.to_string()),
    })?;
    Ok(Entry { certified: Arc::new(certified), hosts, not_after })
}

/// The certificates of a PEM file, at least one.
pub(super) fn load_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::new(file, format!("not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(CertificateError::new(file, "no certificate in PEM"));
    }
    Ok(chain)
}

fn read(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |error: std::io::Error| CertificateError::new(file, error.to_string());
    crate::file::read(file, FILE_BYTES_MAX).map_err(failed)
}

/// Whether a client that asks for `host` (or for a name under `*.`) will accept the certificate.
fn names(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(pattern) => {
            let pattern = normalise(pattern);
            *pattern == *host
                || pattern.strip_prefix('*').is_some_and(|suffix| {
                    !host.starts_with('*') && host.find('.').is_some_and(|dot| host[dot..] == *suffix)
                })
        }
        GeneralName::IPAddress(bytes) => host.parse().is_ok_and(|address| match address {
            std::net::IpAddr::V4(address) => address.octets() == **bytes,
            std::net::IpAddr::V6(address) => address.octets() == **bytes,
        }),
        _ => false,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::crypto::aws_lc_rs::default_provider;

    /// In 2026, between the dates of every certificate that `write` makes.
    pub(crate) const NOW: Duration = Duration::from_secs(1_790_000_000);

    /// Writes a self-signed certificate for `names` that expires with `last_year`.
    pub(crate) fn write(directory: &Path, file: &str, names: &[&str], last_year: i32) -> CertificateSettings {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let cert = directory.join(format!("{file}.pem"));
        std::fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
        let key_file = directory.join(format!("{file}.key"));
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        CertificateSettings { hosts: names, cert, key: key_file }
    }

    fn load(settings: &[CertificateSettings]) -> Result<Certificates, CertificateError> {
        Certificates::load(settings, &default_provider(), NOW, |_| false)
    }

    #[test]
    fn the_most_specific_name_wins() {
        let directory = tempfile::tempdir().unwrap();
        let exact = write(directory.path(), "exact", &["api.example.com"], 2090);
        let wild = write(directory.path(), "wild", &["*.example.com"], 2090);
        let mut fallback = write(directory.path(), "default", &["other.test"], 2090);
        fallback.hosts.clear();
        let all = load(&[wild.clone(), exact.clone(), fallback]).unwrap();
        let hosts =
            |name: Option<&str>| all.choose(name).unwrap().hosts.as_ref().map(|hosts| hosts[0].to_string());
        assert_eq!(hosts(Some("api.example.com")).as_deref(), Some("api.example.com"));
        assert_eq!(hosts(Some("API.Example.COM.")).as_deref(), Some("api.example.com"));
        assert_eq!(hosts(Some("b.example.com")).as_deref(), Some("*.example.com"));
        for name in ["a.b.example.com", "example.com", "evil-example.com", "localhost", "."] {
            assert_eq!(hosts(Some(name)), None, "{name}");
        }
        assert_eq!(hosts(None), None);

        let strict = load(&[wild, exact]).unwrap();
        assert!(strict.choose(Some("other.test")).is_none());
        assert!(strict.choose(None).is_some());
        assert!(strict.expires().unwrap() > NOW);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let good = write(directory.path(), "good", &["a.test", "127.0.0.1"], 2090);
        let other = write(directory.path(), "other", &["b.test"], 2090);
        let expired = write(directory.path(), "expired", &["c.test"], 2021);
        let half = directory.path().join("half.pem");
        let text = std::fs::read(&good.cert).unwrap();
        std::fs::write(&half, &text[..text.len() / 2]).unwrap();
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let garbage = directory.path().join("garbage.pem");
        std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();

        let check = |settings: CertificateSettings, file: &Path, why: &str| {
            let error = load(&[settings]).unwrap_err();
            assert_eq!(error.file, file);
            assert!(error.why.contains(why), "{error}");
        };
        assert!(load(std::slice::from_ref(&good)).is_ok());
        check(CertificateSettings { key: other.key.clone(), ..good.clone() }, &other.key, "does not belong");
        check(expired.clone(), &expired.cert, "expired on");
        check(CertificateSettings { cert: half.clone(), ..good.clone() }, &half, "");
        check(CertificateSettings { cert: empty.clone(), ..good.clone() }, &empty, "no certificate");
        check(CertificateSettings { cert: garbage.clone(), ..good.clone() }, &garbage, "not an X.509");
        check(CertificateSettings { key: empty.clone(), ..good.clone() }, &empty, "no private key");
        check(
            CertificateSettings { hosts: vec!["z.test".into()], ..good.clone() },
            &good.cert,
            "not for z.test",
        );
        let missing = directory.path().join("missing.pem");
        check(CertificateSettings { cert: missing.clone(), ..good.clone() }, &missing, "No such file");
        let error = load(&[good.clone(), good]).unwrap_err();
        assert!(error.why.contains("a.test has a certificate already"), "{error}");
    }

    #[test]
    fn one_that_expired_in_use_does_not_keep_the_renewed_out() {
        let directory = tempfile::tempdir().unwrap();
        let old = write(directory.path(), "old", &["a.test"], 2027);
        let last = load(std::slice::from_ref(&old)).unwrap();
        let later = Duration::from_secs(1_900_000_000);
        let new = write(directory.path(), "new", &["b.test"], 2090);
        let both = [old, new];
        let load = |now, known: bool| {
            Certificates::load(&both, &default_provider(), now, |chain| known && last.has(chain))
        };
        assert!(load(later, false).is_err());
        let reloaded = load(later, true).unwrap();
        assert!(reloaded.choose(Some("b.test")).is_some());
    }
}
