//! Reading ahead of the thread that keeps the order: small files, links and metadata.

use crossbeam_channel::Receiver;
use keephold_files::meta::{MetaReader, Names};
use keephold_files::read::{ReadError, read_small};
use keephold_files::walk::Walked;
use keephold_files::{Base, FileOpener, Kind, Problem};
use keephold_vault::keys::BlobNamer;
use keephold_vault::limits::SMALL_FILE_MAX;
use keephold_vault::tree::{EntryKind, Metadata};
use keephold_vault::write::{Life, SmallFileNo, SmallReads, SpareBuffers};

use super::plan::{Batch, Planned, ReadBatch, Work};

/// What reading an entry gave.
pub(super) struct Read {
    pub(super) what: Result<Found, Box<Problem>>,
    pub(super) meta: Metadata,
    pub(super) problems: Vec<Problem>,
}

pub(super) enum Found {
    /// A small file, and whether it changed while it was read.
    File(SmallFileNo, bool),
    /// Too large for a reader after all: it has grown since the walk.
    Grown,
    Other(EntryKind),
    ReadError(ReadError),
}

/// Says of files how long they are expected to be needed, by when they last changed.
#[derive(Clone, Copy)]
pub(super) struct Age {
    /// When the run began, in seconds since 1970.
    pub(super) now_s: i64,
}

impl Age {
    pub(super) fn life(self, walked: &Walked) -> Life {
        Life::expected(walked.stat.mtime.seconds, self.now_s)
    }
}

/// Reads entries; each thread has one.
pub(super) struct Reader {
    pub(super) base: Base,
    opener: FileOpener,
    pub(super) meta: MetaReader,
    pub(super) age: Age,
    namer: BlobNamer,
}

impl Reader {
    pub(super) fn new(base: Base, names: Names, age: Age, namer: BlobNamer) -> Self {
        let meta = MetaReader::new(base.clone(), names);
        Self { meta, opener: FileOpener::new(base.clone()), base, age, namer }
    }

    /// Reads batch after batch.
    pub(super) fn run(&mut self, work: &Receiver<Work>, spare: &SpareBuffers) {
        while let Ok((batch, answer)) = work.recv() {
            // Nobody listens once the run is given up.
            let _ = answer.send(self.batch(batch, spare));
        }
    }

    fn batch(&mut self, batch: Batch, spare: &SpareBuffers) -> ReadBatch {
        let mut files = SmallReads::default();
        if batch.bytes > 0 {
            let mut buffer = spare.take();
            buffer.reserve(usize::try_from(batch.bytes).unwrap_or_default());
            files = SmallReads::new(buffer);
        }
        let read = |step| match step {
            Planned::Read(walked, first, ()) => {
                let read = self.entry(&walked, first.is_none(), &mut files);
                Planned::Read(walked, first, read)
            }
            Planned::Problem(problem) => Planned::Problem(problem),
            Planned::Seen(walked, seen) => Planned::Seen(walked, seen),
            Planned::Large(walked) => Planned::Large(walked),
            Planned::Excluded(n) => Planned::Excluded(n),
        };
        let steps = batch.steps.into_iter().map(read).collect();
        ReadBatch { steps, files: files.name(&self.namer) }
    }

    /// Reads an entry; a small file's `content`, too, if it is wanted.
    pub(super) fn entry(&mut self, walked: &Walked, content: bool, files: &mut SmallReads) -> Read {
        if content && walked.kind == Kind::File {
            return self.file(walked, files);
        }
        let (found, problems) = self.meta.read(walked);
        let device = walked.stat.device_numbers();
        let what = match walked.kind {
            Kind::Symlink => self.meta.link(walked).map(EntryKind::Symlink),
            Kind::Directory => Ok(EntryKind::Directory),
            Kind::CharDevice => Ok(EntryKind::CharDevice { major: device.0, minor: device.1 }),
            Kind::BlockDevice => Ok(EntryKind::BlockDevice { major: device.0, minor: device.1 }),
            Kind::Fifo => Ok(EntryKind::Fifo),
            // A file comes here as a further name of another: its kind is decided there.
            Kind::Socket | Kind::File => Ok(EntryKind::Socket),
        };
        Read { what: what.map(Found::Other), meta: found, problems }
    }

    fn file(&mut self, walked: &Walked, files: &mut SmallReads) -> Read {
        match read_small(&mut self.opener, walked, SMALL_FILE_MAX, files.buffer()) {
            Ok(Some(file)) => {
                let (meta, problems) = self.meta.read_open(walked, &file.stat, file.fd());
                let number = files.end(self.age.life(walked));
                Read { what: Ok(Found::File(number, file.changed.is_some())), meta, problems }
            }
            Ok(None) => self.bare(walked, Found::Grown),
            Err(error) => self.bare(walked, Found::ReadError(error)),
        }
    }

    fn bare(&self, walked: &Walked, found: Found) -> Read {
        Read { what: Ok(found), meta: self.meta.bare(walked), problems: Vec::new() }
    }
}
