//! The folders of a target: opened below it, made where they are missing, finished at the end.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keephold_vault::tree::{Entry, TreePath};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, statat};
use rustix::io::Errno;

use super::apply::Wanted;
use super::{Existing, Inner, Placed, RestoreError};
use crate::meta::xattrs::{self, Opened};
use crate::{Kind, beneath, stat};

/// How many folders are kept open.
const OPEN_MAX: usize = 128;

/// Open folders and those that await their metadata.
#[derive(Debug, Default)]
pub(super) struct Folders {
    open: Mutex<Cache>,
    /// Some 150 bytes and the path for each folder until the end: a time or a mode set earlier would be undone by the
    /// entries still to come.
    pending: Mutex<HashMap<TreePath, Pending>>,
}

#[derive(Debug, Default)]
struct Cache {
    folders: HashMap<TreePath, (Arc<OwnedFd>, u64)>,
    clock: u64,
}

#[derive(Debug)]
struct Pending {
    /// Made by this restore, and not there before.
    made: bool,
    /// `None` while only entries in it have come.
    wanted: Option<Wanted>,
}

impl Inner {
    /// The folder that an entry goes into, made with its parents if it is missing.
    pub(super) fn folder_of(&self, path: &TreePath) -> Result<Arc<OwnedFd>, RestoreError> {
        let Some(parent) = path.parent() else { return Ok(Arc::clone(&self.fd)) };
        if let Some(fd) = lock(&self.folders.open).get(&parent) {
            return Ok(fd);
        }
        // Up to the first that is there, then down again; not recursively, since paths may be very deep.
        let mut missing = Vec::new();
        let mut at = Some(parent.clone());
        let mut here = loop {
            let Some(folder) = at else { break Arc::clone(&self.fd) };
            match self.open_folder(&folder) {
                Ok(fd) => break Arc::new(fd),
                Err(Errno::NOENT) => {
                    at = folder.parent();
                    missing.push(folder);
                }
                Err(error) => return Err(self.blocked(&folder, error)),
            }
        };
        while let Some(folder) = missing.pop() {
            match self.make_noted(&here, &folder) {
                // If it exists by now, another thread was quicker.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(RestoreError::io(&folder, "make the directory", error)),
            }
            here =
                Arc::new(self.open_folder(&folder).map_err(|error| self.blocked(&folder, error))?);
        }
        lock(&self.folders.open).put(parent, &here);
        Ok(here)
    }

    fn open_folder(&self, path: &TreePath) -> rustix::io::Result<OwnedFd> {
        beneath::open(self.fd.as_fd(), path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
    }

    fn blocked(&self, folder: &TreePath, error: Errno) -> RestoreError {
        match error {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                RestoreError::NotBelow { path: folder.clone() }
            }
            error => RestoreError::io(folder, "open the directory", error),
        }
    }

    /// Makes a folder and notes that it is ours, in one go: a thread that finds it there must also find the note, or
    /// it would take it for one that was there before the restore.
    fn make_noted(&self, parent: &OwnedFd, path: &TreePath) -> rustix::io::Result<()> {
        let mut pending = lock(&self.folders.pending);
        mkdirat(parent, path.name(), Mode::RWXU)?;
        pending.entry(path.clone()).or_insert(Pending { made: true, wanted: None }).made = true;
        Ok(())
    }

    pub(super) fn make_dir(&self, entry: &Entry) -> Result<Placed, RestoreError> {
        let folder = self.folder_of(&entry.path)?;
        match self.make_noted(&folder, &entry.path) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let found = self.kind_at(&folder, &entry.path)?;
                if found != Kind::Directory {
                    return Err(RestoreError::KindDiffers { path: entry.path.clone(), found });
                }
            }
            Err(error) => return Err(RestoreError::io(&entry.path, "make the directory", error)),
        }
        let mut pending = lock(&self.folders.pending);
        let ours = pending.get(&entry.path).is_some_and(|pending| pending.made);
        // A folder that was there before keeps what it has, unless what is there is to be overwritten.
        if !ours && matches!(self.options.existing, Existing::Refuse | Existing::Skip) {
            return Ok(Placed::Kept);
        }
        let wanted = Some(Wanted::new(&entry.meta, &self.options, &self.names));
        pending.insert(entry.path.clone(), Pending { made: ours, wanted });
        Ok(Placed::Done)
    }

    pub(super) fn kind_at(&self, folder: &OwnedFd, path: &TreePath) -> Result<Kind, RestoreError> {
        let raw = statat(folder, path.name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| RestoreError::io(path, "look at what is there", error))?;
        Ok(stat::from_raw(&raw).map_or(Kind::Socket, |(kind, _)| kind))
    }

    /// Puts on all folders what stands beside them, the deepest first: a folder that is closed to its own owner would
    /// shut the way to those below.
    pub(super) fn finish_dirs(&self) -> Result<(), RestoreError> {
        lock(&self.folders.open).folders.clear();
        let mut pending: Vec<_> =
            std::mem::take(&mut *lock(&self.folders.pending)).into_iter().collect();
        pending.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        for (path, Pending { made, wanted }) in pending {
            let Some(wanted) = wanted else { continue };
            let bytes = path.as_bytes();
            match beneath::open(self.fd.as_fd(), bytes, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(fd) => self.finish_dir(Opened::Fully(fd.as_fd()), made, &path, &wanted),
                // Closed even to its owner: reached without opening it.
                Err(Errno::ACCESS) => {
                    let fd = self.open_folder(&path).map_err(|error| self.blocked(&path, error))?;
                    self.finish_dir(Opened::PathOnly(fd.as_fd()), made, &path, &wanted);
                }
                Err(error) => return Err(self.blocked(&path, error)),
            }
        }
        Ok(())
    }

    fn finish_dir(&self, on: Opened<'_>, made: bool, path: &TreePath, wanted: &Wanted) {
        if !made && let Ok((there, _)) = xattrs::read(on) {
            // Left from before: an ACL that the snapshot doesn't have would grant more than it should.
            let stale =
                |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl");
            for xattr in there
                .iter()
                .filter(|x| stale(&x.name) && !wanted.xattrs.iter().any(|w| w.name == x.name))
            {
                if let Err(error) = xattrs::remove(on, &xattr.name) {
                    self.problems.add(path, super::Unset::Xattr, error);
                }
            }
        }
        wanted.apply(on, false, path, &self.problems);
    }
}

impl Cache {
    fn get(&mut self, path: &TreePath) -> Option<Arc<OwnedFd>> {
        self.clock += 1;
        let (fd, used) = self.folders.get_mut(path)?;
        *used = self.clock;
        Some(Arc::clone(fd))
    }

    fn put(&mut self, path: TreePath, fd: &Arc<OwnedFd>) {
        if self.folders.len() >= OPEN_MAX {
            // Half at once, so that the search for the oldest is rare.
            let mut times: Vec<_> = self.folders.values().map(|(_, used)| *used).collect();
            times.sort_unstable();
            let median = times[times.len() / 2];
            self.folders.retain(|_, (_, used)| *used > median);
        }
        self.clock += 1;
        self.folders.insert(path, (Arc::clone(fd), self.clock));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
