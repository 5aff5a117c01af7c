//! JSON Web Tokens: the host checks signatures with its own crypto; keys never enter the guest.

use crate::host::jwt;

pub use crate::bindings::imports::witgate::policy::jwt::{KeySource, Rules, TokenFault};

/// A verifier, made in `configure`.
pub struct Verifier(jwt::Verifier);

impl Verifier {
    pub fn new(rules: &Rules) -> Result<Self, String> {
        jwt::Verifier::create(rules).map(Verifier)
    }

    /// Checks a compact JWS and returns its claims as JSON.
    pub fn verify(&self, token: &str) -> Result<String, TokenFault> {
        self.0.verify(token)
    }
}
