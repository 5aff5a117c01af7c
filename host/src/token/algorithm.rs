//! The signature algorithms of RFC 7518 and RFC 8037 that are accepted, and their names.
//!
//! Used by `key` (which algorithms fit) and `verifier` (what a token claims). They are
//! jsonwebtoken's, and ES512, which it does not have. `none` is not among them, so no spelling of
//! it can be meant.

use jsonwebtoken::Algorithm as Registered;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Registered(Registered),
    /// ECDSA with P-521 and SHA-512.
    Es512,
}

use Algorithm::{Es512, Registered as Known};

pub(super) const RSA: &[Algorithm] = &[
    Known(Registered::RS256),
    Known(Registered::RS384),
    Known(Registered::RS512),
    Known(Registered::PS256),
    Known(Registered::PS384),
    Known(Registered::PS512),
];
pub(super) const EC: &[Algorithm] = &[ES256, ES384, Es512];
pub(super) const ES256: Algorithm = Known(Registered::ES256);
pub(super) const ES384: Algorithm = Known(Registered::ES384);
pub(super) const EDDSA: Algorithm = Known(Registered::EdDSA);
/// Each with the bytes that its secret needs: as many as its hash (RFC 7518 3.2).
pub(super) const HMAC: &[(Algorithm, usize)] =
    &[(Known(Registered::HS256), 32), (Known(Registered::HS384), 48), (Known(Registered::HS512), 64)];

/// Of an Ed25519 key's algorithm: its fully specified name (RFC 9864). Ed448 is not supported.
const ED25519: &str = "Ed25519";

pub(super) const NAMES: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "ES512", "EdDSA", ED25519,
];

impl Algorithm {
    /// Exactly as registered: names are case-sensitive (RFC 7515 4.1.1).
    pub(super) fn by_name(name: &str) -> Option<Algorithm> {
        match name {
            "ES512" => Some(Es512),
            ED25519 => Some(EDDSA),
            _ => name.parse().ok().map(Known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_nothing_else() {
        assert!(NAMES.iter().all(|name| Algorithm::by_name(name).is_some()));
        let fitting = [RSA, EC, &[EDDSA]].concat();
        let named: Vec<_> = NAMES.iter().filter_map(|name| Algorithm::by_name(name)).collect();
        let hmac = HMAC.iter().map(|(algorithm, _)| *algorithm);
        assert!(fitting.into_iter().chain(hmac).all(|algorithm| named.contains(&algorithm)));
        for bad in ["", "none", "hs256", "HS256 ", "ES256K", "Ed448", "eddsa", "RSA-OAEP"] {
            assert_eq!(Algorithm::by_name(bad), None, "{bad}");
        }
    }
}
