//! Writing one object with its lock, and finding out what became of a write whose answer was lost.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use super::locking::{self, Bucket};
use super::object::Object;
use super::refusal::Refusal;
use super::{GcsStore, UNLOCKABLE, listing};
use crate::store::http::{self, Answer, Call, Sums};
use crate::store::{Lock, ObjectKey, StoreError, Stored};

impl GcsStore {
    /// Stores an object; see [`Store::put`](crate::store::Store::put).
    pub(super) async fn write(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        let lock = http::lock_for(self.policy, retain_until);
        if lock.is_some() {
            let bucket = self.bucket.get_or_try_init(|| Bucket::ask(&self.client)).await?;
            if bucket.locks == Some(false) {
                return Err(self.unprotected(UNLOCKABLE.into()));
            }
            self.client.clock.check(&self.client.target)?;
        }
        let sums = Sums::of(&body).await;
        let mut answer = self.upload(key, &body, &sums, lock, true).await?;
        if !answer.is_success() && Refusal::of(&answer).is_conflict() {
            if let Some(stored) = self.adopt(key, &body, &sums, lock).await? {
                return Ok(stored);
            }
            // It isn't there after all: a race.
            answer = self.upload(key, &body, &sums, lock, true).await?;
        }
        let object = self.stored(key, &answer, &sums, lock.is_some())?;
        let version = Some(object.version());
        if let Some(lock) = lock {
            http::prove(self, key, version.as_ref(), lock).await?;
        }
        Ok(Stored { key: key.clone(), version, lock })
    }

    /// One request: a document of two parts, the second of which is the body. The lock and the checksum stand in the
    /// first. With `new`, only where the key has no live object.
    pub(super) async fn upload(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        sums: &Sums,
        lock: Option<Lock>,
        new: bool,
    ) -> Result<Answer, StoreError> {
        let path = self.path(key);
        let mut object = json!({
            "name": path,
            "contentType": "application/octet-stream",
            "md5Hash": sums.md5_base64(),
        });
        if lock.is_some() {
            object["retention"] = locking::retention(lock);
        }
        // No body holds its own SHA-256.
        let boundary = hex::encode(sums.sha256.0);
        let before = format!(
            "--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{object}\r\n\
             --{boundary}\r\ncontent-type: application/octet-stream\r\n\r\n"
        );
        let mut call = Call::new("POST", Some(&path), "write", key.as_str())
            .query("uploadType", "multipart")
            .header("content-type", format!("multipart/related; boundary={boundary}"))
            .part(before, body.clone(), format!("\r\n--{boundary}--\r\n"));
        if new {
            call = call.query("ifGenerationMatch", "0");
        }
        self.client.send(&call).await
    }

    /// The object that an upload's answer tells of, if it is the one that was sent.
    pub(super) fn stored(
        &self,
        key: &ObjectKey,
        answer: &Answer,
        sums: &Sums,
        locked: bool,
    ) -> Result<Object, StoreError> {
        let action = format!("write {key}");
        if !answer.is_success() {
            let refusal = Refusal::of(answer);
            if locked && refusal.is_about_locks() {
                return Err(self.unprotected(refusal.words()));
            }
            if refusal.is_conflict() {
                return Err(self.conflict(key));
            }
            if refusal.is_missing() {
                return Err(StoreError::NoTarget { target: self.client.target.clone() });
            }
            return Err(refusal.error(&self.client.target, &action, key.as_str()));
        }
        let object = self.object_in(answer, &action)?;
        match &object.md5_hash {
            Some(stored) if *stored != sums.md5_base64() => Err(StoreError::Altered {
                what: key.to_string(),
                detail: "the service tells another MD5 of what it stored".into(),
            }),
            _ => Ok(object),
        }
    }

    pub(super) fn unprotected(&self, detail: String) -> StoreError {
        StoreError::Unprotected { target: self.client.target.clone(), detail }
    }

    fn conflict(&self, key: &ObjectKey) -> StoreError {
        StoreError::Conflict { what: key.to_string(), target: self.client.target.clone() }
    }

    /// Takes an object that is there already for the one to be written, if it has the same bytes, and sees to it
    /// that its lock lasts long enough. `None` if it isn't there. A listing tells all of it, also to a credential that
    /// may not read packs. The MD5 is the service's own: to make another object with it, one would have to find a
    /// second preimage of MD5, of bytes that are sealed with a key that nobody else knows.
    async fn adopt(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        sums: &Sums,
        lock: Option<Lock>,
    ) -> Result<Option<Stored>, StoreError> {
        let Some(object) = listing::find(&self.client, &self.path(key), None).await? else {
            return Ok(None);
        };
        let same = object.size == body.len() as u64
            && object.md5_hash.as_deref() == Some(sums.md5_base64().as_str());
        if !same {
            return Err(self.conflict(key));
        }
        let version = Some(object.version());
        let held = http::covering(self, key, version.as_ref(), lock, object.lock()).await?;
        Ok(Some(Stored { key: key.clone(), version, lock: held }))
    }
}
