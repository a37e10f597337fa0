//! When each object's lock ends, kept in a small file beside the objects: the attribute itself has no date.

use std::os::fd::OwnedFd;

use jiff::Timestamp;
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::direct::write_all;
use super::folder::{Root, split};
use crate::store::ObjectKey;

/// The folder of these files, shaped like the vault.
const LOCKS: &str = ".locks";

/// Whoever holds an exclusive `flock` on it is alone with all of them. No object's lock has this name: keys have no part
/// that begins with a dot.
const GUARD: &str = ".guard";

/// Longest content that is believed.
const LEN_MAX: usize = 64;

fn path(key: &ObjectKey) -> String {
    format!("{LOCKS}/{key}")
}

/// Waits until nobody else is at work with these files, in this process or another one, and keeps others away until what
/// it answers is dropped. Deletions and extensions take microseconds; whoever dies lets go.
pub(super) fn alone(root: &Root) -> Result<OwnedFd, Errno> {
    let dir = root.make_dir(LOCKS)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let guard = fs::openat(&dir, GUARD, flags, Mode::from_raw_mode(0o666))?;
    loop {
        match fs::flock(&guard, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(guard),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The end of an object's lock. A file that can't be understood counts as a lock without end: better kept too
/// long than deleted too soon.
pub(super) fn read(root: &Root, key: &ObjectKey) -> Result<Option<Timestamp>, Errno> {
    let file = match root.open_file(&path(key)) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut buffer = [0; LEN_MAX];
    let mut len = 0;
    while len < LEN_MAX {
        match rustix::io::read(&file, &mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    let until = std::str::from_utf8(&buffer[..len]).ok().and_then(|text| text.trim().parse().ok());
    Ok(Some(until.unwrap_or(Timestamp::MAX)))
}

/// Sets the end of an object's lock, unless it ends later already; durable on return. Gives the end that holds.
pub(super) fn raise(root: &Root, key: &ObjectKey, until: Timestamp) -> Result<Timestamp, Errno> {
    if let Some(held) = read(root, key)?
        && held >= until
    {
        return Ok(held);
    }
    let place = path(key);
    let (dir, name) = split(&place);
    let dir = root.make_dir(dir)?;
    let (tmp_dir, tmp, file) = root.temporary()?;
    let written = fill(&file, until)
        .and_then(|()| fs::renameat(&tmp_dir, &*tmp, &dir, name))
        .and_then(|()| fs::fsync(&dir));
    if written.is_err() {
        let _ = fs::unlinkat(&tmp_dir, &*tmp, AtFlags::empty());
    }
    written.map(|()| until)
}

fn fill(file: &OwnedFd, until: Timestamp) -> Result<(), Errno> {
    write_all(file, format!("{until}\n").as_bytes())?;
    fs::fsync(file)
}

/// Forgets an object's lock, once the object is gone.
pub(super) fn remove(root: &Root, key: &ObjectKey) -> Result<(), Errno> {
    let place = path(key);
    let (dir, name) = split(&place);
    let result = root.dir(dir).and_then(|dir| fs::unlinkat(&dir, name, AtFlags::empty()));
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}
