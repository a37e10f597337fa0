//! Restoring many files: the plan runs ahead of the fetching, the fetching ahead of the writing.
//!
//! ```text
//! entries ─▶ plan (batches of whole and part files) ─▶ fetch (few large requests) ─▶ write (several threads)
//! ```
//! At most three batches are held at once. What is wrong with one file never stops the others.

mod plan;
mod write;

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::error::Error;
use crate::read::fetch::Fetched;
use crate::read::{Selection, SnapshotReader, Task, blocking};
use crate::tree::{Entry, TreePath};

use plan::{Plan, Planner};
use write::Writing;

/// What a sink can fail with.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Why an entry could not be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It could not be read from the vault.
    #[error(transparent)]
    Vault(#[from] Error),
    /// The sink could not take it.
    #[error("{0}")]
    Sink(SinkError),
}

/// Where entries are restored to. Folders come before what lies in them, the first name of a file before its further
/// names; files come from several threads at once. Called where blocking is allowed, but for [`wants`](Self::wants).
pub trait RestoreSink: Send + Sync {
    /// Whether the data of a file is wanted at all; what isn't is not fetched. Must not take long.
    fn wants(&self, _file: &Entry) -> bool {
        true
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// Whatever the sink fails with; it is then told by [`failed`](Self::failed).
    fn dir(&self, entry: &Entry) -> Result<(), SinkError>;

    /// Begins a file; `None` if it takes no data after all.
    ///
    /// # Errors
    /// As [`dir`](Self::dir).
    fn file(&self, entry: &Entry) -> Result<Option<Box<dyn FileSink>>, SinkError>;

    /// Makes a link, device, pipe or socket. The first name of a hard link was finished before.
    ///
    /// # Errors
    /// As [`dir`](Self::dir).
    fn other(&self, entry: &Entry) -> Result<(), SinkError>;

    /// Is told of an entry (`None`: of entries that can't even be named) that can't be restored, or not whole.
    /// [`ControlFlow::Break`] ends the restore.
    fn failed(&self, path: Option<&TreePath>, failure: Failure) -> ControlFlow<()>;
}

/// Takes the data of one file, in order. Dropped unfinished, it takes away what was written: half a file must not look
/// like a whole one.
pub trait FileSink: Send {
    /// Takes `bytes` at `offset`.
    ///
    /// # Errors
    /// Whatever the sink fails with.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// Is told that `length` bytes at `offset` are a hole.
    ///
    /// # Errors
    /// Whatever the sink fails with.
    fn hole(&mut self, _offset: u64, _length: u64) -> Result<(), SinkError> {
        Ok(())
    }

    /// Ends the file, whose size and hash were found right.
    ///
    /// # Errors
    /// Whatever the sink fails with.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;
}

/// What came of a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries that were handed to the sink and taken.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Bytes of data in those files, holes left out.
    pub bytes: u64,
    /// Failures that were told to the sink.
    pub failed: u64,
    /// Whether the sink ended it before its end.
    pub stopped: bool,
}

/// Restores the selected entries to `sink`.
///
/// # Errors
/// What concerns the target and not single objects (it can't be reached, or refuses), or this host's threads. Everything
/// else is told to the sink and counted.
pub async fn restore(
    reader: &SnapshotReader,
    selection: Selection,
    sink: Arc<dyn RestoreSink>,
) -> Result<Restored, Error> {
    let threads = reader.settings().threads;
    let (plans, mut planned) = mpsc::channel::<Result<Plan, Error>>(1);
    let (batches, mut fetched) = mpsc::channel::<Result<(Plan, Fetched), Error>>(1);
    let planner = Planner::new(reader.clone(), selection, Arc::clone(&sink));
    let planning = Task::spawn(planner.run(plans));
    let reader = reader.clone();
    let fetching = Task::spawn(async move {
        while let Some(plan) = planned.recv().await {
            let batch = match plan {
                Ok(plan) => reader.fetch_wanted(&plan.wanted).await.map(|fetched| (plan, fetched)),
                Err(error) => Err(error),
            };
            let failed = batch.is_err();
            if batches.send(batch).await.is_err() || failed {
                break;
            }
        }
    });
    let mut writing = Writing::new(sink, threads);
    while let Some(batch) = fetched.recv().await {
        let (plan, fetched) = batch?;
        writing = blocking(move || writing.batch(plan, &fetched)).await?;
        if writing.restored().stopped {
            return Ok(writing.restored());
        }
    }
    planning.join().await?;
    fetching.join().await?;
    Ok(writing.restored())
}
