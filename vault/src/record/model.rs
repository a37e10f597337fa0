//! What a record says.

use base64::Engine;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;
use crate::ids::{Fingerprint, RecordHash, SegmentId};
use crate::keys::Salt;
use crate::store::{Calls, LockMode, VersionId};
use crate::tree::TreeRoot;

/// What kind of source a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Files below one or several folders.
    Directory,
    /// A PostgreSQL server: roles, and databases as dumps.
    Postgres,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything was stored.
    Success,
    /// Stored, but something needs a look: files that changed while read, vanished, or couldn't be read.
    Warning,
    /// No snapshot.
    Failed,
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Note,
    /// Makes the run a warning.
    Warning,
    /// Makes the run failed.
    Error,
}

/// Something that a run has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// How much it matters.
    pub level: Level,
    /// A stable word for programs: `changed`, `vanished`, `unreadable`, `dump_failed`, …
    pub code: String,
    /// The whole sentence.
    pub text: String,
}

/// How long a run is kept. Decided when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The class that it fell into (`daily`, `weekly`, …, or `keep`).
    pub class: String,
    /// Until when everything that it needs must be locked.
    pub expires: Timestamp,
    /// Until when the record itself is locked, as evidence.
    pub evidence_until: Timestamp,
    /// The mode of the locks that were asked for; `None` if the target's configuration says that it has none.
    pub mode: Option<LockMode>,
}

/// Counts of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Entries in the snapshot.
    pub entries: u64,
    /// Regular files or streams among them.
    pub files: u64,
    /// Size of their contents in bytes, holes included.
    pub bytes: u64,
    /// Files that were taken over from the last run without reading them.
    pub files_unchanged: u64,
    /// Bytes that were read from the source.
    pub bytes_read: u64,
    /// Bytes in blobs that the vault did not hold yet.
    pub bytes_new: u64,
    /// Bytes that the run sent to the target: packs, index and tree.
    pub bytes_stored: u64,
    /// Blobs that the vault did not hold yet.
    pub blobs_new: u64,
    /// Packs written.
    pub packs_new: u64,
    /// Packs of earlier runs that the snapshot needs.
    pub packs_reused: u64,
    /// Locks of earlier packs that were extended.
    pub locks_extended: u64,
    /// Packs that the run began to drain: of which so little is used that it was stored again, and their locks were
    /// not extended.
    #[serde(default)]
    pub packs_drained: u64,
    /// Bytes in blobs that the vault held, and that were stored again since their packs are being drained. They are
    /// part of `bytes_new`.
    #[serde(default)]
    pub bytes_again: u64,
    /// Bytes of streams that were found in the stream before, row by row, and refer to its blobs: neither stored again
    /// nor part of `bytes_new`.
    #[serde(default)]
    pub bytes_matched: u64,
    /// Requests that the run sent to the target until it sealed its record, where the target counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
    /// What the run costs, where the configuration has a price list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Things left out on purpose, by exclude rules.
    pub excluded: u64,
    /// Messages, those beyond the record's bound included.
    pub messages: u64,
}

/// What a run costs at the price list of the host's configuration, in millionths of its currency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// What the list's currency is called, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The requests of `calls`, once.
    pub calls_millionths: u64,
    /// What the run stored, for each month that it is kept.
    pub month_millionths: u64,
}

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceReport {
    /// A directory job.
    Directory {
        /// The paths as configured.
        paths: Vec<String>,
        /// The exclude rules as configured.
        excludes: Vec<String>,
    },
    /// A PostgreSQL job.
    Postgres(Box<PgReport>),
}

/// What a run saw of a PostgreSQL server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgReport {
    /// The server, without secrets (`host:port`).
    pub server: String,
    /// Its version, for example `15.18`.
    pub server_version: String,
    /// Its system identifier, which tells clusters apart.
    pub system_identifier: String,
    /// Whether it keeps data checksums.
    pub data_checksums: bool,
    /// Whether it was a standby.
    pub standby: bool,
    /// The locale of its `money` values: a server that restores them for comparison needs the same.
    pub lc_monetary: String,
    /// Version of the `pg_dump` that was used.
    pub pg_dump_version: String,
    /// The databases that were dumped.
    pub databases: Vec<DatabaseReport>,
    /// Databases that were not, each with the reason.
    pub skipped: Vec<(String, String)>,
}

/// What a run dumped of one database. Counts per table stand in the snapshot beside the dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// Path of its dump in the snapshot.
    pub dump: String,
    /// Path of the counts and row-set hashes of its tables in the snapshot.
    pub tables_path: String,
    /// Length of the dump in bytes.
    pub dump_bytes: u64,
    /// Its size on the server in bytes.
    pub database_bytes: u64,
    /// How many tables had data sections.
    pub tables: u64,
    /// Rows in all of them.
    pub rows: u64,
    /// Large objects.
    pub large_objects: u64,
    /// How long the dump took, in milliseconds.
    pub duration_ms: u64,
}

/// Which packs of an index segment a snapshot needs, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackSet(Vec<u8>);

impl PackSet {
    /// Adds a pack.
    pub fn insert(&mut self, number: u32) {
        let at = number as usize / 8;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (number % 8);
    }

    /// Takes a pack out.
    pub fn remove(&mut self, number: u32) {
        if let Some(byte) = self.0.get_mut(number as usize / 8) {
            *byte &= !(1 << (number % 8));
        }
    }

    /// Adds all packs of another set.
    pub fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(byte, more)| *byte |= more);
    }

    /// Whether it holds a pack.
    pub fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 8).is_some_and(|byte| byte & (1 << (number % 8)) != 0)
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..u32::try_from(self.0.len() * 8).unwrap_or(0)).filter(|&n| self.contains(n))
    }

    /// How many packs it holds.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }
}

/// Base64 (standard alphabet, padded) of a bit map, pack 0 in the lowest bit of the first byte.
impl Serialize for PackSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for PackSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// An index segment that a snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// The segment.
    pub id: SegmentId,
    /// Its length in bytes.
    pub size: u64,
    /// How many blobs it describes, if that was noted: by this readers guess in which segment something lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<u32>,
    /// How many of these are nodes and lists, if the writer knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// The salt of its key.
    #[serde(with = "hex::serde")]
    pub salt: Salt,
    /// The version that the store answered when it was written, where the writer knows it.
    pub version: Option<VersionId>,
    /// Which of its packs the snapshot needs.
    pub used: PackSet,
}

/// What a successful run stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The tree.
    pub root: TreeRoot,
    /// The index segments that say where its blobs lie, newest first.
    pub segments: Vec<SegmentRef>,
    /// Until when every object that it needs was locked as the record was written; `None` without locks.
    pub locked_until: Option<Timestamp>,
}

/// How it stood with a copy of the vault, to which the run wrote too, when the record was sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// What the host's configuration calls it.
    pub name: String,
    /// Whether all that the snapshot needs was there, and locked until the run expires; false for a run without one.
    pub whole: bool,
    /// Until when it was locked there; `None` without locks.
    #[serde(default)]
    pub locked_until: Option<Timestamp>,
    /// What is missing there, why, and what happens next, in words; nothing if it has all that it should have.
    #[serde(default)]
    pub behind: Option<String>,
    /// Earlier snapshots that the copy lacks, as far as the host knows.
    #[serde(default)]
    pub snapshots_missing: u64,
    /// Bytes of packs that wait on the host for the copy.
    #[serde(default)]
    pub bytes_spooled: u64,
    /// Bytes in blobs that were stored again, everywhere, since the copy lacked them; part of the totals' `bytes_new`.
    #[serde(default)]
    pub bytes_again: u64,
    /// Bytes of objects that the copy took in this run, those that it had missed before included.
    #[serde(default)]
    pub bytes_stored: u64,
    /// Requests that the run sent to the copy until it sealed its record, where the target counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
    /// What that costs, where the copy's table in the configuration has a price list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// A run record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `keephold-record-1`.
    pub format: String,
    /// Fingerprint of the vault's configuration.
    pub vault: Fingerprint,
    /// The host, as its configuration names it.
    pub host: String,
    /// The job.
    pub job: String,
    /// Its kind.
    pub kind: JobKind,
    /// Number of the run among those of this host and job, from 1.
    pub seq: u64,
    /// Hash of the record before it.
    pub previous: Option<RecordHash>,
    /// When the run started, by the host's clock.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The server's clock less the host's, in milliseconds, where the target has a clock.
    pub clock_offset_ms: Option<i64>,
    /// What came of it.
    pub status: Status,
    /// What it has to say: at most [`Record::MESSAGES_MAX`]; `totals.messages` counts all.
    pub messages: Vec<Message>,
    /// The program that wrote it, for example `keephold 0.1.0`.
    pub program: String,
    /// Whom the run's key was sealed to.
    pub recipients: Vec<String>,
    /// How long it is kept.
    pub retention: Retention,
    /// What was backed up.
    pub source: Option<SourceReport>,
    /// Counts.
    pub totals: Totals,
    /// What was stored; nothing if the run failed.
    pub snapshot: Option<Snapshot>,
    /// The copies that the run wrote to as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyReport>,
}

impl Record {
    /// What [`format`](Self::format) says.
    pub const FORMAT: &'static str = "keephold-record-1";
    /// Most messages in a record.
    pub const MESSAGES_MAX: usize = 200;

    /// To be asked right before a record is stored: a run that took longer than its snapshot is kept has nothing to show,
    /// since its locks may have ended, and a pruner may have been there, before anyone could see the record.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the snapshot has expired.
    pub fn ensure_unexpired(&self, now: Timestamp) -> Result<(), Error> {
        let expires = self.retention.expires;
        if self.snapshot.is_none() || now < expires {
            return Ok(());
        }
        Err(Error::Stopped(format!(
            "it began at {} and was to be kept until {expires}, which has passed: keep this job's snapshots for longer than \
             a run takes",
            self.started
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_packs_survives_json() {
        let mut set = PackSet::default();
        for n in [0, 9, 300] {
            set.insert(n);
        }
        let json = serde_json::to_string(&set).unwrap();
        let back: PackSet = serde_json::from_str(&json).unwrap();
        assert_eq!(back, set);
        assert_eq!(back.iter().collect::<Vec<_>>(), [0, 9, 300]);
        assert_eq!((back.len(), back.contains(8), back.contains(9)), (3, false, true));
        set.remove(9);
        set.remove(5000);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 300]);
        let mut both = PackSet::default();
        both.insert(2);
        both.union(&back);
        assert_eq!(both.iter().collect::<Vec<_>>(), [0, 2, 9, 300]);
    }
}
