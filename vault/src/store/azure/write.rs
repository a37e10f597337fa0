//! Writing one object with its lock, and finding out what became of a write whose answer was lost.

use bytes::Bytes;
use jiff::Timestamp;

use super::locking::{self, Container};
use super::refusal::Refusal;
use super::{AzureStore, UNLOCKABLE};
use crate::store::http::{self, Answer, Call, Sums};
use crate::store::{Lock, ObjectKey, StoreError, Stored};

impl AzureStore {
    /// Stores an object; see [`Store::put`](crate::store::Store::put).
    pub(super) async fn write(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        let lock = http::lock_for(self.policy, retain_until);
        if lock.is_some() {
            let container = self.container.get_or_try_init(|| Container::ask(&self.client)).await?;
            if container.locks == Some(false) {
                return Err(self.unprotected(UNLOCKABLE.into()));
            }
            self.client.clock.check(&self.client.target)?;
        }
        let sums = Sums::of(&body).await;
        let mut answer = self.put_blob(key, &body, &sums, lock, true).await?;
        if !answer.is_success() && Refusal::of(&answer).is_conflict() {
            match self.adopt(key, &body, lock).await {
                Ok(Some(stored)) => return Ok(stored),
                // It isn't there after all (a race), or this credential may not read it: then the bytes are written
                // once more, as a version whose lock is known. Without versions that would replace what is there.
                Ok(None) => answer = self.put_blob(key, &body, &sums, lock, true).await?,
                Err(StoreError::Denied { .. }) if lock.is_some() => {
                    answer = self.put_blob(key, &body, &sums, lock, false).await?;
                }
                Err(e) => return Err(e),
            }
        }
        if !answer.is_success() {
            return Err(self.write_error(key, &answer, lock.is_some()));
        }
        let version = self.version_in(&answer);
        if let Some(lock) = lock {
            http::prove(self, key, version.as_ref(), lock).await?;
        }
        Ok(Stored { key: key.clone(), version, lock })
    }

    pub(super) async fn put_blob(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        sums: &Sums,
        lock: Option<Lock>,
        conditional: bool,
    ) -> Result<Answer, StoreError> {
        let path = self.path(key);
        let mut call = Call::new("PUT", Some(&path), "write", key.as_str())
            .header("content-type", "application/octet-stream")
            .header("x-ms-blob-type", "BlockBlob")
            .body(body.clone(), sums);
        if let Some(lock) = lock {
            call = locking::with_lock(call, lock);
        }
        if conditional {
            call = call.header("if-none-match", "*");
        }
        self.client.send(&call).await
    }

    pub(super) fn write_error(&self, key: &ObjectKey, answer: &Answer, locked: bool) -> StoreError {
        let refusal = Refusal::of(answer);
        if locked && refusal.is_about_locks() {
            return self.unprotected(refusal.words());
        }
        refusal.error(&self.client.target, &format!("write {key}"), key.as_str())
    }

    pub(super) fn unprotected(&self, detail: String) -> StoreError {
        StoreError::Unprotected { target: self.client.target.clone(), detail }
    }

    /// Takes an object that is there already for the one to be written, if it has the same bytes, and sees to it
    /// that its lock lasts long enough. `None` if it isn't there. Its stored MD5 proves nothing: who may write may
    /// set that as they like.
    async fn adopt(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        lock: Option<Lock>,
    ) -> Result<Option<Stored>, StoreError> {
        let path = self.path(key);
        let call = Call::new("GET", Some(&path), "read", key.as_str()).reads(body.len() as u64);
        let conflict =
            || StoreError::Conflict { what: key.to_string(), target: self.client.target.clone() };
        let answer = match self.send(&call).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(StoreError::TooLarge { .. }) => return Err(conflict()),
            Err(e) => return Err(e),
        };
        if answer.body != *body {
            return Err(conflict());
        }
        let version = self.version_in(&answer);
        let held = locking::lock_in_headers(&answer);
        let held = http::covering(self, key, version.as_ref(), lock, held).await?;
        Ok(Some(Stored { key: key.clone(), version, lock: held }))
    }
}
