//! Locks of what a snapshot needs: made to last as long as it is kept.

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::memo::Memo;
use super::{Known, LockState};
use crate::error::Error;
use crate::index::PackRow;
use crate::record::SegmentRef;
use crate::store::{ObjectKey, Store, StoreError};

/// How many locks are extended at once.
const EXTENSIONS_AT_ONCE: usize = 16;

impl Known {
    /// Extends the locks of everything that the snapshot needs: at least to `needed`, and where a call must be made
    /// at all, to `until`. Answers the segments for the record, newest first, and the soonest end of a lock.
    ///
    /// # Errors
    /// [`Error::Gone`] if a pack is: the run must be done again, and will store what it held.
    pub(in crate::write) async fn commit(
        &mut self,
        needed: Timestamp,
        until: Timestamp,
    ) -> Result<(Vec<SegmentRef>, Option<Timestamp>), Error> {
        let mut soonest: Option<Timestamp> = None;
        let mut refs = Vec::new();
        let mut gone = 0;
        for number in (0..self.segments.len()).rev() {
            if self.segments[number].used.is_empty() {
                if self.draining.touched(number) {
                    let segment = &self.segments[number];
                    Memo::of(segment).write(&self.lock_path(&segment.id))?;
                }
                continue;
            }
            if self.locks {
                gone += self.extend_packs(number, needed, until).await?;
                gone += self.extend_segment(number, needed, until).await?;
            }
            let segment = &self.segments[number];
            for lock in segment
                .used
                .iter()
                .filter_map(|n| segment.packs.get(n as usize))
                .chain([&segment.lock])
            {
                let end = lock.end();
                soonest = Some(soonest.map_or(end, |s| s.min(end)));
            }
            refs.push(SegmentRef {
                id: segment.id,
                size: segment.size,
                blobs: Some(segment.blobs),
                nodes: segment.nodes,
                salt: segment.salt,
                version: segment.version.clone(),
                used: segment.used.clone(),
            });
            Memo::of(segment).write(&self.lock_path(&segment.id))?;
        }
        if gone > 0 {
            return Err(Error::Gone { objects: gone });
        }
        Ok((refs, soonest.filter(|_| self.locks)))
    }

    async fn extend_packs(
        &mut self,
        number: usize,
        needed: Timestamp,
        until: Timestamp,
    ) -> Result<u64, Error> {
        let segment = &self.segments[number];
        let short: Vec<u32> = segment
            .used
            .iter()
            .filter(|&n| segment.packs.get(n as usize).is_none_or(|lock| !lock.holds_until(needed)))
            .collect();
        if short.is_empty() {
            return Ok(0);
        }
        let rows = self.pack_rows(&segment.id)?;
        let store = &*self.store;
        let work = short.into_iter().filter_map(|n| Some((n, rows.get(n as usize)?.clone())));
        let results: Vec<(u32, LockState)> = futures::stream::iter(work)
            .map(|(n, row)| async move { Ok::<_, Error>((n, extend(store, &row, until).await?)) })
            .buffer_unordered(EXTENSIONS_AT_ONCE)
            .try_collect()
            .await?;
        let mut gone = 0;
        for (n, lock) in results {
            if lock == LockState::GONE {
                gone += 1;
            } else {
                self.extended += 1;
            }
            self.segments[number].packs[n as usize] = lock;
        }
        Ok(gone)
    }

    async fn extend_segment(
        &mut self,
        number: usize,
        needed: Timestamp,
        until: Timestamp,
    ) -> Result<u64, Error> {
        let segment = &self.segments[number];
        if segment.lock.holds_until(needed) {
            return Ok(0);
        }
        let key = ObjectKey::segment(&segment.id);
        match self.store.extend(&key, segment.version.as_ref(), until).await {
            Ok(lock) => {
                self.extended += 1;
                self.segments[number].lock = LockState::until(lock.map(|l| l.until));
                Ok(0)
            }
            Err(StoreError::NotFound { .. }) => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}

/// Extends a pack's lock; answers the lock that the store says it has now, or that it is gone.
pub(super) async fn extend(
    store: &dyn Store,
    row: &PackRow,
    until: Timestamp,
) -> Result<LockState, Error> {
    match store.extend(&ObjectKey::pack(&row.id), row.version.as_ref(), until).await {
        Ok(lock) => Ok(LockState::until(lock.map(|l| l.until))),
        Err(StoreError::NotFound { .. }) => Ok(LockState::GONE),
        Err(error) => Err(error.into()),
    }
}
