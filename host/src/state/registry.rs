//! Shared things by name: whoever opens a name gets the same thing as everybody else.
//!
//! Called by `bucket`, `limiter` and `token`. A thing lives while somebody holds it and for a grace
//! afterwards, so that a reload, or a policy with a fresh instance per request, finds it again.
//! Never locked by a request's hooks: handles are opened in `configure` only.

use crate::clock::Clock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thing that nobody holds is kept: longer than any reload takes, and than the pause
/// between two requests of a policy whose instances live for one request.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

pub(crate) struct Registry<K, V> {
    clock: Clock,
    /// In the plural, for the error.
    what: &'static str,
    names_max: usize,
    named: Mutex<HashMap<K, Named<V>>>,
}

struct Named<V> {
    value: Arc<V>,
    /// Set by the first sweep that finds the thing unheld.
    unheld_since_nanos: Option<u64>,
}

impl<K: Eq + Hash, V> Registry<K, V> {
    pub(crate) fn new(clock: Clock, what: &'static str, names_max: usize) -> Registry<K, V> {
        Registry { clock, what, names_max, named: Mutex::default() }
    }

    /// What goes by this name, made if need be. The lock is not held while it is made; of two
    /// makers at once the quicker one's is taken.
    pub(crate) fn open(&self, name: K, make: impl FnOnce() -> Result<V, String>) -> Result<Arc<V>, String> {
        if let Some(found) = find(&mut self.lock(), &name) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        let mut named = self.lock();
        if let Some(found) = find(&mut named, &name) {
            return Ok(found);
        }
        if named.len() >= self.names_max {
            return Err(format!("more than {} {} are in use", self.names_max, self.what));
        }
        named.insert(name, Named { value: Arc::clone(&made), unheld_since_nanos: None });
        Ok(made)
    }

    /// Everything that somebody holds.
    pub(crate) fn held(&self) -> Vec<Arc<V>> {
        let named = self.lock();
        let held = named.values().filter(|entry| Arc::strong_count(&entry.value) > 1);
        held.map(|entry| Arc::clone(&entry.value)).collect()
    }

    /// Forgets what nobody has held for the grace.
    pub(crate) fn sweep(&self) {
        let now = self.clock.monotonic_nanos();
        let grace = GRACE.as_nanos() as u64;
        let mut dropped = Vec::new();
        let mut named = self.lock();
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

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Named<V>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<K: Eq + Hash, V>(named: &mut HashMap<K, Named<V>>, name: &K) -> Option<Arc<V>> {
    let found = named.get_mut(name)?;
    found.unheld_since_nanos = None;
    Some(Arc::clone(&found.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_while_held_and_for_the_grace() {
        let clock = Clock::manual(Duration::ZERO);
        let registry = Registry::new(clock.clone(), "things", 2);
        let first = registry.open("a", || Ok(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &registry.open("a", || Ok(2)).unwrap()));
        clock.advance(GRACE * 2);
        registry.sweep();
        assert_eq!(registry.lock().len(), 1, "held");
        drop(first);
        registry.sweep();
        clock.advance(GRACE - Duration::from_nanos(1));
        registry.sweep();
        assert_eq!(*registry.open("a", || Ok(2)).unwrap(), 1, "within the grace");
        registry.sweep();
        clock.advance(GRACE);
        registry.sweep();
        assert_eq!(registry.lock().len(), 0);
        assert_eq!(*registry.open("a", || Ok(2)).unwrap(), 2);
    }

    #[test]
    fn names_are_bounded() {
        let registry = Registry::new(Clock::manual(Duration::ZERO), "things", 1);
        assert!(registry.open("a", || Err("unmade".to_owned())).is_err());
        registry.open("a", || Ok(())).unwrap();
        assert_eq!(registry.open("b", || Ok(())).unwrap_err(), "more than 1 things are in use");
        assert!(registry.open("a", || Ok(())).is_ok());
    }
}
