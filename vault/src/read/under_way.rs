//! What is being fetched by whom: what several batches want at the same time is fetched by the first of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// Names of things that somebody fetches.
#[derive(Debug)]
pub(crate) struct UnderWay<K: Hash + Eq> {
    /// Each with a semaphore that never has a permit, and is closed at the end.
    names: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

impl<K: Hash + Eq> Default for UnderWay<K> {
    fn default() -> Self {
        Self { names: Arc::default() }
    }
}

/// Who fetches it.
#[derive(Debug)]
pub(crate) enum Whose<K: Hash + Eq> {
    /// Whoever asked: others wait until this is dropped, however the fetching ends.
    Mine(Claim<K>),
    /// Somebody else.
    Theirs(Wait),
}

/// Something that is being fetched.
#[derive(Debug)]
pub(crate) struct Claim<K: Hash + Eq> {
    name: K,
    names: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

/// Waits for what somebody else fetches.
#[derive(Debug)]
pub(crate) struct Wait(Arc<Semaphore>);

impl<K: Hash + Eq + Clone> UnderWay<K> {
    /// Claims a name unless somebody has.
    pub(crate) fn claim(&self, name: &K) -> Whose<K> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = names.get(name) {
            return Whose::Theirs(Wait(Arc::clone(end)));
        }
        names.insert(name.clone(), Arc::new(Semaphore::new(0)));
        Whose::Mine(Claim { name: name.clone(), names: Arc::clone(&self.names) })
    }

    /// Whether anybody waits for something that is being fetched.
    pub(crate) fn is_awaited(&self, name: &K) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).is_some_and(|end| Arc::strong_count(end) > 1)
    }
}

impl Wait {
    /// Returns once the other has ended, with or without success.
    pub(crate) async fn ended(self) {
        // Only its end answers.
        let _ = self.0.acquire().await;
    }
}

impl<K: Hash + Eq> Drop for Claim<K> {
    fn drop(&mut self) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = names.remove(&self.name) {
            end.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_claims_and_the_others_wait_for_its_end() {
        let under_way = UnderWay::default();
        let Whose::Mine(claim) = under_way.claim(&1) else { panic!("nobody else has it") };
        assert!(matches!(under_way.claim(&2), Whose::Mine(_)));
        assert!(!under_way.is_awaited(&1));
        let Whose::Theirs(wait) = under_way.claim(&1) else { panic!("it is claimed") };
        assert!(under_way.is_awaited(&1));
        let mut waiting = tokio::spawn(wait.ended());
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, &mut waiting).await.is_err());
        drop(claim);
        waiting.await.unwrap();
        assert!(matches!(under_way.claim(&1), Whose::Mine(_)));
    }
}
