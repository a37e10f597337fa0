//! Finding one entry, and what lies directly in a folder, in as few nodes as can be.

use crate::error::Error;
use crate::ids::BlobId;
use crate::read::versions::concerns_object;
use crate::read::{EntryStream, Selection, SnapshotReader};
use crate::tree::{Entry, EntryKind, Node, TreePath};

/// How many leaves before an entry's own those of the folders above it are looked for: a few frames hold as many, and
/// are mostly read with one request.
const NEAR: usize = 256;

/// Finds the entry at `path`: one node a level is read. On the way it is seen how far on in the snapshot it lies, and so
/// perhaps its data in the index.
///
/// Who restores it needs the entries of the folders above it as well. Where those are in leaves not far before, all are
/// read at once: they mostly lie in one frame or the next, so that it takes no request of its own.
pub(crate) async fn find(reader: &SnapshotReader, path: &TreePath) -> Result<Option<Entry>, Error> {
    let root = reader.root();
    let (mut name, mut level) = ((root.id, root.length), root.depth);
    let mut wanted: Vec<(BlobId, u32)> = Vec::new();
    let (mut entries_before, mut bytes_before) = (0u64, 0u64);
    loop {
        wanted.push(name);
        let read = match reader.nodes(&wanted, level).await {
            // Another may be damaged, and isn't what is looked for.
            Err(error) if concerns_object(&error) && wanted.len() > 1 => {
                reader.nodes(&[name], level).await?
            }
            read => read?,
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
                let leaf_of = |folder: TreePath| {
                    let upto = children.partition_point(|child| child.first <= folder);
                    passed.get(near..upto).and_then(<[_]>::last)
                };
                let above = std::iter::successors(path.parent(), TreePath::parent);
                let leaves = above.filter(|_| level == 1).filter_map(leaf_of);
                wanted = leaves.map(|leaf| (leaf.id, leaf.length)).collect();
                wanted.dedup();
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
