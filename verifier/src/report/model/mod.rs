//! The document: what `report.json` holds, field by field.
//!
//! Two rules keep it fit for evidence. Every field is always written, `null` where the verifier doesn't know, so that
//! "unknown" is a statement and never an omission. And fields are only ever added: `schema` names the major version, and
//! a reader ignores what it doesn't know. `docs/report.schema.json` describes the same fields for other languages.

mod evidence;
mod identity;
mod job;
mod level;
mod lock_proof;
mod proof;
mod restore;
mod stored;

pub use evidence::EvidenceStore;
pub use identity::{
    BucketSetting, Clock, DefaultRetention, LockMode, Period, Policy, PreviousReport,
    SettingResult, Signer, Strength, Target, Tool,
};
pub use job::{Gap, Job, JobKind, LockCoverage, Run, RunStatus};
pub use level::{Count, Finding, Level, LevelResult, LevelState, Outcome, Severity, Verdict};
pub use lock_proof::{LockProof, NamedProof, PROOF_SCHEMA, ProofVerdict};
pub use proof::{
    CopySnapshot, Coverage, Encryption, EscrowDrill, LockProbe, OffsiteCopy, ProbeResult,
    Recipient, Unprotected,
};
pub use restore::{
    Check, Cleanup, Durations, Environment, RestoreResult, RestoreTest, TableResult, Tier,
};
pub use stored::{Integrity, Left, Objects, Sampling, Unneeded};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The value of [`Report::schema`] for documents of this form.
pub const SCHEMA: &str = "keephold.report/1";

/// One verification: what was looked at, how far, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this document, always `keephold.report/1`.
    pub schema: String,
    /// Name of this report, unique in its target: letters, digits and hyphens.
    pub report_id: String,
    /// When the verification began, by the verifier's clock.
    pub started: Timestamp,
    /// When the verification ended, by the verifier's clock.
    pub finished: Timestamp,
    /// The verdict, the exit status that goes with it, and the findings counted.
    pub result: Outcome,
    /// Which program made the report, where, and as whom.
    pub tool: Tool,
    /// How the verifier's clock compared with the target's.
    pub clock: Clock,
    /// The stretch of time whose runs were looked at.
    pub period: Period,
    /// The storage that was verified, and what it promises.
    pub target: Target,
    /// The policy that the vault was held against.
    pub policy: Policy,
    /// One entry for each level of verification, in order, those that were not run too.
    pub levels: Vec<LevelResult>,
    /// Everything that was found wrong or worth saying, worst first.
    pub findings: Vec<Finding>,
    /// Each job that is configured or was found in the vault, with its runs.
    pub jobs: Vec<Job>,
    /// Totals over the stored objects that unexpired runs need.
    pub objects: Objects,
    /// How much of the stored data was read back and recomputed.
    pub integrity: Integrity,
    /// Each restore that was done for real, and what was compared.
    pub restore_tests: Vec<RestoreTest>,
    /// Attempts to break a lock, which must all have been refused.
    pub lock_probes: Vec<LockProbe>,
    /// The proof that these attempts are from, the newest in the folder of reports; `null` if there is none.
    #[serde(default)]
    pub lock_proof: Option<NamedProof>,
    /// How the data is encrypted, and who can read it.
    pub encryption: Encryption,
    /// Copies of this vault elsewhere.
    pub copies: Vec<OffsiteCopy>,
    /// What exists on the hosts, against what is backed up.
    pub coverage: Coverage,
    /// The last drill with an identity that is kept offline; `null` if none was done.
    #[serde(default)]
    pub escrow_drill: Option<EscrowDrill>,
    /// Where evidence is kept under lock beside the verifier's own folder; `null` if nowhere.
    #[serde(default)]
    pub evidence_store: Option<EvidenceStore>,
    /// The report before this one, so that none can be taken out unseen; `null` for the first.
    pub previous_report: Option<PreviousReport>,
    /// The key that signs this document.
    pub signer: Signer,
}

impl Report {
    /// The folder for this report, here and in a vault: the time it finished and its id.
    pub fn folder_name(&self) -> String {
        format!("{}-{}", self.finished.strftime("%Y%m%dT%H%M%SZ"), self.report_id)
    }

    /// Whether a folder is named as those of reports are: it begins with a day.
    pub fn names_folder(name: &str) -> bool {
        name.get(..8).is_some_and(|day| day.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// A list that is cut at a limit, so that a report stays readable (and bounded) whatever the number of tables or
/// differences, and still says how many there were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bounded<T> {
    /// The first entries.
    pub shown: Vec<T>,
    /// How many more there were.
    pub more: u64,
}

impl<T> Bounded<T> {
    /// Keeps the first `limit` entries and counts the rest.
    pub fn take(entries: impl IntoIterator<Item = T>, limit: usize) -> Self {
        let mut entries = entries.into_iter();
        let shown = entries.by_ref().take(limit).collect();
        Self { shown, more: entries.map(|_| 1_u64).sum() }
    }

    /// Keeps everything that was shown, and says that there were none besides.
    pub fn none() -> Self {
        Self { shown: Vec::new(), more: 0 }
    }

    /// How many entries there were in all.
    pub fn total(&self) -> u64 {
        self.more.saturating_add(self.shown.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::Bounded;

    #[test]
    fn a_bounded_list_says_how_many_it_left_out() {
        let list = Bounded::take(0..250, 100);
        assert_eq!((list.shown.len(), list.more, list.total()), (100, 150, 250));
        assert_eq!(Bounded::take(0..3, 100).more, 0);
    }
}
