//! The last stage of a run: fills packs, sends them off, and indexes what was stored.
//!
//! Nodes and lists go into packs of their own, which a small segment of their own describes, stored after those of the
//! data: so whoever looks one path up in a large snapshot finds the way down in one read, and only then searches large
//! segments for the file's blobs. A run of few blobs, whose segment is read in one piece anyway, has them beside its data.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use serde_bytes::ByteBuf;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::frame::Encoded;
use crate::ids::PackId;
use crate::index::{PackRow, SegmentBuilder};
use crate::limits::{SEGMENT_BLOBS_MAX, SEGMENT_PACKS, SEGMENT_SHARE};
use crate::pack::{BlobKind, PACK_BLOBS, PackBuilder};
use crate::store::ObjectKey;
use crate::write::RunContext;
use crate::write::copy::At;
use crate::write::journal::{Journal, Note};
use crate::write::lanes::Lanes;
use crate::write::life::Life;
use crate::write::pipeline::Indexed;
use crate::write::stages::{Failure, Frame, InOrder, SpareBuffers, fail};
use crate::write::written::Progress;

/// And after so many blobs, however few packs that are.
pub(super) const SEGMENT_BLOBS: usize = SEGMENT_BLOBS_MAX / 4;
/// Nodes and lists are described together with data where all of it makes at most so many blobs: a segment that is
/// read in one piece anyway.
const SMALL_SEGMENT_BLOBS: usize = 1 << 15;
/// A pack of nodes and lists is closed once its frames reach this many bytes. Less than a pack of data, since it is
/// held beside one.
const NODES_TARGET: usize = 4 << 20;
/// Data of one expected life gets a pack of its own once there are so many bytes or blobs of it. Less is better off in one
/// pack with the rest: a further object costs a request for each lock, and what it holds too long isn't much.
const APART_MIN: usize = 4 << 20;
const APART_BLOBS: usize = PACK_BLOBS / 4;

/// The stage that fills packs, sends them off, and indexes what was stored.
pub(super) struct Packer {
    context: RunContext,
    runtime: Handle,
    uploads: JoinSet<Result<Uploaded, Error>>,
    lanes: Lanes,
    spare: SpareBuffers,
    spare_packs: Vec<Vec<u8>>,
    /// How many packs are being filled.
    open: usize,
    segment: SegmentBuilder,
    /// Frames of nodes and lists that wait for a pack.
    nodes: Vec<Frame<Encoded>>,
    /// Packs of such frames that no segment describes yet, and what became of each at each copy.
    node_packs: Vec<(Note, Vec<At>)>,
    /// What became of the segment's packs at each copy.
    at_copies: Vec<(PackId, Vec<At>)>,
    /// How many packs were sent off.
    sent: u64,
    /// Packs that have arrived, on their way into the index.
    arrived: InOrder<Uploaded>,
    journal: Journal,
    indexed: Sender<Indexed>,
    progress: Arc<Progress>,
}

/// Data of one expected life, on its way into a pack.
#[derive(Default)]
struct Filling {
    pack: Option<PackBuilder>,
    /// What waits until there is enough for a pack of its own; at the end of a run it joins another.
    waiting: Vec<Frame<Encoded>>,
}

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    /// Data; in a small run everything.
    Data,
    /// Nodes and lists alone.
    Nodes,
}

struct Uploaded {
    number: u64,
    shelf: Shelf,
    note: Note,
    at_copies: Vec<At>,
    buffer: Option<Vec<u8>>,
}

fn length(frames: &[Frame<Encoded>]) -> usize {
    frames.iter().map(|frame| frame.data.len()).sum()
}

fn blobs(frames: &[Frame<Encoded>]) -> usize {
    frames.iter().map(|frame| frame.blobs.len()).sum()
}

/// Frames in the order in which they were sent. Once a compressor has failed there are gaps; what comes after them is of use
/// to the next run.
fn in_order(frames: &Receiver<Frame<Encoded>>) -> impl Iterator<Item = Frame<Encoded>> {
    let mut compressed = InOrder::default();
    std::iter::from_fn(move || {
        loop {
            if let Some(frame) = compressed.next() {
                return Some(frame);
            }
            match frames.recv() {
                Ok(frame) => compressed.done(frame.number, frame),
                Err(_) => return compressed.skip_to(),
            }
        }
    })
}

impl Packer {
    /// At most `uploads` packs are on their way at once.
    pub(super) fn new(
        context: RunContext,
        uploads: usize,
        journal: Journal,
        indexed: Sender<Indexed>,
        progress: Arc<Progress>,
        spare: SpareBuffers,
    ) -> Self {
        Self {
            context,
            runtime: Handle::current(),
            uploads: JoinSet::new(),
            lanes: Lanes::new(uploads),
            spare,
            spare_packs: Vec::new(),
            open: 0,
            segment: SegmentBuilder::default(),
            nodes: Vec::new(),
            node_packs: Vec::new(),
            at_copies: Vec::new(),
            sent: 0,
            arrived: InOrder::default(),
            journal,
            indexed,
            progress,
        }
    }

    pub(super) fn run(mut self, frames: Receiver<Frame<Encoded>>, failure: &Failure) {
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

    fn pack(&mut self, frames: &Receiver<Frame<Encoded>>) -> Result<(), Error> {
        let mut fillings: [Filling; Life::ALL.len()] = Default::default();
        let (mut all, mut nodes_sent) = (0, false);
        for mut frame in in_order(frames) {
            all += frame.blobs.len();
            if frame.kind != BlobKind::Data {
                frame.data.shrink_to_fit();
                self.nodes.push(frame);
                if length(&self.nodes) >= NODES_TARGET {
                    self.upload_nodes()?;
                    nodes_sent = true;
                }
                continue;
            }
            self.fill(&mut fillings[frame.life as usize], frame)?;
        }
        let small = all <= SMALL_SEGMENT_BLOBS;
        let nodes = if small && !nodes_sent { std::mem::take(&mut self.nodes) } else { Vec::new() };
        self.finish_packs(fillings, nodes)?;
        if !self.nodes.is_empty() {
            self.upload_nodes()?;
        }
        while !self.uploads.is_empty() {
            self.await_upload()?;
        }
        if !small {
            self.store_segment()?;
        }
        self.store_nodes_segment()
    }

    /// Puts a frame of data to those of its life.
    fn fill(&mut self, filling: &mut Filling, mut frame: Frame<Encoded>) -> Result<(), Error> {
        if filling.pack.is_none() {
            // What doesn't shrink lies in the buffer that it was gathered in, which may be longer: too much while it waits.
            frame.data.shrink_to_fit();
        }
        filling.waiting.push(frame);
        let enough =
            length(&filling.waiting) >= APART_MIN || blobs(&filling.waiting) >= APART_BLOBS;
        if filling.pack.is_some() || enough {
            for frame in std::mem::take(&mut filling.waiting) {
                self.add(&mut filling.pack, frame)?;
            }
        }
        Ok(())
    }

    /// Adds a frame of data to a pack, which is begun before and sent off afterwards if it is time.
    fn add(&mut self, pack: &mut Option<PackBuilder>, frame: Frame<Encoded>) -> Result<(), Error> {
        let mut open = match pack.take() {
            Some(open) => open,
            None => self.open_pack()?,
        };
        open.add(frame.kind, &frame.data.parts(), frame.blobs)?;
        if let Some(raw) = frame.data.into_raw() {
            self.spare.give(raw);
        }
        if open.is_full() {
            self.upload(open, Shelf::Data)?;
        } else {
            *pack = Some(open);
        }
        Ok(())
    }

    /// Sends off the last packs of data. What isn't enough for a pack of its own joins another, whatever its life, and so
    /// do the nodes of a small run.
    fn finish_packs(
        &mut self,
        fillings: [Filling; Life::ALL.len()],
        nodes: Vec<Frame<Encoded>>,
    ) -> Result<(), Error> {
        let mut joint = None;
        let mut left = Vec::new();
        for Filling { pack, waiting } in fillings {
            left.extend(waiting);
            if let Some(whole) = pack.and_then(|pack| joint.replace(pack)) {
                self.upload(whole, Shelf::Data)?;
            }
        }
        for frame in left.into_iter().chain(nodes) {
            self.add(&mut joint, frame)?;
        }
        joint.map_or(Ok(()), |pack| self.upload(pack, Shelf::Data))
    }

    fn upload_nodes(&mut self) -> Result<(), Error> {
        let mut pack = self.open_pack()?;
        for frame in self.nodes.drain(..) {
            pack.add(frame.kind, &frame.data.parts(), frame.blobs)?;
        }
        self.upload(pack, Shelf::Nodes)
    }

    fn open_pack(&mut self) -> Result<PackBuilder, Error> {
        self.open += 1;
        let buffer = self.spare_packs.pop().unwrap_or_default();
        let context = &self.context;
        PackBuilder::new(context.vault, &context.run, &context.envelope, buffer)
    }

    fn upload(&mut self, pack: PackBuilder, shelf: Shelf) -> Result<(), Error> {
        // Another that is being filled takes as much memory as one that is on its way.
        self.open -= 1;
        while !self.uploads.is_empty() && self.uploads.len() + self.open >= self.lanes.allowed() {
            self.lanes.wait();
            self.await_upload()?;
        }
        let built = pack.finish()?;
        let context = self.context.clone();
        let number = self.sent;
        self.sent += 1;
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
            Ok(Uploaded { number, shelf, note, at_copies, buffer })
        };
        self.uploads.spawn_on(upload, &self.runtime);
        Ok(())
    }

    fn await_upload(&mut self) -> Result<(), Error> {
        let Some(done) = self.runtime.block_on(self.uploads.join_next()) else { return Ok(()) };
        let mut arrived = done.map_err(|e| Error::Stopped(e.to_string()))??;
        let (buffer, size) = (arrived.buffer.take(), u64::from(arrived.note.row.size));
        self.lanes.arrived(size, Instant::now());
        // One at a time is needed again; more are what fewer lanes no longer take, or a second pack that is open.
        if self.spare_packs.is_empty() && self.open < 2 {
            self.spare_packs.extend(buffer);
        }
        self.progress.packs_new.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes_stored.fetch_add(size, Ordering::Relaxed);
        self.journal.add(&arrived.note)?;
        self.arrived.done(arrived.number, arrived);
        while let Some(next) = self.arrived.next() {
            self.index(next)?;
        }
        Ok(())
    }

    /// Describes a pack in a segment, which is stored if it is time.
    fn index(&mut self, Uploaded { shelf, note, at_copies, .. }: Uploaded) -> Result<(), Error> {
        if shelf == Shelf::Nodes {
            self.node_packs.push((note, at_copies));
            if self.node_packs.len() >= SEGMENT_PACKS {
                self.store_segment()?;
                self.store_nodes_segment()?;
            }
            return Ok(());
        }
        self.at_copies.push((note.row.id, at_copies));
        self.segment.add(note.row, &note.envelope, note.recipients, &note.frames);
        let stored = self.progress.packs_new.load(Ordering::Relaxed);
        let enough =
            SEGMENT_PACKS.max(usize::try_from(stored / SEGMENT_SHARE).unwrap_or(usize::MAX));
        if self.segment.packs() >= enough || self.segment.blobs() >= SEGMENT_BLOBS {
            self.store_segment()?;
        }
        Ok(())
    }

    /// Stores a segment of the packs of data so far.
    fn store_segment(&mut self) -> Result<(), Error> {
        let segment = std::mem::take(&mut self.segment);
        let at_copies = std::mem::take(&mut self.at_copies);
        if segment.packs() == 0 {
            return Ok(());
        }
        let context = &self.context;
        let built = segment.finish(context.vault, &context.secret, &context.envelope)?;
        let (key, until) = (ObjectKey::segment(&built.id), context.retain_until);
        let body = built.bytes.clone();
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
        let waiting = self.arrived.waiting().map(|arrived| &arrived.note);
        for note in self.node_packs.iter().map(|(note, _)| note).chain(waiting) {
            self.journal.add(note)?;
        }
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

    /// Stores a segment of the packs of nodes and lists so far, and of packs of data that are not in one yet.
    fn store_nodes_segment(&mut self) -> Result<(), Error> {
        for (note, at_copies) in std::mem::take(&mut self.node_packs) {
            self.at_copies.push((note.row.id, at_copies));
            self.segment.add(note.row, &note.envelope, note.recipients, &note.frames);
        }
        self.store_segment()
    }
}
