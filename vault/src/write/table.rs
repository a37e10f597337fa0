//! Tables of known blobs on this host's disk: sorted, searched by reading a block or two, merged as they grow.
//!
//! A table is a disposable copy of what index segments say. Each block carries a hash, since a wrong answer
//! ('that blob is stored') would lose data, while a lost table only costs time. So does a wrong 'not here', and the most
//! are right: a block is only hashed before something in it is believed.
//!
//! Layout: blocks of 4,096 bytes, each 127 rows of 32 bytes (blob id, segment number, pack number, u32 LE each) and
//! the BLAKE3 of those rows and the block's number; the last block is filled with rows of 0xff. Then the table's
//! [filter] unless it has very many rows, in blocks of 32 bytes, and a BLAKE3 of it. Then the segments that
//! numbers refer to (32 bytes each), their count, the count of rows and that of the filter's blocks (u64 LE each), and a
//! BLAKE3 of this tail.

mod filter;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::Error;
use crate::ids::{BlobId, SegmentId};
use filter::Filter;

const ROW: usize = 32;
const ROWS: usize = 127;
const BLOCK: usize = 4096;
const EMPTY: [u8; ROW] = [0xff; ROW];
/// Bytes at the end of a table whose length is fixed: three counts and a hash.
const END: usize = 56;
/// Tables of more rows have no filter: it would take more memory than a look into the table is worth. At ten bits a
/// row this is 6 MiB; as long as there are three such tables and three of each smaller size (see
/// [`Known`](super::known::Known)), filters take 24 MiB at most.
const FILTERED_ROWS_MAX: u64 = 5 << 20;

type Block = Arc<[u8; BLOCK]>;

#[derive(Debug)]
struct Last {
    number: u64,
    block: Block,
    /// Whether its hash was checked.
    sound: bool,
}

/// Where a table says that a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: BlobId,
    /// Number of the segment within the table.
    pub(crate) segment: u32,
    /// Number of the pack within the segment.
    pub(crate) pack: u32,
}

impl Row {
    fn encode(&self) -> [u8; ROW] {
        let mut row = [0; ROW];
        row[..24].copy_from_slice(self.id.as_bytes());
        row[24..28].copy_from_slice(&self.segment.to_le_bytes());
        row[28..].copy_from_slice(&self.pack.to_le_bytes());
        row
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let (id, rest) = row.split_first_chunk::<24>()?;
        let (segment, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            id: BlobId::from_bytes(*id),
            segment: u32::from_le_bytes(*segment),
            pack: u32::from_le_bytes(*rest.first_chunk::<4>()?),
        })
    }
}

/// An open table.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    path: PathBuf,
    rows: u64,
    segments: Vec<SegmentId>,
    /// How many blocks its filter has in the file, and the filter, once it was needed; `None` if there is none to use.
    filter_blocks: u64,
    filter: OnceLock<Option<Filter>>,
    /// The block that was searched last: whoever looks blobs up in order reads and hashes each block once.
    last: Mutex<Option<Last>>,
    #[cfg(test)]
    reads: std::sync::atomic::AtomicU64,
}

impl Table {
    /// Opens a table; `None` if it is damaged, in which case it is removed.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let table = Self::of(File::open(path).ok()?, path);
        if table.is_none() {
            tracing::warn!(path = %path.display(), "a table of known blobs is damaged; it is built again");
            let _ = std::fs::remove_file(path);
        }
        table
    }

    fn of(file: File, path: &Path) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let mut end = [0; END];
        file.read_exact_at(&mut end, length.checked_sub(END as u64)?).ok()?;
        let (counts, hash) = end.split_last_chunk::<32>()?;
        let [segments, rows, filter_blocks] = [0, 8, 16]
            .map(|at| counts[at..].first_chunk().map_or(u64::MAX, |n| u64::from_le_bytes(*n)));
        let names = segments.checked_mul(SegmentId::LEN as u64)?;
        let start = length.checked_sub(END as u64)?.checked_sub(names)?;
        let blocks = rows.div_ceil(ROWS as u64).checked_mul(BLOCK as u64)?;
        if start != blocks.checked_add(filter_bytes(filter_blocks)?)? {
            return None;
        }
        let mut tail = vec![0; usize::try_from(names).ok()? + counts.len()];
        file.read_exact_at(&mut tail, start).ok()?;
        if blake3::hash(&tail).as_bytes() != hash {
            return None;
        }
        let names = &tail[..tail.len() - counts.len()];
        let segments =
            names.as_chunks().0.iter().map(|name| SegmentId::from_bytes(*name)).collect();
        Some(Self {
            file,
            path: path.into(),
            rows,
            segments,
            filter_blocks,
            filter: OnceLock::new(),
            last: Mutex::default(),
            #[cfg(test)]
            reads: Default::default(),
        })
    }

    /// Its filter, if it has one. One that is damaged is passed over: tables answer without.
    fn filter(&self) -> Option<&Filter> {
        let read = || {
            let length = usize::try_from(filter_bytes(self.filter_blocks)?).ok()?;
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, self.blocks() * BLOCK as u64).ok()?;
            let (bytes, hash) = bytes.split_last_chunk::<32>()?;
            (blake3::hash(bytes).as_bytes() == hash).then(|| Filter::from_bytes(bytes))
        };
        self.filter.get_or_init(read).as_ref()
    }

    /// The segments that it speaks of, by number.
    pub(crate) fn segments(&self) -> &[SegmentId] {
        &self.segments
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn blocks(&self) -> u64 {
        self.rows.div_ceil(ROWS as u64)
    }

    /// A block, as it was read: enough to find out that something isn't in it.
    fn block(&self, number: u64) -> Result<Block, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.number == number) {
            return Ok(Arc::clone(&last.block));
        }
        let block = Arc::new(self.read_block(number)?);
        *last = Some(Last { number, block: Arc::clone(&block), sound: false });
        Ok(block)
    }

    /// Checks the hash of a block, so that what stands in it may be believed.
    fn believe(&self, number: u64, block: &Block) -> Result<(), Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut same = last.as_mut().filter(|last| Arc::ptr_eq(&last.block, block));
        if same.as_ref().is_some_and(|last| last.sound) {
            return Ok(());
        }
        self.check(number, block)?;
        if let Some(last) = &mut same {
            last.sound = true;
        }
        Ok(())
    }

    /// Where to look for `id` first: where the last one was, if it is between the ids of that block; else as far from
    /// there as evenly spread ids would have it.
    fn guess(&self, id: &BlobId) -> u64 {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, first) = match last.as_ref() {
            Some(last) if is_inside(&last.block, id) => return last.number,
            Some(last) => (last.number, prefix(&last.block[..])),
            None => (0, 0),
        };
        self.beyond(number, first, id)
    }

    /// The block in which `id` should be, if ids are evenly spread from one block on that begins with `first`.
    fn beyond(&self, number: u64, first: u64, id: &BlobId) -> u64 {
        let far = i128::from(prefix(id.as_bytes())) - i128::from(first);
        let blocks = (far * i128::from(self.blocks())) >> 64;
        u64::try_from(i128::from(number) + blocks).unwrap_or(0)
    }

    fn read_block(&self, number: u64) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        #[cfg(test)]
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.file
            .read_exact_at(&mut block, number * BLOCK as u64)
            .map_err(|error| self.failed(error))?;
        Ok(block)
    }

    fn check(&self, number: u64, block: &[u8; BLOCK]) -> Result<(), Error> {
        if hash_block(block, number) == block[ROWS * ROW..] {
            return Ok(());
        }
        let _ = std::fs::remove_file(&self.path);
        Err(self.failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "the cache is damaged; it was removed, and is built again",
        )))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::local(format!("reading {}", self.path.display()))(error)
    }

    /// Everywhere that `id` lies.
    pub(crate) fn find(&self, id: &BlobId) -> Result<Vec<Row>, Error> {
        if self.filter().is_some_and(|filter| !filter.may_hold(id)) {
            return Ok(Vec::new());
        }
        let (mut low, mut high) = (0, self.blocks());
        let mut at_hand = None;
        let mut guess = self.guess(id);
        let mut steps = 0;
        while low < high {
            let number = guess.clamp(low, high - 1);
            let block = self.block(number)?;
            let inside = is_inside(&block, id);
            // The nearer, the better evenly spread ids say how far it is: two guesses do for a million rows.
            let next = self.beyond(number, prefix(&block[..]), id);
            if id.as_bytes()[..] <= block[..BlobId::LEN] {
                high = number;
                guess = next.min(number.saturating_sub(1));
            } else {
                low = number + u64::from(!inside);
                guess = next.max(low);
            }
            at_hand = Some((number, block));
            if inside {
                break;
            }
            steps += 1;
            if steps > 4 {
                guess = (low + high) / 2;
            }
        }
        // The first block that may hold it; where a blob was stored several times, the next may go on with it.
        let mut found = Vec::new();
        for number in low..self.blocks() {
            let block = match at_hand.take() {
                Some((at, block)) if at == number => block,
                _ => self.block(number)?,
            };
            let rows = block[..ROWS * ROW].as_chunks::<ROW>().0;
            let begin = rows.partition_point(|row| row[..24] < id.as_bytes()[..]);
            for (at, row) in rows.iter().enumerate().skip(begin) {
                // What fills up the last block isn't a row.
                let real = number * (ROWS as u64) + (at as u64) < self.rows;
                if !real || row[..24] != id.as_bytes()[..] {
                    return Ok(found);
                }
                self.believe(number, &block)?;
                found.extend(Row::decode(row));
            }
        }
        Ok(found)
    }

    /// All rows in order.
    pub(crate) fn iter(&self) -> Rows<'_> {
        Rows { table: self, block: Arc::new([0; BLOCK]), at: 0 }
    }
}

/// Rows of a table in order.
pub(crate) struct Rows<'t> {
    table: &'t Table,
    block: Block,
    at: u64,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.table.rows {
            return None;
        }
        let in_block = usize::try_from(self.at % ROWS as u64).unwrap_or(0);
        if in_block == 0 {
            let number = self.at / ROWS as u64;
            let block = self.table.block(number);
            match block.and_then(|block| self.table.believe(number, &block).map(|()| block)) {
                Ok(block) => self.block = block,
                Err(error) => {
                    self.at = self.table.rows;
                    return Some(Err(error));
                }
            }
        }
        self.at += 1;
        Row::decode(&self.block[in_block * ROW..]).map(Ok)
    }
}

/// The bytes that a filter takes in a file, with its hash; `None` if that is no number.
fn filter_bytes(blocks: u64) -> Option<u64> {
    match blocks {
        0 => Some(0),
        _ => blocks.checked_mul(filter::BLOCK as u64)?.checked_add(blake3::OUT_LEN as u64),
    }
}

/// What an id begins with, as a number.
fn prefix(id: &[u8]) -> u64 {
    id.first_chunk().map_or(0, |eight| u64::from_be_bytes(*eight))
}

/// Whether the first row with this id, if there is one, must be in this block.
fn is_inside(block: &[u8; BLOCK], id: &BlobId) -> bool {
    let last = &block[(ROWS - 1) * ROW..][..BlobId::LEN];
    id.as_bytes()[..] > block[..BlobId::LEN] && id.as_bytes()[..] <= *last
}

fn hash_block(block: &[u8; BLOCK], number: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&block[..ROWS * ROW]).update(&number.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Writes a table from at most `most` rows in the order of ids, under a temporary name until it is whole, and opens it.
pub(crate) fn write(
    path: &Path,
    segments: &[SegmentId],
    most: u64,
    rows: impl IntoIterator<Item = Result<Row, Error>>,
) -> Result<Table, Error> {
    let local = |e| Error::local(format!("writing {}", path.display()))(e);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = BufWriter::with_capacity(1 << 18, tempfile_in(folder).map_err(local)?);
    let (mut block, mut filled, mut number, mut count) = ([0; BLOCK], 0, 0, 0u64);
    let mut flush = |block: &mut [u8; BLOCK], filled: usize, file: &mut BufWriter<Temp>| {
        block[filled * ROW..ROWS * ROW].as_chunks_mut::<ROW>().0.fill(EMPTY);
        let hash = hash_block(block, number);
        block[ROWS * ROW..].copy_from_slice(&hash);
        number += 1;
        file.write_all(block)
    };
    let mut filter = Filter::of(if most <= FILTERED_ROWS_MAX { most } else { 0 });
    for row in rows {
        let row = row?;
        filter.insert(&row.id);
        block[filled * ROW..(filled + 1) * ROW].copy_from_slice(&row.encode());
        filled += 1;
        count += 1;
        if filled == ROWS {
            flush(&mut block, filled, &mut file).map_err(local)?;
            filled = 0;
        }
    }
    if filled > 0 {
        flush(&mut block, filled, &mut file).map_err(local)?;
    }
    let bits = filter.to_bytes();
    if !bits.is_empty() {
        file.write_all(&bits).map_err(local)?;
        file.write_all(blake3::hash(&bits).as_bytes()).map_err(local)?;
    }
    let mut tail: Vec<u8> = segments.iter().flat_map(|s| *s.as_bytes()).collect();
    for count in [segments.len() as u64, count, (bits.len() / filter::BLOCK) as u64] {
        tail.extend_from_slice(&count.to_le_bytes());
    }
    file.write_all(&tail).map_err(local)?;
    file.write_all(blake3::hash(&tail).as_bytes()).map_err(local)?;
    let temp = file.into_inner().map_err(|e| local(e.into_error()))?;
    std::fs::rename(&temp.path, path).map_err(local)?;
    let Temp { file, remove, .. } = temp;
    std::mem::forget(remove);
    // Not by its name: another run of this host may have merged it with others by now.
    Table::of(file, path).ok_or_else(|| local(std::io::ErrorKind::InvalidData.into()))
}

/// A file that is removed again unless it gets its real name.
struct Temp {
    file: File,
    path: PathBuf,
    remove: RemoveOnDrop,
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Write for Temp {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn tempfile_in(folder: &Path) -> std::io::Result<Temp> {
    let random: [u8; 8] = crate::keys::random().map_err(std::io::Error::other)?;
    let path = folder.join(format!(".tmp-{}", hex::encode(random)));
    let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    Ok(Temp { file, remove: RemoveOnDrop(path.clone()), path })
}

#[cfg(test)]
mod tests;
