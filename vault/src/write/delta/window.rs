//! Finding pieces in the list of the run before: at a cursor that follows the stream, else in a window around it, else
//! among anchors that are strewn over the whole list.
//!
//! Mostly a dump goes on where its predecessor did, and one comparison a piece is all. After rows that are new, gone or
//! moved a little, the piece stands somewhere in the window; a table that moved far is found by its first anchor. All of
//! it takes a few megabytes, whatever the list's length.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::write::delta::list::{BLOCK_PIECES, Block, Reader};
use crate::write::delta::pieces::Piece;

/// Blocks that are kept behind the cursor's, and read ahead of it: about 4 MB of a dump.
const BEHIND: usize = 1;
const AHEAD: usize = 3;
/// Places in the table: four for each piece of the window, so that few push each other out.
const TABLE: usize = 1 << 17;
/// Jumps between two calls of [`Window::allow_jumps`].
const JUMPS: u32 = 16;
const _: () = assert!(TABLE >= 2 * (BEHIND + 1 + AHEAD) * BLOCK_PIECES);

/// Where a piece stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) block: Arc<Block>,
    pub(super) number: usize,
}

/// The list of the run before, and where the stream is in it.
pub(super) struct Window {
    list: Reader,
    /// Consecutive blocks, each with the number of its first piece. Numbers only grow, also over jumps: what the table
    /// still says of blocks that are gone is below the first.
    blocks: VecDeque<(u32, Arc<Block>)>,
    /// The number that the next block's first piece gets.
    end: u32,
    /// Where the next block is in the file; `None` once there is none.
    next: Option<u64>,
    /// The number of the piece that should come next.
    cursor: u32,
    /// By the low bits of fingerprints: the number of a piece.
    table: Vec<u32>,
    /// How many jumps are left.
    jumps: u32,
}

impl Window {
    pub(super) fn new(list: Reader) -> Self {
        let next = Some(list.first());
        let table = vec![0; TABLE];
        let blocks = VecDeque::new();
        let mut window = Self { list, blocks, end: 1, next, cursor: 1, table, jumps: JUMPS };
        window.fill();
        window
    }

    /// Where a piece like this stands; the cursor is behind it then. `before` is the piece before it in the stream,
    /// unless that was found.
    pub(super) fn find(&mut self, piece: &Piece, before: Option<&Piece>) -> Option<Place> {
        let number = match self.near(piece) {
            Some(number) => number,
            None => self.far(piece, before?)?,
        };
        let place =
            self.at(number).map(|(block, number)| Place { block: Arc::clone(block), number })?;
        self.cursor = number + 1;
        if place.number + 1 == place.block.pieces.len() {
            self.fill();
        }
        Some(place)
    }

    /// The list of the run before.
    pub(super) fn list(&self) -> &Reader {
        &self.list
    }

    /// Allows a few more jumps: each reads from the list, and rows that are equal by the thousand must not make it be
    /// read for each of them.
    pub(super) fn allow_jumps(&mut self) {
        self.jumps = JUMPS;
    }

    fn near(&self, piece: &Piece) -> Option<u32> {
        let is = |wanted: &u32| {
            self.at(*wanted).is_some_and(|(block, number)| block.pieces[number] == *piece)
        };
        let tabled = || self.table.get(slot(piece)).copied().filter(is);
        Some(self.cursor).filter(is).or_else(tabled)
    }

    /// Jumps to an anchor, if the piece is one, and the piece before it stands before it there too: a common row alone
    /// leads nowhere.
    fn far(&mut self, piece: &Piece, before: &Piece) -> Option<u32> {
        let (at, number) = self.list.anchor(piece)?;
        self.jumps = self.jumps.checked_sub(1)?;
        let block = self.list.block(at)?;
        if block.pieces.get(number) != Some(piece)
            || block.pieces.get(number.checked_sub(1)?) != Some(before)
        {
            return None;
        }
        self.blocks.clear();
        self.add(block);
        let (first, _) = self.blocks.back()?;
        self.cursor = first + u32::try_from(number).ok()?;
        self.fill();
        Some(self.cursor)
    }

    /// The block in which a piece stands, and its number there.
    fn at(&self, wanted: u32) -> Option<(&Arc<Block>, usize)> {
        let (first, block) = self.blocks.iter().rev().find(|(first, _)| *first <= wanted)?;
        let number = (wanted - first) as usize;
        (number < block.pieces.len()).then_some((block, number))
    }

    /// Brings the window to where the cursor is.
    fn fill(&mut self) {
        let behind = |window: &Self| {
            window
                .blocks
                .iter()
                .filter(|(first, block)| {
                    *first as usize + block.pieces.len() <= window.cursor as usize
                })
                .count()
        };
        while behind(self) > BEHIND && self.blocks.len() > 1 {
            self.blocks.pop_front();
        }
        while self.blocks.len() - behind(self) < 1 + AHEAD {
            let Some(block) = self.next.and_then(|at| self.list.block(at)) else {
                self.next = None;
                break;
            };
            self.add(block);
        }
    }

    fn add(&mut self, block: Block) {
        // After 2^32 pieces numbers begin anew, and so does the window.
        let count = u32::try_from(block.pieces.len()).unwrap_or(0);
        let end = self.end.checked_add(count).filter(|end| *end < u32::MAX);
        let Some(end) = end else {
            self.blocks.clear();
            self.table.fill(0);
            (self.end, self.cursor) = (1, 1);
            return self.add(block);
        };
        for (number, piece) in (self.end..).zip(&block.pieces) {
            self.table[slot(piece)] = number;
        }
        self.next = Some(block.next);
        self.blocks.push_back((self.end, Arc::new(block)));
        self.end = end;
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low bits are what is meant")]
fn slot(piece: &Piece) -> usize {
    piece.head as usize % TABLE
}
