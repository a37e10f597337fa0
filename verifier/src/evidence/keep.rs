//! Evidence under lock: whatever the folder of reports holds and the evidence target doesn't is put there.
//!
//! Nothing has to be remembered for that: what is there is learnt by listing, so what one run couldn't store the next one
//! stores. The **first** version of a key is the true one, since a name is used once: what comes over it later, a delete
//! marker too, is told, and changes nothing of what is under lock.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use jiff::Timestamp;
use keephold_vault::store::{Lock, LockPolicy, ObjectKey, Store, StoreError, Version};

use super::files;
use super::there::{self, There};
use crate::report::model::{EvidenceStore, Strength};
use crate::report::words;
use crate::settings::EvidenceTarget;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What the report says of the target.
    pub(crate) state: EvidenceStore,
    /// What was done to evidence there: the key, and what.
    pub(crate) altered: Vec<(String, String)>,
}

/// What is known of a target before anything was done there.
pub(crate) fn unknown(to: &EvidenceTarget) -> EvidenceStore {
    EvidenceStore {
        url: to.target.url.to_string(),
        keep_days: u64::try_from(to.keep.as_hours() / 24).unwrap_or(0),
        files: None,
        stored_now: None,
        altered: None,
        strength: None,
        locked_until: None,
        notes: Vec::new(),
    }
}

/// Stores what isn't stored yet, under lock for the evidence period from now on, and looks at what is there.
///
/// # Errors
/// What keeps evidence from being stored: then some or all of it is in the folder only.
pub(crate) async fn keep(out: &Path, to: &EvidenceTarget) -> Result<Kept> {
    let files = files::in_folder(out)?;
    let store = to.target.open()?;
    let store = store.as_ref();
    let mut there = there::list(store).await?;
    let mut kept = Kept { state: unknown(to), altered: Vec::new() };
    let policy = to.target.options.lock;
    let until = Timestamp::now() + to.keep;
    let mut stored_now = 0;
    for (key, path) in &files {
        let size = path.metadata().with_context(|| format!("{} can't be read", path.display()))?;
        match there.get(key) {
            Some(found) if found.first.size == size.len() => {}
            Some(found) => kept.altered.push((
                key.to_string(),
                format!("{} bytes there, {} here", found.first.size, size.len()),
            )),
            None => {
                let bytes = std::fs::read(path)
                    .with_context(|| format!("{} can't be read", path.display()))?;
                let first = put(store, key, bytes.into(), until, policy, &mut kept).await?;
                there.insert(key.clone(), There { first, over: Vec::new() });
                stored_now += 1;
            }
        }
    }
    (kept.state.files, kept.state.stored_now) = (Some(files.len() as u64), Some(stored_now));
    for (key, found) in &there {
        if let Some(what) = found.altered(store, key).await {
            kept.altered.push((key.to_string(), what));
        }
    }
    kept.state.altered = Some(kept.altered.len() as u64);
    protection(store, policy, &there, &mut kept).await;
    Ok(kept)
}

/// Puts one file, and reads it and its lock back as far as the credential may.
async fn put(
    store: &dyn Store,
    key: &ObjectKey,
    bytes: Bytes,
    until: Timestamp,
    policy: LockPolicy,
    kept: &mut Kept,
) -> Result<Version> {
    let size = bytes.len() as u64;
    let stored = store.put(key, bytes.clone(), until).await?;
    match store.get(key, stored.version.as_ref(), size).await {
        Ok(back) if back == bytes => {}
        Ok(_) => bail!("{key} was stored, and other bytes come back"),
        Err(StoreError::Denied { .. }) => {
            kept.note("what is stored can't be read back with this credential");
        }
        Err(error) => {
            return Err(error).context(format!("{key} was stored and can't be read back"));
        }
    }
    if policy != LockPolicy::None {
        match store.retention(key, stored.version.as_ref()).await {
            Ok(held) if stored.lock.is_some_and(|asked| holds(held, asked)) => {}
            Ok(held) => {
                let held = held.map_or_else(
                    || "no lock".to_owned(),
                    |lock| format!("a lock until {}", words::minute(lock.until)),
                );
                bail!("{key} was stored, and has {held} where one until {until} was asked for");
            }
            // Nothing is claimed of it then: see `protection`.
            Err(StoreError::Denied { .. }) => {}
            Err(error) => return Err(error).context(format!("the lock of {key} can't be read")),
        }
    }
    Ok(Version {
        key: key.clone(),
        version: stored.version,
        size,
        modified: Timestamp::now(),
        latest: true,
        delete_marker: false,
    })
}

/// Whether a lock that was read is no shorter than the one that the store said it set, of the same mode.
fn holds(held: Option<Lock>, asked: Lock) -> bool {
    held.is_some_and(|held| held.mode == asked.mode && held.until >= asked.until)
}

/// How strongly the newest file is held, as its own lock shows; what the target says of itself can only lower it.
async fn protection(store: &dyn Store, policy: LockPolicy, there: &there::All, kept: &mut Kept) {
    let newest = there.iter().max_by_key(|(_, found)| found.first.modified);
    let Some((key, found)) = newest else { return };
    // Asked first, for what a target promises rests on whether locks could be read.
    let held = match store.retention(key, found.first.version.as_ref()).await {
        Ok(held) => held.filter(|_| policy != LockPolicy::None),
        Err(why) => return kept.note(&format!("nothing is claimed of its locks: {why}")),
    };
    let promised = match store.protection().await {
        Ok(promised) => promised,
        Err(why) => return kept.note(&format!("nothing is claimed of its protection: {why}")),
    };
    kept.state.notes.extend(promised.notes);
    kept.state.locked_until = held.map(|lock| lock.until);
    let seen = held.map_or(Strength::None, |lock| lock.mode.into());
    kept.state.strength = Some(seen.min(promised.strength.into()));
}

impl Kept {
    fn note(&mut self, note: &str) {
        if !self.state.notes.iter().any(|known| known == note) {
            self.state.notes.push(note.to_owned());
        }
    }

    /// Where the evidence is now, and what holds it, as one line.
    pub(crate) fn line(&self) -> String {
        let (held, _) = words::held(self.state.strength, self.state.locked_until);
        format!("{} ({held})", self.state.url)
    }
}
