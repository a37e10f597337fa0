//! Draining: packs of which little is still used are not locked for longer.
//!
//! What of them is still used is stored again while the source is read, the only time at which the agent has it in
//! plain; then nothing holds the old pack, and the pruner may take it once its lock ends. Which packs are drained is
//! decided before a run reads anything, from what the last run of each job on this host noted. Without these notes
//! nothing is drained, and all is right nonetheless.
//!
//! A pack that is being drained stays so: its mark stands in the cache with what is known of its lock, or the next run
//! would find the old copy of a blob as well as the new one, and lock it again.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::memo::{read_note, write_note};
use super::{Known, LockState, PackHandle};
use crate::error::Error;
use crate::ids::SegmentId;
use crate::read::concerns_object;

/// A pack of whose contents less than this is used, in percent, is drained.
const USED_MIN_PERCENT: u64 = 25;

/// A pack is drained only if its lock would otherwise move by so much: else storing again costs more than keeping.
const GAIN_MIN: SignedDuration = SignedDuration::from_hours(24);

/// What a run may store again, and what of unchanged files it may read again for that, each in percent of what the
/// job's last snapshot used …
const BUDGET_PERCENT: u64 = 10;
/// … but so many bytes in any case.
const BUDGET_MIN: u64 = 64 << 20;

/// What this run drains.
#[derive(Debug, Default)]
pub(super) struct Draining {
    /// Until when what this run uses must be locked; nothing is drained until that is known.
    needed: Option<Timestamp>,
    /// How many bytes of unchanged files may still be read again.
    reread_left: u64,
    /// Packs that this run has chosen.
    chosen: HashSet<PackHandle>,
    /// Segments whose marks have changed.
    touched: HashSet<u32>,
}

impl Draining {
    /// Whether marks of a segment have changed in this run.
    pub(super) fn touched(&self, segment: usize) -> bool {
        u32::try_from(segment).is_ok_and(|n| self.touched.contains(&n))
    }
}

/// How much of which packs the last run of a job used.
#[derive(Debug, Serialize, Deserialize)]
struct Usage {
    /// When that run's snapshot expires, in seconds since 1970: nothing holds its packs after that.
    expires_s: i64,
    segments: Vec<(SegmentId, Vec<(u32, u64)>)>,
}

/// A pack that could be drained.
struct Candidate {
    handle: PackHandle,
    /// Bytes of it that this job used.
    own: u64,
    /// Bytes of it that any job of this host used.
    used: u64,
    /// Bytes of all blobs in it.
    contents: u64,
}

impl Known {
    /// Chooses the packs that this run of `job` drains: those that its locks would have to be extended for (to `until`,
    /// since they don't last until `needed`), and of which the last runs of this host's jobs used little.
    ///
    /// # Errors
    /// [`Error::Local`] if the cache's folder can't be read.
    pub fn plan_draining(
        &mut self,
        job: &str,
        needed: Timestamp,
        until: Timestamp,
    ) -> Result<(), Error> {
        if !self.locks {
            return Ok(());
        }
        self.draining.needed = Some(needed);
        let Some(own) = read_note::<Usage>(&self.usage_path(job)) else { return Ok(()) };
        let total: u64 = own.segments.iter().flat_map(|(_, packs)| packs).map(|&(_, n)| n).sum();
        let budget = (total / 100 * BUDGET_PERCENT).max(BUDGET_MIN);
        self.draining.reread_left = budget;
        let mut candidates = self.candidates(&own, needed, until);
        self.add_other_jobs(job, needed, &mut candidates)?;
        self.add_contents(&mut candidates)?;
        let mut poor: Vec<Candidate> = candidates
            .into_values()
            .filter(|c| c.used * 100 < c.contents * USED_MIN_PERCENT)
            .collect();
        // Those that free most for what they cost; by number where that is the same, so that runs are alike.
        poor.sort_by_key(|c| (c.used * 1000 / c.contents.max(1), c.handle.segment, c.handle.pack));
        let mut left = budget;
        for candidate in poor {
            let Some(rest) = left.checked_sub(candidate.own) else { continue };
            left = rest;
            self.mark(candidate.handle);
        }
        Ok(())
    }

    /// The packs that the job used last, and whose locks this run would have to extend.
    fn candidates(
        &self,
        own: &Usage,
        needed: Timestamp,
        until: Timestamp,
    ) -> HashMap<PackHandle, Candidate> {
        let mut candidates = HashMap::new();
        for (id, packs) in &own.segments {
            let Some(&segment) = self.numbers.get(id) else { continue };
            for &(pack, used) in packs {
                let handle = PackHandle { segment, pack };
                let known = &self.segments[segment as usize];
                let Some(&lock) = known.packs.get(pack as usize) else { continue };
                let considerable =
                    !lock.holds_until(until.saturating_sub(GAIN_MIN).unwrap_or(until));
                if lock == LockState::GONE
                    || lock.holds_until(needed)
                    || !considerable
                    || known.drained.contains(pack)
                {
                    continue;
                }
                candidates.insert(handle, Candidate { handle, own: used, used, contents: 0 });
            }
        }
        candidates
    }

    /// Adds what the other jobs of this host use of the same packs.
    fn add_other_jobs(
        &self,
        job: &str,
        needed: Timestamp,
        candidates: &mut HashMap<PackHandle, Candidate>,
    ) -> Result<(), Error> {
        if candidates.is_empty() {
            return Ok(());
        }
        let folder = self.dir.join("usage");
        let entries =
            fs::read_dir(&folder).map_err(Error::local(format!("reading {}", folder.display())))?;
        let own = self.usage_path(job);
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != own) {
            let Some(other) = read_note::<Usage>(&path) else { continue };
            // A job that is no longer run keeps nothing once its last snapshot has expired.
            let now = self.store.now().min(needed);
            if other.expires_s < now.as_second() {
                continue;
            }
            for (id, packs) in other.segments {
                let Some(&segment) = self.numbers.get(&id) else { continue };
                for (pack, used) in packs {
                    if let Some(found) = candidates.get_mut(&PackHandle { segment, pack }) {
                        found.used += used;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks up how much the candidates' packs hold in all; those of segments that can't be read are left out.
    fn add_contents(&self, candidates: &mut HashMap<PackHandle, Candidate>) -> Result<(), Error> {
        let segments: HashSet<u32> = candidates.keys().map(|handle| handle.segment).collect();
        for segment in segments {
            let contents = match self.pack_contents(&self.segments[segment as usize].id) {
                Err(error) if concerns_object(&error) => {
                    tracing::warn!(%error, "what packs hold can't be told; they are not drained");
                    continue;
                }
                contents => contents?,
            };
            for candidate in candidates.values_mut().filter(|c| c.handle.segment == segment) {
                candidate.contents =
                    contents.get(candidate.handle.pack as usize).copied().unwrap_or(0);
            }
        }
        Ok(())
    }

    /// The length of all blobs of each pack of a segment.
    fn pack_contents(&self, id: &SegmentId) -> Result<Vec<u64>, Error> {
        let (open, bytes) = self.copy_of(id)?;
        let mut contents = vec![0; open.packs() as usize];
        for row in open.blob_rows(&bytes) {
            let row = row?;
            contents[row.pack as usize] += u64::from(row.place.length);
        }
        Ok(contents)
    }

    fn mark(&mut self, handle: PackHandle) {
        self.segments[handle.segment as usize].drained.insert(handle.pack);
        self.draining.chosen.insert(handle);
        self.draining.touched.insert(handle.segment);
    }

    /// Whether a pack is being drained, and this run would have to extend it.
    pub(super) fn drains(&self, handle: PackHandle) -> bool {
        let Some(needed) = self.draining.needed else { return false };
        let Some(segment) = self.segments.get(handle.segment as usize) else { return false };
        let lock = segment.packs.get(handle.pack as usize).copied().unwrap_or(LockState::NONE);
        segment.drained.contains(handle.pack) && !lock.holds_until(needed)
    }

    /// Decides about an unchanged content in these packs: answers `false` if it is to be read again, since some of it
    /// lies in a pack that is being drained. Where that costs too much, the pack is kept instead.
    pub(crate) fn settle_drained(&mut self, packs: &[(PackHandle, u64)]) -> bool {
        if !packs.iter().any(|&(pack, _)| self.drains(pack)) {
            return true;
        }
        let size = packs.iter().map(|&(_, bytes)| bytes).sum();
        if let Some(left) = self.draining.reread_left.checked_sub(size) {
            self.draining.reread_left = left;
            return false;
        }
        for &(pack, _) in packs {
            if self.drains(pack) {
                self.segments[pack.segment as usize].drained.remove(pack.pack);
                self.draining.chosen.remove(&pack);
                self.draining.touched.insert(pack.segment);
            }
        }
        true
    }

    /// Counts bytes of a pack that this run's snapshot uses. What several files share counts for each: a pack then
    /// seems better used than it is, and is drained later.
    pub(crate) fn count(&mut self, handle: PackHandle, bytes: u64) {
        let Some(segment) = self.segments.get_mut(handle.segment as usize) else { return };
        if segment.bytes.is_empty() {
            segment.bytes = vec![0; segment.packs.len()];
        }
        if let Some(count) = segment.bytes.get_mut(handle.pack as usize) {
            *count = count.saturating_add(bytes);
        }
    }

    /// How many packs this run has begun to drain.
    pub(crate) fn packs_drained(&self) -> u64 {
        self.draining.chosen.len() as u64
    }

    /// Notes how much of which packs the snapshot of `job` uses, for the next runs' decision. To be called once the
    /// run is over; `expires` is when the snapshot does.
    ///
    /// # Errors
    /// [`Error::Local`] if the cache can't be written.
    pub fn note_usage(&self, job: &str, expires: Timestamp) -> Result<(), Error> {
        let used = |segment: &super::Segment| -> Vec<(u32, u64)> {
            let bytes = |n: u32| segment.bytes.get(n as usize).copied().unwrap_or(0);
            segment.used.iter().map(|n| (n, bytes(n))).collect()
        };
        let segments = self
            .segments
            .iter()
            .filter(|segment| !segment.used.is_empty())
            .map(|segment| (segment.id, used(segment)))
            .collect();
        write_note(&self.usage_path(job), &Usage { expires_s: expires.as_second(), segments })
    }

    fn usage_path(&self, job: &str) -> PathBuf {
        self.dir.join("usage").join(job)
    }
}
