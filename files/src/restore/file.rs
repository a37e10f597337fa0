//! Writing one file: made under its own name where nothing stands, beside it and renamed where something does.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keephold_vault::content::Content;
use keephold_vault::tree::{Entry, EntryKind, TreePath};
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, openat, renameat, unlinkat};
use rustix::io::{Errno, pwrite};

use super::apply::Wanted;
use super::{Inner, RestoreError, Verdict};
use crate::meta::xattrs::Opened;

/// What became of the wish to create a file.
#[derive(Debug)]
pub enum Created {
    /// It takes data now.
    Sink(FileSink),
    /// What was there stays, as the policy wants.
    Kept,
}

/// A file being restored. Several threads may write to it at once.
///
/// Dropped before [`Self::finish`], it takes away what was written: half a file must not look like a whole one.
#[derive(Debug)]
pub struct FileSink {
    inner: Arc<Inner>,
    folder: Arc<OwnedFd>,
    fd: OwnedFd,
    path: TreePath,
    /// Its name for the time being, where it replaces another file.
    temporary: Option<Vec<u8>>,
    wanted: Wanted,
    size: u64,
    /// The end of the data written so far.
    reached: AtomicU64,
    finished: bool,
}

pub(super) fn create(inner: &Arc<Inner>, entry: &Entry) -> Result<Created, RestoreError> {
    let EntryKind::File(Content { size, .. }) = entry.kind else {
        return Err(RestoreError::WrongCall { path: entry.path.clone() });
    };
    let folder = inner.folder_of(&entry.path)?;
    let open = |name: &[u8]| {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&*folder, name, flags, Mode::RUSR | Mode::WUSR)
    };
    let failed = |error| RestoreError::io(&entry.path, "create the file", error);
    let (fd, temporary) = match open(entry.path.name()) {
        Ok(fd) => (fd, None),
        Err(Errno::EXIST) => match inner.verdict(&folder, entry)? {
            Verdict::Keep => return Ok(Created::Kept),
            Verdict::Replace => {
                let name = inner.temporary_name();
                (open(&name).map_err(failed)?, Some(name))
            }
        },
        Err(error) => return Err(failed(error)),
    };
    Ok(Created::Sink(FileSink {
        inner: Arc::clone(inner),
        folder,
        fd,
        path: entry.path.clone(),
        temporary,
        wanted: Wanted::new(&entry.meta, &inner.options, &inner.names),
        size,
        reached: AtomicU64::new(0),
        finished: false,
    }))
}

impl FileSink {
    /// Writes `bytes` at `offset`. What is never written to stays a hole.
    ///
    /// # Errors
    /// [`RestoreError`] if it would go beyond the file's size, or the system fails to write.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= self.size);
        let Some(end) = end else {
            return Err(RestoreError::BeyondEnd { path: self.path.clone(), size: self.size });
        };
        let mut written = 0;
        while written < bytes.len() {
            match pwrite(&self.fd, &bytes[written..], offset + written as u64) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(RestoreError::io(&self.path, "write to it", error)),
            }
        }
        self.reached.fetch_max(end, Ordering::Relaxed);
        if self.inner.options.sync {
            self.inner.flusher.wrote(&self.inner.fd, bytes.len() as u64);
        }
        Ok(())
    }

    /// Gives the file its length, metadata and name.
    ///
    /// # Errors
    /// [`RestoreError`] if its length or name can't be given. Metadata that can't be set is told as a problem.
    pub fn finish(mut self) -> Result<(), RestoreError> {
        if self.reached.load(Ordering::Relaxed) < self.size {
            ftruncate(&self.fd, self.size)
                .map_err(|error| RestoreError::io(&self.path, "set its length", error))?;
        }
        self.wanted.apply(Opened::Fully(self.fd.as_fd()), false, &self.path, &self.inner.problems);
        if let Some(temporary) = &self.temporary {
            renameat(&*self.folder, temporary.as_slice(), &*self.folder, self.path.name())
                .map_err(|error| RestoreError::io(&self.path, "put it in place", error))?;
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if !self.finished {
            let name = self.temporary.as_deref().unwrap_or(self.path.name());
            // Whoever drops it unfinished already has an error to tell.
            let _ = unlinkat(&*self.folder, name, AtFlags::empty());
        }
    }
}
