//! Which frames a batch of blobs needs, in how few requests, and how a frame becomes checked blobs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::error::Error;
use crate::frame::Expander;
use crate::ids::{BlobId, PackId, VaultId};
use crate::keys::BlobNamer;
use crate::pack::{BlobKind, FrameReader};
use crate::read::MIB;
use crate::read::cache::Cache;
use crate::read::index::{BlobPlace, PackPlace};
use crate::read::opener::Opener;

/// Frames that lie no farther apart than this are read with one request: at 100 MB/s the bytes between take less
/// time than another request.
const GAP_MAX: u64 = 64 * 1024;
/// The same for a few nodes or lists, of which one mostly leads to another that is only known once it was read; and most
/// bytes of such a request.
const NODES_GAP_MAX: u64 = 8 * GAP_MAX;
const FEW_NODES_MAX: u64 = MIB as u64;
/// Most bytes of one request, but for one frame that is longer by itself.
const REQUEST_MAX: u64 = 8 * MIB as u64;

/// What tells a frame from any other.
pub(crate) type FrameName = (PackId, u32, BlobKind);

/// One frame and the blobs that are wanted of it.
#[derive(Debug, Clone)]
pub(crate) struct WantedFrame {
    pub(crate) pack: Arc<PackPlace>,
    pub(crate) kind: BlobKind,
    pub(crate) offset: u32,
    pub(crate) stored: u32,
    pub(crate) blobs: Vec<WantedBlob>,
}

/// A blob in its expanded frame, and what is wanted of it.
#[derive(Debug, Clone)]
pub(crate) struct WantedBlob {
    pub(crate) id: BlobId,
    /// Its first byte in the frame.
    offset: usize,
    length: usize,
    /// Bytes of the blob; within its length.
    pub(crate) wanted: Range<usize>,
}

/// Frames of one pack that one request reads.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) frames: Vec<WantedFrame>,
}

impl WantedFrame {
    pub(crate) fn range(&self) -> Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.stored)
    }

    /// Where in the expanded frame the last wanted byte is, plus one.
    pub(crate) fn wanted_end(&self) -> usize {
        self.blobs.iter().map(|blob| blob.offset + blob.wanted.end).max().unwrap_or(0)
    }

    pub(crate) fn name(&self) -> FrameName {
        (self.pack.id(), self.offset, self.kind)
    }
}

impl Request {
    /// The bytes of the pack that it reads.
    pub(crate) fn range(&self) -> Range<u64> {
        let start = self.frames.first().map_or(0, |frame| frame.range().start);
        let end = self.frames.iter().map(|frame| frame.range().end).max().unwrap_or(start);
        start..end
    }

    pub(crate) fn pack(&self) -> Option<&Arc<PackPlace>> {
        Some(&self.frames.first()?.pack)
    }
}

/// Gathers blobs by frame, sorted by pack and place, with what is wanted of each.
pub(crate) fn gather(
    places: HashMap<BlobId, BlobPlace>,
    kind: BlobKind,
    wanted: &HashMap<BlobId, Range<u32>>,
) -> Vec<WantedFrame> {
    let mut frames: HashMap<(PackId, u32), WantedFrame> = HashMap::new();
    for (id, BlobPlace { pack, at }) in places {
        let frame = frames.entry((pack.id(), at.frame_offset)).or_insert_with(|| WantedFrame {
            pack,
            kind,
            offset: at.frame_offset,
            stored: at.frame_stored,
            blobs: Vec::new(),
        });
        // Segments that contradict each other about a frame's length: the shorter fails, and is named.
        frame.stored = frame.stored.max(at.frame_stored);
        let within = |n: u32| n.min(at.length) as usize;
        let wanted = wanted.get(&id).map_or(0..0, |w| within(w.start)..within(w.end));
        let (offset, length) = (at.offset as usize, at.length as usize);
        frame.blobs.push(WantedBlob { id, offset, length, wanted });
    }
    let mut frames: Vec<_> = frames.into_values().collect();
    frames.sort_by_key(|frame| (frame.pack.id(), frame.offset));
    frames
}

/// Puts neighbouring frames into common requests.
pub(crate) fn coalesce(frames: Vec<WantedFrame>) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for frame in frames {
        let range = frame.range();
        let same_pack = |last: &&Request| last.pack().is_some_and(|p| p.id() == frame.pack.id());
        let fits = requests.last().filter(same_pack).is_some_and(|last| {
            let so_far = last.range();
            let gap = range.start.saturating_sub(so_far.end);
            let length = range.end.saturating_sub(so_far.start);
            let few = frame.kind != BlobKind::Data && length <= FEW_NODES_MAX;
            (gap <= GAP_MAX && length <= REQUEST_MAX) || (few && gap <= NODES_GAP_MAX)
        });
        match requests.last_mut().filter(|_| fits) {
            Some(last) => last.frames.push(frame),
            None => requests.push(Request { frames: vec![frame] }),
        }
    }
    requests
}

/// Packs whose keys are kept: a content of which each run stored a little is read from one of each run, in turns.
const READERS_MAX: usize = 512;

/// What opens frames, with its keys and contexts kept from one to the next.
pub(crate) struct FrameOpener {
    vault: VaultId,
    opener: Opener,
    namer: BlobNamer,
    readers: Cache<PackId, Arc<FrameReader>>,
    /// Those that no thread is using.
    expanders: Mutex<Vec<Expander>>,
}

impl FrameOpener {
    pub(crate) fn new(vault: VaultId, opener: Opener, namer: BlobNamer) -> Self {
        let readers = Cache::new(READERS_MAX);
        Self { vault, opener, namer, readers, expanders: Mutex::default() }
    }

    /// Opens and expands a frame from its sealed message. Call it where blocking is allowed.
    pub(crate) fn open(&self, frame: &WantedFrame, message: Vec<u8>) -> Result<Bytes, Error> {
        let reader = self.reader(&frame.pack)?;
        let idle = || self.expanders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut expander = idle().pop().unwrap_or_else(Expander::new);
        let raw = reader.open(message, frame.offset, frame.kind, &mut expander);
        idle().push(expander);
        raw.map(Bytes::from)
    }

    fn reader(&self, pack: &PackPlace) -> Result<Arc<FrameReader>, Error> {
        let id = pack.id();
        if let Some(reader) = self.readers.get(&id) {
            return Ok(reader);
        }
        let key = self.opener.run_key(pack.envelope()?, &format!("pack {id}"))?;
        let reader = Arc::new(FrameReader::new(self.vault, &key, &id, &pack.row.salt));
        self.readers.put(id, Arc::clone(&reader), 1);
        Ok(reader)
    }

    /// The blobs that are wanted of a frame, whole, once the id of each was recomputed.
    pub(crate) fn cut<'a>(
        &self,
        frame: &WantedFrame,
        raw: &'a [u8],
    ) -> Result<Vec<&'a [u8]>, Error> {
        let wrong = |id: &BlobId, why: &str| {
            let what = format!("pack {}", frame.pack.id());
            Error::damaged(what, format!("blob {id} in the frame at byte {} {why}", frame.offset))
        };
        let cut = |WantedBlob { id, offset, length, .. }: &WantedBlob| {
            let blob = raw.get(*offset..offset + length);
            blob.ok_or_else(|| wrong(id, "reaches beyond the frame's end"))
        };
        let blobs = frame.blobs.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
        let ids = self.namer.name_all(frame.kind, &blobs);
        match frame.blobs.iter().zip(ids).find(|(wanted, id)| wanted.id != *id) {
            Some((wanted, _)) => Err(wrong(&wanted.id, "has other contents than its id says")),
            None => Ok(blobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::PackRow;

    /// Requests for frames of one pack at these places, as ranges.
    fn ranges(frames: &[(u32, u32)]) -> Vec<Range<u64>> {
        ranges_of(BlobKind::Data, frames)
    }

    fn ranges_of(kind: BlobKind, frames: &[(u32, u32)]) -> Vec<Range<u64>> {
        let pack = crate::read::tests::some_pack();
        let wanted = frames.iter().map(|&(offset, stored)| WantedFrame {
            pack: Arc::clone(&pack),
            kind,
            offset,
            stored,
            blobs: Vec::new(),
        });
        coalesce(wanted.collect()).iter().map(Request::range).collect()
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]
    fn neighbours_share_a_request_up_to_its_bound() {
        let (small, mib) = (1000, MIB as u32);
        assert_eq!(ranges(&[(100, small), (1100, small)]), [100..2100]);
        assert_eq!(ranges(&[(0, small), (small + 65_536, 5)]), [0..66_541]);
        assert_eq!(ranges(&[(0, small), (small + 65_537, 5)]).len(), 2);
        assert_eq!(ranges_of(BlobKind::Tree, &[(0, small), (525_288, 5)]).len(), 1);
        assert_eq!(ranges_of(BlobKind::Tree, &[(0, small), (525_289, 5)]).len(), 2);
        assert_eq!(ranges_of(BlobKind::Tree, &[(0, mib / 2), (mib, mib)]).len(), 2);
        assert_eq!(ranges_of(BlobKind::Tree, &[(0, mib / 2), (mib / 2 + 9, mib)]).len(), 1);
        let many: Vec<_> = (0..20).map(|n| (n * mib, mib)).collect();
        assert_eq!(ranges(&many).len(), 3);
        assert_eq!(ranges(&[(0, 9 * mib)]).len(), 1);
    }

    #[test]
    fn no_request_reads_two_packs() {
        let first = crate::read::tests::some_pack();
        let row = PackRow { id: PackId::from_bytes([2; 32]), ..first.row.clone() };
        let second = Arc::new(PackPlace::for_test(row));
        for kind in [BlobKind::Data, BlobKind::Tree] {
            // The second pack's frame lies before the first one's, beside it, and behind it.
            for offset in [0, 5_000_000, 5_001_000, 5_002_000] {
                let frame = |pack: &Arc<PackPlace>, offset| WantedFrame {
                    pack: Arc::clone(pack),
                    kind,
                    offset,
                    stored: 1000,
                    blobs: Vec::new(),
                };
                let requests = coalesce(vec![frame(&first, 5_000_000), frame(&second, offset)]);
                let packs: Vec<_> = requests.iter().map(|r| r.pack().unwrap().id()).collect();
                assert_eq!(packs, [first.id(), second.id()]);
            }
        }
    }
}
