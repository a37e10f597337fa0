//! Attacks on a canary's lock, as Azure's requests. The service has no header that claims a right to lift locks: a
//! policy in the mode 'unlocked' is lifted by whoever may set it, and a deletion that bypasses governance lifts it first.

use async_trait::async_trait;
use bytes::Bytes;

use super::refusal::Refusal;
use super::{AzureStore, of_version};
use crate::store::http::{self, Call, Sums, named};
use crate::store::probe::{Answer, Attack, Probe, only_canaries};
use crate::store::{Lock, ObjectKey, StoreError, VersionId};

#[async_trait]
impl Probe for AzureStore {
    async fn put_canary(
        &self,
        key: &ObjectKey,
        body: Bytes,
        lock: Option<Lock>,
    ) -> Result<Option<VersionId>, StoreError> {
        only_canaries(key)?;
        let sums = Sums::of(&body).await;
        let answer = self.put_blob(key, &body, &sums, lock, false).await?;
        if !answer.is_success() {
            return Err(self.write_error(key, &answer, lock.is_some()));
        }
        Ok(self.version_in(&answer))
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
        let sums;
        let call = match attack {
            Attack::Delete { bypass } => {
                if bypass {
                    let lift = self.client.send(&self.relock(&path, &what, version, None)).await?;
                    if !lift.is_success() {
                        return Ok(told(&lift));
                    }
                }
                // A current version is refused for being that, lock or no lock, which would prove nothing.
                let looked = self.look(key, version, "look at").await?;
                if looked.header("x-ms-is-current-version") == Some("true") {
                    let etag = looked.header("etag").unwrap_or_default();
                    self.demote(key, etag).await?;
                }
                of_version(Call::new("DELETE", Some(&path), "delete", &what), version)
            }
            Attack::Relock { lock, .. } => self.relock(&path, &what, version, lock),
            Attack::Overwrite => {
                let body = Bytes::from_static(b"written over the canary\n");
                sums = Sums::now(&body);
                Call::new("PUT", Some(&path), "overwrite", key.as_str())
                    .header("x-ms-blob-type", "BlockBlob")
                    .body(body, &sums)
            }
            Attack::Hide => Call::new("DELETE", Some(&path), "hide", key.as_str()),
        };
        Ok(told(&self.client.send(&call).await?))
    }
}

fn told(answer: &http::Answer) -> Answer {
    if answer.is_success() {
        return Answer::Accepted;
    }
    let refusal = Refusal::of(answer);
    let words = format!("HTTP {}, {}", refusal.status, refusal.words());
    let refused = refusal.is_denied() || refusal.is_immutable();
    if refused { Answer::Refused(words) } else { Answer::Failed(words) }
}
