//! The last stage of a run: fills packs, sends them off, and indexes what was stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use serde_bytes::ByteBuf;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::ids::PackId;
use crate::index::{PackRow, SegmentBuilder};
use crate::limits::SEGMENT_BLOBS_MAX;
use crate::pack::PackBuilder;
use crate::store::ObjectKey;
use crate::write::RunContext;
use crate::write::copy::At;
use crate::write::journal::{Journal, Note};
use crate::write::pipeline::{Failure, Frame, Indexed, Progress, fail};

/// A segment is stored after so many packs, so that a host that is lost in a long run loses little.
const SEGMENT_PACKS: usize = 128;
pub(super) const SEGMENT_BLOBS: usize = SEGMENT_BLOBS_MAX / 4;
/// The stage that fills packs, sends them off, and indexes what was stored.
pub(super) struct Packer {
    context: RunContext,
    runtime: Handle,
    uploads: JoinSet<Result<Uploaded, Error>>,
    uploads_max: usize,
    spare_packs: Vec<Vec<u8>>,
    segment: SegmentBuilder,
    /// What became of the segment's packs at each copy.
    at_copies: Vec<(PackId, Vec<At>)>,
    journal: Journal,
    indexed: Sender<Indexed>,
    progress: Arc<Progress>,
}

struct Uploaded {
    note: Note,
    at_copies: Vec<At>,
    buffer: Option<Vec<u8>>,
}

impl Packer {
    /// Up to `uploads` packs are on their way at once.
    pub(super) fn new(
        context: RunContext,
        uploads: usize,
        journal: Journal,
        indexed: Sender<Indexed>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            context,
            runtime: Handle::current(),
            uploads: JoinSet::new(),
            uploads_max: uploads.max(1),
            spare_packs: Vec::new(),
            segment: SegmentBuilder::default(),
            at_copies: Vec::new(),
            journal,
            indexed,
            progress,
        }
    }

    pub(super) fn run(mut self, frames: Receiver<Frame>, failure: &Failure) {
        match self.pack(&frames) {
            Ok(()) => self.journal.remove(),
            Err(error) => {
                // In this order: whoever finds the queue closed looks for the reason.
                fail(failure, error);
                drop(frames);
                self.salvage();
            }
        }
    }

    /// After a failure, other packs may still be on their way. Those that arrive are noted, so that the next run uses
    /// them; else they would lie in the vault, locked, and nobody would know of them.
    fn salvage(&mut self) {
        while let Some(done) = self.runtime.block_on(self.uploads.join_next()) {
            if let Ok(Ok(uploaded)) = done
                && let Err(error) = self.journal.add(&uploaded.note)
            {
                tracing::warn!("a stored pack could not be noted: {error}");
            }
        }
    }

    fn pack(&mut self, frames: &Receiver<Frame>) -> Result<(), Error> {
        let mut pack = None;
        while let Ok(frame) = frames.recv() {
            let mut open = match pack.take() {
                Some(open) => open,
                None => self.open_pack()?,
            };
            open.add(frame.kind, &frame.data, frame.blobs)?;
            if open.is_full() {
                self.upload(open)?;
            } else {
                pack = Some(open);
            }
        }
        if let Some(open) = pack.filter(|open| !open.is_empty()) {
            self.upload(open)?;
        }
        while !self.uploads.is_empty() {
            self.await_upload()?;
        }
        self.store_segment()
    }

    fn open_pack(&mut self) -> Result<PackBuilder, Error> {
        let buffer = self.spare_packs.pop().unwrap_or_default();
        let context = &self.context;
        PackBuilder::new(context.vault, &context.run, &context.envelope, buffer)
    }

    fn upload(&mut self, pack: PackBuilder) -> Result<(), Error> {
        while self.uploads.len() >= self.uploads_max {
            self.await_upload()?;
        }
        let built = pack.finish()?;
        let context = self.context.clone();
        let upload = async move {
            let size = u32::try_from(built.bytes.len()).map_err(|e| Error::damaged("a pack", e))?;
            let body = Bytes::from(built.bytes);
            let (key, until) = (ObjectKey::pack(&built.id), context.retain_until);
            let copies = &context.copies;
            let copies = copies.iter().map(|copy| copy.put_pack(&built.id, body.clone(), until));
            let stored = context.store.put(&key, body.clone(), until);
            let (stored, at_copies) = futures::join!(stored, futures::future::join_all(copies));
            let stored = stored?;
            let row = PackRow {
                id: built.id,
                size,
                salt: built.salt,
                envelope: 0,
                version: stored.version,
                locked_until_s: stored.lock.map(|lock| lock.until.as_second()),
            };
            let envelope = ByteBuf::from(context.envelope.to_vec());
            let buffer = body.try_into_mut().ok().map(Vec::from);
            let recipients = context.recipients;
            let note = Note { row, envelope, recipients, frames: built.frames };
            Ok(Uploaded { note, at_copies, buffer })
        };
        self.uploads.spawn_on(upload, &self.runtime);
        Ok(())
    }

    fn await_upload(&mut self) -> Result<(), Error> {
        let Some(done) = self.runtime.block_on(self.uploads.join_next()) else { return Ok(()) };
        let Uploaded { note, at_copies, buffer } =
            done.map_err(|e| Error::Stopped(e.to_string()))??;
        self.spare_packs.extend(buffer);
        self.progress.packs_new.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes_stored.fetch_add(u64::from(note.row.size), Ordering::Relaxed);
        self.journal.add(&note)?;
        self.at_copies.push((note.row.id, at_copies));
        self.segment.add(note.row, &note.envelope, note.recipients, &note.frames);
        if self.segment.packs() >= SEGMENT_PACKS || self.segment.blobs() >= SEGMENT_BLOBS {
            self.store_segment()?;
        }
        Ok(())
    }

    fn store_segment(&mut self) -> Result<(), Error> {
        let segment = std::mem::take(&mut self.segment);
        let at_copies = std::mem::take(&mut self.at_copies);
        if segment.packs() == 0 {
            return Ok(());
        }
        let context = &self.context;
        let built = segment.finish(context.vault, &context.secret, &context.envelope)?;
        let (key, until) = (ObjectKey::segment(&built.id), context.retain_until);
        let body = Bytes::from(built.bytes.clone());
        let at = |n: usize| -> Vec<(PackId, At)> {
            at_copies.iter().filter_map(|(id, at)| Some((*id, at.get(n)?.clone()))).collect()
        };
        for (n, copy) in context.copies.iter().enumerate() {
            copy.owe(&built.id, &at(n), until);
        }
        let put = context.store.put(&key, body.clone(), until);
        let stored = self.runtime.block_on(put)?;
        self.progress.bytes_stored.fetch_add(built.bytes.len() as u64, Ordering::Relaxed);
        self.journal.clear()?;
        let put = context.copies.iter().enumerate().map(|(n, copy)| {
            let (id, body, at) = (built.id, body.clone(), at(n));
            async move { copy.put_segment(&id, body, until, &at).await }
        });
        let copies = self.runtime.block_on(futures::future::join_all(put));
        let lock = stored.lock.map(|l| l.until);
        let indexed = Indexed { built, version: stored.version, lock, copies };
        // Nobody listens any more if the run is being given up.
        let _ = self.indexed.send(indexed);
        Ok(())
    }
}
