//! From the bytes of a file or stream to its content: chunks become blobs, blobs a list of extents.

use serde::Serialize;

use crate::content::{Content, Extent, Extents, ListRef, Recent};
use crate::encode::append;
use crate::error::Error;
use crate::ids::ContentHash;
use crate::limits::{EXTENTS_INLINE_MAX, LIST_DEPTH_MAX};
use crate::pack::BlobKind;
use crate::write::cutter::{ContentCutter, CutPiece};
use crate::write::group::Group;
use crate::write::life::Life;
use crate::write::pipeline::Writer;

/// List blobs are cut after an extent that says so itself, between these lengths in bytes.
const LIST_LEN_MIN: usize = 8 * 1024;
const LIST_LEN_MAX: usize = 64 * 1024;
const LIST_CUT_MASK: u8 = 0xff;

/// Chunks are bounded by `limits::BLOB_LEN_MAX`.
pub(crate) fn length_of(chunk: &[u8]) -> u32 {
    u32::try_from(chunk.len()).unwrap_or(u32::MAX)
}

/// The hash of a content: of all its bytes but holes, in order.
#[derive(Debug, Default)]
pub(super) struct ContentHasher {
    hasher: blake3::Hasher,
    bytes: u64,
}

impl ContentHasher {
    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes were added.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Takes a content that is at hand, and small, part by part.
#[derive(Debug)]
pub struct ContentWriter {
    cutter: ContentCutter,
    piece: CutPiece,
    chunks: ContentChunks,
}

impl ContentWriter {
    /// Begins a content that is expected to be needed for so long.
    pub fn new(writer: &Writer, life: Life) -> Self {
        let (mut cutter, mut piece) = (ContentCutter::new(writer), CutPiece::default());
        cutter.begin(&mut piece);
        Self { cutter, piece, chunks: ContentChunks::new(life) }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn push(&mut self, writer: &mut Writer, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.cutter.room(&mut self.piece);
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            if self.cutter.filled(&mut self.piece, now.len()) {
                self.chunks.take(writer, &self.piece)?;
                self.cutter.begin(&mut self.piece);
            }
            bytes = later;
        }
        Ok(())
    }

    /// Adds a hole of `length` bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn hole(&mut self, writer: &mut Writer, length: u64) -> Result<(), Error> {
        self.cutter.hole(&mut self.piece, length);
        self.chunks.take(writer, &self.piece)?;
        self.cutter.begin(&mut self.piece);
        Ok(())
    }

    /// The content of all that was added.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn finish(mut self, writer: &mut Writer) -> Result<Content, Error> {
        self.cutter.end(&mut self.piece);
        self.chunks.take(writer, &self.piece)?;
        self.chunks.finish(writer)
    }
}

/// Takes a content that a [`ContentCutter`] has cut.
#[derive(Debug, Default)]
pub struct ContentChunks {
    life: Life,
    hasher: ContentHasher,
    list: ExtentList,
    size: u64,
}

impl ContentChunks {
    /// Begins a content that is expected to be needed for so long.
    pub fn new(life: Life) -> Self {
        Self { life, ..Self::default() }
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn take(&mut self, writer: &mut Writer, piece: &CutPiece) -> Result<(), Error> {
        let group = Group::Stream(self.life);
        for chunk in piece.chunks() {
            self.hasher.update(chunk);
            let id = writer.add_to(group, chunk)?;
            self.list.add(writer, Extent::Blob { id, length: length_of(chunk) })?;
        }
        self.size += piece.size() + piece.hole();
        // No reader takes an extent that covers nothing.
        if piece.hole() > 0 {
            self.list.add(writer, Extent::Hole { length: piece.hole() })?;
        }
        Ok(())
    }

    /// The content of all that was added.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn finish(self, writer: &mut Writer) -> Result<Content, Error> {
        let extents = self.list.finish(writer)?;
        Ok(content_of(self.size, &self.hasher, extents))
    }
}

/// The content of these extents; its hash is left out where a blob's id says as much.
pub(super) fn content_of(size: u64, hasher: &ContentHasher, extents: Extents) -> Content {
    let plain = match &extents {
        Extents::Inline(list) => matches!(list.as_slice(), [] | [Extent::Blob { .. }]),
        Extents::Lists { .. } => false,
    };
    let hash = ContentHash::from_bytes(*hasher.hasher.finalize().as_bytes());
    Content { size, hash: (!plain).then_some(hash), extents }
}

/// A list of extents that is stored in list blobs once it is long, in memory that doesn't grow with it.
#[derive(Debug, Default)]
pub(super) struct ExtentList {
    inline: Vec<Extent>,
    /// What the open list of extents has named.
    recent: Recent,
    /// The open list of each level, that of extents first.
    levels: Vec<Level>,
}

/// The open list of a level: its encoded items.
#[derive(Debug, Default)]
struct Level {
    bytes: Vec<u8>,
    covers: u64,
    /// Of lists of lists: the items, as long as they are few enough to stand in an entry.
    refs: Vec<ListRef>,
    closed: bool,
}

impl ExtentList {
    pub(super) fn add(&mut self, writer: &mut Writer, extent: Extent) -> Result<(), Error> {
        if self.levels.is_empty() {
            if self.inline.len() < EXTENTS_INLINE_MAX {
                self.inline.push(extent);
                return Ok(());
            }
            for earlier in std::mem::take(&mut self.inline) {
                self.add_extent(writer, earlier)?;
            }
        }
        self.add_extent(writer, extent)
    }

    fn add_extent(&mut self, writer: &mut Writer, extent: Extent) -> Result<(), Error> {
        let cut = match &extent {
            Extent::Blob { id, .. } => id.as_bytes()[0] & LIST_CUT_MASK == 0,
            // Several parts of one blob follow one another: each may be the last by itself.
            Extent::Part { id, offset, .. } => {
                let drawn = u32::from(id.as_bytes()[0]).wrapping_add(*offset);
                drawn.wrapping_mul(0x9e37_79b1) >> 24 == 0
            }
            Extent::Hole { .. } => false,
        };
        let item = self.recent.item(extent);
        self.add_item(writer, 0, &item, extent.length(), cut)
    }

    fn add_item(
        &mut self,
        writer: &mut Writer,
        level: usize,
        item: &impl Serialize,
        covers: u64,
        cut: bool,
    ) -> Result<(), Error> {
        if level > LIST_DEPTH_MAX as usize {
            return Err(Error::damaged("a file", "it has more extents than the format can list"));
        }
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let open = &mut self.levels[level];
        let failed = |e| Error::damaged("a list of extents", e);
        append(item, &mut open.bytes).map_err(failed)?;
        open.covers += covers;
        if open.bytes.len() >= LIST_LEN_MAX || (open.bytes.len() >= LIST_LEN_MIN && cut) {
            self.close(writer, level)?;
        }
        Ok(())
    }

    fn close(&mut self, writer: &mut Writer, level: usize) -> Result<(), Error> {
        let open =
            std::mem::replace(&mut self.levels[level], Level { closed: true, ..Level::default() });
        if level == 0 {
            self.recent = Recent::default();
        }
        let id = writer.add(BlobKind::List, &open.bytes)?;
        let list = ListRef { id, length: length_of(&open.bytes), covers: open.covers };
        let cut = id.as_bytes()[0] & LIST_CUT_MASK == 0;
        self.add_item(writer, level + 1, &list, list.covers, cut)?;
        let above = &mut self.levels[level + 1];
        if !above.bytes.is_empty() {
            above.refs.push(list);
        }
        Ok(())
    }

    pub(super) fn finish(mut self, writer: &mut Writer) -> Result<Extents, Error> {
        if self.levels.is_empty() {
            return Ok(Extents::Inline(self.inline));
        }
        let mut level = 0;
        loop {
            let open = &mut self.levels[level];
            // A level of lists that was never closed and is short stands in the entry itself.
            if level > 0 && !open.closed && open.refs.len() <= EXTENTS_INLINE_MAX {
                let depth = u8::try_from(level).unwrap_or(u8::MAX);
                return Ok(Extents::Lists { depth, lists: std::mem::take(&mut open.refs) });
            }
            if !open.bytes.is_empty() {
                self.close(writer, level)?;
            }
            level += 1;
        }
    }
}
