//! Locks of services that tell the lock of each version and set it by a request of its own: extending one, reading the
//! first one back, and what may be said of the target then.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Clock, covers, mode_of, named, stronger, whole_seconds};
use crate::store::{Lock, LockMode, LockPolicy, ObjectKey, Store, StoreError, Strength, VersionId};

/// What was seen of a target's locks since it was opened.
#[derive(Debug, Default)]
pub(in crate::store) struct Proof {
    /// Whether a lock has been read.
    seen: AtomicBool,
    /// Whether a written lock was read back, and wasn't there.
    unkept: AtomicBool,
    /// Whether this credential turned out not to see locks.
    blind: AtomicBool,
}

impl Proof {
    /// Notes that a lock was read.
    pub(in crate::store) fn see(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    /// Notes that this credential may not read locks. Nothing is called immutable then, though writes go on: a
    /// credential that may only add is the best one for a host that is not trusted.
    pub(in crate::store) fn blind(&self) {
        self.blind.store(true, Ordering::Relaxed);
    }

    /// Whether there is nothing more to learn from reading a lock back.
    pub(in crate::store) fn is_settled(&self) -> bool {
        self.is_seen() || self.blind.load(Ordering::Relaxed)
    }

    fn fail(&self) {
        self.unkept.store(true, Ordering::Relaxed);
        self.seen.store(false, Ordering::Relaxed);
    }

    fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// The strength of what is written from now on, where the bucket says `locks` of itself; why goes to `notes`.
    pub(in crate::store) fn strength(
        &self,
        policy: LockPolicy,
        locks: Option<bool>,
        unlockable: &str,
        notes: &mut Vec<String>,
    ) -> Strength {
        match (policy, locks) {
            (LockPolicy::None, _) => {
                notes.push("lock = \"none\": nothing that is written is locked".into());
                Strength::None
            }
            (_, Some(false)) => {
                notes.push(format!("{unlockable}: writes that ask for a lock are refused"));
                Strength::None
            }
            _ if self.unkept.load(Ordering::Relaxed) => {
                notes.push("a lock that was written could not be read back".into());
                Strength::None
            }
            _ if self.blind.load(Ordering::Relaxed) => {
                notes.push(
                    "this credential may not read locks: that writes are locked rests on the server's acceptance \
                     until the verifier reads them, so it is not called immutable"
                        .into(),
                );
                Strength::Advisory
            }
            (_, None) if !self.is_seen() => {
                notes.push(
                    "it isn't told whether locks can be set there, and none was read back yet: it is not called \
                     immutable"
                        .into(),
                );
                Strength::Advisory
            }
            (LockPolicy::Compliance, _) => Strength::Compliance,
            (LockPolicy::Governance, _) => Strength::Governance,
        }
    }
}

/// What a store's locks are judged by.
pub(in crate::store) struct Guard<'a> {
    /// What locks writes get.
    pub(in crate::store) policy: LockPolicy,
    /// What was seen of locks so far.
    pub(in crate::store) proof: &'a Proof,
    /// The service's clock.
    pub(in crate::store) clock: &'a Clock,
    /// The service's word for a mode.
    pub(in crate::store) word: fn(LockMode) -> &'static str,
}

/// A store on such a service.
#[async_trait]
pub(in crate::store) trait Locked: Store {
    /// What its locks are judged by.
    fn guard(&self) -> Guard<'_>;

    /// Sets the lock of one version in the place of `held`, and answers the one that it has then, as the service
    /// tells it.
    async fn set_lock(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        held: Option<Lock>,
        lock: Lock,
    ) -> Result<Option<Lock>, StoreError>;
}

/// See [`Store::extend`].
pub(in crate::store) async fn extended(
    store: &impl Locked,
    key: &ObjectKey,
    version: Option<&VersionId>,
    until: Timestamp,
) -> Result<Option<Lock>, StoreError> {
    let guard = store.guard();
    let Some(mode) = mode_of(guard.policy) else {
        return Ok(None);
    };
    let Some(version) = version else {
        return Err(StoreError::Config {
            detail: format!(
                "the lock of {key} can't be extended without naming the version that was stored"
            ),
        });
    };
    guard.clock.check(&store.url())?;
    let asked = Lock { mode, until: whole_seconds(until) };
    // Whoever may set a lock that can be lifted may also shorten it: without knowing what there is, nothing is set.
    let held = store.retention(key, Some(version)).await?;
    if let Some(held) = held.filter(|held| covers(*held, asked)) {
        return Ok(Some(held));
    }
    let lock = held.map_or(asked, |held| Lock {
        mode: stronger(held.mode, mode),
        until: held.until.max(asked.until),
    });
    match store.set_lock(key, version, held, lock).await? {
        Some(set) if covers(set, lock) => Ok(Some(set)),
        set => Err(unkept(store, key, Some(version), lock, set)),
    }
}

/// Reads the first lock back: emulators, and who knows which others, accept locks and keep nothing. A lock that this
/// credential may not see counts as none.
pub(in crate::store) async fn prove(
    store: &impl Locked,
    key: &ObjectKey,
    version: Option<&VersionId>,
    asked: Lock,
) -> Result<(), StoreError> {
    let Some(version) = version else {
        return Err(unproven(
            store,
            format!("{key} was stored without a version, so no lock can be extended or read by it"),
        ));
    };
    if store.guard().proof.is_seen() {
        return Ok(());
    }
    match store.retention(key, Some(version)).await {
        Ok(Some(held)) if covers(held, asked) => Ok(()),
        Ok(held) => Err(unkept(store, key, Some(version), asked, held)),
        Err(StoreError::Denied { detail, .. }) => Err(unproven(
            store,
            format!(
                "the lock of {key} can't be read back, and what can't be read isn't called locked: {detail}"
            ),
        )),
        Err(e) => Err(e),
    }
}

/// The error for a lock that was accepted and isn't there.
fn unkept(
    store: &impl Locked,
    key: &ObjectKey,
    version: Option<&VersionId>,
    asked: Lock,
    found: Option<Lock>,
) -> StoreError {
    let word = store.guard().word;
    let told = |lock: Lock| format!("{} until {}", word(lock.mode), lock.until);
    let found = found.map_or_else(|| "none".into(), told);
    unproven(
        store,
        format!(
            "{} was to be {}, but the lock read back is {found}",
            named(key, version),
            told(asked)
        ),
    )
}

fn unproven(store: &impl Locked, detail: String) -> StoreError {
    store.guard().proof.fail();
    StoreError::Unprotected { target: store.url(), detail }
}
