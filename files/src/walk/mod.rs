//! The walk: every entry below the roots, in the order of a snapshot, read ahead by several threads.
//!
//! ```text
//! roots ─▶ plan ─▶ engine: which folder next, and in which order they come out
//!                    └─▶ scan: one folder's names, filtered, stat'ed, sorted
//!                          └─▶ descend: what is to be read below each
//! ```
//! A folder is opened by its whole path below the base, with symbolic links refused, and closed once it is read, so
//! that the number of open descriptors is that of the threads, however deep or wide the tree. Memory holds the folders
//! being read and a bounded window of entries read ahead.

mod descend;
mod engine;
mod filter;
mod roots;
mod scan;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use keephold_vault::tree::TreePath;

pub use engine::Walk;
pub use filter::Excluded;

use crate::{Kind, Problem, Stat};

/// How to walk, and what to leave out.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many threads read ahead; 0 for one for each core, up to eight.
    pub threads: usize,
    /// About how many entries are read ahead of the one that was last given out.
    pub window: usize,
    /// Patterns of what to leave out, as a `.gitignore` in each root would hold them. A pattern that spells out an
    /// absolute path within the root means that path. A root itself, and a root within a root, is never left out.
    pub exclude: Vec<String>,
    /// Files of such patterns, one a line, `#` before a comment.
    pub exclude_files: Vec<PathBuf>,
    /// Of a folder that is tagged as a cache (`CACHEDIR.TAG` with the right signature), keep only the folder and tag.
    pub exclude_caches: bool,
    /// Of a folder that holds an entry of one of these names, keep only the folder and that entry.
    pub exclude_if_present: Vec<OsString>,
    /// Don't descend into folders on another file system than their root's; the folder itself is kept, so that a
    /// restore makes the mount point again.
    pub one_file_system: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 0,
            window: 32 * 1024,
            exclude: Vec::new(),
            exclude_files: Vec::new(),
            exclude_caches: false,
            exclude_if_present: Vec::new(),
            one_file_system: false,
        }
    }
}

/// One entry that the walk came upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Its path below the base.
    pub path: TreePath,
    /// What it is.
    pub kind: Kind,
    /// What `stat` said of it.
    pub stat: Stat,
}

/// What a walk gives out, in the order of paths.
#[derive(Debug)]
pub enum Step {
    /// An entry.
    Entry(Walked),
    /// Something that could not be walked, or that a person ought to know. One about a folder follows its entry.
    Problem(Box<Problem>),
}

/// Why a walk can't begin: the configuration is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// No root was given.
    #[error("no directory to back up is given: name at least one absolute path")]
    NoRoot,
    /// A root that is no clean absolute path.
    #[error("'{}' can't be backed up as a root: give an absolute path without '..'", root.display())]
    BadRoot {
        /// The root.
        root: PathBuf,
    },
    /// A pattern that can't be understood.
    #[error(
        "the exclude pattern '{pattern}' can't be understood: {error}; patterns are written as in a .gitignore"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        error: String,
    },
    /// A file of patterns that can't be read.
    #[error("the file of exclude patterns '{}' can't be read: {error}", file.display())]
    PatternFile {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
}
