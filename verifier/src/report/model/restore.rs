//! Test restores: the evidence that a backup is one.

use super::{Bounded, JobKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One restore, done for real.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreTest {
    /// The host whose backup it was.
    pub host: String,
    /// The job.
    pub job: String,
    /// What was restored.
    pub kind: JobKind,
    /// Sequence number of the run whose snapshot it was.
    pub seq: u64,
    /// When that snapshot was taken.
    pub snapshot_time: Timestamp,
    /// Why this snapshot was chosen: the newest, or a reproducible random choice.
    pub chosen: String,
    /// Who did it: a service or a person.
    pub performed_by: String,
    /// When the restore began.
    pub started: Timestamp,
    /// How long each part took.
    pub durations: Durations,
    /// The RTO in seconds that it is held against; `null` if none is configured.
    pub rto_target_s: Option<u64>,
    /// Whether the total time was within it; `null` without a target, or if the restore didn't end.
    pub rto_met: Option<bool>,
    /// How deep the test went.
    pub tier: Option<Tier>,
    /// What came of it.
    pub result: RestoreResult,
    /// Why it failed, in plain words.
    pub failure: Option<String>,
    /// What was expected and what was found, check by check.
    pub checks: Vec<Check>,
    /// Each table that was compared.
    pub tables: Bounded<TableResult>,
    /// Entries of a tree that were compared.
    pub entries_compared: Option<u64>,
    /// Bytes that were restored.
    pub bytes_restored: Option<u64>,
    /// Everything that was not as recorded.
    pub differences: Bounded<String>,
    /// Where it was restored.
    pub environment: Environment,
    /// Whether what was restored is gone again.
    pub cleanup: Cleanup,
}

/// How long the parts of a restore took, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// Fetching, decrypting and decompressing.
    pub download_s: f64,
    /// Writing the files, or loading the database.
    pub restore_s: f64,
    /// Comparing.
    pub checks_s: f64,
    /// Removing it all again. Not part of the total, since nobody waits for it on the day.
    pub teardown_s: f64,
    /// What counts against the RTO: download, restore and checks.
    pub total_s: f64,
}

/// How deep a restore test went. Each tier holds those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// All data was downloaded, decrypted and its ids recomputed.
    Decrypted,
    /// The archive or tree was read to its end.
    Parsed,
    /// It was restored without an error.
    Restored,
    /// Counts and hashes are those that were recorded at the source.
    Compared,
    /// Indexes were checked and the user's own queries gave what they should, as the application's role.
    Exercised,
}

/// What came of a restore test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreResult {
    /// Restored, and everything compared was the same.
    Passed,
    /// Restored, and something is different.
    Different,
    /// It couldn't be restored.
    Failed,
    /// The test itself couldn't be done: nothing is known about the backup.
    CouldNotCheck,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// What it should have been.
    pub expected: String,
    /// What it was.
    pub found: String,
    /// Whether that is right.
    pub ok: bool,
}

/// One table, at the source and restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableResult {
    /// The database.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Rows that passed through the agent as it dumped.
    pub rows_expected: u64,
    /// Rows in the restored table; `null` if it isn't there.
    pub rows_found: Option<u64>,
    /// Whether the row-set hash is the same; `null` if it wasn't compared.
    pub hash_ok: Option<bool>,
}

impl TableResult {
    /// Whether nothing says that this table is different.
    pub fn ok(&self) -> bool {
        self.rows_found == Some(self.rows_expected) && self.hash_ok != Some(false)
    }
}

/// Where a test restore was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Where: a throw-away server, a given server, a scratch folder.
    pub place: String,
    /// The version of the server that it was restored into.
    pub server_version: Option<String>,
    /// The version of the server that was backed up.
    pub source_version: Option<String>,
    /// The role that the validation queries ran as.
    pub role: Option<String>,
}

/// What became of the restored copy. It holds real data, so leaving it about is a leak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleanup {
    /// Whether everything was removed.
    pub done: bool,
    /// What was removed, or what is left.
    pub detail: Option<String>,
}
