//! What could not be restored as it was: counted by kind, the first ones kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use keephold_vault::tree::TreePath;

/// How many problems are kept in full; the rest is only counted.
const KEPT_MAX: usize = 1000;

/// What could not be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unset {
    /// The owner or group.
    Owner,
    /// The permissions.
    Mode,
    /// Set-id bits, left out since the owner could not be set: they would lend someone else's rights.
    SetId,
    /// An extended attribute, ACL or capability.
    Xattr,
    /// The time of the last change.
    Time,
    /// A device, which takes the right to make it.
    Device,
    /// A socket's name: only the program that it belongs to can make it.
    Socket,
}

/// Something that could not be restored as it was; the rest of the entry was.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {}: {error}", self.what.text())]
pub struct RestoreProblem {
    /// The entry.
    pub path: TreePath,
    /// What could not be set.
    pub what: Unset,
    /// What the system said.
    pub error: io::Error,
}

impl Unset {
    fn text(self) -> &'static str {
        match self {
            Self::Owner => "its owner could not be set (run as root, or leave owners out)",
            Self::Mode => "its permissions could not be set",
            Self::SetId => "its set-id bits were left out, since its owner could not be set",
            Self::Xattr => "an extended attribute could not be set (does the file system take it?)",
            Self::Time => "its time could not be set",
            Self::Device => "the device could not be made (run as root, outside a container)",
            Self::Socket => "a socket isn't restored; the program that it belongs to makes it anew",
        }
    }
}

/// All problems of a restore.
#[derive(Debug, Default)]
pub struct Problems {
    /// How many of each kind.
    pub counts: BTreeMap<Unset, u64>,
    /// The first thousand in full.
    pub first: Vec<RestoreProblem>,
}

impl Problems {
    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Collector(Mutex<Problems>);

impl Collector {
    pub(super) fn add(&self, path: &TreePath, what: Unset, error: impl Into<io::Error>) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *problems.counts.entry(what).or_default() += 1;
        if problems.first.len() < KEPT_MAX {
            problems.first.push(RestoreProblem { path: path.clone(), what, error: error.into() });
        }
    }

    pub(super) fn take(&self) -> Problems {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
