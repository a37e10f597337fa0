//! Frames that a plain read of their pack didn't answer soundly: another version of it may have them.

use std::sync::{Arc, PoisonError};

use super::{Fetcher, Stretches};
use crate::error::Error;
use crate::ids::PackId;
use crate::read::frames::{Request, WantedFrame};
use crate::read::versions::{self, concerns_object, untrue};
use crate::store::{ObjectKey, VersionId};

/// How much is read at once to see whether a damaged pack's bytes are those of its name.
const HASH_STEP: u64 = 4 << 20;

impl Fetcher {
    /// Reads a frame that a plain read didn't answer soundly through every version of its pack.
    pub(super) async fn recover(
        self: &Arc<Self>,
        frame: &WantedFrame,
        error: Error,
    ) -> Result<Stretches, Error> {
        let id = frame.pack.id();
        let key = ObjectKey::pack(&id);
        let store = self.vault.store().as_ref();
        let known = frame.pack.row.version.as_ref();
        let candidates = versions::candidates(store, &key, known).await;
        for version in &candidates {
            let range = frame.range();
            let bytes = match store.get_range(&key, version.as_ref(), range.clone()).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let error = Error::from(error);
                    if concerns_object(&error) {
                        continue;
                    }
                    return Err(error);
                }
            };
            let request = Request { frames: vec![frame.clone()] };
            let opened = self.open(request, range, bytes).await?.pop();
            if let Some((_, Ok(blobs))) = opened {
                versions::note(self.vault.notebook(), &key, Some(&error), version.clone());
                let mut found = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(id, version.clone());
                return Ok(blobs);
            }
        }
        Err(self.explain(&id, frame.pack.row.size, &candidates, error).await)
    }

    /// Tells bytes that rotted from an index that points to the wrong place, for whoever has to find the cause.
    async fn explain(
        &self,
        id: &PackId,
        size: u32,
        candidates: &[Option<VersionId>],
        error: Error,
    ) -> Error {
        let Error::Damaged { what, why } = error else { return error };
        let key = ObjectKey::pack(id);
        let store = self.vault.store().as_ref();
        for version in candidates {
            let mut hasher = blake3::Hasher::new();
            for start in
                (0..u64::from(size)).step_by(usize::try_from(HASH_STEP).unwrap_or(usize::MAX))
            {
                let range = start..(start + HASH_STEP).min(u64::from(size));
                match store.get_range(&key, version.as_ref(), range).await {
                    Ok(bytes) => hasher.update(&bytes),
                    Err(_) => break,
                };
            }
            if hasher.finalize().as_bytes() == id.as_bytes() {
                let why = format!("{why}, although the pack's bytes are those of its name");
                return Error::Damaged { what, why };
            }
        }
        let untrue = match untrue(store, &key, candidates.len()) {
            Error::Damaged { why, .. } => why,
            other => other.to_string(),
        };
        Error::Damaged { what, why: format!("{why}; {untrue}") }
    }
}
