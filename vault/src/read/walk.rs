//! Entries of a snapshot in order, node by node, with the next nodes fetched ahead.

use std::collections::VecDeque;

use crate::error::Error;
use crate::ids::BlobId;
use crate::read::versions::concerns_object;
use crate::read::{Selection, SnapshotReader, Task};
use crate::store::StoreError;
use crate::tree::{Child, Entry, EntryKind, Node, TreePath, TreeRoot};

/// Leaves fetched together: they mostly lie side by side in one frame or two.
const LEAVES_AHEAD: usize = 16;
/// Inner nodes fetched together; each names hundreds of nodes below it.
const INNER_AHEAD: usize = 2;
/// So few nodes are fetched together from the first one on: they are what one entry is looked for in, and to ask twice
/// costs more than to read what wasn't needed.
const FEW: usize = 2;
/// Claimed bytes of nodes fetched together.
const AHEAD_BYTES: u64 = 4 << 20;

/// Entries of a snapshot, in order. Only nodes that may hold a selected one are read.
#[derive(Debug)]
pub struct EntryStream {
    reader: SnapshotReader,
    selection: Selection,
    /// The nodes that are still to be read on the way down, the lowest level last.
    levels: Vec<Level>,
    leaf: VecDeque<Entry>,
    /// A folder whose inside is passed over.
    skipped: Option<TreePath>,
    /// How many nodes may be fetched together.
    ahead: bool,
}

/// A node that is to be read, and what its parent says of it.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) id: BlobId,
    length: u32,
    entries: u64,
    /// Path of its first entry; `None` for the root.
    pub(crate) first: Option<TreePath>,
    /// Everything in it comes before this.
    end: Option<TreePath>,
}

/// Nodes that are being read.
type Ahead = (Vec<Claim>, Task<Result<Vec<Node>, Error>>);

/// Nodes with one parent.
#[derive(Debug)]
struct Level {
    /// How many levels of inner nodes there are below these nodes, plus one if they are inner themselves.
    height: u8,
    waiting: VecDeque<Claim>,
    ready: VecDeque<(Claim, Node)>,
    ahead: Option<Ahead>,
    /// How many nodes are read one by one.
    alone: usize,
}

impl EntryStream {
    pub(crate) fn new(reader: SnapshotReader, selection: Selection) -> Self {
        let root = reader.root();
        let top = Claim::root(root);
        let level = Level {
            height: root.depth,
            waiting: [top].into(),
            ready: VecDeque::new(),
            ahead: None,
            alone: 0,
        };
        Self {
            levels: vec![level],
            selection,
            leaf: VecDeque::new(),
            skipped: None,
            ahead: true,
            reader,
        }
    }

    /// Reads one node at a time, for who passes over most of them.
    pub(crate) fn frugal(self) -> Self {
        Self { ahead: false, ..self }
    }

    /// Passes over everything below `folder`, whose nodes are then not read.
    pub(crate) fn skip_within(&mut self, folder: TreePath) {
        self.skipped = Some(folder);
    }

    /// The next entry; `None` at the end. After an error about one node it goes on with the nodes after it, so that
    /// whoever restores what can be restored asks again; after an error of the target there is nothing more.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a node isn't what its parent says; whatever reading it fails with.
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        loop {
            while let Some(entry) = self.leaf.pop_front() {
                if self.wants(&entry) {
                    return Some(Ok(entry));
                }
            }
            match self.advance().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    if !concerns_object(&error) {
                        self.levels.clear();
                    }
                    return Some(Err(error));
                }
            }
        }
    }

    fn wants(&self, entry: &Entry) -> bool {
        let path = &entry.path;
        let skipped = self.skipped.as_ref().is_some_and(|s| path.is_within(s) && path != s);
        let above = || entry.kind == EntryKind::Directory && self.selection.leads_to(path);
        !skipped && (self.selection.covers(path) || above())
    }

    /// Reads the next node; whether there was one.
    async fn advance(&mut self) -> Result<bool, Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        if let Some(skipped) = &self.skipped {
            level.waiting.retain(|claim| !claim.lies_within(skipped));
        }
        let Some((claim, node)) = level.next(&self.reader, self.ahead).await? else {
            self.levels.pop();
            return Ok(true);
        };
        let height = level.height;
        if self.skipped.as_ref().is_some_and(|skipped| claim.lies_within(skipped)) {
            return Ok(true);
        }
        claim.check(&node).map_err(|error| claim.lost(error))?;
        match node {
            Node::Leaf(entries) => self.leaf = entries.into(),
            Node::Inner(children) => {
                let claims = claim.children(children);
                let wanted = claims.filter(|claim| claim.meets(&self.selection));
                self.levels.push(Level {
                    height: height.saturating_sub(1),
                    waiting: wanted.collect(),
                    ready: VecDeque::new(),
                    ahead: None,
                    alone: 0,
                });
            }
        }
        Ok(true)
    }
}

impl Claim {
    pub(crate) fn root(root: &TreeRoot) -> Self {
        let TreeRoot { id, length, entries, .. } = *root;
        Self { id, length, entries, first: None, end: None }
    }

    /// What a node says of its children.
    pub(crate) fn children(self, children: Vec<Child>) -> impl DoubleEndedIterator<Item = Self> {
        let ends = children.iter().skip(1).map(|child| Some(child.first.clone()));
        let ends: Vec<_> = ends.chain([self.end]).collect();
        children.into_iter().zip(ends).map(|(child, end)| Self {
            id: child.id,
            length: child.length,
            entries: child.entries,
            first: Some(child.first),
            end,
        })
    }

    /// Its id and length, to read it by.
    pub(crate) fn name(&self) -> (BlobId, u32) {
        (self.id, self.length)
    }

    /// Whether anything selected may stand in it.
    pub(crate) fn meets(&self, selection: &Selection) -> bool {
        self.first.as_ref().is_none_or(|first| selection.meets(first, self.end.as_ref()))
    }

    fn lies_within(&self, folder: &TreePath) -> bool {
        // The folder's own entry isn't inside, so the first must be below it.
        let inside = |path: &TreePath| path.is_within(folder) && path != folder;
        self.first.as_ref().is_some_and(inside) && self.end.as_ref().is_some_and(inside)
    }

    /// Says with an error which entries it costs.
    fn lost(&self, error: Error) -> Error {
        let Some(first) = &self.first else { return error };
        let (what, why) = match &error {
            Error::Damaged { what, why } => (what.clone(), why.clone()),
            Error::BlobUnknown { .. } | Error::Store(StoreError::NotFound { .. }) => {
                (format!("tree node {}", self.id), error.to_string())
            }
            _ => return error,
        };
        let entries = self.entries;
        Error::damaged(what, format!("{why}; {entries} entries from '{first}' on are lost with it"))
    }

    /// Holds a node against what its parent says. So entries are in order over the whole tree, no node can stand
    /// in two places, and a tree can't claim more entries than it reads.
    pub(crate) fn check(&self, node: &Node) -> Result<(), Error> {
        let (first, last, entries) = match node {
            Node::Leaf(entries) => (
                entries.first().map(|e| &e.path),
                entries.last().map(|e| &e.path),
                entries.len() as u64,
            ),
            Node::Inner(children) => (
                children.first().map(|c| &c.first),
                children.last().map(|c| &c.first),
                children.iter().fold(0u64, |sum, c| sum.saturating_add(c.entries)),
            ),
        };
        let wrong = |why: &str| Error::damaged(format!("tree node {}", self.id), why);
        if self.first.is_some() && first != self.first.as_ref() {
            return Err(wrong("it begins with another path than its parent says"));
        }
        if let (Some(last), Some(end)) = (last, &self.end)
            && last >= end
        {
            return Err(wrong("it holds paths that belong into the node after it"));
        }
        if entries != self.entries {
            return Err(wrong("it holds another number of entries than its parent says"));
        }
        Ok(())
    }
}

impl Level {
    async fn next(
        &mut self,
        reader: &SnapshotReader,
        ahead: bool,
    ) -> Result<Option<(Claim, Node)>, Error> {
        if self.ready.is_empty() {
            let (claims, nodes) = match self.ahead.take() {
                Some((claims, task)) => (claims, task.join().await?),
                None => {
                    let claims = if ahead && self.alone == 0 && self.waiting.len() <= FEW {
                        self.group()
                    } else {
                        // The very next one alone, so that the first entry comes soon.
                        self.waiting.pop_front().into_iter().collect()
                    };
                    let nodes = reader.nodes(&names(&claims), self.height).await;
                    (claims, nodes)
                }
            };
            let nodes = match nodes {
                Ok(nodes) => nodes,
                Err(error) if claims.len() > 1 && concerns_object(&error) => {
                    // One of them is at fault: read them one by one, so that only that one is lost.
                    self.alone = claims.len();
                    claims.into_iter().rev().for_each(|claim| self.waiting.push_front(claim));
                    return Box::pin(self.next(reader, ahead)).await;
                }
                Err(error) => {
                    return Err(match claims.first() {
                        Some(claim) => claim.lost(error),
                        None => error,
                    });
                }
            };
            self.alone = self.alone.saturating_sub(1);
            let ahead = ahead && self.alone == 0;
            self.ready.extend(claims.into_iter().zip(nodes));
            if ahead && !self.waiting.is_empty() {
                let claims = self.group();
                let (reader, names, height) = (reader.clone(), names(&claims), self.height);
                let task = Task::spawn(async move { reader.nodes(&names, height).await });
                self.ahead = Some((claims, task));
            }
        }
        Ok(self.ready.pop_front())
    }

    fn group(&mut self) -> Vec<Claim> {
        let most = if self.height == 0 { LEAVES_AHEAD } else { INNER_AHEAD };
        let mut bytes = 0;
        let fits = |claim: &&Claim| {
            bytes += u64::from(claim.length);
            bytes <= AHEAD_BYTES
        };
        let count = self.waiting.iter().take(most).take_while(fits).count().max(1);
        self.waiting.drain(..count.min(self.waiting.len())).collect()
    }
}

fn names(claims: &[Claim]) -> Vec<(BlobId, u32)> {
    claims.iter().map(Claim::name).collect()
}
