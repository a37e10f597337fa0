//! Attacks on a canary's lock, as Google's requests. No deletion can claim a right to lift locks; a change of a lock can,
//! so a deletion that bypasses governance lifts the lock first.

use async_trait::async_trait;
use bytes::Bytes;

use super::refusal::Refusal;
use super::{GcsStore, locking, of_version};
use crate::store::http::{self, Call, Sums, named};
use crate::store::probe::{Answer, Attack, Probe, only_canaries};
use crate::store::{Lock, ObjectKey, StoreError, VersionId};

#[async_trait]
impl Probe for GcsStore {
    async fn put_canary(
        &self,
        key: &ObjectKey,
        body: Bytes,
        lock: Option<Lock>,
    ) -> Result<Option<VersionId>, StoreError> {
        only_canaries(key)?;
        let sums = Sums::of(&body).await;
        let answer = self.upload(key, &body, &sums, lock, false).await?;
        Ok(Some(self.stored(key, &answer, &sums, lock.is_some())?.version()))
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
        let answer = match attack {
            Attack::Delete { bypass } => {
                if bypass {
                    let lift = locking::overriding(self.relock(&path, &what, version, None));
                    let answer = self.client.send(&lift).await?;
                    if !answer.is_success() {
                        return Ok(told(&answer));
                    }
                }
                let call = Call::new("DELETE", Some(&path), "delete", &what);
                self.client.send(&of_version(call, version)).await?
            }
            Attack::Relock { lock, bypass } => {
                let call = self.relock(&path, &what, version, lock);
                let call = if bypass { locking::overriding(call) } else { call };
                self.client.send(&call).await?
            }
            Attack::Overwrite => {
                let body = Bytes::from_static(b"written over the canary\n");
                self.upload(key, &body, &Sums::now(&body), None, false).await?
            }
            Attack::Hide => {
                self.client.send(&Call::new("DELETE", Some(&path), "hide", key.as_str())).await?
            }
        };
        Ok(told(&answer))
    }
}

/// Only what isn't allowed is refused; other refusals say nothing about locks.
fn told(answer: &http::Answer) -> Answer {
    if answer.is_success() {
        return Answer::Accepted;
    }
    let refusal = Refusal::of(answer);
    let words = format!("HTTP {}, {}", refusal.status, refusal.words());
    if refusal.is_denied() { Answer::Refused(words) } else { Answer::Failed(words) }
}
