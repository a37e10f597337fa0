//! The canary, what is done to it, and what the target answered.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::store::{
    Answer, Attack, CANARIES, Lock, LockMode, ObjectKey, Prefix, StoreError, TargetUrl, VersionId,
};

use super::{Proving, Store, fresh_id, lock, mode};
use crate::report::model::{LockProbe, ProbeResult};
use crate::report::words;

/// A lock so short that its end can be waited for, where a bucket locks everything by default.
const MOMENT: SignedDuration = SignedDuration::from_secs(8);
/// By how much the canary's lock is lengthened, to show that this credential may set locks.
const LONGER: SignedDuration = SignedDuration::from_secs(60);
/// What a canary holds; random beyond this, so that another version can't be taken for it.
const TEXT: &str = "A canary of Keephold: it may be deleted once its lock has ended.\n";
/// What should come of an attack.
const UNHARMED: &str = "refused, or the locked version unharmed";
/// Most versions that are looked at when old canaries are removed.
const TIDY_MAX: usize = 1000;

/// One proof at work.
pub(super) struct Session<'a> {
    store: Store<'a>,
    proving: &'a Proving,
    pub(super) key: ObjectKey,
    body: Bytes,
    pub(super) version: Option<VersionId>,
    pub(super) attempts: Vec<LockProbe>,
    may: May,
}

/// What the credential was seen to do to objects without a lock, or with one that it may lift.
#[derive(Debug, Clone, Copy, Default)]
struct May {
    delete: bool,
    relock: bool,
    bypass: bool,
}

/// The canary's lock.
pub(super) enum Held {
    /// The target told it.
    Lock(Lock),
    /// The target keeps none, although one was asked for; its words.
    NotKept(String),
    /// None was asked for.
    NotAsked,
}

fn key(name: &str) -> Result<ObjectKey> {
    ObjectKey::parse(&format!("{CANARIES}{name}")).context("a canary's name is a key")
}

impl<'a> Session<'a> {
    pub(super) fn new(store: Store<'a>, proving: &'a Proving) -> Result<Self> {
        let id = fresh_id()?;
        Ok(Self {
            store,
            proving,
            key: key(&id)?,
            body: Bytes::from(format!("{TEXT}{id}\n")),
            version: None,
            attempts: Vec::new(),
            may: May::default(),
        })
    }

    fn local(&self) -> bool {
        matches!(self.proving.target.url, TargetUrl::Local { .. })
    }

    /// Removes the canaries of earlier proofs whose locks have ended.
    pub(super) async fn tidy(&mut self) -> Result<u64, StoreError> {
        let Some(folder) = Prefix::folder(&["canary"]) else { return Ok(0) };
        let versions: Vec<_> = self.store.list_versions(&folder).take(TIDY_MAX).collect().await;
        let mut removed = 0;
        for version in versions {
            let version = version?;
            let ended = version.delete_marker || {
                let held = self.store.retention(&version.key, version.version.as_ref()).await;
                matches!(held, Ok(lock) if lock.is_none_or(|l| l.until <= Timestamp::now()))
            };
            // One that another proof is at, or that may not be removed, is left.
            if ended && self.store.delete(&version.key, version.version.as_ref()).await.is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Shows what the credential may do, then locks the canary and attacks it.
    pub(super) async fn attack(&mut self) -> Result<Held> {
        let Some(mode) = mode(&self.proving.target) else {
            self.version = self.put(&self.key.clone(), None).await?;
            self.deletions().await?;
            return Ok(Held::NotAsked);
        };
        self.may_delete(mode).await?;
        if matches!(self.store.protection().await, Ok(p) if p.object_lock == Some(false)) {
            return Ok(Held::NotKept(self.store.unlockable().to_owned()));
        }
        let asked = lock(mode, self.proving.lock_for);
        match self.store.put_canary(&self.key, self.body.clone(), Some(asked)).await {
            Ok(version) => self.version = version,
            Err(StoreError::Unprotected { detail, .. }) => return Ok(Held::NotKept(detail)),
            Err(error) => return Err(error).context("writing a canary"),
        }
        let held = match self.store.retention(&self.key, self.version.as_ref()).await {
            Ok(held) => held,
            Err(error) => {
                return Err(error).context(
                    "reading the canary's lock: the prober needs s3:GetObjectRetention (on Google storage.objects.get) below canary/",
                );
            }
        };
        let Some(held) = held else {
            self.deletions().await?;
            return Ok(Held::NotKept("it stored the canary without the lock".to_owned()));
        };
        if !self.local() {
            self.may_relock(held).await?;
            self.may_bypass(mode).await?;
            self.relocks(held).await?;
        }
        self.overwrites().await?;
        self.deletions().await?;
        Ok(Held::Lock(held))
    }

    async fn put(&self, key: &ObjectKey, lock: Option<Lock>) -> Result<Option<VersionId>> {
        self.store.put_canary(key, self.body.clone(), lock).await.context("writing a canary")
    }

    /// Whether the credential may delete what isn't locked.
    async fn may_delete(&mut self, mode: LockMode) -> Result<()> {
        let key = key(&format!("{}-unlocked", fresh_id()?))?;
        // Where the bucket locks by default, or doesn't tell, only a lock of its own keeps it from a long one.
        let open = self.local()
            || self.store.protection().await.is_ok_and(|p| {
                p.object_lock == Some(false)
                    || (p.object_lock.is_some() && p.default_retention.is_none())
            });
        let version = if open {
            self.put(&key, None).await?
        } else {
            match self.store.put_canary(&key, self.body.clone(), Some(lock(mode, MOMENT))).await {
                Ok(version) => {
                    // The target rounds up, and its clock isn't this one.
                    tokio::time::sleep((MOMENT + SignedDuration::from_secs(3)).unsigned_abs())
                        .await;
                    version
                }
                Err(StoreError::Unprotected { .. }) => return Ok(()),
                Err(error) => return Err(error).context("writing a canary"),
            }
        };
        let answer =
            self.store.attack(Attack::Delete { bypass: false }, &key, version.as_ref()).await?;
        self.may.delete = answer == Answer::Accepted;
        self.control("delete a canary that is not locked", &answer, self.may.delete);
        Ok(())
    }

    /// Whether the credential may set locks: it lengthens the canary's.
    async fn may_relock(&mut self, held: Lock) -> Result<()> {
        let longer = Lock { until: held.until + LONGER, ..held };
        let attack = Attack::Relock { lock: Some(longer), bypass: false };
        let answer = self.store.attack(attack, &self.key, self.version.as_ref()).await?;
        self.may.relock = answer == Answer::Accepted;
        self.control("lengthen the canary's lock", &answer, self.may.relock);
        Ok(())
    }

    /// Whether the credential may lift governance locks, shown on another canary.
    async fn may_bypass(&mut self, mode: LockMode) -> Result<()> {
        if mode != LockMode::Compliance {
            return Ok(());
        }
        let key = key(&format!("{}-governance", fresh_id()?))?;
        let version = self.put(&key, Some(lock(LockMode::Governance, LONGER))).await?;
        let answer =
            self.store.attack(Attack::Delete { bypass: true }, &key, version.as_ref()).await?;
        self.may.bypass = answer == Answer::Accepted;
        self.control("lift a governance lock", &answer, self.may.bypass);
        Ok(())
    }

    /// Tries to weaken the canary's lock.
    async fn relocks(&mut self, held: Lock) -> Result<()> {
        let soon = Timestamp::now() + SignedDuration::from_secs(30);
        let shorter = Some(Lock { until: soon, ..held });
        let mut before = Some(held);
        for (what, lock, bypass) in [
            ("shorten the lock", shorter, false),
            ("shorten the lock, bypassing governance", shorter, true),
            (
                "turn the lock to governance mode, bypassing governance",
                (held.mode == LockMode::Compliance)
                    .then_some(Lock { mode: LockMode::Governance, ..held }),
                true,
            ),
            ("clear the lock, bypassing governance", None, true),
        ] {
            if lock.is_none() && what.starts_with("turn") {
                continue;
            }
            let attack = Attack::Relock { lock, bypass };
            let answer = self.store.attack(attack, &self.key, self.version.as_ref()).await?;
            let entitled = self.may.relock && (!bypass || self.may.bypass);
            // What counts is what the target keeps, not what it says.
            let now = self.store.retention(&self.key, self.version.as_ref()).await?;
            let was = std::mem::replace(&mut before, now);
            let weaker = was.is_some_and(|was| {
                now.is_none_or(|now| now.until < was.until || now.mode != was.mode)
            });
            // To clear a lock is no request that every server knows: where it isn't, nobody can clear one so.
            let unknown = lock.is_none() && matches!(answer, Answer::Failed(_));
            if unknown && !weaker {
                self.record(what, UNHARMED, &answer, ProbeResult::Held);
                continue;
            }
            self.tried(what, &answer, weaker, entitled);
        }
        Ok(())
    }

    /// Writes over the canary, and hides it: both may be accepted where versions are kept, and the version must stay.
    async fn overwrites(&mut self) -> Result<()> {
        let attacks: &[_] = if self.local() {
            &[("write over the canary", Attack::Overwrite)]
        } else {
            &[
                ("write over the canary", Attack::Overwrite),
                ("delete the canary without naming its version", Attack::Hide),
            ]
        };
        for (what, attack) in attacks {
            let answer = self.store.attack(*attack, &self.key, self.version.as_ref()).await?;
            let gone = !self.is_whole().await?;
            let entitled = answer == Answer::Accepted || self.may.delete;
            self.tried(what, &answer, gone, entitled);
        }
        Ok(())
    }

    /// Tries to delete the version.
    async fn deletions(&mut self) -> Result<()> {
        for bypass in [false, true] {
            if bypass && (self.local() || !self.is_whole().await?) {
                break;
            }
            let attack = Attack::Delete { bypass };
            let answer = self.store.attack(attack, &self.key, self.version.as_ref()).await?;
            let gone = !self.is_whole().await?;
            let entitled = self.may.delete && (!bypass || self.may.bypass);
            let what = if bypass {
                "delete the version, bypassing governance"
            } else {
                "delete the version"
            };
            self.tried(what, &answer, gone, entitled);
        }
        Ok(())
    }

    /// Whether the canary's version can still be read as it was written.
    async fn is_whole(&self) -> Result<bool> {
        let max = self.body.len() as u64;
        match self.store.get(&self.key, self.version.as_ref(), max).await {
            Ok(body) => Ok(body == self.body),
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error).context(
                "reading the canary: the prober needs s3:GetObject and s3:GetObjectVersion (on Google storage.objects.get) below canary/",
            ),
        }
    }

    fn control(&mut self, what: &str, answer: &Answer, done: bool) {
        let result = if done { ProbeResult::Control } else { ProbeResult::NotProven };
        self.record(what, "accepted: it shows that this credential may", answer, result);
    }

    /// Notes an attack: what it did to the canary, and whether the credential could have been refused for its own sake.
    fn tried(&mut self, what: &str, answer: &Answer, harmed: bool, entitled: bool) {
        let result = match answer {
            _ if harmed => ProbeResult::Broken,
            Answer::Accepted => ProbeResult::Held,
            Answer::Refused(_) if entitled => ProbeResult::Held,
            Answer::Refused(_) | Answer::Failed(_) => ProbeResult::NotProven,
        };
        self.record(what, UNHARMED, answer, result);
    }

    fn record(&mut self, what: &str, expected: &str, answer: &Answer, result: ProbeResult) {
        let actual = match (answer, result) {
            (Answer::Accepted, ProbeResult::Held) => {
                "accepted; the locked version and its lock are as they were".to_owned()
            }
            (Answer::Accepted, _) => "accepted".to_owned(),
            (Answer::Refused(words), ProbeResult::NotProven) => {
                format!("refused, perhaps by the credential's policy alone: {words}")
            }
            (Answer::Refused(words), _) => format!("refused: {words}"),
            (Answer::Failed(words), ProbeResult::Held) => {
                format!("not a request that this server knows ({words}); the lock is as it was")
            }
            (Answer::Failed(words), _) => format!("failed for another reason: {words}"),
        };
        self.attempts.push(LockProbe {
            tried: Timestamp::now(),
            action: what.to_owned(),
            credential: self.proving.credential.clone(),
            expected: expected.to_owned(),
            actual,
            ok: matches!(result, ProbeResult::Held | ProbeResult::Control),
            result,
        });
    }

    /// Removes what the attacks left over the canary; the canary itself goes with a later proof.
    pub(super) async fn clear_up(&self) {
        let versions: Vec<_> =
            self.store.list_versions(&Prefix::exact(&self.key)).take(TIDY_MAX).collect().await;
        for version in versions.into_iter().flatten() {
            if version.key == self.key
                && version.version.is_some()
                && version.version != self.version
                && let Err(error) = self.store.delete(&version.key, version.version.as_ref()).await
            {
                tracing::debug!(%error, "a version over the canary is left");
            }
        }
    }
}

/// A lock in words: `compliance lock until 2026-11-23 04:18 UTC`.
pub(super) fn told(lock: Lock) -> String {
    let mode = match lock.mode {
        LockMode::Compliance => "compliance lock",
        LockMode::Governance => "governance lock",
        LockMode::ImmutableFile => "immutable file attribute",
        LockMode::Advisory => "advisory",
    };
    format!("{mode} until {}", words::minute(lock.until))
}
