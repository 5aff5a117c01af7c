//! Signatures, keys and hashes: signed tokens, the keys they are checked with, passwords.
//!
//! Called by `plugin` (the `jwt` and `crypto` imports) and `server` (ticks, reloads). Verifiers,
//! keys and verified tokens are shared by all workers. Never logs a token or a key, never blocks
//! a request on a fetch, and never lets a token choose how it is checked: the key decides which
//! algorithms fit.
//!
//! Keys and signatures are jsonwebtoken's business: `DecodingKey::from_jwk` makes the key,
//! `crypto::verify` checks with it, on `aws-lc-rs`. `jsonwebtoken::decode` is not used, because it
//! is laxer than a gateway can be: it lets `crit` and repeated names pass (`header`, `claims`),
//! binds a key to a family of algorithms but not to its own `alg`, takes a secret of any length
//! (`key`), and reads the machine's clock, which tests cannot move. Of what it does not have,
//! ES512 alone is checked here (`key`), for one line of `aws-lc-rs`.

mod algorithm;
mod cache;
mod claims;
pub mod crypto;
mod document;
mod header;
mod key;
mod keyset;
mod password;
#[cfg(test)]
mod tests;
mod verifier;

pub use claims::Claims;
pub use keyset::{Fetch, Fetching};
pub use password::Passwords;
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
