//! What can be wrong with stored or given bytes. Errors of the target itself are [`StoreError`].

use crate::store::StoreError;

/// An error of the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored bytes are not what they should be.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The object, frame or blob.
        what: String,
        /// What was found.
        why: String,
    },
    /// A blob that a snapshot needs is in no index segment of its record.
    #[error("blob {id} is needed, but none of the snapshot's index segments says where it lies")]
    BlobUnknown {
        /// The blob.
        id: crate::ids::BlobId,
    },
    /// A record has no snapshot, since its run failed.
    #[error("{what} has no snapshot: its run failed")]
    NoSnapshot {
        /// The record.
        what: String,
    },
    /// A snapshot holds nothing under a path.
    #[error("'{path}' is not in the snapshot")]
    NotInSnapshot {
        /// The path.
        path: crate::tree::TreePath,
    },
    /// None of the given identities opens an object.
    #[error("{what} was not sealed to this identity{detail}")]
    WrongIdentity {
        /// The object.
        what: String,
        /// More about it, or nothing.
        detail: String,
    },
    /// An object belongs to another vault.
    #[error("{what} belongs to vault {found}, not to {expected}")]
    OtherVault {
        /// The object.
        what: String,
        /// The vault it names.
        found: String,
        /// The vault at hand.
        expected: String,
    },
    /// The format is newer than this program.
    #[error("{what} has format '{found}', which this version of Keephold does not know")]
    NewerFormat {
        /// The object.
        what: String,
        /// What it says of itself.
        found: String,
    },
    /// A signature doesn't hold.
    #[error("the signature of {what} is not to be believed: {why}")]
    Signature {
        /// The object.
        what: String,
        /// Why.
        why: String,
    },
    /// A signature fits, but its key was not to be believed when it was made.
    #[error("the signature of {what} came too early or too late: {why}")]
    SignedOutOfTime {
        /// The object.
        what: String,
        /// Which time, and which were allowed.
        why: String,
    },
    /// A key, recipient or identity that was given can't be used.
    #[error("{what} can't be used: {why}")]
    BadKey {
        /// Which key, never its content.
        what: String,
        /// Why.
        why: String,
    },
    /// Objects that a run meant to use again are no longer in the vault. Running again stores what they held.
    #[error("{objects} objects that the snapshot needs are gone from the vault")]
    Gone {
        /// How many.
        objects: u64,
    },
    /// A stage of the pipeline stopped before this one.
    #[error("the backup was stopped: {0}")]
    Stopped(String),
    /// Something on this host failed: its disk, its random source, its threads.
    #[error("{what}: {source}")]
    Local {
        /// What was being done, naming the file.
        what: String,
        /// The error beneath.
        source: std::io::Error,
    },
}

impl Error {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give what they have: texts, numbers, errors"
    )]
    /// Stored bytes of `what` are not what they should be.
    pub(crate) fn damaged(what: impl ToString, why: impl ToString) -> Self {
        Self::Damaged { what: what.to_string(), why: why.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers give texts that they made for it")]
    /// Makes an I/O error of this host say what was being done.
    pub(crate) fn local(what: impl ToString) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Local { what, source }
    }

    /// What a person can do about it, where that isn't plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Damaged { .. } | Self::BlobUnknown { .. } => Some(
                "run keephold-verify to see what else is affected; restore from another snapshot or copy meanwhile",
            ),
            Self::WrongIdentity { .. } => Some(
                "give the identity of one of the recipients that the run's record names (--identity FILE)",
            ),
            Self::NoSnapshot { .. } => Some("choose an earlier run: keephold snapshots lists them"),
            Self::NotInSnapshot { .. } => Some(
                "paths are written as keephold ls shows them, from the root of the file system",
            ),
            Self::OtherVault { .. } => Some("check the vault's URL and the pinned fingerprint"),
            Self::NewerFormat { .. } => Some("use a newer version of Keephold"),
            Self::Signature { .. } => {
                Some("add the host's public key to the allowed signers only if you trust it")
            }
            Self::SignedOutOfTime { .. } => Some(
                "if that key was revoked, someone else has it: believe nothing that it signed since then",
            ),
            _ => None,
        }
    }
}
