//! What a replication has done so far: for its summary, and for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::store::ObjectKey;

/// Most problems of a kind that are kept; all are counted.
const PROBLEMS_MAX: usize = 1000;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `vault.json`.
    Config,
    /// A run's record.
    Record,
    /// An index segment.
    Segment,
    /// A pack.
    Pack,
}

/// A number that many tasks add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests for single objects. Listings (one request for about 1,000 versions) aren't counted.
#[derive(Debug, Default)]
pub struct Requests {
    /// Objects read from the source.
    pub reads: Counter,
    /// Objects written to the copy.
    pub writes: Counter,
    /// Locks asked for, on either side.
    pub lock_reads: Counter,
    /// Locks of the copy made longer.
    pub lock_extensions: Counter,
}

/// An object that could not be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its key.
    pub key: String,
    /// Why.
    pub why: String,
}

#[derive(Debug, Default)]
struct Problems {
    number: Counter,
    first: Mutex<Vec<Problem>>,
}

impl Problems {
    fn add(&self, key: &ObjectKey, why: String) {
        self.number.add(1);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < PROBLEMS_MAX {
            first.push(Problem { key: key.to_string(), why });
        }
    }

    fn all(&self) -> Vec<Problem> {
        let mut all = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }
}

/// What a replication has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Objects seen in the source, by [`Kind`].
    found: [Counter; 4],
    /// Objects copied, by [`Kind`].
    copied: [Counter; 4],
    bytes: Counter,
    /// Objects that a pruner took away before they could be read.
    pub gone: Counter,
    /// Requests sent.
    pub requests: Requests,
    damaged: Problems,
    failed: Problems,
}

impl Tally {
    pub(super) fn found(&self, kind: Kind) {
        self.found[kind as usize].add(1);
    }

    pub(super) fn copied(&self, kind: Kind, size: u64) {
        self.copied[kind as usize].add(1);
        self.bytes.add(size);
    }

    pub(super) fn damaged(&self, key: &ObjectKey, why: &str) {
        self.damaged.add(key, why.to_owned());
    }

    pub(super) fn fail(&self, key: &ObjectKey, why: &dyn std::fmt::Display) {
        self.failed.add(key, why.to_string());
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.number.get()
    }

    /// The numbers now.
    pub fn totals(&self) -> Totals {
        let of = |counters: &[Counter; 4], kind: Kind| counters[kind as usize].get();
        Totals {
            records_found: of(&self.found, Kind::Record),
            records_copied: of(&self.copied, Kind::Record),
            segments_found: of(&self.found, Kind::Segment),
            segments_copied: of(&self.copied, Kind::Segment),
            packs_found: of(&self.found, Kind::Pack),
            packs_copied: of(&self.copied, Kind::Pack),
            bytes_copied: self.bytes.get(),
            gone: self.gone.get(),
            objects_read: self.requests.reads.get(),
            objects_written: self.requests.writes.get(),
            locks_read: self.requests.lock_reads.get(),
            locks_extended: self.requests.lock_extensions.get(),
            objects_damaged: self.damaged.number.get(),
            objects_failed: self.failed.number.get(),
            damaged: self.damaged.all(),
            failed: self.failed.all(),
        }
    }
}

/// The numbers of a [`Tally`] at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Records in the source.
    pub records_found: u64,
    /// Those that were copied now.
    pub records_copied: u64,
    /// Index segments in the source.
    pub segments_found: u64,
    /// Those that were copied now.
    pub segments_copied: u64,
    /// Packs in the source.
    pub packs_found: u64,
    /// Those that were copied now.
    pub packs_copied: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Objects that a pruner took from the source before they could be read.
    pub gone: u64,
    /// Requests: objects read from the source.
    pub objects_read: u64,
    /// Requests: objects written to the copy.
    pub objects_written: u64,
    /// Requests: locks asked for, on either side.
    pub locks_read: u64,
    /// Requests: locks of the copy made longer.
    pub locks_extended: u64,
    /// Objects whose bytes in the source aren't those of their names: they are not in the copy.
    pub objects_damaged: u64,
    /// Objects that could not be copied, or whose lock could not be made longer: new records wait for them.
    pub objects_failed: u64,
    /// The first thousand that are damaged.
    pub damaged: Vec<Problem>,
    /// The first thousand that failed.
    pub failed: Vec<Problem>,
}
