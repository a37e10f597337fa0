//! Comparing a restored tree with what a snapshot says, entry by entry.
//!
//! Both come in the order of paths, so they are joined as they stream by: memory holds one entry of each side, what the
//! walk reads ahead, and files whose further names are still to come.

mod check;
mod data;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::iter::Peekable;

use keephold_vault::tree::{Entry, TreePath};

pub use data::{DataCheck, ExpectedData, HashCheck};

use crate::meta::{LinkTracker, MetaReader, Names};
use crate::restore::Owners;
use crate::walk::{self, Step, Walk, WalkError, Walked};
use crate::{Base, ProblemKind};

/// What is compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// How owners were restored, and so are compared.
    pub owners: Owners,
    /// Whether extended attributes are compared.
    pub xattrs: bool,
    /// Whether the times of last change are compared.
    pub times: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { owners: Owners::default(), xattrs: true, times: true }
    }
}

/// An entry that should be there.
#[derive(Debug)]
pub struct Expected {
    /// The entry.
    pub entry: Entry,
    /// What a file's bytes should be; `None` to compare only its size.
    pub data: Option<ExpectedData>,
}

/// In what way an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// It should be there, and isn't.
    Missing,
    /// It is there, and shouldn't be.
    Surplus,
    /// It is of another kind.
    Kind,
    /// Its size in bytes.
    Size,
    /// Its permissions.
    Mode,
    /// Its owner's number.
    Owner,
    /// Its group's number.
    Group,
    /// The time of its last change.
    Time,
    /// Where a symbolic link leads.
    LinkTarget,
    /// Which other entry is the same file.
    HardLink,
    /// A device's numbers.
    Device,
    /// An extended attribute.
    Xattr,
    /// Its bytes.
    Content,
    /// It could not be compared: never to be taken as equal.
    Unreadable,
}

/// One way in which a restored entry isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The entry; `None` for the tree as a whole.
    pub path: Option<TreePath>,
    /// In what way.
    pub what: What,
    /// What should be, for people.
    pub expected: String,
    /// What is, for people.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, expected, found } = self;
        match path {
            Some(path) => write!(f, "{path}: ")?,
            None => f.write_str("the tree: ")?,
        }
        write!(f, "{what:?}: expected {expected}, found {found}")
    }
}

/// A comparison under way: an iterator over differences in the order of paths.
#[derive(Debug)]
pub struct Compare<I: Iterator<Item = Expected>> {
    base: Base,
    walk: Peekable<Walk>,
    expected: Peekable<I>,
    reader: MetaReader,
    names: Names,
    links: LinkTracker,
    options: Options,
    found: VecDeque<Difference>,
    compared: u64,
    buffer: Vec<u8>,
}

impl<I: Iterator<Item = Expected>> Compare<I> {
    /// Begins comparing the tree at `base` with `expected`, which must come in the order of paths.
    ///
    /// # Errors
    /// [`WalkError`], in practice never: there are no patterns.
    pub fn start(base: &Base, expected: I, options: Options) -> Result<Self, WalkError> {
        let walk = Walk::start(base, &["/".into()], &walk::Options::default())?;
        let names = Names::of_host();
        Ok(Self {
            base: base.clone(),
            walk: walk.peekable(),
            expected: expected.peekable(),
            reader: MetaReader::new(base.clone(), names.clone()),
            names,
            links: LinkTracker::new(),
            options,
            found: VecDeque::new(),
            compared: 0,
            buffer: Vec::new(),
        })
    }

    /// How many entries were compared so far. None, at the end, means that nothing was proved.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Goes one entry on; `false` at the end of both sides.
    fn step(&mut self) -> bool {
        let order = match (self.expected.peek(), self.walk.peek()) {
            (None, None) => return false,
            (_, Some(Step::Problem(_))) => {
                if let Some(Step::Problem(problem)) = self.walk.next() {
                    // An empty tree shows in what is missing from it.
                    if problem.kind != ProblemKind::RootEmpty && !problem.kind.is_note() {
                        self.found.push_back(unreadable(problem.path, problem.error.to_string()));
                    }
                }
                return true;
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(expected), Some(Step::Entry(walked))) => expected.entry.path.cmp(&walked.path),
        };
        let expected = if order.is_le() { self.expected.next() } else { None };
        let walked = if order.is_ge() { self.walk.next() } else { None };
        match (expected, walked) {
            (Some(expected), Some(Step::Entry(walked))) => {
                self.compared += 1;
                self.check(expected, &walked);
            }
            (Some(expected), _) => self.missing(&expected.entry),
            (None, Some(Step::Entry(walked))) => self.surplus(&walked),
            (None, _) => {}
        }
        true
    }

    fn missing(&mut self, entry: &Entry) {
        // Sockets aren't restored.
        if !matches!(entry.kind, keephold_vault::tree::EntryKind::Socket) {
            let expected = check::word(&entry.kind).to_owned();
            self.tell(&entry.path, What::Missing, expected, "nothing".to_owned());
        }
    }

    fn surplus(&mut self, walked: &Walked) {
        self.links.see(walked);
        self.tell(&walked.path, What::Surplus, "nothing".to_owned(), walked.kind.word().to_owned());
    }

    fn tell(&mut self, path: &TreePath, what: What, expected: String, found: String) {
        self.found.push_back(Difference { path: Some(path.clone()), what, expected, found });
    }
}

impl<I: Iterator<Item = Expected>> Iterator for Compare<I> {
    type Item = Difference;

    fn next(&mut self) -> Option<Difference> {
        loop {
            if let Some(difference) = self.found.pop_front() {
                return Some(difference);
            }
            if !self.step() {
                return None;
            }
        }
    }
}

fn unreadable(path: Option<TreePath>, found: String) -> Difference {
    Difference { path, what: What::Unreadable, expected: "to be readable".to_owned(), found }
}
