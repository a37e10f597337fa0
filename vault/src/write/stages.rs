//! What runs on the pipeline's threads, and how a stage that fails ends the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Error;
use crate::frame::{Compressor, Encoded};
use crate::ids::BlobId;
use crate::pack::BlobKind;
use crate::write::life::Life;

/// A frame on its way to the compressors, and from them, encoded, to the packer.
pub(super) struct Frame<Data> {
    /// In which order it was sent.
    pub(super) number: u64,
    pub(super) kind: BlobKind,
    pub(super) life: Life,
    pub(super) data: Data,
    pub(super) blobs: Vec<(BlobId, u32)>,
}

/// What several hands have worked on, in the order in which it was handed out: where neighbours are read together they
/// should lie beside each other, and what lies where should not be chance.
pub(super) struct InOrder<T> {
    next: u64,
    early: BTreeMap<u64, T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { next: 0, early: BTreeMap::new() }
    }
}

impl<T> InOrder<T> {
    /// Takes one that is done.
    pub(super) fn done(&mut self, number: u64, what: T) {
        self.early.insert(number, what);
    }

    /// The next one, if it is done.
    pub(super) fn next(&mut self) -> Option<T> {
        let next = self.early.remove(&self.next)?;
        self.next += 1;
        Some(next)
    }

    /// Those that wait for one that isn't done, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.early.values()
    }

    /// The first of those, although what comes before it isn't done, and never will be.
    pub(super) fn skip_to(&mut self) -> Option<T> {
        self.early.pop_first().map(|(_, what)| what)
    }
}

/// Buffers of frames that are done with, for whoever reads or compresses next.
#[derive(Debug, Clone)]
pub struct SpareBuffers {
    give: Sender<Vec<u8>>,
    take: Receiver<Vec<u8>>,
}

impl SpareBuffers {
    /// Keeps at most `most` of them.
    pub(super) fn new(most: usize) -> Self {
        let (give, take) = bounded(most);
        Self { give, take }
    }

    /// One of them, of which only the room is to be used; a new one while there is none.
    pub fn take(&self) -> Vec<u8> {
        self.take.try_recv().unwrap_or_default()
    }

    /// Keeps a buffer's room, unless there is enough.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() > 0 {
            let _ = self.give.try_send(buffer);
        }
    }
}

/// The first failure of any stage: what the run fails with.
pub(super) type Failure = Arc<Mutex<Option<Error>>>;

/// Starts a stage's thread.
pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    #[cfg(test)]
    let body = crate::simulation::inherited(body);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(Error::local("starting a thread"))
}

/// Runs a stage; the first stage that fails says why for all.
pub(super) fn guard(failure: &Failure, stage: impl FnOnce() -> Result<(), Error>) {
    if let Err(error) = stage() {
        fail(failure, error);
    }
}

/// Notes a failure, unless there was one before.
pub(super) fn fail(failure: &Failure, error: Error) {
    let mut first = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    first.get_or_insert(error);
}

/// The stage that compresses; gives buffers back that it has done with.
pub(super) fn compress_frames(
    level: i32,
    input: &Receiver<Frame<Vec<u8>>>,
    output: &Sender<Frame<Encoded>>,
    spare: &SpareBuffers,
) -> Result<(), Error> {
    let mut compressor = Compressor::new(level)?;
    while let Ok(Frame { number, kind, life, data, blobs }) = input.recv() {
        let (data, raw) = compressor.encode(data)?;
        if let Some(raw) = raw {
            spare.give(raw);
        }
        if output.send(Frame { number, kind, life, data, blobs }).is_err() {
            // The packer has failed, and says why.
            break;
        }
    }
    Ok(())
}
