//! How a sorted stream of entries becomes a tree, node by node.

use serde::Serialize;
use serde_bytes::ByteBuf;

use super::node::{Extra, INNER, LEAF, StoredPath};
use crate::encode::append;
use crate::error::Error;
use crate::ids::BlobId;
use crate::limits::{NODE_LEN_MAX, NODE_LEN_MIN, TREE_DEPTH_MAX};
use crate::tree::{Entry, EntryKind, Node, TreePath, TreeRoot};

/// A node ends, past its least length, after an entry with these bits of its path's hash zero: 1 in 64. Nodes of some
/// 10 KiB: where 1 % of the files change, here and there, half of the nodes stay, and none would at four times that.
const CUT_MASK: u8 = 0x3f;

fn shorten(before: &[u8], path: &[u8]) -> StoredPath {
    let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
    StoredPath {
        shared: u32::try_from(shared).unwrap_or(0),
        rest: ByteBuf::from(path[shared..].to_vec()),
    }
}

/// A node under construction.
struct Open {
    bytes: Vec<u8>,
    first: Option<TreePath>,
    last: Vec<u8>,
    children: usize,
    entries: u64,
    total: u64,
}

impl Open {
    fn new(tag: u8) -> Self {
        Self { bytes: vec![tag], first: None, last: Vec::new(), children: 0, entries: 0, total: 0 }
    }

    fn add(
        &mut self,
        path: &TreePath,
        body: &impl Serialize,
        entries: u64,
        total: u64,
    ) -> Result<(), Error> {
        let failed = |e| Error::damaged("a tree node", e);
        let stored = shorten(&self.last, path.as_bytes());
        append(&stored, &mut self.bytes).map_err(failed)?;
        append(body, &mut self.bytes).map_err(failed)?;
        self.first.get_or_insert_with(|| path.clone());
        self.last.clear();
        self.last.extend_from_slice(path.as_bytes());
        self.children += 1;
        self.entries += entries;
        self.total += total;
        Ok(())
    }

    fn is_done(&self, path: &TreePath) -> bool {
        self.bytes.len() >= NODE_LEN_MAX
            || (self.bytes.len() >= NODE_LEN_MIN
                && self.children > 1
                && blake3::hash(path.as_bytes()).as_bytes()[0] & CUT_MASK == 0)
    }
}

/// Builds a tree from entries in path order, in memory that depends on its height alone.
///
/// Nodes are handed to a closure as they are done, which stores them as blobs and answers their ids.
pub struct TreeBuilder {
    levels: Vec<Open>,
    last: Option<TreePath>,
}

impl std::fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeBuilder({} levels)", self.levels.len())
    }
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self { levels: vec![Open::new(LEAF)], last: None }
    }
}

impl TreeBuilder {
    /// Adds the next entry; its path must come after all that were added before.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is out of order; whatever `store` fails with.
    pub fn add<E: From<Error>>(
        &mut self,
        entry: &Entry,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err(Error::damaged(
                "a snapshot tree",
                format!("'{}' came out of order", entry.path),
            )
            .into());
        }
        let total = if let EntryKind::File(content) = &entry.kind { content.size } else { 0 };
        self.levels[0].add(&entry.path, &(&entry.kind, &entry.meta, Extra::new()), 1, total)?;
        if self.levels[0].is_done(&entry.path) {
            self.close(0, store)?;
        }
        self.last = Some(entry.path.clone());
        Ok(())
    }

    /// Stores the open node of a level and tells the level above.
    fn close<E: From<Error>>(
        &mut self,
        level: usize,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<(), E> {
        if level >= TREE_DEPTH_MAX as usize {
            return Err(Error::damaged("a snapshot tree", "it has too many levels").into());
        }
        let tag = if level == 0 { LEAF } else { INNER };
        let done = std::mem::replace(&mut self.levels[level], Open::new(tag));
        let Some(first) = done.first else { return Ok(()) };
        let id = store(&done.bytes)?;
        let length = u32::try_from(done.bytes.len())
            .map_err(|_| Error::damaged("a tree node", "it is too long"))?;
        if self.levels.len() == level + 1 {
            self.levels.push(Open::new(INNER));
        }
        self.levels[level + 1].add(
            &first,
            &(id, length, done.entries, done.total),
            done.entries,
            done.total,
        )?;
        if self.levels[level + 1].is_done(&first) {
            self.close(level + 1, store)?;
        }
        Ok(())
    }

    /// Stores what is still open; answers the top.
    ///
    /// # Errors
    /// Whatever `store` fails with.
    pub fn finish<E: From<Error>>(
        mut self,
        store: &mut impl FnMut(&[u8]) -> Result<BlobId, E>,
    ) -> Result<TreeRoot, E> {
        let mut level = 0;
        loop {
            // The top is the first node that nothing stands above or beside.
            let top = level + 1 == self.levels.len();
            let open = &self.levels[level];
            if top && (level == 0 || open.children != 1) {
                let id = store(&open.bytes)?;
                let length = u32::try_from(open.bytes.len()).unwrap_or(u32::MAX);
                let depth = u8::try_from(level).unwrap_or(u8::MAX);
                return Ok(TreeRoot {
                    id,
                    length,
                    depth,
                    entries: open.entries,
                    bytes: open.total,
                });
            }
            if top {
                // One child alone: that child is the top, and is stored already.
                let Node::Inner(children) = Node::read(&open.bytes, "a tree node")? else {
                    return Err(Error::damaged("a tree node", "it is no inner node").into());
                };
                let Some(child) = children.into_iter().next() else {
                    return Err(Error::damaged("a tree node", "it is empty").into());
                };
                let depth = u8::try_from(level - 1).unwrap_or(u8::MAX);
                return Ok(TreeRoot {
                    id: child.id,
                    length: child.length,
                    depth,
                    entries: child.entries,
                    bytes: child.bytes,
                });
            }
            self.close(level, store)?;
            level += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::content::{Content, Extent, Extents};
    use crate::keys::VaultSecret;
    use crate::tree::{FileTime, Metadata, Xattr};

    fn entry(path: TreePath, size: u64) -> Entry {
        let mut content = Content::empty();
        if size > 0 {
            content = Content {
                size,
                hash: None,
                extents: Extents::Inline(vec![Extent::Hole { length: size }]),
            };
        }
        Entry {
            path,
            kind: if size.is_multiple_of(3) {
                EntryKind::Directory
            } else {
                EntryKind::File(content)
            },
            meta: Metadata {
                mode: 0o644,
                uid: 1,
                gid: 2,
                user: b"user".to_vec(),
                group: b"group".to_vec(),
                mtime: FileTime { seconds: -5, nanos: 123 },
                xattrs: vec![Xattr { name: b"user.x".to_vec(), value: vec![0, 255] }],
            },
        }
    }

    type Blobs = HashMap<BlobId, Vec<u8>>;

    fn build(entries: &[Entry]) -> (TreeRoot, Blobs) {
        let namer = VaultSecret::from_bytes([1; 32]).blob_namer();
        let mut blobs = Blobs::new();
        let mut store = |bytes: &[u8]| -> Result<BlobId, Error> {
            let id = namer.name(crate::pack::BlobKind::Tree, bytes);
            blobs.insert(id, bytes.to_vec());
            Ok(id)
        };
        let mut builder = TreeBuilder::default();
        for entry in entries {
            builder.add(entry, &mut store).unwrap();
        }
        (builder.finish(&mut store).unwrap(), blobs)
    }

    fn read(id: BlobId, depth: u8, blobs: &Blobs, out: &mut Vec<Entry>) {
        match Node::read(&blobs[&id], "node").unwrap() {
            Node::Leaf(entries) => {
                assert_eq!(depth, 0);
                out.extend(entries);
            }
            Node::Inner(children) => {
                for c in &children {
                    read(c.id, depth - 1, blobs, out);
                }
            }
        }
    }

    fn numbered(n: usize) -> Vec<Entry> {
        let mut entries: Vec<_> = (0..n)
            .map(|i| entry(TreePath::new(format!("dir{}/file-{i}", i % 97)).unwrap(), i as u64))
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries
    }

    #[test]
    fn a_large_tree_comes_back_in_order_and_shares_what_did_not_change() {
        let mut entries = numbered(20_000);
        let (root, blobs) = build(&entries);
        assert!(root.depth >= 1 && root.entries == 20_000);
        let mut back = Vec::new();
        read(root.id, root.depth, &blobs, &mut back);
        assert_eq!(back, entries);

        entries[7_000].meta.mode = 0o600;
        let (_, changed) = build(&entries);
        let new = changed.keys().filter(|id| !blobs.contains_key(*id)).count();
        assert!(new <= 3, "{new} of {} nodes are new after one change", changed.len());
    }

    #[test]
    fn an_empty_tree_is_an_empty_leaf() {
        let (root, blobs) = build(&[]);
        assert_eq!((root.depth, root.entries), (0, 0));
        assert_eq!(Node::read(&blobs[&root.id], "node").unwrap(), Node::Leaf(vec![]));
    }

    #[test]
    fn entries_out_of_order_are_refused_on_both_ways() {
        let entries = numbered(2);
        let mut store = |_: &[u8]| -> Result<BlobId, Error> { Ok(BlobId::from_bytes([0; 24])) };
        let mut builder = TreeBuilder::default();
        builder.add(&entries[1], &mut store).unwrap();
        assert!(builder.add(&entries[0], &mut store).is_err());
        let mut bytes = vec![LEAF];
        for entry in [&entries[1], &entries[0]] {
            let path =
                StoredPath { shared: 0, rest: ByteBuf::from(entry.path.as_bytes().to_vec()) };
            append(&(path, &entry.kind, &entry.meta, Extra::new()), &mut bytes).unwrap();
        }
        assert!(Node::read(&bytes, "node").unwrap_err().to_string().contains("out of order"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Node::read(&bytes, "node");
        }

        #[test]
        fn any_tree_comes_back(paths in proptest::collection::btree_set("[a-c/]{1,9}", 0..60)) {
            let mut entries: Vec<_> = paths.iter().filter_map(|p| TreePath::new(p.as_bytes()).ok())
                .map(|p| entry(p, 5)).collect();
            entries.sort_by(|a, b| a.path.cmp(&b.path));
            let (root, blobs) = build(&entries);
            let mut back = Vec::new();
            read(root.id, root.depth, &blobs, &mut back);
            prop_assert_eq!(back, entries);
        }
    }
}
