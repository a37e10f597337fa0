//! Locks that were tried, encryption, copies elsewhere, and what isn't backed up at all.

use super::{Bounded, Strength};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An attempt to break a lock, with a credential that has the permission to. It must be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockProbe {
    /// When it was tried.
    pub tried: Timestamp,
    /// What was tried: delete a version, shorten a lock, bypass it.
    pub action: String,
    /// As whom. A refusal to one who may not delete proves only the policy.
    pub credential: String,
    /// What should have happened.
    pub expected: String,
    /// What did happen.
    pub actual: String,
    /// Whether that is right.
    pub ok: bool,
    /// What it shows.
    pub result: ProbeResult,
}

/// What an attempt shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeResult {
    /// The lock held, against a credential that may do this to what isn't locked.
    Held,
    /// The lock did not hold.
    Broken,
    /// It was refused, and the lock may not be why.
    NotProven,
    /// No attack: it shows that the credential may do this where no lock forbids it.
    Control,
}

/// How the data is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// The algorithm of the stored data; `null` if none was seen.
    pub algorithm: Option<String>,
    /// How the data keys are sealed to their readers.
    pub key_sealing: Option<String>,
    /// Whether the host that writes holds a key that reads; `null` if not known.
    pub writer_can_read: Option<bool>,
    /// How the target was reached.
    pub transport: Option<String>,
    /// Packs whose ciphertext was authenticated in this run.
    pub packs_authenticated: u64,
    /// To whom the newest run of each job was sealed.
    pub recipients: Vec<Recipient>,
}

/// One who can read the backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The public key.
    pub public_key: String,
    /// Whose it is, or what for, as configured: restore, verifier, escrow. `null`: nobody has said, so ask.
    pub label: Option<String>,
    /// The `host/job`s whose newest run is sealed to it.
    pub jobs: Vec<String>,
    /// When this key was last seen to open a backup; `null` if never, or not known.
    pub last_used: Option<Timestamp>,
}

/// A drill in which an identity that is kept offline was tried on the newest snapshot of each job. Its signed evidence
/// lies in the folder `evidence` beside the reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowDrill {
    /// When it ended.
    pub finished: Timestamp,
    /// The recipient that the identity belongs to; `null` for a hardware key.
    pub recipient: Option<String>,
    /// Jobs that were tried.
    pub jobs: u64,
    /// Those whose newest snapshot it opened.
    pub jobs_opened: u64,
    /// BLAKE3 of the evidence.
    pub blake3: String,
}

/// A copy of the vault at another place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OffsiteCopy {
    /// What the configuration calls it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its region or site.
    pub region: Option<String>,
    /// Needed objects that are there, of the right size; `null` if it wasn't looked at.
    pub objects_present: Option<u64>,
    /// Needed objects in all.
    pub objects_needed: Option<u64>,
    /// Objects whose bytes were read in this run.
    pub objects_read: Option<u64>,
    /// Those found damaged: other bytes than their name says, or another size.
    pub objects_damaged: Option<u64>,
    /// The weakest lock among needed objects there.
    pub strength: Option<Strength>,
    /// Unexpired snapshots that are whole there.
    pub snapshots_complete: Option<u64>,
    /// The newest run whose objects are all there.
    pub newest_complete: Option<Timestamp>,
    /// Until when all snapshots that are whole there are locked; `null` if one isn't.
    pub locked_until: Option<Timestamp>,
    /// Each unexpired snapshot, newest first, and whether this copy has it.
    pub snapshots: Bounded<CopySnapshot>,
}

/// A snapshot, as a copy has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySnapshot {
    /// The record of its run.
    pub record_key: String,
    /// Whether all objects that it needs are in the copy, of the right size.
    pub complete: bool,
    /// The earliest end of a lock among them in the copy; `null` if one has none, or it isn't complete.
    pub locked_until: Option<Timestamp>,
}

/// What exists, against what is backed up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Databases and paths that were found on the hosts; `null` if no inventory was taken.
    pub resources_found: Option<u64>,
    /// Those that are in some job.
    pub resources_protected: Option<u64>,
    /// Those that are not.
    pub unprotected: Vec<Unprotected>,
}

/// Something that is not backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unprotected {
    /// The host that it is on.
    pub host: String,
    /// The database or path.
    pub resource: String,
    /// Why it was left out; `null` if nobody has said.
    pub reason: Option<String>,
    /// Who decided that.
    pub approved_by: Option<String>,
}
