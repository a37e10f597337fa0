//! Pieces: what two dumps are compared by. Short enough that a changed row costs little more than itself, and cut by
//! what they hold alone, so that the same bytes give the same pieces wherever they stand.
//!
//! A piece ends at a newline: rows of a dump do, and an archive's header of a few bytes before a row belongs to the row's
//! piece. Short lines are gathered: whether a line is the last of its piece depends on the line's own fingerprint and
//! length only, so after a row that is new the cuts are those of before again. What has no newline for long (large
//! objects, files) is cut by content, as chunks are.

use siphasher::sip128::SipHasher13;

use crate::chunk::{ChunkBounds, Chunker};
use crate::keys::VaultSecret;

/// A line of so many bytes is a piece by itself; shorter ones end a piece in proportion. 14 bytes are kept of each
/// piece, so the list stays below a tenth of what it describes.
const GATHERED: u64 = 144;
/// Gathered lines end here in any case.
const GATHERED_MAX: usize = 4 << 10;
/// Longer lines are cut by content.
const LINE_MAX: usize = LONG.max as usize;
const LONG: ChunkBounds = ChunkBounds { min: 2 << 10, avg: 8 << 10, max: 16 << 10 };
const _: () = assert!(GATHERED_MAX + LINE_MAX <= u16::MAX as usize);

/// A piece by its fingerprint and length.
///
/// The fingerprint is 96 bits of SipHash-1-3 (Aumasson and Bernstein, 2012; the variant with 128 bits) under a key that is
/// derived from the vault's secret, so that whoever controls rows can't make two that are taken for one another. A
/// piece is held against at most 2^19 others (the window, and the anchors), so over the 2^32 pieces of a dump of
/// 700 GB the chance of any wrong match is below 2^-44; and as the content's hash is taken over the true bytes, a
/// verification or restore would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The fingerprint's first 64 bits.
    pub(super) head: u64,
    /// The other 32.
    pub(super) tail: u32,
    /// In bytes; never 0.
    pub(super) length: u16,
}

impl Piece {
    /// Whether a passage may begin with it where nothing else says so: one in 512.
    pub(super) fn may_begin_passage(&self) -> bool {
        self.tail & 0x1ff == 0
    }
}

/// Cuts a stream into pieces.
pub(super) struct Splitter {
    sip: SipHasher13,
    long: Chunker,
}

impl Splitter {
    pub(super) fn new(secret: &VaultSecret) -> Self {
        let sip = SipHasher13::new_with_key(&secret.piece_key());
        Self { sip, long: Chunker::new(secret, LONG) }
    }

    /// The first piece of `data`; `None` where more of the stream must be seen first. With `last`, nothing follows.
    pub(super) fn cut(&self, data: &[u8], last: bool) -> Option<Piece> {
        let (mut at, mut print) = (0, 0u128);
        while at < data.len() {
            let rest = &data[at..data.len().min(at + LINE_MAX)];
            let line = match memchr::memchr(b'\n', rest) {
                Some(newline) => &rest[..=newline],
                None if rest.len() == LINE_MAX && at > 0 => break,
                None if rest.len() == LINE_MAX => {
                    let long = &rest[..self.long.cut(rest)];
                    return Some(piece(self.print(long), long.len()));
                }
                None if last => rest,
                None => return None,
            };
            let one = self.print(line);
            // An odd factor keeps every bit of the prints before; without one, lines could change places unseen.
            print = print.wrapping_mul(3).wrapping_add(one);
            at += line.len();
            if at >= GATHERED_MAX || ends(one, line.len()) {
                return Some(piece(print, at));
            }
        }
        let whole = at > 0 && (last || at < data.len());
        whole.then(|| piece(print, at))
    }

    fn print(&self, line: &[u8]) -> u128 {
        self.sip.hash(line).as_u128()
    }
}

/// Whether a line is the last of its piece: by bits that the fingerprint leaves over.
fn ends(print: u128, length: usize) -> bool {
    let drawn = u64::try_from(print >> 96).unwrap_or(u64::MAX);
    drawn * GATHERED < (length as u64) << 32
}

#[allow(clippy::cast_possible_truncation, reason = "parts of the fingerprint are what is meant")]
fn piece(print: u128, length: usize) -> Piece {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    Piece { head: print as u64, tail: (print >> 64) as u32, length }
}
