//! Hashes, MACs and constant-time comparison, for the `crypto` import.
//!
//! Called by `plugin`. Stateless.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

pub fn hash(digest: Digest, data: &[u8]) -> Vec<u8> {
    let algorithm = match digest {
        Digest::Sha256 => &digest::SHA256,
        Digest::Sha384 => &digest::SHA384,
        Digest::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, data).as_ref().to_vec()
}

pub fn hmac(digest: Digest, secret: &[u8], data: &[u8]) -> Vec<u8> {
    let algorithm = match digest {
        Digest::Sha256 => hmac::HMAC_SHA256,
        Digest::Sha384 => hmac::HMAC_SHA384,
        Digest::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), data).as_ref().to_vec()
}

/// In constant time for a given length; the lengths themselves are no secret.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hashes_and_macs_are_the_standards() {
        assert!(hex(&hash(Digest::Sha256, b"abc")).starts_with("ba7816bf8f01cfea"));
        assert!(hex(&hash(Digest::Sha384, b"abc")).starts_with("cb00753f45a35e8b"));
        assert!(hex(&hash(Digest::Sha512, b"abc")).starts_with("ddaf35a193617aba"));
        // RFC 4231, case 2.
        let mac = |digest| hex(&hmac(digest, b"Jefe", b"what do ya want for nothing?"));
        assert!(mac(Digest::Sha256).starts_with("5bdcc146bf60754e"));
        assert!(mac(Digest::Sha384).starts_with("af45d2e376484031"));
        assert!(mac(Digest::Sha512).starts_with("164b7a7bfcf819e2"));
        assert_eq!(hmac(Digest::Sha256, b"", b"").len(), 32);
    }

    #[test]
    fn equal_is_equal() {
        assert!(equal(b"", b"") && equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd") && !equal(b"abc", b"ab") && !equal(b"", b"a"));
    }
}
