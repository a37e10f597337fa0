//! A copy of a vault at another target, with locks of its own. Takes no key: sealed objects are copied byte for byte,
//! and since names are hashes, each is checked on its way.
//!
//! **Order.** A record must never stand in the copy without what it needs, and without a key nothing says what that is.
//! But a record is written last: everything that it needs was stored, and locked for long enough, before it was. So:
//!
//! 1. `vault.json`, which tells whose copy it is;
//! 2. list `runs/`: what the copy lacks of it is the set R of records to copy;
//! 3. list `index/`, then list `packs/`, both later than R: all that R needs is in these listings. Copy the packs that
//!    the copy lacks, and see to it that those which it has are locked for as long as in the source;
//! 4. copy the segments, so that none stands there without its packs;
//! 5. copy exactly R, each job's oldest first, so that its chain has no hole.
//!
//! A crash at any moment leaves what was copied, and the next replication lists the copy and goes on. If an object could
//! not be copied, though it may be sound in the source, steps 4 and 5 are left out. An object that is *damaged* in the source
//! is reported and holds nothing back: the copy is then as good as its source, and one rotten pack, perhaps of no use to
//! anyone, can't keep every later backup from having a copy. A pack that a pruner took away between listing and
//! reading wasn't needed by any record that has not expired, nor by one of the newest good ones.
//!
//! **Locks.** Without a key it isn't known when a run expires, but the lock of each of its objects lasts until then at least.
//! So the copy's lock ends when the source's does, or later by [`Settings::keep`]. A run may have made the lock of any
//! old pack longer. So when there are new records, the lock of every object that the copy has already is compared:
//! two small requests an object (about 0.05 $ a TB on Amazon S3), and a third and a fourth for those that are behind. Without new
//! records nothing can have become needed for longer, and no lock is asked for.
//!
//! Nothing is ever deleted from a copy, and delete markers and what was put over a true version aren't copied.

mod object;
mod sides;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::Semaphore;

use self::object::{Named, Object};
use self::sides::Pairs;
pub use self::tally::{Kind, Problem, Tally, Totals};
use crate::error::Error;
use crate::ids::{Fingerprint, VaultId};
use crate::read::{Vault, concerns_object};
use crate::store::{
    LockMode, LockPolicy, ObjectKey, Prefix, Store, StoreError, Version, ensure_lockable,
};

/// Objects that are looked at together; a question about a lock is a small request.
const AHEAD: usize = 64;
/// A copy is locked for no less than this: a target refuses a lock that ends in the past, as that of an expired snapshot's
/// pack does in the source.
const LOCK_LEAST: SignedDuration = SignedDuration::from_hours(24);

/// How to replicate.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The locks of the copy.
    pub policy: LockPolicy,
    /// For how long from now everything is locked at least. Needed where the source has no locks.
    pub keep: Option<SignedDuration>,
    /// Objects of up to 128 MiB (packs: 16 to 64 MiB) that are held in memory and copied at once; at least one is.
    pub parallel: usize,
    /// The vault that it must be.
    pub fingerprint: Option<Fingerprint>,
}

/// What came of a replication. Its numbers are in the [`Tally`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The vault.
    pub vault: VaultId,
    /// Its fingerprint, also that of its copy.
    pub fingerprint: Fingerprint,
    /// Whether the locks of what the copy had already were compared: they are where there are new records.
    pub locks_compared: bool,
    /// New records that were not copied, because something that they may need could not be.
    pub held_back: u64,
}

/// Copies to `target` what it lacks of the vault in `source`. What was done is counted in `tally` as it goes, also where
/// it ends with an error.
///
/// # Errors
/// [`Error::OtherVault`] if the target holds another vault, or the source isn't the pinned one. [`StoreError`]s that concern
/// a target as a whole; one that concerns a single object is a problem in `tally`.
pub async fn replicate(
    source: &Arc<dyn Store>,
    target: &Arc<dyn Store>,
    settings: &Settings,
    tally: &Tally,
) -> Result<Done, Error> {
    ensure_lockable(target.as_ref(), settings.policy).await?;
    let vault = open(source, target, settings.fingerprint.as_ref()).await?;
    let job = Replication {
        source: source.as_ref(),
        target: target.as_ref(),
        settings,
        tally,
        fingerprint: vault.fingerprint(),
        now: target.now(),
        copies: Semaphore::new(settings.parallel.max(1)),
    };
    let config = Prefix::exact(&ObjectKey::vault_config());
    job.pass(&config, Missing::Copy, false).await?;
    // Nothing is of use without it.
    Vault::open(Arc::clone(target), Some(&vault.fingerprint())).await?;
    let mut records = job.pass(&Prefix::runs(), Missing::Later, false).await?;
    let compare = !records.is_empty() && settings.policy != LockPolicy::None;
    job.pass(&config, Missing::Copy, compare).await?;
    let segments = job.pass(&Prefix::index(), Missing::Later, compare).await?;
    job.pass(&Prefix::packs(), Missing::Copy, compare).await?;
    if compare {
        records.extend(job.pass(&Prefix::runs(), Missing::Leave, true).await?);
    }
    let mut held_back = records.len() as u64;
    if tally.failed() == 0 {
        job.copy_all(segments).await?;
    }
    if tally.failed() == 0 {
        held_back = 0;
        job.copy_records(records).await?;
    }
    Ok(Done {
        vault: vault.id(),
        fingerprint: vault.fingerprint(),
        locks_compared: compare,
        held_back,
    })
}

/// Opens the source, which must be the pinned vault, and the one that the target is a copy of.
async fn open(
    source: &Arc<dyn Store>,
    target: &Arc<dyn Store>,
    pinned: Option<&Fingerprint>,
) -> Result<Vault, Error> {
    let copy = match Vault::open(Arc::clone(target), pinned).await {
        Ok(copy) => copy.fingerprint(),
        Err(Error::Store(StoreError::NotFound { .. })) => {
            return Vault::open(Arc::clone(source), pinned).await;
        }
        Err(error) => return Err(error),
    };
    // Read by the copy's fingerprint, so that another vault.json over the true one does no harm.
    match Vault::open(Arc::clone(source), Some(&copy)).await {
        Err(Error::OtherVault { .. }) => Err(Error::OtherVault {
            what: format!("vault.json in {}", target.url()),
            found: format!("with fingerprint {copy}"),
            expected: format!("the vault in {}", source.url()),
        }),
        opened => opened,
    }
}

/// What to do with what the copy lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Copy it.
    Copy,
    /// Give it back, to be copied later.
    Later,
    /// Nothing; but what goes missing meanwhile is given back.
    Leave,
}

struct Replication<'a> {
    source: &'a dyn Store,
    target: &'a dyn Store,
    settings: &'a Settings,
    tally: &'a Tally,
    fingerprint: Fingerprint,
    /// When the replication began: what locks are reckoned from.
    now: Timestamp,
    /// Bounds how many objects are in memory.
    copies: Semaphore,
}

impl Replication<'_> {
    /// Holds one folder of the source against the copy's. Both are listed in the order of keys, so neither is held in
    /// memory, but for what is to be copied later: records and segments, one of each a run.
    async fn pass(
        &self,
        prefix: &Prefix,
        missing: Missing,
        compare: bool,
    ) -> Result<Vec<Object>, Error> {
        let pairs =
            Pairs::new(self.source.list_versions(prefix), self.target.list_versions(prefix));
        let pairs = stream::try_unfold(pairs, |mut pairs| async move {
            Ok::<_, StoreError>(pairs.next().await?.map(|pair| (pair, pairs)))
        });
        let mut later = Vec::new();
        let looked_at = pairs
            .map_err(Error::from)
            .map_ok(|(group, copy)| async move {
                // What isn't named as an object of a vault is left alone; the verifier reports it.
                let Some(object) = Object::new(group, &self.fingerprint) else {
                    return Ok(None);
                };
                // The pass that only compares locks sees records again.
                if missing != Missing::Leave {
                    self.tally.found(object.kind());
                }
                let there = match object.in_copy(&copy) {
                    Some(version) if compare => self.compare_lock(&object, version).await?,
                    copy => copy.is_some() || missing == Missing::Leave,
                };
                match missing {
                    _ if there => {}
                    Missing::Copy => self.copy(&object).await?,
                    Missing::Later | Missing::Leave => return Ok(Some(object)),
                }
                Ok(None)
            })
            .try_buffer_unordered(AHEAD);
        let mut looked_at = pin!(looked_at);
        while let Some(object) = looked_at.try_next().await? {
            later.extend(object);
        }
        Ok(later)
    }

    async fn copy_all(&self, objects: Vec<Object>) -> Result<(), Error> {
        stream::iter(objects.iter().map(Ok))
            .try_for_each_concurrent(AHEAD, |object| self.copy(object))
            .await
    }

    /// Copies records: jobs beside each other, the records of one in their order.
    async fn copy_records(&self, records: Vec<Object>) -> Result<(), Error> {
        let mut jobs: BTreeMap<(String, String), Vec<Object>> = BTreeMap::new();
        for record in records {
            if let Named::Record(key) = &record.named {
                jobs.entry((key.host.clone(), key.job.clone())).or_default().push(record);
            }
        }
        let jobs = jobs.into_values().map(|mut records| {
            records.sort_by(|a, b| a.sequence().cmp(&b.sequence()));
            Ok(records)
        });
        stream::iter(jobs)
            .try_for_each_concurrent(AHEAD, |records| async move {
                for record in &records {
                    self.copy(record).await?;
                }
                Ok(())
            })
            .await
    }

    /// Copies one object, in the version whose bytes are those of its name.
    async fn copy(&self, object: &Object) -> Result<(), Error> {
        self.settle(object, self.try_copy(object).await)
    }

    /// What concerns one object only is counted, and the others go on.
    fn settle(&self, object: &Object, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            // Pruned meanwhile: in the source nothing needs it any more.
            Err(Error::Store(StoreError::NotFound { what, target }))
                if target == self.source.url() =>
            {
                tracing::debug!(%what, "gone from the source");
                self.tally.gone.add(1);
                Ok(())
            }
            Err(error) if is_about_one(&error) => {
                self.tally.fail(&object.key, &error);
                Ok(())
            }
            other => other,
        }
    }

    async fn try_copy(&self, object: &Object) -> Result<(), Error> {
        // Never closed.
        let _permit = self.copies.acquire().await.ok();
        let mut wrong = None;
        for version in &object.versions {
            let version = version.version.as_ref();
            self.tally.requests.reads.add(1);
            let bytes = match self.source.get(&object.key, version, object.named.len_max()).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => continue,
                Err(error @ StoreError::TooLarge { .. }) => {
                    wrong = Some(error.to_string());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let (named, body) = (object.named.clone(), bytes.clone());
            let is_true = crate::read::blocking(move || named.is_hash_of(&body)).await?;
            if !is_true {
                wrong = Some("its bytes are not those that its name is the hash of".to_owned());
                continue;
            }
            let size = bytes.len() as u64;
            let until = self.lock_end(object).await?;
            self.tally.requests.writes.add(1);
            self.target.put(&object.key, bytes, until).await?;
            self.tally.copied(object.kind(), size);
            return Ok(());
        }
        match wrong {
            Some(why) => self.tally.damaged(&object.key, &why),
            None => self.tally.gone.add(1),
        }
        Ok(())
    }

    /// Until when a new copy is to be locked.
    async fn lock_end(&self, object: &Object) -> Result<Timestamp, Error> {
        let least = self.now + LOCK_LEAST;
        if self.settings.policy == LockPolicy::None {
            return Ok(least);
        }
        let end = self.source_end(object).await?;
        Ok(end.map_or(least, |end| end.max(least)).max(self.floor(SLACK).unwrap_or(least)))
    }

    /// When the source's lock ends; `None` if there is none, and [`Settings::keep`] takes its place. A PUT that arrived
    /// twice left two versions with the same bytes, and a record may rest on either: the lock that lasts longest counts.
    async fn source_end(&self, object: &Object) -> Result<Option<Timestamp>, Error> {
        let size = object.versions.first().map(|v| v.size);
        let (mut end, mut gone) = (None, None);
        for version in object.versions.iter().filter(|v| Some(v.size) == size) {
            self.tally.requests.lock_reads.add(1);
            match self.source.retention(&object.key, version.version.as_ref()).await {
                Ok(lock) => end = end.max(Some(lock.map(|lock| lock.until))),
                Err(error @ StoreError::NotFound { .. }) => gone = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match (end, gone) {
            (Some(Some(until)), _) => Ok(Some(until)),
            (None, Some(gone)) => Err(gone.into()),
            _ if self.settings.keep.is_some() => Ok(None),
            _ => Err(StoreError::Config {
                detail: format!(
                    "{} in {} has no lock, so it isn't known for how long its copy is to be locked: give `keep`",
                    object.key,
                    self.source.url()
                ),
            }
            .into()),
        }
    }

    /// The end that [`Settings::keep`] asks for; with `slack` parts of four more, so that it isn't moved at every run.
    fn floor(&self, slack: i32) -> Option<Timestamp> {
        let keep = self.settings.keep?;
        let more = (keep / 4).checked_mul(slack).unwrap_or_default();
        self.now.checked_add(keep.saturating_add(more)).ok()
    }

    /// Sees to it that what the copy has is locked for as long as in the source. Answers whether the copy still has it:
    /// a pruner there may have taken it since it was listed, while the source needs it again.
    async fn compare_lock(&self, object: &Object, copy: &Version) -> Result<bool, Error> {
        match self.try_compare_lock(object, copy).await {
            Ok(there) => Ok(there),
            Err(error) => self.settle(object, Err(error)).map(|()| true),
        }
    }

    async fn try_compare_lock(&self, object: &Object, copy: &Version) -> Result<bool, Error> {
        let end = self.source_end(object).await?;
        let wanted = end.max(self.floor(0));
        // The lock of what nothing needs any more may have ended.
        let Some(wanted) = wanted.filter(|end| *end > self.now) else { return Ok(true) };
        let version = copy.version.as_ref();
        self.tally.requests.lock_reads.add(1);
        let held = match self.target.retention(&object.key, version).await {
            Ok(held) => held,
            // Then the target compares by itself.
            Err(StoreError::Denied { .. }) => None,
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let weak = self.settings.policy == LockPolicy::Compliance;
        let weak = weak && held.is_some_and(|lock| lock.mode == LockMode::Governance);
        if held.is_some_and(|lock| lock.until >= wanted) && !weak {
            return Ok(true);
        }
        let until = end.max(self.floor(SLACK)).unwrap_or(wanted);
        self.tally.requests.lock_extensions.add(1);
        match self.target.extend(&object.key, version, until).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// How many quarters of [`Settings::keep`] are added where it decides.
const SLACK: i32 = 1;

/// Whether an error says something about one object only.
fn is_about_one(error: &Error) -> bool {
    concerns_object(error) || matches!(error, Error::Store(StoreError::Conflict { .. }))
}
