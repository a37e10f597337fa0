//! A cache bounded in bytes: what was used longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Keeps values up to a total weight. Values are cheap to clone.
pub(crate) struct Cache<K, V> {
    inner: Mutex<Inner<K, V>>,
    bytes_max: usize,
}

struct Inner<K, V> {
    values: HashMap<K, Held<V>>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
}

struct Held<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let inner = Inner { values: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0 };
        Self { inner: Mutex::new(inner), bytes_max }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let held = inner.values.get_mut(key)?;
        let before = std::mem::replace(&mut held.used, now);
        let value = held.value.clone();
        inner.order.remove(&before);
        inner.order.insert(now, key.clone());
        Some(value)
    }

    /// Keeps `value`, unless it is larger than half of all there is room for.
    pub(crate) fn put(&self, key: K, value: V, bytes: usize) {
        if bytes > self.bytes_max / 2 {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        if let Some(old) = inner.values.insert(key.clone(), Held { value, bytes, used: now }) {
            inner.order.remove(&old.used);
            inner.bytes -= old.bytes;
        }
        inner.order.insert(now, key);
        inner.bytes += bytes;
        while inner.bytes > self.bytes_max {
            let Some((_, oldest)) = inner.order.pop_first() else { break };
            if let Some(gone) = inner.values.remove(&oldest) {
                inner.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_bound_holds() {
        let cache = Cache::new(100);
        for n in 0..4 {
            cache.put(n, n, 25);
        }
        assert_eq!(cache.get(&0), Some(0));
        cache.put(4, 4, 25);
        assert_eq!((cache.get(&0), cache.get(&1), cache.get(&4)), (Some(0), None, Some(4)));
        cache.put(5, 5, 51);
        assert_eq!((cache.get(&5), cache.get(&0)), (None, Some(0)));
        cache.put(0, 9, 50);
        assert_eq!(cache.get(&0), Some(9));
    }
}
