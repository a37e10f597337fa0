//! Chunking: where a stream of bytes is cut into blobs.
//!
//! FastCDC (Xia et al., USENIX ATC 2016) in the form of the `fastcdc` crate's 2020 version, but with a gear table
//! derived from the vault's secret, so that whoever reads the bucket can't tell a known file by where it was cut.

mod gear;

use fastcdc::v2020::MASKS;
use serde::{Deserialize, Serialize};

use crate::keys::VaultSecret;
use crate::limits::BLOB_LEN_MAX;

/// How long chunks are, in bytes. Part of `vault.json`: hosts that cut alike find each other's blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkBounds {
    /// No chunk but a stream's last is shorter.
    pub min: u32,
    /// About the average; a power of two.
    pub avg: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl Default for ChunkBounds {
    /// 128 KiB on average: frames make compression independent of it, so it is chosen for deduplication.
    fn default() -> Self {
        Self { min: 32 << 10, avg: 128 << 10, max: 512 << 10 }
    }
}

impl ChunkBounds {
    /// Whether these bounds can be cut by.
    pub fn sound(&self) -> bool {
        self.min >= 1 << 10
            && self.avg.is_power_of_two()
            && self.avg >= 4 << 10
            && self.min.is_multiple_of(2)
            && self.max.is_multiple_of(2)
            && self.min < self.avg
            && self.avg < self.max
            && self.max <= BLOB_LEN_MAX
    }
}

/// Cuts bytes at boundaries that their content and the vault's secret decide.
#[derive(Clone)]
pub struct Chunker {
    bounds: ChunkBounds,
    table: Box<gear::Table>,
    /// Up to the average length, and after it.
    masks: [u64; 2],
}

impl Chunker {
    /// A chunker for one vault.
    pub fn new(secret: &VaultSecret, bounds: ChunkBounds) -> Self {
        let table = Box::new(secret.gear_table());
        // Normalised chunking, level 1: a stricter mask before the average, a laxer one after it.
        let bits = bounds.avg.trailing_zeros() as usize;
        let strict = MASKS.get(bits + 1).copied().unwrap_or(u64::MAX);
        let lax = MASKS.get(bits - 1).copied().unwrap_or(u64::MAX);
        Self { bounds, table, masks: [strict, lax] }
    }

    /// The bounds that it cuts by.
    pub fn bounds(&self) -> ChunkBounds {
        self.bounds
    }

    /// Length of the first chunk of `data`, at most `data.len()`. The caller gives at least
    /// [`ChunkBounds::max`] bytes unless the stream ends before: boundaries then don't depend on how it reads.
    pub fn cut(&self, data: &[u8]) -> usize {
        let ChunkBounds { min, avg, max } = self.bounds;
        if data.len() <= min as usize {
            return data.len();
        }
        let data = &data[..data.len().min(max as usize)];
        let [strict, lax] = self.masks;
        // That version takes bytes in pairs, so an odd one at the end isn't looked at.
        let pairs = data.len() & !1;
        let (early, late) = data[..pairs].split_at(pairs.min(avg as usize));
        let early = &early[min as usize..];
        match gear::search(early, &self.table, strict, 0) {
            Err(n) => min as usize + n,
            Ok(hash) => match gear::search(late, &self.table, lax, hash) {
                Err(n) => avg as usize + n,
                Ok(_) => data.len(),
            },
        }
    }
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunker({:?})", self.bounds)
    }
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::cut_gear;
    use proptest::prelude::*;

    use super::*;

    fn chunker(secret: u8) -> Chunker {
        let bounds = ChunkBounds { min: 1 << 10, avg: 4 << 10, max: 16 << 10 };
        Chunker::new(&VaultSecret::from_bytes([secret; 32]), bounds)
    }

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let n = chunker.cut(data);
            lengths.push(n);
            data = &data[n..];
        }
        lengths
    }

    #[test]
    fn cut_points_are_frozen() {
        assert_eq!(
            cuts(&chunker(1), &noise(1, 40_000)),
            [2756, 6967, 4812, 2860, 6977, 9652, 1260, 1107, 3609]
        );
    }

    #[test]
    fn another_secret_cuts_elsewhere() {
        let data = noise(1, 200_000);
        assert_ne!(cuts(&chunker(1), &data), cuts(&chunker(2), &data));
    }

    #[test]
    fn an_insertion_moves_only_the_boundaries_near_it() {
        let data = noise(3, 400_000);
        let mut changed = data.clone();
        changed.splice(100_000..100_000, *b"inserted");
        let ends = |data: &[u8]| {
            let mut at = 0;
            cuts(&chunker(1), data).into_iter().map(move |n| (at += n, at).1).collect::<Vec<_>>()
        };
        let before: std::collections::HashSet<_> = ends(&data).into_iter().collect();
        let after = ends(&changed);
        let kept = after
            .iter()
            .filter(|&&e| before.contains(&e) || before.contains(&(e.wrapping_sub(8))))
            .count();
        assert!(kept * 10 > after.len() * 9, "{kept} of {}", after.len());
    }

    #[test]
    fn the_defaults_are_sound() {
        assert!(ChunkBounds::default().sound());
        assert!(!ChunkBounds { min: 0, avg: 0, max: 0 }.sound());
    }

    proptest! {
        #[test]
        fn it_cuts_where_fastcdc_does(
            seed in any::<u64>(),
            length in 0usize..200_000,
            even in 0usize..60_000,
            bounds in (0u32..2_000, 12u32..16, 0u32..100_000),
        ) {
            let avg = 1 << bounds.1;
            let bounds =
                ChunkBounds { min: 1024 + bounds.0 / 2 * 2, avg, max: avg + 2 + bounds.2 / 2 * 2 };
            prop_assert!(bounds.sound());
            let chunker = Chunker::new(&VaultSecret::from_bytes([7; 32]), bounds);
            let shifted = chunker.table.map(|n| n << 1);
            // Noise, with one byte again and again in it: that is never cut, or always.
            let mut data = noise(seed, length);
            let from = even.min(data.len());
            let until = (2 * from).min(data.len());
            data[from..until].fill(seed as u8);
            let mut rest = data.as_slice();
            while rest.len() > bounds.min as usize {
                let [min, avg, max] = [bounds.min, bounds.avg, bounds.max].map(|n| n as usize);
                let [s, l] = chunker.masks;
                let (_, theirs) = cut_gear(
                    rest, min, avg, max, s, l, s << 1, l << 1,
                    chunker.table.as_slice(), shifted.as_slice(),
                );
                let ours = chunker.cut(rest);
                prop_assert_eq!(ours, theirs);
                rest = &rest[ours..];
            }
        }

        #[test]
        fn chunks_keep_their_bounds(seed in any::<u64>(), length in 1usize..200_000) {
            let chunker = chunker(5);
            let lengths = cuts(&chunker, &noise(seed, length));
            prop_assert_eq!(lengths.iter().sum::<usize>(), length);
            let (_, all_but_last) = lengths.split_last().unwrap();
            for &n in all_but_last {
                prop_assert!((1 << 10..=16 << 10).contains(&n));
            }
        }
    }
}
