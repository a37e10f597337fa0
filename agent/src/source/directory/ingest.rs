//! The thread that everything passes in order: from what was read to blobs, the tree, and the next run's list.

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use keephold_files::read::ReadError;
use keephold_files::walk::Walked;
use keephold_files::{Kind, Problem, ProblemKind};
use keephold_vault::ids::SegmentId;
use keephold_vault::record::Level;
use keephold_vault::tree::{Entry, EntryKind, Metadata, TreePath};
use keephold_vault::write::{SmallFiles, SmallReads, Writer};

use super::large::Buffers;
use super::plan::{Planned, ReadBatch, is_large};
use super::read::{Found, Read, Reader};
use crate::notes::Notes;
use crate::source::{Counters, Stop, TreeWriter};
use crate::unchanged::{self, Seen};

/// What the thread holds.
pub(super) struct Ingest<'a> {
    pub(super) reader: Reader,
    pub(super) writer: &'a mut Writer,
    pub(super) notes: &'a mut Notes,
    pub(super) counters: &'a Counters,
    pub(super) stop: &'a Stop,
    pub(super) segments: Vec<SegmentId>,
    pub(super) list: unchanged::Writer,
    pub(super) tree: TreeWriter,
    pub(super) buffers: Buffers,
}

impl Ingest<'_> {
    /// Takes batch after batch.
    pub(super) fn run(&mut self, batches: &Receiver<Receiver<ReadBatch>>) -> Result<()> {
        while let Ok(batch) = batches.recv() {
            let batch = batch.recv().context("a reader ended before its time")?;
            let ReadBatch { steps, mut files } = batch;
            for step in steps {
                self.stop.check()?;
                match step {
                    Planned::Problem(problem) => self.problem(&problem),
                    Planned::Seen(walked, seen) => self.seen(&walked, *seen)?,
                    Planned::Large(walked) => self.large(&walked)?,
                    Planned::Excluded(n) => Counters::add(&self.counters.excluded, n),
                    Planned::Read(walked, Some(first), read) => {
                        read.problems.iter().for_each(|p| self.problem(p));
                        let kind = EntryKind::HardLink(first.as_bytes().to_vec());
                        self.add(&walked, kind, read.meta, 0)?;
                    }
                    Planned::Read(walked, None, read) => self.read(&walked, read, &mut files)?,
                }
            }
            self.writer.store_small(files)?;
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
        if is_large(walked) {
            return self.large(walked);
        }
        let mut files = SmallReads::default();
        let read = self.reader.entry(walked, true, &mut files);
        let mut files = files.name(self.writer.namer());
        self.read(walked, read, &mut files)?;
        Ok(self.writer.store_small(files)?)
    }

    fn read(&mut self, walked: &Walked, read: Read, files: &mut SmallFiles) -> Result<()> {
        read.problems.iter().for_each(|p| self.problem(p));
        match read.what {
            Ok(Found::File(file, changed)) => {
                let before = self.writer.noted();
                Counters::add(&self.counters.bytes_read, files.size(file));
                let content = self.writer.add_small(files, file)?;
                if changed {
                    self.changed(&walked.path);
                }
                let blobs = self.writer.noted() - before;
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

    pub(super) fn add(
        &mut self,
        walked: &Walked,
        kind: EntryKind,
        meta: Metadata,
        blobs: u64,
    ) -> Result<()> {
        let entry = Entry { path: walked.path.clone(), kind, meta };
        self.tree.add(&entry, self.writer, self.counters)?;
        self.list.add_read(walked, &entry, blobs, self.reader.age.now_s)
    }

    pub(super) fn changed(&mut self, path: &TreePath) {
        let text = format!(
            "/{path}: it changed while it was read; what was read is kept, and may mix two states"
        );
        self.notes.add(Level::Warning, "changed", text);
    }

    pub(super) fn read_error(&mut self, error: &ReadError) {
        let code = match error {
            ReadError::Vanished { .. } => "vanished",
            _ => "unreadable",
        };
        self.notes.add(Level::Warning, code, error.to_string());
    }

    pub(super) fn problem(&mut self, problem: &Problem) {
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
