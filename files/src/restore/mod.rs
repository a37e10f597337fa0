//! Restoring a tree below one directory and nowhere else, whatever the entries say.
//!
//! Each entry's folder is resolved by the kernel below the target, every symbolic link refused ([`crate::Base`] says
//! how); within that folder only single names are used, which are never followed. So neither a snapshot that holds a link
//! and then entries "below" it, nor a link planted in the target, can make a restore write elsewhere.
//!
//! All calls take `&self` and may come from several threads. A folder's metadata is set at the end, by [`Target::finish`].

mod apply;
mod file;
mod flush;
mod folders;
mod nodes;
mod problems;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keephold_vault::tree::{Entry, EntryKind, FileTime, TreePath};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;

pub use file::{Created, FileSink};
pub use problems::{Problems, RestoreProblem, Unset};

use crate::meta::Names;
use crate::{Kind, stat};

/// What to do where something already stands under an entry's name. Folders are always entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse the entry, by name.
    #[default]
    Refuse,
    /// Replace it, by a rename once the new one is whole.
    Overwrite,
    /// Leave it.
    Skip,
    /// Leave it if it was changed at the same time as the entry or later, else replace it.
    KeepNewer,
}

/// How owners are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// By name where this host knows it, else by number.
    #[default]
    ByName,
    /// By number.
    ByNumber,
    /// Not at all: all belongs to whoever restores. Set-id bits are left out then.
    Ignored,
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to do with what is already there.
    pub existing: Existing,
    /// How owners are restored.
    pub owners: Owners,
    /// Whether extended attributes, ACLs and capabilities are restored.
    pub xattrs: bool,
    /// Whether [`Target::finish`] waits until all is on the disk, which is set to work early on. It then waits for
    /// whatever else is being written to that file system too; a test restore that is thrown away does without.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { existing: Existing::default(), owners: Owners::default(), xattrs: true, sync: true }
    }
}

/// Why an entry could not be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The target directory can't be made or opened.
    #[error("'{}' can't be used as the directory to restore to: {error}", dir.display())]
    Target {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What was written may not be on the disk.
    #[error("what was restored to '{}' could not be written to its disk: {error}; restore it again", dir.display())]
    Sync {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something stands there already.
    #[error(
        "'{path}' is already there; restore to another directory, or choose to overwrite, skip or keep newer"
    )]
    Exists {
        /// The entry.
        path: TreePath,
    },
    /// A folder stands where something else is to go, or the other way round.
    #[error("'{path}' is already there and is a {}; move it away first", found.word())]
    KindDiffers {
        /// The entry.
        path: TreePath,
        /// What stands there.
        found: Kind,
    },
    /// A folder on the way is a symbolic link or no folder.
    #[error(
        "'{path}' is no true directory (it or a folder above it is a symbolic link or a file), so nothing is written \
         through it; move it away first"
    )]
    NotBelow {
        /// The folder.
        path: TreePath,
    },
    /// A hard link whose first name isn't there.
    #[error(
        "'{path}' is a further name of '{target}', which can't be linked to: {error}; restore that as well"
    )]
    LinkTarget {
        /// The entry.
        path: TreePath,
        /// The first name, for display.
        target: String,
        /// What the system said.
        error: io::Error,
    },
    /// More data than the entry says; the snapshot contradicts itself.
    #[error("'{path}' should hold {size} bytes, but more come; verify the snapshot")]
    BeyondEnd {
        /// The entry.
        path: TreePath,
        /// Its size in bytes.
        size: u64,
    },
    /// A call for another kind of entry.
    #[error("'{path}' was given to the wrong call for its kind; please report this")]
    WrongCall {
        /// The entry.
        path: TreePath,
    },
    /// The system fails.
    #[error("'{path}': can't {action}: {error}")]
    Io {
        /// The entry.
        path: TreePath,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl RestoreError {
    fn io(path: &TreePath, action: &'static str, error: Errno) -> Self {
        Self::Io { path: path.clone(), action, error: error.into() }
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was made, or will be finished with the folders.
    Done,
    /// What was there stays, as the policy wants.
    Kept,
    /// It can't be made here; a problem says why.
    Left,
}

/// Whether what is there gives way.
enum Verdict {
    Keep,
    Replace,
}

/// A directory that a tree is restored to.
#[derive(Debug, Clone)]
pub struct Target {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    fd: Arc<OwnedFd>,
    options: Options,
    names: Names,
    folders: folders::Folders,
    flusher: flush::Flusher,
    problems: problems::Collector,
    temporary: AtomicU64,
}

impl Target {
    /// Opens `dir`, making it if it is missing. Links on the way to it are followed: it is the caller's choice.
    ///
    /// # Errors
    /// [`RestoreError::Target`] if it can't be made or opened.
    pub fn create(dir: &Path, options: Options) -> Result<Self, RestoreError> {
        let failed = |error| RestoreError::Target { dir: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(failed)?;
        // Not O_PATH: syncfs wants it fully open.
        let fd =
            openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| failed(error.into()))?;
        let inner = Inner {
            dir: dir.to_owned(),
            fd: Arc::new(fd),
            options,
            names: Names::of_host(),
            folders: folders::Folders::default(),
            flusher: flush::Flusher::default(),
            problems: problems::Collector::default(),
            temporary: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a folder, open to its owner alone until [`Self::finish`].
    ///
    /// # Errors
    /// [`RestoreError`], as for every entry.
    pub fn dir(&self, entry: &Entry) -> Result<Placed, RestoreError> {
        match entry.kind {
            EntryKind::Directory => self.inner.make_dir(entry),
            _ => Err(RestoreError::WrongCall { path: entry.path.clone() }),
        }
    }

    /// Begins a file, readable to its owner alone until it is finished.
    ///
    /// # Errors
    /// [`RestoreError`], as for every entry.
    pub fn create_file(&self, entry: &Entry) -> Result<Created, RestoreError> {
        file::create(&self.inner, entry)
    }

    /// Makes any entry but a file: folder, symbolic or hard link, device, pipe. A hard link's first name must have
    /// been finished before. A socket is left out, with a problem.
    ///
    /// # Errors
    /// [`RestoreError`], as for every entry.
    pub fn place(&self, entry: &Entry) -> Result<Placed, RestoreError> {
        match &entry.kind {
            EntryKind::Directory => self.inner.make_dir(entry),
            EntryKind::File(_) => Err(RestoreError::WrongCall { path: entry.path.clone() }),
            _ => self.inner.make_node(entry),
        }
    }

    /// Puts on all folders their metadata, the deepest first.
    ///
    /// # Errors
    /// [`RestoreError`] if a folder has gone or was replaced meanwhile.
    pub fn finish_dirs(&self) -> Result<(), RestoreError> {
        self.inner.finish_dirs()
    }

    /// Ends the restore: folders' metadata, then, if wanted, everything to the disk in one go, then the problems met.
    ///
    /// # Errors
    /// [`RestoreError`] if a folder was replaced meanwhile or the disk fails.
    pub fn finish(&self) -> Result<Problems, RestoreError> {
        self.inner.finish_dirs()?;
        if self.inner.options.sync {
            self.inner.flusher.finish(&self.inner.fd).map_err(|error| RestoreError::Sync {
                dir: self.inner.dir.clone(),
                error: error.into(),
            })?;
        }
        Ok(self.inner.problems.take())
    }

    /// Takes the problems met so far.
    pub fn take_problems(&self) -> Problems {
        self.inner.problems.take()
    }
}

impl Inner {
    /// Decides about an entry whose name is taken.
    fn verdict(&self, folder: &OwnedFd, entry: &Entry) -> Result<Verdict, RestoreError> {
        let raw = statat(folder.as_fd(), entry.path.name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| RestoreError::io(&entry.path, "look at what is there", error))?;
        let found = stat::from_raw(&raw);
        match found {
            Some((Kind::Directory, _)) => {
                Err(RestoreError::KindDiffers { path: entry.path.clone(), found: Kind::Directory })
            }
            _ => match self.options.existing {
                Existing::Refuse => Err(RestoreError::Exists { path: entry.path.clone() }),
                Existing::Skip => Ok(Verdict::Keep),
                Existing::Overwrite => Ok(Verdict::Replace),
                Existing::KeepNewer => {
                    let oldest = FileTime { seconds: i64::MIN, nanos: 0 };
                    let there = found.map_or(oldest, |(_, stat)| stat.mtime);
                    Ok(if there >= entry.meta.mtime { Verdict::Keep } else { Verdict::Replace })
                }
            },
        }
    }

    /// A name that no entry has, for what will be renamed.
    fn temporary_name(&self) -> Vec<u8> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        format!(".keephold-{}-{number}.tmp", std::process::id()).into_bytes()
    }
}
