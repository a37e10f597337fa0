//! Trying to break a lock: what only the prober may ask of a target, and only below `canary/`.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Lock, ObjectKey, Prune, StoreError, VersionId};

/// The folder of the prober's own objects: nothing of a vault lies there, and the prober touches nothing else.
pub const CANARIES: &str = "canary/";

/// One way to break the lock of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Delete the version; with `bypass`, claiming the right to lift governance locks.
    Delete {
        /// Whether to claim that right.
        bypass: bool,
    },
    /// Replace its lock by another one, or by none.
    Relock {
        /// The lock to set in its place.
        lock: Option<Lock>,
        /// Whether to claim the right to lift governance locks.
        bypass: bool,
    },
    /// Write other bytes under its key.
    Overwrite,
    /// Delete its key without naming a version.
    Hide,
}

/// What a target answered to an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Accepted,
    /// It was refused as not allowed: by a lock, or by a policy. The target's own words.
    Refused(String),
    /// It was not done for another reason, which says nothing about locks. The target's own words.
    Failed(String),
}

/// The right to attack locks: held by the prober (and by tests) alone. Every method refuses keys outside `canary/`.
#[async_trait]
pub trait Probe: Prune {
    /// Stores a new version with just this lock, or with none, even where the key exists.
    ///
    /// # Errors
    /// [`StoreError`]; a lock that the target refuses to set is [`StoreError::Unprotected`].
    async fn put_canary(
        &self,
        key: &ObjectKey,
        body: Bytes,
        lock: Option<Lock>,
    ) -> Result<Option<VersionId>, StoreError>;

    /// Attacks one version, once.
    ///
    /// # Errors
    /// [`StoreError`] where the target could not be asked at all.
    async fn attack(
        &self,
        attack: Attack,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Answer, StoreError>;
}

/// Refuses keys that aren't the prober's.
pub(super) fn only_canaries(key: &ObjectKey) -> Result<(), StoreError> {
    if key.as_str().starts_with(CANARIES) {
        return Ok(());
    }
    Err(StoreError::Config { detail: format!("{key} is not below {CANARIES}: it is not probed") })
}
