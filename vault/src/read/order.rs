//! In which order the index segments of a snapshot are searched.
//!
//! The search ends at the segment that has everything, so a good guess saves requests, and a bad one costs some. What is
//! read together was mostly written together: first come those in which something was found last, then
//!
//! - for data, their neighbours. Where nothing was found yet, it is guessed how far on in the snapshot the wanted lies: a
//!   first backup fills its segments in the order of paths. Near the end of one, the next is the second guess.
//! - for nodes and lists, the newest of those that are read in one piece, which has the top of the tree; then the others of
//!   them, the longest first: among the segments of later, smaller runs it is the one that most nodes still lie in.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pack::BlobKind;
use crate::read::segment::WHOLE_MAX;

/// How many segments are remembered to have had something.
const RECENT_MAX: usize = 8;

/// The order for blobs of each kind.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// How long the segments are, the newest first.
    sizes: Vec<u64>,
    data: Mutex<State>,
    nodes: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where something was found, the last first.
    recent: Vec<usize>,
    /// The order as long as nothing was found.
    guess: Vec<usize>,
}

impl Order {
    /// An order for segments of these lengths, the newest first.
    pub(crate) fn new(sizes: Vec<u64>) -> Self {
        Self { sizes, ..Self::default() }
    }

    /// All segments, those first that most likely have blobs of `kind`.
    pub(crate) fn of(&self, kind: BlobKind) -> Vec<usize> {
        let (mut order, guess) = {
            let state = self.state(kind);
            (state.recent.clone(), state.guess.clone())
        };
        let start = match order.first() {
            Some(&found) => found,
            None if !guess.is_empty() => return guess,
            None => 0,
        };
        let known = order.clone();
        let mut rest: Vec<usize> = (0..self.sizes.len()).filter(|at| !known.contains(at)).collect();
        if kind == BlobKind::Data {
            rest.sort_by_key(|&at| at.abs_diff(start));
        } else {
            let whole = |at: usize| self.sizes[at] <= WHOLE_MAX;
            let newest = (0..self.sizes.len()).find(|&at| whole(at));
            rest.sort_by_key(|&at| {
                (newest != Some(at), !whole(at), std::cmp::Reverse(self.sizes[at]))
            });
        }
        order.append(&mut rest);
        order
    }

    /// Something of `kind` was found in a segment.
    pub(crate) fn found(&self, kind: BlobKind, segment: usize) {
        let recent = &mut self.state(kind).recent;
        recent.retain(|&at| at != segment);
        recent.insert(0, segment);
        recent.truncate(RECENT_MAX);
    }

    /// Where to look for data as long as none was found: `part` of all lies before it in the snapshot. Segments that are read
    /// in one piece hold nodes, or the data of small later runs, so they don't count where there are others.
    pub(crate) fn expect(&self, part: f64) {
        let longest = self.sizes.iter().max().copied().unwrap_or(0);
        let weight = |size: u64| if size > WHOLE_MAX || longest <= WHOLE_MAX { size } else { 0 };
        #[expect(clippy::cast_precision_loss, reason = "a guess")]
        let weights: Vec<f64> = self.sizes.iter().map(|&size| weight(size) as f64).collect();
        let mut end: f64 = weights.iter().sum();
        let at = part * end;
        let mut guess: Vec<(f64, usize)> = Vec::with_capacity(weights.len());
        for (n, weight) in weights.into_iter().enumerate() {
            let begin = end - weight;
            guess.push(((begin - at).max(at - end).max(0.0), n));
            end = begin;
        }
        guess.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.state(BlobKind::Data).guess = guess.into_iter().map(|(_, n)| n).collect();
    }

    fn state(&self, kind: BlobKind) -> MutexGuard<'_, State> {
        let state = if kind == BlobKind::Data { &self.data } else { &self.nodes };
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_something_last_comes_first_then_its_neighbours_and_each_comes_once() {
        let order = Order::new(vec![5; 6]);
        assert_eq!(order.of(BlobKind::Data), [0, 1, 2, 3, 4, 5]);
        order.found(BlobKind::Data, 3);
        assert_eq!(order.of(BlobKind::Data), [3, 2, 4, 1, 5, 0]);
        order.found(BlobKind::Data, 0);
        assert_eq!(order.of(BlobKind::Data), [0, 3, 1, 2, 4, 5]);
        for at in (0..6).cycle().take(20) {
            order.found(BlobKind::Data, at);
        }
        let mut all = order.of(BlobKind::Data);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        assert_eq!(Order::default().of(BlobKind::Tree), [0; 0]);
    }

    #[test]
    fn nodes_are_looked_for_in_the_newest_and_then_in_the_longest_that_is_read_whole() {
        // Two small runs after a first one, whose nodes lie in 3 and whose data in the rest.
        let order = Order::new(vec![900, 1000, 800, 160_000, WHOLE_MAX + 5, WHOLE_MAX + 9]);
        assert_eq!(order.of(BlobKind::Tree), [0, 3, 1, 2, 5, 4]);
        order.found(BlobKind::List, 2);
        assert_eq!(order.of(BlobKind::Tree), [2, 0, 3, 1, 5, 4]);
        assert_eq!(order.of(BlobKind::Data)[0], 0);
        // The last segment of data was stored after that of the nodes.
        let order = Order::new(vec![WHOLE_MAX + 1, 160_000, WHOLE_MAX + 2]);
        assert_eq!(order.of(BlobKind::Tree), [1, 2, 0]);
    }

    #[test]
    fn the_first_guess_goes_by_how_far_on_it_lies() {
        // The newest first: a segment of nodes, then data, the last of it first.
        for (part, first) in [(0.0, 3), (0.39, 3), (0.41, 2), (0.9, 1), (1.0, 0)] {
            let order = Order::new(vec![1, 50, 100, 100]);
            order.expect(part);
            assert_eq!(order.of(BlobKind::Data)[0], first, "{part}");
        }
        // Behind the begin of a segment the one before it is the second guess, before its end the one after it.
        for (part, guess) in [(0.34, [1, 2, 0]), (0.65, [1, 0, 2])] {
            let order = Order::new(vec![100; 3]);
            order.expect(part);
            assert_eq!(order.of(BlobKind::Data), guess, "{part}");
        }
        // What was found counts more.
        let order = Order::new(vec![WHOLE_MAX, WHOLE_MAX + 1, WHOLE_MAX + 1]);
        order.expect(0.49);
        assert_eq!(order.of(BlobKind::Data), [2, 1, 0]);
        order.found(BlobKind::Data, 0);
        assert_eq!(order.of(BlobKind::Data), [0, 1, 2]);
    }
}
