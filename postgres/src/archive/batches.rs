//! Keyed BLAKE3 of many short rows at once.
//!
//! Hashed one by one, rows take a fifth of a first backup's CPU time: BLAKE3 works through a row of 200 bytes block by block,
//! and only inputs beyond 1 KiB give it several blocks to work on at the same time. Rows that have as many blocks as
//! each other can be worked on side by side, all but the last block, which alone may be short. The hashes are those of
//! [`blake3::keyed_hash`].
//!
//! The functions for that are in the crate, public but not documented, so its version is pinned in `Cargo.toml`, and a
//! test holds the hashes against the documented function's.

use blake3::IncrementCounter;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};

use super::RowSet;

const BLOCK: usize = blake3::BLOCK_LEN;
/// Rows worked on side by side: as many as the widest registers hold.
const ROWS: usize = 16;
/// Longer rows are hashed by themselves: they have several chunks of BLAKE3's tree.
const LONGEST: usize = blake3::CHUNK_LEN;
/// How many blocks a row can have before its last one.
const KINDS: usize = LONGEST / BLOCK;

/// BLAKE3's flags of a compression (section 2.2 of its specification).
const CHUNK_START: u8 = 1 << 0;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

/// Rows that wait for others of their length, at most 140 KB of them.
#[derive(Debug)]
pub(super) struct Batches {
    platform: Platform,
    /// By how many blocks a row has before its last one.
    batches: [Batch; KINDS],
}

/// Rows of as many blocks each.
#[derive(Debug, Default)]
struct Batch {
    /// Whole blocks, the last one of each row padded with zeros.
    bytes: Vec<u8>,
    /// How many bytes of each row's last block count.
    last: Vec<u8>,
}

impl Default for Batches {
    fn default() -> Self {
        Self { platform: Platform::detect(), batches: Default::default() }
    }
}

impl Batches {
    /// Adds a row, the hash of which comes to `set` now or by [`flush`](Self::flush); `false` if it is too long for that.
    pub(super) fn add(&mut self, key: &[u8; 32], row: &[u8], set: &mut RowSet) -> bool {
        let before = row.len().saturating_sub(1) / BLOCK;
        let Some(batch) = self.batches.get_mut(before) else { return false };
        batch.bytes.extend_from_slice(row);
        batch.last.push(u8::try_from(row.len() - before * BLOCK).unwrap_or(u8::MAX));
        batch.bytes.resize(batch.last.len() * (before + 1) * BLOCK, 0);
        if batch.last.len() == ROWS {
            batch.hash(self.platform, key, before, set);
        }
        true
    }

    /// Adds the hashes of all rows that still wait.
    pub(super) fn flush(&mut self, key: &[u8; 32], set: &mut RowSet) {
        for (before, batch) in self.batches.iter_mut().enumerate() {
            batch.hash(self.platform, key, before, set);
        }
    }
}

impl Batch {
    fn hash(&mut self, platform: Platform, key: &[u8; 32], before: usize, set: &mut RowSet) {
        let key = words_from_le_bytes_32(key);
        let mut values = [0; ROWS * 32];
        let rows = self.bytes.chunks_exact((before + 1) * BLOCK);
        match before {
            0 => {}
            1 => side_by_side::<{ BLOCK }>(platform, &key, rows.clone(), &mut values),
            2 => side_by_side::<{ 2 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            3 => side_by_side::<{ 3 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            4 => side_by_side::<{ 4 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            5 => side_by_side::<{ 5 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            6 => side_by_side::<{ 6 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            7 => side_by_side::<{ 7 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            8 => side_by_side::<{ 8 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            9 => side_by_side::<{ 9 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            10 => side_by_side::<{ 10 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            11 => side_by_side::<{ 11 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            12 => side_by_side::<{ 12 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            13 => side_by_side::<{ 13 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            14 => side_by_side::<{ 14 * BLOCK }>(platform, &key, rows.clone(), &mut values),
            _ => side_by_side::<{ 15 * BLOCK }>(platform, &key, rows.clone(), &mut values),
        }
        let (values, _) = values.as_chunks::<32>();
        for ((row, last), value) in rows.zip(&self.last).zip(values) {
            let Some(block) = row.last_chunk::<BLOCK>() else { continue };
            let (mut words, start) = match before {
                0 => (key, CHUNK_START),
                _ => (words_from_le_bytes_32(value), 0),
            };
            let flags = KEYED_HASH | start | CHUNK_END | ROOT;
            platform.compress_in_place(&mut words, block, *last, 0, flags);
            set.add(&le_bytes_from_words_32(&words));
        }
        self.bytes.clear();
        self.last.clear();
    }
}

/// Works through the first `N` bytes of each row, none of them its last block's; writes down what each has come to.
fn side_by_side<'a, const N: usize>(
    platform: Platform,
    key: &[u32; 8],
    rows: impl Iterator<Item = &'a [u8]>,
    values: &mut [u8; ROWS * 32],
) {
    let mut inputs = [&[0; N]; ROWS];
    let mut count = 0;
    for (input, row) in inputs.iter_mut().zip(rows.filter_map(<[u8]>::first_chunk::<N>)) {
        *input = row;
        count += 1;
    }
    let (inputs, values) = (&inputs[..count], &mut values[..count * 32]);
    platform.hash_many(inputs, key, 0, IncrementCounter::No, KEYED_HASH, CHUNK_START, 0, values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_documented_function() {
        let key: [u8; 32] = std::array::from_fn(|n| n.to_le_bytes()[0] * 7);
        let bytes: Vec<u8> = (0..5_000u32).map(|n| (n * n).to_le_bytes()[1]).collect();
        // Each length alone, so that every kind of batch is flushed with one row; then many of them, in any order.
        for length in 0..=LONGEST {
            let (mut batches, mut set, mut expected) =
                (Batches::default(), RowSet::default(), RowSet::default());
            let row = &bytes[length..2 * length];
            assert!(batches.add(&key, row, &mut set));
            batches.flush(&key, &mut set);
            expected.add(blake3::keyed_hash(&key, row).as_bytes());
            assert_eq!(set, expected, "{length} bytes");
        }
        let (mut batches, mut set, mut expected) =
            (Batches::default(), RowSet::default(), RowSet::default());
        for n in 0..20_000 {
            let row = &bytes[n % 3_000..][..n * 7919 % (LONGEST + 1)];
            assert!(batches.add(&key, row, &mut set));
            expected.add(blake3::keyed_hash(&key, row).as_bytes());
        }
        assert!(set.rows > 19_000 && set.rows < 20_000, "{} were hashed on the way", set.rows);
        batches.flush(&key, &mut set);
        assert_eq!(set, expected);
        assert!(!batches.add(&key, &bytes[..=LONGEST], &mut set));
    }
}
