//! The locked store: where a vault's objects lie, and what protects them.
//!
//! A [`Store`] is small on purpose: every write carries its retention, nothing is changed in place, and every
//! read can name the version that it wants. Deleting is a trait of its own ([`Prune`]), so that the agent's code
//! can't even spell it; attacking locks is another ([`Probe`]), for the prober alone.

mod azure;
mod buffers;
mod calls;
mod error;
mod gcs;
mod http;
mod key;
mod local;
mod lock;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod open;
mod permissions;
mod probe;
mod s3;
mod settings;
mod target;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

pub use calls::Calls;
pub use error::StoreError;
pub use key::{KEY_LEN_MAX, ObjectKey, Prefix};
pub use lock::{Lock, LockMode, LockPolicy, Protection, Strength};
pub use open::{
    Env, create_target, ensure_lockable, open_probe, open_prune, open_store, permissions,
};
pub use permissions::{Permissions, Right, Verdict};
pub use probe::{Answer, Attack, CANARIES, Probe};
pub use settings::{BucketSettings, Setting, SettingState};
pub use target::{Secret, TargetOptions, TargetUrl};

/// The checksums that a body travels with to an object store: what sending it costs this host beside the network.
pub(crate) fn checksums(body: &[u8]) -> impl fmt::Debug {
    http::Sums::now(body)
}

/// What a store calls one version of an object. `None` wherever the target keeps no versions.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct VersionId(pub String);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object that a store has accepted, with the version and the lock that it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it lies.
    pub key: ObjectKey,
    /// The version that was written; every later extension names it.
    pub version: Option<VersionId>,
    /// The lock that now holds it; `None` only on a target without locks (`lock = "none"`).
    pub lock: Option<Lock>,
}

/// One object in a listing: its newest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it lies.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub size: u64,
    /// When the store took it, by the store's clock.
    pub modified: Timestamp,
}

/// One version in a listing of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Where it lies.
    pub key: ObjectKey,
    /// Its version; `None` on targets without versions.
    pub version: Option<VersionId>,
    /// Its length in bytes; 0 for a delete marker.
    pub size: u64,
    /// When the store took it, by the store's clock.
    pub modified: Timestamp,
    /// Whether a plain read of the key answers this version (or, for a delete marker, 'not found').
    pub latest: bool,
    /// Whether it is a delete marker: no data, but it hides the versions before it.
    pub delete_marker: bool,
}

/// A target that holds a vault. All methods may be called from many tasks at once.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The target as a person would write it (`s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://account/container/prefix`, `file:///path`); never holds a secret.
    fn url(&self) -> String;

    /// Stores `body` under `key`, locked until `retain_until` in the store's own mode ([`LockPolicy`]), and
    /// returns once it is durable. A key that exists with exactly these bytes is success (an interrupted run may
    /// have written it): its lock is then extended to `retain_until` where it ends sooner.
    ///
    /// # Errors
    /// [`StoreError`]; among them [`StoreError::Full`], [`StoreError::Denied`], [`StoreError::ClockSkew`].
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError>;

    /// Reads a whole object of at most `max` bytes; the newest version where `version` is `None`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none (or a delete marker hides it), [`StoreError::TooLarge`].
    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        max: u64,
    ) -> Result<Bytes, StoreError>;

    /// Reads `range` of an object; an answer of another length than asked for is an error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Truncated`] if the object ends before `range` does.
    async fn get_range(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError>;

    /// Lists the objects below `prefix` in key order, as they come. Things that aren't objects of a vault are
    /// passed over.
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>>;

    /// Lists every version below `prefix`, newest first for each key, delete markers among them.
    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>>;

    /// The lock of one version as the store tells it; `None` if it has none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Denied`] where this credential may not see locks.
    async fn retention(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError>;

    /// Moves the end of a version's lock to `until`, if it ends sooner; never shortens. The version is always
    /// named where the target has versions: without it, an attacker's newer bytes would get the lock.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if that version is gone: the caller then stores the data again.
    async fn extend(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError>;

    /// What the target truly promises, read from the target itself.
    ///
    /// # Errors
    /// [`StoreError`] if the target can't be asked.
    async fn protection(&self) -> Result<Protection, StoreError>;

    /// The settings that the target answers when it is asked for each, as they are; none where it has no such settings.
    ///
    /// # Errors
    /// [`StoreError`] if the target can't be asked at all. A setting that this credential may not read is an answer.
    async fn settings(&self) -> Result<BucketSettings, StoreError> {
        Ok(BucketSettings::default())
    }

    /// What is missing where [`Protection::object_lock`] is false, for messages.
    fn unlockable(&self) -> &'static str {
        "Object Lock is not enabled on the bucket"
    }

    /// The server's clock less this host's, in milliseconds, as last seen in an answer; `None` where the target
    /// has no clock of its own, or hasn't answered yet.
    fn clock_offset_ms(&self) -> Option<i64>;

    /// The requests that the target was sent so far; `None` where there is nothing to count, as on a local folder.
    fn calls(&self) -> Option<Calls> {
        None
    }

    /// The time by which this target's locks are judged, as far as this host can tell: its own clock.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The right to delete: held by the pruner (and by tests), never by the agent's backup.
#[async_trait]
pub trait Prune: Store {
    /// Deletes exactly one version (the object itself on targets without versions).
    ///
    /// # Errors
    /// [`StoreError::Locked`] while its lock lasts.
    async fn delete(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<(), StoreError>;
}
