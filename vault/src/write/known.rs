//! What the vault holds already, as far as this host knows: the agent's cache.
//!
//! Losing it costs a download of the index, never correctness: everything in it is a copy of index segments, and
//! carries hashes. Memory is a few bytes for each pack of the vault, and nothing for each blob beyond some filters of
//! bounded size.

mod catch_up;
mod copies;
mod drain;
mod extend;
mod load;
mod memo;
mod tables;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::envelope::RecipientsDigest;
use crate::error::Error;
use crate::ids::{BlobId, SegmentId, VaultId};
use crate::index::{BuiltSegment, OpenSegment, PackRow};
use crate::keys::{Salt, VaultSecret};
use crate::record::PackSet;
use crate::store::{Store, VersionId};
use crate::write::table::{Row, Table};

pub use copies::AtCopy;
use copies::Joined;
pub(in crate::write) use copies::{CopyMemo, Spot};
use drain::Draining;
use extend::extend;
pub(in crate::write) use memo::write_file;
use tables::is_damaged_table;

/// A pack whose known lock ends sooner than this is extended before anything in it is used again, so that no pruner
/// can take it while the run lasts. Longer than any sane run.
const SAFE_LOCK: SignedDuration = SignedDuration::from_hours(72);

/// How old a cache file must be before it is taken for litter: a run of another job may have made it just now.
pub(in crate::write) const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);

/// Of how many segments the descriptions of packs are kept in memory.
const ROWS_KEPT: usize = 16;

/// A pack of a segment by this run's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackHandle {
    segment: u32,
    pack: u32,
}

impl PackHandle {
    pub(in crate::write) fn of(segment: u32, pack: u32) -> Self {
        Self { segment, pack }
    }

    /// The segment's number and the pack's.
    pub(in crate::write) fn numbers(self) -> (u32, u32) {
        (self.segment, self.pack)
    }
}

/// A segment that the vault holds.
#[derive(Debug)]
struct Segment {
    id: SegmentId,
    size: u64,
    blobs: u32,
    /// How many of them are nodes and lists, where this host stored it.
    nodes: Option<u32>,
    salt: Salt,
    version: Option<VersionId>,
    /// When the lock of the segment itself ends.
    lock: LockState,
    /// The same for each of its packs.
    packs: Vec<LockState>,
    /// Packs sealed to other recipients than this run's, who could not open them: never used again.
    foreign: PackSet,
    used: PackSet,
    /// How many bytes of each pack's blobs this run's snapshot uses; empty until it uses one.
    bytes: Vec<u64>,
    /// Packs that are being drained: not worth a longer lock.
    drained: PackSet,
}

/// What is known of a lock: the end in whole hours since 1970 (rounded down), or that the object is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::write) struct LockState(u32);

impl LockState {
    pub(in crate::write) const NONE: Self = Self(0);
    const GONE: Self = Self(u32::MAX);

    pub(in crate::write) fn until(time: Option<Timestamp>) -> Self {
        time.map_or(Self::NONE, |t| {
            Self(u32::try_from(t.as_second() / 3600).unwrap_or(0).min(u32::MAX - 1))
        })
    }

    fn holds_until(self, time: Timestamp) -> bool {
        self != Self::GONE && i64::from(self.0) * 3600 >= time.as_second()
    }

    fn end(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.0) * 3600).unwrap_or(Timestamp::MIN)
    }
}

/// What is known of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It lies here, and may be used again.
    Held(PackHandle),
    /// It lies in packs that are being drained only, and is to be stored again.
    Drained,
    /// The copy with this number lacks the packs in which it lies, so that it is to be stored again.
    Lacking(usize),
    /// It must be stored.
    Unknown,
}

/// Whether a pack may be needed by this run's snapshot.
enum Taken {
    Yes,
    No,
    /// The copy with this number lacks it.
    Lacking(usize),
}

/// What the vault holds, and what of it this run uses.
#[derive(Debug)]
pub struct Known {
    dir: PathBuf,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Handle,
    vault: VaultId,
    secret: VaultSecret,
    recipients: RecipientsDigest,
    locks: bool,
    segments: Vec<Segment>,
    numbers: HashMap<SegmentId, u32>,
    tables: Vec<(Table, Vec<Option<u32>>)>,
    extended: u64,
    draining: Draining,
    /// What segments say of their packs, for the few segments that were asked last.
    rows: HashMap<u32, Vec<PackRow>>,
    copies: Vec<Joined>,
}

impl Known {
    /// Brings the cache in `dir` up to date with the vault's index. `locks` says whether the target locks.
    ///
    /// # Errors
    /// [`Error`] if the index can't be read, or the folder can't be written.
    pub async fn open(
        dir: &Path,
        store: Arc<dyn Store>,
        vault: VaultId,
        secret: VaultSecret,
        recipients: RecipientsDigest,
        locks: bool,
    ) -> Result<Self, Error> {
        for sub in ["segments", "tables", "locks", "journal", "usage"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).map_err(Error::local(format!("making {}", sub.display())))?;
        }
        let mut known = Self {
            dir: dir.into(),
            store,
            runtime: tokio::runtime::Handle::current(),
            vault,
            secret,
            recipients,
            locks,
            segments: Vec::new(),
            numbers: HashMap::new(),
            tables: Vec::new(),
            extended: 0,
            draining: Draining::default(),
            rows: HashMap::new(),
            copies: Vec::new(),
        };
        let found = known.list().await?;
        known.forget_others(&found)?;
        let mut fresh = Vec::new();
        for (id, versions) in found {
            if let Some(number) = known.load(id, &versions).await? {
                fresh.push(number);
            }
        }
        known.open_tables(&fresh)?;
        Ok(known)
    }

    fn segment_path(&self, id: &SegmentId) -> PathBuf {
        self.dir.join("segments").join(id.to_string())
    }

    fn lock_path(&self, id: &SegmentId) -> PathBuf {
        self.dir.join("locks").join(id.to_string())
    }

    /// The folder where a run notes packs that no segment describes yet.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.dir.join("journal")
    }

    fn number_segment(&mut self, segment: Segment) -> u32 {
        let number = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        self.numbers.insert(segment.id, number);
        self.segments.push(segment);
        number
    }

    /// Where a blob lies, if the vault holds it and it may be used again; else why it must be stored. A pack that is
    /// used for the first time and whose lock ends soon is extended before this answers. Called from the thread
    /// that reads sources.
    ///
    /// # Errors
    /// [`Error`] if the cache can't be read, or an extension fails for another reason than that the pack is gone.
    pub(crate) fn look(&mut self, id: &BlobId) -> Result<Lookup, Error> {
        let mut missing = Lookup::Unknown;
        let mut at = 0;
        let mut again = true;
        while at < self.tables.len() {
            let rows = match self.tables[at].0.find(id) {
                Err(error) if again && is_damaged_table(&error) => {
                    tracing::warn!("{error}");
                    again = false;
                    at = 0;
                    let all: Vec<u32> = self.numbers.values().copied().collect();
                    self.open_tables(&all)?;
                    continue;
                }
                rows => rows?,
            };
            for row in rows {
                let segment = self.tables[at].1.get(row.segment as usize).copied().flatten();
                let Some(segment) = segment else { continue };
                let handle = PackHandle { segment, pack: row.pack };
                match self.try_take(handle)? {
                    Taken::Yes => return Ok(Lookup::Held(handle)),
                    Taken::Lacking(copy) => missing = Lookup::Lacking(copy),
                    Taken::No if self.drains(handle) => missing = Lookup::Drained,
                    Taken::No => {}
                }
            }
            at += 1;
        }
        Ok(missing)
    }

    /// Marks a pack as needed by this run's snapshot; answers whether it may be.
    ///
    /// # Errors
    /// As for blobs: if the cache can't be read, or an extension fails for another reason than that the pack is gone.
    pub fn take(&mut self, handle: PackHandle) -> Result<bool, Error> {
        Ok(matches!(self.try_take(handle)?, Taken::Yes))
    }

    fn try_take(&mut self, handle: PackHandle) -> Result<Taken, Error> {
        let Some(segment) = self.segments.get(handle.segment as usize) else {
            return Ok(Taken::No);
        };
        if segment.used.contains(handle.pack) {
            return Ok(Taken::Yes);
        }
        let Some(&lock) = segment.packs.get(handle.pack as usize) else { return Ok(Taken::No) };
        if lock == LockState::GONE || segment.foreign.contains(handle.pack) || self.drains(handle) {
            return Ok(Taken::No);
        }
        if let Some(copy) = self.lacking(handle) {
            return Ok(Taken::Lacking(copy));
        }
        let safe = self.store.now().saturating_add(SAFE_LOCK).unwrap_or(Timestamp::MAX);
        // Without locks nothing but a look tells whether a pack is still there.
        if !self.locks || !lock.holds_until(safe) {
            let row = self.row(handle)?;
            let extended = self.runtime.block_on(extend(&*self.store, &row, safe))?;
            self.segments[handle.segment as usize].packs[handle.pack as usize] = extended;
            if extended == LockState::GONE {
                tracing::warn!(pack = %row.id, "a pack is gone from the vault; what it held is stored again");
                return Ok(Taken::No);
            }
            self.extended += u64::from(self.locks);
        }
        if let Some(copy) = self.make_safe(handle, safe)? {
            return Ok(Taken::Lacking(copy));
        }
        self.segments[handle.segment as usize].used.insert(handle.pack);
        Ok(Taken::Yes)
    }

    /// A pack by names that outlive this run: for the agent's own caches.
    pub fn name(&self, handle: PackHandle) -> Option<(SegmentId, u32)> {
        Some((self.segments.get(handle.segment as usize)?.id, handle.pack))
    }

    /// The other way round; `None` if the vault no longer holds that segment.
    pub fn handle(&self, segment: &SegmentId, pack: u32) -> Option<PackHandle> {
        let number = *self.numbers.get(segment)?;
        let packs = self.segments.get(number as usize)?.packs.len();
        ((pack as usize) < packs).then_some(PackHandle { segment: number, pack })
    }

    /// Takes a segment into account that this run has stored; all its packs are new and needed. `foreign` are those
    /// that an interrupted run sealed to other recipients; `memos` tell what each copy has of it. Answers its number.
    pub(in crate::write) fn stored(
        &mut self,
        built: &BuiltSegment,
        version: Option<VersionId>,
        lock: Option<Timestamp>,
        foreign: PackSet,
        memos: Vec<Option<CopyMemo>>,
    ) -> Result<u32, Error> {
        write_file(&self.segment_path(&built.id), &built.bytes)?;
        let rows = built.blobs.iter().map(|row| Ok(Row { id: row.id, segment: 0, pack: row.pack }));
        let table = self.write_table(&[built.id], built.blobs.len() as u64, rows)?;
        let mut used = PackSet::default();
        (0..u32::try_from(built.packs.len()).unwrap_or(0)).for_each(|n| used.insert(n));
        let mut bytes = vec![0; built.packs.len()];
        for row in &built.blobs {
            bytes[row.pack as usize] += u64::from(row.place.length);
        }
        let number = self.number_segment(Segment {
            id: built.id,
            size: built.bytes.len() as u64,
            // Bounded by `SEGMENT_BLOBS_MAX`.
            blobs: u32::try_from(built.blobs.len()).unwrap_or(u32::MAX),
            nodes: Some(built.nodes),
            salt: built.salt,
            version,
            lock: LockState::until(lock),
            packs: built.packs.iter().map(|row| LockState::until(row.locked_until())).collect(),
            foreign,
            used,
            bytes,
            drained: PackSet::default(),
        });
        self.stored_at_copies(number, memos);
        // A long run stores hundreds of segments: as many tables would be searched, and held open, for each blob.
        let mut tables: Vec<Table> = self.tables.drain(..).map(|(table, _)| table).collect();
        tables.push(table);
        match self.merge(tables) {
            Err(error) if is_damaged_table(&error) => {
                tracing::warn!("{error}");
                let all: Vec<u32> = self.numbers.values().copied().collect();
                self.open_tables(&all)?;
            }
            result => result?,
        }
        Ok(number)
    }

    /// Forgets that packs of a segment are needed: for what an interrupted run left, until something uses it.
    pub(crate) fn unuse(&mut self, id: &SegmentId) {
        if let Some(&number) = self.numbers.get(id) {
            self.segments[number as usize].used = PackSet::default();
            self.segments[number as usize].bytes = Vec::new();
        }
    }

    fn row(&mut self, handle: PackHandle) -> Result<PackRow, Error> {
        if !self.rows.contains_key(&handle.segment) {
            if self.rows.len() >= ROWS_KEPT {
                self.rows.clear();
            }
            let rows = self.pack_rows(&self.segments[handle.segment as usize].id)?;
            self.rows.insert(handle.segment, rows);
        }
        let row = self.rows.get(&handle.segment).and_then(|rows| rows.get(handle.pack as usize));
        row.cloned().ok_or_else(|| {
            let id = self.segments[handle.segment as usize].id;
            Error::damaged(format!("index segment {id}"), format!("it has no pack {}", handle.pack))
        })
    }

    /// What this host's copy of a segment says of its packs.
    fn pack_rows(&self, id: &SegmentId) -> Result<Vec<PackRow>, Error> {
        let (open, bytes) = self.copy_of(id)?;
        open.pack_rows(&bytes)
    }

    /// This host's copy of a segment, and its bytes.
    fn copy_of(&self, id: &SegmentId) -> Result<(OpenSegment, Vec<u8>), Error> {
        let path = self.segment_path(id);
        let bytes = fs::read(&path).map_err(Error::local(format!("reading {}", path.display())))?;
        Ok((OpenSegment::open_whole(id, self.vault, &self.secret, &bytes)?, bytes))
    }

    /// How many packs of earlier runs this run's snapshot needs, and how many locks it has extended.
    pub(crate) fn counts(&self, own: &HashSet<SegmentId>) -> (u64, u64) {
        let reused =
            self.segments.iter().filter(|s| !own.contains(&s.id)).map(|s| s.used.len()).sum();
        (reused, self.extended)
    }
}
