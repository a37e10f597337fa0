//! Opening paths below a directory, never through a symbolic link.
//!
//! A tree that is walked, read or restored may be changed by others at the same time. A path is therefore resolved by
//! the kernel below one directory's descriptor, with every symbolic link refused: swapping a folder for a link can make
//! an entry vanish, but can't lead anywhere else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Longest stretch of a path given to the kernel at once (its `PATH_MAX` is 4,096 with the closing NUL).
const STRETCH_MAX: usize = 4000;

/// Set once the kernel (before 5.6) or a seccomp filter has said that it knows no `openat2`.
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

/// The directory that tree paths are relative to: `/` for the host, a folder for a restored tree.
#[derive(Debug, Clone)]
pub struct Base {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Base {
    /// The host's own file system, from `/`.
    ///
    /// # Errors
    /// The system's, if `/` can't be opened.
    pub fn host() -> io::Result<Self> {
        Self::open(Path::new("/"))
    }

    /// A directory; symbolic links on the way to it are followed.
    ///
    /// # Errors
    /// The system's, if it can't be opened or is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// Where it stood when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the host's `/`.
    pub(crate) fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens `path` below here; the empty path is the base itself.
    pub(crate) fn open_at(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open(self.fd(), path, flags)
    }

    /// As [`Self::open_at`], and where permitted without touching the access time: a backup isn't a use.
    pub(crate) fn open_quietly(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        quietly(flags, |flags| self.open_at(path, flags))
    }
}

fn quietly(
    flags: OFlags,
    open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    match open(flags | OFlags::NOATIME) {
        // Only a file's owner may.
        Err(Errno::PERM) => open(flags),
        other => other,
    }
}

/// Opens the files of a walk, one after the other. While they lie in the same folder, that is found once, and each path is
/// one component for the kernel instead of all of them.
#[derive(Debug)]
pub struct FileOpener {
    base: Base,
    /// The folder of the last file, open if it was also that of the one before.
    last: Vec<u8>,
    folder: Option<OwnedFd>,
}

impl FileOpener {
    /// Nothing is opened yet.
    pub fn new(base: Base) -> Self {
        Self { base, last: Vec::new(), folder: None }
    }

    /// As [`Base::open_quietly`].
    pub(crate) fn open_quietly(
        &mut self,
        path: &[u8],
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let slash = path.iter().rposition(|&byte| byte == b'/');
        let Some((folder, name)) = slash.map(|at| (&path[..at], &path[at + 1..])) else {
            return self.base.open_quietly(path, flags);
        };
        if folder != self.last {
            self.folder = None;
            self.last.clear();
            self.last.extend_from_slice(folder);
            return self.base.open_quietly(path, flags);
        }
        if self.folder.is_none() {
            self.folder = Some(self.base.open_at(folder, OFlags::PATH | OFlags::DIRECTORY)?);
        }
        let folder = self.folder.as_ref().map_or(self.base.fd(), AsFd::as_fd);
        quietly(flags, |flags| open(folder, name, flags))
    }
}

/// Opens what stands at `path` below `base`, refusing every symbolic link, the last component's too.
///
/// With `O_PATH` the last component may itself be a link, which is then opened and not followed.
pub(crate) fn open(
    base: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.len() <= STRETCH_MAX {
        return open_stretch(base, path, flags);
    }
    // Longer than the kernel takes: go down in stretches, each ending at a component's end.
    let mut rest = path;
    let mut here: Option<OwnedFd> = None;
    while rest.len() > STRETCH_MAX {
        let Some(slash) = rest[..=STRETCH_MAX].iter().rposition(|&b| b == b'/') else {
            return Err(Errno::NAMETOOLONG);
        };
        let at = here.as_ref().map_or(base, AsFd::as_fd);
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = open_stretch(at, &rest[..slash], folder)?;
        here = Some(next);
        rest = &rest[slash + 1..];
    }
    open_stretch(here.as_ref().map_or(base, AsFd::as_fd), rest, flags)
}

fn open_stretch(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    if OPENAT2_MISSING.load(Ordering::Relaxed) {
        return open_by_component(base, path, flags);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(base, path, flags, Mode::empty(), resolve) {
            // A rename elsewhere raced with the resolution; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS) => {
                OPENAT2_MISSING.store(true, Ordering::Relaxed);
                return open_by_component(base, path, flags);
            }
            // Some seccomp filters answer so to calls that they don't know; O_NOATIME has it as an honest answer.
            Err(Errno::PERM) if !flags.contains(OFlags::NOATIME) => {
                return open_by_component(base, path, flags);
            }
            other => return other,
        }
    }
}

/// The same promise without `openat2`: one component at a time, each opened as a directory that is no link.
fn open_by_component(
    base: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut here: Option<OwnedFd> = None;
    let mut parts = path.split(|&b| b == b'/').peekable();
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        let at = here.as_ref().map_or(base, AsFd::as_fd);
        if parts.peek().is_none() {
            return openat(at, part, flags, Mode::empty());
        }
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(at, part, folder, Mode::empty())?;
        here = Some(next);
    }
    Err(Errno::NOENT)
}

/// The path of an open descriptor under `/proc`: calls that know no descriptor (or none opened with `O_PATH`) act on
/// that very object through it, also on a symbolic link itself.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_refused_with_and_without_openat2() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("real/deep")).unwrap();
        std::fs::write(temp.path().join("real/deep/file"), b"x").unwrap();
        symlink("real", temp.path().join("link")).unwrap();
        symlink("deep/file", temp.path().join("real/leaf")).unwrap();
        let base = Base::open(temp.path()).unwrap();
        type Open = fn(BorrowedFd<'_>, &[u8], OFlags) -> rustix::io::Result<OwnedFd>;
        let tries: [Open; 2] =
            [open, |fd, path, flags| open_by_component(fd, path, flags | OFlags::NOFOLLOW)];
        for open in tries {
            assert!(open(base.fd(), b"real/deep/file", OFlags::RDONLY).is_ok());
            assert!(open(base.fd(), b"link/deep/file", OFlags::RDONLY).is_err());
            assert!(open(base.fd(), b"real/leaf", OFlags::RDONLY).is_err());
            assert!(open(base.fd(), b"real/leaf", OFlags::PATH).is_ok());
            assert!(open(base.fd(), b"../x", OFlags::RDONLY).is_err());
        }
    }

    #[test]
    fn neighbours_are_found_by_their_folder_and_links_are_refused_there_too() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        std::fs::create_dir_all(at("deep/folder")).unwrap();
        std::fs::create_dir(at("other")).unwrap();
        for path in ["top", "deep/folder/a", "deep/folder/b", "deep/folder/c", "other/a"] {
            std::fs::write(at(path), path).unwrap();
        }
        symlink("a", at("deep/folder/link")).unwrap();
        let mut opener = FileOpener::new(Base::open(temp.path()).unwrap());
        let mut read = |path: &str| {
            let file = std::fs::File::from(opener.open_quietly(path.as_bytes(), OFlags::RDONLY)?);
            Ok::<_, Errno>(io::read_to_string(file).unwrap())
        };
        for path in
            ["deep/folder/a", "deep/folder/b", "deep/folder/c", "other/a", "deep/folder/a", "top"]
        {
            assert_eq!(read(path).unwrap(), path);
        }
        assert_eq!(read("deep/folder/a").unwrap(), "deep/folder/a");
        assert_eq!(read("deep/folder/gone"), Err(Errno::NOENT));
        assert_eq!(read("deep/folder/link"), Err(Errno::LOOP));
        // A folder that was found is that folder, whatever has taken its name.
        std::fs::rename(at("deep/folder"), at("deep/moved")).unwrap();
        symlink("../other", at("deep/folder")).unwrap();
        assert_eq!(read("deep/folder/b").unwrap(), "deep/folder/b");
        assert_eq!(read("other/a").unwrap(), "other/a");
        assert!(read("deep/folder/a").is_err(), "found anew, it is a link");
    }
}
