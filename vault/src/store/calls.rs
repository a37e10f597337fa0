//! How many requests a target was sent, by the kinds that providers charge for.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Requests by kind. Deletions are free everywhere, and not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Writes of objects.
    pub put: u64,
    /// Writes of locks.
    pub extend: u64,
    /// Reads of objects.
    pub get: u64,
    /// Pages of listings.
    pub list: u64,
    /// Questions about an object, a lock or the bucket's settings, without content.
    pub head: u64,
}

impl Calls {
    /// Those since `earlier`, counted by the same store.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            put: self.put.saturating_sub(earlier.put),
            extend: self.extend.saturating_sub(earlier.extend),
            get: self.get.saturating_sub(earlier.get),
            list: self.list.saturating_sub(earlier.list),
            head: self.head.saturating_sub(earlier.head),
        }
    }
}

/// What kind a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    Put,
    Extend,
    Get,
    List,
    Head,
    /// Nobody charges for it.
    Free,
}

/// Counts requests as they are sent, each attempt for itself.
#[derive(Debug, Default)]
pub(super) struct CallCounter {
    put: AtomicU64,
    extend: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    head: AtomicU64,
}

impl CallCounter {
    pub(super) fn add(&self, kind: CallKind) {
        let counter = match kind {
            CallKind::Put => &self.put,
            CallKind::Extend => &self.extend,
            CallKind::Get => &self.get,
            CallKind::List => &self.list,
            CallKind::Head => &self.head,
            CallKind::Free => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Calls {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Calls {
            put: load(&self.put),
            extend: load(&self.extend),
            get: load(&self.get),
            list: load(&self.list),
            head: load(&self.head),
        }
    }
}
