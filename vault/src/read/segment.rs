//! One index segment, read from the target: its footer once, its blocks as they are needed.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::error::Error;
use crate::ids::{BlobId, VaultId};
use crate::index::{BlobBlock, BlockPlace, OpenSegment, PackRow};
use crate::keys::VaultSecret;
use crate::limits::SEGMENT_LEN_MAX;
use crate::read::cache::Cache;
use crate::read::versions::{self, concerns_object};
use crate::read::{MIB, Vault, blocking};
use crate::record::SegmentRef;
use crate::store::{ObjectKey, VersionId};

/// A segment of at most this many bytes is read whole: one request instead of three.
pub(crate) const WHOLE_MAX: u64 = 4 * MIB as u64;
/// How many bytes of a longer segment's end are read at first. The footer of a full segment (a million blobs) takes
/// some 40 KiB, and half a kilobyte for each run's envelope.
const TAIL_GUESS: u64 = 128 * 1024;
/// Longest sealed block that is believed.
const BLOCK_STORED_MAX: u64 = 2 * MIB as u64;

/// What the cache of all segments holds; keys are the segment's number and the block's first byte.
pub(crate) type BlockCache = Cache<(usize, Block), Cached>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    Footer,
    Whole,
    Blobs(u64),
    Packs(u64),
}

#[derive(Clone)]
pub(crate) enum Cached {
    Footer(Arc<Opened>),
    Whole(Bytes),
    Blobs(Arc<BlobBlock>),
    Packs(Arc<Vec<PackRow>>),
}

/// A segment that a snapshot names.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: usize,
    pub(crate) named: SegmentRef,
    key: ObjectKey,
    /// Whoever needs the footer waits for whoever is reading it. The cache holds it, so that a vault of a hundred thousand
    /// segments takes no more memory than another.
    opened: Mutex<Weak<Opened>>,
}

/// A segment whose footer was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) segment: OpenSegment,
    /// The version that is read; `None` for a plain read.
    version: Option<VersionId>,
}

#[cfg(test)]
impl Opened {
    /// A segment that describes nothing.
    pub(crate) fn for_test() -> Self {
        let (vault, secret) = (VaultId::from_bytes([0; 16]), VaultSecret::from_bytes([0; 32]));
        let built = crate::index::SegmentBuilder::default().finish(vault, &secret, b"e").unwrap();
        let segment = OpenSegment::open_whole(&built.id, vault, &secret, &built.bytes).unwrap();
        Self { segment, version: None }
    }
}

impl Segment {
    pub(crate) fn new(number: usize, named: SegmentRef) -> Self {
        let key = ObjectKey::segment(&named.id);
        Self { number, named, key, opened: Mutex::default() }
    }

    /// Opens the footer; keeps it while there is room.
    pub(crate) async fn open(
        &self,
        vault: &Vault,
        secret: &VaultSecret,
        cache: &BlockCache,
    ) -> Result<Arc<Opened>, Error> {
        let name = (self.number, Block::Footer);
        if let Some(Cached::Footer(opened)) = cache.get(&name) {
            return Ok(opened);
        }
        let mut held = self.opened.lock().await;
        if let Some(opened) = held.upgrade() {
            return Ok(opened);
        }
        let opened = self.load(vault, secret, cache).await?;
        *held = Arc::downgrade(&opened);
        cache.put(name, Cached::Footer(Arc::clone(&opened)), opened.segment.weight());
        Ok(opened)
    }

    async fn load(
        &self,
        vault: &Vault,
        secret: &VaultSecret,
        cache: &BlockCache,
    ) -> Result<Arc<Opened>, Error> {
        if self.named.size > u64::from(SEGMENT_LEN_MAX) {
            let claim = format!("its record claims {} bytes", self.named.size);
            return Err(Error::damaged(&self.key, claim));
        }
        let error = match self.load_version(vault, secret, cache, None).await {
            Err(error) if concerns_object(&error) => error,
            other => return other.map(Arc::new),
        };
        // Every message is sealed under the segment's own salt, which the record names: a version that opens is
        // the true one, and needn't be read whole to be told by its hash.
        let store = vault.store().as_ref();
        let known = self.named.version.as_ref();
        for version in versions::candidates(store, &self.key, known).await {
            match self.load_version(vault, secret, cache, version.clone()).await {
                Ok(opened) => {
                    versions::note(vault.notebook(), &self.key, Some(&error), version);
                    return Ok(Arc::new(opened));
                }
                Err(error) if concerns_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(error)
    }

    async fn load_version(
        &self,
        vault: &Vault,
        secret: &VaultSecret,
        cache: &BlockCache,
        version: Option<VersionId>,
    ) -> Result<Opened, Error> {
        let store = vault.store();
        let (id, size) = (self.named.id, self.named.size);
        let (tail, at_hand) = if size <= WHOLE_MAX {
            let whole = store.get(&self.key, version.as_ref(), WHOLE_MAX).await?;
            let length = usize::try_from(OpenSegment::tail_len(&id, &whole, size)?).ok();
            let start = length
                .and_then(|n| whole.len().checked_sub(n))
                .filter(|_| whole.len() as u64 == size);
            let Some(start) = start else {
                return Err(Error::damaged(&self.key, format!("it has not {size} bytes")));
            };
            (whole.slice(start..), whole)
        } else {
            let range = |n: u64| size.saturating_sub(n)..size;
            let guess = store.get_range(&self.key, version.as_ref(), range(TAIL_GUESS)).await?;
            let length = OpenSegment::tail_len(&id, &guess, size)?;
            let tail = match usize::try_from(length).ok().and_then(|n| guess.len().checked_sub(n)) {
                Some(start) => guess.slice(start..),
                None => store.get_range(&self.key, version.as_ref(), range(length)).await?,
            };
            (tail, guess)
        };
        let (vault_id, secret, salt): (VaultId, _, _) =
            (vault.id(), secret.clone(), self.named.salt);
        let segment =
            blocking(move || OpenSegment::open(&id, vault_id, &secret, &salt, &tail, size))
                .await??;
        let opened = Opened { segment, version };
        if at_hand.len() as u64 == size {
            let weight = at_hand.len();
            cache.put((self.number, Block::Whole), Cached::Whole(at_hand), weight);
        } else {
            self.keep_packs(cache, &opened, &at_hand);
        }
        Ok(opened)
    }

    /// Opens the blocks of packs that came with the footer, since they lie in front of it: each is a request saved. One
    /// that can't be opened is read, and told of, when it is needed.
    fn keep_packs(&self, cache: &BlockCache, opened: &Opened, tail: &Bytes) {
        let start = self.named.size.saturating_sub(tail.len() as u64);
        for &place in opened.segment.pack_blocks() {
            let (from, to) = (place.range().start.checked_sub(start), place.range().end);
            let sealed = from.and_then(|from| {
                tail.get(usize::try_from(from).ok()?..usize::try_from(to - start).ok()?)
            });
            if let Some(sealed) = sealed
                && let Ok(rows) = opened.segment.pack_block(&tail.slice_ref(sealed), place)
            {
                self.put_packs(cache, place, Arc::new(rows));
            }
        }
    }

    fn put_packs(&self, cache: &BlockCache, place: BlockPlace, rows: Arc<Vec<PackRow>>) {
        let strings: usize =
            rows.iter().filter_map(|r| r.version.as_ref()).map(|v| v.0.len()).sum();
        let weight = strings + rows.len() * size_of::<PackRow>();
        cache.put((self.number, Block::Packs(place.range().start)), Cached::Packs(rows), weight);
    }

    /// The block that would hold a blob.
    pub(crate) async fn blobs(
        &self,
        vault: &Vault,
        cache: &BlockCache,
        opened: &Arc<Opened>,
        place: BlockPlace,
    ) -> Result<Arc<BlobBlock>, Error> {
        let name = (self.number, Block::Blobs(place.range().start));
        if let Some(Cached::Blobs(block)) = cache.get(&name) {
            return Ok(block);
        }
        let segment = Arc::clone(opened);
        let open = move |sealed: Bytes| segment.segment.blob_block(&sealed, place);
        let block = Arc::new(self.block(vault, cache, opened, place, open).await?);
        // Six columns of at most 24 bytes each.
        let weight = block.rows().count() * (BlobId::LEN + 5 * 4);
        cache.put(name, Cached::Blobs(Arc::clone(&block)), weight);
        Ok(block)
    }

    /// The block that describes a pack.
    pub(crate) async fn packs(
        &self,
        vault: &Vault,
        cache: &BlockCache,
        opened: &Arc<Opened>,
        place: BlockPlace,
    ) -> Result<Arc<Vec<PackRow>>, Error> {
        let name = (self.number, Block::Packs(place.range().start));
        if let Some(Cached::Packs(block)) = cache.get(&name) {
            return Ok(block);
        }
        let segment = Arc::clone(opened);
        let open = move |sealed: Bytes| segment.segment.pack_block(&sealed, place);
        let block = Arc::new(self.block(vault, cache, opened, place, open).await?);
        self.put_packs(cache, place, Arc::clone(&block));
        Ok(block)
    }

    /// Reads and opens one block: from the whole segment where that is at hand, else by a range; through other
    /// versions if someone has put something over the segment since its footer was read.
    async fn block<T: Send + 'static>(
        &self,
        vault: &Vault,
        cache: &BlockCache,
        opened: &Opened,
        place: BlockPlace,
        open: impl Fn(Bytes) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let range = place.range();
        if range.end - range.start > BLOCK_STORED_MAX {
            return Err(Error::damaged(&self.key, "its footer claims an overlong block"));
        }
        if let Some(Cached::Whole(whole)) = cache.get(&(self.number, Block::Whole)) {
            let start = usize::try_from(range.start).unwrap_or(usize::MAX);
            let end = usize::try_from(range.end).unwrap_or(usize::MAX);
            if let Some(sealed) = whole.get(start..end) {
                let sealed = whole.slice_ref(sealed);
                return blocking(move || open(sealed)).await?;
            }
        }
        let store = vault.store();
        let read = |version: Option<VersionId>| {
            let (open, range) = (open.clone(), range.clone());
            async move {
                let sealed = store.get_range(&self.key, version.as_ref(), range).await?;
                blocking(move || open(sealed)).await?
            }
        };
        let error = match read(opened.version.clone()).await {
            Err(error) if concerns_object(&error) => error,
            other => return other,
        };
        let known = self.named.version.as_ref();
        for version in versions::candidates(store.as_ref(), &self.key, known).await {
            if let Ok(block) = read(version.clone()).await {
                versions::note(vault.notebook(), &self.key, Some(&error), version);
                return Ok(block);
            }
        }
        Err(error)
    }
}
