//! Attacks on a canary's lock, as S3 requests.

use async_trait::async_trait;
use bytes::Bytes;

use super::S3Store;
use super::locking;
use super::refusal::Refusal;
use super::upload::Upload;
use super::write::version_in;
use crate::store::http::{self, Call, Sums, named};
use crate::store::probe::{Answer, Attack, Probe, only_canaries};
use crate::store::{Lock, ObjectKey, StoreError, VersionId};

/// Claims the right to lift governance locks.
const BYPASS_HEADER: &str = "x-amz-bypass-governance-retention";

#[async_trait]
impl Probe for S3Store {
    async fn put_canary(
        &self,
        key: &ObjectKey,
        body: Bytes,
        lock: Option<Lock>,
    ) -> Result<Option<VersionId>, StoreError> {
        only_canaries(key)?;
        let lock = lock.map(|lock| Lock { until: http::whole_seconds(lock.until), ..lock });
        let upload = Upload { key, body: &body, lock, sums: self.md5.sums(&body).await };
        let answer = self.put_object(&upload, false).await?;
        if !answer.is_success() {
            return Err(self.write_error(key, &answer, lock.is_some()));
        }
        Ok(version_in(&answer))
    }

    async fn attack(
        &self,
        attack: Attack,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Answer, StoreError> {
        only_canaries(key)?;
        let path = self.path(key);
        let what = named(key, version);
        // `null` names the object of a bucket that keeps no versions.
        let id = version.map_or("null", |v| v.0.as_str());
        let (body, sums);
        let (call, bypass) = match attack {
            Attack::Delete { bypass } => {
                (Call::new("DELETE", Some(&path), "delete", &what).query("versionId", id), bypass)
            }
            Attack::Relock { lock, bypass } => {
                body = locking::retention_document(lock);
                sums = Sums::now(&body);
                let call = Call::new("PUT", Some(&path), "change the lock of", &what)
                    .query("retention", "")
                    .query("versionId", id)
                    .body(body, &sums);
                (call, bypass)
            }
            Attack::Overwrite => {
                body = Bytes::from_static(b"written over the canary\n");
                sums = Sums::now(&body);
                (Call::new("PUT", Some(&path), "overwrite", key.as_str()).body(body, &sums), false)
            }
            Attack::Hide => (Call::new("DELETE", Some(&path), "hide", key.as_str()), false),
        };
        let call = if bypass { call.header(BYPASS_HEADER, "true") } else { call };
        let answer = self.client.send(&call).await?;
        if answer.is_success() {
            return Ok(Answer::Accepted);
        }
        let refusal = Refusal::of(&answer);
        let words = format!("HTTP {}, {}", refusal.status, refusal.words());
        Ok(if refusal.is_denied() { Answer::Refused(words) } else { Answer::Failed(words) })
    }
}
