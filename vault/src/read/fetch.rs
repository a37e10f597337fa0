//! Fetching blobs: from their ids to their checked bytes, many at once.

mod recover;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use tokio::sync::Semaphore;

use crate::content::Extent;
use crate::error::Error;
use crate::ids::{BlobId, PackId};
use crate::keys::VaultSecret;
use crate::limits::BLOB_LEN_MAX;
use crate::pack::BlobKind;
use crate::read::cache::Cache;
use crate::read::frames::{
    FrameName, FrameOpener, Request, WantedBlob, WantedFrame, coalesce, gather,
};
use crate::read::index::{Index, Located};
use crate::read::opener::Opener;
use crate::read::under_way::{Claim, UnderWay, Whose};
use crate::read::versions::{concerns_object, reproduce};
use crate::read::{ReadSettings, Task, Vault, blocking};
use crate::record::SegmentRef;
use crate::store::{ObjectKey, StoreError, VersionId};

/// A pack of nodes and lists of at most this many bytes is read whole: a later, small run's. Whoever looks one entry up
/// reads a node a level, so several of it, and its bytes take less time than another request.
const SHORT_PACK: u32 = 512 << 10;
/// How many bytes of such packs are kept.
const SHORT_PACKS_KEPT: usize = 2 << 20;

/// What was asked for of blobs: each is there, checked, or there is a reason why not.
#[derive(Debug, Default)]
pub struct Fetched {
    blobs: HashMap<BlobId, Stretch>,
    errors: HashMap<BlobId, Arc<Error>>,
}

/// A stretch of a blob whose id was checked.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    /// Where in the blob it begins.
    pub(crate) start: usize,
    pub(crate) bytes: Bytes,
    /// How long the whole blob is.
    pub(crate) of: usize,
}

/// What is wanted of blobs: of each the shortest stretch that holds all parts that are.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    stretches: HashMap<BlobId, Range<u32>>,
    bytes: u64,
}

impl Wanted {
    /// Adds what an extent needs.
    pub(crate) fn add(&mut self, extent: &Extent) {
        let (id, range) = match *extent {
            Extent::Hole { .. } => return,
            Extent::Blob { id, length } => (id, 0..length),
            Extent::Part { id, offset, length } => (id, offset..offset.saturating_add(length)),
        };
        let wanted = self.stretches.entry(id).or_insert(range.start..range.start);
        let before = wanted.end - wanted.start;
        *wanted = wanted.start.min(range.start)..wanted.end.max(range.end);
        self.bytes += u64::from(wanted.end - wanted.start - before);
    }

    /// Whole blobs.
    pub(crate) fn whole(ids: impl Iterator<Item = BlobId>) -> Self {
        Self { stretches: ids.map(|id| (id, 0..BLOB_LEN_MAX)).collect(), bytes: 0 }
    }

    /// How many bytes it takes to hold it all: bounded by what is added, whatever the blobs' lengths.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Fetched {
    /// A whole blob.
    ///
    /// # Errors
    /// What kept it from being read.
    pub fn blob(&self, id: &BlobId) -> Result<Bytes, Error> {
        self.stretch(id).map(|stretch| stretch.bytes.clone())
    }

    fn stretch(&self, id: &BlobId) -> Result<&Stretch, Error> {
        match (self.blobs.get(id), self.errors.get(id)) {
            (Some(stretch), _) => Ok(stretch),
            (None, Some(error)) => Err(reproduce(error)),
            (None, None) => Err(Error::BlobUnknown { id: *id }),
        }
    }

    /// The bytes of an extent; `None` for a hole.
    ///
    /// # Errors
    /// What kept its blob from being read; [`Error::Damaged`] if it reaches beyond the blob.
    pub fn extent(&self, extent: &Extent) -> Result<Option<Bytes>, Error> {
        let (id, range) = match *extent {
            Extent::Hole { .. } => return Ok(None),
            Extent::Blob { id, length } => (id, 0..length as usize),
            Extent::Part { id, offset, length } => {
                (id, offset as usize..(offset as usize).saturating_add(length as usize))
            }
        };
        let Stretch { start, bytes, of } = self.stretch(&id)?;
        let whole = matches!(extent, Extent::Part { .. }) || *of == range.end;
        match (range.start.checked_sub(*start), range.end.checked_sub(*start)) {
            (Some(from), Some(to)) if whole && to <= bytes.len() => Ok(Some(bytes.slice(from..to))),
            _ => Err(Error::damaged(
                "a content's list of extents",
                format!("bytes {range:?} of blob {id} are named, which has {of}"),
            )),
        }
    }

    fn take(&mut self, frames: Vec<Cut>) {
        for (frame, result) in frames {
            match result {
                Ok(blobs) => self.blobs.extend(blobs),
                Err(error) => {
                    let error = Arc::new(error);
                    let ids = frame.blobs.iter().map(|blob| (blob.id, Arc::clone(&error)));
                    self.errors.extend(ids);
                }
            }
        }
    }
}

/// Stretches that one frame holds.
type Stretches = Vec<(BlobId, Stretch)>;
/// A frame, and what of it was wanted, or why it can't be had.
type Cut = (WantedFrame, Result<Stretches, Error>);

/// Fetches blobs of one snapshot.
pub(crate) struct Fetcher {
    vault: Vault,
    index: Index,
    opener: FrameOpener,
    frames: Cache<FrameName, Bytes>,
    /// Short packs, each in the version that was read.
    short_packs: Cache<(PackId, Option<VersionId>), Bytes>,
    /// Frames that batches fetch: those that a batch ends with, the next one begins with.
    under_way: UnderWay<FrameName>,
    /// Versions of packs that were found to be true where a plain read wasn't.
    versions: Mutex<HashMap<PackId, Option<VersionId>>>,
    cpus: Semaphore,
    requests: usize,
}

impl Fetcher {
    pub(crate) fn new(
        vault: &Vault,
        opener: Opener,
        secret: &VaultSecret,
        segments: &[SegmentRef],
        settings: &ReadSettings,
    ) -> Self {
        let (requests, threads) = (settings.requests.max(1), settings.threads.max(1));
        Self {
            index: Index::new(vault, secret, segments, settings.index_cache_bytes, requests),
            opener: FrameOpener::new(vault.id(), opener, secret.blob_namer()),
            frames: Cache::new(settings.frame_cache_bytes),
            short_packs: Cache::new(SHORT_PACKS_KEPT),
            under_way: UnderWay::default(),
            versions: Mutex::default(),
            cpus: Semaphore::new(threads),
            requests,
            vault: vault.clone(),
        }
    }

    /// Tells how far on in the snapshot the data lies that will be fetched, from 0 to 1.
    pub(crate) fn expect(&self, part: f64) {
        self.index.expect(part);
    }

    /// Fetches stretches of blobs of one kind. What is wrong with one blob stands with that blob.
    ///
    /// # Errors
    /// What concerns the target and not single objects: it can't be reached, or refuses.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        kind: BlobKind,
        wanted: &Wanted,
    ) -> Result<Fetched, Error> {
        let ids = wanted.stretches.keys().copied();
        let Located { places, errors } = self.index.locate(kind, ids).await?;
        let mut fetched = Fetched { blobs: HashMap::new(), errors };
        let (mut cached, mut missing, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let mut claims = HashMap::new();
        for frame in gather(places, kind, &wanted.stretches) {
            let name = frame.name();
            if let Some(raw) = self.frames.get(&name) {
                cached.push((frame, raw));
                continue;
            }
            match self.under_way.claim(&name) {
                Whose::Theirs(wait) => theirs.push((frame, wait)),
                Whose::Mine(claim) => {
                    claims.insert(name, claim);
                    missing.push(frame);
                }
            }
        }
        // A task of its own: what others wait for goes on, also while nobody asks for this one's result.
        let reading = Task::spawn(Arc::clone(self).read(missing, claims));
        fetched.take(self.cut_cached(cached).await?);
        fetched.take(reading.join().await??);
        // What the others didn't keep is read again.
        let (mut cached, mut missing) = (Vec::new(), Vec::new());
        for (frame, wait) in theirs {
            wait.ended().await;
            match self.frames.get(&frame.name()) {
                Some(raw) => cached.push((frame, raw)),
                None => missing.push(frame),
            }
        }
        fetched.take(self.cut_cached(cached).await?);
        fetched.take(Arc::clone(self).read(missing, HashMap::new()).await?);
        Ok(fetched)
    }

    /// Reads frames, and gives each one's claim up once it is read.
    async fn read(
        self: Arc<Self>,
        frames: Vec<WantedFrame>,
        mut claims: HashMap<FrameName, Claim<FrameName>>,
    ) -> Result<Vec<Cut>, Error> {
        let mut read = Vec::with_capacity(frames.len());
        let mut requests = stream::iter(coalesce(frames))
            .map(|request| self.request(request))
            .buffer_unordered(self.requests);
        while let Some(results) = requests.next().await {
            let results = results?;
            for (frame, _) in &results {
                claims.remove(&frame.name());
            }
            read.extend(results);
        }
        Ok(read)
    }

    /// Cuts blobs out of frames that were kept.
    async fn cut_cached(
        self: &Arc<Self>,
        frames: Vec<(WantedFrame, Bytes)>,
    ) -> Result<Vec<Cut>, Error> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let this = Arc::clone(self);
        let cut = move |(frame, raw): (WantedFrame, Bytes)| {
            let blobs = this.cut(&frame, &raw);
            (frame, blobs)
        };
        blocking(|| frames.into_iter().map(cut).collect()).await
    }

    /// Reads the frames of one request, each through other versions of the pack if need be.
    async fn request(self: &Arc<Self>, request: Request) -> Result<Vec<Cut>, Error> {
        let mut results = match self.bytes_for(&request).await {
            Ok((range, bytes)) => self.open(request, range, bytes).await?,
            Err(error) => {
                let error = Error::from(error);
                if !concerns_object(&error) {
                    return Err(error);
                }
                let failed = |frame| (frame, Err(reproduce(&error)));
                request.frames.into_iter().map(failed).collect()
            }
        };
        for (frame, blobs) in &mut results {
            if let Err(error) = blobs
                && !matches!(error, Error::WrongIdentity { .. })
            {
                *blobs = self.recover(frame, reproduce(error)).await;
                if let Err(error) = blobs
                    && !concerns_object(error)
                {
                    return Err(std::mem::replace(error, Error::Stopped(String::new())));
                }
            }
        }
        Ok(results)
    }

    /// Reads what a request asks for; perhaps more of its pack.
    async fn bytes_for(&self, request: &Request) -> Result<(Range<u64>, Bytes), StoreError> {
        let Some(first) = request.frames.first() else { return Ok((0..0, Bytes::new())) };
        let (id, size) = (first.pack.id(), first.pack.row.size);
        let (key, version) = (ObjectKey::pack(&id), self.version_of(&id));
        let store = self.vault.store();
        if first.kind == BlobKind::Data || size > SHORT_PACK {
            let range = request.range();
            let bytes = store.get_range(&key, version.as_ref(), range.clone()).await?;
            return Ok((range, bytes));
        }
        let range = 0..u64::from(size);
        let name = (id, version);
        if let Some(whole) = self.short_packs.get(&name) {
            return Ok((range, whole));
        }
        let whole = store.get_range(&key, name.1.as_ref(), range.clone()).await?;
        self.short_packs.put(name, whole.clone(), whole.len());
        Ok((range, whole))
    }

    /// Opens the frames of one request in one go on a blocking thread.
    async fn open(
        self: &Arc<Self>,
        request: Request,
        range: Range<u64>,
        bytes: Bytes,
    ) -> Result<Vec<Cut>, Error> {
        let turn = self.cpus.acquire().await;
        let this = Arc::clone(self);
        let opened = blocking(move || {
            let open = |frame: WantedFrame| {
                let blobs = this.open_frame(&frame, &range, &bytes);
                (frame, blobs)
            };
            request.frames.into_iter().map(open).collect()
        })
        .await;
        drop(turn);
        opened
    }

    fn open_frame(
        &self,
        frame: &WantedFrame,
        range: &Range<u64>,
        bytes: &Bytes,
    ) -> Result<Stretches, Error> {
        let within = frame.range();
        let at = |n: u64| usize::try_from(n - range.start).unwrap_or(usize::MAX);
        let message = bytes.get(at(within.start)..at(within.end)).ok_or_else(|| {
            Error::damaged(format!("pack {}", frame.pack.id()), "the answer to a read is too short")
        })?;
        let raw = self.opener.open(frame, message.to_vec())?;
        let blobs = self.cut(frame, &raw)?;
        // Data is mostly read in the order in which it was written: what is wanted up to its end isn't wanted again.
        // Where a content consists of parts of many runs' blobs, the cache so holds about one frame of each.
        let goes_on = frame.wanted_end() < raw.len() || self.under_way.is_awaited(&frame.name());
        if frame.kind != BlobKind::Data || goes_on {
            let weight = raw.len();
            self.frames.put(frame.name(), raw, weight);
        }
        Ok(blobs)
    }

    /// The wanted stretches of an expanded frame, each of a blob that was checked. Where they are a small part of it they
    /// are copied, so that they don't keep the whole frame in memory.
    fn cut(&self, frame: &WantedFrame, raw: &Bytes) -> Result<Stretches, Error> {
        let wanted: usize = frame.blobs.iter().map(|blob| blob.wanted.len()).sum();
        let copy = wanted < raw.len() / 2;
        let blobs = self.opener.cut(frame, raw)?;
        let cut = |(wanted, blob): (&WantedBlob, &[u8])| {
            let start = wanted.wanted.start;
            let bytes = blob.get(wanted.wanted.clone()).unwrap_or_default();
            let bytes = if copy { Bytes::copy_from_slice(bytes) } else { raw.slice_ref(bytes) };
            (wanted.id, Stretch { start, bytes, of: blob.len() })
        };
        Ok(frame.blobs.iter().zip(blobs).map(cut).collect())
    }

    fn version_of(&self, pack: &PackId) -> Option<VersionId> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.get(pack).cloned().flatten()
    }
}
