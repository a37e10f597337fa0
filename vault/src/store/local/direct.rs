//! Writing past the page cache.
//!
//! Nothing reads packs soon, while each that the page cache kept would drive out something that this host's programs need. And
//! filling its pages takes longer than anything else that the kernel does for a backup, most of all on a virtual machine
//! whose host takes free memory back. So the disk takes packs from our own memory, where the file system says how.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{self, Advice, AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

/// What is shorter goes through the page cache, as everything does where a file system takes nothing past it.
const DIRECT_MIN: usize = 1 << 20;
/// How much is written at once. Each lies at a place in memory that the disk can read from, so it's copied there; this much
/// stays in a processor's cache meanwhile.
const PIECE_LEN: usize = 1 << 20;
/// No file system asks for more than a page; what would is not understood.
const ALIGN_MAX: usize = 64 << 10;

/// Room for pieces, one for each write that goes on, kept for the next.
#[derive(Debug, Default)]
pub(super) struct Pieces(Mutex<Vec<Vec<u8>>>);

/// What a file system asks of direct writes, in bytes.
#[derive(Debug, Clone, Copy)]
struct Align {
    memory: usize,
    offset: usize,
}

impl Align {
    /// Statx(2) says it since Linux 6.1, for local file systems: over a network, each direct write would wait for the server's
    /// disk.
    fn of(file: &OwnedFd) -> Option<Self> {
        let stat = fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN);
        let sound = |n: u32| {
            usize::try_from(n).ok().filter(|n| n.is_power_of_two() && *n <= ALIGN_MAX && known)
        };
        Some(Self {
            memory: sound(stat.stx_dio_mem_align)?,
            offset: sound(stat.stx_dio_offset_align)?,
        })
    }
}

/// Writes a whole file that is open for it and empty, and makes it durable.
pub(super) fn write_durably(file: &OwnedFd, body: &[u8], pieces: &Pieces) -> Result<(), Errno> {
    let long = body.len() >= DIRECT_MIN;
    let align = long.then(|| Align::of(file)).flatten();
    let done = align.map_or(Ok(0), |align| pieces.write(file, body, align))?;
    write_all(file, body.get(done..).unwrap_or_default())?;
    fs::fsync(file)?;
    if long {
        // Of what went through it after all. A hint: that it isn't taken does no harm.
        let _ = fs::fadvise(file, 0, None, Advice::DontNeed);
    }
    Ok(())
}

impl Pieces {
    /// Writes as much of the beginning as can be written directly, and answers how much that was.
    fn write(&self, file: &OwnedFd, body: &[u8], align: Align) -> Result<usize, Errno> {
        let flags = fs::fcntl_getfl(file)?;
        if fs::fcntl_setfl(file, flags | OFlags::DIRECT).is_err() {
            return Ok(0);
        }
        let mut room = self.lock().pop().unwrap_or_else(|| vec![0; PIECE_LEN + ALIGN_MAX]);
        let done = write_pieces(file, body, align, &mut room);
        self.lock().push(room);
        // What is left over, less than a block, can't be written this way.
        fs::fcntl_setfl(file, flags)?;
        done
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_pieces(
    file: &OwnedFd,
    body: &[u8],
    align: Align,
    room: &mut [u8],
) -> Result<usize, Errno> {
    let skip = room.as_ptr().align_offset(align.memory);
    let Some(room) = room.get_mut(skip..).filter(|room| room.len() >= PIECE_LEN) else {
        return Ok(0);
    };
    let whole = body.len() / align.offset * align.offset;
    let mut done = 0;
    // A short write may end within a block: from there on, nothing can be written directly.
    while done < whole && done % align.offset == 0 {
        let next = &body[done..whole.min(done + PIECE_LEN)];
        let piece = &mut room[..next.len()];
        piece.copy_from_slice(next);
        match rustix::io::write(file, piece) {
            // The disk is full, or the file system has thought better of it: the ordinary write finds out which.
            Ok(0) | Err(Errno::INVAL) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of it, through the page cache.
pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::testing::noise;

    /// Where the sources lie: other than in `/tmp`, writing directly is likely to be possible here.
    fn file() -> (File, OwnedFd) {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let copy = file.try_clone().unwrap().into();
        (file, copy)
    }

    fn holds(file: &File, body: &[u8]) -> bool {
        let mut back = vec![0; body.len()];
        file.read_exact_at(&mut back, 0).unwrap();
        back == body && file.metadata().unwrap().len() == body.len() as u64
    }

    #[test]
    fn every_length_arrives_whole_and_room_is_used_again() {
        let pieces = Pieces::default();
        for length in [0, 1, DIRECT_MIN - 1, DIRECT_MIN, DIRECT_MIN + 511, 3 * PIECE_LEN + 4097] {
            let (file, writable) = file();
            let body = noise(length as u64, length);
            write_durably(&writable, &body, &pieces).unwrap();
            assert!(holds(&file, &body), "{length}");
            let direct = Align::of(&writable).is_some() && length >= DIRECT_MIN;
            assert!(!direct || pieces.lock().len() == 1, "{length}");
        }
    }

    #[test]
    fn the_rest_of_a_file_follows_what_was_written_directly() {
        let (file, writable) = file();
        let body = noise(1, DIRECT_MIN + 100);
        // A file system that asks for pages, whatever the one here asks for.
        let align = Align { memory: 4096, offset: 4096 };
        let done = Pieces::default().write(&writable, &body, align).unwrap();
        if Align::of(&writable).is_some() {
            assert_eq!(done, DIRECT_MIN);
        }
        assert!(!fs::fcntl_getfl(&writable).unwrap().contains(OFlags::DIRECT));
        write_all(&writable, &body[done..]).unwrap();
        assert!(holds(&file, &body));
    }
}
