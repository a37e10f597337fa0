//! Finding one entry, and what lies directly in a folder, in as few nodes as can be.

use crate::error::Error;
use crate::read::versions::concerns_object;
use crate::read::{EntryStream, Selection, SnapshotReader};
use crate::tree::{Entry, EntryKind, Node, TreePath};

/// How many leaves before an entry's own its folder's is looked for: a frame holds about as many.
const NEAR: usize = 8;

/// Finds the entry at `path`: one node a level is read. On the way it is seen how far on in the snapshot it lies, and so
/// perhaps its data in the index.
///
/// Who restores it needs its folder's entry as well. Where that is in one of the leaves before, both are read at once: they
/// mostly lie side by side, in one frame or the next, so that it takes no request of its own.
pub(crate) async fn find(reader: &SnapshotReader, path: &TreePath) -> Result<Option<Entry>, Error> {
    let root = reader.root();
    let (mut name, mut level) = ((root.id, root.length), root.depth);
    let mut folder = None;
    let (mut entries_before, mut bytes_before) = (0u64, 0u64);
    loop {
        let read = match folder {
            // It may be damaged, and isn't what is looked for.
            Some(folder) => match reader.nodes(&[folder, name], level).await {
                Ok(nodes) => nodes,
                Err(error) if concerns_object(&error) => reader.nodes(&[name], level).await?,
                Err(error) => return Err(error),
            },
            None => reader.nodes(&[name], level).await?,
        };
        match read.into_iter().next_back() {
            Some(Node::Leaf(entries)) => {
                reader.expect(entries_before, bytes_before);
                return Ok(entries.into_iter().find(|entry| entry.path == *path));
            }
            Some(Node::Inner(children)) => {
                let after = children.partition_point(|child| child.first <= *path);
                let Some((child, passed)) = children.get(..after).and_then(<[_]>::split_last)
                else {
                    return Ok(None);
                };
                for passed in passed {
                    entries_before = entries_before.saturating_add(passed.entries);
                    bytes_before = bytes_before.saturating_add(passed.bytes);
                }
                let near = passed.len().saturating_sub(NEAR);
                let holds_folder = |folder: TreePath| {
                    let upto = children.partition_point(|child| child.first <= folder);
                    passed.get(near..upto).and_then(<[_]>::last)
                };
                let leaf = path.parent().filter(|_| level == 1).and_then(holds_folder);
                folder = leaf.map(|leaf| (leaf.id, leaf.length));
                name = (child.id, child.length);
                // `nodes` lets an inner node stand only above level 0.
                level = level.saturating_sub(1);
            }
            None => return Ok(None),
        }
    }
}

/// What lies directly in a folder, in order.
#[derive(Debug)]
pub struct Listing {
    entries: EntryStream,
    folder: Option<TreePath>,
}

/// One thing in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An entry.
    Entry(Box<Entry>),
    /// A folder that has no entry of its own, but others below it: it leads to what was backed up.
    Above(TreePath),
}

impl Listed {
    /// Its path.
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Entry(entry) => &entry.path,
            Self::Above(path) => path,
        }
    }
}

impl Listing {
    pub(crate) fn new(reader: SnapshotReader, folder: Option<&TreePath>) -> Self {
        let entries = EntryStream::new(reader, Selection::of(folder.cloned())).frugal();
        Self { entries, folder: folder.cloned() }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// As [`EntryStream::next`].
    pub async fn next(&mut self) -> Option<Result<Listed, Error>> {
        loop {
            let entry = match self.entries.next().await? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let Some(child) = self.child_of(&entry.path) else { continue };
            if child == entry.path {
                if entry.kind == EntryKind::Directory {
                    self.entries.skip_within(child);
                }
                return Some(Ok(Listed::Entry(Box::new(entry))));
            }
            self.entries.skip_within(child.clone());
            return Some(Ok(Listed::Above(child)));
        }
    }

    /// The path directly in the folder that `path` is or lies below; `None` if it isn't inside.
    fn child_of(&self, path: &TreePath) -> Option<TreePath> {
        let bytes = path.as_bytes();
        let start = match &self.folder {
            None => 0,
            Some(folder) if path != folder && path.is_within(folder) => folder.as_bytes().len() + 1,
            Some(_) => return None,
        };
        let length = bytes[start..].iter().position(|&b| b == b'/');
        let end = length.map_or(bytes.len(), |n| start + n);
        TreePath::new(&bytes[..end]).ok()
    }
}
