//! Who made the report, about what, and under which policy.

use jiff::Timestamp;
use keephold_vault::store;
use serde::{Deserialize, Serialize};

/// The program that made the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Name of the program.
    pub name: String,
    /// Its version.
    pub version: String,
    /// BLAKE3 of the binary that ran, in hex, so that it can be held against a published release.
    pub binary_blake3: Option<String>,
    /// The host that it ran on, which must not be one of those backed up.
    pub hostname: String,
    /// The system user that it ran as.
    pub user: String,
    /// What started it: a timer, a person, a pipeline.
    pub invoked_by: Option<String>,
}

/// The verifier's clock, held against the target's. Ages and locks are only as true as this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Seconds by which the verifier is ahead of the target (negative: behind); `null` if it couldn't be measured.
    pub offset_s: Option<f64>,
    /// Seconds of difference beyond which it is a finding.
    pub tolerance_s: f64,
    /// Whose clock it was compared with.
    pub compared_with: Option<String>,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// The storage that holds the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it is, without any credential.
    pub url: String,
    /// The vault's id, from its `vault.json`.
    pub vault_id: String,
    /// BLAKE3 of `vault.json` as it was read.
    pub fingerprint: String,
    /// Whether the verifier's configuration pins that fingerprint, and it was the same.
    pub fingerprint_pinned: bool,
    /// The region or site of the storage.
    pub region: Option<String>,
    /// The account or owner of the storage.
    pub account: Option<String>,
    /// The strongest promise that the target was seen to keep.
    pub strength: Strength,
    /// Whether versioning is on.
    pub versioning: Option<bool>,
    /// Whether object locks are on for the bucket.
    pub object_lock: Option<bool>,
    /// The bucket's own default retention, if it has one.
    pub default_retention: Option<DefaultRetention>,
    /// The bucket's settings as they were found; empty for targets that have none.
    #[serde(default)]
    pub settings: Vec<BucketSetting>,
    /// What else is to be known about the target's protection, in plain words.
    pub notes: Vec<String>,
}

/// One setting of a bucket, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSetting {
    /// Its name: `versioning`, `object_lock`, `lifecycle`, `policy`, `public_access_block`, `acl`; on Google
    /// `retention_policy` and `soft_delete` too.
    pub name: String,
    /// Whether it is set, and could be read.
    pub result: SettingResult,
    /// What it is set to, or the server's words why it can't be read; cut where it is very long.
    pub value: Option<String>,
    /// BLAKE3 of the whole of what it is set to.
    pub blake3: Option<String>,
}

/// Whether a setting is set, and could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingResult {
    /// It is set.
    Set,
    /// There is none.
    NotSet,
    /// It can't be read with this credential, or this server doesn't know it.
    NotReadable,
}

/// What keeps a stored object from being changed or deleted before its time, from nothing to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Nothing.
    None,
    /// File permissions only: a custom that the owner can break.
    Advisory,
    /// The immutable attribute of a file: it holds against everyone but the root of that machine.
    ImmutableFile,
    /// Object Lock in governance mode: whoever has the bypass permission can lift it.
    Governance,
    /// Object Lock in compliance mode: nobody can lift it before its time, the account's owner neither.
    Compliance,
}

impl From<store::Strength> for Strength {
    fn from(strength: store::Strength) -> Self {
        match strength {
            store::Strength::None => Self::None,
            store::Strength::Advisory => Self::Advisory,
            store::Strength::ImmutableFile => Self::ImmutableFile,
            store::Strength::Governance => Self::Governance,
            store::Strength::Compliance => Self::Compliance,
        }
    }
}

/// What a lock of such a mode is worth.
impl From<store::LockMode> for Strength {
    fn from(mode: store::LockMode) -> Self {
        match mode {
            store::LockMode::Advisory => Self::Advisory,
            store::LockMode::ImmutableFile => Self::ImmutableFile,
            store::LockMode::Governance => Self::Governance,
            store::LockMode::Compliance => Self::Compliance,
        }
    }
}

/// Object Lock's two modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Can be lifted by whoever has the bypass permission.
    Governance,
    /// Can be lifted by nobody.
    Compliance,
}

/// The retention that a bucket gives to objects that arrive without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRetention {
    /// Its mode.
    pub mode: LockMode,
    /// Its length in days.
    pub days: u32,
}

/// The backup policy as the verifier found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy's name, as its owner calls it.
    pub id: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The person or role who answers for it.
    pub owner: Option<String>,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// When it was approved, as a date.
    pub approved_on: Option<String>,
    /// BLAKE3 of the verifier's configuration file as read: what was expected, and therefore checked.
    pub config_blake3: String,
    /// Whether that hash differs from the one in the previous report; `null` for a first report.
    pub changed_since_previous: Option<bool>,
    /// The lock mode that the policy asks for.
    pub required_mode: Option<LockMode>,
    /// The retention classes in force, in plain words.
    pub retention: Vec<String>,
}

/// The report before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousReport {
    /// Its id.
    pub report_id: String,
    /// When it was finished.
    pub finished: Timestamp,
    /// BLAKE3 of its `report.json`.
    pub blake3: String,
}

/// The key that signs the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The identity to look for in `allowed_signers`.
    pub principal: String,
    /// SSH fingerprint of the public key, `SHA256:…`.
    pub fingerprint: String,
    /// The public key in OpenSSH form. It is here for comparison only: trust the copy you were given.
    pub public_key: String,
    /// The signature's namespace, always `keephold-report`.
    pub namespace: String,
}
