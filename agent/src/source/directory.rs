//! Directories.
//!
//! ```text
//! walk (parallel, in order) ─▶ plan: unchanged? ─▶ slots, in order ─▶ ingest: dedup, tree
//!                                      └─▶ readers: small files, links, metadata ─┘
//! ```
//! Slots keep the order of the walk while several threads read ahead, so that neighbours end up in one frame, and
//! the tree comes out sorted. Memory is bounded by the number of slots and the size of a small file.

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use keephold_files::meta::{LinkTracker, MetaReader, Names};
use keephold_files::read::{FileReader, Piece, ReadError, read_small};
use keephold_files::walk::{Options, Step, Walk, Walked};
use keephold_files::{Base, Kind, Problem, ProblemKind};
use keephold_vault::ids::SegmentId;
use keephold_vault::keys::BlobNamer;
use keephold_vault::limits::SMALL_FILE_MAX;
use keephold_vault::record::{Level, SourceReport};
use keephold_vault::tree::{Entry, EntryKind, Metadata, TreePath, TreeRoot};
use keephold_vault::write::{ContentWriter, Prepared, Writer};

use crate::notes::Notes;
use crate::source::{Counters, Stop, TreeWriter};
use crate::unchanged::{self, Seen};

/// How many entries are on their way between plan and ingest.
const SLOTS: usize = 384;
/// How much of a large file is read at once.
const READ_LEN: usize = 1 << 20;

/// A directory job.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) options: Options,
}

impl Directory {
    pub(crate) fn report(&self) -> SourceReport {
        let mut excludes = self.options.exclude.clone();
        excludes.extend(self.options.exclude_files.iter().map(|f| format!("@{}", f.display())));
        excludes.extend(self.options.exclude_caches.then(|| "CACHEDIR.TAG".into()));
        excludes.extend(
            self.options.exclude_if_present.iter().map(|n| format!("if present: {}", n.display())),
        );
        excludes.extend(self.options.one_file_system.then(|| "other file systems".into()));
        SourceReport::Directory {
            paths: self.paths.iter().map(|p| p.display().to_string()).collect(),
            excludes,
        }
    }
}

/// Lists of the last run and for the next one.
pub(crate) struct Lists {
    pub(crate) before: unchanged::Reader,
    pub(crate) after: unchanged::Writer,
}

/// One step of the walk on its way to the ingest thread.
enum Slot {
    Problem(Box<Problem>),
    Seen(Walked, Box<Seen>),
    Link(Walked, TreePath, Receiver<Read>),
    Reading(Walked, Receiver<Read>),
    Large(Walked),
    Excluded(u64),
}

/// What a reader found.
struct Read {
    what: Result<Found, Box<Problem>>,
    meta: Metadata,
    problems: Vec<Problem>,
}

enum Found {
    File(Prepared, bool),
    /// Too large for a reader after all: it has grown since the walk.
    Grown,
    Other(EntryKind),
    ReadError(ReadError),
}

/// What a reader is to do.
struct Work {
    walked: Walked,
    content: bool,
    answer: Sender<Read>,
}

/// Backs a directory job up. Runs on a thread of its own.
pub(crate) fn backup(
    job: &Directory,
    writer: &mut Writer,
    lists: Lists,
    notes: &mut Notes,
    counters: &Counters,
    stop: &Stop,
) -> Result<(TreeRoot, unchanged::Writer)> {
    let base = Base::host().context("the file system's root can't be opened")?;
    let Lists { before, after } = lists;
    let segments = before.segments();
    let namer = writer.namer().clone();
    let walk = Walk::start(&base, &job.paths, &job.options)
        .map_err(|e| keephold_cli::exit::usage(e.to_string()))?;
    let (slots_in, slots) = bounded::<Slot>(SLOTS);
    let (work_in, work) = bounded::<Work>(SLOTS);
    let names = Names::of_host();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            let (work, base, names) = (work.clone(), base.clone(), names.clone());
            let namer = namer.clone();
            scope.spawn(move || read_ahead(&work, &base, names, &namer));
        }
        drop(work);
        let planner = scope.spawn(move || plan(walk, before, &slots_in, &work_in));
        let mut ingest = Ingest {
            meta: MetaReader::new(base.clone(), names),
            base,
            writer,
            notes,
            counters,
            segments,
            list: after,
            tree: TreeWriter::default(),
            buffer: Vec::new(),
            now_s: jiff::Timestamp::now().as_second(),
        };
        let result = ingest.run(&slots, stop);
        // Whoever still plans or reads ends once nobody takes what they have.
        drop(slots);
        let planned = planner.join();
        result?;
        if planned.is_err() {
            return Err(anyhow!("the walk panicked; please report it"));
        }
        let Ingest { tree, writer, list, .. } = ingest;
        Ok((tree.finish(writer)?, list))
    })
}

/// Decides, in the order of the walk, what must be read.
fn plan(mut walk: Walk, mut before: unchanged::Reader, slots: &Sender<Slot>, work: &Sender<Work>) {
    let mut links = LinkTracker::new();
    for step in walk.by_ref() {
        let slot = match step {
            Step::Problem(problem) => Slot::Problem(problem),
            Step::Entry(walked) => {
                let first = links.see(&walked);
                let seen = before.find(&walked);
                match (first, seen) {
                    (None, Some(seen)) => Slot::Seen(walked, Box::new(seen)),
                    (None, None)
                        if walked.kind == Kind::File
                            && walked.stat.size > SMALL_FILE_MAX as u64 =>
                    {
                        Slot::Large(walked)
                    }
                    (first, _) => {
                        let (answer, read) = bounded(1);
                        let content = first.is_none();
                        if work.send(Work { walked: walked.clone(), content, answer }).is_err() {
                            return;
                        }
                        match first {
                            Some(first) => Slot::Link(walked, first, read),
                            None => Slot::Reading(walked, read),
                        }
                    }
                }
            }
        };
        if slots.send(slot).is_err() {
            return;
        }
    }
    let excluded = walk.excluded();
    let _ = slots.send(Slot::Excluded(excluded.total()));
}

/// Reads small files, links and metadata ahead of the ingest thread.
fn read_ahead(work: &Receiver<Work>, base: &Base, names: Names, namer: &BlobNamer) {
    let meta = MetaReader::new(base.clone(), names);
    while let Ok(Work { walked, content, answer }) = work.recv() {
        // Nobody listens once the run is given up.
        let _ = answer.send(read_one(&walked, content, base, &meta, namer));
    }
}

fn read_one(
    walked: &Walked,
    content: bool,
    base: &Base,
    meta: &MetaReader,
    namer: &BlobNamer,
) -> Read {
    if content && walked.kind == Kind::File {
        let mut bytes = Vec::new();
        return match read_small(base, walked, SMALL_FILE_MAX, &mut bytes) {
            Ok(Some(file)) => {
                let (meta, problems) = meta.read_open(walked, &file.stat, file.fd());
                let what = Ok(Found::File(Prepared::new(namer, bytes), file.changed.is_some()));
                Read { what, meta, problems }
            }
            Ok(None) => Read { what: Ok(Found::Grown), meta: meta.bare(walked), problems: vec![] },
            Err(error) => Read {
                what: Ok(Found::ReadError(error)),
                meta: meta.bare(walked),
                problems: vec![],
            },
        };
    }
    let (found, problems) = meta.read(walked);
    let device = walked.stat.device_numbers();
    let what = match walked.kind {
        Kind::Symlink => meta.link(walked).map(EntryKind::Symlink),
        Kind::Directory => Ok(EntryKind::Directory),
        Kind::CharDevice => Ok(EntryKind::CharDevice { major: device.0, minor: device.1 }),
        Kind::BlockDevice => Ok(EntryKind::BlockDevice { major: device.0, minor: device.1 }),
        Kind::Fifo => Ok(EntryKind::Fifo),
        // A file comes here as a further name of another: its kind is decided there.
        Kind::Socket | Kind::File => Ok(EntryKind::Socket),
    };
    Read { what: what.map(Found::Other), meta: found, problems }
}

/// The thread that everything passes in order.
struct Ingest<'a> {
    base: Base,
    meta: MetaReader,
    writer: &'a mut Writer,
    notes: &'a mut Notes,
    counters: &'a Counters,
    segments: Vec<SegmentId>,
    list: unchanged::Writer,
    tree: TreeWriter,
    buffer: Vec<u8>,
    now_s: i64,
}

impl Ingest<'_> {
    fn run(&mut self, slots: &Receiver<Slot>, stop: &Stop) -> Result<()> {
        while let Ok(slot) = slots.recv() {
            stop.check()?;
            match slot {
                Slot::Problem(problem) => self.problem(&problem),
                Slot::Seen(walked, seen) => self.seen(&walked, *seen)?,
                Slot::Large(walked) => self.large(&walked)?,
                Slot::Excluded(n) => Counters::add(&self.counters.excluded, n),
                Slot::Link(walked, first, read) => {
                    let read = read.recv().context("a reader ended before its time")?;
                    read.problems.iter().for_each(|p| self.problem(p));
                    let kind = EntryKind::HardLink(first.as_bytes().to_vec());
                    self.add(&walked, kind, read.meta, 0)?;
                }
                Slot::Reading(walked, read) => {
                    let read = read.recv().context("a reader ended before its time")?;
                    self.read(&walked, read)?;
                }
            }
        }
        Ok(())
    }

    /// An entry that is as the last run saw it: taken over, unless the vault lost what it needs, or is to drain it.
    fn seen(&mut self, walked: &Walked, seen: Seen) -> Result<()> {
        let packs = seen.packs(&self.segments, self.writer.known());
        if let Some(packs) = packs
            && self.writer.reuse(&packs)?
        {
            let entry = Entry { path: walked.path.clone(), kind: seen.kind, meta: seen.meta };
            self.tree.add(&entry, self.writer, self.counters)?;
            self.list.add_seen(walked, &entry, &packs, self.writer.known())?;
            if walked.kind == Kind::File {
                Counters::add(&self.counters.unchanged, 1);
            }
            return Ok(());
        }
        if walked.kind == Kind::File && walked.stat.size > SMALL_FILE_MAX as u64 {
            return self.large(walked);
        }
        let read = read_one(walked, true, &self.base, &self.meta, self.writer.namer());
        self.read(walked, read)
    }

    fn read(&mut self, walked: &Walked, read: Read) -> Result<()> {
        read.problems.iter().for_each(|p| self.problem(p));
        match read.what {
            Ok(Found::File(prepared, changed)) => {
                let before = self.writer.traced();
                Counters::add(&self.counters.bytes_read, prepared.size());
                let content = self.writer.add_prepared(&prepared)?;
                if changed {
                    self.changed(&walked.path);
                }
                let blobs = self.writer.traced() - before;
                self.add(walked, EntryKind::File(content), read.meta, blobs)
            }
            Ok(Found::Grown) => self.large(walked),
            Ok(Found::Other(kind)) => self.add(walked, kind, read.meta, 0),
            Ok(Found::ReadError(error)) => {
                self.read_error(&error);
                Ok(())
            }
            Err(problem) => {
                self.problem(&problem);
                Ok(())
            }
        }
    }

    /// Streams a file that is too large for the readers.
    fn large(&mut self, walked: &Walked) -> Result<()> {
        let mut file = match FileReader::open(&self.base, walked) {
            Ok(file) => file,
            Err(error) => {
                self.read_error(&error);
                return Ok(());
            }
        };
        let (meta, problems) = self.meta.read_open(walked, file.stat(), file.fd());
        problems.iter().for_each(|p| self.problem(p));
        let before = self.writer.traced();
        let mut content = ContentWriter::default();
        self.buffer.resize(READ_LEN, 0);
        loop {
            match file.next(&mut self.buffer) {
                Ok(Piece::Data(n)) => {
                    Counters::add(&self.counters.bytes_read, n as u64);
                    content.push(self.writer, &self.buffer[..n])?;
                }
                Ok(Piece::Hole(n)) => content.hole(self.writer, n)?,
                Ok(Piece::End) => break,
                Err(error) => {
                    self.read_error(&error);
                    return self.list.add_lost(walked, meta, self.writer.traced() - before);
                }
            }
        }
        match file.finish() {
            Ok(None) => {}
            Ok(Some(_)) => self.changed(&walked.path),
            Err(error) => self.read_error(&error),
        }
        let content = content.finish(self.writer)?;
        let blobs = self.writer.traced() - before;
        self.add(walked, EntryKind::File(content), meta, blobs)
    }

    fn add(&mut self, walked: &Walked, kind: EntryKind, meta: Metadata, blobs: u64) -> Result<()> {
        let entry = Entry { path: walked.path.clone(), kind, meta };
        self.tree.add(&entry, self.writer, self.counters)?;
        self.list.add_read(walked, &entry, blobs, self.now_s)
    }

    fn changed(&mut self, path: &TreePath) {
        let text = format!(
            "/{path}: it changed while it was read; what was read is kept, and may mix two states"
        );
        self.notes.add(Level::Warning, "changed", text);
    }

    fn read_error(&mut self, error: &ReadError) {
        let code = match error {
            ReadError::Vanished { .. } => "vanished",
            _ => "unreadable",
        };
        self.notes.add(Level::Warning, code, error.to_string());
    }

    fn problem(&mut self, problem: &Problem) {
        let (level, code) = match problem.kind {
            ProblemKind::RootMissing => (Level::Error, "source_missing"),
            ProblemKind::RootEmpty => (Level::Error, "source_empty"),
            ProblemKind::Vanished => (Level::Warning, "vanished"),
            ProblemKind::Denied | ProblemKind::Io | ProblemKind::TooDeep => {
                (Level::Warning, "unreadable")
            }
            ProblemKind::Xattrs => (Level::Warning, "attributes"),
            ProblemKind::RootIsLink => (Level::Warning, "source_is_link"),
            kind if kind.is_note() => (Level::Note, "note"),
            _ => (Level::Warning, "problem"),
        };
        self.notes.add(level, code, problem.to_string());
    }
}
