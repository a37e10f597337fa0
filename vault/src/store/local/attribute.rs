//! The immutable attribute (`chattr +i`): not even root can change or remove such a file without clearing it.

use std::os::fd::AsFd;

use rustix::io;

/// Sets or clears it.
///
/// # Errors
/// The system's: `EPERM` without the right to, `ENOTTY` or `EOPNOTSUPP` where the file system has none.
#[cfg(target_os = "linux")]
pub(super) fn set(file: impl AsFd, immutable: bool) -> io::Result<()> {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let flags = ioctl_getflags(&file)?;
    let mut wanted = flags;
    wanted.set(IFlags::IMMUTABLE, immutable);
    if wanted == flags { Ok(()) } else { ioctl_setflags(&file, wanted) }
}

/// Whether it is set; `false` where the file system has none.
#[cfg(target_os = "linux")]
pub(super) fn get(file: impl AsFd) -> bool {
    use rustix::fs::{IFlags, ioctl_getflags};
    ioctl_getflags(&file).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
}

/// Elsewhere there is none that is used.
#[cfg(not(target_os = "linux"))]
pub(super) fn set(_file: impl AsFd, immutable: bool) -> io::Result<()> {
    if immutable { Err(io::Errno::OPNOTSUPP) } else { Ok(()) }
}

/// Elsewhere there is none that is used.
#[cfg(not(target_os = "linux"))]
pub(super) fn get(_file: impl AsFd) -> bool {
    false
}

/// What a refusal to set it means, for a person.
pub(super) fn why(error: io::Errno) -> String {
    match error {
        io::Errno::PERM | io::Errno::ACCESS => {
            "this process may not: it needs root or the capability CAP_LINUX_IMMUTABLE".into()
        }
        io::Errno::NOTTY | io::Errno::OPNOTSUPP | io::Errno::NOSYS | io::Errno::INVAL => {
            "this file system has no such attribute".into()
        }
        other => other.to_string(),
    }
}
