//! Writing batches: folders first, then files on several threads, then links.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::content::Extent;
use crate::read::Piece;
use crate::read::content::HashCheck;
use crate::read::fetch::Fetched;
use crate::read::join::join;
use crate::read::restore::plan::{FilePart, PartEnd, Plan};
use crate::read::restore::{Failure, FileSink, RestoreSink, Restored, SinkError};
use crate::tree::{Entry, TreePath};

/// Writes one batch after the other.
pub(super) struct Writing {
    sink: Arc<dyn RestoreSink>,
    threads: usize,
    /// The file that goes on in the next batch; `None` also where it has failed or isn't wanted.
    open: Mutex<Option<OpenFile>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    entries: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicBool,
}

struct OpenFile {
    sink: Box<dyn FileSink>,
    check: HashCheck,
}

impl Writing {
    pub(super) fn new(sink: Arc<dyn RestoreSink>, threads: usize) -> Self {
        Self { sink, threads: threads.max(1), open: Mutex::default(), counts: Counts::default() }
    }

    pub(super) fn restored(&self) -> Restored {
        Restored {
            entries: self.counts.entries.load(Relaxed),
            files: self.counts.files.load(Relaxed),
            bytes: self.counts.bytes.load(Relaxed),
            failed: self.counts.failed.load(Relaxed),
            stopped: self.counts.stopped.load(Relaxed),
        }
    }

    /// Writes one batch, whose blobs were fetched.
    pub(super) fn batch(self, plan: Plan, fetched: &Fetched) -> Self {
        for (path, error) in plan.broken {
            self.failed(path.as_ref(), error.into());
        }
        for entry in &plan.dirs {
            self.made(entry, self.sink.dir(entry));
        }
        self.files(plan.files, fetched);
        for entry in &plan.others {
            self.made(entry, self.sink.other(entry));
        }
        self
    }

    fn failed(&self, path: Option<&TreePath>, failure: Failure) {
        self.counts.failed.fetch_add(1, Relaxed);
        if self.sink.failed(path, failure) == ControlFlow::Break(()) {
            self.counts.stopped.store(true, Relaxed);
        }
    }

    fn made(&self, entry: &Entry, made: Result<(), SinkError>) {
        match made {
            Ok(()) => {
                self.counts.entries.fetch_add(1, Relaxed);
            }
            Err(error) => self.failed(Some(&entry.path), Failure::Sink(error)),
        }
    }

    /// Shares the files among the threads.
    fn files(&self, parts: Vec<FilePart>, fetched: &Fetched) {
        let units: Vec<_> = units(parts).into_iter().map(Mutex::new).collect();
        let threads = self.threads.min(units.len());
        let take =
            |of: &Mutex<Option<OpenFile>>| of.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (next, before) = (AtomicUsize::new(0), Mutex::new(take(&self.open)));
        let work = || {
            while let Some(unit) = units.get(next.fetch_add(1, Relaxed)) {
                let unit =
                    std::mem::take(&mut *unit.lock().unwrap_or_else(PoisonError::into_inner));
                for part in unit {
                    if self.counts.stopped.load(Relaxed) {
                        return;
                    }
                    // Only the first part of a batch can go on from the one before, and only the last go on after it.
                    let open = if part.begin.is_none() { take(&before) } else { None };
                    if let Some(open) = self.part(part, open, fetched) {
                        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
                    }
                }
            }
        };
        match threads {
            0 => {}
            1 => work(),
            threads => std::thread::scope(|scope| {
                // Where no thread can be had, this one does it all.
                for n in 1..threads {
                    let name = format!("restore-{n}");
                    let _ = std::thread::Builder::new().name(name).spawn_scoped(scope, work);
                }
                work();
            }),
        }
    }

    /// Writes a part of a file; answers the file if it goes on.
    fn part(&self, part: FilePart, open: Option<OpenFile>, fetched: &Fetched) -> Option<OpenFile> {
        let FilePart { entry, begin, start, extents, end } = part;
        let begun = match begin {
            None => open,
            Some(check) => match self.sink.file(&entry) {
                Ok(sink) => sink.map(|sink| OpenFile { sink, check }),
                Err(error) => {
                    self.failed(Some(&entry.path), Failure::Sink(error));
                    None
                }
            },
        };
        let mut open = begun?;
        let written = self.write(&mut open, start, &extents, fetched).and_then(|()| match end {
            PartEnd::GoesOn => Ok(Some(open)),
            PartEnd::Broken(error) => Err(error.into()),
            PartEnd::Whole => {
                open.check.finish()?;
                open.sink.finish().map_err(Failure::Sink)?;
                self.counts.entries.fetch_add(1, Relaxed);
                self.counts.files.fetch_add(1, Relaxed);
                Ok(None)
            }
        });
        written.unwrap_or_else(|failure| {
            self.failed(Some(&entry.path), failure);
            None
        })
    }

    fn write(
        &self,
        open: &mut OpenFile,
        mut offset: u64,
        extents: &[Extent],
        fetched: &Fetched,
    ) -> Result<(), Failure> {
        join(extents.iter(), fetched, |piece| {
            match piece {
                Piece::Data(bytes) => {
                    open.check.update(&bytes);
                    open.sink.write_at(offset, &bytes).map_err(Failure::Sink)?;
                    offset += bytes.len() as u64;
                    self.counts.bytes.fetch_add(bytes.len() as u64, Relaxed);
                }
                Piece::Hole(length) => {
                    open.sink.hole(offset, length).map_err(Failure::Sink)?;
                    offset += length;
                }
            }
            Ok(())
        })
    }
}

/// Bytes after which another thread may go on in the same folder.
const UNIT_BYTES: u64 = 4 << 20;

/// What one thread does in one go: neighbours in one folder, since two threads that make files in it at once only wait
/// for each other.
fn units(parts: Vec<FilePart>) -> Vec<Vec<FilePart>> {
    let mut units: Vec<Vec<FilePart>> = Vec::new();
    let mut bytes = 0;
    for part in parts {
        let together = units.last().and_then(|unit| unit.last()).is_some_and(|last| {
            bytes < UNIT_BYTES && folder(&last.entry.path) == folder(&part.entry.path)
        });
        let more: u64 = part.extents.iter().filter_map(|e| e.blob().map(|_| e.length())).sum();
        match units.last_mut().filter(|_| together) {
            Some(unit) => {
                bytes += more;
                unit.push(part);
            }
            None => {
                bytes = more;
                units.push(vec![part]);
            }
        }
    }
    units
}

fn folder(path: &TreePath) -> &[u8] {
    let bytes = path.as_bytes();
    &bytes[..bytes.len() - path.name().len()]
}
