//! A copy of the vault at another target, which runs write to beside the first target. That it is down fails no run.
//!
//! ```text
//! pack     first target ∥ each copy ──(down)──▶ spool on this host ──▶ the next run delivers it
//! segment  noted as owed ──▶ first target ──▶ each copy that has all its packs ──▶ owed no more
//! record   into the spool ──▶ first target ──▶ each copy that has all that it needs, locked ──▶ out of the spool
//! ```
//!
//! What is noted before the first target is written to can be caught up with after a crash at any moment. An index
//! segment at a copy means that its packs are there; a record, that all its snapshot needs is, locked until it expires.

mod spool;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::config::VaultConfig;
use crate::error::Error;
use crate::ids::{PackId, SegmentId};
use crate::read::{Vault, blocking, versions_or_newest};
use crate::record::RecordKey;
use crate::store::{
    Calls, LockPolicy, ObjectKey, Prefix, Store, StoreError, Stored, VersionId, ensure_lockable,
};
use crate::write::known::{CopyMemo, LockState, Spot};

pub(in crate::write) use spool::{Entry, Spool};

/// A copy is locked for no less than this: a target refuses a lock that ends in the past, as that of a pack that was long
/// in the spool may.
const LOCK_LEAST: SignedDuration = SignedDuration::from_hours(24);

/// What a configuration says of a copy.
#[derive(Debug, Clone)]
pub struct CopySettings {
    /// What it is called.
    pub name: String,
    /// What locks it gets.
    pub policy: LockPolicy,
    /// For how long from now all that a run needs is locked at least, however short the run is kept.
    pub keep: Option<SignedDuration>,
    /// Bytes of packs that are spooled at most while it is down; 0 for none.
    pub spool_max: u64,
    /// Bytes of this host's disk that the spool leaves free: the run itself needs some, and so may others.
    pub spool_free: u64,
    /// The folder for what this host notes of it; of this copy at this place, and of no other.
    pub dir: PathBuf,
}

/// How it stands with a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyStatus {
    /// Why it is not written to any more, if so.
    pub down: Option<String>,
    /// Why not everything that it should have got could be spooled, if so.
    pub overflow: Option<String>,
    /// Packs in the spool, and their bytes.
    pub spooled: (u64, u64),
    /// Earlier snapshots whose records wait, since the copy lacks something that they need.
    pub waiting: u64,
    /// Packs and records of earlier runs that this run delivered.
    pub caught_up: (u64, u64),
    /// Bytes in blobs that this run stored again, everywhere, since the copy lacked them.
    pub bytes_again: u64,
    /// Bytes of objects that the copy took in this run, those of earlier runs included.
    pub bytes_stored: u64,
    /// Requests that this run sent there, where the target counts them.
    pub calls: Option<Calls>,
}

#[derive(Debug, Default)]
struct State {
    down: Option<String>,
    overflow: Option<String>,
    waiting: u64,
    caught_up: (u64, u64),
    /// The requests before this run.
    calls_before: Calls,
}

/// What became of a pack at a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::write) enum At {
    /// It is there.
    There(Spot),
    /// It waits on this host.
    Spooled,
    /// Neither: the copy will lack it.
    Nowhere,
}

/// A copy of the vault that runs write to.
#[derive(Debug)]
pub struct Copy {
    settings: CopySettings,
    store: Option<Arc<dyn Store>>,
    /// The version of its `vault.json`.
    config: Option<VersionId>,
    spool: Spool,
    state: Mutex<State>,
    again: AtomicU64,
    stored: AtomicU64,
}

impl Copy {
    /// Reaches a copy, which gets the vault's configuration (its bytes; locked until `until`) if it is new. Where that
    /// fails, the copy is down, and says why.
    pub async fn open(
        settings: CopySettings,
        store: Arc<dyn Store>,
        config: Bytes,
        until: Timestamp,
    ) -> Self {
        let mut copy = Self::made(settings, Some(store.clone()));
        let opened = async {
            ensure_lockable(&*store, copy.settings.policy).await?;
            copy.find_config(&store, config, until).await
        };
        match opened.await {
            Ok(version) => copy.config = version,
            Err(error) => copy.fail(&error),
        }
        copy
    }

    /// A copy that can't even be tried, and why.
    pub fn closed(settings: CopySettings, why: String) -> Self {
        let copy = Self::made(settings, None);
        copy.state().down = Some(why);
        copy
    }

    fn made(settings: CopySettings, store: Option<Arc<dyn Store>>) -> Self {
        let dir = settings.dir.join("spool");
        let spool = Spool::new(dir, settings.spool_max, settings.spool_free);
        let (state, again, stored) = Default::default();
        let copy = Self { settings, store, config: None, spool, state, again, stored };
        for sub in ["spool", "locks"] {
            let sub = copy.settings.dir.join(sub);
            if let Err(error) = std::fs::create_dir_all(&sub) {
                copy.fail(&Error::local(format!("making {}", sub.display()))(error));
            }
        }
        copy
    }

    /// The version of the copy's `vault.json`, which is made if there is none.
    async fn find_config(
        &self,
        store: &Arc<dyn Store>,
        config: Bytes,
        until: Timestamp,
    ) -> Result<Option<VersionId>, Error> {
        let key = ObjectKey::vault_config();
        let fingerprint = VaultConfig::fingerprint(&config);
        let size = config.len() as u64;
        match Vault::open(store.clone(), Some(&fingerprint)).await {
            Ok(_) => Ok(find(&**store, &key, size).await?.and_then(|spot| spot.version)),
            Err(Error::Store(StoreError::NotFound { .. })) => {
                Ok(store.put(&key, config, self.lock_end(store.now(), until)).await?.version)
            }
            Err(error) => Err(error),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether what is written there gets locks.
    pub fn locks(&self) -> bool {
        self.settings.policy != LockPolicy::None
    }

    /// Whether it is written to.
    pub fn is_up(&self) -> bool {
        self.state().down.is_none()
    }

    /// The target, as long as it is written to.
    pub(in crate::write) fn up(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref().filter(|_| self.is_up())
    }

    /// How it stands.
    pub fn status(&self) -> CopyStatus {
        let state = self.state();
        CopyStatus {
            down: state.down.clone(),
            overflow: state.overflow.clone(),
            spooled: self.spool.size(),
            waiting: state.waiting,
            caught_up: state.caught_up,
            bytes_again: self.again.load(Ordering::Relaxed),
            bytes_stored: self.stored.load(Ordering::Relaxed),
            calls: self.calls().map(|now| now.since(&state.calls_before)),
        }
    }

    /// Forgets what was counted, since another run begins. A copy that is down stays so.
    pub fn begin(&self) {
        let mut state = self.state();
        (state.overflow, state.waiting, state.caught_up) = (None, 0, (0, 0));
        state.calls_before = self.calls().unwrap_or_default();
        self.again.store(0, Ordering::Relaxed);
        self.stored.store(0, Ordering::Relaxed);
    }

    fn calls(&self) -> Option<Calls> {
        self.store.as_ref().and_then(|store| store.calls())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::write) fn spool(&self) -> &Spool {
        &self.spool
    }

    pub(in crate::write) fn memo_path(&self, id: &SegmentId) -> PathBuf {
        self.dir().join("locks").join(id.to_string())
    }

    pub(in crate::write) fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// From now on nothing is sent there; the first reason is the one that is told.
    pub(in crate::write) fn fail(&self, error: &Error) {
        let mut state = self.state();
        if state.down.is_none() {
            tracing::warn!(
                copy = self.name(),
                "a copy is down; the run goes on without it: {error}"
            );
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            state.down = Some(format!("{error}{hint}"));
        }
    }

    pub(in crate::write) fn count_again(&self, bytes: u64) {
        self.again.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::write) fn count_stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::write) fn count_caught_up(&self, packs: u64, records: u64) {
        let mut state = self.state();
        state.caught_up = (state.caught_up.0 + packs, state.caught_up.1 + records);
    }

    pub(in crate::write) fn count_waiting(&self) {
        self.state().waiting += 1;
    }

    /// When a lock at this copy has to end at least that must not end before `needed`.
    pub(in crate::write) fn needed(&self, now: Timestamp, needed: Timestamp) -> Timestamp {
        let keep = self.settings.keep.and_then(|keep| now.checked_add(keep).ok());
        needed.max(keep.unwrap_or(needed))
    }

    /// When a lock that is set now ends: a quarter beyond what [`needed`](Self::needed) asks for, so that it isn't moved
    /// at every run.
    pub(in crate::write) fn lock_end(&self, now: Timestamp, until: Timestamp) -> Timestamp {
        let keep = self.settings.keep.and_then(|keep| now.checked_add(keep + keep / 4).ok());
        until.max(keep.unwrap_or(until)).max(now.checked_add(LOCK_LEAST).unwrap_or(now))
    }

    /// Sends an object, if the copy is up and stays so.
    async fn put(&self, key: &ObjectKey, bytes: Bytes, until: Timestamp) -> Option<Stored> {
        let store = self.up()?;
        let size = bytes.len() as u64;
        match store.put(key, bytes, self.lock_end(store.now(), until)).await {
            Ok(stored) => {
                self.count_stored(size);
                Some(stored)
            }
            Err(error) => {
                self.fail(&error.into());
                None
            }
        }
    }

    /// Sends a pack, or spools it.
    pub(in crate::write) async fn put_pack(
        self: &Arc<Self>,
        id: &PackId,
        bytes: Bytes,
        until: Timestamp,
    ) -> At {
        let key = ObjectKey::pack(id);
        if let Some(stored) = self.put(&key, bytes.clone(), until).await {
            return At::There(Spot::of(&stored));
        }
        if self.state().overflow.is_some() {
            return At::Nowhere;
        }
        let copy = Arc::clone(self);
        let kept = blocking(move || copy.spool.keep_pack(&key, until, &bytes)).await;
        match kept.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => At::Spooled,
            Err(why) => {
                self.state().overflow.get_or_insert(why);
                At::Nowhere
            }
        }
    }

    /// Notes that a segment, which lies in these packs, is to come to the copy as soon as they are all there.
    pub(in crate::write) fn owe(&self, id: &SegmentId, packs: &[(PackId, At)], until: Timestamp) {
        let key = ObjectKey::segment(id);
        if packs.iter().all(|(_, at)| *at != At::Nowhere) {
            if let Err(why) = self.spool.keep(&key, until, &[]) {
                self.state().overflow.get_or_insert(why);
            }
            return;
        }
        // It will never have the segment: its other packs are of no use there.
        for (pack, at) in packs {
            if *at == At::Spooled {
                self.spool.remove_key(&ObjectKey::pack(pack));
            }
        }
    }

    /// Sends a segment, if all its packs are there.
    pub(in crate::write) async fn put_segment(
        &self,
        id: &SegmentId,
        bytes: Bytes,
        until: Timestamp,
        packs: &[(PackId, At)],
    ) -> Option<CopyMemo> {
        let spot = |(_, at): &(PackId, At)| match at {
            At::There(spot) => Some(spot.clone()),
            At::Spooled | At::Nowhere => None,
        };
        let packs = packs.iter().map(spot).collect::<Option<Vec<Spot>>>()?;
        let key = ObjectKey::segment(id);
        let stored = self.put(&key, bytes, until).await?;
        self.spool.remove_key(&key);
        Some(CopyMemo { segment: Spot::of(&stored), packs })
    }

    /// Keeps a record on this host until it is at the copy. To be called before it is put anywhere.
    pub fn await_record(&self, key: &RecordKey, bytes: &[u8], until: Timestamp) {
        let kept = key.object().map_err(|e| e.to_string());
        if let Err(why) = kept.and_then(|key| self.spool.keep(&key, until, bytes)) {
            self.state().overflow.get_or_insert(why);
        }
    }

    /// Sends a record whose snapshot, if it has one, is whole and locked there; says whether it arrived.
    pub async fn put_record(&self, key: &RecordKey, bytes: Bytes, until: Timestamp) -> bool {
        let Ok(key) = key.object() else { return false };
        let there = self.put(&key, bytes, until).await.is_some();
        if there {
            self.spool.remove_key(&key);
        }
        there
    }

    /// Sees to it that the copy's `vault.json` is locked for as long.
    pub async fn lock_config(&self, until: Timestamp) {
        let Some(store) = self.up().filter(|_| self.locks()) else { return };
        let key = ObjectKey::vault_config();
        let until = self.lock_end(store.now(), until);
        if let Err(error) = store.extend(&key, self.config.as_ref(), until).await {
            self.fail(&error.into());
        }
    }
}

impl Spot {
    pub(in crate::write) fn of(stored: &Stored) -> Self {
        let lock = LockState::until(stored.lock.map(|lock| lock.until));
        Self { version: stored.version.clone(), lock }
    }
}

/// The object of this name and size in a target: the oldest version, since what came later was put over it. Its lock
/// isn't looked at.
pub(in crate::write) async fn find(
    store: &dyn Store,
    key: &ObjectKey,
    size: u64,
) -> Result<Option<Spot>, StoreError> {
    let prefix = Prefix::exact(key);
    let mut versions = versions_or_newest(store, &prefix);
    let mut found = None;
    while let Some(version) = versions.try_next().await? {
        if version.key == *key && !version.delete_marker && version.size == size {
            found = Some(Spot { version: version.version, lock: LockState::NONE });
        }
    }
    Ok(found)
}
