//! From the vault's restore engine to files on the scratch file system.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use keephold_files::restore::{Created, FileSink as File, RestoreError, Target};
use keephold_vault::read::restore::{Failure, FileSink, RestoreSink, SinkError};
use keephold_vault::tree::{Entry, TreePath};

use super::DIFFERENCES_MAX;
use crate::stop::Stop;

/// Restores below a target; remembers what could not be.
pub(super) struct Sink {
    pub(super) target: Target,
    pub(super) stop: Stop,
    failures: Mutex<Failures>,
}

/// What could not be restored.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
    /// The scratch file system is full: that says nothing about the backup.
    pub(super) full: Option<String>,
}

impl Sink {
    pub(super) fn new(target: Target, stop: Stop) -> Self {
        Self { target, stop, failures: Mutex::default() }
    }

    pub(super) fn failures(&self) -> Failures {
        std::mem::take(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn go_on(&self) -> Result<(), SinkError> {
        Ok(self.stop.check()?)
    }
}

impl RestoreSink for Sink {
    fn dir(&self, entry: &Entry) -> Result<(), SinkError> {
        self.go_on()?;
        self.target.dir(entry)?;
        Ok(())
    }

    fn file(&self, entry: &Entry) -> Result<Option<Box<dyn FileSink>>, SinkError> {
        self.go_on()?;
        Ok(match self.target.create_file(entry)? {
            Created::Sink(file) => Some(Box::new(Writing(file))),
            Created::Kept => None,
        })
    }

    fn other(&self, entry: &Entry) -> Result<(), SinkError> {
        self.go_on()?;
        self.target.place(entry)?;
        Ok(())
    }

    fn failed(&self, path: Option<&TreePath>, failure: Failure) -> ControlFlow<()> {
        if self.stop.is_set() {
            return ControlFlow::Break(());
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        let text = match path {
            Some(path) => format!("{path}: {failure}"),
            None => failure.to_string(),
        };
        if is_full(&failure) {
            failures.full = Some(text);
            return ControlFlow::Break(());
        }
        if failures.first.len() < DIFFERENCES_MAX {
            failures.first.push(text);
        }
        ControlFlow::Continue(())
    }
}

fn is_full(failure: &Failure) -> bool {
    let Failure::Sink(error) = failure else { return false };
    let Some(RestoreError::Io { error, .. }) = error.downcast_ref() else { return false };
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

struct Writing(File);

impl FileSink for Writing {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        Ok(self.0.write_at(offset, bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(self.0.finish()?)
    }
}
