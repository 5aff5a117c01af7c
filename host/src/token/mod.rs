//! Signatures, keys and hashes: signed tokens, the keys they are checked with, passwords.
//!
//! Called by `plugin` (the `jwt` and `crypto` imports) and `server` (ticks, reloads). Verifiers,
//! keys and verified tokens are shared by all workers. Never logs a token or a key, never blocks
//! a request on a fetch, and never lets a token choose how it is checked: the key decides which
//! algorithms fit.
//!
//! The checks are written on `aws-lc-rs` directly. A token is refused for its header (`crit`,
//! `b64`, repeated names) before any crypto, time comes from our clock, and keys are parsed once
//! per rotation rather than once per token; of a JWT library only base64 would have been left.

mod algorithm;
mod cache;
mod claims;
pub mod crypto;
mod document;
mod header;
mod key;
mod keyset;
#[cfg(test)]
mod tests;
mod verifier;

pub use claims::Claims;
pub use keyset::{Fetch, Fetching};
pub use verifier::{KeySource, Rules, Verifier, Verifiers};

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// Not a compact JWS over a JSON object, or one with `crit`, `b64` or repeated names.
    Malformed,
    /// No key has the token's `kid`. A rotation may bring it: a refresh has been asked for.
    UnknownKey,
    BadSignature,
    Expired,
    NotYetValid,
    BadIssuer,
    BadAudience,
    MissingClaim,
    /// `none`, unknown, not allowed by the rules, or not the key's.
    AlgorithmRefused,
    /// The keys have never been fetched.
    KeysUnavailable,
}
