//! Key documents: a JWK set, one JWK, or PEM.
//!
//! Used by `keyset` and `verifier` whenever a source is read. Keys that cannot check a signature
//! (for encryption, symmetric, of an unknown kind, too small) are passed over, because a set may
//! serve others too. Errors never quote the document.

use super::algorithm::{Algorithm, PUBLIC, RSA};
use super::key::Key;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;

/// Large sets have a few dozen keys with certificates.
pub(super) const DOCUMENT_BYTES_MAX: usize = 512 << 10;
const KEYS_MAX: usize = 256;
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

/// The usable keys of a document; there may be none.
pub(super) fn parse(document: &[u8]) -> Result<Vec<Key>, String> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("is longer than {DOCUMENT_BYTES_MAX} bytes"));
    }
    if document.trim_ascii_start().starts_with(b"-----BEGIN") {
        parse_pem(document)
    } else {
        parse_jwks(document)
    }
}

fn parse_pem(document: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(document) {
        let (kind, der) = section.map_err(|_| "is not well-formed PEM".to_owned())?;
        let key = match kind {
            SectionKind::PublicKey => from_spki(None, &der, PUBLIC),
            SectionKind::Certificate => {
                let (_, certificate) = x509_parser::parse_x509_certificate(&der)
                    .map_err(|_| "holds a malformed certificate".to_owned())?;
                from_spki(None, certificate.public_key().raw, PUBLIC)
            }
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err("holds a private key; a gateway needs only the public one".to_owned());
            }
            _ => None,
        };
        keys.extend(key);
        if keys.len() > KEYS_MAX {
            return Err(format!("holds more than {KEYS_MAX} keys"));
        }
    }
    Ok(keys)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonDocument {
    Set { keys: Vec<serde_json::Value> },
    One(serde_json::Value),
}

fn parse_jwks(document: &[u8]) -> Result<Vec<Key>, String> {
    let parsed = serde_json::from_slice(document).map_err(|error| {
        format!("is neither PEM nor JSON (line {}, column {})", error.line(), error.column())
    })?;
    let keys = match parsed {
        JsonDocument::Set { keys } => keys,
        JsonDocument::One(key) if key.get("kty").is_some() => vec![key],
        JsonDocument::One(_) => return Err("is JSON but neither a JWK set nor a JWK".to_owned()),
    };
    if keys.len() > KEYS_MAX {
        return Err(format!("holds more than {KEYS_MAX} keys"));
    }
    let jwks = keys.into_iter().filter_map(|key| Jwk::deserialize(key).ok());
    Ok(jwks.filter_map(Jwk::into_key).collect())
}

/// The members of RFC 7517 and RFC 7518 that matter for checking; `k` and `d` are not among them.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<Box<str>>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn into_key(self) -> Option<Key> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if !for_signatures {
            return None;
        }
        // A key that names its algorithm is for that one only.
        let only = match &self.alg {
            Some(name) => Some(Algorithm::by_name(name)?),
            None => None,
        };
        let allowed = |fitting: &[Algorithm]| -> Vec<Algorithm> {
            fitting.iter().copied().filter(|algorithm| only.is_none_or(|only| only == *algorithm)).collect()
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let n = decode(self.n.as_ref()?)?;
                let e = decode(self.e.as_ref()?)?;
                // Leading zeros are wrong (RFC 7518 2) but common.
                let start = n.iter().position(|byte| *byte != 0)?;
                let components = RsaPublicKeyComponents { n: &n[start..], e: &e[..] };
                let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
                from_spki(self.kid, der.as_ref(), &allowed(RSA))
            }
            ("EC", Some(curve)) => {
                let (algorithm, length) = match curve {
                    "P-256" => (Algorithm::Es256, 32),
                    "P-384" => (Algorithm::Es384, 48),
                    "P-521" => (Algorithm::Es512, 66),
                    _ => return None,
                };
                let (x, y) = (decode(self.x.as_ref()?)?, decode(self.y.as_ref()?)?);
                if x.len() != length || y.len() != length {
                    return None;
                }
                // SEC 1, 2.3.3: uncompressed.
                let point = [&[4], &x[..], &y[..]].concat();
                Key::public(self.kid, &point, &allowed(&[algorithm]))
            }
            ("OKP", Some("Ed25519")) => {
                let x = decode(self.x.as_ref()?)?;
                if x.len() != 32 {
                    return None;
                }
                Key::public(self.kid, &x, &allowed(&[Algorithm::EdDsa]))
            }
            _ => None,
        }
    }
}

fn from_spki(kid: Option<Box<str>>, spki: &[u8], algorithms: &[Algorithm]) -> Option<Key> {
    // Refused here, where it can be said, rather than with each signature.
    let size_fits = PublicEncryptingKey::from_der(spki)
        .is_ok_and(|rsa| (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&rsa.key_size_bits()));
    let fitting: Vec<_> =
        algorithms.iter().copied().filter(|algorithm| size_fits || !RSA.contains(algorithm)).collect();
    Key::public(kid, spki, &fitting)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(document: &str) -> Result<usize, String> {
        parse(document.as_bytes()).map(|keys| keys.len())
    }

    #[test]
    fn unusable_keys_are_passed_over() {
        // The Ed25519 key of RFC 8037 A.2.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let ed = |rest: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{rest}}}"#);
        assert_eq!(count(&ed("")), Ok(1));
        let unusable = [
            ed(r#","use":"enc""#),
            ed(r#","key_ops":["sign"]"#),
            ed(r#","alg":"RS256""#),
            ed(r#","alg":"none""#),
            ed(r#","kid":7"#),
            r#"{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"EC","crv":"secp256k1"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(),
            "3".to_owned(),
        ];
        let usable = ed(r#","use":"sig","key_ops":["verify"],"alg":"EdDSA","x5c":["?"]"#);
        let set = format!(r#"{{"keys":[{},{usable}],"more":1}}"#, unusable.join(","));
        assert_eq!(count(&set), Ok(1));
        assert_eq!(count(r#"{"keys":[]}"#), Ok(0));
    }

    #[test]
    fn what_is_no_key_document_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "hello",
            r#"{"keys":{}}"#,
            "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
        ] {
            assert!(count(bad).is_err(), "{bad}");
        }
        let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(count(private).unwrap_err().contains("private"));
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; KEYS_MAX + 1].join(","));
        assert!(count(&many).is_err());
        assert!(count(&" ".repeat(DOCUMENT_BYTES_MAX + 1)).is_err());
        let secret = r#"{"keys": ["hunter2", }"#;
        assert!(!count(secret).unwrap_err().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn documents_never_panic(text in ".{0,300}") {
            let _ = count(&text);
            let _ = count(&format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----"));
            let _ = count(&format!("{{\"keys\":[{{\"kty\":\"RSA\",\"n\":{text:?},\"e\":\"AQAB\"}}]}}"));
        }
    }
}
