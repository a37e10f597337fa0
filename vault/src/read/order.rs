//! In which order the index segments of a snapshot are searched.
//!
//! The search ends at the segment that has everything, so a good guess saves requests, and a bad one costs some. What is
//! read together was mostly written together: first come those in which something was found last, then their neighbours.
//! Where nothing was found yet, it is guessed how far on in the snapshot the wanted lies: a first backup fills its
//! segments in the order of paths.

use std::sync::{Mutex, PoisonError};

use crate::pack::BlobKind;

/// How many segments are remembered to have had something.
const RECENT_MAX: usize = 8;

/// The order for blobs of one kind.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Data, and nodes and lists: these lie in segments of their own.
    kinds: [Mutex<State>; 2],
}

#[derive(Debug, Default)]
struct State {
    /// Where something was found, the last first.
    recent: Vec<usize>,
    /// Where to begin as long as nothing was found.
    start: usize,
}

impl Order {
    /// All of `count` segments, those first that most likely have blobs of `kind`.
    pub(crate) fn of(&self, kind: BlobKind, count: usize) -> impl Iterator<Item = usize> + use<> {
        let (recent, start) = {
            let state = self.state(kind);
            (state.recent.clone(), state.recent.first().copied().unwrap_or(state.start))
        };
        let start = start.min(count.saturating_sub(1));
        let known = recent.clone();
        let outward = (0..count).flat_map(move |n| {
            let after = start.checked_add(n).filter(|&at| at < count);
            let before = start.checked_sub(n).filter(|_| n > 0);
            [after, before].into_iter().flatten()
        });
        let recent = recent.into_iter().filter(move |&at| at < count);
        recent.chain(outward.filter(move |at| !known.contains(at)))
    }

    /// Something of `kind` was found in a segment.
    pub(crate) fn found(&self, kind: BlobKind, segment: usize) {
        let recent = &mut self.state(kind).recent;
        recent.retain(|&at| at != segment);
        recent.insert(0, segment);
        recent.truncate(RECENT_MAX);
    }

    /// Where to begin to look for data as long as none was found: `part` of all lies before it in the snapshot. `sizes` are
    /// the lengths of the segments, the newest first.
    pub(crate) fn expect(&self, part: f64, sizes: impl DoubleEndedIterator<Item = u64>) {
        let sizes: Vec<u64> = sizes.collect();
        let total: u64 = sizes.iter().sum();
        let mut before = 0u64;
        let at = sizes.iter().rposition(|size| {
            before = before.saturating_add(*size);
            #[expect(clippy::cast_precision_loss, reason = "a guess")]
            let reached = before as f64 > part * total as f64;
            reached
        });
        self.state(BlobKind::Data).start = at.unwrap_or(0);
    }

    fn state(&self, kind: BlobKind) -> std::sync::MutexGuard<'_, State> {
        let state = &self.kinds[usize::from(kind != BlobKind::Data)];
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_something_last_comes_first_then_its_neighbours_and_each_comes_once() {
        let order = Order::default();
        let of = |kind| order.of(kind, 6).collect::<Vec<_>>();
        assert_eq!(of(BlobKind::Data), [0, 1, 2, 3, 4, 5]);
        order.found(BlobKind::Data, 3);
        assert_eq!(of(BlobKind::Data), [3, 4, 2, 5, 1, 0]);
        order.found(BlobKind::Data, 0);
        assert_eq!(of(BlobKind::Data), [0, 3, 1, 2, 4, 5]);
        assert_eq!(of(BlobKind::Tree), [0, 1, 2, 3, 4, 5]);
        order.found(BlobKind::List, 5);
        assert_eq!(of(BlobKind::Tree)[0], 5);
        for at in 0..20 {
            order.found(BlobKind::Data, at);
        }
        let mut all: Vec<_> = order.of(BlobKind::Data, 20).collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        assert_eq!(order.of(BlobKind::Tree, 0).count(), 0);
    }

    #[test]
    fn the_first_guess_goes_by_how_far_on_it_lies() {
        // The newest first: a segment of nodes, then data, the last of it first.
        let sizes = [1, 50, 100, 100];
        for (part, first) in [(0.0, 3), (0.39, 3), (0.41, 2), (0.9, 1), (1.0, 0)] {
            let order = Order::default();
            order.expect(part, sizes.into_iter());
            assert_eq!(order.of(BlobKind::Data, 4).next(), Some(first), "{part}");
        }
    }
}
