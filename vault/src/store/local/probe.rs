//! Attacks on a canary's lock, past Keephold's own rules: with the system calls that anyone on this machine has.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{self, AtFlags, OFlags};
use rustix::io::Errno;

use super::LocalStore;
use super::folder::split;
use super::object::Writer;
use crate::store::probe::{Answer, Attack, Probe, only_canaries};
use crate::store::{Lock, ObjectKey, Store as _, StoreError, VersionId};

#[async_trait]
impl Probe for LocalStore {
    async fn put_canary(
        &self,
        key: &ObjectKey,
        body: Bytes,
        lock: Option<Lock>,
    ) -> Result<Option<VersionId>, StoreError> {
        only_canaries(key)?;
        match lock {
            Some(lock) => self.put(key, body, lock.until).await.map(|stored| stored.version),
            None => {
                let key = key.clone();
                self.with(move |writer| writer.put(&key, &body, Timestamp::UNIX_EPOCH, false))
                    .await?;
                Ok(None)
            }
        }
    }

    async fn attack(
        &self,
        attack: Attack,
        key: &ObjectKey,
        _version: Option<&VersionId>,
    ) -> Result<Answer, StoreError> {
        only_canaries(key)?;
        let key = key.clone();
        self.with(move |writer| Ok(answer(attacked(writer, attack, &key)))).await
    }
}

fn attacked(writer: &Writer, attack: Attack, key: &ObjectKey) -> Result<(), Errno> {
    let (dir, name) = split(key.as_str());
    let dir = writer.root.dir(dir)?;
    match attack {
        Attack::Delete { bypass: false } | Attack::Hide => {
            fs::unlinkat(&dir, name, AtFlags::empty())
        }
        Attack::Overwrite => {
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            fs::openat(&dir, name, flags, fs::Mode::empty()).map(drop)
        }
        // A folder has neither a lock that could be set anew nor a right to lift it: root clears the attribute, which
        // needs no proof.
        Attack::Delete { bypass: true } | Attack::Relock { .. } => Err(Errno::OPNOTSUPP),
    }
}

fn answer(result: Result<(), Errno>) -> Answer {
    match result {
        Ok(()) => Answer::Accepted,
        Err(e @ (Errno::PERM | Errno::ACCESS)) => Answer::Refused(e.to_string()),
        Err(e) => Answer::Failed(e.to_string()),
    }
}
