//! Jobs and their runs: the population that an auditor samples from.

use super::Bounded;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One job of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The host that is backed up.
    pub host: String,
    /// The job's name.
    pub job: String,
    /// What it backs up.
    pub kind: JobKind,
    /// Whether the verifier's configuration expects it. One that was only found in the vault is `false`.
    pub expected: bool,
    /// The RPO: the greatest age in seconds that the newest good snapshot may have; `null` if none is configured.
    pub rpo_s: Option<u64>,
    /// The schedule, as configured, in plain words.
    pub schedule: Option<String>,
    /// When the newest successful run ended.
    pub newest_success: Option<Timestamp>,
    /// Its age in seconds when the report was made.
    pub newest_success_age_s: Option<u64>,
    /// The oldest snapshot that can still be restored.
    pub oldest_restorable: Option<Timestamp>,
    /// The longest time in seconds between two successful runs in the period: the RPO that was attained.
    pub longest_gap_s: Option<u64>,
    /// The times in the period when the newest success was older than the RPO.
    pub gaps: Vec<Gap>,
    /// How many runs the schedule asked for in the period; `null` if no RPO or schedule is configured.
    pub runs_expected: Option<u64>,
    /// How many records were seen in the period.
    pub runs_seen: u64,
    /// How many of those succeeded.
    pub runs_succeeded: u64,
    /// Sequence numbers for which no record was found: runs that someone removed, or that left none.
    pub missing_seqs: Vec<u64>,
    /// The runs, newest first.
    pub runs: Bounded<Run>,
    /// When a restore of this job was last tested with success; `null` if never, or not known.
    pub last_restore_test: Option<Timestamp>,
    /// How old that may be, in seconds; `null` if nothing is configured.
    pub restore_test_every_s: Option<u64>,
}

/// What a job backs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// A PostgreSQL database.
    Postgres,
    /// A directory tree.
    Directory,
    /// A command's output.
    Command,
}

/// A time without a good snapshot that was young enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The successful run that it follows.
    pub from: Timestamp,
    /// The successful run that ended it; `null` while it lasts.
    pub until: Option<Timestamp>,
}

/// One run, as its signed record tells it and the verifier checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its sequence number in the job.
    pub seq: u64,
    /// Where its record is stored.
    pub record_key: String,
    /// BLAKE3 of the record, which the next record carries.
    pub record_blake3: String,
    /// When it started, by the host's clock.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What came of it.
    pub status: RunStatus,
    /// Why it failed or what it warned of, in the agent's words.
    pub message: Option<String>,
    /// How many bytes a restore of its snapshot brings back, holes included.
    pub bytes: u64,
    /// How many of them it read from the source: not those of files that were as the run before had seen them.
    pub bytes_read: u64,
    /// Bytes that it added to the vault.
    pub bytes_stored: u64,
    /// Entries of a directory tree.
    pub entries: Option<u64>,
    /// Rows of a database.
    pub rows: Option<u64>,
    /// Number of warnings.
    pub warnings: u64,
    /// Whether its signature holds, and its signer is one that the verifier believes.
    pub signature_ok: bool,
    /// Who signed it.
    pub signer: Option<String>,
    /// Whether it carries the hash of the record before it.
    pub chain_ok: bool,
    /// When its snapshot expires under the retention policy; `null` for a run without a snapshot.
    pub expires: Option<Timestamp>,
    /// The earliest end of a lock among all objects that it needs; `null` if one has none, or it isn't known.
    pub lock_until: Option<Timestamp>,
    /// Whether all objects that it needs are locked at least until it expires; `null` if that wasn't checked.
    pub locked_fully: Option<bool>,
    /// How much of what it needs is locked until it expires; `null` if that wasn't checked.
    #[serde(default)]
    pub lock_coverage: Option<LockCoverage>,
}

/// How much of what a run needs is locked until it expires, in the mode that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockCoverage {
    /// Objects that it needs: packs, index segments and its record.
    pub objects: u64,
    /// Those that are locked until it expires.
    pub objects_locked: u64,
    /// Bytes in the objects that it needs.
    pub bytes: u64,
    /// Bytes in those that are locked until it expires.
    pub bytes_locked: u64,
}

impl Run {
    /// Whether its lock holds until it expires, by the dates as well as by the check's word; `None` if it isn't known.
    pub fn is_locked(&self) -> Option<bool> {
        let by_date = match (self.lock_until, self.expires) {
            (Some(until), Some(expires)) => until >= expires,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.locked_fully.map(|fully| fully && by_date)
    }
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It left a whole snapshot.
    Success,
    /// It left a snapshot, and something that its source couldn't give is missing from it.
    Warnings,
    /// It left no snapshot.
    Failed,
    /// Its record can't be read.
    Unreadable,
}

impl RunStatus {
    /// Whether there is something to restore.
    pub fn has_snapshot(self) -> bool {
        matches!(self, Self::Success | Self::Warnings)
    }
}

impl Job {
    /// Whether the newest success is within the RPO; `None` without an RPO.
    pub fn is_fresh(&self) -> Option<bool> {
        let rpo_s = self.rpo_s?;
        Some(self.newest_success_age_s.is_some_and(|age_s| age_s <= rpo_s))
    }
}
