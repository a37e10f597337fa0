//! What `stat` says of an entry, in the vault's own terms.

use keephold_vault::tree::FileTime;
use rustix::fs::FileType;

/// What an entry of a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

impl Kind {
    /// The word for it in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
        }
    }
}

/// What `stat` says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of the data.
    pub mtime: FileTime,
    /// Time of the last change of the data or of what stands beside it: no program can set it back.
    pub ctime: FileTime,
    /// Number of the inode on its device.
    pub inode: u64,
    /// Number of the device that it lies on.
    pub device: u64,
    /// How many names it has.
    pub nlink: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// For a device: its own number.
    pub rdev: u64,
}

impl Stat {
    /// For a device: its major and minor number.
    pub fn device_numbers(&self) -> (u32, u32) {
        (rustix::fs::major(self.rdev), rustix::fs::minor(self.rdev))
    }

    /// Whether less space is allocated than the size asks for, so that looking for holes is worth its calls.
    pub fn may_have_holes(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }
}

/// Takes what the system gave, if it is a kind of entry that Linux has.
pub(crate) fn from_raw(raw: &rustix::fs::Stat) -> Option<(Kind, Stat)> {
    let kind = match FileType::from_raw_mode(raw.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return None,
    };
    Some((kind, numbers(raw)))
}

/// The numbers alone. The widths of the system's fields differ between architectures, hence the conversions.
#[expect(
    clippy::useless_conversion,
    clippy::unnecessary_cast,
    reason = "field widths differ between architectures"
)]
#[allow(clippy::cast_possible_truncation, reason = "nanoseconds and modes fit in 32 bits")]
pub(crate) fn numbers(raw: &rustix::fs::Stat) -> Stat {
    let time = |seconds: i64, nanos: u64| FileTime { seconds, nanos: nanos as u32 };
    Stat {
        mode: raw.st_mode & 0o7777,
        uid: raw.st_uid,
        gid: raw.st_gid,
        size: u64::try_from(raw.st_size).unwrap_or(0),
        mtime: time(raw.st_mtime as i64, raw.st_mtime_nsec as u64),
        ctime: time(raw.st_ctime as i64, raw.st_ctime_nsec as u64),
        inode: u64::from(raw.st_ino),
        device: u64::from(raw.st_dev),
        nlink: u64::from(raw.st_nlink),
        blocks: u64::try_from(raw.st_blocks).unwrap_or(0),
        rdev: u64::from(raw.st_rdev),
    }
}
