//! One key, parsed, with the algorithms that it may be used for.
//!
//! Made by `document` and `verifier`, used by `verifier`. A key knows its algorithms from its own
//! kind: a public key is never an HMAC secret, whatever a token says (RFC 8725 3.1).

use super::algorithm::{Algorithm, HMAC};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;

pub(super) struct Key {
    /// None: not named, fits any `kid` (PEM files and secrets).
    pub(super) kid: Option<Box<str>>,
    proofs: Vec<(Algorithm, Proof)>,
}

enum Proof {
    Public(ParsedPublicKey),
    /// Boxed: a kilobyte of prepared state, twenty times a public key.
    Secret(Box<hmac::Key>),
}

impl Key {
    /// A public key in the form of its kind: DER of a SubjectPublicKeyInfo, an uncompressed point,
    /// or 32 bytes of Ed25519; for those of `algorithms` that fit. None if none does.
    pub(super) fn public(kid: Option<Box<str>>, bytes: &[u8], algorithms: &[Algorithm]) -> Option<Key> {
        let proofs: Vec<_> = algorithms
            .iter()
            .filter_map(|algorithm| {
                let key = ParsedPublicKey::new(algorithm.public()?, bytes).ok()?;
                Some((*algorithm, Proof::Public(key)))
            })
            .collect();
        (!proofs.is_empty()).then_some(Key { kid, proofs })
    }

    /// For HS256, and HS384 and HS512 if it is long enough: a key must be as long as the hash
    /// (RFC 7518 3.2).
    pub(super) fn secret(secret: &[u8]) -> Result<Key, String> {
        let proofs: Vec<_> = HMAC
            .iter()
            .filter_map(|algorithm| {
                let hmac = algorithm.hmac()?;
                let long_enough = secret.len() >= hmac.digest_algorithm().output_len();
                long_enough.then(|| (*algorithm, Proof::Secret(Box::new(hmac::Key::new(hmac, secret)))))
            })
            .collect();
        if proofs.is_empty() {
            return Err(format!("a secret for HS256 needs 32 bytes, this one has {}", secret.len()));
        }
        Ok(Key { kid: None, proofs })
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.proofs.iter().any(|(fitting, _)| *fitting == algorithm)
    }

    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let Some((_, proof)) = self.proofs.iter().find(|(fitting, _)| *fitting == algorithm) else {
            return false;
        };
        match proof {
            Proof::Public(key) => key.verify_sig(message, signature).is_ok(),
            // In constant time.
            Proof::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}
