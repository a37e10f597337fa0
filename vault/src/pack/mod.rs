//! Packs: many frames in one object, named by the hash of its bytes.
//!
//! `header ‖ frames ‖ footer ‖ footer length (u32 LE) ‖ "KHPKEND1"`; each frame and the footer is one sealed
//! message. A pack can be opened by itself: its header holds the run's envelope, its footer says what lies where.

mod build;
mod open;

use serde::{Deserialize, Serialize};

use crate::ids::BlobId;
use crate::seal::MessageKind;

pub(crate) use build::{PACK_BLOBS, PackBuilder};
pub(crate) use open::FrameReader;
pub use open::{OpenPack, check_name};

/// What a blob holds. Frames don't mix kinds, so that trees can be read without the data between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BlobKind {
    /// Bytes of a file or stream.
    Data,
    /// A node of a snapshot tree.
    Tree,
    /// A part of a list of extents.
    List,
}

impl BlobKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Data, Self::Tree, Self::List];

    pub(crate) fn message(self) -> MessageKind {
        match self {
            Self::Data => MessageKind::Data,
            Self::Tree => MessageKind::Tree,
            Self::List => MessageKind::List,
        }
    }
}

const END_MAGIC: &[u8; 8] = b"KHPKEND1";
const TRAILER_LEN: usize = 4 + 8;

/// One frame as a pack's footer describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// What its blobs hold.
    pub kind: BlobKind,
    /// Where its sealed message begins in the pack, in bytes.
    pub offset: u32,
    /// Length of the sealed message, in bytes.
    pub stored: u32,
    /// The blobs in it, end to end, with their lengths in bytes.
    pub blobs: Vec<(BlobId, u32)>,
}

/// A pack's footer: every frame, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Footer {
    frames: Vec<FrameInfo>,
}

/// Where a blob lies: enough to read it with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramePlace {
    /// Where the frame's sealed message begins in its pack, in bytes.
    pub frame_offset: u32,
    /// Length of the frame's sealed message, in bytes.
    pub frame_stored: u32,
    /// Where the blob begins in the expanded frame, in bytes.
    pub offset: u32,
    /// The blob's length in bytes.
    pub length: u32,
}

impl FramePlace {
    /// The bytes of the pack that hold the frame.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.frame_offset);
        start..start + u64::from(self.frame_stored)
    }
}
