//! A folder on this machine: objects as read-only files, held by the immutable attribute where that is permitted.
//!
//! ```text
//! <root>/packs/ab/ab12…          objects, by their keys
//! <root>/.locks/packs/ab/ab12…   when each object's lock ends
//! <root>/.tmp/…                  objects that are being written
//! ```
//! No key has a component that begins with a dot, so the two folders can't collide with objects.

mod attribute;
mod direct;
mod folder;
mod listing;
mod object;
mod probe;
mod sidecar;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use self::direct::Pieces;
use self::folder::Root;
use self::object::Writer;
use super::{
    Listed, Lock, LockMode, LockPolicy, ObjectKey, Prefix, Protection, Prune, Store, StoreError,
    Stored, Strength, TargetUrl, Version, VersionId,
};

/// A vault in a folder.
#[derive(Debug)]
pub(super) struct LocalStore {
    writer: Arc<Writer>,
    /// Whether files can be made immutable here: `Err` says why not.
    immutable: OnceCell<Result<(), String>>,
}

impl LocalStore {
    /// Opens an existing folder, and removes what interrupted writes left in it long ago.
    ///
    /// # Errors
    /// [`StoreError::NoTarget`], [`StoreError::Denied`].
    pub(super) fn open(path: &Path, policy: LockPolicy) -> Result<Self, StoreError> {
        let url = TargetUrl::Local { path: path.to_owned() }.to_string();
        let root = Root::open(path, url)?;
        root.remove_leftovers();
        let writer = Writer { root, policy, pieces: Pieces::default() };
        Ok(Self { writer: Arc::new(writer), immutable: OnceCell::new() })
    }

    /// Makes the folder, if it isn't there, durably.
    ///
    /// # Errors
    /// [`StoreError`] where it can't be made.
    pub(super) fn create(path: &Path) -> Result<(), StoreError> {
        Root::create(path)
    }

    /// Finds out, once, whether files can be made immutable.
    async fn immutable(&self) -> Result<&Result<(), String>, StoreError> {
        self.immutable
            .get_or_try_init(|| async {
                let writer = Arc::clone(&self.writer);
                blocking(move || writer.root.probe_immutable()).await
            })
            .await
    }

    /// Runs `work` on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = Arc::clone(&self.writer);
        blocking(move || work(&writer)).await
    }
}

/// Runs file system work on a thread that may block.
///
/// # Errors
/// Those of `work`; [`StoreError::Other`] if the runtime is being shut down.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(StoreError::Other {
            target: "the local folder".into(),
            action: "file access".into(),
            detail: e.to_string(),
        }),
    }
}

#[async_trait]
impl Store for LocalStore {
    fn url(&self) -> String {
        self.writer.root.url().to_owned()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        let immutable = self.writer.policy != LockPolicy::None && self.immutable().await?.is_ok();
        let key = key.clone();
        self.with(move |writer| {
            let lock = writer.put(&key, &body, retain_until, immutable)?;
            Ok(Stored { key, version: None, lock })
        })
        .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        _version: Option<&VersionId>,
        max: u64,
    ) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.with(move |writer| writer.root.read(&key, max)).await
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        _version: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.with(move |writer| writer.root.read_range(&key, range)).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>> {
        listing::objects(&self.writer, prefix)
    }

    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>> {
        self.list(prefix)
            .map(|item| {
                item.map(|o| Version {
                    key: o.key,
                    version: None,
                    size: o.size,
                    modified: o.modified,
                    latest: true,
                    delete_marker: false,
                })
            })
            .boxed()
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        _version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        let key = key.clone();
        self.with(move |writer| writer.retention(&key)).await
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        _version: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError> {
        let immutable = self.writer.policy != LockPolicy::None && self.immutable().await?.is_ok();
        let key = key.clone();
        self.with(move |writer| writer.extend(&key, until, immutable)).await
    }

    async fn protection(&self) -> Result<Protection, StoreError> {
        let mut notes = Vec::new();
        let strength = if self.writer.policy == LockPolicy::None {
            notes.push("lock = \"none\": nothing that is written is locked".into());
            Strength::None
        } else {
            match self.immutable().await? {
                Ok(()) => Strength::ImmutableFile,
                Err(why) => {
                    notes.push(format!(
                        "files can't be made immutable here ({why}): retention is kept by Keephold alone"
                    ));
                    Strength::Advisory
                }
            }
        };
        // The folder must still be there: this is what 'asking the target' means here.
        self.with(|writer| writer.root.check()).await?;
        Ok(Protection {
            strength,
            asked: (strength > Strength::None)
                .then(|| mode_for(strength == Strength::ImmutableFile)),
            versioning: Some(false),
            object_lock: None,
            default_retention: None,
            notes,
        })
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        None
    }
}

#[async_trait]
impl Prune for LocalStore {
    async fn delete(
        &self,
        key: &ObjectKey,
        _version: Option<&VersionId>,
    ) -> Result<(), StoreError> {
        let key = key.clone();
        self.with(move |writer| writer.delete(&key)).await
    }
}

/// How a file is held.
fn mode_for(immutable: bool) -> LockMode {
    if immutable { LockMode::ImmutableFile } else { LockMode::Advisory }
}
