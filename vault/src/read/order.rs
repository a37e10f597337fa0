//! In which order the index segments of a snapshot are searched.
//!
//! The search ends at the segment that has everything, so a good guess saves requests, and a bad one costs some. What is
//! read together was mostly written together: first come those in which something was found last, then
//!
//! - for data, their neighbours. Where nothing was found yet, it is guessed how far on in the snapshot the wanted lies: a
//!   first backup fills its segments in the order of paths, and records say of how many blobs. Near the end of one, the
//!   next is the second guess.
//! - for nodes and lists, the newest of those that are read in one piece, which has the top of the tree; then the others of
//!   them, the one with the most nodes first: among the segments of later, smaller runs most still lie in that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pack::BlobKind;
use crate::read::segment::WHOLE_MAX;
use crate::record::SegmentRef;

/// How many segments are remembered to have had something.
const RECENT_MAX: usize = 8;

/// The order for blobs of each kind.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The newest first.
    segments: Vec<Described>,
    data: Mutex<State>,
    nodes: Mutex<State>,
}

/// What a record says of a segment.
#[derive(Debug, Clone, Copy)]
struct Described {
    /// In bytes.
    size: u64,
    blobs: Option<u32>,
    /// How many of them are nodes and lists.
    nodes: Option<u32>,
}

impl Described {
    /// Whether it is read in one piece.
    fn is_whole(&self) -> bool {
        self.size <= WHOLE_MAX
    }

    /// How many blobs of data it describes, if that is known.
    fn data(&self) -> Option<u64> {
        Some(u64::from(self.blobs?).saturating_sub(self.nodes?.into()))
    }
}

#[derive(Debug, Default)]
struct State {
    /// Where something was found, the last first.
    recent: Vec<usize>,
    /// The order as long as nothing was found.
    guess: Vec<usize>,
}

impl Order {
    /// An order for segments, the newest first.
    pub(crate) fn new(named: &[SegmentRef]) -> Self {
        let described = |segment: &SegmentRef| {
            let SegmentRef { size, blobs, nodes, .. } = *segment;
            Described { size, blobs, nodes }
        };
        Self { segments: named.iter().map(described).collect(), ..Self::default() }
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
        let all = 0..self.segments.len();
        let mut rest: Vec<usize> = all.clone().filter(|at| !known.contains(at)).collect();
        if kind == BlobKind::Data {
            rest.sort_by_key(|&at| at.abs_diff(start));
        } else {
            let has_none = |at: usize| self.segments[at].nodes == Some(0);
            let is_whole = |at: usize| self.segments[at].is_whole();
            let newest = all.clone().find(|&at| is_whole(at) && !has_none(at));
            // At most so many.
            let nodes = |at: usize| {
                let Described { size, blobs, nodes } = self.segments[at];
                nodes.or(blobs).map_or(size, u64::from)
            };
            rest.sort_by_key(|&at| {
                (newest != Some(at), has_none(at), !is_whole(at), std::cmp::Reverse(nodes(at)))
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

    /// Where to look for data as long as none was found: `part` of all lies before it in the snapshot. How much data a
    /// segment describes is told by how many blobs it has of it. Where that isn't known, by its length; then segments that
    /// are read in one piece hold nodes, or the data of small later runs, so they don't count where there are others.
    pub(crate) fn expect(&self, part: f64) {
        let data: Option<Vec<u64>> = self.segments.iter().map(Described::data).collect();
        let weights = data.unwrap_or_else(|| {
            let all_whole = self.segments.iter().all(Described::is_whole);
            let length = |of: &Described| if of.is_whole() && !all_whole { 0 } else { of.size };
            self.segments.iter().map(length).collect()
        });
        #[expect(clippy::cast_precision_loss, reason = "a guess")]
        let weights: Vec<f64> = weights.into_iter().map(|weight| weight as f64).collect();
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

    /// Of segments of which it isn't known how many blobs they describe.
    fn order_of(sizes: &[u64]) -> Order {
        let described = |&size: &u64| Described { size, blobs: None, nodes: None };
        Order { segments: sizes.iter().map(described).collect(), ..Order::default() }
    }

    /// Of segments of which it is known: their lengths, how many blobs, and how many of them are nodes.
    fn order_by(segments: &[(u64, u32, u32)]) -> Order {
        let described = |&(size, blobs, nodes): &(u64, u32, u32)| Described {
            size,
            blobs: Some(blobs),
            nodes: Some(nodes),
        };
        Order { segments: segments.iter().map(described).collect(), ..Order::default() }
    }

    #[test]
    fn what_had_something_last_comes_first_then_its_neighbours_and_each_comes_once() {
        let order = order_of(&[5; 6]);
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
        let order = order_of(&[900, 1000, 800, 160_000, WHOLE_MAX + 5, WHOLE_MAX + 9]);
        assert_eq!(order.of(BlobKind::Tree), [0, 3, 1, 2, 5, 4]);
        order.found(BlobKind::List, 2);
        assert_eq!(order.of(BlobKind::Tree), [2, 0, 3, 1, 5, 4]);
        assert_eq!(order.of(BlobKind::Data)[0], 0);
        // Where it is known, by how many nodes each has.
        let order =
            order_by(&[(900, 9, 0), (800, 9, 3), (3_000_000, 90_000, 0), (300_000, 7_000, 7_000)]);
        assert_eq!(order.of(BlobKind::Tree), [1, 3, 0, 2]);
        // The last segment of data was stored after that of the nodes.
        let order = order_of(&[WHOLE_MAX + 1, 160_000, WHOLE_MAX + 2]);
        assert_eq!(order.of(BlobKind::Tree), [1, 2, 0]);
    }

    #[test]
    fn the_first_guess_goes_by_how_far_on_it_lies() {
        // The newest first: a segment of nodes, then data, the last of it first.
        for (part, first) in [(0.0, 3), (0.39, 3), (0.41, 2), (0.9, 1), (1.0, 0)] {
            let order = order_of(&[1, 50, 100, 100]);
            order.expect(part);
            assert_eq!(order.of(BlobKind::Data)[0], first, "{part}");
        }
        // Behind the begin of a segment the one before it is the second guess, before its end the one after it.
        for (part, guess) in [(0.34, [1, 2, 0]), (0.65, [1, 0, 2])] {
            let order = order_of(&[100; 3]);
            order.expect(part);
            assert_eq!(order.of(BlobKind::Data), guess, "{part}");
        }
        // Where it is known how many blobs each describes, that counts, and not how long it is.
        let order = order_by(&[(1, 9, 9), (90, 120, 20), (WHOLE_MAX + 9, 100, 0), (50, 100, 0)]);
        for (part, first) in [(0.332, 3), (0.334, 2), (0.663, 2), (0.667, 1)] {
            order.expect(part);
            assert_eq!(order.of(BlobKind::Data)[0], first, "{part}");
        }
        // What was found counts more.
        let order = order_of(&[WHOLE_MAX, WHOLE_MAX + 1, WHOLE_MAX + 1]);
        order.expect(0.49);
        assert_eq!(order.of(BlobKind::Data), [2, 1, 0]);
        order.found(BlobKind::Data, 0);
        assert_eq!(order.of(BlobKind::Data), [0, 1, 2]);
    }
}
