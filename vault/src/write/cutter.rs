//! Gathering and cutting the bytes of a file, which whoever reads can do on a thread of its own. Reading and cutting take about as
//! long as what the thread that keeps the order does: naming chunks, hashing the whole, and copying what is new.

use crate::chunk::Chunker;
use crate::write::content::length_of;
use crate::write::pipeline::Writer;

/// How much is gathered before it is cut, in longest chunks: what is left over then, at most one of them, and is moved to the
/// front, stays small beside it.
pub(super) const GATHER_CHUNKS: usize = 4;

/// A piece of a content: room to read it into, and then the chunks that it was cut into.
#[derive(Debug, Default)]
pub struct CutPiece {
    /// Room, of which the first `filled` are in use.
    bytes: Vec<u8>,
    filled: usize,
    /// How long each is, in bytes.
    chunks: Vec<u32>,
    hole: u64,
}

impl CutPiece {
    /// How many bytes its chunks have.
    pub fn size(&self) -> u64 {
        self.chunks.iter().map(|&length| u64::from(length)).sum()
    }

    /// The length of the hole that follows them, if one does, in bytes.
    pub(super) fn hole(&self) -> u64 {
        self.hole
    }

    /// The chunks, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.chunks.iter().map(move |&length| {
            let (chunk, after) = rest.split_at(rest.len().min(length as usize));
            rest = after;
            chunk
        })
    }
}

/// Cuts one content, piece by piece, as the vault cuts.
#[derive(Debug)]
pub struct ContentCutter {
    chunker: Chunker,
    /// What the last piece left over.
    rest: Vec<u8>,
}

impl ContentCutter {
    /// Will cut a content for this writer.
    pub fn new(writer: &Writer) -> Self {
        Self { chunker: writer.chunker().clone(), rest: Vec::new() }
    }

    /// Begins a piece, with what the last one left over.
    pub fn begin(&mut self, piece: &mut CutPiece) {
        let longest = self.chunker.bounds().max as usize;
        piece.bytes.resize(GATHER_CHUNKS * longest, 0);
        piece.bytes[..self.rest.len()].copy_from_slice(&self.rest);
        piece.filled = self.rest.len();
        piece.chunks.clear();
        piece.hole = 0;
        self.rest.clear();
    }

    /// Where the next bytes are to be put; never empty, as long as the piece isn't cut.
    pub fn room<'a>(&self, piece: &'a mut CutPiece) -> &'a mut [u8] {
        &mut piece.bytes[piece.filled..]
    }

    /// So many bytes were put there. Answers whether that was all of the room: then the piece is cut, and to be handed over.
    pub fn filled(&mut self, piece: &mut CutPiece, length: usize) -> bool {
        piece.filled = piece.bytes.len().min(piece.filled + length);
        let full = piece.filled == piece.bytes.len();
        if full {
            self.cut(piece, self.chunker.bounds().max as usize);
        }
        full
    }

    /// A hole of so many bytes follows; the piece is cut, and to be handed over.
    pub fn hole(&mut self, piece: &mut CutPiece, length: u64) {
        self.end(piece);
        piece.hole = length;
    }

    /// Nothing follows; the piece is cut, and to be handed over.
    pub fn end(&mut self, piece: &mut CutPiece) {
        self.cut(piece, 1);
    }

    /// Cuts while at least `keep` bytes are left.
    fn cut(&mut self, piece: &mut CutPiece, keep: usize) {
        let mut rest = &piece.bytes[..piece.filled];
        while rest.len() >= keep {
            let (chunk, after) = rest.split_at(self.chunker.cut(rest));
            piece.chunks.push(length_of(chunk));
            rest = after;
        }
        self.rest.extend_from_slice(rest);
    }
}
