//! From the vault's reader to a directory.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use keephold_cli::human;
use keephold_files::restore::{Created, FileSink as TargetFile, Placed, RestoreError, Target};
use keephold_vault::read::restore::{Failure, FileSink, RestoreSink, SinkError};
use keephold_vault::tree::{Entry, TreePath};

use super::TOLD_MAX;
use crate::watching::Watching;

/// Restores below a directory.
pub(super) struct TargetSink {
    target: Target,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    files: AtomicU64,
    kept: AtomicU64,
    failed: AtomicU64,
}

struct File {
    file: TargetFile,
    counters: Arc<Counters>,
}

impl TargetSink {
    pub(super) fn new(target: Target) -> Self {
        Self { target, counters: Arc::default() }
    }

    /// How many entries were left as they are.
    pub(super) fn kept(&self) -> u64 {
        self.counters.kept.load(Relaxed)
    }

    /// Shows how far it is, of `total` bytes if that is known.
    pub(super) fn watch(&self, total: Option<u64>, shown: bool) -> Watching {
        let counters = Arc::clone(&self.counters);
        Watching::start(shown, total, move |bar| {
            let (bytes, files) = (counters.bytes.load(Relaxed), counters.files.load(Relaxed));
            bar.set_position(bytes);
            bar.set_message(format!("{}, {}", human::count(files, "file"), human::bytes(bytes)));
        })
    }

    fn placed(&self, placed: Result<Placed, RestoreError>) -> Result<(), SinkError> {
        if placed? == Placed::Kept {
            self.counters.kept.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}

impl RestoreSink for TargetSink {
    fn dir(&self, entry: &Entry) -> Result<(), SinkError> {
        // A folder that was there is entered, not kept.
        self.target.dir(entry)?;
        Ok(())
    }

    fn file(&self, entry: &Entry) -> Result<Option<Box<dyn FileSink>>, SinkError> {
        match self.target.create_file(entry)? {
            Created::Sink(file) => {
                Ok(Some(Box::new(File { file, counters: Arc::clone(&self.counters) })))
            }
            Created::Kept => Ok(None),
        }
    }

    fn other(&self, entry: &Entry) -> Result<(), SinkError> {
        self.placed(self.target.place(entry))
    }

    fn failed(&self, path: Option<&TreePath>, failure: Failure) -> ControlFlow<()> {
        let told = self.counters.failed.fetch_add(1, Relaxed);
        if told < TOLD_MAX as u64 {
            match &failure {
                // These name the path themselves.
                Failure::Sink(error) => tracing::error!("{error}"),
                other => tracing::error!("{} can't be restored: {other}", super::shown(path)),
            }
        } else if told == TOLD_MAX as u64 {
            tracing::error!("… and more; their number stands at the end");
        }
        // Every other file would meet the same.
        if ends_all(&failure) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn ends_all(failure: &Failure) -> bool {
    let Failure::Sink(error) = failure else { return false };
    let Some(RestoreError::Io { error, .. }) = error.downcast_ref() else { return false };
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
    )
}

impl FileSink for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.file.write_at(offset, bytes)?;
        self.counters.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        self.file.finish()?;
        self.counters.files.fetch_add(1, Relaxed);
        Ok(())
    }
}
