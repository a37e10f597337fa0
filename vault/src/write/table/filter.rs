//! Filters of tables: whether a blob may be in one at all, without reading a block of it.
//!
//! Split block Bloom filters: of eight words one bit each, in the 32 bytes in which a blob's bits all lie (Putze, Sanders,
//! Singler, 'Cache-, Hash- and Space-Efficient Bloom Filters', 2007, section 4; as in Apache Parquet). Ids are keyed
//! hashes, so their own bits say which: the first eight bytes the block, the next five the bits.

use crate::ids::BlobId;

/// Rows for each 32 bytes: at about ten bits a row, of a hundred blobs that aren't there one is looked for in vain.
const ROWS: u64 = 25;

/// Bytes of a block.
pub(super) const BLOCK: usize = 32;

type Block = [u32; 8];

/// Says of a blob that it isn't in a table, or that it may be.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// For at most so many rows.
    pub(super) fn of(rows: u64) -> Self {
        let blocks = usize::try_from(rows.div_ceil(ROWS)).unwrap_or(usize::MAX);
        Self { blocks: vec![[0; 8]; blocks] }
    }

    pub(super) fn insert(&mut self, id: &BlobId) {
        let (at, bits) = self.place(id);
        if let Some(block) = self.blocks.get_mut(at) {
            block.iter_mut().zip(bits).for_each(|(word, bit)| *word |= bit);
        }
    }

    /// Whether an id may have been inserted.
    pub(super) fn may_hold(&self, id: &BlobId) -> bool {
        let (at, bits) = self.place(id);
        let block = self.blocks.get(at);
        block.is_some_and(|block| block.iter().zip(bits).all(|(word, bit)| word & bit != 0))
    }

    fn place(&self, id: &BlobId) -> (usize, Block) {
        let bytes = id.as_bytes();
        let at = (u128::from(super::prefix(bytes)) * self.blocks.len() as u128) >> 64;
        let bits = u64::from_be_bytes(*bytes[8..].first_chunk().unwrap_or(&[0; 8]));
        let bits = std::array::from_fn(|word| 1 << (bits >> (5 * word) & 31));
        (usize::try_from(at).unwrap_or(usize::MAX), bits)
    }

    /// As it lies in a file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let block = |bytes: &[u8; BLOCK]| {
            let (words, _) = bytes.as_chunks::<4>();
            std::array::from_fn(|n| u32::from_le_bytes(words[n]))
        };
        Self { blocks: bytes.as_chunks::<BLOCK>().0.iter().map(block).collect() }
    }
}
