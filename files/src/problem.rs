//! What went wrong with an entry of the tree that is backed up: never fatal to the run, never silent.

use std::io;

use keephold_vault::tree::TreePath;

/// What kind of problem it is, for counting and for deciding how grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// A root that isn't there.
    RootMissing,
    /// A root in which nothing is left to back up: an unmounted disk looks like that.
    RootEmpty,
    /// A root that is a symbolic link: the link is backed up, not what it leads to.
    RootIsLink,
    /// A root that is reached through a symbolic link: backed up under its true path, and the link beside it.
    RootThroughLink,
    /// `/proc`, `/sys` and `/dev` aren't descended into when `/` is backed up.
    PseudoSkipped,
    /// No permission.
    Denied,
    /// It was there when its folder was listed, and is gone.
    Vanished,
    /// Its path is longer than a snapshot holds.
    TooDeep,
    /// Extended attributes that could not be read.
    Xattrs,
    /// The system failed to read it.
    Io,
}

impl ProblemKind {
    /// Whether it is for the reader's information only: nothing that was asked for is missing from the backup.
    pub fn is_note(self) -> bool {
        matches!(self, Self::RootThroughLink | Self::PseudoSkipped)
    }

    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::NotFound => Self::Vanished,
            io::ErrorKind::InvalidFilename => Self::TooDeep,
            _ => Self::Io,
        }
    }
}

/// Something that could not be backed up as it should, or that a person ought to know.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", shown(self.path.as_ref()), self.error)]
pub struct Problem {
    /// Where; `None` for the base itself (`/`).
    pub path: Option<TreePath>,
    /// What kind.
    pub kind: ProblemKind,
    /// What the system said, or what to do about it.
    pub error: io::Error,
}

impl Problem {
    pub(crate) fn new(path: Option<TreePath>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { path, kind: ProblemKind::of(&error), error }
    }

    pub(crate) fn said(path: Option<TreePath>, kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { path, kind, error: io::Error::other(text.into()) }
    }
}

fn shown(path: Option<&TreePath>) -> String {
    path.map_or_else(|| "/".to_owned(), |path| format!("/{path}"))
}
