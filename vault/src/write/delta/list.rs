//! The list of a stream's pieces and of the blobs that hold them: what the next run of the same stream is matched with.
//!
//! It holds fingerprints, no plaintext, and about a tenth of the stream's length. Losing it, or any part of it, costs
//! size only: what can't be matched is stored.
//!
//! Layout: the magic, then records of `length (u32 LE) ‖ keyed BLAKE3 of (kind ‖ offset of the record, u64 LE ‖ body) ‖
//! body`: blocks of pieces in the stream's order, and last the anchors; then the length of the last record's body
//! again. A file without a sound last record isn't whole, and not believed.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::ids::BlobId;
use crate::keys::VaultSecret;
use crate::write::delta::density::{Densities, density};
use crate::write::delta::pieces::Piece;

const MAGIC: &[u8; 8] = b"KHPIECE2";
const HEAD: usize = 4 + 32;
const BLOCK: u8 = 1;
const ANCHORS: u8 = 2;

/// Most pieces in a block.
pub(super) const BLOCK_PIECES: usize = 1 << 13;
/// Most anchors, 16 bytes each in memory; in short lists one piece in sixteen is one.
const ANCHORS_MAX: usize = 1 << 18;
const ANCHORS_MASK: u32 = 0xf;
/// Longest record that is believed. A block's pieces take up to 112 KiB, and parts of blobs 36 bytes each.
const RECORD_MAX: u32 = 8 << 20;

const PIECE_LEN: usize = 14;
const PART_LEN: usize = 36;

/// A stretch of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) id: BlobId,
    /// Where in the blob it begins, in bytes.
    pub(super) offset: u32,
    /// In bytes.
    pub(super) length: u32,
    /// How long the whole blob is.
    pub(super) of: u32,
}

impl Part {
    /// `length` bytes of it from `from` on.
    pub(super) fn slice(&self, from: u32, length: u32) -> Self {
        Self { offset: self.offset + from, length, ..*self }
    }

    /// Takes the next part in, if it goes on where this one ends.
    pub(super) fn join(&mut self, next: &Self) -> bool {
        let joins = self.id == next.id && self.offset + self.length == next.offset;
        if joins {
            self.length += next.length;
        }
        joins
    }

    fn is_sound(&self) -> bool {
        let end = u64::from(self.offset) + u64::from(self.length);
        self.length > 0 && end <= u64::from(self.of)
    }
}

/// Consecutive pieces, and where their bytes are.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) pieces: Vec<Piece>,
    /// Where each piece begins, in bytes from the block's first; one more for the end.
    starts: Vec<u32>,
    /// The parts that hold them, each with where it begins.
    parts: Vec<(u32, Part)>,
    /// Where the next block is in the file.
    pub(super) next: u64,
}

impl Block {
    /// How much it was cut up in the run before, as [`density`].
    pub(super) fn density(&self) -> u64 {
        density(self.parts.len(), self.starts.last().copied().unwrap_or(0).into())
    }

    /// The parts that hold the pieces from one number up to another.
    pub(super) fn parts(&self, from: usize, to: usize) -> impl Iterator<Item = Part> {
        let at = |n: usize| self.starts.get(n).copied().unwrap_or(0);
        let (start, end) = (at(from), at(to));
        let first = self.parts.partition_point(|(at, part)| at + part.length <= start);
        self.parts[first..].iter().take_while(move |(at, _)| *at < end).map(move |(at, part)| {
            let skip = start.saturating_sub(*at);
            part.slice(skip, (end - at).min(part.length) - skip)
        })
    }

    fn read(body: &[u8], next: u64) -> Option<Self> {
        let (count, rest) = body.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > BLOCK_PIECES {
            return None;
        }
        let (pieces, parts) = rest.split_at_checked(count * PIECE_LEN)?;
        let mut starts = Vec::with_capacity(count + 1);
        let mut end = 0u32;
        starts.push(0);
        let mut read = Vec::with_capacity(count);
        for bytes in pieces.as_chunks::<PIECE_LEN>().0 {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            let (tail, length) = rest.split_first_chunk::<4>()?;
            let length = u16::from_le_bytes(length.try_into().ok()?);
            let (head, tail) = (u64::from_le_bytes(*head), u32::from_le_bytes(*tail));
            read.push(Piece { head, tail, length });
            end = end.checked_add(length.into())?;
            starts.push(end);
        }
        let (parts, rest) = parts.as_chunks::<PART_LEN>();
        let mut at = 0u32;
        let mut held = Vec::with_capacity(parts.len());
        for bytes in parts {
            let part = read_part(bytes)?;
            held.push((at, part));
            at = at.checked_add(part.length)?;
        }
        (rest.is_empty() && at == end && count > 0).then_some(Self {
            pieces: read,
            starts,
            parts: held,
            next,
        })
    }
}

fn read_part(bytes: &[u8; PART_LEN]) -> Option<Part> {
    let (id, rest) = bytes.split_first_chunk::<24>()?;
    let mut numbers = rest.as_chunks::<4>().0.iter().map(|n| u32::from_le_bytes(*n));
    let mut next = || numbers.next();
    let part = Part { id: BlobId::from_bytes(*id), offset: next()?, length: next()?, of: next()? };
    part.is_sound().then_some(part)
}

/// A list of an earlier run.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    key: [u8; 32],
    length: u64,
    /// By the head of a piece's fingerprint: the offset of its block, times 2^16, plus its number in the block.
    anchors: Vec<(u64, u64)>,
    mask: u32,
    densities: Densities,
}

impl Reader {
    /// The list in `path`; `None` if there is none of this vault that is whole.
    pub(super) fn open(path: &Path, secret: &VaultSecret) -> Option<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "{} can't be read; what it would save is stored", path.display());
                return None;
            }
            Ok(file) => file,
        };
        let length = file.metadata().ok()?.len();
        let key = secret.piece_list_key();
        let mut list = Self {
            file,
            key,
            length,
            anchors: Vec::new(),
            mask: 0,
            densities: Densities::default(),
        };
        let opened = list.open_anchors();
        if opened.is_none() {
            tracing::warn!(
                "{} is damaged or of another vault; what it would save is stored",
                path.display()
            );
        }
        opened.map(|()| list)
    }

    fn open_anchors(&mut self) -> Option<()> {
        let (mut magic, mut last) = ([0; 8], [0; 4]);
        self.file.read_exact_at(&mut magic, 0).ok()?;
        let end = self.length.checked_sub(4)?;
        self.file.read_exact_at(&mut last, end).ok()?;
        let body = u64::from(u32::from_le_bytes(last));
        let at = end.checked_sub(body)?.checked_sub(HEAD as u64)?;
        let (body, _) = self.record(ANCHORS, at).filter(|_| magic == *MAGIC)?;
        let (mask, rest) = body.split_first_chunk::<4>()?;
        self.mask = u32::from_le_bytes(*mask);
        let (densities, anchors) = rest.split_at_checked(Densities::LEN)?;
        self.densities = Densities::read(densities);
        let (anchors, rest) = anchors.as_chunks::<16>();
        let read = |bytes: &[u8; 16]| {
            let [head, place] = *bytes.as_chunks::<8>().0 else { return (0, 0) };
            (u64::from_le_bytes(head), u64::from_le_bytes(place))
        };
        self.anchors = anchors.iter().map(read).collect();
        (rest.is_empty() && self.anchors.is_sorted()).then_some(())
    }

    /// The block at an offset of the file; `None` at the end, and where the file is damaged.
    pub(super) fn block(&self, at: u64) -> Option<Block> {
        let (body, next) = self.record(BLOCK, at)?;
        Block::read(&body, next)
    }

    /// Where a piece stands that is an anchor: its block's offset, and its number there.
    pub(super) fn anchor(&self, piece: &Piece) -> Option<(u64, usize)> {
        if !is_anchor(&piece.head, self.mask) {
            return None;
        }
        let found = self.anchors.binary_search_by_key(&piece.head, |(head, _)| *head).ok()?;
        let (_, place) = self.anchors.get(found)?;
        Some((place >> 16, (place & 0xffff) as usize))
    }

    /// How much the stream's blocks were cut up.
    pub(super) fn densities(&self) -> &Densities {
        &self.densities
    }

    /// Where the first block is.
    pub(super) fn first(&self) -> u64 {
        MAGIC.len() as u64
    }

    fn record(&self, kind: u8, at: u64) -> Option<(Vec<u8>, u64)> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, at).ok()?;
        let (length, hash) = head.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        let next = at.checked_add(HEAD as u64)?.checked_add(length.into())?;
        if length > RECORD_MAX || next > self.length {
            return None;
        }
        let mut body = vec![0; length as usize];
        self.file.read_exact_at(&mut body, at + HEAD as u64).ok()?;
        (record_hash(&self.key, kind, at, &body) == *hash).then_some((body, next))
    }
}

/// Whether a piece is one of the anchors; by other bits than the window's table goes by.
fn is_anchor(head: &u64, mask: u32) -> bool {
    (head >> 32) & u64::from(mask) == 0
}

fn record_hash(key: &[u8; 32], kind: u8, at: u64, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&[kind]).update(&at.to_le_bytes()).update(body).finalize()
}

/// The list that this run writes for the next one, under a temporary name.
pub(super) struct Writer {
    file: BufWriter<File>,
    temp: Temporary,
    path: PathBuf,
    key: [u8; 32],
    at: u64,
    pieces: VecDeque<Piece>,
    parts: VecDeque<Part>,
    /// Bytes of `parts`.
    held: u64,
    /// Pieces and bytes of those blocks that wait for their parts, and of the one that has no end yet.
    due: VecDeque<(usize, u64)>,
    open: (usize, u64),
    densities: Densities,
    anchors: Vec<(u64, u64)>,
    mask: u32,
}

/// A file that is taken away unless it is kept.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A list that is whole, and takes the place of the one before it once its run has succeeded.
#[derive(Debug)]
#[must_use = "unless it is kept, the next run is matched with an older list"]
pub struct PieceList {
    temp: Temporary,
    path: PathBuf,
}

impl PieceList {
    /// Puts the list where the next run looks for it.
    ///
    /// # Errors
    /// [`Error::Local`] if it can't be renamed: the list before it stays then.
    pub fn keep(self) -> Result<(), Error> {
        fs::rename(&self.temp.0, &self.path)
            .map_err(Error::local(format!("writing {}", self.path.display())))
    }
}

impl Writer {
    /// Begins the list that will stand at `path`.
    pub(super) fn create(path: &Path, secret: &VaultSecret) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let temp = path.with_added_extension("new");
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&temp)?);
        let temp = Temporary(temp);
        file.write_all(MAGIC)?;
        Ok(Self {
            file,
            temp,
            path: path.into(),
            key: secret.piece_list_key(),
            at: MAGIC.len() as u64,
            pieces: VecDeque::with_capacity(2 * BLOCK_PIECES),
            parts: VecDeque::new(),
            held: 0,
            due: VecDeque::new(),
            open: (0, 0),
            densities: Densities::default(),
            anchors: Vec::new(),
            mask: ANCHORS_MASK,
        })
    }

    /// Notes the next piece.
    pub(super) fn piece(&mut self, piece: Piece) {
        self.open = (self.open.0 + 1, self.open.1 + u64::from(piece.length));
        self.pieces.push_back(piece);
    }

    /// Ends a block behind the last piece: what is decided about at once in the next run.
    pub(super) fn end_block(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.due.extend(Some(open).filter(|(count, _)| *count > 0));
    }

    /// Notes where the next bytes of the stream are.
    pub(super) fn part(&mut self, part: Part) -> io::Result<()> {
        self.held += u64::from(part.length);
        self.parts.push_back(part);
        while let Some((count, bytes)) = self.due.pop_front_if(|(_, bytes)| *bytes <= self.held) {
            self.block(count, bytes)?;
        }
        Ok(())
    }

    /// Writes the first `count` pieces, of so many bytes together, and the parts that hold them.
    fn block(&mut self, count: usize, bytes: u64) -> io::Result<()> {
        let mut body = Vec::with_capacity(4 + count * PIECE_LEN);
        body.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        for (number, piece) in (0u64..).zip(self.pieces.drain(..count)) {
            body.extend_from_slice(&piece.head.to_le_bytes());
            body.extend_from_slice(&piece.tail.to_le_bytes());
            body.extend_from_slice(&piece.length.to_le_bytes());
            if is_anchor(&piece.head, self.mask) {
                self.anchors.push((piece.head, self.at << 16 | number));
            }
        }
        let (mut left, mut parts) = (bytes, 0);
        while left > 0 {
            let Some(mut part) = self.parts.pop_front() else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let taken = u32::try_from(left).unwrap_or(u32::MAX).min(part.length);
            if taken < part.length {
                self.parts.push_front(part.slice(taken, part.length - taken));
                part.length = taken;
            }
            left -= u64::from(taken);
            parts += 1;
            body.extend_from_slice(part.id.as_bytes());
            for number in [part.offset, part.length, part.of] {
                body.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.held -= bytes;
        self.densities.add(density(parts, bytes), bytes);
        self.record(BLOCK, &body)?;
        while self.anchors.len() > ANCHORS_MAX {
            self.thin();
        }
        Ok(())
    }

    /// Makes anchors fewer: of equal pieces one is enough, and then every other one.
    fn thin(&mut self) {
        self.sort();
        if self.anchors.len() > ANCHORS_MAX / 2 {
            self.mask = self.mask << 1 | 1;
            self.anchors.retain(|(head, _)| is_anchor(head, self.mask));
        }
    }

    fn sort(&mut self) {
        self.anchors.sort_unstable();
        self.anchors.dedup_by_key(|(head, _)| *head);
    }

    fn record(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let hash = record_hash(&self.key, kind, self.at, body);
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(hash.as_bytes())?;
        self.file.write_all(body)?;
        self.at += HEAD as u64 + u64::from(length);
        Ok(())
    }

    /// Ends the list; all pieces and parts were told.
    pub(super) fn finish(mut self) -> io::Result<PieceList> {
        self.end_block();
        while let Some((count, bytes)) = self.due.pop_front() {
            self.block(count, bytes)?;
        }
        self.sort();
        let mut body = self.mask.to_le_bytes().to_vec();
        self.densities.write(&mut body);
        for (head, place) in &self.anchors {
            body.extend_from_slice(&head.to_le_bytes());
            body.extend_from_slice(&place.to_le_bytes());
        }
        self.record(ANCHORS, &body)?;
        self.file.write_all(&u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes())?;
        self.file.flush()?;
        Ok(PieceList { temp: self.temp, path: self.path })
    }
}
