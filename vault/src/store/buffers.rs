//! Room for what is read, used again.
//!
//! A pack is read into some 16 MiB. Memory that comes afresh from the system is cleared first, page by page, and on a virtual
//! machine its host may have to find it: that costs more than copying a pack does. So a buffer comes back when the last who
//! looks at its bytes has let go of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

/// What is no longer than that isn't kept: restores read up to so much at once, and that room serves them for other things in
/// between, so that keeping it costs 20 MiB and gains nothing.
const SHORT: usize = 8 << 20;

/// Objects' lengths differ a little: each buffer should do for most.
const STEP: usize = 1 << 20;

/// Most bytes that are kept while nobody uses them: as much as two packs.
const KEPT_MAX: usize = 36 << 20;

/// Buffers that wait to be used again.
#[derive(Debug, Default)]
pub(super) struct Buffers(Arc<Idle>);

/// Each is as long as it was made, so that nothing has to be cleared again.
type Idle = Mutex<Vec<Box<[u8]>>>;

impl Buffers {
    /// A buffer of `len` bytes, whose content is anything that was read before.
    pub(super) fn lend(&self, len: usize) -> Lent {
        let pool = Arc::downgrade(&self.0);
        let bytes = match len {
            ..=SHORT => vec![0; len].into(),
            _ => self.idle(len).unwrap_or_else(|| vec![0; len.next_multiple_of(STEP)].into()),
        };
        Lent { bytes, len, pool }
    }

    /// The shortest that will do, unless it would waste half of itself.
    fn idle(&self, len: usize) -> Option<Box<[u8]>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &[u8]| (len..=2 * len).contains(&buffer.len());
        let best = (0..idle.len()).filter(|&n| fits(&idle[n])).min_by_key(|&n| idle[n].len());
        best.map(|n| idle.swap_remove(n))
    }

    /// Room for bytes that come piece by piece, as many as are expected, or another number of them.
    pub(super) fn gather(&self, expected: u64) -> Gather {
        let expected = usize::try_from(expected).unwrap_or(0);
        // What won't be kept needn't be cleared either.
        let (room, beyond) = if expected > SHORT { (expected, 0) } else { (0, expected) };
        Gather { room: self.lend(room), filled: 0, beyond: Vec::with_capacity(beyond) }
    }
}

/// Bytes that come piece by piece.
#[derive(Debug)]
pub(super) struct Gather {
    room: Lent,
    filled: usize,
    /// What the room isn't for: short answers, and what came beyond what was expected.
    beyond: Vec<u8>,
}

impl Gather {
    pub(super) fn len(&self) -> usize {
        self.filled + self.beyond.len()
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        let rest = &mut self.room.as_mut()[self.filled..];
        let (fits, more) = piece.split_at(piece.len().min(rest.len()));
        rest[..fits.len()].copy_from_slice(fits);
        self.filled += fits.len();
        self.beyond.extend_from_slice(more);
    }

    pub(super) fn finish(mut self) -> Bytes {
        if self.filled == 0 {
            return self.beyond.into();
        }
        if self.beyond.is_empty() {
            return self.room.freeze(self.filled);
        }
        [&self.room.as_mut()[..self.filled], &self.beyond].concat().into()
    }
}

/// A buffer to be filled, and then to be read.
#[derive(Debug)]
pub(super) struct Lent {
    bytes: Box<[u8]>,
    len: usize,
    pool: Weak<Idle>,
}

impl Lent {
    /// What is to be filled.
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Gives out the first `len` bytes; the buffer comes back when nobody holds them any more.
    pub(super) fn freeze(mut self, len: usize) -> Bytes {
        self.len = len.min(self.len);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let kept = bytes.len() > SHORT && bytes.len() <= KEPT_MAX;
        let Some(pool) = self.pool.upgrade().filter(|_| kept) else { return };
        let mut idle = pool.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(bytes);
        while idle.iter().map(|buffer| buffer.len()).sum::<usize>() > KEPT_MAX {
            idle.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bytes: &Bytes) -> usize {
        bytes.as_ptr() as usize
    }

    fn idle(buffers: &Buffers) -> Vec<usize> {
        buffers.0.lock().unwrap().iter().map(|buffer| buffer.len()).collect()
    }

    #[test]
    fn a_buffer_comes_back_when_the_last_lets_go() {
        let buffers = Buffers::default();
        let mut lent = buffers.lend(SHORT + 5);
        lent.as_mut().fill(7);
        let whole = lent.freeze(SHORT + 5);
        let part = whole.slice(10..20);
        let first = address(&whole);
        drop(whole);
        assert_eq!(idle(&buffers), [] as [usize; 0]);
        let other = buffers.lend(SHORT + 5).freeze(9);
        assert_ne!(address(&other), first);
        assert_eq!((&part[..], other.len()), (&[7; 10][..], 9));
        drop(part);
        assert_eq!(idle(&buffers), [SHORT + STEP]);
        // Another length, as long as it isn't much longer.
        assert_eq!(address(&buffers.lend(SHORT + STEP).freeze(1)), first);
        assert_ne!(address(&buffers.lend(SHORT + STEP + 1).freeze(1)), first);
        drop(buffers.lend(SHORT).freeze(SHORT));
        assert_eq!(idle(&buffers), [SHORT + STEP, SHORT + 2 * STEP]);
        drop(other);
        assert_eq!(idle(&buffers), [SHORT + STEP, SHORT + 2 * STEP, SHORT + STEP]);
    }

    #[test]
    fn pieces_are_gathered_whether_they_were_announced_or_not() {
        let whole = crate::testing::noise(3, SHORT + STEP);
        for expected in [0, 100, SHORT, SHORT + STEP, SHORT + 2 * STEP] {
            let mut gather = Buffers::default().gather(expected as u64);
            for piece in whole.chunks(100_003) {
                gather.add(piece);
            }
            assert_eq!(gather.len(), whole.len());
            assert!(gather.finish() == whole, "{expected}");
        }
        assert_eq!(Buffers::default().gather(10).finish().len(), 0);
    }

    #[test]
    fn not_much_is_kept() {
        let buffers = Buffers::default();
        let many: Vec<_> = (0..5).map(|_| buffers.lend(2 * SHORT)).collect();
        drop(many);
        assert_eq!(idle(&buffers), [2 * SHORT; 2]);
        drop(buffers.lend(KEPT_MAX + 1));
        assert_eq!(idle(&buffers), [2 * SHORT; 2]);
        let last = buffers.lend(2 * SHORT).freeze(2 * SHORT);
        drop(buffers);
        assert_eq!(last.len(), 2 * SHORT);
    }
}
