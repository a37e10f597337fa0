//! Getting what was restored to the disk while the rest is still being restored.
//!
//! The kernel begins to write back only once a tenth of the memory is dirty, so that a restore which waits for the disk
//! at its end would first do all of its work and then wait as long as the disk takes for all of it. Here the disk
//! begins after the first stretch, beside the work.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::syncfs;

/// After so many written bytes the disk is set to work, unless it still is.
const STRETCH: u64 = 64 << 20;

/// Writes back what was restored, on a thread of its own.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    written: AtomicU64,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    thread: Option<JoinHandle<rustix::io::Result<()>>>,
    /// The kernel tells each failure once; whoever hears of it early keeps it for the end.
    failed: Option<rustix::io::Errno>,
}

impl Running {
    /// Takes the outcome of the thread, for which it waits.
    fn settle(&mut self) {
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => self.failed = self.failed.or(Some(error)),
            Some(Err(_)) => self.failed = self.failed.or(Some(rustix::io::Errno::IO)),
        }
    }
}

impl Flusher {
    /// Is told that `bytes` more were written below `folder`.
    pub(super) fn wrote(&self, folder: &Arc<OwnedFd>, bytes: u64) {
        if self.written.fetch_add(bytes, Ordering::Relaxed) + bytes < STRETCH {
            return;
        }
        // Whoever finds it locked needn't wait: another thread is at this.
        let Ok(mut running) = self.running.try_lock() else { return };
        if running.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        running.settle();
        self.written.store(0, Ordering::Relaxed);
        let folder = Arc::clone(folder);
        let flush = move || syncfs(&*folder);
        // Where no thread can be had, the end does it all.
        running.thread = std::thread::Builder::new().name("flush".into()).spawn(flush).ok();
    }

    /// Waits until all is on the disk.
    ///
    /// # Errors
    /// What the disk failed with, now or before.
    pub(super) fn finish(&self, folder: &OwnedFd) -> rustix::io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.settle();
        let last = syncfs(folder);
        running.failed.take().map_or(last, Err)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn folder() -> (tempfile::TempDir, Arc<OwnedFd>) {
        let temp = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(temp.path()).unwrap().into();
        (temp, Arc::new(fd))
    }

    #[test]
    fn the_disk_is_set_to_work_after_a_stretch_and_not_before() {
        let (_temp, fd) = folder();
        let flusher = Flusher::default();
        flusher.wrote(&fd, STRETCH - 1);
        assert!(flusher.running.lock().unwrap().thread.is_none());
        flusher.wrote(&fd, 1);
        assert!(flusher.running.lock().unwrap().thread.is_some());
        flusher.finish(&fd).unwrap();
    }

    #[test]
    fn a_failure_that_was_heard_early_is_told_at_the_end() {
        let (_temp, fd) = folder();
        let flusher = Flusher::default();
        flusher.running.lock().unwrap().thread = Some(std::thread::spawn(|| Err(Errno::IO)));
        while !flusher.running.lock().unwrap().thread.as_ref().unwrap().is_finished() {}
        // A later one that goes well doesn't make it forgotten.
        flusher.wrote(&fd, STRETCH);
        assert_eq!(flusher.finish(&fd), Err(Errno::IO));
        assert_eq!(flusher.finish(&fd), Ok(()));
    }
}
