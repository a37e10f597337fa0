//! Building an index segment in memory.

use bytes::Bytes;

use crate::envelope::RecipientsDigest;
use crate::error::Error;
use crate::frame::Compressor;
use crate::ids::{SegmentId, VaultId};
use crate::index::open::BlobBlock;
use crate::index::{BlobRow, BlockPlace, END_MAGIC, Fence, Footer, PackRow};
use crate::keys::{OpensMetadata, Salt, VaultSecret, random};
use crate::limits::{BLOB_BLOCK_LEN, PACK_BLOCK_LEN};
use crate::pack::{BlobKind, FrameInfo, FramePlace};
use crate::seal::{Header, MessageKind, ObjectKind, Sealer, TAG_LEN};

/// A segment that is being collected.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    envelopes: Vec<(Vec<u8>, RecipientsDigest)>,
    packs: Vec<PackRow>,
    blobs: Vec<BlobRow>,
    nodes: u32,
}

/// A segment that is ready to be stored.
#[derive(Debug)]
pub struct BuiltSegment {
    /// Its name.
    pub id: SegmentId,
    /// The salt of its key.
    pub salt: Salt,
    /// Its stored bytes.
    pub bytes: Bytes,
    /// The packs that it describes, by their numbers.
    pub packs: Vec<PackRow>,
    /// The blobs that it describes, sorted by id.
    pub blobs: Vec<BlobRow>,
    /// How many of them are nodes and lists; what two packs hold is counted twice.
    pub nodes: u32,
}

impl SegmentBuilder {
    /// Adds a pack and all that its footer says; `recipients` tells whom its envelope was sealed to. `row.envelope` is
    /// set here.
    pub fn add(
        &mut self,
        mut row: PackRow,
        envelope: &[u8],
        recipients: RecipientsDigest,
        frames: &[FrameInfo],
    ) {
        let known = self.envelopes.iter().position(|(e, _)| e == envelope);
        let number = known.unwrap_or_else(|| {
            self.envelopes.push((envelope.to_vec(), recipients));
            self.envelopes.len() - 1
        });
        row.envelope = number_of(number);
        let pack = number_of(self.packs.len());
        self.packs.push(row);
        for frame in frames {
            if frame.kind != BlobKind::Data {
                self.nodes = self.nodes.saturating_add(number_of(frame.blobs.len()));
            }
            let mut offset = 0;
            for &(id, length) in &frame.blobs {
                let place = FramePlace {
                    frame_offset: frame.offset,
                    frame_stored: frame.stored,
                    offset,
                    length,
                };
                self.blobs.push(BlobRow { id, pack, place });
                offset += length;
            }
        }
    }

    /// How many blobs it describes so far.
    pub fn blobs(&self) -> usize {
        self.blobs.len()
    }

    /// How many packs it describes so far.
    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// Seals the segment with the vault's secret; `envelope` is that of the run which writes it.
    ///
    /// # Errors
    /// [`Error::Local`] if the system's random source fails.
    pub fn finish(
        mut self,
        vault: VaultId,
        secret: &VaultSecret,
        envelope: &[u8],
    ) -> Result<BuiltSegment, Error> {
        self.blobs.sort_unstable_by_key(|row| (row.id, row.pack));
        // A blob that two packs hold (two runs at once) needs one place only.
        self.blobs.dedup_by_key(|row| row.id);
        let salt = random()?;
        let mut bytes = Vec::new();
        Header { vault, salt, envelope: envelope.to_vec() }
            .write(ObjectKind::Segment, &mut bytes)?;
        let sealer = Sealer::new(
            &secret.metadata().index_key(&vault, &salt),
            ObjectKind::Segment,
            vault,
            salt,
        );
        let mut compressor = Compressor::new(3)?;
        let mut footer = Footer {
            envelopes: self.envelopes.into_iter().map(|(e, r)| (e.into(), r)).collect(),
            blobs: number_of(self.blobs.len()),
            packs: number_of(self.packs.len()),
            blob_blocks: Vec::new(),
            pack_blocks: Vec::new(),
        };
        let mut seal_block = |kind, content: Vec<u8>| -> Result<BlockPlace, Error> {
            let start = bytes.len();
            compressor.compress(&content, &mut bytes)?;
            sealer.seal_tail(&mut bytes, start, kind)?;
            Ok(BlockPlace { offset: number_of(start), stored: number_of(bytes.len() - start) })
        };
        for rows in self.blobs.chunks(BLOB_BLOCK_LEN) {
            let block = postcard::to_stdvec(&BlobBlock::of(rows))
                .map_err(|e| Error::damaged("an index block", e))?;
            let place = seal_block(MessageKind::BlobBlock, block)?;
            footer.blob_blocks.push(Fence { first: rows[0].id, place });
        }
        for rows in self.packs.chunks(PACK_BLOCK_LEN) {
            let block =
                postcard::to_stdvec(rows).map_err(|e| Error::damaged("an index block", e))?;
            footer.pack_blocks.push(seal_block(MessageKind::PackBlock, block)?);
        }
        let start = bytes.len();
        let content =
            postcard::to_stdvec(&footer).map_err(|e| Error::damaged("an index footer", e))?;
        bytes.extend_from_slice(&content);
        sealer.seal_tail(&mut bytes, start, MessageKind::SegmentFooter)?;
        bytes.extend_from_slice(&number_of(content.len() + TAG_LEN).to_le_bytes());
        bytes.extend_from_slice(END_MAGIC);
        let id = SegmentId::from_bytes(*blake3::hash(&bytes).as_bytes());
        let (packs, blobs, nodes) = (self.packs, self.blobs, self.nodes);
        Ok(BuiltSegment { id, salt, bytes: bytes.into(), packs, blobs, nodes })
    }
}

/// Counts and offsets within one segment: bounded by `limits::SEGMENT_*`, far below 2^32.
fn number_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
