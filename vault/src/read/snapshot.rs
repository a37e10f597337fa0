//! One snapshot, opened for reading.

use std::fmt;
use std::sync::Arc;

use crate::content::{Content, Extent};
use crate::error::Error;
use crate::ids::BlobId;
use crate::limits::{BLOB_LEN_MAX, TREE_DEPTH_MAX};
use crate::pack::BlobKind;
use crate::read::fetch::{Fetched, Fetcher, Wanted};
use crate::read::{
    ContentReader, Differences, EntryStream, ExtentStream, Listing, Opener, ReadSettings,
    RunRecord, Selection, Vault, blocking, search,
};
use crate::tree::{Entry, Node, TreePath, TreeRoot};

/// Reads one snapshot: its entries and their contents. Cheap to clone; clones share their caches.
#[derive(Clone)]
pub struct SnapshotReader {
    fetcher: Arc<Fetcher>,
    root: TreeRoot,
    settings: ReadSettings,
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotReader({}, {} entries)", self.root.id, self.root.entries)
    }
}

impl SnapshotReader {
    /// Opens the snapshot of a run. Nothing is read yet.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] if the run failed; [`Error::Damaged`] if the record's claims can't be;
    /// [`Error::OtherVault`] if it was made with another secret than the vault's.
    pub fn new(
        vault: &Vault,
        opener: &Opener,
        run: &RunRecord,
        settings: ReadSettings,
    ) -> Result<Self, Error> {
        let what = || format!("record {}", run.key);
        vault.check_secret(run)?;
        let Some(snapshot) = &run.record.snapshot else {
            return Err(Error::NoSnapshot { what: what() });
        };
        let root = snapshot.root.clone();
        if root.depth > TREE_DEPTH_MAX || root.length > BLOB_LEN_MAX {
            return Err(Error::damaged(what(), "its tree is deeper or larger than any"));
        }
        let segments = &snapshot.segments;
        let fetcher = Fetcher::new(vault, opener.clone(), &run.secret, segments, &settings);
        Ok(Self { fetcher: Arc::new(fetcher), root, settings })
    }

    /// The top of its tree: with the counts of entries and bytes.
    pub fn root(&self) -> &TreeRoot {
        &self.root
    }

    /// What bounds its memory and requests.
    pub fn settings(&self) -> &ReadSettings {
        &self.settings
    }

    /// Entries in order: all, or those that are selected with the folders above them.
    pub fn entries(&self, selection: Selection) -> EntryStream {
        EntryStream::new(self.clone(), selection)
    }

    /// The entry at a path, found by reading one node a level.
    ///
    /// # Errors
    /// [`Error::NotInSnapshot`]; whatever reading the nodes fails with.
    pub async fn entry(&self, path: &TreePath) -> Result<Entry, Error> {
        match search::find(self, path).await? {
            Some(entry) => Ok(entry),
            None => Err(Error::NotInSnapshot { path: path.clone() }),
        }
    }

    /// What lies directly in a folder (`None` for the top), without reading what lies deeper.
    pub fn list(&self, folder: Option<&TreePath>) -> Listing {
        Listing::new(self.clone(), folder)
    }

    /// What differs in a later snapshot of the same vault, without reading the nodes that both share.
    pub fn differences(&self, after: &Self, selection: &Selection) -> Differences {
        Differences::new(self.clone(), after.clone(), selection)
    }

    /// The extents of a content, in order.
    pub fn extents(&self, content: &Content) -> ExtentStream {
        ExtentStream::new(self.clone(), content)
    }

    /// The bytes of a content, in order, with read-ahead, checked against its size and hash.
    pub fn content(&self, content: &Content) -> ContentReader {
        ContentReader::new(self.clone(), content)
    }

    /// Fetches the blobs of several extents at once.
    ///
    /// # Errors
    /// What concerns the target and not single blobs; that stands with each blob in [`Fetched`].
    pub async fn fetch(&self, extents: &[Extent]) -> Result<Fetched, Error> {
        let mut wanted = Wanted::default();
        extents.iter().for_each(|extent| wanted.add(extent));
        self.fetch_wanted(&wanted).await
    }

    pub(crate) async fn fetch_wanted(&self, wanted: &Wanted) -> Result<Fetched, Error> {
        self.fetcher.fetch(BlobKind::Data, wanted).await
    }

    pub(crate) async fn fetch_kind(
        &self,
        kind: BlobKind,
        ids: impl Iterator<Item = BlobId>,
    ) -> Result<Fetched, Error> {
        self.fetcher.fetch(kind, &Wanted::whole(ids)).await
    }

    /// Reads tree nodes at one level above the leaves, in the order of `names` (id and claimed length).
    ///
    /// # Errors
    /// As [`Node::read`]; [`Error::Damaged`] if a node is of another kind than its level says.
    pub async fn nodes(&self, names: &[(BlobId, u32)], level: u8) -> Result<Vec<Node>, Error> {
        let fetched = self.fetch_kind(BlobKind::Tree, names.iter().map(|(id, _)| *id)).await?;
        let mut blobs = Vec::with_capacity(names.len());
        for (id, length) in names {
            let blob = fetched.blob(id)?;
            if blob.len() != *length as usize {
                let why = format!("it has {} bytes, and not the {length} claimed", blob.len());
                return Err(Error::damaged(format!("tree node {id}"), why));
            }
            blobs.push((*id, blob));
        }
        blocking(move || blobs.iter().map(|(id, blob)| read_node(id, blob, level)).collect())
            .await?
    }
}

fn read_node(id: &BlobId, blob: &[u8], level: u8) -> Result<Node, Error> {
    let what = format!("tree node {id}");
    let node = Node::read(blob, &what)?;
    match (&node, level) {
        // Each level down must be one: so a node that contains itself ends here.
        (Node::Leaf(_), 0) | (Node::Inner(_), 1..) => Ok(node),
        (Node::Leaf(_), _) => Err(Error::damaged(what, "a leaf stands where an inner node should")),
        (Node::Inner(_), 0) => {
            Err(Error::damaged(what, "an inner node stands where a leaf should"))
        }
    }
}
