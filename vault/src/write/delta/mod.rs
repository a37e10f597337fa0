//! Row deltas: a stream that mostly repeats the one before it is stored as parts of the blobs that hold that one, and as
//! new blobs of what changed.
//!
//! ```text
//! bytes ─▶ pieces ─▶ found in the list of the run before? ─▶ parts of old blobs ─┐
//!            │                      └─ no ─▶ chunks ─▶ new blobs, parts of them ─┴─▶ extents of the content
//!            └──────────────────── list for the next run ◀───────────────────────┘
//! ```
//! Chunks can't do that: of a dump in which 2 % of the rows changed, strewn, hardly a chunk is the same. Rows are; so the
//! cache keeps a fingerprint of each, in order, and where it is stored. Nothing here needs to be right: the content's
//! hash is taken over the bytes that passed, a blob is referred to only if the vault holds it, and without a list all
//! is stored as if it were new.

mod list;
mod output;
mod pieces;
mod window;

use std::path::Path;
use std::sync::Arc;

use crate::content::Content;
use crate::error::Error;
use crate::keys::VaultSecret;
use crate::write::content::content_of;
use crate::write::pipeline::Writer;

use list::{Block, Part};
use output::{Output, lost};
use pieces::{Piece, Splitter};
use window::Window;

pub use list::PieceList;

/// How much of the stream is decided about at once, in bytes.
const PASSAGE: usize = 1 << 20;

/// A stretch shorter than this that was found between others that were not is stored again: two extents more take
/// about as much room as it does compressed, and each costs every later reader.
const FOUND_MIN: usize = 256;

/// How many parts a passage may consist of, about: from the lesser on it may be stored anew, beyond the greater it is.
/// Which, in between, is drawn, so that passages that are changed alike aren't stored anew in the same run.
///
/// An extent takes 3 to 6 bytes in every later snapshot, a passage of rows about 200 KB compressed once. Where each run adds *g*
/// extents to a passage and it is stored anew every *t* runs, a run costs 200 KB ⁄ *t* + 5 *g t* ⁄ 2, which is least for
/// 2 % of the rows changed (*g* = 330) where *t* is 16 and *g t* 5,000. But readers want few: measured, with bounds of 512 to
/// 2,048 a restore after ten runs took 1.8 times the CPU time of the first, with 1,024 to 3,072 2.15 times.
const PARTS_MIN: u64 = 768;
const PARTS_MAX: u64 = 2304;
/// From how many numbers the bound is drawn: in one of four runs or so it is below [`PARTS_MAX`].
const PARTS_DRAWN: u64 = 8192;

/// Takes a stream piece by piece, and matches it with the one of the run before.
pub struct DeltaWriter {
    hasher: blake3::Hasher,
    size: u64,
    splitter: Splitter,
    window: Option<Window>,
    /// What isn't decided about yet: pieces that were cut, and what follows them.
    bytes: Vec<u8>,
    /// How much of `bytes` was cut.
    cut: usize,
    pieces: Vec<Piece>,
    found: Vec<Found>,
    out: Output,
}

/// Consecutive pieces that stand consecutively in the list as well.
#[derive(Debug)]
struct Found {
    /// Number of the first, and of the one behind the last, in the passage.
    from: usize,
    to: usize,
    /// What holds all but those in `open`.
    parts: Vec<Part>,
    /// A block, and the numbers in it of the first piece and of the one behind the last.
    open: (Arc<Block>, usize, usize),
}

impl Found {
    fn settle(&mut self) {
        let (block, from, to) = &self.open;
        for part in block.parts(*from, *to) {
            add_part(&mut self.parts, part);
        }
    }
}

fn add_part(parts: &mut Vec<Part>, part: Part) {
    if !parts.last_mut().is_some_and(|last| last.join(&part)) {
        parts.push(part);
    }
}

impl std::fmt::Debug for DeltaWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeltaWriter({} bytes)", self.size)
    }
}

impl DeltaWriter {
    /// Begins a stream. The list of the run before is looked for in `path`, and the list for the next one is written
    /// beside it; where that can't be done, the next run stores more, and the log says so.
    pub fn new(path: &Path, secret: &VaultSecret) -> Self {
        let list = list::Writer::create(path, secret).map_err(|error| lost(path, &error)).ok();
        Self {
            hasher: blake3::Hasher::new(),
            size: 0,
            splitter: Splitter::new(secret),
            window: list::Reader::open(path, secret).map(Window::new),
            bytes: Vec::with_capacity(PASSAGE + PASSAGE / 4),
            cut: 0,
            pieces: Vec::new(),
            found: Vec::new(),
            out: Output::new(path, list),
        }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn push(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        for bytes in bytes.chunks(PASSAGE / 4) {
            self.bytes.extend_from_slice(bytes);
            self.split(writer, false)?;
        }
        Ok(())
    }

    fn split(&mut self, writer: &mut Writer, last: bool) -> Result<(), Error> {
        while let Some(piece) = self.splitter.cut(&self.bytes[self.cut..], last) {
            self.cut += usize::from(piece.length);
            self.find(piece);
            self.pieces.push(piece);
            self.out.piece(piece);
            if self.cut >= PASSAGE {
                self.settle(writer)?;
            }
        }
        Ok(())
    }

    /// Looks a piece up that is about to be added to the passage.
    fn find(&mut self, piece: Piece) {
        let Some(window) = &mut self.window else { return };
        let number = self.pieces.len();
        let end = self.found.last().map_or(0, |found| found.to);
        let before = self.pieces.last().filter(|_| end < number);
        let Some(place) = window.find(&piece, before) else { return };
        if let Some(found) = self.found.last_mut().filter(|_| end == number) {
            found.to += 1;
            let (block, _, next) = &mut found.open;
            if Arc::ptr_eq(block, &place.block) && *next == place.number {
                *next += 1;
            } else {
                found.settle();
                found.open = (place.block, place.number, place.number + 1);
            }
            return;
        }
        // What stands before it, and was passed over as unknown.
        let back = self.pieces[end..].iter().rev();
        let there = place.block.pieces[..place.number].iter().rev();
        let more = back.zip(there).take_while(|(here, there)| here == there).count();
        let (from, first) = (number - more, place.number - more);
        let open = (place.block, first, place.number + 1);
        self.found.push(Found { from, to: number + 1, parts: Vec::new(), open });
    }

    /// Decides about a passage: which of what was found is referred to, and what is stored.
    fn settle(&mut self, writer: &mut Writer) -> Result<(), Error> {
        let found = self.worthwhile();
        let mut at = 0;
        for (start, parts) in found {
            self.out.new_bytes(writer, &self.bytes[at..start])?;
            at = start;
            for part in parts {
                let end = at + part.length as usize;
                if self.out.holds(writer, &part)? {
                    self.out.old_part(writer, part)?;
                } else {
                    self.out.new_bytes(writer, &self.bytes[at..end])?;
                }
                at = end;
            }
        }
        self.out.new_bytes(writer, &self.bytes[at..self.cut])?;
        self.bytes.drain(..self.cut);
        self.cut = 0;
        self.pieces.clear();
        if let Some(window) = &mut self.window {
            window.allow_jumps();
        }
        Ok(())
    }

    /// What was found in the passage, by where it begins, without what isn't worth an extent.
    fn worthwhile(&mut self) -> Vec<(usize, Vec<Part>)> {
        let mut worthwhile = Vec::with_capacity(self.found.len());
        let (mut piece, mut at, mut extents) = (0, 0, 1);
        for mut found in std::mem::take(&mut self.found) {
            found.settle();
            let length = |pieces: &[Piece]| pieces.iter().map(|p| usize::from(p.length)).sum();
            let gap: usize = length(&self.pieces[piece..found.from]);
            let long: usize = length(&self.pieces[found.from..found.to]);
            let start = at + gap;
            // At an edge it may go on beyond it.
            if long >= FOUND_MIN || found.from == 0 || found.to == self.pieces.len() {
                extents += found.parts.len() as u64 + 1;
                worthwhile.push((start, found.parts));
            }
            (piece, at) = (found.to, start + long);
        }
        if extents > PARTS_MIN && extents > self.parts_max() {
            worthwhile.clear();
        }
        worthwhile
    }

    /// How many parts this passage may consist of: drawn from all bytes so far, so another number in each run.
    fn parts_max(&self) -> u64 {
        let hash = self.hasher.finalize();
        let drawn = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        (PARTS_MIN + drawn % PARTS_DRAWN).min(PARTS_MAX)
    }

    /// The content of all that was added, and the list for the next run, which is to be
    /// [kept](PieceList::keep) once this one has succeeded.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn finish(mut self, writer: &mut Writer) -> Result<(Content, Option<PieceList>), Error> {
        self.split(writer, true)?;
        self.settle(writer)?;
        let (extents, list) = self.out.finish(writer)?;
        Ok((content_of(self.size, &self.hasher, extents), list))
    }
}
