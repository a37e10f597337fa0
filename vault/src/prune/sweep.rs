//! Going through what lies there, and taking away what may go.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::error::Error;
use crate::ids::SegmentId;
use crate::keys::MetadataKey;
use crate::limits::{PACK_LEN_MAX, RECORD_LEN_MAX, SEGMENT_LEN_MAX};
use crate::prune::LONGEST;
use crate::prune::holds::{Holds, ShortName, read_segment, short};
use crate::prune::report::{Kind, Report};
use crate::read::{FoundRecord, Vault, concerns_object};
use crate::store::{ObjectKey, Prefix, Prune, StoreError, Version};

/// Objects that are asked about or deleted at once.
const AT_ONCE: usize = 16;

/// One passage through a vault.
pub(super) struct Sweep<'a> {
    pub(super) store: &'a dyn Prune,
    pub(super) vault: &'a Vault,
    pub(super) key: &'a MetadataKey,
    pub(super) holds: &'a Holds,
    pub(super) grace: SignedDuration,
    pub(super) dry_run: bool,
    pub(super) now: Timestamp,
}

/// What became of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Deleted,
    /// Within the grace period, or still needed to explain something.
    Waiting,
    Locked(Timestamp),
    Refused(String),
    Kept,
    Unknown,
    /// Somebody else was faster.
    Gone,
}

/// What became of the versions of a key.
type Fates = Vec<(Kind, u64, Fate)>;

/// All versions of one key, newest first.
struct Group {
    key: ObjectKey,
    versions: Vec<Version>,
}

impl Group {
    fn data(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|v| !v.delete_marker)
    }
}

impl Sweep<'_> {
    /// Packs, then segments, then records.
    pub(super) async fn run(&self, report: &mut Report) -> Result<(), Error> {
        let left = self.packs(report).await?;
        self.segments(&left, report).await?;
        self.records(report).await
    }

    /// Takes packs away; answers which of those that nothing needs are left, sorted.
    async fn packs(&self, report: &mut Report) -> Result<Vec<ShortName>, Error> {
        let mut left = Vec::new();
        let swept = groups(self.store, &Prefix::packs())
            .map(|group| async move {
                let group = group?;
                let Some(id) = group.key.as_pack() else {
                    return Ok((None, unknown(Kind::Pack, &group)));
                };
                if self.holds.pack(&id) {
                    let named = |bytes: &[u8]| blake3::hash(bytes).as_bytes() == id.as_bytes();
                    let max = u64::from(PACK_LEN_MAX);
                    return Ok::<_, Error>((
                        None,
                        self.kept(Kind::Pack, &group, max, &named).await?,
                    ));
                }
                Ok((Some(id), self.unneeded(Kind::Pack, &group).await?))
            })
            .buffer_unordered(AT_ONCE);
        let mut swept = std::pin::pin!(swept);
        while let Some(one) = swept.next().await {
            let (id, fates) = one?;
            let gone = |fate: &Fate| matches!(fate, Fate::Deleted | Fate::Gone);
            if let Some(id) = id
                && fates.iter().any(|(kind, _, fate)| *kind == Kind::Pack && !gone(fate))
            {
                left.push(short(&id));
            }
            count(report, fates);
        }
        left.sort_unstable();
        Ok(left)
    }

    /// Takes segments away that nothing needs, once all packs that they describe are gone.
    async fn segments(&self, left: &[ShortName], report: &mut Report) -> Result<(), Error> {
        let swept = groups(self.store, &Prefix::index())
            .map(|group| async move {
                let group = group?;
                let Some(id) = group.key.as_segment() else {
                    return Ok(unknown(Kind::Segment, &group));
                };
                if self.holds.segment(&id) {
                    let named = |bytes: &[u8]| blake3::hash(bytes).as_bytes() == id.as_bytes();
                    let max = u64::from(SEGMENT_LEN_MAX);
                    return self.kept(Kind::Segment, &group, max, &named).await;
                }
                // Its bytes are only fetched where it could go.
                let mut free = false;
                for version in group.data() {
                    free |= self.look(version).await?.is_none();
                }
                match free {
                    true => match self.describes(&id, left).await? {
                        None => Ok(unknown(Kind::Segment, &group)),
                        Some(true) => Ok(fates(Kind::Segment, &group, &Fate::Waiting)),
                        Some(false) => self.unneeded(Kind::Segment, &group).await,
                    },
                    false => self.unneeded(Kind::Segment, &group).await,
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut swept = std::pin::pin!(swept);
        while let Some(one) = swept.next().await {
            count(report, one?);
        }
        Ok(())
    }

    /// Whether a segment describes a pack that still lies there; `None` if it can't be read.
    async fn describes(&self, id: &SegmentId, left: &[ShortName]) -> Result<Option<bool>, Error> {
        match read_segment(self.vault, self.key, id, None).await {
            Ok(rows) => Ok(Some(rows.iter().any(|row| {
                self.holds.pack(&row.id) || left.binary_search(&short(&row.id)).is_ok()
            }))),
            Err(error) if concerns_object(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes records away, the oldest of each job first, up to the first that stays.
    async fn records(&self, report: &mut Report) -> Result<(), Error> {
        for job in &self.holds.may_go {
            let mut goes_on = true;
            for found in job {
                if !goes_on {
                    report.tally(Kind::Record).waiting.add(found.size);
                    continue;
                }
                let group = self.group_of(found).await?;
                let fates = self.unneeded(Kind::Record, &group).await?;
                goes_on = fates.iter().all(|(_, _, f)| matches!(f, Fate::Deleted | Fate::Gone));
                count(report, fates);
            }
        }
        for found in &self.holds.kept {
            if found.versions < 2 {
                report.tally(Kind::Record).kept.add(found.size);
                continue;
            }
            let group = self.group_of(found).await?;
            let named =
                |bytes: &[u8]| hex::encode(&blake3::hash(bytes).as_bytes()[..16]) == found.key.id;
            count(report, self.kept(Kind::Record, &group, RECORD_LEN_MAX, &named).await?);
        }
        Ok(())
    }

    async fn group_of(&self, found: &FoundRecord) -> Result<Group, Error> {
        let key = found.key.object()?;
        let versions: Vec<_> = self.store.list_versions(&Prefix::exact(&key)).try_collect().await?;
        let versions = versions.into_iter().filter(|v| v.key == key).collect();
        Ok(Group { key, versions })
    }

    /// Takes away what may go of a key that nothing needs. Markers over data stay: they hide what is locked from plain
    /// readers, and the verifier tells of them.
    async fn unneeded(&self, kind: Kind, group: &Group) -> Result<Fates, Error> {
        let mut fates = Vec::new();
        if group.data().next().is_none() {
            for marker in &group.versions {
                fates.push((Kind::Marker, 0, self.take(marker).await?));
            }
            return Ok(fates);
        }
        // The oldest, which is the true one, goes last: what is left is never only what was put over it.
        for version in group.data() {
            fates.push((kind, version.size, self.take(version).await?));
        }
        Ok(fates)
    }

    /// Takes away what was put over an object that is kept, if its true bytes are there.
    async fn kept(
        &self,
        kind: Kind,
        group: &Group,
        max: u64,
        is_true: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> Result<Fates, Error> {
        let data: Vec<_> = group.data().collect();
        let mut fates = Vec::new();
        let mut truth = None;
        for &version in &data {
            // One version alone is never read; if it is damaged, the verifier tells.
            let free = data.len() > 1 && self.look(version).await?.is_none();
            if !free || self.holds(version, max, is_true).await? != Some(false) {
                fates.push((kind, version.size, Fate::Kept));
                continue;
            }
            if truth.is_none() {
                let mut found = false;
                for &other in data.iter().rev() {
                    found = self.holds(other, max, is_true).await? == Some(true);
                    if found {
                        break;
                    }
                }
                truth = Some(found);
            }
            let fate = if truth == Some(true) { self.take(version).await? } else { Fate::Kept };
            fates.push((if fate == Fate::Kept { kind } else { Kind::Surplus }, version.size, fate));
        }
        Ok(fates)
    }

    /// Whether a version has true bytes; `None` if it can't be read.
    async fn holds(
        &self,
        version: &Version,
        max: u64,
        is_true: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> Result<Option<bool>, Error> {
        match self.store.get(&version.key, version.version.as_ref(), max).await {
            Ok(bytes) => Ok(Some(is_true(&bytes))),
            Err(StoreError::TooLarge { .. }) => Ok(Some(false)),
            // A pruner needn't be allowed to read packs: then what was put over them stays.
            Err(StoreError::Denied { .. }) => Ok(None),
            Err(error) => {
                let error = error.into();
                if concerns_object(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Why a version can't go now; nothing if it can.
    async fn look(&self, version: &Version) -> Result<Option<Fate>, Error> {
        // Also what seems to come from the future.
        if self.now.duration_since(version.modified) < self.grace {
            return Ok(Some(Fate::Waiting));
        }
        // A delete marker can't be locked, and asking about its lock is refused.
        if version.delete_marker {
            return Ok(None);
        }
        Ok(match self.store.retention(&version.key, version.version.as_ref()).await {
            Ok(lock) => lock.filter(|l| l.until > self.now).map(|l| Fate::Locked(l.until)),
            Err(StoreError::NotFound { .. }) => Some(Fate::Gone),
            Err(error @ StoreError::Denied { .. }) => Some(Fate::Refused(error.to_string())),
            Err(error) => return Err(error.into()),
        })
    }

    /// Deletes a version, if it can go now.
    async fn take(&self, version: &Version) -> Result<Fate, Error> {
        if let Some(fate) = self.look(version).await? {
            return Ok(fate);
        }
        if self.dry_run {
            return Ok(Fate::Deleted);
        }
        if self.store.now().duration_since(self.now) > LONGEST {
            let why = "pruning took so long that what was read at its beginning is out of date; \
                       what was deleted so far was right, run it again for the rest";
            return Err(Error::Stopped(why.into()));
        }
        tracing::info!(key = %version.key, version = ?version.version, "deleting");
        Ok(match self.store.delete(&version.key, version.version.as_ref()).await {
            Ok(()) => Fate::Deleted,
            Err(StoreError::NotFound { .. }) => Fate::Gone,
            Err(StoreError::Locked { until, .. }) => Fate::Locked(until),
            Err(error @ StoreError::Denied { .. }) => Fate::Refused(error.to_string()),
            Err(error) => return Err(error.into()),
        })
    }
}

fn fates(kind: Kind, group: &Group, fate: &Fate) -> Fates {
    group.data().map(|v| (kind, v.size, fate.clone())).collect()
}

/// What isn't named as Keephold names things, or can't be read: it is left alone.
fn unknown(kind: Kind, group: &Group) -> Fates {
    fates(kind, group, &Fate::Unknown)
}

fn count(report: &mut Report, fates: Fates) {
    for (kind, bytes, fate) in fates {
        let tally = report.tally(kind);
        match fate {
            Fate::Deleted => tally.deleted.add(bytes),
            Fate::Waiting => tally.waiting.add(bytes),
            Fate::Kept => tally.kept.add(bytes),
            Fate::Unknown => tally.unknown.add(bytes),
            Fate::Locked(until) => report.locked(kind, bytes, until),
            Fate::Refused(why) => report.refused(kind, bytes, why),
            Fate::Gone => {}
        }
    }
}

/// The versions below a prefix, key by key.
fn groups<'a>(
    store: &'a dyn Prune,
    prefix: &Prefix,
) -> impl futures::Stream<Item = Result<Group, Error>> + use<'a> {
    let listed: BoxStream<'a, Result<Version, StoreError>> = store.list_versions(prefix);
    futures::stream::unfold((listed, None::<Group>), |(mut listed, mut open)| async move {
        loop {
            match listed.next().await {
                Some(Ok(version)) => match &mut open {
                    Some(group) if group.key == version.key => group.versions.push(version),
                    _ => {
                        let next = Group { key: version.key.clone(), versions: vec![version] };
                        if let Some(group) = open.replace(next) {
                            return Some((Ok(group), (listed, open)));
                        }
                    }
                },
                Some(Err(error)) => return Some((Err(error.into()), (listed, None))),
                None => return open.take().map(|group| (Ok(group), (listed, None))),
            }
        }
    })
}
