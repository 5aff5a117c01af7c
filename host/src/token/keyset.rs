//! Key sets that live outside the configuration: files and URLs.
//!
//! Opened by `verifier`; all verifiers that name the same source share one set. A file is read
//! when it is first named and again at each reload. A URL is fetched on the control runtime: at
//! once, then every ten minutes, sooner after a failure, and when a token names an unknown key,
//! but then at most once in thirty seconds, whatever tokens come. What was good last is kept
//! until something better arrives.
//!
//! ```text
//! empty --fetched--> good --fetched--> good (generation + 1 if the document changed)
//!   └──failed──> empty   └──failed──> good (as before)
//! ```

use super::document::{self, DOCUMENT_BYTES_MAX};
use super::key::Key;
use crate::clock::Clock;
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Between fetches that tokens ask for: forged `kid`s must not become traffic for the issuer.
pub(super) const MISS_INTERVAL: Duration = Duration::from_secs(30);
/// Rotated keys are published hours ahead; ten minutes also bounds how long a revoked key lives.
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// After the first failure; doubled with each further one, up to `REFRESH_INTERVAL`.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// A document is a few kilobytes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const NEVER: u64 = u64::MAX;

/// Gets documents over HTTP. The gateway's own client in production; it should bound what it
/// reads to about a megabyte.
pub trait Fetch: Send + Sync {
    /// The body of a 200 answer, or why there is none, without secrets.
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a>;
}

/// A fetch under way. Dropped if it takes more than ten seconds.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'a>>;

/// What a URL is fetched with.
pub(super) struct Fetcher {
    pub(super) clock: Clock,
    pub(super) fetch: Arc<dyn Fetch>,
    pub(super) runtime: Handle,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    File(PathBuf),
    Url(Box<str>),
}

pub(super) struct KeySet {
    source: Source,
    fetcher: Arc<Fetcher>,
    keys: ArcSwap<Keys>,
    fetching: AtomicBool,
    /// When the last fetch began.
    attempted_nanos: AtomicU64,
    /// Fetches failed since the last good one.
    failures: AtomicU32,
}

pub(super) struct Keys {
    /// 0: nothing was ever loaded. Grows with every change.
    pub(super) generation: u64,
    document_sha256: Option<digest::Digest>,
    pub(super) keys: Vec<Key>,
}

impl KeySet {
    /// A file is read now and must hold a usable key; a URL's first fetch is begun.
    pub(super) fn open(source: Source, fetcher: Arc<Fetcher>) -> Result<KeySet, String> {
        let set = KeySet {
            source,
            fetcher,
            keys: ArcSwap::from_pointee(Keys { generation: 0, document_sha256: None, keys: Vec::new() }),
            fetching: AtomicBool::new(false),
            attempted_nanos: AtomicU64::new(NEVER),
            failures: AtomicU32::new(0),
        };
        if let Source::File(path) = &set.source {
            set.accept(&read(path)?, Accept::Usable).map_err(|why| format!("{} {why}", path.display()))?;
        }
        Ok(set)
    }

    /// Where the keys stand, if that is a file.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Url(_) => None,
        }
    }

    pub(super) fn load(&self) -> arc_swap::Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// A token named a key that is not here.
    pub(super) fn miss(self: &Arc<KeySet>) {
        self.fetch_if_older(MISS_INTERVAL);
    }

    /// Fetches if it is time to. Called once a second.
    pub(super) fn tick(self: &Arc<KeySet>) {
        let interval = match self.failures.load(Ordering::Relaxed) {
            0 => REFRESH_INTERVAL,
            failures => {
                let doubled = RETRY_INTERVAL * 2_u32.saturating_pow(failures.min(16) - 1);
                doubled.min(REFRESH_INTERVAL)
            }
        };
        self.fetch_if_older(interval);
    }

    /// Reads a file again; keeps what was good if it no longer is. Blocks.
    pub(super) fn reload_file(&self) {
        let Source::File(path) = &self.source else { return };
        let outcome = read(path).and_then(|bytes| self.accept(&bytes, Accept::Usable));
        if let Err(why) = outcome {
            tracing::warn!(file = %path.display(), %why, "key file not taken; the old keys stay");
        }
    }

    fn fetch_if_older(self: &Arc<KeySet>, interval: Duration) {
        let Source::Url(_) = &self.source else { return };
        let now = self.fetcher.clock.monotonic_nanos();
        let attempted = self.attempted_nanos.load(Ordering::Relaxed);
        let interval = interval.as_nanos() as u64;
        if attempted != NEVER && now.saturating_sub(attempted) < interval {
            return;
        }
        // One wins; the others see the new time, or its flag.
        if self.fetching.swap(true, Ordering::AcqRel) {
            return;
        }
        let ours = self.attempted_nanos.compare_exchange(attempted, now, Ordering::AcqRel, Ordering::Relaxed);
        if ours.is_err() {
            self.fetching.store(false, Ordering::Release);
            return;
        }
        let fetching = InFlight(Arc::clone(self));
        self.fetcher.runtime.spawn(async move { fetching.0.fetch().await });
    }

    async fn fetch(&self) {
        let Source::Url(url) = &self.source else { return };
        let got = tokio::time::timeout(FETCH_TIMEOUT, self.fetcher.fetch.get(url)).await;
        let outcome = match got {
            Ok(Ok(bytes)) => self.accept(&bytes, Accept::WellFormed),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("no answer in {} s", FETCH_TIMEOUT.as_secs())),
        };
        match outcome {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let kept = self.load().generation > 0;
                tracing::warn!(url = public_part(url), %why, kept, "keys not fetched");
            }
        }
    }

    fn accept(&self, bytes: &[u8], accept: Accept) -> Result<(), String> {
        let sha256 = digest::digest(&digest::SHA256, bytes);
        let old = self.load();
        let same = old.document_sha256.is_some_and(|old| old.as_ref() == sha256.as_ref());
        if same {
            // The same keys: what was verified with them stays verified.
            return Ok(());
        }
        let keys = document::parse(bytes)?;
        if keys.is_empty() && accept == Accept::Usable {
            return Err("holds no key that can check a signature".to_owned());
        }
        let generation = old.generation + 1;
        self.keys.store(Arc::new(Keys { generation, document_sha256: Some(sha256), keys }));
        Ok(())
    }
}

/// An issuer that publishes an empty set has revoked its keys; a file without keys is a mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accept {
    Usable,
    WellFormed,
}

/// Gives the flag back also when the task is dropped or panics.
struct InFlight(Arc<KeySet>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetching.store(false, Ordering::Release);
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    crate::file::read(path, DOCUMENT_BYTES_MAX as u64).map_err(|error| format!("cannot be read: {error}"))
}

/// Without what may be secret: user and password, query.
fn public_part(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let start = url[..end].rfind('@').map_or(0, |at| at + 1);
    &url[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_logged_without_secrets() {
        assert_eq!(public_part("https://a.example/jwks?key=s#x"), "https://a.example/jwks");
        assert_eq!(public_part("https://u:p@a.example/jwks"), "a.example/jwks");
    }
}
