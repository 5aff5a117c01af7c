//! Request ids: unique, cheap to make, safe to print.
//!
//! Each worker has one `RequestIds`; `exchange` draws from it. An id has the shape of a W3C trace
//! id. Never a secret: who sees one id can compute others.

use http::HeaderValue;

use crate::clock;

/// Longest id that is taken over from a trusted proxy.
pub const LENGTH_MAX: usize = 64;

/// 32 lower-case hexadecimal digits, or what a trusted proxy sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; LENGTH_MAX],
    length: u8,
}

impl RequestId {
    /// An id that came with a request, if it is fit to be passed on and logged.
    pub fn accept(incoming: &str) -> Option<RequestId> {
        if !valid(incoming) {
            return None;
        }
        let mut bytes = [0; LENGTH_MAX];
        bytes[..incoming.len()].copy_from_slice(incoming.as_bytes());
        Some(RequestId { bytes, length: u8::try_from(incoming.len()).ok()? })
    }

    pub fn as_str(&self) -> &str {
        // Always ASCII; the check costs less than carrying a proof of it.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).unwrap_or(HeaderValue::from_static(""))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether an incoming id may be taken over: 1 to 64 characters that mean nothing to a log, a
/// shell or a header field.
pub fn valid(incoming: &str) -> bool {
    (1..=LENGTH_MAX).contains(&incoming.len())
        && incoming.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// One worker's source of ids: a counter, mixed with a random start.
#[derive(Debug)]
pub struct RequestIds {
    high: u64,
    low: u64,
}

impl RequestIds {
    pub fn new() -> RequestIds {
        RequestIds { high: clock::random_u64(), low: clock::random_u64() }
    }

    pub fn draw(&mut self) -> RequestId {
        // Two Weyl sequences of different step, each mixed by a bijection: no repeat within 2^64
        // of one worker, and workers differ by 128 random bits.
        self.high = self.high.wrapping_add(0xd1b5_4a32_d192_ed03);
        self.low = self.low.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut id = u128::from(mix(self.high)) << 64 | u128::from(mix(self.low));
        if id == 0 {
            // The one value that W3C trace ids may not have.
            id = 1;
        }
        let mut bytes = [0; LENGTH_MAX];
        for (pair, byte) in bytes.chunks_exact_mut(2).zip(id.to_be_bytes()) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        RequestId { bytes, length: 32 }
    }
}

impl Default for RequestIds {
    fn default() -> RequestIds {
        RequestIds::new()
    }
}

/// The finaliser of SplitMix64, a bijection.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_trace_ids_and_differ() {
        let (mut one, mut other) = (RequestIds::new(), RequestIds::new());
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            for id in [one.draw(), other.draw()] {
                assert_eq!(id.as_str().len(), 32);
                assert!(id.as_str().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
                assert!(valid(id.as_str()));
                assert_eq!(id.header_value(), id.as_str());
                assert!(seen.insert(id.to_string()));
            }
        }
    }

    #[test]
    fn incoming_ids_are_judged() {
        assert_eq!(RequestId::accept("req-1_a.B").map(|id| id.to_string()).as_deref(), Some("req-1_a.B"));
        assert!(RequestId::accept(&"a".repeat(64)).is_some());
        for bad in ["", "a b", "a\n", "ü", "a\"", "${x}", &"a".repeat(65)] {
            assert!(!valid(bad), "{bad:?}");
            assert_eq!(RequestId::accept(bad), None);
        }
    }
}
