//! Copies at other targets: which of the objects that unexpired runs need each has, and until when they are locked there.
//!
//! Two small requests an object and copy: its versions, and the lock of the one of its size. Where the level is integrity or
//! deeper, a part of the objects is also read in each run and held against their names, which needs no key: which part
//! follows from the day, so that daily runs come round once in `read_days` days. What was damaged is read again until it isn't.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use keephold_vault::Error;
use keephold_vault::ids::Fingerprint;
use keephold_vault::read::Vault;
use keephold_vault::record::RecordKey;
use keephold_vault::store::{
    Lock, LockMode, LockPolicy, ObjectKey, Prefix, Store, StoreError, Version,
};

use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::history::{History, Run};
use super::lock::{RunLock, rank};
use super::needed::Needed;
use super::object::{Kind, Object, len_max};
use super::previous::Previous;
use crate::report::catalogue::{self as code, Code};
use crate::report::model::{Bounded, CopySnapshot, Level, OffsiteCopy, Strength};
use crate::report::words;
use crate::settings::CopyTarget;

/// Objects that are asked for at once.
const AHEAD: usize = 32;
/// Snapshots of a copy that a report names, the newest first.
const SHOWN_MAX: usize = 1000;

/// What was learnt of all copies.
pub(super) struct Copies(Vec<CopyCheck>);

/// What was learnt of one copy.
struct CopyCheck {
    target: CopyTarget,
    store: Option<Arc<dyn Store>>,
    /// The copy as a vault, once its `vault.json` was found to be the source's.
    vault: Option<Vault>,
    present: u64,
    needed: u64,
    read: u64,
    damaged: u64,
    /// Whether `vault.json` is there, without which nothing else counts.
    config: bool,
    /// Findings, told at the end with the others.
    told: Vec<(&'static Code, String, String, Option<String>)>,
    weakest: Option<Strength>,
    /// By number of the run.
    runs: Vec<CopyRun>,
    /// Keys that the report before this one called damaged.
    again: BTreeSet<String>,
    /// Why nothing more is known of it.
    failed: Option<String>,
    /// Whether it is another vault.
    other: bool,
}

#[derive(Debug, Clone, Default)]
struct CopyRun {
    missing: u64,
    seen: u64,
    /// Whether what it needs isn't all known, since an index segment of the source can't be read.
    unknown: bool,
    lock: RunLock,
}

/// What a copy has of one object.
struct Found {
    /// What is there of the right size, its lock, and what lies over it.
    there: Option<(Option<Lock>, Option<Version>)>,
    /// The size of what is there instead.
    wrong_size: Option<u64>,
    /// Why its bytes are not those of its name; `None` if they are, or weren't read.
    damaged: Option<String>,
    read: bool,
}

impl Copies {
    /// Opens each copy.
    ///
    /// # Errors
    /// Only a signal to stop.
    pub(super) async fn open(
        context: &Context<'_>,
        history: &History,
        needed: &Needed,
        previous: &Previous,
    ) -> Result<Self> {
        let mut copies = Vec::new();
        for copy in &context.settings.copies {
            let opened = CopyCheck::open(context, copy, history, needed, previous);
            copies.push(context.stop.unless_set(opened).await?);
        }
        Ok(Self(copies))
    }

    /// What a report says of copies that were not looked at.
    pub(super) fn unlooked(copies: &[CopyTarget]) -> Vec<OffsiteCopy> {
        copies.iter().map(unlooked).collect()
    }

    /// Looks for a batch of needed objects in each copy.
    ///
    /// # Errors
    /// Only a signal to stop: a copy that can't be asked is told of at the end.
    pub(super) async fn check(
        &mut self,
        context: &Context<'_>,
        batch: &[Object],
        history: &History,
    ) -> Result<()> {
        for copy in &mut self.0 {
            copy.check(context, batch, history).await?;
        }
        Ok(())
    }

    /// What the report says of them; adds what is wrong.
    pub(super) fn finish(
        self,
        context: &Context<'_>,
        history: &History,
        findings: &mut Findings,
    ) -> Vec<OffsiteCopy> {
        self.0.into_iter().map(|copy| copy.finish(context, history, findings)).collect()
    }
}

impl CopyCheck {
    async fn open(
        context: &Context<'_>,
        copy: &CopyTarget,
        history: &History,
        needed: &Needed,
        previous: &Previous,
    ) -> Self {
        let mut check = Self {
            target: copy.clone(),
            store: None,
            vault: None,
            present: 0,
            needed: 0,
            read: 0,
            damaged: 0,
            config: false,
            told: Vec::new(),
            weakest: None,
            runs: vec![CopyRun::default(); history.runs.len()],
            again: previous.resources(code::COPY_DAMAGED.id, &format!("{}: ", copy.name)),
            failed: None,
            other: false,
        };
        for number in needed.unread_runs() {
            if let Some(run) = check.runs.get_mut(number as usize) {
                run.unknown = true;
            }
        }
        let store = match copy.target.open() {
            Ok(store) => store,
            Err(error) => {
                check.failed = Some(format!("{error:#}"));
                return check;
            }
        };
        match Vault::open(Arc::clone(&store), Some(&context.vault.fingerprint())).await {
            Ok(vault) => check.vault = Some(vault),
            Err(Error::OtherVault { found, .. }) => {
                check.other = true;
                check.failed = Some(format!(
                    "vault.json there is of {found}, not of {}",
                    context.vault.fingerprint()
                ));
            }
            // It is among the needed objects, and is missed or found damaged with them.
            Err(error) if is_about_object(&error) => {}
            Err(error) => check.failed = Some(told(&error)),
        }
        check.store = Some(store);
        check
    }

    async fn check(
        &mut self,
        context: &Context<'_>,
        batch: &[Object],
        history: &History,
    ) -> Result<()> {
        let Some(store) = self.store.clone().filter(|_| self.failed.is_none()) else {
            return Ok(());
        };
        let vault =
            self.vault.clone().filter(|_| context.settings.depth.holds(Level::IntegrityKeyless));
        let fingerprint = context.vault.fingerprint();
        let mut answers = futures::stream::iter(batch)
            .map(|object| {
                let (store, vault) = (&store, &vault);
                let key = object.key.as_str();
                let due =
                    self.again.contains(key) || is_due(key, context.now, self.target.read_days);
                async move {
                    let vault = vault.as_ref().filter(|_| due);
                    (object, look(store.as_ref(), vault, &fingerprint, object).await)
                }
            })
            .buffer_unordered(AHEAD);
        let mut found = Vec::new();
        while let Some((object, answer)) = context.stop.unless_set(answers.next()).await? {
            match answer {
                Ok(answer) => found.push((object, answer)),
                Err(error) => {
                    self.failed = Some(told(&error));
                    return Ok(());
                }
            }
        }
        drop(answers);
        for (object, found) in found {
            self.count(object, &found, history);
        }
        Ok(())
    }

    fn tell(&mut self, code: &'static Code, key: &str, summary: String, detail: Option<String>) {
        self.told.push((code, format!("{}: {key}", self.target.name), summary, detail));
    }

    fn count(&mut self, object: &Object, found: &Found, history: &History) {
        self.needed += 1;
        self.read += u64::from(found.read);
        let key = object.key.as_str();
        let by = object.needed_by(history);
        if let Some(why) = &found.damaged {
            self.damaged += 1;
            let summary = format!("Its bytes in the copy are not those of its name; it is {by}.");
            self.tell(&code::COPY_DAMAGED, key, summary, Some(why.clone()));
        } else if let Some(size) = found.wrong_size {
            self.damaged += 1;
            let summary = format!("It has another size in the copy; it is {by}.");
            let detail = format!("{} bytes are there", words::count(size));
            self.tell(&code::COPY_DAMAGED, key, summary, Some(detail));
        } else if let Some((_, Some(over))) = &found.there {
            let what = if over.delete_marker { "A delete marker" } else { "A version" };
            let at = words::minute(over.modified);
            let summary = format!("{what} of {at} lies over it in the copy; it is {by}.");
            self.tell(&code::COPY_HIDDEN, key, summary, None);
        }
        let there = found.there.as_ref().filter(|_| found.damaged.is_none());
        self.present += u64::from(there.is_some());
        if matches!(object.kind, Kind::Config) {
            self.config = there.is_some();
        }
        if let Some((lock, _)) = there {
            let strength = lock.map_or(Strength::None, |lock| lock.mode.into());
            self.weakest = Some(self.weakest.map_or(strength, |weakest| weakest.min(strength)));
        }
        for &number in &object.runs {
            let expires = history.run(number).and_then(|run| run.facts.as_ref().ok());
            let (Some(facts), Some(run)) = (expires, self.runs.get_mut(number as usize)) else {
                continue;
            };
            let Some((lock, _)) = there else {
                run.missing += 1;
                continue;
            };
            run.seen += 1;
            let strong = lock.is_some_and(|lock| {
                required(&self.target).is_none_or(|mode| rank(lock.mode) >= rank(mode))
            });
            run.lock.see(*lock, facts.retention.expires, strong, object.size.unwrap_or(0));
        }
    }

    fn finish(
        self,
        context: &Context<'_>,
        history: &History,
        findings: &mut Findings,
    ) -> OffsiteCopy {
        let mut snapshots = Vec::new();
        let mut behind: Vec<&Run> = Vec::new();
        let mut short: Vec<&Run> = Vec::new();
        for (run, state) in history.runs.iter().zip(&self.runs).rev() {
            let Some(facts) = run.believed().filter(|f| f.is_success()) else { continue };
            if facts.retention.expires <= context.now || self.failed.is_some() {
                continue;
            }
            let complete = self.config && state.missing == 0 && state.seen > 0 && !state.unknown;
            if !complete && context.now.duration_since(facts.finished) > self.target.lag {
                behind.push(run);
            }
            // A copy that is said to have no locks is shown without them.
            let locks = facts.retention.mode.is_some()
                && self.target.target.options.lock != LockPolicy::None;
            if complete && locks && state.lock.fully != Some(true) {
                short.push(run);
            }
            snapshots.push((
                facts.finished,
                CopySnapshot {
                    record_key: run.found.key.to_string(),
                    complete,
                    locked_until: state.lock.until.filter(|_| complete),
                },
            ));
        }
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.0));
        let newest_complete = snapshots.iter().find(|(_, s)| s.complete).map(|(at, _)| *at);
        let name = &self.target.name;
        if let Some(why) = &self.failed {
            let (code, summary) = if self.other {
                (&code::COPY_OTHER_VAULT, "Another vault lies where the copy should be.")
            } else {
                let summary = "The copy can't be read, so it isn't known which snapshots it has.";
                (&code::COPY_UNCHECKED, summary)
            };
            findings.add(code, name, summary.to_owned(), Some(why.clone()));
        }
        for (code, resource, summary, detail) in self.told {
            findings.add(code, &resource, summary, detail);
        }
        for (code, runs, what) in [
            (&code::COPY_BEHIND, &behind, "not whole in the copy"),
            (&code::COPY_LOCK_SHORT, &short, "not locked in the copy for as long as it is kept"),
        ] {
            let newest = runs.iter().max_by_key(|run| run.found.modified);
            if let Some(newest) = newest {
                let summary = format!(
                    "{} {what}; the newest is {}.",
                    match runs.len() {
                        1 => "1 snapshot is".to_owned(),
                        n => format!("{} snapshots are", words::count(n as u64)),
                    },
                    newest.name()
                );
                findings.add(code, name, summary, None);
            }
        }
        let known = |number| self.failed.is_none().then_some(number);
        let complete = snapshots.iter().filter(|(_, snapshot)| snapshot.complete);
        let ends: Option<Vec<Timestamp>> = complete.clone().map(|(_, s)| s.locked_until).collect();
        OffsiteCopy {
            objects_present: known(self.present),
            objects_needed: known(self.needed),
            objects_read: known(self.read),
            objects_damaged: known(self.damaged),
            strength: self.weakest.filter(|_| self.failed.is_none()),
            snapshots_complete: known(complete.count() as u64),
            newest_complete,
            locked_until: ends.and_then(|ends| ends.into_iter().min()),
            snapshots: Bounded::take(snapshots.into_iter().map(|(_, s)| s), SHOWN_MAX),
            ..unlooked(&self.target)
        }
    }
}

fn unlooked(copy: &CopyTarget) -> OffsiteCopy {
    OffsiteCopy {
        name: copy.name.clone(),
        url: copy.target.url.to_string(),
        region: copy.target.options.region.clone(),
        objects_present: None,
        objects_needed: None,
        objects_read: None,
        objects_damaged: None,
        strength: None,
        snapshots_complete: None,
        newest_complete: None,
        locked_until: None,
        snapshots: Bounded::none(),
    }
}

/// The mode that locks of a copy must have, on a target that has modes.
fn required(copy: &CopyTarget) -> Option<LockMode> {
    if copy.target.url.is_local() {
        return None;
    }
    match copy.target.options.lock {
        LockPolicy::Compliance => Some(LockMode::Compliance),
        LockPolicy::Governance => Some(LockMode::Governance),
        LockPolicy::None => None,
    }
}

/// Whether today is the day on which an object is read: each object has its own of `days` days.
fn is_due(key: &str, now: Timestamp, days: u32) -> bool {
    let days = u64::from(days.max(1));
    let today = u64::try_from(now.as_second() / 86_400).unwrap_or(0);
    let [a, b, c, d, ..] = *blake3::hash(key.as_bytes()).as_bytes();
    u64::from(u32::from_le_bytes([a, b, c, d])) % days == today % days
}

/// Whether bytes are those that an object's name stands for.
fn is_true(key: &ObjectKey, fingerprint: &Fingerprint, bytes: &[u8]) -> bool {
    if *key == ObjectKey::vault_config() {
        return blake3::hash(bytes).as_bytes() == fingerprint.as_bytes();
    }
    match key.as_str().parse::<RecordKey>() {
        Ok(record) => record.names(bytes),
        Err(_) => key.as_str().ends_with(blake3::hash(bytes).to_hex().as_str()),
    }
}

/// Looks for an object: the oldest version of the right size, as the replication takes it, and its lock. Its version ids are
/// the copy's own, so those of the source say nothing. If `vault` is given, its bytes are read in whatever version is true.
async fn look(
    store: &dyn Store,
    vault: Option<&Vault>,
    fingerprint: &Fingerprint,
    object: &Object,
) -> Result<Found, Error> {
    let key = &object.key;
    let mut found = Found { there: None, wrong_size: None, damaged: None, read: false };
    let versions: Vec<Version> = match store.list_versions(&Prefix::exact(key)).try_collect().await
    {
        Ok(versions) => versions,
        Err(StoreError::NotFound { .. }) => return Ok(found),
        Err(error) => return Err(error.into()),
    };
    let versions: Vec<_> = versions.into_iter().filter(|version| version.key == *key).collect();
    let size = object.size.or_else(|| object.truth().map(|truth| truth.size));
    let mut data = versions.iter().rev().filter(|version| !version.delete_marker).peekable();
    let Some(oldest) = data.peek().map(|version| version.size) else { return Ok(found) };
    let Some(version) = data.find(|version| size.is_none_or(|size| size == version.size)) else {
        found.wrong_size = Some(oldest);
        return Ok(found);
    };
    let lock = match store.retention(key, version.version.as_ref()).await {
        Ok(lock) => lock,
        Err(StoreError::NotFound { .. }) => return Ok(found),
        Err(error) => return Err(error.into()),
    };
    found.there = Some((lock, versions.first().filter(|newest| *newest != version).cloned()));
    if let Some(vault) = vault {
        let believed = |bytes: &[u8]| is_true(key, fingerprint, bytes);
        match vault.read_true(key, version.version.as_ref(), len_max(&object.kind), &believed).await
        {
            Ok(_) => found.read = true,
            Err(error) if is_about_object(&error) => {
                found.read = true;
                found.damaged = Some(told(&error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
