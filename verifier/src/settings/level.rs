//! How deep to verify: each depth holds those before it.

use clap::ValueEnum;
use serde::Deserialize;

use crate::report::model::Level;

/// How deep to verify.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Each job's records: signed, chained, young enough.
    Freshness,
    /// and each object that they need is there.
    Presence,
    /// and is locked for as long as it is needed.
    Lock,
    /// and, downloaded again, has the hash that is its name; takes no key.
    Integrity,
    /// and each pack opens, and each piece of data in it is the one that was stored.
    Deep,
    /// and what the newest snapshots hold is plausible: not empty, not cut, not shrunk.
    Content,
    /// and the newest snapshot of each job can be restored, and is then what it was.
    #[default]
    Restore,
}

impl Depth {
    /// Whether a level of the report is part of it.
    pub fn holds(self, level: Level) -> bool {
        let least = match level {
            Level::Freshness => Self::Freshness,
            Level::Presence => Self::Presence,
            Level::Lock => Self::Lock,
            Level::IntegrityKeyless => Self::Integrity,
            Level::IntegrityDeep => Self::Deep,
            Level::Content => Self::Content,
            Level::TestRestore => Self::Restore,
            // Nothing takes an inventory of the hosts yet.
            Level::Coverage => return false,
        };
        self >= least
    }
}
