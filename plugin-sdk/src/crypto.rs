//! Hashes and passwords, computed by the host.

use crate::host::crypto;

pub use crate::bindings::imports::witgate::policy::crypto::Digest;

pub fn hash(digest: Digest, data: &[u8]) -> Vec<u8> {
    crypto::hash(digest, data)
}

/// `secret`: the name of a secret that the operator granted; its bytes never enter the guest.
pub fn hmac(digest: Digest, secret: &str, data: &[u8]) -> Result<Vec<u8>, String> {
    crypto::hmac(digest, secret, data)
}

/// In constant time.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    crypto::equal(a, b)
}

/// `phc`: argon2id, scrypt, pbkdf2 or bcrypt, as a PHC string.
pub fn verify_password(password: &str, phc: &str) -> bool {
    crypto::verify_password(password, phc)
}
