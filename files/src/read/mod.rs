//! Reading files for a backup, also while others write them.
//!
//! What is opened is the very inode that was walked. At most the size at opening is read, and the file is looked at
//! again afterwards: one that changed meanwhile is kept as it was read, and said to have changed.

mod small;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keephold_vault::tree::TreePath;
use rustix::fs::{Advice, OFlags, SeekFrom, fadvise, fstat, seek};
use rustix::io::{Errno, pread};

pub use small::{SmallFile, read_small};

use crate::walk::Walked;
use crate::{Base, Stat, stat};

/// From which size on the kernel is told that a file will be read from end to end.
const ADVISE_MIN: u64 = 256 * 1024;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is gone, or another file stands under its name.
    #[error(
        "/{path}: it vanished between being listed and being read; the next run takes what is there then"
    )]
    Vanished {
        /// The file.
        path: TreePath,
    },
    /// The system doesn't let it be opened or read.
    #[error("/{path}: it can't be read: {error}{}", hint(.error))]
    Unreadable {
        /// The file.
        path: TreePath,
        /// What the system said.
        error: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root or with CAP_DAC_READ_SEARCH",
        _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => "; its disk may be failing",
        _ => "",
    }
}

impl ReadError {
    fn of(path: &TreePath, error: Errno) -> Self {
        let path = path.clone();
        match error {
            // ELOOP and ENOTDIR: a component has become a link or a file meanwhile.
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::STALE => Self::Vanished { path },
            error => Self::Unreadable { path, error: error.into() },
        }
    }
}

/// How a file changed while it was read: what was read may be a mixture of two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// What `stat` said when it was opened.
    pub before: Stat,
    /// What it said afterwards.
    pub after: Stat,
    /// How many bytes were read, holes included.
    pub read: u64,
}

/// Says whether a file is still what it was. Nothing but a write moves all of these back.
fn changed(before: &Stat, after: &Stat, read: u64) -> Option<Changed> {
    let same = before.size == after.size
        && before.mtime == after.mtime
        && before.ctime == after.ctime
        && read == before.size;
    (!same).then_some(Changed { before: *before, after: *after, read })
}

/// The next piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes were put at the start of the buffer, at least one.
    Data(usize),
    /// So many bytes are a hole: zeros that take no space.
    Hole(u64),
    /// That was all.
    End,
}

/// A file that is being read from end to end.
#[derive(Debug)]
pub struct FileReader {
    fd: OwnedFd,
    path: TreePath,
    before: Stat,
    /// Where reading is.
    offset: u64,
    /// Up to where data is known to stand; looked up anew from there.
    data_until: u64,
    sparse: bool,
}

impl FileReader {
    /// Opens a file that was walked, without following links and, where permitted, without touching its access time.
    ///
    /// # Errors
    /// [`ReadError`] if it is gone, was replaced, or can't be opened.
    pub fn open(base: &Base, walked: &Walked) -> Result<Self, ReadError> {
        let (fd, before) = open(walked, |path, flags| base.open_quietly(path, flags))?;
        if before.size >= ADVISE_MIN {
            // A hint: that it isn't taken does no harm.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        let sparse = before.may_have_holes();
        let data_until = if sparse { 0 } else { before.size };
        Ok(Self { fd, path: walked.path.clone(), before, offset: 0, data_until, sparse })
    }

    /// What `stat` said when it was opened.
    pub fn stat(&self) -> &Stat {
        &self.before
    }

    /// Its descriptor, for [`crate::meta::MetaReader::read_open`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads on: fills `buffer`, up to the next hole or the end.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`] if the system fails to read.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ReadError> {
        let size = self.before.size;
        if self.offset >= size || buffer.is_empty() {
            return Ok(Piece::End);
        }
        if self.offset >= self.data_until
            && let Some(hole) = self.find_data()?
        {
            self.offset += hole;
            return Ok(Piece::Hole(hole));
        }
        let left = usize::try_from(self.data_until - self.offset).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            match pread(&self.fd, &mut buffer[filled..wanted], self.offset + filled as u64) {
                // Cut short meanwhile. What is missing shows in `finish`.
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(ReadError::of(&self.path, error)),
            }
        }
        self.offset += filled as u64;
        if filled == 0 { Ok(Piece::End) } else { Ok(Piece::Data(filled)) }
    }

    /// Finds the data at or behind the offset. Gives the length of the hole before it, if any.
    fn find_data(&mut self) -> Result<Option<u64>, ReadError> {
        let size = self.before.size;
        let found =
            if self.sparse { seek(&self.fd, SeekFrom::Data(self.offset)) } else { Ok(self.offset) };
        let data = match found {
            Ok(data) => data.min(size),
            // No data up to the end: true of a hole there, and of a file cut short meanwhile, which must not be
            // filled up with zeros that were never in it.
            Err(Errno::NXIO) => {
                let now = fstat(&self.fd).map_err(|error| ReadError::of(&self.path, error))?;
                stat::numbers(&now).size.clamp(self.offset, size)
            }
            // A file system that knows no holes.
            Err(_) => {
                self.sparse = false;
                self.data_until = size;
                return Ok(None);
            }
        };
        self.data_until = match seek(&self.fd, SeekFrom::Hole(data)) {
            Ok(hole) => hole.clamp(data, size),
            Err(Errno::NXIO) => data,
            Err(_) => size,
        };
        if data == self.offset && self.data_until == data {
            // Cut short right here: let the read find its end.
            self.data_until = size;
        }
        Ok((data > self.offset).then(|| data - self.offset))
    }

    /// Looks at the file once more: says if, and how, it changed while it was read.
    ///
    /// # Errors
    /// [`ReadError`] if the system can't tell.
    pub fn finish(self) -> Result<Option<Changed>, ReadError> {
        let after = fstat(&self.fd).map_err(|error| ReadError::of(&self.path, error))?;
        Ok(changed(&self.before, &stat::numbers(&after), self.offset))
    }
}

/// Opens the very file that was walked.
fn open(
    walked: &Walked,
    open: impl FnOnce(&[u8], OFlags) -> rustix::io::Result<OwnedFd>,
) -> Result<(OwnedFd, Stat), ReadError> {
    // NONBLOCK: should a pipe stand there by now, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd =
        open(walked.path.as_bytes(), flags).map_err(|error| ReadError::of(&walked.path, error))?;
    let raw = fstat(&fd).map_err(|error| ReadError::of(&walked.path, error))?;
    match stat::from_raw(&raw) {
        Some((kind, now))
            if kind == walked.kind
                && (now.inode, now.device) == (walked.stat.inode, walked.stat.device) =>
        {
            Ok((fd, now))
        }
        _ => Err(ReadError::Vanished { path: walked.path.clone() }),
    }
}
