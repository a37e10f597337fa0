//! What the last run of a job saw of each file: so that files which didn't change need not be read again.
//!
//! The agent can't read its own snapshots back (it has no key to them), so it keeps this file beside them. It is
//! written and read in the order of the walk: the two are merged like sorted lists, in memory that doesn't grow with
//! the tree. Losing it costs reading the files again, and each block carries a hash: a damaged one is as if lost.
//!
//! Layout: blocks of `length (u32 LE) ‖ BLAKE3 ‖ postcard entries`, ended by a block of length 0; beside it a file of
//! the index segments that entries refer to by number. Memory holds these, and nothing for each pack.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keephold_files::walk::Walked;
use keephold_files::{Kind, Stat};
use keephold_vault::encode::append;
use keephold_vault::ids::SegmentId;
use keephold_vault::tree::{Entry, EntryKind, FileTime, Metadata, TreePath};
use keephold_vault::write::{Known, PackHandle, Places};
use serde::{Deserialize, Serialize};

/// Bytes of entries in a block.
const BLOCK: usize = 256 * 1024;
/// Longest block that is believed: one entry may be longer than a block.
const BLOCK_MAX: u32 = 64 << 20;
/// A file that changed so shortly before it was looked at could change again within the same tick of its clock.
const RACY_S: i64 = 2;

/// What tells whether a file is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    size: u64,
    mtime: FileTime,
    ctime: FileTime,
    inode: u64,
}

impl Mark {
    fn of(stat: &Stat) -> Self {
        Self { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, inode: stat.inode }
    }
}

/// An entry. What it is stands in one piece: while it isn't known where its content lies, nobody need take it apart.
#[derive(Debug, Serialize, Deserialize)]
struct Row<'a> {
    /// A [`Body`].
    body: &'a [u8],
    packs: Packs,
}

/// What an entry was.
#[derive(Debug, Serialize, Deserialize)]
struct Body<P, K, M> {
    path: P,
    mark: Mark,
    kind: K,
    meta: M,
}

#[derive(Debug, Serialize, Deserialize)]
enum Packs {
    /// Where it lies.
    Known(Vec<InPack>),
    /// It consists of so many of the next blobs of the run: where they lie is known once that is over.
    Pending(u64),
}

/// Some of a content in one pack: the segment's number in the table, the pack's number in the segment, and how many bytes
/// of the content lie there.
type InPack = (u32, u32, u64);

/// An entry of the last run.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: EntryKind,
    pub(crate) meta: Metadata,
    mark: Mark,
    packs: Vec<InPack>,
}

/// The last run's entries, read in order.
pub(crate) struct Reader {
    blocks: Option<Blocks>,
    next: Option<(TreePath, Seen)>,
    segments: Vec<SegmentId>,
}

struct Blocks {
    file: BufReader<File>,
    block: Vec<u8>,
    at: usize,
}

impl Blocks {
    /// The next entry; `None` at the end, and where the file is damaged.
    fn next(&mut self) -> Option<Row<'_>> {
        if self.at == self.block.len() {
            let mut head = [0; 36];
            self.file.read_exact(&mut head).ok()?;
            let (length, hash) = head.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length);
            if length == 0 || length > BLOCK_MAX {
                return None;
            }
            self.block.resize(length as usize, 0);
            self.file.read_exact(&mut self.block).ok()?;
            if blake3::hash(&self.block).as_bytes() != hash {
                tracing::warn!("the list of unchanged files is damaged; the rest is read again");
                return None;
            }
            self.at = 0;
        }
        let (row, rest) = postcard::take_from_bytes::<Row<'_>>(self.block.get(self.at..)?).ok()?;
        self.at = self.block.len() - rest.len();
        Some(row)
    }
}

impl Reader {
    /// The list in `path`; an empty one if there is none.
    pub(crate) fn open(path: &Path) -> Self {
        let segments = read_segments(&segments_path(path));
        let file = File::open(path).ok().filter(|_| segments.is_some());
        let blocks = file.map(|file| Blocks {
            file: BufReader::with_capacity(1 << 18, file),
            block: vec![],
            at: 0,
        });
        let mut reader = Self { blocks, next: None, segments: segments.unwrap_or_default() };
        reader.advance();
        reader
    }

    fn advance(&mut self) {
        let row = self.blocks.as_mut().and_then(Blocks::next);
        self.next = row.and_then(|row| {
            let Packs::Known(packs) = row.packs else { return None };
            let body: Body<&[u8], EntryKind, Metadata> = postcard::from_bytes(row.body).ok()?;
            let path = TreePath::new(body.path.to_vec()).ok()?;
            Some((path, Seen { kind: body.kind, meta: body.meta, mark: body.mark, packs }))
        });
        if self.next.is_none() {
            self.blocks = None;
        }
    }

    /// What was seen of an entry, if it is still the same. Entries must be asked for in the order of paths.
    pub(crate) fn find(&mut self, walked: &Walked) -> Option<Seen> {
        while self.next.as_ref().is_some_and(|(path, _)| *path < walked.path) {
            self.advance();
        }
        if self.next.as_ref()?.0 != walked.path {
            return None;
        }
        let seen = self.next.take().map(|(_, seen)| seen);
        self.advance();
        seen.filter(|seen| {
            seen.mark == Mark::of(&walked.stat) && same_kind(&seen.kind, walked.kind)
        })
    }

    /// The table of segments that [`Seen`] entries refer to.
    pub(crate) fn segments(&self) -> Vec<SegmentId> {
        self.segments.clone()
    }
}

impl Seen {
    /// The packs that its content needs, each with how many bytes of it; `None` if the vault no longer holds one.
    pub(crate) fn packs(
        &self,
        segments: &[SegmentId],
        known: &Known,
    ) -> Option<Vec<(PackHandle, u64)>> {
        let handle = |&(segment, pack, bytes): &InPack| {
            Some((known.handle(segments.get(segment as usize)?, pack)?, bytes))
        };
        self.packs.iter().map(handle).collect()
    }
}

fn same_kind(entry: &EntryKind, kind: Kind) -> bool {
    matches!(
        (entry, kind),
        (EntryKind::Directory, Kind::Directory)
            | (EntryKind::File(_), Kind::File)
            | (EntryKind::Symlink(_), Kind::Symlink)
            | (EntryKind::CharDevice { .. }, Kind::CharDevice)
            | (EntryKind::BlockDevice { .. }, Kind::BlockDevice)
            | (EntryKind::Fifo, Kind::Fifo)
            | (EntryKind::Socket, Kind::Socket)
    )
}

/// The list that this run writes for the next one.
pub(crate) struct Writer {
    path: PathBuf,
    rows: BufWriter<File>,
    block: Vec<u8>,
    body: Vec<u8>,
    segments: SegmentTable,
}

/// Segments by number.
#[derive(Default)]
struct SegmentTable {
    list: Vec<SegmentId>,
    numbers: std::collections::HashMap<SegmentId, u32>,
}

impl SegmentTable {
    fn number(&mut self, segment: SegmentId) -> u32 {
        *self.numbers.entry(segment).or_insert_with(|| {
            self.list.push(segment);
            u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

impl Writer {
    /// Begins the list that will stand at `path` once it is finished.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().context("the cache has no folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("the cache folder {} can't be made", folder.display()))?;
        let rows = path.with_extension("rows");
        let file =
            File::create(&rows).with_context(|| format!("{} can't be written", rows.display()))?;
        Ok(Self {
            rows: BufWriter::with_capacity(1 << 18, file),
            path: path.into(),
            block: Vec::with_capacity(BLOCK + 4096),
            body: Vec::new(),
            segments: SegmentTable::default(),
        })
    }

    /// Where the run's writer may note where blobs lie.
    pub(crate) fn places_path(&self) -> PathBuf {
        self.path.with_extension("places")
    }

    /// Notes an entry that was taken over from the last run.
    pub(crate) fn add_seen(
        &mut self,
        walked: &Walked,
        entry: &Entry,
        packs: &[(PackHandle, u64)],
        known: &Known,
    ) -> Result<()> {
        let packs = packs
            .iter()
            .filter_map(|&(pack, bytes)| {
                let (segment, pack) = known.name(pack)?;
                Some((self.segments.number(segment), pack, bytes))
            })
            .collect();
        self.add(walked, &entry.kind, &entry.meta, Packs::Known(packs))
    }

    /// Passes over blobs of a file that could not be read to its end.
    pub(crate) fn add_lost(&mut self, walked: &Walked, meta: &Metadata, blobs: u64) -> Result<()> {
        self.add(walked, &EntryKind::Socket, meta, Packs::Pending(blobs))
    }

    /// Notes an entry whose content, if any, was read in this run: the last `blobs` blobs are its.
    pub(crate) fn add_read(
        &mut self,
        walked: &Walked,
        entry: &Entry,
        blobs: u64,
        now_s: i64,
    ) -> Result<()> {
        if walked.stat.ctime.seconds >= now_s - RACY_S && walked.kind == Kind::File {
            return self.add_lost(walked, &entry.meta, blobs);
        }
        self.add(walked, &entry.kind, &entry.meta, Packs::Pending(blobs))
    }

    fn add(
        &mut self,
        walked: &Walked,
        kind: &EntryKind,
        meta: &Metadata,
        packs: Packs,
    ) -> Result<()> {
        let (path, mark) = (walked.path.as_bytes(), Mark::of(&walked.stat));
        self.body.clear();
        let body = Body { path, mark, kind, meta };
        append(&body, &mut self.body)?;
        let row = Row { body: &self.body, packs };
        append(&row, &mut self.block)?;
        if self.block.len() >= BLOCK {
            write_block(&mut self.rows, &mut self.block)?;
        }
        Ok(())
    }

    /// Puts the list in its place, now that it is known where the blobs of this run lie.
    pub(crate) fn finish(mut self, places: Places, known: &Known) -> Result<()> {
        write_block(&mut self.rows, &mut self.block)?;
        self.rows.write_all(&[0; 36])?;
        self.rows.flush()?;
        let (rows, done) = (self.path.with_extension("rows"), self.path.with_extension("new"));
        self.place(&rows, places, known, &done)?;
        // The old list with new segments would mislead; no list only costs time.
        remove(&self.path)?;
        write_segments(&segments_path(&self.path), &self.segments.list)?;
        fs::rename(&done, &self.path)?;
        remove(&rows)?;
        remove(&self.places_path())?;
        Ok(())
    }

    /// Writes the rows again, each with where its content lies.
    fn place(&mut self, rows: &Path, mut places: Places, known: &Known, done: &Path) -> Result<()> {
        let file = BufReader::with_capacity(1 << 18, File::open(rows)?);
        let mut input = Blocks { file, block: vec![], at: 0 };
        let mut output = BufWriter::with_capacity(1 << 18, File::create(done)?);
        let mut block = Vec::with_capacity(BLOCK + 4096);
        while let Some(mut row) = input.next() {
            let mut complete = true;
            if let Packs::Pending(count) = row.packs {
                let mut packs: Vec<InPack> = Vec::new();
                for _ in 0..count {
                    let (place, length) = places.next_place()?;
                    let Some((segment, pack)) = place.and_then(|pack| known.name(pack)) else {
                        complete = false;
                        continue;
                    };
                    let place = (self.segments.number(segment), pack);
                    // Neighbours mostly lie beside each other.
                    match packs.iter_mut().rev().find(|&&mut (s, p, _)| (s, p) == place) {
                        Some((.., bytes)) => *bytes += u64::from(length),
                        None => packs.push((place.0, place.1, length.into())),
                    }
                }
                row.packs = Packs::Known(packs);
            }
            // A row without a file's content stands for one that must be read again.
            if complete {
                append(&row, &mut block)?;
                if block.len() >= BLOCK {
                    write_block(&mut output, &mut block)?;
                }
            }
        }
        write_block(&mut output, &mut block)?;
        output.write_all(&[0; 36])?;
        Ok(output.flush()?)
    }
}

fn write_block(file: &mut BufWriter<File>, block: &mut Vec<u8>) -> Result<()> {
    if !block.is_empty() {
        file.write_all(&u32::try_from(block.len())?.to_le_bytes())?;
        file.write_all(blake3::hash(block).as_bytes())?;
        file.write_all(block)?;
        block.clear();
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn segments_path(path: &Path) -> PathBuf {
    path.with_extension("segments")
}

fn write_segments(path: &Path, segments: &[SegmentId]) -> Result<()> {
    let mut bytes = postcard::to_stdvec(segments)?;
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    fs::write(path, bytes).with_context(|| format!("{} can't be written", path.display()))
}

fn read_segments(path: &Path) -> Option<Vec<SegmentId>> {
    let bytes = fs::read(path).ok()?;
    let (body, hash) = bytes.split_last_chunk::<32>()?;
    (blake3::hash(body).as_bytes() == hash).then(|| postcard::from_bytes(body).ok())?
}
