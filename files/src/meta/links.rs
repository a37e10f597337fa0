//! Hard links: which entries are further names of a file that was met before.

use std::collections::HashMap;

use keephold_vault::tree::TreePath;

use crate::Kind;
use crate::walk::Walked;

/// Remembers the first name of each file with several names, by device and inode.
///
/// A file is forgotten once as many names were met as it has, so memory holds only files whose other names are still to
/// come or lie outside the roots: some 100 bytes and the path for each of those.
#[derive(Debug, Default)]
pub struct LinkTracker {
    open: HashMap<(u64, u64), (TreePath, u64)>,
}

impl LinkTracker {
    /// An empty tracker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of an entry; gives the path of its first name if this is a further one.
    ///
    /// Entries must come in the order of the walk, so that the first name comes first in a restore as well.
    pub fn see(&mut self, walked: &Walked) -> Option<TreePath> {
        if walked.stat.nlink < 2 || walked.kind == Kind::Directory {
            return None;
        }
        let key = (walked.stat.device, walked.stat.inode);
        let Some((first, left)) = self.open.get_mut(&key) else {
            self.open.insert(key, (walked.path.clone(), walked.stat.nlink - 1));
            return None;
        };
        *left -= 1;
        if *left > 0 {
            return Some(first.clone());
        }
        self.open.remove(&key).map(|(first, _)| first)
    }

    /// How many files it remembers.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
