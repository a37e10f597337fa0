//! What can go wrong at a target, in words that a person can act on.

use jiff::Timestamp;

/// An error of a [`Store`](super::Store). Each names the target or key; [`hint`](StoreError::hint) says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The object (or that version of it) isn't there.
    #[error("{what} is not in {target}")]
    NotFound {
        /// The key, with its version if one was named.
        what: String,
        /// The target's URL.
        target: String,
    },
    /// The bucket or folder itself isn't there.
    #[error("{target} does not exist")]
    NoTarget {
        /// The target's URL.
        target: String,
    },
    /// A key exists with other bytes than those to be written.
    #[error("{what} exists already in {target}, with other contents")]
    Conflict {
        /// The key.
        what: String,
        /// The target's URL.
        target: String,
    },
    /// The credential was refused.
    #[error("{target} refused to {action}: {detail}")]
    Denied {
        /// The target's URL.
        target: String,
        /// What was tried, for example `write packs/ab/…`.
        action: String,
        /// The server's own words.
        detail: String,
    },
    /// No credential could be found.
    #[error("no credential for {target}: {detail}")]
    NoCredential {
        /// The target's URL.
        target: String,
        /// Where was looked, and what failed.
        detail: String,
    },
    /// The target can't be reached, or stopped answering.
    #[error("{target} can't be reached: {detail}")]
    Unreachable {
        /// The target's URL.
        target: String,
        /// The error beneath.
        detail: String,
    },
    /// A lock forbids it.
    #[error("{what} is locked until {until}")]
    Locked {
        /// The key, with its version.
        what: String,
        /// When the lock ends, if the target told it.
        until: Timestamp,
    },
    /// The target can't lock, or doesn't keep what it was asked to.
    #[error("{target} does not protect what it stores: {detail}")]
    Unprotected {
        /// The target's URL.
        target: String,
        /// What is missing.
        detail: String,
    },
    /// This host's clock and the server's differ too much to set locks by.
    #[error("this host's clock is {} {direction} the clock of {target}", rough(*offset_s))]
    ClockSkew {
        /// The target's URL.
        target: String,
        /// How far apart they are, in seconds.
        offset_s: u64,
        /// `ahead of` or `behind`.
        direction: &'static str,
    },
    /// The server's answers carry no date that can be read: nothing shows whether this host's clock is right.
    #[error(
        "the answers of {target} carry no date that can be read, so this host's clock can't be checked against it"
    )]
    NoClock {
        /// The target's URL.
        target: String,
    },
    /// No space, or a quota is used up.
    #[error("{target} is full: {detail}")]
    Full {
        /// The target's URL.
        target: String,
        /// The error beneath.
        detail: String,
    },
    /// An object is larger than it may be.
    #[error("{what} has {size} bytes, more than the {max} that are allowed")]
    TooLarge {
        /// The key.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        max: u64,
    },
    /// An object ends before the range that was asked for.
    #[error("{what} is cut short: {wanted} bytes are missing at its end or in the answer")]
    Truncated {
        /// The key.
        what: String,
        /// How many bytes were asked for.
        wanted: u64,
    },
    /// What was read or written does not have the checksum that it should have.
    #[error("{what} was altered on its way: {detail}")]
    Altered {
        /// The key.
        what: String,
        /// The difference.
        detail: String,
    },
    /// The target's URL or settings are wrong.
    #[error("{detail}")]
    Config {
        /// What is wrong, naming the setting.
        detail: String,
    },
    /// Anything else, in the target's own words.
    #[error("{target}: {action} failed: {detail}")]
    Other {
        /// The target's URL.
        target: String,
        /// What was tried.
        action: String,
        /// The error beneath.
        detail: String,
    },
}

/// A difference of clocks, for people.
fn rough(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{seconds} s"),
        7_200..172_800 => format!("{} hours", (seconds + 1_800) / 3_600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

fn is_azure(target: &str) -> bool {
    target.starts_with("az://")
}

fn is_google(target: &str) -> bool {
    target.starts_with("gs://")
}

impl StoreError {
    /// Whether trying again later could help without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What a person can do about it, where that isn't plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoTarget { .. } => {
                "make the bucket (with Object Lock) or the folder first, or correct the vault's URL"
            }
            Self::Denied { detail, .. } if detail.contains("SignatureDoesNotMatch") => {
                "the secret access key is not the one that belongs to this access key id: set the right one"
            }
            Self::Denied { detail, .. } if detail.contains("InvalidAccessKeyId") => {
                "the server doesn't know this access key id: set one of its own, or correct the endpoint"
            }
            Self::Denied { target, detail, .. }
                if is_azure(target) && detail.contains("AuthenticationFailed") =>
            {
                "the key, signature or token is not one of this account's, or has expired: set the right one"
            }
            Self::Denied { target, detail, .. }
                if is_google(target) && detail.contains("authError") =>
            {
                "the token is none of Google's, or has expired; for a service account's key, look at this host's clock too"
            }
            Self::Denied { .. } => {
                "check the credential's policy; the agent needs to put, extend, and read vault.json, index/ and runs/"
            }
            Self::NoCredential { target, .. } if is_azure(target) => {
                "set secret_file (an account key or a shared access signature), AZURE_STORAGE_SAS_TOKEN or \
                 AZURE_STORAGE_KEY, or give this machine an identity that may use the container"
            }
            Self::NoCredential { target, .. } if is_google(target) => {
                "set secret_file (a service account's key, or an access token) or GOOGLE_APPLICATION_CREDENTIALS, or give \
                 this machine a service account that may use the bucket"
            }
            Self::NoCredential { .. } => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE), or a role"
            }
            Self::Unreachable { .. } => "check the endpoint, DNS and the network; nothing was lost",
            Self::Unprotected { target, .. } if is_azure(target) => {
                "use a container made with version-level immutability, and a credential that may set policies and read \
                 them, or set lock = \"none\" and accept that nothing is immutable"
            }
            Self::Unprotected { target, .. } if is_google(target) => {
                "use a bucket made with object retention, and a credential that may set locks and read them, or set \
                 lock = \"none\" and accept that nothing is immutable"
            }
            Self::Unprotected { .. } => {
                "use a bucket made with Object Lock, or set lock = \"none\" and accept that nothing is immutable"
            }
            Self::ClockSkew { .. } => {
                "set this host's clock (systemctl restart systemd-timesyncd, or chronyc makestep)"
            }
            Self::NoClock { .. } => {
                "a lock that is set by a wrong clock ends too soon or never: let the proxy before it pass the Date header on"
            }
            Self::Full { .. } => "free some space or raise the quota; what is stored stays valid",
            _ => return None,
        })
    }
}
