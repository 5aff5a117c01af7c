//! `crypto`: hashing and comparing done by the host's library; secrets stay outside.

use crate::plugin::bindings::witgate::policy::crypto::{Digest, Host};
use crate::plugin::guest::Guest;
use crate::plugin::plan::Ask;
use crate::token::crypto;
use std::sync::Arc;

impl Host for Guest {
    fn hash(&mut self, digest: Digest, data: Vec<u8>) -> Vec<u8> {
        called!("crypto.hash({}, {} bytes)", name(digest), data.len());
        crypto::hash(of(digest), &data)
    }
    fn hmac(&mut self, digest: Digest, secret: String, data: Vec<u8>) -> Result<Vec<u8>, String> {
        called!("crypto.hmac({}, {secret}, {} bytes)", name(digest), data.len());
        self.ask(Ask::Secret, &secret);
        match self.about.grants.secrets.get(&secret) {
            Some(key) => Ok(crypto::hmac(of(digest), &key.0, &data)),
            None => Err(format!("secret `{secret}` is not granted, or there is none of that name")),
        }
    }
    fn equal(&mut self, a: Vec<u8>, b: Vec<u8>) -> bool {
        called!("crypto.equal({} bytes, {} bytes)", a.len(), b.len());
        crypto::equal(&a, &b)
    }
    async fn verify_password(&mut self, password: String, phc: String) -> bool {
        called!("crypto.verify-password(…)");
        let services = Arc::clone(&self.services);
        services.passwords.verify(password, phc).await
    }
}

fn of(digest: Digest) -> crypto::Digest {
    match digest {
        Digest::Sha256 => crypto::Digest::Sha256,
        Digest::Sha384 => crypto::Digest::Sha384,
        Digest::Sha512 => crypto::Digest::Sha512,
    }
}

fn name(digest: Digest) -> &'static str {
    match digest {
        Digest::Sha256 => "sha256",
        Digest::Sha384 => "sha384",
        Digest::Sha512 => "sha512",
    }
}
