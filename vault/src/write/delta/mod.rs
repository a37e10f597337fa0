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
//!
//! What is referred to is cut up more with each run, and readers have to expand whole frames of which less and less is used. So
//! the stream is decided about in passages that stay the same from run to run ([`list`] has a block for each), and
//! in each run those that are cut up most are stored anew, whole ([`density`]). They get frames of their own:
//! once such a passage is stored anew again, nothing refers to those any more. A short part beside new bytes is stored with
//! them ([`choose`]).

mod choose;
mod density;
mod list;
mod output;
mod pieces;
mod window;

use std::path::Path;
use std::sync::Arc;

use crate::content::Content;
use crate::error::Error;
use crate::keys::VaultSecret;
use crate::write::content::{ContentHasher, content_of};
use crate::write::pipeline::Writer;

use choose::{Old, choose, extents};
use density::{Renewal, density};
use list::{Block, Part};
use output::{Output, lost};
use pieces::{Piece, Splitter};
use window::{Place, Window};

pub use list::PieceList;

/// Bytes of a passage, which is decided about at once. Where the list of the run before is followed, passages end where they
/// did then, between the least and the most: were they to begin elsewhere in each run, frames that serve one passage now
/// would serve two later. Where there is nothing to follow, a piece of a certain kind ends them, or the usual most.
const PASSAGE_LEAST: usize = 384 << 10;
const PASSAGE_MOST: usize = 3 << 19;
const PASSAGE_USUAL_LEAST: usize = 768 << 10;
const PASSAGE_USUAL_MOST: usize = 1 << 20;
/// How much is taken in before it is cut into pieces.
const STEP: usize = 256 << 10;

/// Takes a stream piece by piece, and matches it with the one of the run before.
pub struct DeltaWriter {
    hasher: ContentHasher,
    splitter: Splitter,
    window: Option<Window>,
    /// What isn't decided about yet: pieces that were cut, and what follows them.
    bytes: Vec<u8>,
    /// How much of `bytes` was cut.
    cut: usize,
    pieces: Vec<Piece>,
    found: Vec<Found>,
    renewal: Renewal,
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
        write!(f, "DeltaWriter({} bytes)", self.hasher.bytes())
    }
}

impl DeltaWriter {
    /// Begins a stream. The list of the run before is looked for in `path`, and the list for the next one is written
    /// beside it; where that can't be done, the next run stores more, and the log says so.
    pub fn new(path: &Path, secret: &VaultSecret) -> Self {
        let list = list::Writer::create(path, secret).map_err(|error| lost(path, &error)).ok();
        let window = list::Reader::open(path, secret).map(Window::new);
        Self {
            hasher: ContentHasher::default(),
            splitter: Splitter::new(secret),
            renewal: Renewal::new(window.as_ref().map(|window| window.list().densities())),
            window,
            bytes: Vec::with_capacity(PASSAGE_MOST + 2 * STEP),
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
        for bytes in bytes.chunks(STEP) {
            self.bytes.extend_from_slice(bytes);
            self.split(writer, false)?;
        }
        Ok(())
    }

    fn split(&mut self, writer: &mut Writer, last: bool) -> Result<(), Error> {
        while let Some(piece) = self.splitter.cut(&self.bytes[self.cut..], last) {
            let place = self.find(&piece);
            if self.ends_before(&piece, place.as_ref()) {
                self.settle(writer)?;
            }
            if let Some(place) = place {
                self.note(place);
            }
            self.cut += usize::from(piece.length);
            self.pieces.push(piece);
            self.out.piece(piece);
        }
        Ok(())
    }

    /// Whether the passage is whole, and this piece is the next one's first.
    fn ends_before(&self, piece: &Piece, place: Option<&Place>) -> bool {
        let full = self.cut + usize::from(piece.length) > PASSAGE_MOST
            || self.pieces.len() == list::BLOCK_PIECES;
        full || match (self.found.last(), place) {
            (Some(found), Some(place)) => {
                self.cut >= PASSAGE_LEAST && !Arc::ptr_eq(&found.open.0, &place.block)
            }
            (Some(_), None) => false,
            (None, _) => {
                self.cut >= PASSAGE_USUAL_MOST
                    || self.cut >= PASSAGE_USUAL_LEAST && piece.may_begin_passage()
            }
        }
    }

    /// Looks a piece up that is about to be added to the passage.
    fn find(&mut self, piece: &Piece) -> Option<Place> {
        let end = self.found.last().map_or(0, |found| found.to);
        let before = self.pieces.last().filter(|_| end < self.pieces.len());
        self.window.as_mut()?.find(piece, before)
    }

    /// Notes where the next piece of the passage stands.
    fn note(&mut self, place: Place) {
        let number = self.pieces.len();
        let end = self.found.last().map_or(0, |found| found.to);
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
        let before = self.found.first().map_or(0, |found| found.open.0.density());
        let mut old = self.old();
        let bytes = self.cut as u64;
        let found: u64 = old.iter().map(|old| u64::from(old.part.length)).sum();
        let mut anew = old.is_empty();
        // What has nothing new in it is no worse than it was, and stays: a dump that didn't change costs nothing.
        if found < bytes {
            choose(&mut old, self.cut);
            let now = density(extents(&old, self.cut), bytes);
            anew |= self.renewal.takes(before, now, bytes);
        } else {
            self.renewal.passes(bytes);
        }
        if anew {
            self.out.passage(writer, &self.bytes[..self.cut])?;
        } else {
            self.refer(writer, &old)?;
        }
        self.bytes.drain(..self.cut);
        self.cut = 0;
        self.pieces.clear();
        self.out.end_passage();
        if let Some(window) = &mut self.window {
            window.allow_jumps();
        }
        Ok(())
    }

    /// Refers to parts of the passage, and stores what lies between them.
    fn refer(&mut self, writer: &mut Writer, old: &[Old]) -> Result<(), Error> {
        let mut at = 0;
        for Old { start, part } in old {
            let end = start + part.length as usize;
            if self.out.holds(writer, part)? {
                self.out.new_bytes(writer, &self.bytes[at..*start])?;
                self.out.old_part(writer, *part)?;
                at = end;
            }
        }
        self.out.new_bytes(writer, &self.bytes[at..self.cut])
    }

    /// What was found in the passage, in order.
    fn old(&mut self) -> Vec<Old> {
        let mut old = Vec::new();
        let (mut piece, mut at) = (0, 0);
        for mut found in std::mem::take(&mut self.found) {
            found.settle();
            let length =
                |pieces: &[Piece]| pieces.iter().map(|p| usize::from(p.length)).sum::<usize>();
            at += length(&self.pieces[piece..found.from]);
            piece = found.to;
            for part in found.parts {
                old.push(Old { start: at, part });
                at += part.length as usize;
            }
        }
        old
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
        Ok((content_of(self.hasher.bytes(), &self.hasher, extents), list))
    }
}

/// What a list says of its stream.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) parts: u64,
    pub(crate) bytes: u64,
    /// How long all blobs are of which it names parts: what a reader has to expand, about.
    pub(crate) blobs: u64,
    /// How long the longest passage is.
    pub(crate) passage_max: u64,
}

#[cfg(test)]
impl Listed {
    pub(crate) fn read(path: &Path, secret: &VaultSecret) -> Option<Self> {
        let list = list::Reader::open(path, secret)?;
        let (mut listed, mut seen) = (Self::default(), std::collections::HashSet::new());
        let mut at = list.first();
        while let Some(block) = list.block(at) {
            let before = listed.bytes;
            for part in block.parts(0, block.pieces.len()) {
                listed.parts += 1;
                listed.bytes += u64::from(part.length);
                listed.blobs += if seen.insert(part.id) { u64::from(part.of) } else { 0 };
            }
            listed.passage_max = listed.passage_max.max(listed.bytes - before);
            at = block.next;
        }
        Some(listed)
    }
}
