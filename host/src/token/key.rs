//! One key, with the algorithms that it may be used for.
//!
//! Made by `document` and `verifier`, used by `verifier`. A key knows its algorithms from its own
//! kind: a public key is never an HMAC secret, whatever a token says (RFC 8725 3.1). Signatures
//! are verified by jsonwebtoken, but for ES512, which it does not have.
//!
//! jsonwebtoken takes any bytes for a key, and with those that are none refuses each token as
//! badly signed. Here they are tried when a key is made, where it can be said.

use super::TokenFault;
use super::algorithm::{Algorithm, ES256, ES384, HMAC};
use super::header::{Parts, decode};
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind};
use std::ops::RangeInclusive;

/// RFC 7518 3.3 asks for 2048; more than 8192 only costs time.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

pub(super) struct Key {
    /// None: not named, fits any `kid` (PEM files and secrets).
    pub(super) kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// A public key for those of `algorithms`, all of its family, that it is sound for; none if
    /// there are none.
    pub(super) fn public(kid: Option<Box<str>>, key: DecodingKey, algorithms: &[Algorithm]) -> Option<Key> {
        let key = without_leading_zeros(key);
        let algorithms: Vec<_> =
            algorithms.iter().copied().filter(|algorithm| is_sound(&key, *algorithm)).collect();
        (!algorithms.is_empty()).then_some(Key { kid, algorithms, key })
    }

    /// For HS256, and HS384 and HS512 if it is long enough.
    pub(super) fn secret(secret: &[u8]) -> Result<Key, String> {
        let algorithms: Vec<_> = HMAC
            .iter()
            .filter(|(_, bytes)| secret.len() >= *bytes)
            .map(|(algorithm, _)| *algorithm)
            .collect();
        if algorithms.is_empty() {
            return Err(format!("a secret for HS256 needs 32 bytes, this one has {}", secret.len()));
        }
        Ok(Key { kid: None, algorithms, key: DecodingKey::from_secret(secret) })
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// False for an algorithm that does not fit; a fault if the signature is not base64url.
    pub(super) fn verify(&self, algorithm: Algorithm, parts: &Parts<'_>) -> Result<bool, TokenFault> {
        if !self.fits(algorithm) {
            return Ok(false);
        }
        match algorithm {
            Algorithm::Registered(algorithm) => {
                let message = parts.message.as_bytes();
                jsonwebtoken::crypto::verify(parts.signature, message, &self.key, algorithm).or_else(
                    |error| match error.kind() {
                        ErrorKind::Base64(_) => Err(TokenFault::Malformed),
                        _ => Ok(false),
                    },
                )
            }
            Algorithm::Es512 => {
                let signature = decode(parts.signature)?;
                let verified = self.key.try_get_as_bytes().is_ok_and(|point| {
                    let message = parts.message.as_bytes();
                    signature::ECDSA_P521_SHA512_FIXED.verify_sig(point, message, &signature).is_ok()
                });
                Ok(verified)
            }
        }
    }
}

/// They are wrong (RFC 7518 2) but common.
fn without_leading_zeros(key: DecodingKey) -> DecodingKey {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } if n.first() == Some(&0) => {
            let start = n.iter().position(|byte| *byte != 0).unwrap_or(n.len());
            DecodingKey::from_rsa_raw_components(&n[start..], e)
        }
        _ => key,
    }
}

fn is_sound(key: &DecodingKey, algorithm: Algorithm) -> bool {
    let has_size = |rsa: PublicEncryptingKey| RSA_BITS.contains(&rsa.key_size_bits());
    match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            RsaPublicKeyComponents { n, e }.try_into().is_ok_and(has_size)
        }
        (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(der)) => {
            PublicEncryptingKey::from_der(der).is_ok_and(has_size)
        }
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(bytes)) => {
            let curve: &'static dyn VerificationAlgorithm = match algorithm {
                ES256 => &signature::ECDSA_P256_SHA256_FIXED,
                ES384 => &signature::ECDSA_P384_SHA384_FIXED,
                Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
                Algorithm::Registered(_) => return false,
            };
            ParsedPublicKey::new(curve, bytes).is_ok()
        }
        (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(bytes)) => {
            ParsedPublicKey::new(&signature::ED25519, bytes).is_ok()
        }
        _ => false,
    }
}
