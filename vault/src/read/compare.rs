//! What differs between two snapshots of one vault, without reading what they share.
//!
//! Trees are cut where paths say so: where nothing changed, two snapshots share whole nodes, which are told by their
//! ids and never read.

use std::collections::VecDeque;

use crate::error::Error;
use crate::read::walk::Claim;
use crate::read::{Selection, SnapshotReader};
use crate::tree::{Entry, EntryKind, Node, TreePath};

/// An entry that differs: as it was and as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In the first snapshot.
    pub before: Option<Entry>,
    /// In the second.
    pub after: Option<Entry>,
}

impl Difference {
    /// Where it stands.
    pub fn path(&self) -> Option<&TreePath> {
        self.after.as_ref().or(self.before.as_ref()).map(|entry| &entry.path)
    }
}

/// Entries that differ between two snapshots, in order.
#[derive(Debug)]
pub struct Differences {
    before: Front,
    after: Front,
}

/// One of the trees: what of it is still to be compared, in order.
#[derive(Debug)]
struct Front {
    reader: SnapshotReader,
    selection: Selection,
    items: VecDeque<Item>,
}

#[derive(Debug)]
enum Item {
    Entry(Box<Entry>),
    /// A node, and how many levels of inner nodes there are from it down.
    Node(Claim, u8),
}

/// What is to be done about the two fronts.
enum Step {
    Expand { before: bool, after: bool },
    Skip,
    Take { before: bool, after: bool },
    End,
}

impl Differences {
    pub(crate) fn new(
        before: SnapshotReader,
        after: SnapshotReader,
        selection: &Selection,
    ) -> Self {
        let front = |reader: SnapshotReader| {
            let items = [Item::Node(Claim::root(reader.root()), reader.root().depth)].into();
            Front { items, selection: selection.clone(), reader }
        };
        Self { before: front(before), after: front(after) }
    }

    /// The next entry that differs; `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// Whatever reading the nodes fails with.
    pub async fn next(&mut self) -> Option<Result<Difference, Error>> {
        loop {
            match step(self.before.items.front(), self.after.items.front()) {
                Step::End => return None,
                Step::Skip => {
                    self.before.items.pop_front();
                    self.after.items.pop_front();
                }
                Step::Expand { before, after } => {
                    let expanded = async {
                        if before {
                            self.before.expand().await?;
                        }
                        if after { self.after.expand().await } else { Ok(()) }
                    };
                    if let Err(error) = expanded.await {
                        self.before.items.clear();
                        self.after.items.clear();
                        return Some(Err(error));
                    }
                }
                Step::Take { before, after } => {
                    let before = if before { self.before.take() } else { None };
                    let after = if after { self.after.take() } else { None };
                    return Some(Ok(Difference { before, after }));
                }
            }
        }
    }
}

/// Both fronts hold everything that comes before all else; so equal nodes at both can be passed over together.
fn step(before: Option<&Item>, after: Option<&Item>) -> Step {
    use Item::{Entry as E, Node as N};
    match (before, after) {
        (None, None) => Step::End,
        (Some(E(_)), None) => Step::Take { before: true, after: false },
        (None, Some(E(_))) => Step::Take { before: false, after: true },
        (Some(N(..)), None) => Step::Expand { before: true, after: false },
        (None, Some(N(..))) => Step::Expand { before: false, after: true },
        (Some(E(a)), Some(E(b))) => match a.path.cmp(&b.path) {
            std::cmp::Ordering::Equal if a == b => Step::Skip,
            order => Step::Take { before: order.is_le(), after: order.is_ge() },
        },
        (Some(E(a)), Some(N(Claim { first: Some(first), .. }, _))) if a.path < *first => {
            Step::Take { before: true, after: false }
        }
        (Some(N(Claim { first: Some(first), .. }, _)), Some(E(b))) if b.path < *first => {
            Step::Take { before: false, after: true }
        }
        (Some(E(_)), Some(N(..))) => Step::Expand { before: false, after: true },
        (Some(N(..)), Some(E(_))) => Step::Expand { before: true, after: false },
        (Some(N(a, a_height)), Some(N(b, b_height))) => {
            if a.id == b.id && a_height == b_height {
                return Step::Skip;
            }
            // The higher one may hold the other; of equals, the one that begins first may end before the other.
            let order = a_height.cmp(b_height).reverse().then_with(|| a.first.cmp(&b.first));
            Step::Expand { before: order.is_le(), after: order.is_ge() }
        }
    }
}

impl Front {
    fn take(&mut self) -> Option<Entry> {
        match self.items.pop_front() {
            Some(Item::Entry(entry)) => Some(*entry),
            _ => None,
        }
    }

    /// Puts in place of the node in front what it holds.
    async fn expand(&mut self) -> Result<(), Error> {
        let Some(Item::Node(claim, height)) = self.items.pop_front() else {
            return Ok(());
        };
        let node = self.reader.nodes(&[claim.name()], height).await?.pop();
        if let Some(node) = &node {
            claim.check(node)?;
        }
        match node {
            Some(Node::Leaf(entries)) => {
                let wanted = |entry: &Entry| {
                    self.selection.covers(&entry.path)
                        || entry.kind == EntryKind::Directory
                            && self.selection.leads_to(&entry.path)
                };
                let entries: Vec<_> = entries.into_iter().filter(wanted).collect();
                for entry in entries.into_iter().rev() {
                    self.items.push_front(Item::Entry(Box::new(entry)));
                }
            }
            Some(Node::Inner(children)) => {
                for claim in claim.children(children).rev() {
                    if claim.meets(&self.selection) {
                        self.items.push_front(Item::Node(claim, height.saturating_sub(1)));
                    }
                }
            }
            None => {}
        }
        Ok(())
    }
}
