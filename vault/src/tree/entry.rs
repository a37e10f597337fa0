//! Entries: what a snapshot says of one file, folder, link or stream.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::content::Content;

/// A path inside a snapshot: raw bytes, `/` between components, relative to the file system's root.
///
/// Never empty, never absolute, no empty, `.` or `..` component, no NUL: [`TreePath::new`] sees to it, also for
/// paths that come out of storage, so that no entry can lead outside a restore's target.
///
/// The order is that of components, byte by byte, as if `/` came before every other byte: a folder's entries
/// follow it directly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Vec<u8>);

/// Longest path in bytes that a snapshot holds (Linux's `PATH_MAX` is 4,096; trees made with relative calls go deeper).
pub const PATH_LEN_MAX: usize = 64 * 1024;

/// A path that no snapshot may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' can't be a path in a snapshot: empty, absolute, too long, or with an empty, '.' or '..' component"
)]
pub struct BadPath(pub String);

impl TreePath {
    /// Takes bytes as a path, if they are one.
    ///
    /// # Errors
    /// [`BadPath`] if they aren't.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, BadPath> {
        let bytes = bytes.into();
        let sound = !bytes.is_empty()
            && bytes.len() <= PATH_LEN_MAX
            && !bytes.contains(&0)
            && bytes
                .split(|&b| b == b'/')
                .all(|part| !part.is_empty() && part != b"." && part != b"..");
        if sound {
            Ok(Self(bytes))
        } else {
            Err(BadPath(String::from_utf8_lossy(&bytes).chars().take(200).collect()))
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path of `name` in this folder.
    ///
    /// # Errors
    /// [`BadPath`] if `name` is no single component.
    pub fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        if name.contains(&b'/') {
            return Err(BadPath(String::from_utf8_lossy(name).into_owned()));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// The folder that it lies in; `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|&b| b == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// Its last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// Whether it is `folder` or lies below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.0.starts_with(&folder.0) && matches!(self.0.get(folder.0.len()), None | Some(b'/'))
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        cmp_paths(&self.0, &other.0)
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of paths on raw bytes: as if `/` came before every other byte.
pub fn cmp_paths(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match (a.get(common), b.get(common)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (Some(x), Some(y)) => x.cmp(y),
    }
}

/// For people: bytes that are not UTF-8, control characters and backslashes come as `\xNN`, so that a name can
/// neither be mistaken for another nor act on a terminal.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || c == '\\' {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A moment to the nanosecond, as file systems keep it: seconds since 1970 (UTC) and nanoseconds within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileTime {
    /// Seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// Nanoseconds within the second, below 10^9.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A folder. Its entries follow it.
    Directory,
    /// A regular file, or a stream such as a dump.
    File(Content),
    /// A symbolic link and what it says, in raw bytes.
    Symlink(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A further name of the file that stands under this path in the same snapshot.
    HardLink(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name; restored as nothing, but listed.
    Socket,
}

/// One extended attribute, ACLs (`system.posix_acl_*`) and capabilities (`security.capability`) among them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Its full name.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Its value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// What stands beside the data of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Permission bits, set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Owner's name at the time, where it was known (raw bytes as in the user database).
    #[serde(with = "serde_bytes")]
    pub user: Vec<u8>,
    /// Group's name at the time; empty if not known.
    #[serde(with = "serde_bytes")]
    pub group: Vec<u8>,
    /// Time of the last change of the data.
    pub mtime: FileTime,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// One entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
    /// What stands beside its data.
    pub meta: Metadata,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_entries_follow_it_directly() {
        let mut paths: Vec<_> =
            ["a-b", "a/z", "a", "a/b/c", "a.txt", "a/b"].map(|p| TreePath::new(p).unwrap()).into();
        paths.sort();
        let names: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/z", "a-b", "a.txt"]);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in ["", "/etc", "a/../b", "..", ".", "a//b", "a/", "a\0b"] {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn odd_names_are_shown_without_harm() {
        let path = TreePath::new(b"caf\xc3\xa9/\xff\x1b[2J\\".to_vec()).unwrap();
        assert_eq!(path.to_string(), "café/\\xff\\x1b[2J\\x5c");
    }
}
