//! Nodes of a snapshot tree.
//!
//! A leaf holds entries in order; an inner node holds, for each child, the path of its first entry (the search
//! key), its blob and what lies below it. A node ends after an entry whose path's hash says so, so that trees of
//! two snapshots share the nodes in which nothing changed.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::Error;
use crate::ids::BlobId;
use crate::tree::{Entry, EntryKind, Metadata, TreePath};

/// The top of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRoot {
    /// The blob of the top node.
    pub id: BlobId,
    /// Its length in bytes.
    pub length: u32,
    /// How many levels of inner nodes there are; 0 if the top node is a leaf.
    pub depth: u8,
    /// How many entries the tree holds.
    pub entries: u64,
    /// Total size of the contents in bytes, each hard-linked file once.
    pub bytes: u64,
}

/// A child in an inner node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Path of the first entry below it.
    pub first: TreePath,
    /// Its blob.
    pub id: BlobId,
    /// Its blob's length in bytes.
    pub length: u32,
    /// How many entries lie below it.
    pub entries: u64,
    /// Total size of their contents in bytes.
    pub bytes: u64,
}

/// A node as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Entries.
    Leaf(Vec<Entry>),
    /// Children.
    Inner(Vec<Child>),
}

/// A path as stored: how many bytes it shares with the one before it in the node, and the rest.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPath {
    pub(super) shared: u32,
    pub(super) rest: ByteBuf,
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    path: StoredPath,
    kind: EntryKind,
    meta: Metadata,
    extra: Extra,
}

/// Room for what later versions say of an entry, each by a number; readers pass over numbers that they don't know.
pub(super) type Extra = Vec<(u32, ByteBuf)>;

#[derive(Serialize, Deserialize)]
struct StoredChild {
    path: StoredPath,
    id: BlobId,
    length: u32,
    entries: u64,
    bytes: u64,
}

/// Whether a node's blob is that of an inner one.
pub(crate) fn is_inner(blob: &[u8]) -> bool {
    blob.first() == Some(&INNER)
}

pub(super) const LEAF: u8 = 0;
pub(super) const INNER: u8 = 1;

fn lengthen(before: &[u8], stored: &StoredPath, what: &str) -> Result<TreePath, Error> {
    let shared = before.get(..stored.shared as usize).ok_or_else(|| {
        Error::damaged(what, "a path shares more with the one before it than there is")
    })?;
    TreePath::new([shared, &stored.rest].concat()).map_err(|e| Error::damaged(what, e))
}

impl Node {
    /// Reads a node from its blob. Paths must be sound and in strict order.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn read(blob: &[u8], what: &str) -> Result<Self, Error> {
        let Some((&tag, mut rest)) = blob.split_first() else {
            return Err(Error::damaged(what, "a tree node is empty"));
        };
        let mut before: Option<TreePath> = None;
        let mut next = |stored: &StoredPath| -> Result<TreePath, Error> {
            let path = lengthen(before.as_ref().map_or(&[], |p| p.as_bytes()), stored, what)?;
            if before.as_ref().is_some_and(|b| *b >= path) {
                return Err(Error::damaged(what, format!("'{path}' stands out of order")));
            }
            before = Some(path.clone());
            Ok(path)
        };
        let damaged = |e| Error::damaged(what, e);
        match tag {
            LEAF => {
                let mut entries = Vec::new();
                while !rest.is_empty() {
                    let (stored, tail) =
                        postcard::take_from_bytes::<StoredEntry>(rest).map_err(damaged)?;
                    check_entry(&stored).map_err(|why| Error::damaged(what, why))?;
                    entries.push(Entry {
                        path: next(&stored.path)?,
                        kind: stored.kind,
                        meta: stored.meta,
                    });
                    rest = tail;
                }
                Ok(Self::Leaf(entries))
            }
            INNER => {
                let mut children = Vec::new();
                while !rest.is_empty() {
                    let (stored, tail) =
                        postcard::take_from_bytes::<StoredChild>(rest).map_err(damaged)?;
                    let StoredChild { id, length, entries, bytes, .. } = stored;
                    children.push(Child { first: next(&stored.path)?, id, length, entries, bytes });
                    rest = tail;
                }
                if children.is_empty() {
                    return Err(Error::damaged(what, "an inner tree node has no children"));
                }
                Ok(Self::Inner(children))
            }
            other => {
                Err(Error::NewerFormat { what: what.into(), found: format!("tree node {other}") })
            }
        }
    }
}

/// Bounds that postcard knows nothing of.
fn check_entry(entry: &StoredEntry) -> Result<(), &'static str> {
    if entry.meta.mtime.nanos >= 1_000_000_000 {
        return Err("a time has more than a second of nanoseconds");
    }
    match &entry.kind {
        EntryKind::File(content) if !content.is_sound() => {
            Err("a file's content contradicts itself")
        }
        _ => Ok(()),
    }
}
