//! Shared things by name: whoever opens a name gets the same thing as everybody else.
//!
//! Called by `bucket` and `limiter`. A thing lives while somebody holds it and for a grace
//! afterwards, so that a reload, or a policy with a fresh instance per request, finds it again.
//! Never locked by a request's hooks: handles are opened in `configure` only.

use crate::clock::Clock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a thing that nobody holds is kept: longer than any reload takes, and than the pause
/// between two requests of a policy whose instances live for one request.
pub(super) const GRACE: Duration = Duration::from_secs(600);

pub(super) struct Registry<K, V> {
    clock: Clock,
    names_max: usize,
    named: Mutex<HashMap<K, Named<V>>>,
}

struct Named<V> {
    value: Arc<V>,
    /// Set by the first sweep that finds the thing unheld.
    unheld_since_nanos: Option<u64>,
}

/// There is no room for another name.
#[derive(Debug)]
pub(super) struct Full;

impl<K: Eq + Hash + Clone, V> Registry<K, V> {
    pub(super) fn new(clock: Clock, names_max: usize) -> Registry<K, V> {
        Registry { clock, names_max, named: Mutex::default() }
    }

    pub(super) fn open(&self, name: K, make: impl FnOnce() -> V) -> Result<Arc<V>, Full> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = named.get_mut(&name) {
            found.unheld_since_nanos = None;
            return Ok(Arc::clone(&found.value));
        }
        if named.len() >= self.names_max {
            return Err(Full);
        }
        let value = Arc::new(make());
        named.insert(name, Named { value: Arc::clone(&value), unheld_since_nanos: None });
        Ok(value)
    }

    /// Forgets what nobody has held for the grace.
    pub(super) fn sweep(&self) {
        let now = self.clock.monotonic_nanos();
        let grace = GRACE.as_nanos() as u64;
        let mut dropped = Vec::new();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, entry| {
            // Clones are only made under this lock or from another clone, so 1 means unheld.
            if Arc::strong_count(&entry.value) > 1 {
                entry.unheld_since_nanos = None;
                return true;
            }
            let since = *entry.unheld_since_nanos.get_or_insert(now);
            let keep = now.saturating_sub(since) < grace;
            if !keep {
                dropped.push(Arc::clone(&entry.value));
            }
            keep
        });
        drop(named);
        // Large tables are freed here, with the lock given back.
        drop(dropped);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_while_held_and_for_the_grace() {
        let clock = Clock::manual(Duration::ZERO);
        let registry = Registry::new(clock.clone(), 2);
        let first = registry.open("a", || 1).unwrap();
        assert!(Arc::ptr_eq(&first, &registry.open("a", || 2).unwrap()));
        clock.advance(GRACE * 2);
        registry.sweep();
        assert_eq!(registry.len(), 1, "held");
        drop(first);
        registry.sweep();
        clock.advance(GRACE - Duration::from_nanos(1));
        registry.sweep();
        assert_eq!(*registry.open("a", || 2).unwrap(), 1, "within the grace");
        registry.sweep();
        clock.advance(GRACE);
        registry.sweep();
        assert_eq!(registry.len(), 0);
        assert_eq!(*registry.open("a", || 2).unwrap(), 2);
    }

    #[test]
    fn names_are_bounded() {
        let registry = Registry::new(Clock::manual(Duration::ZERO), 1);
        registry.open("a", || ()).unwrap();
        assert!(registry.open("b", || ()).is_err());
        assert!(registry.open("a", || ()).is_ok());
    }
}
