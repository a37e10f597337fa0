//! The document that `prove-lock` leaves behind.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Finding, LockProbe, Signer, Tool};

/// The value of [`LockProof::schema`] for documents of this form.
pub const PROOF_SCHEMA: &str = "keephold.lock-proof/1";

/// What came of attacking the lock of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockProof {
    /// The form of this document, always `keephold.lock-proof/1`.
    pub schema: String,
    /// Name of this proof: letters, digits and hyphens.
    pub proof_id: String,
    /// When the first attempt was made, by the verifier's clock.
    pub started: Timestamp,
    /// When the last was answered.
    pub finished: Timestamp,
    /// What came of it.
    pub verdict: ProofVerdict,
    /// The exit status that goes with the verdict.
    pub exit_code: u8,
    /// The verdict in one sentence.
    pub headline: String,
    /// Which program made the proof, where, and as whom.
    pub tool: Tool,
    /// The target whose locks were tried.
    pub target: String,
    /// The canary: an object of no value, under the lock that a vault's objects get.
    pub canary: String,
    /// Its version that was attacked; `null` on targets without versions.
    pub version: Option<String>,
    /// Its lock as the target told it after it was written: `compliance until …`; `null` if it had none.
    pub lock: Option<String>,
    /// What was tried, in order: first what shows that the credential may do these things, then the attacks.
    pub attempts: Vec<LockProbe>,
    /// Old canaries whose locks had ended, which were removed.
    pub removed: u64,
    /// What was found wrong.
    pub findings: Vec<Finding>,
    /// The key that signs this document.
    pub signer: Signer,
}

impl LockProof {
    /// The folder of this proof.
    pub fn folder_name(&self) -> String {
        format!("{}{}-{}", Self::FOLDER, self.finished.strftime("%Y%m%dT%H%M%SZ"), self.proof_id)
    }

    /// How the folders of proofs begin.
    pub const FOLDER: &'static str = "lock-proof-";
}

/// What came of attacking a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofVerdict {
    /// Each attack was refused to a credential that was seen to have the right to do the same to what isn't locked.
    Held,
    /// At least one attack was accepted.
    Broken,
    /// Nothing was broken, but a refusal may come from the credential's policy alone.
    NotProven,
    /// Nothing but Keephold itself keeps objects on this target.
    Advisory,
}

/// A proof, as a report names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedProof {
    /// Its name.
    pub proof_id: String,
    /// When it was made.
    pub finished: Timestamp,
    /// BLAKE3 of `lock-proof.json`.
    pub blake3: String,
    /// What came of it.
    pub verdict: ProofVerdict,
    /// The verdict in one sentence.
    pub headline: String,
}
