//! The spool of a copy: what it should have got, sealed as it is, on this host's disk.
//!
//! A file for each object, named by its key and the end of its lock. Packs are kept up to a limit. Of a segment only the
//! name is, since its bytes are in the cache and in the vault. Records are small, and always kept.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::store::ObjectKey;
use crate::write::known::{LITTER_AGE, write_file};

/// The folder of a spool. Several runs of this host may use it at once.
#[derive(Debug)]
pub(in crate::write) struct Spool {
    dir: PathBuf,
    max: u64,
    free: u64,
    /// Packs arrive beside each other; there must be room for each when its turn comes.
    keeping: Mutex<()>,
}

/// An object that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::write) struct Entry {
    pub(in crate::write) key: ObjectKey,
    /// Until when it was to be locked.
    pub(in crate::write) until: Timestamp,
    pub(in crate::write) size: u64,
    pub(in crate::write) age: Duration,
    path: PathBuf,
}

impl Spool {
    /// Takes up to `max` bytes of packs, and leaves `free` bytes of the disk.
    pub(super) fn new(dir: PathBuf, max: u64, free: u64) -> Self {
        Self { dir, max, free, keeping: Mutex::default() }
    }

    /// Only one run delivers at a time; `None` if another does.
    pub(in crate::write) fn lock(&self) -> Option<File> {
        let path = self.dir.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(file)
    }

    /// What waits, in the order of keys: segments, packs, records. What can't be listed isn't there.
    pub(in crate::write) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let (path, name) = (file.path(), file.file_name());
            let Some(name) = name.to_str() else { continue };
            let Ok(meta) = file.metadata() else { continue };
            let age = meta.modified().ok().and_then(|t| t.elapsed().ok()).unwrap_or_default();
            if name.starts_with(".tmp-") && age > LITTER_AGE {
                let _ = fs::remove_file(&path);
            }
            let Some((key, until)) = name.rsplit_once(',') else { continue };
            let key = ObjectKey::parse(&key.replace(',', "/"));
            let until = until.parse().ok().and_then(|s| Timestamp::from_second(s).ok());
            if let (Some(key), Some(until)) = (key, until) {
                entries.push(Entry { key, until, size: meta.len(), age, path });
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    /// How many packs wait, and how many bytes they have.
    pub(in crate::write) fn size(&self) -> (u64, u64) {
        let packs = self.entries().into_iter().filter(|entry| entry.key.as_pack().is_some());
        packs.fold((0, 0), |(n, bytes), entry| (n + 1, bytes + entry.size))
    }

    /// Keeps a pack, if there is room; else says why not.
    pub(super) fn keep_pack(
        &self,
        key: &ObjectKey,
        until: Timestamp,
        bytes: &[u8],
    ) -> Result<(), String> {
        let _one_by_one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, held) = self.size();
        let (size, max) = (bytes.len() as u64, self.max);
        if held.saturating_add(size) > max {
            return Err(match max {
                0 => "spooling is turned off".to_owned(),
                _ => format!("its spool is full ({held} of {max} bytes)"),
            });
        }
        let stat = statvfs(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < self.free.saturating_add(size) {
            return Err(format!("the disk of {} is nearly full", self.dir.display()));
        }
        self.keep(key, until, bytes)
    }

    /// Keeps an object; else says why not.
    pub(super) fn keep(
        &self,
        key: &ObjectKey,
        until: Timestamp,
        bytes: &[u8],
    ) -> Result<(), String> {
        // Never sooner than was asked for.
        let until = until.as_second() + i64::from(until.subsec_nanosecond() > 0);
        // No key has a comma.
        let name = format!("{},{until}", key.as_str().replace('/', ","));
        write_file(&self.dir.join(name), bytes).map_err(|error| error.to_string())
    }

    /// Removes what was delivered, or will never be.
    pub(in crate::write) fn remove(&self, entry: &Entry) {
        if let Err(error) = fs::remove_file(&entry.path) {
            tracing::warn!("{} can't be removed: {error}", entry.path.display());
        }
    }

    pub(super) fn remove_key(&self, key: &ObjectKey) {
        self.entries().iter().filter(|entry| entry.key == *key).for_each(|e| self.remove(e));
    }
}

impl Entry {
    /// The object's bytes; `None` if they can't be read.
    pub(in crate::write) fn read(&self) -> Option<Vec<u8>> {
        fs::read(&self.path)
            .inspect_err(|error| tracing::warn!("{}: {error}", self.path.display()))
            .ok()
    }
}
