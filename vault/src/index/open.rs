//! Opening index segments, as a whole or block by block.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::envelope::RecipientsDigest;
use crate::error::Error;
use crate::frame::Expander;
use crate::ids::{BlobId, SegmentId, VaultId};
use crate::index::{BlobRow, END_MAGIC, Fence, Footer, PackRow, TRAILER_LEN};
use crate::keys::{OpensMetadata, Salt};
use crate::limits::{PACK_BLOCK_LEN, SEGMENT_BLOBS_MAX, SEGMENT_LEN_MAX};
use crate::pack::FramePlace;
use crate::seal::{Header, MessageKind, ObjectKind, Sealer};

/// Longest block when expanded, in bytes: generous for 1,024 blobs or 256 packs with long version ids.
const BLOCK_RAW_MAX: u32 = 1 << 20;

/// Where a sealed block lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockPlace {
    /// First byte.
    pub(super) offset: u32,
    /// Length in bytes.
    pub(super) stored: u32,
}

impl BlockPlace {
    /// The bytes of the segment that hold it.
    pub fn range(&self) -> Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.stored)
    }
}

/// A block of blob rows, column by column, since columns compress better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobBlock {
    ids: Vec<BlobId>,
    packs: Vec<u32>,
    frame_offsets: Vec<u32>,
    frame_lengths: Vec<u32>,
    offsets: Vec<u32>,
    lengths: Vec<u32>,
}

impl BlobBlock {
    pub(super) fn of(rows: &[BlobRow]) -> Self {
        Self {
            ids: rows.iter().map(|r| r.id).collect(),
            packs: rows.iter().map(|r| r.pack).collect(),
            frame_offsets: rows.iter().map(|r| r.place.frame_offset).collect(),
            frame_lengths: rows.iter().map(|r| r.place.frame_stored).collect(),
            offsets: rows.iter().map(|r| r.place.offset).collect(),
            lengths: rows.iter().map(|r| r.place.length).collect(),
        }
    }

    fn sound(&self, packs: u32) -> bool {
        let n = self.ids.len();
        n > 0
            && [&self.packs, &self.frame_offsets, &self.frame_lengths, &self.offsets, &self.lengths]
                .iter()
                .all(|column| column.len() == n)
            && self.ids.is_sorted_by(|a, b| a < b)
            && self.packs.iter().all(|&p| p < packs)
    }

    fn row(&self, i: usize) -> BlobRow {
        BlobRow {
            id: self.ids[i],
            pack: self.packs[i],
            place: FramePlace {
                frame_offset: self.frame_offsets[i],
                frame_stored: self.frame_lengths[i],
                offset: self.offsets[i],
                length: self.lengths[i],
            },
        }
    }

    /// Where `id` lies, if it is in this block.
    pub fn find(&self, id: &BlobId) -> Option<BlobRow> {
        Some(self.row(self.ids.binary_search(id).ok()?))
    }

    /// All rows, in the order of ids.
    pub fn rows(&self) -> impl Iterator<Item = BlobRow> + '_ {
        (0..self.ids.len()).map(|i| self.row(i))
    }
}

/// An index segment whose footer was read. Blocks are given to it as they are fetched.
pub struct OpenSegment {
    sealer: Sealer,
    footer: Footer,
    what: String,
}

impl std::fmt::Debug for OpenSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenSegment({}, {} blobs)", self.what, self.footer.blobs)
    }
}

impl OpenSegment {
    /// The header of a segment, from its first bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::NewerFormat`] if they aren't the beginning of a segment.
    pub fn header(id: &SegmentId, bytes: &[u8]) -> Result<Header, Error> {
        Ok(Header::read(ObjectKind::Segment, bytes, &format!("index segment {id}"))?.0)
    }

    /// How many bytes at the segment's end hold footer and trailer, as its last 12 bytes say.
    ///
    /// # Errors
    /// [`Error::Damaged`] if they aren't the end of a segment of `size` bytes.
    pub fn tail_len(id: &SegmentId, last: &[u8], size: u64) -> Result<u64, Error> {
        let what = || format!("index segment {id}");
        let Some(([l0, l1, l2, l3, magic @ ..], true)) =
            last.last_chunk::<TRAILER_LEN>().map(|t| (t, size <= u64::from(SEGMENT_LEN_MAX)))
        else {
            return Err(Error::damaged(what(), "it is cut short, or too long"));
        };
        if magic != END_MAGIC {
            return Err(Error::damaged(
                what(),
                "it does not end as a segment does; it may be cut short",
            ));
        }
        let length = u64::from(u32::from_le_bytes([*l0, *l1, *l2, *l3])) + TRAILER_LEN as u64;
        if length > size {
            return Err(Error::damaged(what(), format!("its footer claims {length} bytes")));
        }
        Ok(length)
    }

    /// Opens a segment of `size` bytes by its tail (as long as [`tail_len`](Self::tail_len) says).
    ///
    /// # Errors
    /// [`Error::Damaged`] if it was altered, or isn't what it should be.
    pub fn open(
        id: &SegmentId,
        vault: VaultId,
        secret: &impl OpensMetadata,
        salt: &Salt,
        tail: &[u8],
        size: u64,
    ) -> Result<Self, Error> {
        let what = format!("index segment {id}");
        let sealer = Sealer::new(
            &secret.metadata().index_key(&vault, salt),
            ObjectKind::Segment,
            vault,
            *salt,
        );
        let offset = size.saturating_sub(tail.len() as u64);
        let Some((sealed, _)) = tail.split_last_chunk::<TRAILER_LEN>() else {
            return Err(Error::damaged(what, "it is cut short"));
        };
        let footer = sealer.open(sealed.to_vec(), offset, MessageKind::SegmentFooter, &what)?;
        let footer: Footer = postcard::from_bytes(&footer).map_err(|e| Error::damaged(&what, e))?;
        let sound = footer.blobs as usize <= SEGMENT_BLOBS_MAX
            && footer.pack_blocks.len() == (footer.packs as usize).div_ceil(PACK_BLOCK_LEN)
            && footer.blob_blocks.is_sorted_by(|a, b| a.first < b.first)
            && footer
                .blob_blocks
                .iter()
                .map(|f| &f.place)
                .chain(&footer.pack_blocks)
                .all(|place| place.range().end <= offset);
        if !sound {
            return Err(Error::damaged(what, "its footer contradicts itself"));
        }
        Ok(Self { sealer, footer, what })
    }

    /// Opens a segment whose whole bytes are at hand.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::OtherVault`].
    pub fn open_whole(
        id: &SegmentId,
        vault: VaultId,
        secret: &impl OpensMetadata,
        bytes: &[u8],
    ) -> Result<Self, Error> {
        let header = Self::header(id, bytes)?;
        if header.vault != vault {
            return Err(Error::OtherVault {
                what: format!("index segment {id}"),
                found: header.vault.to_string(),
                expected: vault.to_string(),
            });
        }
        let size = bytes.len() as u64;
        let tail = usize::try_from(Self::tail_len(id, bytes, size)?).unwrap_or(usize::MAX);
        Self::open(
            id,
            vault,
            secret,
            &header.salt,
            &bytes[bytes.len() - tail.min(bytes.len())..],
            size,
        )
    }

    /// The envelopes of the runs that wrote the packs.
    pub fn envelope(&self, number: u32) -> Option<&[u8]> {
        Some(self.footer.envelopes.get(number as usize)?.0.as_slice())
    }

    /// Whom that envelope was sealed to.
    pub fn recipients(&self, number: u32) -> Option<RecipientsDigest> {
        Some(self.footer.envelopes.get(number as usize)?.1)
    }

    /// How many packs it describes.
    pub fn packs(&self) -> u32 {
        self.footer.packs
    }

    /// How many blobs it describes.
    pub fn blobs(&self) -> u32 {
        self.footer.blobs
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let envelopes: usize =
            self.footer.envelopes.iter().map(|(envelope, _)| envelope.len()).sum();
        let blocks = self.footer.blob_blocks.len() * size_of::<Fence>()
            + self.footer.pack_blocks.len() * size_of::<BlockPlace>();
        size_of::<Self>() + envelopes + blocks
    }

    /// The block that would hold `id`.
    pub fn block_of(&self, id: &BlobId) -> Option<BlockPlace> {
        let after = self.footer.blob_blocks.partition_point(|fence| fence.first <= *id);
        Some(self.footer.blob_blocks.get(after.checked_sub(1)?)?.place)
    }

    /// All blocks of blobs, in the order of ids.
    pub fn blob_blocks(&self) -> impl Iterator<Item = BlockPlace> + '_ {
        self.footer.blob_blocks.iter().map(|fence| fence.place)
    }

    /// The block that describes pack `number`, and the pack's place in it.
    pub fn pack_block_of(&self, number: u32) -> Option<(BlockPlace, usize)> {
        let number = number as usize;
        let place = self.footer.pack_blocks.get(number / PACK_BLOCK_LEN)?;
        (number < self.footer.packs as usize).then_some((*place, number % PACK_BLOCK_LEN))
    }

    /// All blocks of packs, in the order of their numbers.
    pub fn pack_blocks(&self) -> &[BlockPlace] {
        &self.footer.pack_blocks
    }

    /// Opens a block of blobs.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn blob_block(&self, sealed: &[u8], place: BlockPlace) -> Result<BlobBlock, Error> {
        let raw = self.block(sealed, place, MessageKind::BlobBlock)?;
        let block: BlobBlock =
            postcard::from_bytes(&raw).map_err(|e| Error::damaged(&self.what, e))?;
        if block.sound(self.footer.packs) {
            Ok(block)
        } else {
            Err(Error::damaged(&self.what, "a block of blobs contradicts itself"))
        }
    }

    /// Opens a block of packs.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn pack_block(&self, sealed: &[u8], place: BlockPlace) -> Result<Vec<PackRow>, Error> {
        let raw = self.block(sealed, place, MessageKind::PackBlock)?;
        let rows: Vec<PackRow> =
            postcard::from_bytes(&raw).map_err(|e| Error::damaged(&self.what, e))?;
        let envelopes = self.footer.envelopes.len();
        if rows.iter().all(|row| (row.envelope as usize) < envelopes)
            && rows.len() <= PACK_BLOCK_LEN
        {
            Ok(rows)
        } else {
            Err(Error::damaged(&self.what, "a block of packs contradicts itself"))
        }
    }

    /// All blobs, in the order of their ids, from the segment's whole bytes; a block that can't be read is one error.
    pub fn blob_rows<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = Result<BlobRow, Error>> + 'a {
        self.blob_blocks().flat_map(move |place| {
            match self.blob_block(part(bytes, place.range()), place) {
                Ok(block) => block.rows().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        })
    }

    /// All packs, in the order of their numbers, from the segment's whole bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`], also if there are more or fewer than the footer says.
    pub fn pack_rows(&self, bytes: &[u8]) -> Result<Vec<PackRow>, Error> {
        let mut rows = Vec::new();
        for &place in self.pack_blocks() {
            rows.extend(self.pack_block(part(bytes, place.range()), place)?);
        }
        if rows.len() == self.packs() as usize {
            return Ok(rows);
        }
        Err(Error::damaged(&self.what, "it describes another number of packs than it says"))
    }

    fn block(&self, sealed: &[u8], place: BlockPlace, kind: MessageKind) -> Result<Vec<u8>, Error> {
        let raw = self.sealer.open(sealed.to_vec(), u64::from(place.offset), kind, &self.what)?;
        Expander::new().expand(raw, BLOCK_RAW_MAX, &self.what)
    }
}

fn part(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    bytes.get(at(range.start)..at(range.end)).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PackId;
    use crate::index::{BuiltSegment, SegmentBuilder};
    use crate::keys::{VaultSecret, random};
    use crate::pack::{BlobKind, FrameInfo};

    const VAULT: VaultId = VaultId::from_bytes([8; 16]);

    fn segment(packs: u32, blobs_each: u32) -> (BuiltSegment, VaultSecret) {
        let secret = VaultSecret::from_bytes([1; 32]);
        let mut builder = SegmentBuilder::default();
        for p in 0..packs {
            let row = PackRow {
                id: PackId::from_bytes([p as u8; 32]),
                size: 1000 + p,
                salt: [p as u8; 16],
                envelope: 0,
                version: Some(crate::store::VersionId(format!("v{p}"))),
                locked_until_s: Some(1_800_000_000),
            };
            let blobs =
                (0..blobs_each).map(|_| (BlobId::from_bytes(random().unwrap()), 10)).collect();
            let frames = [FrameInfo { kind: BlobKind::Data, offset: 100, stored: 50, blobs }];
            builder.add(row, if p % 2 == 0 { b"even" } else { b"odd" }, [7; 32], &frames);
        }
        (builder.finish(VAULT, &secret, b"run").unwrap(), secret)
    }

    #[test]
    fn every_blob_and_pack_is_found_again() {
        let (built, secret) = segment(600, 9);
        let open = OpenSegment::open_whole(&built.id, VAULT, &secret, &built.bytes).unwrap();
        let cut = |place: BlockPlace| {
            &built.bytes[place.range().start as usize..place.range().end as usize]
        };
        assert_eq!((open.packs(), open.blobs()), (600, 5400));
        for row in &built.blobs {
            let place = open.block_of(&row.id).unwrap();
            assert_eq!(open.blob_block(cut(place), place).unwrap().find(&row.id), Some(*row));
        }
        for (number, row) in built.packs.iter().enumerate() {
            let (place, at) = open.pack_block_of(number as u32).unwrap();
            assert_eq!(&open.pack_block(cut(place), place).unwrap()[at], row);
            assert_eq!(
                open.envelope(row.envelope).unwrap(),
                if number % 2 == 0 { &b"even"[..] } else { b"odd" }
            );
        }
        assert_eq!(open.pack_block_of(600), None);
        let all: Vec<_> = open
            .blob_blocks()
            .flat_map(|p| open.blob_block(cut(p), p).unwrap().rows().collect::<Vec<_>>())
            .collect();
        assert_eq!(all, built.blobs);
    }

    #[test]
    fn damage_is_found_and_nothing_is_believed() {
        let (built, secret) = segment(2, 3);
        for i in (44 + 3)..built.bytes.len() {
            let mut bad = built.bytes.to_vec();
            bad[i] ^= 4;
            let read = OpenSegment::open_whole(&built.id, VAULT, &secret, &bad).and_then(|open| {
                for place in open.blob_blocks() {
                    open.blob_block(
                        &bad[place.range().start as usize..place.range().end as usize],
                        place,
                    )?;
                }
                for &place in open.pack_blocks() {
                    open.pack_block(
                        &bad[place.range().start as usize..place.range().end as usize],
                        place,
                    )?;
                }
                Ok(())
            });
            assert!(read.is_err(), "byte {i}");
            assert!(OpenSegment::open_whole(&built.id, VAULT, &secret, &built.bytes[..i]).is_err());
        }
    }
}
