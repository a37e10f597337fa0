//! The stages from blobs to stored, indexed packs.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;

use crate::chunk::{ChunkBounds, Chunker};
use crate::error::Error;
use crate::ids::{BlobId, SegmentId};
use crate::index::BuiltSegment;
use crate::keys::BlobNamer;
use crate::limits::{BLOB_LEN_MAX, FRAME_RAW_MAX, SEGMENT_BLOBS_MAX};
use crate::pack::{BlobKind, PACK_BLOBS};
use crate::record::PackSet;
use crate::store::VersionId;
use crate::write::content::length_of;
use crate::write::group::Group;
use crate::write::journal::Journal;
use crate::write::known::{CopyMemo, Known, Lookup, PackHandle};
use crate::write::packer::{Packer, SEGMENT_BLOBS};
use crate::write::places::{PlaceNotes, ToldNo};
use crate::write::recover::recover;
use crate::write::stages::{Failure, Frame, SpareBuffers, compress_frames, guard, spawn};
use crate::write::written::{Progress, Written};
use crate::write::{RunContext, Settings};

/// A frame is closed after so many blobs, however small they are: else a pack of tiny files could hold more than a
/// segment may describe.
pub(super) const FRAME_BLOBS: usize = 1 << 14;
const _: () = assert!(SEGMENT_BLOBS + PACK_BLOBS + FRAME_BLOBS <= SEGMENT_BLOBS_MAX);

/// A frame that is being filled.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) data: Vec<u8>,
    pub(super) blobs: Vec<(BlobId, u32)>,
}

/// A segment that was stored while the run goes on.
pub(super) struct Indexed {
    pub(super) built: BuiltSegment,
    pub(super) version: Option<VersionId>,
    pub(super) lock: Option<Timestamp>,
    /// What each copy has of it.
    pub(super) copies: Vec<Option<CopyMemo>>,
}

/// Where a blob is that a run would refer to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    /// On its way: this run stores it.
    Own,
    /// Wherever it was found, if it was.
    Before(Lookup),
}

/// The entrance of the pipeline. One thread feeds it, in the order in which blobs should lie beside each other.
pub struct Writer {
    namer: BlobNamer,
    chunker: Chunker,
    known: Known,
    /// Blobs of this run that no stored segment describes yet, each with its number among the places.
    pending: HashMap<BlobId, Option<ToldNo>>,
    drafts: [Draft; Group::ALL.len()],
    frames: Option<Sender<Frame<Vec<u8>>>>,
    pub(super) spare: SpareBuffers,
    indexed: Receiver<Indexed>,
    own: HashSet<SegmentId>,
    threads: Vec<JoinHandle<()>>,
    failure: Failure,
    progress: Arc<Progress>,
    places: Option<PlaceNotes>,
    /// How many frames were sent to the compressors.
    sent: u64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} threads)", self.threads.len())
    }
}

impl Writer {
    /// Starts the stages. First, packs that an interrupted run left without an index get one.
    ///
    /// # Errors
    /// [`Error`] if that fails, or threads can't be started.
    pub async fn start(
        mut context: RunContext,
        settings: &Settings,
        bounds: ChunkBounds,
        mut known: Known,
    ) -> Result<Self, Error> {
        context.copies = known.copies();
        recover(&context, &mut known).await?;
        let journal = Journal::create(&known.journal_dir())?;
        let failure = Failure::default();
        let progress = Arc::new(Progress::default());
        let threads_n = settings.threads.max(1);
        let (frames_in, frames_out) = bounded(threads_n);
        let (packed_in, packed_out) = bounded(threads_n * 2);
        let spare = SpareBuffers::new(threads_n * 3);
        // Segments are rare; the queue is long enough never to stop the packer.
        let (indexed_in, indexed_out) = crossbeam_channel::unbounded();
        let mut threads = Vec::new();
        for n in 0..threads_n {
            let (input, output, spare) = (frames_out.clone(), packed_in.clone(), spare.clone());
            let (failure, level) = (failure.clone(), settings.level);
            let body = move || guard(&failure, || compress_frames(level, &input, &output, &spare));
            threads.push(spawn(&format!("compress-{n}"), body)?);
        }
        drop(packed_in);
        let packer = Packer::new(
            context.clone(),
            settings.uploads,
            journal,
            indexed_in,
            progress.clone(),
            spare.clone(),
        );
        let failed = failure.clone();
        threads.push(spawn("pack", move || packer.run(packed_out, &failed))?);
        Ok(Self {
            namer: context.secret.blob_namer(),
            chunker: Chunker::new(&context.secret, bounds),
            known,
            pending: HashMap::new(),
            drafts: Default::default(),
            frames: Some(frames_in),
            spare,
            indexed: indexed_out,
            own: HashSet::new(),
            threads,
            failure,
            progress,
            places: None,
            sent: 0,
        })
    }

    /// From now on, notes where each blob of a content and of its lists lies, also of those that the vault holds
    /// already: what a cache of unchanged files needs to know, without anyone holding it in memory. [`Written`] has it.
    ///
    /// # Errors
    /// [`Error::Local`] if the file at `path`, where that is kept meanwhile, can't be made.
    pub fn note_places(&mut self, path: &Path) -> Result<(), Error> {
        self.places = Some(PlaceNotes::create(path)?);
        Ok(())
    }

    /// Of how many blobs that was noted so far.
    pub fn noted(&self) -> u64 {
        self.places.as_ref().map_or(0, PlaceNotes::told)
    }

    /// The chunker of this vault.
    pub fn chunker(&self) -> &Chunker {
        &self.chunker
    }

    /// Names blobs as this vault does.
    pub fn namer(&self) -> &BlobNamer {
        &self.namer
    }

    /// What was done so far.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// What the vault holds already.
    pub fn known(&mut self) -> &mut Known {
        &mut self.known
    }

    /// Stores a blob unless the vault holds it; answers its id. How long data will be needed is taken for unknown.
    ///
    /// # Errors
    /// The first failure of any stage.
    pub fn add(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<BlobId, Error> {
        self.add_to(Group::of(kind, bytes), bytes)
    }

    /// As [`add`](Self::add), where it is known what the blob lies beside.
    ///
    /// # Errors
    /// The first failure of any stage.
    pub(super) fn add_to(&mut self, group: Group, bytes: &[u8]) -> Result<BlobId, Error> {
        let id = self.namer.name(group.kind(), bytes);
        if self.lacks(group, &id, length_of(bytes))? {
            self.put(group, id, bytes)?;
        }
        Ok(id)
    }

    /// Closes the frame of a group, if anything is in it: what comes next isn't read together with what came before.
    ///
    /// # Errors
    /// The first failure of any stage.
    pub(super) fn end_frame(&mut self, group: Group) -> Result<(), Error> {
        if self.draft(group).blobs.is_empty() {
            return Ok(());
        }
        self.send(group)
    }

    /// Whether a blob that the snapshot needs is to be stored: then it must be [put](Self::put) next.
    pub(super) fn lacks(&mut self, group: Group, id: &BlobId, length: u32) -> Result<bool, Error> {
        self.take_indexed()?;
        let mut places = self.places.as_mut().filter(|_| group.kind() != BlobKind::Tree);
        if let Some(number) = self.pending.get(id) {
            if let (Some(places), Some(number)) = (places, number) {
                places.again(*number, length)?;
            }
            return Ok(false);
        }
        match self.known.look(id)? {
            Lookup::Held(pack) => {
                if let Some(places) = places {
                    places.held(pack, length)?;
                }
                self.known.count(pack, length.into());
                return Ok(false);
            }
            why => {
                let number = places.as_mut().map(|places| places.coming(length)).transpose()?;
                self.pending.insert(*id, number);
                self.count_again(why, length.into());
            }
        }
        self.progress.blobs_new.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes_new.fetch_add(length.into(), Ordering::Relaxed);
        Ok(true)
    }

    /// Puts a blob that the vault lacks into a frame.
    pub(super) fn put(&mut self, group: Group, id: BlobId, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > BLOB_LEN_MAX as usize {
            return Err(Error::damaged("a blob", format!("it would have {} bytes", bytes.len())));
        }
        if self.draft(group).data.len() + bytes.len() > FRAME_RAW_MAX as usize {
            self.send(group)?;
        }
        let target = self.target(group);
        let draft = self.draft(group);
        draft.data.extend_from_slice(bytes);
        draft.blobs.push((id, length_of(bytes)));
        if draft.data.len() >= target || draft.blobs.len() >= FRAME_BLOBS {
            self.send(group)?;
        }
        Ok(())
    }

    /// The frame of a group that is being filled.
    pub(super) fn draft(&mut self, group: Group) -> &mut Draft {
        &mut self.drafts[group.index()]
    }

    /// How long frames of a group should be by now, in bytes.
    pub(super) fn target(&self, group: Group) -> usize {
        group.target(self.progress.bytes_new.load(Ordering::Relaxed))
    }

    /// Buffers of frames that are done with.
    pub fn spare_buffers(&self) -> SpareBuffers {
        self.spare.clone()
    }

    /// Whether the vault holds a blob of an earlier content, so that this run may refer to it.
    pub(super) fn held(&mut self, id: &BlobId) -> Result<Held, Error> {
        self.take_indexed()?;
        if self.pending.contains_key(id) {
            return Ok(Held::Own);
        }
        Ok(Held::Before(self.known.look(id)?))
    }

    /// Counts bytes of such a blob that would be referred to; answers whether they may be. Else they are stored again.
    pub(super) fn refer(&mut self, held: Held, bytes: u64) -> bool {
        match held {
            Held::Own => {}
            Held::Before(Lookup::Held(pack)) => self.known.count(pack, bytes),
            Held::Before(why) => {
                self.count_again(why, bytes);
                return false;
            }
        }
        self.progress.bytes_matched.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Counts bytes that are stored although the vault has had them, by why they are.
    fn count_again(&mut self, why: Lookup, bytes: u64) {
        match why {
            Lookup::Drained => {
                self.progress.bytes_again.fetch_add(bytes, Ordering::Relaxed);
            }
            Lookup::Lacking(copy) => self.known.count_again(copy, bytes),
            Lookup::Held(_) | Lookup::Unknown => {}
        }
    }

    /// Marks the packs of an earlier content, each with how many bytes of the content lie in it, as needed by this
    /// run's snapshot. Answers whether the content may be used as it is: not if the vault no longer holds all of it,
    /// or a pack is being drained; the file must be read again then.
    ///
    /// # Errors
    /// [`Error`] if the cache can't be read.
    pub fn reuse(&mut self, packs: &[(PackHandle, u64)]) -> Result<bool, Error> {
        if !self.known.settle_drained(packs) {
            return Ok(false);
        }
        for &(pack, _) in packs {
            if !self.known.take(pack)? {
                return Ok(false);
            }
        }
        for &(pack, bytes) in packs {
            self.known.count(pack, bytes);
        }
        Ok(true)
    }

    pub(super) fn send(&mut self, group: Group) -> Result<(), Error> {
        let (fresh, number) = (self.spare.take(), self.sent);
        let draft = self.draft(group);
        let frame = Frame {
            number,
            kind: group.kind(),
            life: group.life(),
            data: std::mem::replace(&mut draft.data, fresh),
            blobs: std::mem::take(&mut draft.blobs),
        };
        // Readers find a blob by the lengths before it: a wrong one would only be seen when all behind it is lost.
        if frame.blobs.iter().map(|(_, length)| *length as usize).sum::<usize>() != frame.data.len()
        {
            return Err(Error::Stopped("a frame isn't its blobs; please report it".into()));
        }
        self.sent += 1;
        let sent = self.frames.as_ref().is_some_and(|frames| frames.send(frame).is_ok());
        if sent {
            return Ok(());
        }
        // Once all stages have ended, what the first of them failed with is known.
        self.close()?;
        Err(Error::Stopped("a stage of the pipeline ended before its time".into()))
    }

    /// Takes segments into account that were stored meanwhile.
    fn take_indexed(&mut self) -> Result<(), Error> {
        while let Ok(indexed) = self.indexed.try_recv() {
            self.remember(indexed)?;
        }
        Ok(())
    }

    fn remember(&mut self, indexed: Indexed) -> Result<(), Error> {
        let Indexed { built, version, lock, copies } = indexed;
        self.own.insert(built.id);
        let segment = self.known.stored(&built, version, lock, PackSet::default(), copies)?;
        for row in &built.blobs {
            if let (Some(Some(number)), Some(places)) =
                (self.pending.remove(&row.id), &mut self.places)
            {
                places.found(number, PackHandle::of(segment, row.pack));
            }
        }
        self.places.as_mut().map_or(Ok(()), PlaceNotes::settle)
    }

    /// Sends what is still in drafts, waits until everything is stored and indexed.
    fn drain(&mut self) -> Result<(), Error> {
        for group in Group::ALL {
            self.end_frame(group)?;
        }
        self.close()
    }

    fn close(&mut self) -> Result<(), Error> {
        self.frames = None;
        let mut panicked = false;
        for thread in self.threads.drain(..) {
            panicked |= thread.join().is_err();
        }
        let remembered = self.take_indexed();
        let failed = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match failed {
            Some(error) => Err(error),
            None if panicked => {
                Err(Error::Stopped("a thread of the pipeline panicked; please report it".into()))
            }
            None => remembered,
        }
    }

    /// Ends the run: everything is stored, indexed, and locked until `needed` at least (until `until` where a lock
    /// must be moved anyway).
    ///
    /// # Errors
    /// The first failure of any stage; [`Error::Stopped`] if something that the snapshot needs is gone.
    pub async fn finish(
        mut self,
        needed: Timestamp,
        until: Timestamp,
    ) -> Result<(Written, Known), Error> {
        let mut this = tokio::task::spawn_blocking(move || self.drain().map(|()| self))
            .await
            .map_err(|e| Error::Stopped(e.to_string()))??;
        if !this.pending.is_empty() {
            return Err(Error::Stopped(format!(
                "{} blobs were sent, but not indexed",
                this.pending.len()
            )));
        }
        let (segments, locked_until) = this.known.commit(needed, until).await?;
        let (packs_reused, locks_extended) = this.known.counts(&this.own);
        let packs_drained = this.known.packs_drained();
        let mut copies = Vec::new();
        for n in 0..this.known.copies().len() {
            copies.push(this.known.settle(n, &segments, needed, until).await);
        }
        // All is stored by now: what fails here costs the next run time.
        let places = this.places.and_then(|notes| {
            let places = notes.finish();
            places
                .inspect_err(|error| tracing::warn!("the next run reads files again: {error}"))
                .ok()
        });
        let written = Written {
            segments,
            locked_until,
            packs_reused,
            packs_drained,
            locks_extended,
            copies,
            places,
        };
        Ok((written, this.known))
    }

    /// Gives up: what is on its way is stored and indexed, so that the next run can use it, but no more.
    ///
    /// # Errors
    /// The first failure of any stage.
    pub async fn abandon(mut self) -> Result<(), Error> {
        tokio::task::spawn_blocking(move || self.close())
            .await
            .map_err(|e| Error::Stopped(e.to_string()))?
    }
}
