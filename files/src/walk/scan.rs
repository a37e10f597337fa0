//! Reading one folder: its names, less what is left out, each with its `stat`, in the order of paths.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keephold_vault::tree::TreePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

use super::descend::{go_on, missing, scan_way};
use super::engine::Folder;
use super::filter::{CACHE_SIGNATURE, CACHE_TAG, Counters, Filter};
use super::roots::Plan;
use super::{Step, Walked};
use crate::{Base, Kind, Problem, ProblemKind, stat};

/// Space for names asked of the kernel at once.
const NAMES_BUFFER: usize = 64 * 1024;
/// From how many entries on they are looked at in the order of their inodes, which spares a cold disk its seeks.
const INODE_ORDER_MIN: usize = 32;

/// Where a folder stands with regard to the roots.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    /// What is left out below that root.
    pub filter: Arc<Filter>,
    /// The device that the innermost root lies on.
    pub device: u64,
    /// Left out, and only passed through on the way to a root below.
    pub passing: bool,
}

/// One entry of a folder, with the folder to go on with if it is one.
#[derive(Debug)]
pub(super) struct Item {
    pub step: Step,
    pub child: Option<Arc<Folder>>,
}

/// A name in a folder, before it is looked at.
struct Name {
    start: usize,
    /// The end, before the closing NUL.
    end: usize,
    inode: u64,
    kind: FileType,
}

/// A thread's reusable space.
#[derive(Default)]
pub(super) struct Scanner {
    buffer: Vec<u8>,
    arena: Vec<u8>,
    names: Vec<Name>,
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct Ground {
    pub base: Base,
    pub counters: Counters,
}

impl Scanner {
    /// Reads a folder. Problems with the folder come first, those with entries in their place.
    pub(super) fn scan(&mut self, ground: &Ground, folder: &Folder) -> Vec<Item> {
        let mut items = Vec::new();
        match &folder.inside {
            Some(inside) if !inside.passing => self.scan_whole(ground, folder, inside, &mut items),
            _ => scan_way(ground, folder, &mut items),
        }
        items
    }

    /// A folder within a root: all that it holds.
    fn scan_whole(
        &mut self,
        ground: &Ground,
        folder: &Folder,
        inside: &Inside,
        items: &mut Vec<Item>,
    ) {
        let path = folder.bytes();
        let fd = match ground.base.open_quietly(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(error) => {
                items.push(problem(Problem::new(folder.path.clone(), error)));
                // Roots within may still be reached: passing through takes no right to list.
                return scan_way(ground, folder, items);
            }
        };
        if let Err(error) = self.read_names(&fd) {
            items.push(problem(Problem::new(folder.path.clone(), error)));
        }
        let any = !self.names.is_empty();
        self.apply_markers(ground, &fd, inside, folder.plan.as_deref());
        if self.names.len() >= INODE_ORDER_MIN {
            self.names.sort_unstable_by_key(|name| name.inode);
        }
        items.reserve(self.names.len());
        for index in 0..self.names.len() {
            if let Some(item) = self.look(ground, folder, inside, &fd, index) {
                items.push(item);
            }
        }
        if let Some(plan) = &folder.plan {
            self.add_missing(folder, plan, items);
        }
        items.sort_by(|a, b| place(a).cmp(place(b)));
        if folder.is_root() && items.is_empty() {
            items.push(problem(root_empty(folder.path.clone(), any)));
        }
    }

    fn read_names(&mut self, fd: &OwnedFd) -> io::Result<()> {
        self.names.clear();
        self.arena.clear();
        self.buffer.clear();
        self.buffer.reserve(NAMES_BUFFER);
        let mut dir = RawDir::new(fd, self.buffer.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let start = self.arena.len();
            self.arena.extend_from_slice(name.to_bytes_with_nul());
            let end = self.arena.len() - 1;
            self.names.push(Name { start, end, inode: entry.ino(), kind: entry.file_type() });
        }
        Ok(())
    }

    /// Leaves only the tag or marker, and roots, where the folder holds one.
    fn apply_markers(
        &mut self,
        ground: &Ground,
        fd: &OwnedFd,
        inside: &Inside,
        plan: Option<&Plan>,
    ) {
        let filter = &inside.filter;
        if !filter.caches && filter.markers.is_empty() {
            return;
        }
        let name = |arena: &[u8], n: &Name| arena[n.start..n.end].to_vec();
        let tagged = filter.caches
            && self.names.iter().any(|n| &self.arena[n.start..n.end] == CACHE_TAG)
            && has_cache_signature(fd);
        let marker = self
            .names
            .iter()
            .map(|n| name(&self.arena, n))
            .find(|name| filter.markers.contains(name));
        let (keep, counter) = match (tagged, marker) {
            (true, _) => (CACHE_TAG.to_vec(), &ground.counters.by_cache_tag),
            (false, Some(marker)) => (marker, &ground.counters.by_marker),
            (false, None) => return,
        };
        let arena = &self.arena;
        let before = self.names.len();
        self.names.retain(|n| {
            let name = &arena[n.start..n.end];
            name == keep || plan.is_some_and(|plan| plan.children.contains_key(name))
        });
        counter.fetch_add((before - self.names.len()) as u64, Ordering::Relaxed);
    }

    /// Looks at one name: nothing if it is left out.
    fn look(
        &self,
        ground: &Ground,
        folder: &Folder,
        inside: &Inside,
        fd: &OwnedFd,
        index: usize,
    ) -> Option<Item> {
        let name = &self.names[index];
        let with_nul = self.arena.get(name.start..=name.end)?;
        let bytes = &self.arena[name.start..name.end];
        let path = match join(folder, bytes) {
            Ok(path) => path,
            Err(too_deep) => return Some(problem(too_deep)),
        };
        let plan = folder.plan.as_ref().and_then(|plan| plan.children.get(bytes));
        let patterns = inside.filter.has_patterns();
        // Patterns need to know only whether it is a folder; most file systems say so with the name.
        if patterns && plan.is_none() && name.kind != FileType::Unknown {
            let is_dir = name.kind == FileType::Directory;
            if inside.filter.leaves_out(path.as_bytes(), is_dir) {
                bump(&ground.counters.by_pattern);
                return None;
            }
        }
        let walked = match look_at(fd, CStr::from_bytes_with_nul(with_nul).ok()?, path) {
            Ok(walked) => walked,
            Err(gone) => return Some(problem(*gone)),
        };
        let is_dir = walked.kind == Kind::Directory;
        let mut left_out = false;
        if patterns && (plan.is_some() || name.kind == FileType::Unknown) {
            left_out = inside.filter.leaves_out(walked.path.as_bytes(), is_dir);
            if left_out && plan.is_none() {
                bump(&ground.counters.by_pattern);
                return None;
            }
        }
        Some(go_on(ground, inside, walked, plan, left_out))
    }

    fn add_missing(&self, folder: &Folder, plan: &Plan, items: &mut Vec<Item>) {
        for (name, below) in &plan.children {
            if !self.names.iter().any(|n| &self.arena[n.start..n.end] == name.as_slice()) {
                items.extend(missing(folder, name, below));
            }
        }
    }
}

pub(super) fn root_empty(path: Option<TreePath>, left_out: bool) -> Problem {
    let text = if left_out {
        "everything in it is left out by the excludes, so nothing of it is backed up; check them"
    } else {
        "is empty, so nothing of it is backed up; is its disk mounted?"
    };
    Problem::said(path, ProblemKind::RootEmpty, text)
}

pub(super) fn problem(problem: Problem) -> Item {
    Item { step: Step::Problem(Box::new(problem)), child: None }
}

pub(super) fn look_at(fd: &OwnedFd, name: &CStr, path: TreePath) -> Result<Walked, Box<Problem>> {
    let raw = match statat(fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(raw) => raw,
        Err(error) => return Err(Box::new(Problem::new(Some(path), error))),
    };
    match stat::from_raw(&raw) {
        Some((kind, stat)) => Ok(Walked { path, kind, stat }),
        None => Err(Box::new(Problem::said(
            Some(path),
            ProblemKind::Io,
            "is of no kind that Linux knows",
        ))),
    }
}

pub(super) fn join(folder: &Folder, name: &[u8]) -> Result<TreePath, Problem> {
    let joined = match &folder.path {
        Some(path) => path.join(name),
        None => TreePath::new(name),
    };
    joined.map_err(|_| {
        let text =
            "holds an entry whose path is longer than a snapshot takes (64 KiB); it is left out";
        Problem::said(folder.path.clone(), ProblemKind::TooDeep, text)
    })
}

/// Entries in the order of paths; a problem about the folder itself comes before them.
fn place(item: &Item) -> &[u8] {
    match &item.step {
        Step::Entry(walked) => walked.path.as_bytes(),
        Step::Problem(problem) => problem.path.as_ref().map_or(b"", TreePath::as_bytes),
    }
}

fn has_cache_signature(folder: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = openat(folder, CACHE_TAG, flags, Mode::empty()) else { return false };
    let mut head = [0; CACHE_SIGNATURE.len()];
    rustix::io::read(&fd, &mut head) == Ok(head.len()) && head == *CACHE_SIGNATURE
}

pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
