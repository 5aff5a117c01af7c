//! Key documents: a JWK set, one JWK, or PEM.
//!
//! Used by `keyset` and `verifier` whenever a source is read. Keys that cannot check a signature
//! (for encryption, symmetric, of an unknown kind, too small) are passed over, because a set may
//! serve others too. Errors never quote the document.
//!
//! A JWK becomes a key by jsonwebtoken, and so do the bytes of a PEM section. Around it:
//! - The keys of a set are read one by one, because `JwkSet` takes all or none: one odd key of an
//!   issuer would lock everybody out.
//! - `alg` is read beside it, because `KeyAlgorithm` is the same for ES512, Ed25519 and nonsense.
//! - PEM is taken apart by rustls-pki-types and x509-parser. jsonwebtoken reads the first section
//!   only; judges a certificate by the first algorithm in it, which is its issuer's; and goes down
//!   nested DER without a bound, so that five kilobytes from an issuer overflow the stack, which
//!   ends the process.

use super::algorithm::{Algorithm, EC, EDDSA, ES256, ES384, RSA};
use super::key::Key;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;
use serde_json::Value;

/// Large sets have a few dozen keys with certificates.
pub(super) const DOCUMENT_BYTES_MAX: usize = 512 << 10;
const KEYS_MAX: usize = 256;

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
            SectionKind::PublicKey => from_spki(&der),
            SectionKind::Certificate => {
                let (_, certificate) = x509_parser::parse_x509_certificate(&der)
                    .map_err(|_| "holds a malformed certificate".to_owned())?;
                from_spki(certificate.public_key().raw)
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
    Set { keys: Vec<Value> },
    One(Value),
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
    Ok(keys.iter().filter_map(from_jwk).collect())
}

fn from_jwk(document: &Value) -> Option<Key> {
    let jwk = Jwk::deserialize(document).ok()?;
    let for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    if !for_signatures {
        return None;
    }
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            EllipticCurve::P521 => &[Algorithm::Es512],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EDDSA],
        // Symmetric keys belong in a secret.
        _ => return None,
    };
    // A key that names its algorithm is for that one only.
    let only = match document.get("alg").and_then(Value::as_str) {
        Some(name) => Some(Algorithm::by_name(name)?),
        None => None,
    };
    let algorithms: Vec<_> =
        fitting.iter().copied().filter(|algorithm| only.is_none_or(|only| only == *algorithm)).collect();
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Key::public(jwk.common.key_id.map(String::into_boxed_str), key, &algorithms)
}

/// A SubjectPublicKeyInfo is a key of the family that takes it for one.
fn from_spki(der: &[u8]) -> Option<Key> {
    Key::public(None, DecodingKey::from_rsa_der(der), RSA)
        .or_else(|| Key::public(None, DecodingKey::from_ec_der(der), EC))
        .or_else(|| Key::public(None, DecodingKey::from_ed_der(der), &[EDDSA]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
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

    #[test]
    fn jwks_are_read_as_issuers_write_them() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let n = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key()).n;
        let rsa = |n: &[u8], rest: &str| {
            count(&format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"{rest}}}"#, URL_SAFE_NO_PAD.encode(n)))
        };
        assert_eq!(rsa(&n, r#","alg":"PS512","key_ops":["verify","sign"]"#), Ok(1));
        assert_eq!(rsa(&[&[0, 0], &n[..]].concat(), ""), Ok(1), "leading zeros");
        assert_eq!(rsa(&n[128..], ""), Ok(0), "too small");
        assert_eq!(rsa(&[&n[..], &[1; 1024]].concat(), ""), Ok(0), "too large");
        assert_eq!(rsa(&n, r#","alg":"ES256""#), Ok(0), "another family's algorithm");

        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(66);
        let ec = |curve: &str, y: &[u8], alg: &str| {
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            count(&format!(r#"{{"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}","alg":"{alg}"}}"#))
        };
        assert_eq!(ec("P-521", y, "ES512"), Ok(1));
        assert_eq!(ec("P-521", y, "ES256"), Ok(0));
        assert_eq!(ec("P-256", y, "ES256"), Ok(0), "a point of another curve");
        assert_eq!(ec("Ed25519", y, "EdDSA"), Ok(0));
        assert_eq!(ec("P-521", x, "ES512"), Ok(0), "not on the curve");
    }

    /// jsonwebtoken's reader of PEM overflows the stack of this.
    #[test]
    fn deep_der_is_refused() {
        // Each level is a sequence of what was there, written backwards.
        let mut der = Vec::new();
        for _ in 0..50_000 {
            let length = u32::try_from(der.len()).unwrap().to_le_bytes();
            der.extend_from_slice(&length[..3]);
            der.extend_from_slice(&[0x83, 0x30]);
        }
        der.reverse();
        let body = STANDARD.encode(der);
        for label in ["PUBLIC KEY", "CERTIFICATE"] {
            let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            assert!(pem.len() < DOCUMENT_BYTES_MAX);
            assert!(matches!(count(&pem), Ok(0) | Err(_)), "{label}");
        }
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
