//! Which of the found parts of a passage are worth an extent.

use crate::write::delta::list::Part;

/// What an extent may cost, in bytes that are stored again instead. It takes 3 to 6 bytes in this and every later
/// snapshot, and each restore has to deal with it; rows compress to a third or so.
const EXTENT: usize = 128;

/// A part of an older blob, and where in the passage it stands, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub(super) start: usize,
    pub(super) part: Part,
}

impl Old {
    fn end(&self) -> usize {
        self.start + self.part.length as usize
    }
}

/// What comes to stand before a part, in the cheapest way to deal with all up to there.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// If the part is referred to: whether the part before it is stored.
    refer_after_stored: bool,
    /// If the part is stored.
    store_after_stored: bool,
}

/// Leaves those parts of a passage of `length` bytes that are referred to, so that extents and bytes that are stored again
/// together cost least.
///
/// Stretches that are stored become one extent with their neighbours that are, so storing a short part beside new bytes
/// saves one, and between them two. Of each part two ways are held against each other: that it is referred to, and that
/// it is stored.
pub(super) fn choose(old: &mut Vec<Old>, length: usize) {
    let never = usize::MAX / 2;
    // What all up to here costs at least if the last part is referred to, and if it is stored.
    let (mut refer, mut store) = (0, never);
    let mut steps = Vec::with_capacity(old.len());
    let mut at = 0;
    for old in old.iter() {
        // What is new in front of it is an extent by itself between two that are referred to, else part of one.
        let gap = if at < old.start { EXTENT } else { 0 };
        let (after_referred, after_stored) = (refer + gap, store);
        let to_refer = after_referred.min(after_stored) + EXTENT;
        let opened = if gap > 0 { refer + gap } else { refer + EXTENT };
        steps.push(Step {
            refer_after_stored: after_stored < after_referred,
            store_after_stored: store < opened,
        });
        let to_store = store.min(opened) + old.part.length as usize;
        (refer, store) = (to_refer, to_store);
        at = old.end();
    }
    let gap = if at < length { EXTENT } else { 0 };
    let mut stored = store < refer + gap;
    let mut keep = vec![false; old.len()];
    for (keep, step) in keep.iter_mut().zip(&steps).rev() {
        *keep = !stored;
        stored = if stored { step.store_after_stored } else { step.refer_after_stored };
    }
    let mut keep = keep.into_iter();
    old.retain(|_| keep.next().unwrap_or(true));
}

/// How many extents a passage of `length` bytes consists of, if these parts are referred to.
pub(super) fn extents(old: &[Old], length: usize) -> usize {
    let (mut at, mut extents) = (0, old.len());
    for old in old {
        extents += usize::from(at < old.start);
        at = old.end();
    }
    extents + usize::from(at < length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::BlobId;

    fn part(start: usize, length: u32, n: u8) -> Old {
        let id = BlobId::from_bytes([n; 24]);
        Old { start, part: Part { id, offset: 0, length, of: length } }
    }

    fn cost(old: &[Old], length: usize) -> usize {
        let kept: usize = old.iter().map(|old| old.part.length as usize).sum();
        extents(old, length) * EXTENT + length - kept
    }

    proptest! {
        #[test]
        fn no_choice_costs_less(lengths in prop::collection::vec((0..300usize, 1..300u32), 0..9), tail in 0..2usize) {
            let mut at = 0;
            let mut all = Vec::new();
            for (n, (gap, length)) in (0..).zip(lengths) {
                // Half of them adjoin.
                at += if gap < 150 { 0 } else { gap };
                all.push(part(at, length, n));
                at += length as usize;
            }
            let length = at + tail;
            let mut chosen = all.clone();
            choose(&mut chosen, length);
            let least = (0..1u32 << all.len())
                .map(|kept| {
                    let some: Vec<_> = (0..all.len()).filter(|n| kept >> n & 1 == 1).map(|n| all[n]).collect();
                    cost(&some, length)
                })
                .min();
            prop_assert_eq!(Some(cost(&chosen, length)), least);
        }
    }
}
