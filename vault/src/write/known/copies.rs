//! What copies of the vault hold: where one lacks something, that is stored again for all, so that each new snapshot is
//! whole everywhere.
//!
//! A segment in a copy's index says that its packs are there. What is known of their locks and versions *there* stands in
//! a note for each segment; where that is lost, versions are looked up as they are needed. Memory is four bytes a pack
//! and copy.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memo::{read_note, write_note};
use super::{Known, LockState, PackHandle};
use crate::error::Error;
use crate::ids::{PackId, SegmentId};
use crate::read::versions_or_newest;
use crate::record::SegmentRef;
use crate::store::{ObjectKey, Prefix, Store, StoreError, Version, VersionId};
use crate::write::copy::{At, Copy, find};

/// How many objects of a copy are looked at, or locked, at once.
const AT_ONCE: usize = 16;

/// Where an object lies at a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::write) struct Spot {
    pub(in crate::write) version: Option<VersionId>,
    pub(in crate::write) lock: LockState,
}

impl Spot {
    /// Nothing is known but that it should be there.
    const UNKNOWN: Self = Self { version: None, lock: LockState::NONE };
    const GONE: Self = Self { version: None, lock: LockState::GONE };
}

/// What this host remembers of a segment at a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::write) struct CopyMemo {
    pub(in crate::write) segment: Spot,
    pub(in crate::write) packs: Vec<Spot>,
}

impl CopyMemo {
    fn locks(&self) -> Vec<LockState> {
        self.packs.iter().map(|spot| spot.lock).collect()
    }
}

/// A copy, and what it holds.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) copy: Arc<Copy>,
    /// Whether what it holds could be listed. A copy that is down constrains nothing.
    listed: bool,
    /// The locks of the packs of each segment that it holds.
    held: HashMap<u32, Vec<LockState>>,
}

impl Joined {
    pub(super) fn new(copy: Arc<Copy>) -> Self {
        Self { copy, listed: false, held: HashMap::new() }
    }

    pub(super) fn holds(&self, segment: u32) -> bool {
        self.held.contains_key(&segment)
    }

    /// What is known of a pack's lock there; `GONE` if the copy lacks it.
    fn lock(&self, handle: PackHandle) -> LockState {
        let packs = self.held.get(&handle.segment);
        packs.and_then(|p| p.get(handle.pack as usize)).copied().unwrap_or(LockState::GONE)
    }
}

/// What came of making all that a snapshot needs last at a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtCopy {
    /// It is all there, and locked until then at least (`None` without locks).
    Whole(Option<Timestamp>),
    /// The copy lacks so many of the objects that the snapshot needs.
    Lacks(u64),
    /// The copy is down.
    Down,
}

/// The versions of a segment in a copy's listing.
struct Group {
    number: u32,
    memo: Option<CopyMemo>,
    /// Whether the version that the memo is about is there.
    believed: bool,
    oldest: Option<VersionId>,
}

impl Known {
    /// The copies that this run writes to.
    pub(in crate::write) fn copies(&self) -> Vec<Arc<Copy>> {
        self.copies.iter().map(|joined| joined.copy.clone()).collect()
    }

    /// Learns which of the known segments a copy holds.
    pub(super) async fn list_copy(&mut self, n: usize, store: &dyn Store) -> Result<(), Error> {
        let mut listed = versions_or_newest(store, &Prefix::index());
        let mut group: Option<Group> = None;
        while let Some(version) = listed.try_next().await? {
            let Version { key, version, size, delete_marker, .. } = version;
            let Some(id) = key.as_segment().filter(|_| !delete_marker) else { continue };
            let Some(&number) = self.numbers.get(&id) else { continue };
            // Other bytes that somebody put in its place.
            if self.segments[number as usize].size != size {
                continue;
            }
            if group.as_ref().is_none_or(|group| group.number != number) {
                self.adopt_group(n, group.take())?;
                let memo = read_note::<CopyMemo>(&self.copies[n].copy.memo_path(&id));
                let packs = self.segments[number as usize].packs.len();
                let memo = memo.filter(|memo| memo.packs.len() == packs);
                group = Some(Group { number, memo, believed: false, oldest: None });
            }
            if let Some(group) = &mut group {
                let same = |memo: &CopyMemo| version.is_none() || memo.segment.version == version;
                group.believed |= group.memo.as_ref().is_some_and(same);
                group.oldest = version;
            }
        }
        self.adopt_group(n, group)?;
        for (number, segment) in (0..).zip(&self.segments) {
            // A note of what isn't there must not be believed if it ever is again.
            if !self.copies[n].holds(number) {
                let _ = std::fs::remove_file(self.copies[n].copy.memo_path(&segment.id));
            }
        }
        self.copies[n].listed = true;
        Ok(())
    }

    fn adopt_group(&mut self, n: usize, group: Option<Group>) -> Result<(), Error> {
        let Some(Group { number, memo, believed, oldest }) = group else { return Ok(()) };
        if let Some(memo) = memo.filter(|_| believed) {
            self.copies[n].held.insert(number, memo.locks());
            return Ok(());
        }
        let packs = vec![Spot::UNKNOWN; self.segments[number as usize].packs.len()];
        let segment = Spot { version: oldest, lock: LockState::NONE };
        self.hold_segment(n, number, &CopyMemo { segment, packs })
    }

    /// Notes that a copy holds a segment, and what is known of it there.
    pub(super) fn hold_segment(
        &mut self,
        n: usize,
        number: u32,
        memo: &CopyMemo,
    ) -> Result<(), Error> {
        let id = self.segments[number as usize].id;
        write_note(&self.copies[n].copy.memo_path(&id), memo)?;
        self.copies[n].held.insert(number, memo.locks());
        Ok(())
    }

    /// The copy, if there is one, that lacks a pack, for which what it holds must be stored again.
    pub(super) fn lacking(&self, handle: PackHandle) -> Option<usize> {
        self.copies.iter().position(|joined| {
            joined.listed && joined.copy.is_up() && joined.lock(handle) == LockState::GONE
        })
    }

    /// Makes a pack's lock last until `safe` at each copy where it is known to end sooner; answers the copy, if there is
    /// one, that turned out to lack it. What isn't known of locks is learnt at the end of the run.
    pub(super) fn make_safe(
        &mut self,
        handle: PackHandle,
        safe: Timestamp,
    ) -> Result<Option<usize>, Error> {
        for n in 0..self.copies.len() {
            let joined = &self.copies[n];
            let lock = joined.lock(handle);
            let Some(store) = joined.copy.up().cloned() else { continue };
            if !joined.listed || lock == LockState::NONE || lock.holds_until(safe) {
                continue;
            }
            let row = self.row(handle)?;
            let id = self.segments[handle.segment as usize].id;
            let path = self.copies[n].copy.memo_path(&id);
            let version = read_note::<CopyMemo>(&path)
                .and_then(|memo| memo.packs.get(handle.pack as usize)?.version.clone());
            let known = Spot { version, lock };
            let key = ObjectKey::pack(&row.id);
            let held = hold(&*store, &key, row.size.into(), known, safe, true);
            match self.runtime.block_on(held) {
                Err(error) => self.copies[n].copy.fail(&error.into()),
                Ok(spot) => {
                    if let Some(packs) = self.copies[n].held.get_mut(&handle.segment) {
                        packs[handle.pack as usize] = spot.lock;
                    }
                    if spot.lock == LockState::GONE {
                        return Ok(Some(n));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Counts bytes that are stored again since a copy lacks them.
    pub(crate) fn count_again(&self, copy: usize, bytes: u64) {
        if let Some(joined) = self.copies.get(copy) {
            joined.copy.count_again(bytes);
        }
    }

    /// Sees to it that all that a snapshot needs is at a copy, and locked until `needed` at least (until `until` where a
    /// lock must be moved anyway).
    pub(in crate::write) async fn settle(
        &mut self,
        n: usize,
        segments: &[SegmentRef],
        needed: Timestamp,
        until: Timestamp,
    ) -> AtCopy {
        let copy = self.copies[n].copy.clone();
        let Some(store) = copy.up().cloned().filter(|_| self.copies[n].listed) else {
            return AtCopy::Down;
        };
        let (now, mut lacking) = (store.now(), 0);
        let (needed, until) = (copy.needed(now, needed), copy.lock_end(now, until));
        let mut soonest: Option<Timestamp> = None;
        for segment in segments {
            let number = self.numbers.get(&segment.id).copied();
            let Some(number) = number.filter(|number| self.copies[n].holds(*number)) else {
                lacking += 1 + segment.used.len();
                continue;
            };
            match self.settle_segment(n, number, segment, &*store, needed, until).await {
                Ok((end, gone)) => {
                    soonest = Some(soonest.map_or(end, |soonest| soonest.min(end)));
                    lacking += gone;
                }
                Err(error) => {
                    copy.fail(&error);
                    return AtCopy::Down;
                }
            }
        }
        match lacking {
            0 => AtCopy::Whole(soonest.filter(|_| copy.locks())),
            n => AtCopy::Lacks(n),
        }
    }

    /// The same for one segment; answers when the first of its locks ends, and how many objects are gone.
    async fn settle_segment(
        &mut self,
        n: usize,
        number: u32,
        segment: &SegmentRef,
        store: &dyn Store,
        needed: Timestamp,
        until: Timestamp,
    ) -> Result<(Timestamp, u64), Error> {
        let locks = self.copies[n].copy.locks();
        let count = self.segments[number as usize].packs.len();
        let memo = read_note::<CopyMemo>(&self.copies[n].copy.memo_path(&segment.id));
        let mut memo = memo.filter(|memo| memo.packs.len() == count).unwrap_or_else(|| CopyMemo {
            segment: Spot::UNKNOWN,
            packs: vec![Spot::UNKNOWN; count],
        });
        let used: Vec<usize> = segment.used.iter().map(|pack| pack as usize).collect();
        if used.iter().any(|&at| at >= count) {
            return Ok((Timestamp::MIN, 1));
        }
        let short = |spot: &Spot| !locks || !spot.lock.holds_until(needed);
        let mut work = Vec::new();
        if short(&memo.segment) {
            let key = ObjectKey::segment(&segment.id);
            work.push((None, key, segment.size, memo.segment.clone()));
        }
        if used.iter().any(|&at| short(&memo.packs[at])) {
            let rows = self.pack_rows(&segment.id)?;
            for (at, row) in rows.iter().enumerate() {
                let spot = &memo.packs[at];
                if short(spot) && segment.used.contains(u32::try_from(at).unwrap_or(u32::MAX)) {
                    work.push((Some(at), ObjectKey::pack(&row.id), row.size.into(), spot.clone()));
                }
            }
        }
        let held: Vec<(Option<usize>, Spot)> = futures::stream::iter(work)
            .map(|(at, key, size, spot)| async move {
                Ok::<_, Error>((at, hold(store, &key, size, spot, until, locks).await?))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let changed = !held.is_empty();
        for (at, spot) in held {
            match at {
                Some(at) => memo.packs[at] = spot,
                None => memo.segment = spot,
            }
        }
        if changed {
            self.hold_segment(n, number, &memo)?;
        }
        let used = used.iter().map(|&at| memo.packs[at].lock);
        let (mut soonest, mut gone) = (Timestamp::MAX, 0);
        for lock in used.chain([memo.segment.lock]) {
            gone += u64::from(lock == LockState::GONE);
            soonest = soonest.min(lock.end());
        }
        Ok((soonest, gone))
    }

    /// Where the packs of a segment lie at a copy; what was just delivered isn't looked for.
    pub(super) async fn look_for_packs(
        &self,
        store: &dyn Store,
        id: &SegmentId,
        delivered: &HashMap<PackId, Spot>,
    ) -> Result<Vec<(PackId, At)>, Error> {
        let rows = self.pack_rows(id)?;
        futures::stream::iter(rows)
            .map(|row| async move {
                let spot = match delivered.get(&row.id) {
                    Some(spot) => Some(spot.clone()),
                    None => find(store, &ObjectKey::pack(&row.id), row.size.into()).await?,
                };
                Ok::<_, Error>((row.id, spot.map_or(At::Nowhere, At::There)))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }
}

/// Makes an object's lock at a copy last until `until`; answers where it lies, or that it is gone. Without locks nothing
/// but a look tells whether it is there.
async fn hold(
    store: &dyn Store,
    key: &ObjectKey,
    size: u64,
    known: Spot,
    until: Timestamp,
    locks: bool,
) -> Result<Spot, StoreError> {
    let spot = if !locks || known == Spot::UNKNOWN || known.lock == LockState::GONE {
        match find(store, key, size).await? {
            Some(spot) => spot,
            None => return Ok(Spot::GONE),
        }
    } else {
        known
    };
    if !locks {
        return Ok(spot);
    }
    match store.extend(key, spot.version.as_ref(), until).await {
        Ok(lock) => {
            Ok(Spot { version: spot.version, lock: LockState::until(lock.map(|l| l.until)) })
        }
        Err(StoreError::NotFound { .. }) => Ok(Spot::GONE),
        Err(error) => Err(error),
    }
}
