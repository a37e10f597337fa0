//! Extended attributes: ACLs and capabilities among them, of any kind of entry, links never followed.

use std::os::fd::BorrowedFd;

use keephold_vault::tree::Xattr;
use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr, removexattr,
    setxattr,
};
use rustix::io::Errno;

use crate::beneath::proc_path;

/// Room for names or a value at the first try; the kernel's bound for both is 64 KiB.
const FIRST_TRY: usize = 1024;
const MOST: usize = 64 * 1024;

/// An open entry, and whether its descriptor may be used for this directly.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opened<'a> {
    /// Opened for reading or writing.
    Fully(BorrowedFd<'a>),
    /// Opened with `O_PATH`, as links and devices have to be: reached through `/proc/self/fd`.
    PathOnly(BorrowedFd<'a>),
}

/// The name of an attribute that can't be read, and why.
pub(crate) type Unreadable = (Vec<u8>, Errno);

/// All attributes, sorted by name, and the names of those that can't be read, each with the reason.
pub(crate) fn read(of: Opened<'_>) -> rustix::io::Result<(Vec<Xattr>, Vec<Unreadable>)> {
    let list = match grown(|buffer| match of {
        Opened::Fully(fd) => flistxattr(fd, buffer),
        Opened::PathOnly(fd) => listxattr(proc_path(fd), buffer),
    }) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for name in list.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        match grown(|buffer| match of {
            Opened::Fully(fd) => fgetxattr(fd, name, buffer),
            Opened::PathOnly(fd) => getxattr(proc_path(fd), name, buffer),
        }) {
            Ok(value) => found.push(Xattr { name: name.to_vec(), value }),
            // Removed since it was listed, or listed by a kind of file system that then knows nothing of it.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => unreadable.push((name.to_vec(), error)),
        }
    }
    found.sort();
    Ok((found, unreadable))
}

/// Sets one attribute.
pub(crate) fn set(of: Opened<'_>, xattr: &Xattr) -> rustix::io::Result<()> {
    let (name, value) = (xattr.name.as_slice(), xattr.value.as_slice());
    match of {
        Opened::Fully(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
        Opened::PathOnly(fd) => setxattr(proc_path(fd), name, value, XattrFlags::empty()),
    }
}

/// Removes one attribute.
pub(crate) fn remove(of: Opened<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match of {
        Opened::Fully(fd) => fremovexattr(fd, name),
        Opened::PathOnly(fd) => removexattr(proc_path(fd), name),
    }
}

/// Calls with a small buffer and, where that isn't enough, with the largest that the kernel fills.
fn grown(
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; FIRST_TRY];
    match call(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; MOST];
    let length = call(&mut large)?;
    large.truncate(length);
    large.shrink_to_fit();
    Ok(large)
}
