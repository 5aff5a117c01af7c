//! Tokens that were verified not long ago, so that the same token is not verified again.
//!
//! Used by `verifier`; one cache for all verifiers, bounded in bytes. Holds hashes, never tokens.
//! An entry says that signature and fixed rules were good under one generation of keys; time is
//! checked at every use.

use super::claims::Claims;
use aws_lc_rs::digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// About ten thousand tokens of common size.
const CACHE_BYTES: u64 = 32 << 20;
const ENTRIES_EXPECTED: usize = 10_000;

pub(super) struct VerifiedCache(Cache<CacheKey, Verified, Bytes>);

/// A token under a verifier: another verifier has other rules.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    token_sha256: [u8; 32],
    verifier: u64,
}

#[derive(Clone)]
struct Verified {
    generation: u64,
    claims: Arc<Claims>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<CacheKey, Verified> for Bytes {
    fn weight(&self, _: &CacheKey, verified: &Verified) -> u64 {
        verified.claims.bytes() as u64
    }
}

impl VerifiedCache {
    pub(super) fn new() -> VerifiedCache {
        VerifiedCache(Cache::with_weighter(ENTRIES_EXPECTED, CACHE_BYTES, Bytes))
    }

    /// None if the hash has an unexpected length, which it has not.
    pub(super) fn key(token: &str, verifier: u64) -> Option<CacheKey> {
        // A cryptographic hash, because a collision would let one token pass for another.
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        Some(CacheKey { token_sha256: hash.as_ref().try_into().ok()?, verifier })
    }

    pub(super) fn get(&self, key: &CacheKey, generation: u64) -> Option<Arc<Claims>> {
        self.0.get(key).filter(|verified| verified.generation == generation).map(|verified| verified.claims)
    }

    pub(super) fn insert(&self, key: CacheKey, generation: u64, claims: Arc<Claims>) {
        self.0.insert(key, Verified { generation, claims });
    }

    pub(super) fn remove(&self, key: &CacheKey) {
        self.0.remove(key);
    }
}
