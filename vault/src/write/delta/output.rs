//! From decided stretches, old and new, to blobs, extents, and the list for the next run.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::content::{Extent, Extents};
use crate::error::Error;
use crate::ids::BlobId;
use crate::pack::BlobKind;
use crate::write::content::{ExtentList, length_of};
use crate::write::cutter::GATHER_CHUNKS;
use crate::write::delta::list::{self, Part, PieceList};
use crate::write::group::Group;
use crate::write::life::Life;
use crate::write::pipeline::{Held, Writer};

/// Most parts that wait for the new bytes before them to become a blob, and most bytes that they cover, since the pieces
/// in them wait too, 16 bytes each; then a shorter blob is made.
const WAITING_MAX: usize = 32_768;
const COVERED_MAX: u64 = 32 << 20;
/// Blobs of which it is remembered whether the vault holds them.
const REMEMBERED: usize = 4096;

/// Says that a list could not be written.
pub(super) fn lost(path: &Path, error: &std::io::Error) {
    let path = path.display();
    tracing::warn!(%error, "{path} can't be written; the next run stores more than it needs to");
}

/// What becomes of a stream.
pub(super) struct Output {
    path: PathBuf,
    list: Option<list::Writer>,
    /// New bytes, gathered over what stands between them, until there are enough to be cut into chunks.
    gathered: Vec<u8>,
    /// What follows the last extent, in order. The first, if any, is new.
    waiting: VecDeque<Waiting>,
    /// Bytes of the old parts among it.
    covered: u64,
    /// The last extent: the next may go on where it ends.
    last: Option<Part>,
    extents: ExtentList,
    held: HashMap<BlobId, Held>,
}

enum Waiting {
    /// So many of the gathered bytes.
    New(usize),
    Old(Part),
}

impl Output {
    pub(super) fn new(path: &Path, list: Option<list::Writer>) -> Self {
        Self {
            path: path.into(),
            list,
            gathered: Vec::new(),
            waiting: VecDeque::new(),
            covered: 0,
            last: None,
            extents: ExtentList::default(),
            held: HashMap::new(),
        }
    }

    /// Notes a piece of the stream; all that it covers is told later.
    pub(super) fn piece(&mut self, piece: super::Piece) {
        if let Some(list) = &mut self.list {
            list.piece(piece);
        }
    }

    /// Notes that a passage ends behind the last piece.
    pub(super) fn end_passage(&mut self) {
        if let Some(list) = &mut self.list {
            list.end_block();
        }
    }

    /// Whether a part may be referred to; it is counted as used then.
    pub(super) fn holds(&mut self, writer: &mut Writer, part: &Part) -> Result<bool, Error> {
        let held = match self.held.get(&part.id) {
            Some(held) => *held,
            None => {
                if self.held.len() >= REMEMBERED {
                    self.held.clear();
                }
                let held = writer.held(&part.id)?;
                self.held.insert(part.id, held);
                held
            }
        };
        Ok(writer.refer(held, part.length.into()))
    }

    /// Takes bytes that are to be stored.
    pub(super) fn new_bytes(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let max = writer.chunker().bounds().max as usize;
        for bytes in bytes.chunks(max) {
            self.gathered.extend_from_slice(bytes);
            match self.waiting.back_mut() {
                Some(Waiting::New(length)) => *length += bytes.len(),
                _ => self.waiting.push_back(Waiting::New(bytes.len())),
            }
            if self.gathered.len() >= GATHER_CHUNKS * max {
                self.cut(writer, max)?;
            }
        }
        Ok(())
    }

    /// Takes a whole passage that is to be stored: in frames of its own, which later serve for nothing but this passage.
    pub(super) fn passage(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Error> {
        self.cut(writer, 1)?;
        self.new_bytes(writer, bytes)?;
        self.cut(writer, 1)?;
        writer.end_frame(Group::Stream(Life::Passing))
    }

    /// Takes a part of a blob that the vault holds.
    pub(super) fn old_part(&mut self, writer: &mut Writer, part: Part) -> Result<(), Error> {
        let joined = match self.waiting.back_mut() {
            None => return self.add(writer, part),
            Some(Waiting::Old(last)) => last.join(&part),
            Some(Waiting::New(_)) => false,
        };
        if !joined {
            self.waiting.push_back(Waiting::Old(part));
        }
        self.covered += u64::from(part.length);
        if self.waiting.len() > WAITING_MAX || self.covered > COVERED_MAX {
            self.cut(writer, 1)?;
        }
        Ok(())
    }

    /// Turns gathered bytes into blobs while at least `keep` of them are left.
    fn cut(&mut self, writer: &mut Writer, keep: usize) -> Result<(), Error> {
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut at = 0;
        while gathered.len() - at >= keep {
            let chunk = &gathered[at..at + writer.chunker().cut(&gathered[at..])];
            let id = match self.covered {
                0 => writer.add(BlobKind::Data, chunk)?,
                _ => writer.add_to(Group::Scattered, chunk)?,
            };
            self.place(writer, id, length_of(chunk))?;
            at += chunk.len();
        }
        gathered.drain(..at);
        self.gathered = gathered;
        Ok(())
    }

    /// Shares a new blob out to what waits for it.
    fn place(&mut self, writer: &mut Writer, id: BlobId, of: u32) -> Result<(), Error> {
        let mut offset = 0;
        while let Some(first) = self.waiting.pop_front() {
            let part = match first {
                Waiting::Old(part) => {
                    self.covered -= u64::from(part.length);
                    part
                }
                Waiting::New(waits) if offset == of => {
                    self.waiting.push_front(Waiting::New(waits));
                    break;
                }
                Waiting::New(waits) => {
                    let length = u32::try_from(waits).unwrap_or(u32::MAX).min(of - offset);
                    let left = waits - length as usize;
                    if left > 0 {
                        self.waiting.push_front(Waiting::New(left));
                    }
                    let part = Part { id, offset, length, of };
                    offset += length;
                    part
                }
            };
            self.add(writer, part)?;
        }
        Ok(())
    }

    fn add(&mut self, writer: &mut Writer, part: Part) -> Result<(), Error> {
        if self.last.as_mut().is_some_and(|last| last.join(&part)) {
            return Ok(());
        }
        self.last.replace(part).map_or(Ok(()), |done| self.extent(writer, done))
    }

    fn extent(&mut self, writer: &mut Writer, part: Part) -> Result<(), Error> {
        if let Some(Err(error)) = self.list.as_mut().map(|list| list.part(part)) {
            lost(&self.path, &error);
            self.list = None;
        }
        let Part { id, offset, length, of } = part;
        let whole = length == of;
        let extent =
            if whole { Extent::Blob { id, length } } else { Extent::Part { id, offset, length } };
        self.extents.add(writer, extent)
    }

    pub(super) fn finish(
        mut self,
        writer: &mut Writer,
    ) -> Result<(Extents, Option<PieceList>), Error> {
        self.cut(writer, 1)?;
        if let Some(last) = self.last.take() {
            self.extent(writer, last)?;
        }
        let list =
            self.list.and_then(|list| list.finish().map_err(|error| lost(&self.path, &error)).ok());
        Ok((self.extents.finish(writer)?, list))
    }
}
