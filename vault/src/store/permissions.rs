//! What a credential may do with a target: asked of the target itself, without changing anything in it.

use serde::Serialize;

/// Something that a credential may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// List keys (`s3:ListBucket`).
    List,
    /// List versions and delete markers (`s3:ListBucketVersions`).
    ListVersions,
    /// Read `vault.json`.
    ReadConfig,
    /// Read index segments.
    ReadIndex,
    /// Read run records.
    ReadRuns,
    /// See how a version is locked (`s3:GetObjectRetention`).
    ReadLocks,
    /// Store objects, with a lock of a minute.
    Write,
    /// Store objects with the longest lock that a run needs.
    WriteLongest,
    /// Lengthen locks (`s3:PutObjectRetention`).
    Extend,
    /// Read packs: sealed data.
    ReadPacks,
    /// Write where only other roles should: `reports/`.
    WriteElsewhere,
    /// Set locks that last for decades.
    LockForDecades,
    /// Delete versions (`s3:DeleteObjectVersion`).
    DeleteVersions,
    /// Hide objects behind delete markers (`s3:DeleteObject`).
    Hide,
    /// Shorten or remove governance locks (`s3:BypassGovernanceRetention`).
    Bypass,
    /// Set legal holds, which last until someone removes them (`s3:PutObjectLegalHold`).
    LegalHold,
    /// Replace the bucket's policy.
    ChangePolicy,
    /// Change the bucket's versioning.
    ChangeVersioning,
    /// Change the bucket's default retention.
    ChangeObjectLock,
    /// Change the bucket's lifecycle rules, which delete objects.
    ChangeLifecycle,
}

/// What the target's answer says about a right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The credential has it.
    Allowed,
    /// It was refused.
    Refused,
    /// The answer doesn't tell; the reason.
    Unclear(String),
}

/// What was found out of one credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// Each right that was tried.
    pub found: Vec<(Right, Verdict)>,
    /// Key below the vault of a delete marker that trying [`Right::Hide`] left, and that this credential could not take
    /// away again. It hides nothing: no object ever had that key.
    pub marker_left: Option<String>,
    /// What the server calls itself (`AmazonS3`, `MinIO`), if it does.
    pub server: Option<String>,
}

impl Permissions {
    /// The verdict on one right; `None` if it wasn't tried.
    pub fn of(&self, right: Right) -> Option<&Verdict> {
        self.found.iter().find(|(r, _)| *r == right).map(|(_, verdict)| verdict)
    }
}
