//! Writing one object with its lock, and finding out what became of a write whose answer was lost.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use jiff::Timestamp;

use super::S3Store;
use super::locking::{self, BucketLock};
use super::refusal::Refusal;
use super::upload::{Carried, Upload};
use crate::store::http::{self, Answer, Call, Node, Sums, named};
use crate::store::{Lock, ObjectKey, Store as _, StoreError, Stored, VersionId};

/// The version that an answer tells of; `None` where the bucket keeps none.
pub(super) fn version_in(answer: &Answer) -> Option<VersionId> {
    let version = answer.header("x-amz-version-id").filter(|v| *v != "null")?;
    Some(VersionId(version.to_owned()))
}

impl S3Store {
    /// Stores an object; see [`Store::put`](crate::store::Store::put).
    pub(super) async fn write(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        let lock = http::lock_for(self.policy, retain_until);
        if lock.is_some() {
            self.ensure_bucket_locks().await?;
            self.client.clock.check(&self.client.target)?;
        }
        let sums = self.md5.sums(&body).await;
        let mut upload = Upload { key, body: &body, lock, sums };
        let conditional = self.conditional.load(Ordering::Relaxed);
        let mut answer = self.put_object(&upload, conditional).await?;
        if answer.status == 400 && matches!(upload.sums, Carried::Sha256(_)) {
            let detail = Refusal::of(&answer).words();
            tracing::debug!(target = %self.client.target, %detail, "trying again with Content-MD5");
            self.md5.demand();
            upload.sums = Carried::Both(Sums::of(&body).await);
            answer = self.put_object(&upload, conditional).await?;
        }
        if conditional && !answer.is_success() {
            let refusal = Refusal::of(&answer);
            if matches!(answer.status, 409 | 412) {
                let adopted = match self.adopt(&upload).await {
                    Err(StoreError::Denied { .. }) => self.adopt_unread(&upload).await,
                    other => other,
                };
                match adopted {
                    Ok(Some(stored)) => return Ok(stored),
                    // It isn't there after all (a delete marker, a race), or this credential may not even list:
                    // then the bytes are written once more, as a version whose lock is known.
                    Ok(None) | Err(StoreError::Denied { .. }) => {
                        answer = self.put_object(&upload, false).await?;
                    }
                    Err(e) => return Err(e),
                }
            } else if refusal.is_unsupported() {
                tracing::debug!(target = %self.client.target, "the server knows no conditional writes");
                self.conditional.store(false, Ordering::Relaxed);
                answer = self.put_object(&upload, false).await?;
            }
        }
        if !answer.is_success() {
            return Err(self.write_error(key, &answer, lock.is_some()));
        }
        self.md5.observe(&answer, upload.sha256());
        let version = version_in(&answer);
        if let Some(lock) = lock {
            self.prove(key, version.as_ref(), lock).await?;
        }
        Ok(Stored { key: key.clone(), version, lock })
    }

    pub(super) async fn put_object(
        &self,
        upload: &Upload<'_>,
        conditional: bool,
    ) -> Result<Answer, StoreError> {
        let path = self.path(upload.key);
        let call = Call::new("PUT", Some(&path), "write", upload.key.as_str())
            .header("content-type", "application/octet-stream");
        let mut call = upload.fill(call);
        if let Some(lock) = upload.lock {
            call = call
                .header(locking::MODE_HEADER, locking::word(lock.mode))
                .header(locking::UNTIL_HEADER, lock.until.to_string());
        }
        if conditional {
            call = call.header("if-none-match", "*");
        }
        self.client.send(&call).await
    }

    pub(super) fn write_error(&self, key: &ObjectKey, answer: &Answer, locked: bool) -> StoreError {
        let refusal = Refusal::of(answer);
        let words = refusal.words();
        let about_lock = words.contains("ObjectLock")
            || words.contains("Object Lock")
            || words.contains("object lock");
        if locked && refusal.status == 400 && about_lock {
            return StoreError::Unprotected { target: self.client.target.clone(), detail: words };
        }
        if matches!(refusal.status, 409 | 412) {
            return StoreError::Conflict {
                what: key.to_string(),
                target: self.client.target.clone(),
            };
        }
        refusal.error(&self.client.target, &format!("write {key}"), key.as_str())
    }

    /// Refuses to write where the bucket says that it can't lock; asked once. Its answer also tells the clock.
    async fn ensure_bucket_locks(&self) -> Result<(), StoreError> {
        let bucket = self.bucket_lock.get_or_try_init(|| BucketLock::ask(&self.client)).await?;
        if bucket.enabled == Some(false) {
            return Err(StoreError::Unprotected {
                target: self.client.target.clone(),
                detail: "Object Lock is not enabled on the bucket".into(),
            });
        }
        Ok(())
    }

    /// Reads the first lock back: some servers accept the headers and keep nothing.
    async fn prove(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        asked: Lock,
    ) -> Result<(), StoreError> {
        if self.proof.is_settled() {
            return Ok(());
        }
        let unprotected =
            |detail: String| StoreError::Unprotected { target: self.client.target.clone(), detail };
        if version.is_none() {
            return Err(unprotected(format!(
                "{key} was stored without a version, so no lock can hold it"
            )));
        }
        match self.retention(key, version).await {
            Ok(Some(held)) if http::covers(held, asked) => {
                self.proof.see();
                Ok(())
            }
            Ok(held) => {
                let found = held.map_or("it has none".to_owned(), |l| {
                    format!("it has {} until {}", locking::word(l.mode), l.until)
                });
                Err(unprotected(format!(
                    "{} was stored with a {} lock until {}, but read back {found}",
                    named(key, version),
                    locking::word(asked.mode),
                    asked.until
                )))
            }
            Err(StoreError::Denied { detail, .. }) => {
                tracing::debug!(target = %self.client.target, %detail, "locks can't be read back");
                self.proof.blind();
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Takes an object that is there already for the one to be written, if it has the same bytes, and sees to it
    /// that its lock lasts long enough. `None` if it isn't there.
    async fn adopt(&self, upload: &Upload<'_>) -> Result<Option<Stored>, StoreError> {
        let &Upload { key, body, lock, .. } = upload;
        let path = self.path(key);
        let call = Call::new("HEAD", Some(&path), "look at", key.as_str())
            .header("x-amz-checksum-mode", "ENABLED");
        let answer = self.client.send(&call).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(self.error(&call, &Refusal::of(&answer)));
        }
        let version = version_in(&answer);
        let conflict =
            || StoreError::Conflict { what: key.to_string(), target: self.client.target.clone() };
        let length: Option<u64> = answer.header("content-length").and_then(|n| n.parse().ok());
        if length.is_some_and(|n| n != body.len() as u64) {
            return Err(conflict());
        }
        let same = match answer.header("x-amz-checksum-sha256") {
            Some(stored) => stored == upload.sha256().base64(),
            None => match self.get(key, version.as_ref(), body.len() as u64).await {
                Ok(stored) => stored == *body,
                Err(StoreError::TooLarge { .. }) => false,
                Err(e) => return Err(e),
            },
        };
        if !same {
            return Err(conflict());
        }
        let held = locking::lock_in_headers(&answer);
        let held = http::covering(self, key, version.as_ref(), lock, held).await?;
        Ok(Some(Stored { key: key.clone(), version, lock: held }))
    }

    /// The same for a credential that may list versions but not read them, as an agent's with packs: a version of the
    /// same length whose ETag is the MD5 of these bytes. To make another object with it, one would have to find a
    /// second preimage of MD5, of bytes that are sealed with a key that nobody else knows.
    async fn adopt_unread(&self, upload: &Upload<'_>) -> Result<Option<Stored>, StoreError> {
        let &Upload { key, body, lock, .. } = upload;
        let path = self.path(key);
        let call = Call::new("GET", None, "list the versions of", key.as_str())
            .query("versions", "")
            .query("prefix", &*path);
        let doc = Node::parse(&self.send(&call).await?.body).unwrap_or_default();
        let (etag, size) = (hex::encode(upload.md5().await), body.len().to_string());
        for node in doc.children.iter().filter(|node| node.name == "Version") {
            let text = |name| node.text_at(&[name]).unwrap_or_default();
            let same = text("Key") == path
                && text("Size") == size
                && text("ETag").trim_matches('"') == etag
                && !matches!(text("VersionId"), "" | "null");
            if !same {
                continue;
            }
            let version = VersionId(text("VersionId").to_owned());
            let held = http::covering(self, key, Some(&version), lock, None).await?;
            return Ok(Some(Stored { key: key.clone(), version: Some(version), lock: held }));
        }
        Ok(None)
    }
}
