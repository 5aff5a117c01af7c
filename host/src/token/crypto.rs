//! Hashes, MACs, constant-time comparison and passwords, for the `crypto` import.
//!
//! Called by `plugin`. Stateless.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordVerifier};
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

/// PHC strings are about a hundred characters long.
const PHC_BYTES_MAX: usize = 512;
const PASSWORD_BYTES_MAX: usize = 4096;
/// In KiB: 64 MiB, above what OWASP and RFC 9106's second choice ask for.
const MEMORY_KIB_MAX: u32 = 64 << 10;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 16;

/// Whether the password belongs to an argon2id PHC string. False also for other algorithms
/// (scrypt, pbkdf2 and bcrypt are not supported), for a malformed string, and for one that asks
/// for more than 64 MiB, 10 passes or 16 lanes.
///
/// Slow on purpose: some 20 ms with common parameters, half a second at the bounds. Not to be
/// called on a worker's thread.
pub fn verify_password(password: &str, phc: &str) -> bool {
    if phc.len() > PHC_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    let within =
        params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX;
    within
        && hash.algorithm.as_str() == Algorithm::Argon2id.as_str()
        && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    /// Made by the reference implementation's test vectors' parameters, small for speed.
    fn phc(params: &str) -> String {
        let mut out = [0; 32];
        let small = Params::new(64, 1, 1, Some(32)).unwrap();
        Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, small)
            .hash_password_into(b"correct horse", b"saltsaltsalt", &mut out)
            .unwrap();
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD_NO_PAD;
        format!("{params}${}${}", STANDARD_NO_PAD.encode(b"saltsaltsalt"), STANDARD_NO_PAD.encode(out))
    }

    #[test]
    fn passwords_match_or_not() {
        let good = phc("$argon2id$v=19$m=64,t=1,p=1");
        assert!(verify_password("correct horse", &good));
        assert!(!verify_password("correct horsf", &good));
        assert!(!verify_password("", &good));
    }

    #[test]
    fn other_algorithms_and_dear_parameters_are_refused() {
        for params in [
            "$argon2i$v=19$m=64,t=1,p=1",
            "$argon2d$v=19$m=64,t=1,p=1",
            "$scrypt$ln=4,r=8,p=1",
            "$argon2id$v=19$m=65537,t=1,p=1",
            "$argon2id$v=19$m=64,t=11,p=1",
            "$argon2id$v=19$m=4294967295,t=4294967295,p=1",
            "$argon2id$v=19$m=1024,t=1,p=17",
        ] {
            assert!(!verify_password("correct horse", &phc(params)), "{params}");
        }
        for bad in
            ["", "$", "$argon2id$v=19$m=64,t=1,p=1", "$2b$12$abcdefghijklmnopqrstuv", &"$".repeat(1_000)]
        {
            assert!(!verify_password("correct horse", bad), "{bad:.40}");
        }
    }

    proptest! {
        #[test]
        fn phc_strings_never_panic(text in "[$a-z0-9=,+/]{0,80}") {
            verify_password("p", &text);
            verify_password("p", &format!("$argon2id$v=19${text}"));
        }
    }
}
