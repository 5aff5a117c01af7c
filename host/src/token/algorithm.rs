//! The signature algorithms of RFC 7518 and RFC 8037 that are accepted, and their names.
//!
//! Used by `key` (which algorithms fit) and `header` (what a token claims). `none` is not among
//! them, so no spelling of it can be meant.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, VerificationAlgorithm};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

use Algorithm::{EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};

pub(super) const RSA: &[Algorithm] = &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512];
/// Everything that a public key can be checked with.
pub(super) const PUBLIC: &[Algorithm] =
    &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, Es512, EdDsa];
pub(super) const HMAC: &[Algorithm] = &[Hs256, Hs384, Hs512];

const NAMES: &[(&str, Algorithm)] = &[
    ("HS256", Hs256),
    ("HS384", Hs384),
    ("HS512", Hs512),
    ("RS256", Rs256),
    ("RS384", Rs384),
    ("RS512", Rs512),
    ("PS256", Ps256),
    ("PS384", Ps384),
    ("PS512", Ps512),
    ("ES256", Es256),
    ("ES384", Es384),
    ("ES512", Es512),
    ("EdDSA", EdDsa),
    // Its fully specified name (RFC 9864); Ed448 is not supported.
    ("Ed25519", EdDsa),
];

impl Algorithm {
    /// Exactly as registered: names are case-sensitive (RFC 7515 4.1.1).
    pub(super) fn by_name(name: &str) -> Option<Algorithm> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// None for HMAC. RSA keys below 2048 bits are refused (RFC 7518 3.3).
    pub(super) fn public(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Hs256 | Hs384 | Hs512 => return None,
            Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            EdDsa => &signature::ED25519,
        })
    }

    /// None for public-key algorithms.
    pub(super) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Hs256 => Some(hmac::HMAC_SHA256),
            Hs384 => Some(hmac::HMAC_SHA384),
            Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }
}
