//! How far the verification went, what it found, and the verdict.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The levels of verification, each deeper than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Each job has run within its RPO, and its signed records are whole.
    Freshness,
    /// Each needed object is listed, of its recorded size, and not hidden.
    Presence,
    /// Each needed object is locked until its runs expire.
    Lock,
    /// Each object was downloaded and its hash compared with its name. Needs no key.
    IntegrityKeyless,
    /// Each pack was opened and each blob's keyed id recomputed.
    IntegrityDeep,
    /// What the snapshots hold is plausible: not empty, not cut, not shrunk.
    Content,
    /// A restore was done for real and compared.
    TestRestore,
    /// What exists on the hosts is in some job.
    Coverage,
}

impl Level {
    /// All levels, in order.
    pub const ALL: [Self; 8] = [
        Self::Freshness,
        Self::Presence,
        Self::Lock,
        Self::IntegrityKeyless,
        Self::IntegrityDeep,
        Self::Content,
        Self::TestRestore,
        Self::Coverage,
    ];
}

/// What came of one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelResult {
    /// Which level.
    pub level: Level,
    /// What came of it.
    pub state: LevelState,
    /// What was checked, counted.
    pub checked: Vec<Count>,
    /// Why it was not run or could not be checked, or what its result rests on.
    pub reason: Option<String>,
}

/// What can come of a level. Only `passed` is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelState {
    /// All that was to be checked was checked, and was right.
    Passed,
    /// It was checked, and there are findings.
    Findings,
    /// It was not asked for in this run.
    NotRun,
    /// It was to be checked and couldn't be: nothing is known.
    CouldNotCheck,
}

/// A number of things that were checked, out of those that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What was counted, in the plural: `objects`, `runs`.
    pub what: String,
    /// How many were checked.
    pub checked: u64,
    /// How many there are, where the check was only of some.
    pub of: Option<u64>,
}

impl Count {
    /// All of them were checked.
    pub fn all(what: &str, checked: u64) -> Self {
        Self { what: what.to_owned(), checked, of: None }
    }

    /// Only some were checked.
    pub fn some(what: &str, checked: u64, of: u64) -> Self {
        Self { what: what.to_owned(), checked, of: Some(of) }
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Data is lost, can't be restored, or someone has tampered.
    Critical,
    /// A promise of the policy is broken, and data may be lost if nobody acts.
    High,
    /// Worth a look soon; nothing is lost.
    Warning,
    /// For the record.
    Info,
}

impl Severity {
    /// All severities, worst first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Warning, Self::Info];
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its stable code, explained in `docs/FINDINGS.md`.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// The level that found it.
    pub level: Level,
    /// What it is about: an object's key, a run, a job, the target.
    pub resource: String,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// The numbers behind it.
    pub detail: Option<String>,
    /// What to do about it.
    pub remedy: String,
    /// When an earlier report first had it; `null` if it is new, or not known.
    pub first_seen: Option<Timestamp>,
}

/// The verdict, in a form for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The exit status of the verifier: 0 nothing was found, 3 there are findings, 1 something could not be checked.
    pub exit_code: u8,
    /// The verdict in one sentence.
    pub headline: String,
    /// Number of critical findings.
    pub critical: u64,
    /// Number of high findings.
    pub high: u64,
    /// Number of warnings.
    pub warning: u64,
    /// Number of findings that are only for the record.
    pub info: u64,
}

/// The overall verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All levels that were asked for passed.
    Ok,
    /// Nothing is known to be lost, and something needs a look, or could not be checked.
    Warnings,
    /// There is at least one high or critical finding.
    Failed,
}
