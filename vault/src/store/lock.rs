//! Locks: what holds a version, how strongly, and what a target promises.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a version is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// S3 Object Lock, compliance (on Azure and Google: locked): nobody can shorten or remove it, the account's owner
    /// included.
    Compliance,
    /// S3 Object Lock, governance (on Azure and Google: unlocked): a credential with a special right can remove it.
    Governance,
    /// The file system's immutable attribute: only root on that machine can remove it.
    ImmutableFile,
    /// Only Keephold itself keeps to it.
    Advisory,
}

/// A lock on one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// How it is held.
    pub mode: LockMode,
    /// When it ends (exclusive), UTC.
    pub until: Timestamp,
}

/// What the operator asked for: the mode that each write carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockPolicy {
    /// Compliance locks on S3; the immutable attribute on a local folder where permitted.
    #[default]
    Compliance,
    /// Governance locks on S3; as `compliance` on a local folder.
    Governance,
    /// No locks. Every report shows it in red.
    None,
}

/// How far a target's protection reaches: what may be said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Nothing is locked.
    None,
    /// Retention is kept by Keephold alone; never called immutable.
    Advisory,
    /// Held by the operating system's immutable attribute; root on that machine can undo it.
    ImmutableFile,
    /// Held by the server; a special right can undo it.
    Governance,
    /// Held by the server against everyone.
    Compliance,
}

/// What a target promises, read from the target itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// The strength of the locks that writes now get.
    pub strength: Strength,
    /// The mode that writes ask for: what they have where the target keeps its word. `None` where none is to be had.
    pub asked: Option<LockMode>,
    /// Whether the target keeps versions, if it told.
    pub versioning: Option<bool>,
    /// Whether Object Lock is enabled on the bucket, if it told.
    pub object_lock: Option<bool>,
    /// The bucket's default retention as it told it (`COMPLIANCE 30 days`), if it has one.
    pub default_retention: Option<String>,
    /// Plain sentences for the report: what was asked and couldn't be learnt, and why the strength is what it is.
    pub notes: Vec<String>,
}
