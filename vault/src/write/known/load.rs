//! The vault's index brought into the cache: each segment's copy is sound, or it is as if the segment weren't there.

use std::collections::HashSet;
use std::fs;

use futures::TryStreamExt;
use jiff::Timestamp;

use super::memo::{Memo, write_file};
use super::{Known, LITTER_AGE, LockState, Segment};
use crate::error::Error;
use crate::ids::SegmentId;
use crate::index::OpenSegment;
use crate::limits::SEGMENT_LEN_MAX;
use crate::read::{concerns_object, versions_or_newest};
use crate::record::PackSet;
use crate::store::{ObjectKey, Prefix, Version, VersionId};

/// A segment in the vault, and its versions, newest first.
type Listed = (SegmentId, Vec<Option<VersionId>>);

impl Known {
    /// The segments in the vault, the oldest first: so a record can name the newest first, by which readers guess where
    /// to search.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut found: Vec<(Timestamp, Listed)> = Vec::new();
        let mut listed = versions_or_newest(&*self.store, &Prefix::index());
        while let Some(Version { key, version, delete_marker, modified, .. }) =
            listed.try_next().await?
        {
            let Some(id) = key.as_segment().filter(|_| !delete_marker) else { continue };
            match found.last_mut() {
                Some((stored, (last, versions))) if *last == id => {
                    // What was put over it later doesn't make it younger.
                    *stored = modified.min(*stored);
                    versions.push(version);
                }
                _ => found.push((modified, (id, vec![version]))),
            }
        }
        found.sort_by_key(|(stored, _)| *stored);
        Ok(found.into_iter().map(|(_, segment)| segment).collect())
    }

    /// Removes copies of segments that the vault no longer holds, and what killed runs left half written. Other jobs
    /// of this host may be running with the same cache: what they have just made is not in this listing yet.
    pub(super) fn forget_others(
        &self,
        found: &[(SegmentId, Vec<Option<VersionId>>)],
    ) -> Result<(), Error> {
        let names: HashSet<String> = found.iter().map(|(id, _)| id.to_string()).collect();
        for sub in ["segments", "locks", "tables"] {
            let folder = self.dir.join(sub);
            let entries = fs::read_dir(&folder)
                .map_err(Error::local(format!("reading {}", folder.display())))?;
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let wanted = if sub == "tables" {
                    !name.starts_with('.')
                } else {
                    names.contains(name.as_ref())
                };
                let made = entry.metadata().and_then(|m| m.modified());
                let old = made.is_ok_and(|t| t.elapsed().is_ok_and(|age| age > LITTER_AGE));
                if !wanted && old {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        Ok(())
    }

    /// Makes sure that a sound copy of a segment is at hand; answers its number, or nothing if no version of it in
    /// the vault is sound (it is then as if it weren't there: its blobs are stored again).
    pub(super) async fn load(
        &mut self,
        id: SegmentId,
        versions: &[Option<VersionId>],
    ) -> Result<Option<u32>, Error> {
        let path = self.segment_path(&id);
        let sound = |bytes: &[u8]| blake3::hash(bytes).as_bytes() == id.as_bytes();
        let memo = Memo::read(&self.lock_path(&id));
        // In a copy of the bucket, or after someone tampered, the version noted here may be gone.
        let there = |memo: &Memo| versions.iter().any(|v| v.is_none() || *v == memo.version);
        if let (Ok(bytes), Some(memo)) = (fs::read(&path), memo.as_ref().filter(|m| there(m)))
            && sound(&bytes)
        {
            return self.adopt_sound(id, memo.version.clone(), &bytes, Some(memo));
        }
        let key = ObjectKey::segment(&id);
        for version in versions {
            let bytes = match self
                .store
                .get(&key, version.as_ref(), u64::from(SEGMENT_LEN_MAX))
                .await
            {
                Ok(bytes) => bytes,
                Err(error) => {
                    let error = error.into();
                    if concerns_object(&error) {
                        tracing::warn!(%key, ?version, %error, "an index segment can't be read; passed over");
                        continue;
                    }
                    return Err(error);
                }
            };
            if !sound(&bytes) {
                tracing::warn!(%key, ?version, "bytes of an index segment are not those of its name; passed over");
                continue;
            }
            write_file(&path, &bytes)?;
            let memo = memo.as_ref().filter(|m| m.version == *version);
            return self.adopt_sound(id, version.clone(), &bytes, memo);
        }
        Ok(None)
    }

    /// Takes a segment into account, or passes it over if its bytes are none that this program can read: whoever may
    /// write to the vault could otherwise stop every host's runs with one object.
    fn adopt_sound(
        &mut self,
        id: SegmentId,
        version: Option<VersionId>,
        bytes: &[u8],
        memo: Option<&Memo>,
    ) -> Result<Option<u32>, Error> {
        match self.adopt(id, version.clone(), bytes, memo) {
            Ok(number) => Ok(Some(number)),
            Err(error) if concerns_object(&error) => {
                tracing::warn!(%error, "an index segment is passed over; what it describes may be stored again");
                if memo.is_none() {
                    let (packs, drained) = (Vec::new(), PackSet::default());
                    Memo { version, segment: LockState::NONE, packs, drained, nodes: None }
                        .write(&self.lock_path(&id))?;
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a segment whose bytes are sound into account.
    fn adopt(
        &mut self,
        id: SegmentId,
        version: Option<VersionId>,
        bytes: &[u8],
        memo: Option<&Memo>,
    ) -> Result<u32, Error> {
        let open = OpenSegment::open_whole(&id, self.vault, &self.secret, bytes)?;
        let header = OpenSegment::header(&id, bytes)?;
        let mut packs = Vec::new();
        let mut foreign = PackSet::default();
        for (number, row) in (0..).zip(open.pack_rows(bytes)?) {
            if open.recipients(row.envelope) != Some(self.recipients) {
                foreign.insert(number);
            }
            packs.push(LockState::until(row.locked_until()));
        }
        let mut drained = PackSet::default();
        // A segment doesn't tell of its own lock, and it may end sooner than those of its packs: an interrupted run may
        // have stored them for longer than the one that described them.
        let mut lock = LockState::NONE;
        let mut nodes = None;
        if let Some(memo) = memo.filter(|m| m.packs.len() == packs.len()) {
            lock = memo.segment;
            packs.clone_from(&memo.packs);
            drained = memo.drained.clone();
            nodes = memo.nodes;
        }
        let segment = Segment {
            id,
            size: bytes.len() as u64,
            blobs: open.blobs(),
            nodes,
            salt: header.salt,
            version,
            lock,
            packs,
            foreign,
            used: PackSet::default(),
            bytes: Vec::new(),
            drained,
        };
        if memo.is_none() {
            Memo::of(&segment).write(&self.lock_path(&id))?;
        }
        Ok(self.number_segment(segment))
    }
}
