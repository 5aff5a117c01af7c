//! Verifiers of the `jwt` import: rules, and the check of a token against them.
//!
//! Made in `configure` by way of `Verifiers`, which all workers share; used by hooks of any
//! worker. A check goes from cheap to dear: form, cache, header, key, signature, claims. Never
//! waits: where keys are missing it says so and asks for them.

use super::TokenFault;
use super::algorithm::{Algorithm, NAMES};
use super::cache::VerifiedCache;
use super::claims::Claims;
use super::document;
use super::header::{Header, Parts};
use super::key::Key;
use super::keyset::{Fetch, Fetcher, KeySet, Keys, Source};
use crate::clock::Clock;
use crate::state::registry::Registry;
use aws_lc_rs::digest;
use serde_json::Value;
use smallvec::SmallVec;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// More than any configuration of distinct policies makes.
const VERIFIERS_MAX: usize = 4096;
const SETS_MAX: usize = 1024;
const SOURCES_MAX: usize = 16;
/// Signatures checked for one token; only a token without `kid` fits more than a key or two.
const TRIES_MAX: usize = 8;
/// Clocks that are further apart are wrong, and a long leeway revives expired tokens.
const LEEWAY_SECONDS_MAX: u32 = 24 * 3600;
const TICK: Duration = Duration::from_secs(1);

/// What a token must fulfil.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub keys: Vec<KeySource>,
    /// Empty: those that fit the key. `none` is never accepted.
    pub algorithms: Vec<String>,
    /// Empty: any. Else `iss` must be one of them, as a string.
    pub issuers: Vec<String>,
    /// Empty: any. Else `aud`, a string or a list, must name one of them.
    pub audiences: Vec<String>,
    /// Claims that must be there and not null. `exp` only is required if it is named here.
    pub required_claims: Vec<String>,
    pub leeway_seconds: u32,
}

#[derive(Clone)]
pub enum KeySource {
    /// JWK set, JWK, or PEM public key or certificate.
    Inline(String),
    /// The same in a file, read again at reloads.
    File(PathBuf),
    /// The same behind an `http` or `https` URL, fetched and rotated.
    Url(String),
    /// The value of a secret, for HS256, HS384 and HS512.
    Secret(Vec<u8>),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Inline(_) => f.write_str("Inline(…)"),
            KeySource::File(path) => f.debug_tuple("File").field(path).finish(),
            // A URL may carry a password.
            KeySource::Url(_) => f.write_str("Url(…)"),
            KeySource::Secret(_) => f.write_str("Secret(***)"),
        }
    }
}

/// All verifiers of the gateway, their keys, and the tokens that they verified.
///
/// Cheap to clone; a clone is the same.
#[derive(Clone)]
pub struct Verifiers(Arc<Shared>);

struct Shared {
    fetcher: Arc<Fetcher>,
    sets: Registry<Source, KeySet>,
    /// By the hash of their rules, so that no secret lies in a key.
    verifiers: Registry<[u8; 32], Verifier>,
    verified: Arc<VerifiedCache>,
    next_id: AtomicU64,
}

impl Verifiers {
    /// `runtime`: the control runtime, with its timer enabled, where URLs are fetched, and where a task ticks once a
    /// second until the last clone is dropped.
    pub fn new(clock: Clock, fetch: Arc<dyn Fetch>, runtime: Handle) -> Verifiers {
        // An error says that it is there already; without one, jsonwebtoken would go by what
        // features the build happens to have, and panic with a token if they are two.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let shared = Arc::new(Shared {
            sets: Registry::new(clock.clone(), "key sets", SETS_MAX),
            verifiers: Registry::new(clock.clone(), "token verifiers", VERIFIERS_MAX),
            fetcher: Arc::new(Fetcher { clock, fetch, runtime: runtime.clone() }),
            verified: Arc::new(VerifiedCache::new()),
            next_id: AtomicU64::new(0),
        });
        let ticking = Arc::downgrade(&shared);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let Some(shared) = ticking.upgrade() else { return };
                Verifiers(shared).tick();
            }
        });
        Verifiers(shared)
    }

    /// The verifier for these rules, the same for all who have the same rules. An error says what
    /// is wrong with the rules or with a key; keys behind a URL may still be on their way. Reads
    /// files the first time.
    pub fn verifier(&self, rules: &Rules) -> Result<Arc<Verifier>, String> {
        self.0.verifiers.open(fingerprint(rules)?, || self.make(rules))
    }

    /// Refreshes the sets that are due and forgets what nobody has held for ten minutes.
    pub fn tick(&self) {
        // Verifiers first: they hold sets.
        self.0.verifiers.sweep();
        self.0.sets.sweep();
        for set in self.0.sets.held() {
            set.tick();
        }
    }

    /// Reads all key files again, for a reload. Blocks. A file that is no longer good is logged
    /// and its old keys stay.
    pub fn reload_files(&self) {
        for set in self.0.sets.held() {
            set.reload_file();
        }
    }

    /// Key files that some verifier uses, to be watched.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.sets.held().iter().filter_map(|set| set.file()).map(PathBuf::from).collect()
    }

    fn make(&self, rules: &Rules) -> Result<Verifier, String> {
        if rules.keys.is_empty() {
            return Err("no keys to check tokens with".to_owned());
        }
        if rules.keys.len() > SOURCES_MAX {
            return Err(format!("more than {SOURCES_MAX} key sources"));
        }
        if rules.leeway_seconds > LEEWAY_SECONDS_MAX {
            return Err(format!("a leeway of {} s is more than a day", rules.leeway_seconds));
        }
        let mut own = Vec::new();
        let mut sets = Vec::new();
        for source in &rules.keys {
            match source {
                KeySource::Inline(document) => {
                    let keys = document::parse(document.as_bytes())
                        .map_err(|why| format!("the inline key {why}"))?;
                    if keys.is_empty() {
                        return Err(
                            "the inline key cannot check a signature (a public RSA key of 2048 bits or \
                             more, a P-256, P-384, P-521 or Ed25519 key is expected; symmetric keys belong \
                             in a secret)"
                                .to_owned(),
                        );
                    }
                    own.extend(keys);
                }
                KeySource::Secret(secret) => own.push(Key::secret(secret)?),
                KeySource::File(path) => sets.push(self.set(Source::File(path.clone()))?),
                KeySource::Url(url) => {
                    if !url.starts_with("https://") && !url.starts_with("http://") {
                        return Err("the URL of a key set must begin with https:// or http://".to_owned());
                    }
                    let set = self.set(Source::Url(url.as_str().into()))?;
                    set.tick();
                    sets.push(set);
                }
            }
        }
        let algorithms =
            rules.algorithms.iter().map(|name| algorithm(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Verifier {
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            clock: self.0.fetcher.clock.clone(),
            verified: Arc::clone(&self.0.verified),
            own,
            sets,
            algorithms,
            issuers: rules.issuers.clone(),
            audiences: rules.audiences.clone(),
            required_claims: rules.required_claims.clone(),
            leeway_seconds: rules.leeway_seconds.into(),
        })
    }

    fn set(&self, source: Source) -> Result<Arc<KeySet>, String> {
        let fetcher = Arc::clone(&self.0.fetcher);
        self.0.sets.open(source.clone(), || KeySet::open(source, fetcher))
    }
}

/// Checks tokens against rules.
pub struct Verifier {
    id: u64,
    clock: Clock,
    verified: Arc<VerifiedCache>,
    /// Inline keys and secrets.
    own: Vec<Key>,
    sets: Vec<Arc<KeySet>>,
    /// Empty: all that fit.
    algorithms: Vec<Algorithm>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    required_claims: Vec<String>,
    leeway_seconds: f64,
}

/// The key sets of a verifier as they are for one token.
type Loaded = SmallVec<[arc_swap::Guard<Arc<Keys>>; 2]>;

impl Verifier {
    /// The claims of a compact JWS whose signature, claims and time are good.
    ///
    /// Does not wait: a token whose key is not known is refused now, and the key sets behind URLs
    /// are fetched if they have not been for thirty seconds, so that after a rotation the next
    /// token passes.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenFault> {
        let parts = Parts::split(token)?;
        let loaded: Loaded = self.sets.iter().map(|set| set.load()).collect();
        // Each grows on its own, so their sum is another whenever one is.
        let generation = loaded.iter().map(|keys| keys.generation).sum();
        let key = VerifiedCache::key(token, self.id).ok_or(TokenFault::Malformed)?;
        if let Some(claims) = self.verified.get(&key, generation) {
            let timely = claims.check_time(self.clock.unix(), self.leeway_seconds);
            if timely == Err(TokenFault::Expired) {
                self.verified.remove(&key);
            }
            return timely.map(|()| claims);
        }
        self.check_signature(&parts, &loaded)?;
        let claims = Claims::parse(parts.payload()?)?;
        self.check_claims(&claims)?;
        let claims = Arc::new(claims);
        self.verified.insert(key, generation, Arc::clone(&claims));
        Ok(claims)
    }

    fn check_signature(&self, parts: &Parts<'_>, loaded: &Loaded) -> Result<(), TokenFault> {
        let header = parts.header()?;
        let algorithm = Algorithm::by_name(&header.alg).ok_or(TokenFault::AlgorithmRefused)?;
        if !self.algorithms.is_empty() && !self.algorithms.contains(&algorithm) {
            return Err(TokenFault::AlgorithmRefused);
        }
        let candidates = || self.candidates(&header, loaded);
        let fitting = candidates().filter(|key| key.fits(algorithm)).take(TRIES_MAX);
        let mut tried = false;
        for key in fitting {
            tried = true;
            if key.verify(algorithm, parts)? {
                return Ok(());
            }
        }
        // A key that the token names by `kid` has had its say. Otherwise the right one may not be
        // here yet.
        if header.kid.is_some() && candidates().any(|key| key.kid.is_some()) {
            return Err(if tried { TokenFault::BadSignature } else { TokenFault::AlgorithmRefused });
        }
        for set in &self.sets {
            set.miss();
        }
        if loaded.iter().any(|keys| keys.generation == 0) {
            return Err(TokenFault::KeysUnavailable);
        }
        Err(if tried {
            TokenFault::BadSignature
        } else if header.kid.is_some() && (!self.sets.is_empty() || candidates().next().is_none()) {
            TokenFault::UnknownKey
        } else {
            TokenFault::AlgorithmRefused
        })
    }

    /// Keys of exactly the token's `kid` and keys without one; all keys if it has none.
    fn candidates<'a>(&'a self, header: &'a Header, loaded: &'a Loaded) -> impl Iterator<Item = &'a Key> {
        // Those with the very `kid` first, so that the bound on tries never cuts them off.
        let all = || self.own.iter().chain(loaded.iter().flat_map(|keys| keys.keys.iter()));
        let wanted = header.kid.as_deref();
        let named = all().filter(move |key| match wanted {
            Some(_) => key.kid.is_some() && key.kid.as_deref() == wanted,
            None => true,
        });
        let unnamed = all().filter(move |key| wanted.is_some() && key.kid.is_none());
        named.chain(unnamed)
    }

    fn check_claims(&self, claims: &Claims) -> Result<(), TokenFault> {
        claims.check_time(self.clock.unix(), self.leeway_seconds)?;
        if !self.issuers.is_empty() {
            // One string (RFC 7519 4.1.1): a list would be accepted for any of its members.
            let issuer = claims.get("iss").and_then(Value::as_str).ok_or(TokenFault::BadIssuer)?;
            if !self.issuers.iter().any(|accepted| accepted == issuer) {
                return Err(TokenFault::BadIssuer);
            }
        }
        if !self.audiences.is_empty() {
            let accepted = |audience: &Value| {
                audience.as_str().is_some_and(|audience| self.audiences.iter().any(|ours| ours == audience))
            };
            let ours = match claims.get("aud") {
                Some(Value::Array(audiences)) => audiences.iter().any(accepted),
                Some(audience) => accepted(audience),
                None => false,
            };
            if !ours {
                return Err(TokenFault::BadAudience);
            }
        }
        let there = |name: &String| claims.get(name).is_some_and(|value| !value.is_null());
        if !self.required_claims.iter().all(there) {
            return Err(TokenFault::MissingClaim);
        }
        Ok(())
    }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::by_name(name)
        .ok_or_else(|| format!("`{name}` is not an algorithm that is accepted ({})", NAMES.join(", ")))
}

/// SHA-256 over all of the rules, each part with its length.
fn fingerprint(rules: &Rules) -> Result<[u8; 32], String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    };
    for source in &rules.keys {
        let (kind, bytes) = match source {
            KeySource::Inline(document) => ("inline", document.as_bytes()),
            KeySource::File(path) => ("file", path.as_os_str().as_encoded_bytes()),
            KeySource::Url(url) => ("url", url.as_bytes()),
            KeySource::Secret(secret) => ("secret", secret.as_slice()),
        };
        add(kind.as_bytes());
        add(bytes);
    }
    for list in [&rules.algorithms, &rules.issuers, &rules.audiences, &rules.required_claims] {
        add(b"list");
        add(&(list.len() as u64).to_le_bytes());
        for item in list {
            add(item.as_bytes());
        }
    }
    add(&rules.leeway_seconds.to_le_bytes());
    context.finish().as_ref().try_into().map_err(|_| "SHA-256 has another length".to_owned())
}
