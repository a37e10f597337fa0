//! Putting metadata on an entry that was made, in the order in which the kernel doesn't undo it.
//!
//! A change of owner clears set-id bits and capabilities, so the owner comes first, then attributes, then the mode (a
//! file that has become read-only takes no `user.` attributes from an ordinary user), and the time last.

use std::io;

use keephold_vault::tree::{FileTime, Metadata, TreePath, Xattr};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat, fchmod,
    fchown, futimens, utimensat,
};
use rustix::io::Errno;

use super::problems::{Collector, Unset};
use super::{Options, Owners};
use crate::beneath::proc_path;
use crate::meta::Names;
use crate::meta::xattrs::{self, Opened};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Metadata as it is to be on this host: owners as numbers.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub owner: Option<(u32, u32)>,
    pub mode: u32,
    pub mtime: FileTime,
    pub xattrs: Box<[Xattr]>,
}

impl Wanted {
    pub(super) fn new(meta: &Metadata, options: &Options, names: &Names) -> Self {
        let owner = match options.owners {
            Owners::Ignored => None,
            Owners::ByNumber => Some((meta.uid, meta.gid)),
            Owners::ByName => Some((
                names.uid(&meta.user).unwrap_or(meta.uid),
                names.gid(&meta.group).unwrap_or(meta.gid),
            )),
        };
        let xattrs = if options.xattrs { meta.xattrs.clone().into() } else { Box::default() };
        Self { owner, mode: meta.mode & 0o7777, mtime: meta.mtime, xattrs }
    }

    /// Applies all of it. What can't be set is told to `problems`, and the rest goes on.
    pub(super) fn apply(
        &self,
        on: Opened<'_>,
        is_link: bool,
        path: &TreePath,
        problems: &Collector,
    ) {
        let owned = self.owner.is_none_or(|(uid, gid)| match set_owner(on, uid, gid) {
            Ok(()) => true,
            Err(error) => {
                problems.add(path, Unset::Owner, error);
                false
            }
        });
        for xattr in &self.xattrs {
            if let Err(error) = xattrs::set(on, xattr) {
                let text = format!("{}: {error}", xattr.name.escape_ascii());
                problems.add(path, Unset::Xattr, io::Error::other(text));
            }
        }
        if !is_link {
            let mut mode = self.mode;
            // Without its owner, a set-id program would run with the rights of whoever restores it.
            if (!owned || self.owner.is_none()) && mode & SET_ID != 0 {
                mode &= !SET_ID;
                problems.add(path, Unset::SetId, Errno::PERM);
            }
            if let Err(error) = set_mode(on, mode) {
                problems.add(path, Unset::Mode, error);
            }
        }
        if let Err(error) = set_time(on, self.mtime) {
            problems.add(path, Unset::Time, error);
        }
    }
}

fn set_owner(on: Opened<'_>, uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let set = |uid, gid| match on {
        Opened::Fully(fd) => fchown(fd, uid, gid),
        Opened::PathOnly(fd) => chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
    };
    set(uid, gid).inspect_err(|_| {
        // An ordinary user may still pass a file to a group of theirs; the owner is what is told.
        let _ = set(None, gid);
    })
}

fn set_mode(on: Opened<'_>, mode: u32) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match on {
        Opened::Fully(fd) => fchmod(fd, mode),
        Opened::PathOnly(fd) => chmodat(CWD, proc_path(fd), mode, AtFlags::empty()),
    }
}

fn set_time(on: Opened<'_>, mtime: FileTime) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    };
    match on {
        Opened::Fully(fd) => futimens(fd, &times),
        Opened::PathOnly(fd) => match utimensat(fd, "", &times, AtFlags::EMPTY_PATH) {
            // Kernels before 5.8 know no empty path here.
            Err(Errno::INVAL | Errno::NOENT) => {
                utimensat(CWD, proc_path(fd), &times, AtFlags::empty())
            }
            other => other,
        },
    }
}
