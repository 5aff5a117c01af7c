//! Subscription keys, of which the gateway keeps only the hashes.
//!
//! Used by `directory` to look keys up. Plain SHA-256 is enough here, unlike for passwords: keys
//! are drawn by the gateway with 256 bits of randomness, so there is nothing to guess.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use std::hash::{Hash, Hasher};

/// Longer ones are nobody's key, and are not hashed.
const KEY_BYTES_MAX: usize = 1024;

/// SHA-256 of a subscription key.
///
/// As a key of a hash table it is found by its first bytes and compared in constant time. What
/// the time of a look-up could tell is about hashes, from which no key can be worked back.
#[derive(Clone, Copy, Debug, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// None for what cannot be a key: the empty text, or one that is far too long.
    pub fn of(key: &str) -> Option<KeyHash> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return None;
        }
        let digest = digest::digest(&digest::SHA256, key.as_bytes());
        digest.as_ref().try_into().ok().map(KeyHash)
    }

    pub fn from_bytes(hash: [u8; 32]) -> KeyHash {
        KeyHash(hash)
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &KeyHash) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A hash is random already; the table's own seed still keeps chosen keys from one slot.
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_ne_bytes(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_sha_256_and_empty_keys_are_none() {
        let abc = KeyHash::of("abc").unwrap();
        assert_eq!(abc.0[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(abc, KeyHash::from_bytes(abc.0));
        assert_ne!(abc, KeyHash::of("abd").unwrap());
        assert_eq!(KeyHash::of(""), None);
        assert!(KeyHash::of(&"k".repeat(1024)).is_some());
        assert_eq!(KeyHash::of(&"k".repeat(1025)), None);
    }
}
