//! The vault's folder: opened once, and walked from there component by component without following a link.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attribute;
use crate::store::buffers::Buffers;
use crate::store::{ObjectKey, StoreError};

/// Where objects are written before they get their names.
pub(super) const TMP: &str = ".tmp";

/// Temporary files older than this belong to no write that is still going on.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    url: String,
    buffers: Buffers,
}

impl Root {
    /// Opens it; the path itself may lead over links, as an operator sets it up.
    pub(super) fn open(path: &Path, url: String) -> Result<Self, StoreError> {
        match fs::open(path, DIR_FLAGS, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, url, buffers: Buffers::default() }),
            Err(Errno::NOENT) => Err(StoreError::NoTarget { target: url }),
            Err(Errno::NOTDIR) => {
                Err(StoreError::Config { detail: format!("{url} is not a folder") })
            }
            Err(e) => Err(error(&url, "open", &url, e)),
        }
    }

    /// Makes it, with the folders above, each made durable in its parent.
    pub(super) fn create(path: &Path) -> Result<(), StoreError> {
        let shown = path.display().to_string();
        let failed = |e: std::io::Error| error(&shown, "create", &shown, errno(&e));
        let missing: Vec<&Path> =
            path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        for dir in missing.into_iter().rev() {
            match std::fs::create_dir(dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e)),
            }
            if let Some(parent) = dir.parent() {
                std::fs::File::open(parent).and_then(|f| f.sync_all()).map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is still there, and not deleted beneath us.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match fs::fstat(&self.fd) {
            Ok(stat) if stat.st_nlink > 0 => Ok(()),
            Ok(_) => Err(StoreError::NoTarget { target: self.url.clone() }),
            Err(e) => Err(self.error("open", &self.url, e)),
        }
    }

    /// The error for what the system refused.
    pub(super) fn error(&self, action: &str, what: &str, e: Errno) -> StoreError {
        error(&self.url, action, what, e)
    }

    /// Opens the folder of that path below the root (empty: the root itself).
    pub(super) fn dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.walk(path, false)
    }

    /// The same, making what is missing, durably.
    pub(super) fn make_dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.walk(path, true)
    }

    fn walk(&self, path: &str, make: bool) -> Result<OwnedFd, Errno> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let next = match fs::openat(&at, part, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    match fs::mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
                        Ok(()) => fs::fsync(&at)?,
                        Err(Errno::EXIST) => {}
                        Err(e) => return Err(e),
                    }
                    fs::openat(&at, part, DIR_FLAGS | OFlags::NOFOLLOW, Mode::empty())?
                }
                other => other?,
            };
            at = next;
        }
        Ok(at)
    }

    /// Opens an object, or anything else at that path, for reading; only a plain file will do.
    pub(super) fn open_file(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (dir, name) = split(path);
        let dir = self.dir(dir)?;
        // Without NONBLOCK a fifo in an object's place would keep us here.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = fs::openat(&dir, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(Errno::INVAL),
        }
    }

    fn open_object(&self, key: &ObjectKey) -> Result<(OwnedFd, u64), StoreError> {
        let file = self.open_file(key.as_str()).map_err(|e| self.error("read", key.as_str(), e))?;
        let stat = fs::fstat(&file).map_err(|e| self.error("read", key.as_str(), e))?;
        Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Reads a whole object.
    pub(super) fn read(&self, key: &ObjectKey, max: u64) -> Result<Bytes, StoreError> {
        let (file, size) = self.open_object(key)?;
        if size > max {
            return Err(StoreError::TooLarge { what: key.to_string(), size, max });
        }
        self.read_at(&file, key, 0..size)
    }

    /// Reads a range of an object.
    pub(super) fn read_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let (file, size) = self.open_object(key)?;
        if range.end > size {
            let wanted = range.end.saturating_sub(range.start);
            return Err(StoreError::Truncated { what: key.to_string(), wanted });
        }
        self.read_at(&file, key, range)
    }

    fn read_at(
        &self,
        file: &OwnedFd,
        key: &ObjectKey,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let truncated = || StoreError::Truncated { what: key.to_string(), wanted };
        let len = usize::try_from(wanted).map_err(|_| truncated())?;
        let mut buffer = self.buffers.lend(len);
        let mut done = 0;
        while done < len {
            let rest = &mut buffer.as_mut()[done..];
            match rustix::io::pread(file, rest, range.start + done as u64) {
                Ok(0) => return Err(truncated()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.error("read", key.as_str(), e)),
            }
        }
        Ok(buffer.freeze(len))
    }

    /// Makes a temporary file: its folder, its name, and itself, open for writing.
    pub(super) fn temporary(&self) -> Result<(OwnedFd, String, OwnedFd), Errno> {
        let dir = self.make_dir(TMP)?;
        let name = format!("{:032x}", rand::random::<u128>());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&dir, &*name, flags, Mode::from_raw_mode(0o444))?;
        Ok((dir, name, file))
    }

    /// Finds out whether files can be made immutable, with a file that is gone again afterwards.
    pub(super) fn probe_immutable(&self) -> Result<Result<(), String>, StoreError> {
        let failed = |e| self.error("write to", TMP, e);
        let (dir, name, file) = self.temporary().map_err(failed)?;
        let set = attribute::set(&file, true);
        let kept = set.is_ok() && attribute::get(&file);
        let cleared = attribute::set(&file, false);
        fs::unlinkat(&dir, &*name, AtFlags::empty()).map_err(failed)?;
        Ok(match (set, cleared) {
            (Err(e), _) => Err(attribute::why(e)),
            (Ok(()), Err(e)) => Err(attribute::why(e)),
            (Ok(()), Ok(())) if kept => Ok(()),
            (Ok(()), Ok(())) => {
                Err("the file system takes the attribute, but doesn't keep it".into())
            }
        })
    }

    /// Removes temporary files that no write uses any more. Failing at it is nobody's concern.
    pub(super) fn remove_leftovers(&self) {
        let Ok(dir) = self.dir(TMP) else { return };
        let Ok(entries) = fs::Dir::read_from(&dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Ok(stat) = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let old = written.elapsed().is_ok_and(|age| age > LEFTOVER_AGE);
            if !old || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            // A probe that was cut off may have left one that is immutable.
            if let Ok(file) = fs::openat(
                &dir,
                name,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                let _ = attribute::set(file.as_fd(), false);
            }
            let _ = fs::unlinkat(&dir, name, AtFlags::empty());
        }
    }
}

/// A path's folder and its last component.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

fn error(url: &str, action: &str, what: &str, e: Errno) -> StoreError {
    let target = url.to_owned();
    match e {
        Errno::NOENT => StoreError::NotFound { what: what.to_owned(), target },
        Errno::NOSPC | Errno::DQUOT => StoreError::Full { target, detail: e.to_string() },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            StoreError::Denied { target, action: format!("{action} {what}"), detail: e.to_string() }
        }
        Errno::LOOP | Errno::NOTDIR | Errno::INVAL => StoreError::Other {
            target,
            action: format!("{action} {what}"),
            detail: format!(
                "a link, or something else that is no plain file or folder, lies in its place ({e})"
            ),
        },
        _ => {
            StoreError::Other { target, action: format!("{action} {what}"), detail: e.to_string() }
        }
    }
}
