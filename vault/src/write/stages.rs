//! What runs on the pipeline's threads, and how a stage that fails ends the run.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::error::Error;
use crate::frame::Compressor;
use crate::ids::BlobId;
use crate::pack::BlobKind;
use crate::write::life::Life;

/// A frame on its way to the compressors, and from them to the packer.
pub(super) struct Frame {
    pub(super) kind: BlobKind,
    pub(super) life: Life,
    pub(super) data: Vec<u8>,
    pub(super) blobs: Vec<(BlobId, u32)>,
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
    input: &Receiver<Frame>,
    output: &Sender<Frame>,
    spare: &Sender<Vec<u8>>,
) -> Result<(), Error> {
    let mut compressor = Compressor::new(level)?;
    while let Ok(mut frame) = input.recv() {
        let mut compressed = Vec::new();
        compressor.compress(&frame.data, &mut compressed)?;
        frame.data.clear();
        let raw = std::mem::replace(&mut frame.data, compressed);
        let _ = spare.try_send(raw);
        if output.send(frame).is_err() {
            // The packer has failed, and says why.
            break;
        }
    }
    Ok(())
}
