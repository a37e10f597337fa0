//! Keyed BLAKE3 of many inputs at once.
//!
//! BLAKE3 is fast where the widest registers are full: with sixteen chunks of 1 KiB at the same time. A file of 6 KiB by
//! itself never fills them, and files of 1 to 128 KiB were hashed at a third of the speed of long ones. Sixteen chunks can be
//! those of several inputs, as long as they stand at the same place in each, and parents of any tree go side by side. The
//! hashes are those of [`blake3::keyed_hash`].
//!
//! The functions for that are in the crate, public but not documented, so its version is pinned in `Cargo.toml`, and tests
//! hold the hashes against the documented function's.

use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};
use blake3::{BLOCK_LEN, CHUNK_LEN, IncrementCounter};

/// How many chunks the widest registers hold.
const WIDE: usize = 16;

/// BLAKE3's flags of a compression (section 2.2 of its specification).
const CHUNK_START: u8 = 1 << 0;
const CHUNK_END: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

/// What a chunk or a parent comes to.
type Value = [u8; 32];

/// An input of several chunks.
struct Tree {
    /// Which input it is.
    input: usize,
    /// How many values its present level has: chunks at first, then parents, in the end the two that make the root.
    width: usize,
}

/// The keyed BLAKE3 of each input, in their order.
pub(crate) fn keyed_hashes(key: &[u8; 32], inputs: &[&[u8]]) -> Vec<[u8; 32]> {
    let mut hashes = vec![[0; 32]; inputs.len()];
    let mut trees = Vec::new();
    for (n, input) in inputs.iter().enumerate() {
        if input.len() <= CHUNK_LEN {
            hashes[n] = *blake3::keyed_hash(key, input).as_bytes();
        } else {
            trees.push(Tree { input: n, width: input.len().div_ceil(CHUNK_LEN) });
        }
    }
    let wide = Wide { platform: Platform::detect(), key: words_from_le_bytes_32(key) };
    let several: Vec<_> = trees.iter().map(|tree| inputs[tree.input]).collect();
    let mut level = wide.chunks(&several);
    while !trees.is_empty() {
        level = wide.parents(&mut trees, &level, &mut hashes);
    }
    hashes
}

/// Works on many at once.
struct Wide {
    platform: Platform,
    key: [u32; 8],
}

impl Wide {
    /// The values of all chunks of inputs of several chunks, one input after the other.
    fn chunks(&self, inputs: &[&[u8]]) -> Vec<Value> {
        let count = inputs.iter().map(|input| input.len().div_ceil(CHUNK_LEN)).sum();
        let mut level = vec![[0; 32]; count];
        // What doesn't fill the registers by itself, by its place in its input.
        let mut waiting: [Vec<(usize, &[u8; CHUNK_LEN])>; WIDE] = Default::default();
        let mut at = 0;
        for input in inputs {
            let (whole, last) = input.as_chunks::<CHUNK_LEN>();
            let (few, full) = whole.split_at(whole.len() % WIDE);
            for (place, chunk) in few.iter().enumerate() {
                waiting[place].push((at + place, chunk));
                if waiting[place].len() == WIDE {
                    self.alike(place, &mut waiting[place], &mut level);
                }
            }
            for (n, chunks) in full.as_chunks::<WIDE>().0.iter().enumerate() {
                let first = few.len() + n * WIDE;
                let values = &mut level[at + first..][..WIDE];
                self.hash(&chunks.each_ref(), first, IncrementCounter::Yes, values);
            }
            at += whole.len();
            if !last.is_empty() {
                level[at] = self.short(last, whole.len());
                at += 1;
            }
        }
        for (place, chunks) in waiting.iter_mut().enumerate() {
            self.alike(place, chunks, &mut level);
        }
        level
    }

    /// Chunks of several inputs, at the same place in each; with each, where its value goes.
    fn alike(
        &self,
        place: usize,
        chunks: &mut Vec<(usize, &[u8; CHUNK_LEN])>,
        level: &mut [Value],
    ) {
        let mut inputs = [&[0; CHUNK_LEN]; WIDE];
        for (input, (_, chunk)) in inputs.iter_mut().zip(chunks.iter()) {
            *input = chunk;
        }
        let mut values = [[0; 32]; WIDE];
        let count = chunks.len();
        self.hash(&inputs[..count], place, IncrementCounter::No, &mut values[..count]);
        for ((at, _), value) in chunks.drain(..).zip(values) {
            level[at] = value;
        }
    }

    fn hash(
        &self,
        chunks: &[&[u8; CHUNK_LEN]],
        first: usize,
        increment: IncrementCounter,
        values: &mut [Value],
    ) {
        let (flags, out) = (KEYED_HASH, values.as_flattened_mut());
        let (start, end) = (CHUNK_START, CHUNK_END);
        self.platform.hash_many(chunks, &self.key, first as u64, increment, flags, start, end, out);
    }

    /// A chunk that isn't whole, and not its input's only one.
    fn short(&self, chunk: &[u8], place: usize) -> Value {
        let mut words = self.key;
        let mut flags = KEYED_HASH | CHUNK_START;
        let mut rest = chunk;
        while !rest.is_empty() {
            let (here, after) = rest.split_at(rest.len().min(BLOCK_LEN));
            let mut block = [0; BLOCK_LEN];
            block[..here.len()].copy_from_slice(here);
            if after.is_empty() {
                flags |= CHUNK_END;
            }
            let length = u8::try_from(here.len()).unwrap_or_default();
            self.platform.compress_in_place(&mut words, &block, length, place as u64, flags);
            flags = KEYED_HASH;
            rest = after;
        }
        le_bytes_from_words_32(&words)
    }

    /// The next level of all trees. A tree of two values comes to its hash, and is done.
    fn parents(
        &self,
        trees: &mut Vec<Tree>,
        level: &[Value],
        hashes: &mut [[u8; 32]],
    ) -> Vec<Value> {
        let (mut roots, mut others) = (Vec::new(), Vec::new());
        let mut rest = level;
        for tree in trees.iter() {
            let (mine, after) = rest.split_at(tree.width);
            let pairs = mine.as_flattened().as_chunks::<BLOCK_LEN>().0.iter();
            let these = if tree.width == 2 { &mut roots } else { &mut others };
            these.extend(pairs);
            rest = after;
        }
        let join = |pairs: &[&[u8; BLOCK_LEN]], flags| {
            let mut values = vec![[0; 32]; pairs.len()];
            let (flags, out) = (KEYED_HASH | PARENT | flags, values.as_flattened_mut());
            self.platform.hash_many(pairs, &self.key, 0, IncrementCounter::No, flags, 0, 0, out);
            values.into_iter()
        };
        let (mut roots, mut others) = (join(&roots, ROOT), join(&others, 0));
        let mut next = Vec::with_capacity(level.len() / 2 + trees.len());
        let mut rest = level;
        trees.retain_mut(|tree| {
            let (mine, after) = rest.split_at(tree.width);
            rest = after;
            if tree.width == 2 {
                hashes[tree.input] = roots.next().unwrap_or_default();
                return false;
            }
            next.extend(others.by_ref().take(tree.width / 2));
            // One without a neighbour is as it is on the next level.
            next.extend(mine.last().filter(|_| tree.width % 2 == 1));
            tree.width = tree.width.div_ceil(2);
            true
        });
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = *b"any key of thirty-two bytes will";

    fn bytes(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| n.wrapping_mul(n.wrapping_add(7)).to_le_bytes()[1]).collect()
    }

    fn check(inputs: &[&[u8]]) {
        let expected: Vec<_> =
            inputs.iter().map(|i| *blake3::keyed_hash(&KEY, i).as_bytes()).collect();
        for (n, hash) in keyed_hashes(&KEY, inputs).into_iter().enumerate() {
            assert_eq!(hash, expected[n], "input {n} of {} bytes", inputs[n].len());
        }
    }

    #[test]
    fn hashes_are_those_of_the_documented_function() {
        let bytes = bytes(200_000);
        check(&[]);
        // Around each number of blocks and chunks, alone, so that nothing fills the registers; then all of them together.
        let lengths = (0..80).map(|n| n * BLOCK_LEN).chain((0..70).map(|n| n * CHUNK_LEN));
        let lengths: Vec<_> = lengths.flat_map(|n| [n.saturating_sub(1), n, n + 1]).collect();
        let inputs: Vec<_> = lengths.iter().map(|&n| &bytes[n % 500..][..n]).collect();
        inputs.iter().for_each(|input| check(&[input]));
        check(&inputs);
        check(&[&bytes[..131_072], &bytes[1..131_072], &bytes]);
    }

    proptest! {
        #[test]
        fn so_are_those_of_any_inputs(cuts in proptest::collection::vec(0..40_000_usize, 0..60)) {
            let bytes = bytes(45_000);
            let inputs: Vec<_> = cuts.iter().map(|&n| &bytes[n % 4_000..][..n]).collect();
            check(&inputs);
        }
    }
}
