//! Content: the bytes of a file or stream, as a list of extents.

mod items;

use serde::{Deserialize, Serialize};

use crate::ids::{BlobId, ContentHash};
use crate::limits::{EXTENTS_INLINE_MAX, LIST_DEPTH_MAX};

pub(crate) use items::{Item, Recent};

/// A stretch of a content, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// A whole blob of `length` bytes.
    Blob {
        /// The blob.
        id: BlobId,
        /// Its length in bytes.
        length: u32,
    },
    /// `length` bytes of a blob, from `offset` on: what row deltas are made of.
    Part {
        /// The blob.
        id: BlobId,
        /// Where in the blob the stretch begins, in bytes.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// A hole of `length` bytes, which read as zeros and take no space.
    Hole {
        /// How many bytes.
        length: u64,
    },
}

impl Extent {
    /// How many bytes of the content it covers.
    pub fn length(&self) -> u64 {
        match *self {
            Self::Blob { length, .. } | Self::Part { length, .. } => u64::from(length),
            Self::Hole { length } => length,
        }
    }

    /// The blob that it needs, if any.
    pub fn blob(&self) -> Option<BlobId> {
        match *self {
            Self::Blob { id, .. } | Self::Part { id, .. } => Some(id),
            Self::Hole { .. } => None,
        }
    }
}

/// The bytes of one file or stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes, holes included.
    pub size: u64,
    /// BLAKE3 of the bytes, holes left out. `None` only where `extents` is empty or one whole blob, whose id says
    /// as much.
    pub hash: Option<ContentHash>,
    /// Where the bytes are.
    pub extents: Extents,
}

impl Content {
    /// Whether lengths add up and stay within bounds, as far as can be told without reading lists.
    pub fn is_sound(&self) -> bool {
        let covered = match &self.extents {
            Extents::Inline(list) => {
                if list.len() > EXTENTS_INLINE_MAX || list.iter().any(|e| e.length() == 0) {
                    return false;
                }
                list.iter().try_fold(0u64, |sum, e| sum.checked_add(e.length()))
            }
            Extents::Lists { depth, lists } => {
                if !(1..=LIST_DEPTH_MAX).contains(depth) || lists.len() > EXTENTS_INLINE_MAX {
                    return false;
                }
                lists.iter().try_fold(0u64, |sum, l| sum.checked_add(l.covers))
            }
        };
        covered == Some(self.size)
    }

    /// The content of nothing.
    pub fn empty() -> Self {
        Self { size: 0, hash: None, extents: Extents::Inline(Vec::new()) }
    }
}

/// The list of extents: in place while it is short, else itself stored in list blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extents {
    /// At most [`limits::EXTENTS_INLINE_MAX`](crate::limits::EXTENTS_INLINE_MAX) extents.
    Inline(Vec<Extent>),
    /// Longer lists, in list blobs.
    Lists {
        /// How many levels of list blobs stand between here and the extents, at least 1. Those of level 1 hold
        /// extents one after another, those above hold [`ListRef`]s.
        depth: u8,
        /// The list blobs at the top.
        lists: Vec<ListRef>,
    },
}

/// A list blob, and how much of the content it covers: a reader of one stretch passes over all other lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRef {
    /// The list blob.
    pub id: BlobId,
    /// Its length in bytes.
    pub length: u32,
    /// How many bytes of the content the extents below it cover.
    pub covers: u64,
}
