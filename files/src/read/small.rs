//! Small files whole: as few calls as can be.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::fstat;
use rustix::io::{Errno, read};

use super::{Changed, ReadError, changed, open};
use crate::walk::Walked;
use crate::{FileOpener, Stat, stat};

/// A small file that was read whole.
#[derive(Debug)]
pub struct SmallFile {
    fd: OwnedFd,
    /// What `stat` said when it was opened.
    pub stat: Stat,
    /// How it changed while it was read, if it did.
    pub changed: Option<Changed>,
}

impl SmallFile {
    /// Its descriptor, for [`crate::meta::MetaReader::read_open`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads a file that was walked, whole, to the end of `buffer`: open, `fstat`, read, `fstat`.
///
/// Gives `None`, and leaves `buffer` as it was, if the file has meanwhile grown beyond `size_max` bytes: it is one for
/// [`super::FileReader`] then. Holes are read as zeros.
///
/// # Errors
/// [`ReadError`] if it is gone, was replaced, or can't be read.
pub fn read_small(
    opener: &mut FileOpener,
    walked: &Walked,
    size_max: usize,
    buffer: &mut Vec<u8>,
) -> Result<Option<SmallFile>, ReadError> {
    let (fd, before) = open(walked, |path, flags| opener.open_quietly(path, flags))?;
    let Some(size) = usize::try_from(before.size).ok().filter(|&size| size <= size_max) else {
        return Ok(None);
    };
    let start = buffer.len();
    buffer.reserve(size);
    while buffer.len() - start < size {
        match read(&fd, spare_capacity(buffer)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                buffer.truncate(start);
                return Err(ReadError::of(&walked.path, error));
            }
        }
    }
    // The spare room may have been larger than the file was.
    buffer.truncate(start + size);
    let after = fstat(&fd).map_err(|error| ReadError::of(&walked.path, error))?;
    let changed = changed(&before, &stat::numbers(&after), (buffer.len() - start) as u64);
    Ok(Some(SmallFile { fd, stat: before, changed }))
}
