//! Index segments: which blob lies where.
//!
//! A segment describes packs and the blobs in them, sorted by blob id and cut into sealed blocks, so that a reader
//! with one id fetches the footer and one block, whatever the vault's size.
//! `header ‖ blob blocks ‖ pack blocks ‖ footer ‖ footer length (u32 LE) ‖ "KHIXEND1"`.

mod build;
mod open;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::envelope::RecipientsDigest;
use crate::ids::{BlobId, PackId};
use crate::keys::Salt;
use crate::pack::FramePlace;
use crate::store::VersionId;

pub use build::{BuiltSegment, SegmentBuilder};
pub use open::{BlobBlock, BlockPlace, OpenSegment};

/// What an index segment says of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its length in bytes.
    pub size: u32,
    /// The salt of its key.
    pub salt: Salt,
    /// Which of the segment's envelopes holds its run key.
    pub envelope: u32,
    /// The version that the store answered when it was written.
    pub version: Option<VersionId>,
    /// Until when it was locked when the segment was written, in seconds since 1970; `None` without locks.
    pub locked_until_s: Option<i64>,
}

impl PackRow {
    /// Until when it was locked when the segment was written.
    pub fn locked_until(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.locked_until_s?).ok()
    }
}

/// Where one blob lies: a pack by its number in the segment, and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRow {
    /// The blob.
    pub id: BlobId,
    /// Number of its pack in the segment.
    pub pack: u32,
    /// Where in the pack.
    pub place: FramePlace,
}

const END_MAGIC: &[u8; 8] = b"KHIXEND1";
const TRAILER_LEN: usize = 4 + 8;

/// Where a block of blobs begins, and the first blob in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fence {
    first: BlobId,
    place: BlockPlace,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Footer {
    envelopes: Vec<(serde_bytes::ByteBuf, RecipientsDigest)>,
    blobs: u32,
    packs: u32,
    blob_blocks: Vec<Fence>,
    pack_blocks: Vec<BlockPlace>,
}
