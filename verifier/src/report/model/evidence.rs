//! Where evidence is kept under lock.

use super::Strength;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The evidence target: reports, proofs and drills lie there under lock, as well as in the verifier's own folder. This
/// report is put there once it is written, so what is said here is of those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceStore {
    /// Where it is.
    pub url: String,
    /// For how many days what is stored there is locked.
    pub keep_days: u64,
    /// Files in the verifier's folder, each of which lies there; `null` if they could not all be stored.
    pub files: Option<u64>,
    /// Those of them that this run put there, because an earlier one could not; `null` as before.
    pub stored_now: Option<u64>,
    /// Files there that were hidden or overwritten, or are not as they are in the verifier's folder; `null` as before.
    pub altered: Option<u64>,
    /// How strongly the newest file there is held, as its own lock shows; `null` if nothing was there, or it can't be read.
    pub strength: Option<Strength>,
    /// When that lock ends.
    pub locked_until: Option<Timestamp>,
    /// What was met besides.
    pub notes: Vec<String>,
}
