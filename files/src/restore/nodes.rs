//! Entries without data: symbolic and hard links, devices, pipes.

use std::os::fd::{AsFd, OwnedFd};

use keephold_vault::tree::{Entry, EntryKind, TreePath};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mknodat, openat, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::apply::Wanted;
use super::{Inner, Placed, RestoreError, Unset, Verdict};
use crate::meta::xattrs::Opened;

impl Inner {
    pub(super) fn make_node(&self, entry: &Entry) -> Result<Placed, RestoreError> {
        let folder = self.folder_of(&entry.path)?;
        let private = Mode::RUSR | Mode::WUSR;
        let node = |name: &[u8], kind, device| mknodat(&*folder, name, kind, private, device);
        match &entry.kind {
            EntryKind::Symlink(to) => {
                self.put(&folder, entry, |name| symlinkat(to.as_slice(), &*folder, name))
            }
            EntryKind::HardLink(first) => self.hard_link(&folder, entry, first),
            EntryKind::Fifo => self.put(&folder, entry, |name| node(name, FileType::Fifo, 0)),
            EntryKind::CharDevice { major, minor } => self.put(&folder, entry, |name| {
                node(name, FileType::CharacterDevice, makedev(*major, *minor))
            }),
            EntryKind::BlockDevice { major, minor } => self.put(&folder, entry, |name| {
                node(name, FileType::BlockDevice, makedev(*major, *minor))
            }),
            EntryKind::Socket => {
                self.problems.add(&entry.path, Unset::Socket, Errno::OPNOTSUPP);
                Ok(Placed::Left)
            }
            EntryKind::Directory | EntryKind::File(_) => {
                Err(RestoreError::WrongCall { path: entry.path.clone() })
            }
        }
    }

    /// Makes an entry under its name, or beside what is there and then in its place, and puts its metadata on it.
    fn put(
        &self,
        folder: &OwnedFd,
        entry: &Entry,
        make: impl Fn(&[u8]) -> rustix::io::Result<()>,
    ) -> Result<Placed, RestoreError> {
        let is_device =
            matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. });
        let name = match self.make_somewhere(folder, entry, &make) {
            Ok(Some(name)) => name,
            Ok(None) => return Ok(Placed::Kept),
            Err(Made::Refused(error)) => return Err(error),
            Err(Made::Failed(Errno::PERM)) if is_device => {
                self.problems.add(&entry.path, Unset::Device, Errno::PERM);
                return Ok(Placed::Left);
            }
            Err(Made::Failed(error)) => {
                return Err(RestoreError::io(&entry.path, "make it", error));
            }
        };
        let current = name.as_deref().unwrap_or(entry.path.name());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(folder, current, flags, Mode::empty())
            .map_err(|error| RestoreError::io(&entry.path, "open what was just made", error))?;
        let is_link = matches!(entry.kind, EntryKind::Symlink(_));
        let wanted = Wanted::new(&entry.meta, &self.options, &self.names);
        wanted.apply(Opened::PathOnly(fd.as_fd()), is_link, &entry.path, &self.problems);
        self.put_in_place(folder, name.as_deref(), &entry.path)?;
        Ok(Placed::Done)
    }

    /// Gives the temporary name that the entry now has (the inner `None` if it already has its own), or `None` if what
    /// is there stays.
    fn make_somewhere(
        &self,
        folder: &OwnedFd,
        entry: &Entry,
        make: impl Fn(&[u8]) -> rustix::io::Result<()>,
    ) -> Result<Option<Option<Vec<u8>>>, Made> {
        match make(entry.path.name()) {
            Ok(()) => Ok(Some(None)),
            Err(Errno::EXIST) => match self.verdict(folder, entry).map_err(Made::Refused)? {
                Verdict::Keep => Ok(None),
                Verdict::Replace => {
                    let name = self.temporary_name();
                    make(&name).map_err(Made::Failed)?;
                    Ok(Some(Some(name)))
                }
            },
            Err(error) => Err(Made::Failed(error)),
        }
    }

    fn put_in_place(
        &self,
        folder: &OwnedFd,
        temporary: Option<&[u8]>,
        path: &TreePath,
    ) -> Result<(), RestoreError> {
        let Some(temporary) = temporary else { return Ok(()) };
        let moved = renameat(folder, temporary, folder, path.name());
        // Where both are names of one file already, a rename does nothing and leaves both; after a failure, one.
        let _ = unlinkat(folder, temporary, AtFlags::empty());
        moved.map_err(|error| RestoreError::io(path, "put it in place", error))
    }

    fn hard_link(
        &self,
        folder: &OwnedFd,
        entry: &Entry,
        first: &[u8],
    ) -> Result<Placed, RestoreError> {
        let fail = |error: Errno| RestoreError::LinkTarget {
            path: entry.path.clone(),
            target: first.escape_ascii().to_string(),
            error: error.into(),
        };
        // The name comes from storage: it must be a path below the target like any other.
        let first_path = TreePath::new(first).map_err(|_| fail(Errno::INVAL))?;
        let first_folder = self.folder_of(&first_path)?;
        // Without AT_SYMLINK_FOLLOW: should a link stand there, the link itself gets another name.
        let link =
            |name: &[u8]| linkat(&*first_folder, first_path.name(), folder, name, AtFlags::empty());
        match self.make_somewhere(folder, entry, link) {
            Ok(Some(temporary)) => {
                self.put_in_place(folder, temporary.as_deref(), &entry.path)?;
                Ok(Placed::Done)
            }
            Ok(None) => Ok(Placed::Kept),
            Err(Made::Refused(error)) => Err(error),
            Err(Made::Failed(error)) => Err(fail(error)),
        }
    }
}

/// Why nothing was made.
enum Made {
    /// By the policy.
    Refused(RestoreError),
    /// By the system.
    Failed(Errno),
}
