//! Where blobs lie: the index segments of one snapshot, searched together.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;

use crate::error::Error;
use crate::ids::{BlobId, PackId};
use crate::index::{BlobRow, BlockPlace, PackRow};
use crate::keys::VaultSecret;
use crate::limits::{BLOB_LEN_MAX, FRAME_RAW_MAX, FRAME_STORED_MAX, PACK_LEN_MAX};
use crate::pack::{BlobKind, FramePlace};
use crate::read::Vault;
use crate::read::order::Order;
use crate::read::segment::{BlockCache, Opened, Segment};
use crate::read::versions::concerns_object;
use crate::record::SegmentRef;

/// How many segments are searched one by one, the likeliest first, before several are opened at once.
const LIKELY: usize = 2;

/// The index segments of one snapshot.
pub(crate) struct Index {
    vault: Vault,
    secret: VaultSecret,
    segments: Vec<Segment>,
    cache: BlockCache,
    order: Order,
    requests: usize,
}

/// A pack that holds wanted blobs.
#[derive(Debug)]
pub(crate) struct PackPlace {
    pub(crate) row: PackRow,
    segment: Arc<Opened>,
}

/// Where a blob lies.
#[derive(Debug, Clone)]
pub(crate) struct BlobPlace {
    pub(crate) pack: Arc<PackPlace>,
    pub(crate) at: FramePlace,
}

/// What a search found, and what it didn't.
#[derive(Debug, Default)]
pub(crate) struct Located {
    pub(crate) places: HashMap<BlobId, BlobPlace>,
    pub(crate) errors: HashMap<BlobId, Arc<Error>>,
}

impl PackPlace {
    #[cfg(test)]
    pub(crate) fn for_test(row: PackRow) -> Self {
        Self { row, segment: Arc::new(Opened::for_test()) }
    }

    pub(crate) fn id(&self) -> PackId {
        self.row.id
    }

    /// The envelope with the key of the run that wrote the pack.
    pub(crate) fn envelope(&self) -> Result<&[u8], Error> {
        self.segment.segment.envelope(self.row.envelope).ok_or_else(|| {
            Error::damaged(format!("pack {}", self.row.id), "the index names no envelope for it")
        })
    }
}

/// One search through one segment after the other.
struct Search {
    wanted: Vec<BlobId>,
    found: Located,
    /// Found in packs that the record doesn't count among those it needs: their locks may have run out, so any
    /// other place is better.
    spare: HashMap<BlobId, BlobPlace>,
    /// What kept a segment from being searched: more to the point than "unknown".
    failed: Option<Arc<Error>>,
}

impl Index {
    pub(crate) fn new(
        vault: &Vault,
        secret: &VaultSecret,
        named: &[SegmentRef],
        cache_bytes: usize,
        requests: usize,
    ) -> Self {
        let segments = named.iter().cloned().enumerate().map(|(n, s)| Segment::new(n, s)).collect();
        Self {
            vault: vault.clone(),
            secret: secret.clone(),
            segments,
            cache: BlockCache::new(cache_bytes),
            order: Order::new(named),
            requests: requests.max(1),
        }
    }

    /// Tells how far on in the snapshot the data lies that will be looked for, from 0 to 1.
    pub(crate) fn expect(&self, part: f64) {
        self.order.expect(part);
    }

    /// Finds where blobs of one kind lie. A segment that can't be read only matters to the blobs that no other has.
    ///
    /// # Errors
    /// What concerns the target and not one object; everything else stands with the blobs.
    pub(crate) async fn locate(
        &self,
        kind: BlobKind,
        ids: impl Iterator<Item = BlobId>,
    ) -> Result<Located, Error> {
        let mut wanted: Vec<_> = ids.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut search =
            Search { wanted, found: Located::default(), spare: HashMap::new(), failed: None };
        let mut order = self.order.of(kind).into_iter().peekable();
        let mut searched = 0;
        while !search.wanted.is_empty() && order.peek().is_some() {
            // Not where it was most likely: the next few footers are fetched at once.
            let group = if searched < LIKELY { 1 } else { self.requests };
            let next: Vec<_> = order.by_ref().take(group).collect();
            searched += next.len();
            let opened = join_all(next.iter().map(|&n| self.open(n))).await;
            for (n, opened) in next.into_iter().zip(opened) {
                if search.wanted.is_empty() {
                    break;
                }
                let before = search.wanted.len();
                let done = match opened {
                    Ok(opened) => self.search(&self.segments[n], &opened, &mut search).await,
                    Err(error) => Err(error),
                };
                if search.wanted.len() < before {
                    self.order.found(kind, n);
                }
                match done {
                    Err(error) if concerns_object(&error) => {
                        search.failed.get_or_insert(Arc::new(error));
                    }
                    other => other?,
                }
            }
        }
        let Search { wanted, mut found, mut spare, failed } = search;
        for id in wanted {
            if let Some(place) = spare.remove(&id) {
                found.places.insert(id, place);
            } else {
                let unknown = || Arc::new(Error::BlobUnknown { id });
                found.errors.insert(id, failed.clone().unwrap_or_else(unknown));
            }
        }
        Ok(found)
    }

    async fn open(&self, number: usize) -> Result<Arc<Opened>, Error> {
        self.segments[number].open(&self.vault, &self.secret, &self.cache).await
    }

    async fn search(
        &self,
        segment: &Segment,
        opened: &Arc<Opened>,
        search: &mut Search,
    ) -> Result<(), Error> {
        let mut by_block: HashMap<BlockPlace, Vec<BlobId>> = HashMap::new();
        for id in &search.wanted {
            if let Some(place) = opened.segment.block_of(id) {
                by_block.entry(place).or_default().push(*id);
            }
        }
        let blocks = stream::iter(by_block).map(|(place, ids)| async move {
            let block = segment.blobs(&self.vault, &self.cache, opened, place).await;
            block.map(|block| ids.iter().filter_map(|id| block.find(id)).collect::<Vec<_>>())
        });
        let mut blocks = Box::pin(blocks.buffer_unordered(self.requests));
        let mut rows: Vec<BlobRow> = Vec::new();
        let mut failed = None;
        while let Some(block) = blocks.next().await {
            match block {
                Ok(found) => rows.extend(found),
                Err(error) => failed = Some(error),
            }
        }
        drop(blocks);
        let mut packs: HashMap<u32, Arc<PackPlace>> = HashMap::new();
        for row in rows {
            let pack = match packs.get(&row.pack) {
                Some(pack) => Arc::clone(pack),
                None => {
                    let pack = Arc::new(self.pack(segment, opened, row.pack).await?);
                    packs.insert(row.pack, Arc::clone(&pack));
                    pack
                }
            };
            if let Err(error) = check(&row, &pack.row) {
                failed = Some(error);
                continue;
            }
            let place = BlobPlace { pack, at: row.place };
            if segment.named.used.contains(row.pack) {
                search.found.places.insert(row.id, place);
            } else {
                search.spare.entry(row.id).or_insert(place);
            }
        }
        search.wanted.retain(|id| !search.found.places.contains_key(id));
        failed.map_or(Ok(()), Err)
    }

    async fn pack(
        &self,
        segment: &Segment,
        opened: &Arc<Opened>,
        number: u32,
    ) -> Result<PackPlace, Error> {
        let missing = || {
            let why = format!("it describes no pack {number}");
            Error::damaged(format!("index segment {}", segment.named.id), why)
        };
        let (place, at) = opened.segment.pack_block_of(number).ok_or_else(missing)?;
        let rows = segment.packs(&self.vault, &self.cache, opened, place).await?;
        let row = rows.get(at).ok_or_else(missing)?.clone();
        Ok(PackPlace { row, segment: Arc::clone(opened) })
    }
}

/// Whether what the index says of a blob can be true.
fn check(row: &BlobRow, pack: &PackRow) -> Result<(), Error> {
    let at = &row.place;
    let end_in_frame = u64::from(at.offset) + u64::from(at.length);
    let sound = at.length <= BLOB_LEN_MAX
        && at.frame_stored <= FRAME_STORED_MAX
        && end_in_frame <= u64::from(FRAME_RAW_MAX)
        && pack.size <= PACK_LEN_MAX
        && at.range().end <= u64::from(pack.size);
    if sound {
        Ok(())
    } else {
        let what = format!("the index entry of blob {}", row.id);
        Err(Error::damaged(what, format!("it points beyond a frame or beyond pack {}", pack.id)))
    }
}
