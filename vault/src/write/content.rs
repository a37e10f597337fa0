//! From the bytes of a file or stream to its content: chunks become blobs, blobs a list of extents.

use serde::Serialize;

use crate::content::{Content, Extent, Extents, ListRef, Recent};
use crate::encode::append;
use crate::error::Error;
use crate::ids::ContentHash;
use crate::limits::{EXTENTS_INLINE_MAX, LIST_DEPTH_MAX};
use crate::pack::BlobKind;
use crate::write::group::Group;
use crate::write::life::Life;
use crate::write::pipeline::Writer;

/// List blobs are cut after an extent that says so itself, between these lengths in bytes.
const LIST_LEN_MIN: usize = 8 * 1024;
const LIST_LEN_MAX: usize = 64 * 1024;
const LIST_CUT_MASK: u8 = 0xff;

/// How much of a stream is gathered before it is cut, in longest chunks: the rest that is moved to the front
/// afterwards stays small beside it.
pub(super) const GATHER_CHUNKS: usize = 4;

/// Chunks are bounded by `limits::BLOB_LEN_MAX`.
pub(crate) fn length_of(chunk: &[u8]) -> u32 {
    u32::try_from(chunk.len()).unwrap_or(u32::MAX)
}

/// The hash of a content: of all its bytes but holes, in order.
#[derive(Debug, Default)]
pub struct ContentHasher {
    hasher: blake3::Hasher,
    bytes: u64,
}

impl ContentHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes were added.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Takes a file or stream piece by piece.
#[derive(Debug, Default)]
pub struct ContentWriter {
    hasher: ContentHasher,
    chunks: ContentChunks,
}

impl ContentWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn push(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.chunks.push(writer, bytes)
    }

    /// Adds a hole of `length` bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn hole(&mut self, writer: &mut Writer, length: u64) -> Result<(), Error> {
        self.chunks.hole(writer, length)
    }

    /// The content of all that was added.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn finish(self, writer: &mut Writer) -> Result<Content, Error> {
        self.chunks.finish(writer, &self.hasher)
    }
}

/// As [`ContentWriter`], of bytes that another thread hashes meanwhile.
#[derive(Debug, Default)]
pub struct ContentChunks {
    life: Life,
    gathered: Vec<u8>,
    list: ExtentList,
    size: u64,
    /// How much of `size` isn't in holes.
    bytes: u64,
}

impl ContentChunks {
    /// Begins a content that is expected to be needed for so long.
    pub fn new(life: Life) -> Self {
        Self { life, ..Self::default() }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn push(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        let max = writer.chunker().bounds().max as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (GATHER_CHUNKS * max).saturating_sub(self.gathered.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.gathered.extend_from_slice(now);
            if self.gathered.len() >= GATHER_CHUNKS * max {
                self.cut(writer, max)?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Adds a hole of `length` bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn hole(&mut self, writer: &mut Writer, length: u64) -> Result<(), Error> {
        // No reader takes an extent that covers nothing.
        if length == 0 {
            return Ok(());
        }
        self.cut(writer, 1)?;
        self.size += length;
        self.list.add(writer, Extent::Hole { length })
    }

    /// Turns gathered bytes into blobs while at least `keep` of them are left.
    fn cut(&mut self, writer: &mut Writer, keep: usize) -> Result<(), Error> {
        let mut at = 0;
        while self.gathered.len() - at >= keep {
            let n = writer.chunker().cut(&self.gathered[at..]);
            let chunk = &self.gathered[at..at + n];
            let id = writer.add_to(Group::Stream(self.life), chunk)?;
            self.list.add(writer, Extent::Blob { id, length: length_of(chunk) })?;
            at += n;
        }
        self.gathered.drain(..at);
        Ok(())
    }

    /// The content of all that was added, and that `hasher` was given as well.
    ///
    /// # Errors
    /// As [`Writer::add`]; [`Error::Stopped`] if the hasher was given more or less.
    pub fn finish(mut self, writer: &mut Writer, hasher: &ContentHasher) -> Result<Content, Error> {
        if hasher.bytes != self.bytes {
            let text =
                format!("{} bytes of a content were hashed, of {}", hasher.bytes, self.bytes);
            return Err(Error::Stopped(text));
        }
        self.cut(writer, 1)?;
        let extents = self.list.finish(writer)?;
        Ok(content_of(self.size, hasher, extents))
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
