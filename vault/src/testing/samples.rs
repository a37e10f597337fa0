//! Small things that many tests need.

use crate::error::Error;
use crate::ids::ContentHash;
use crate::tree::{Entry, EntryKind, FileTime, Metadata, TreePath};

/// The hash of a content without holes.
pub fn content_hash(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// An entry with plain metadata.
///
/// # Errors
/// If `path` is none.
pub fn entry(path: &str, kind: EntryKind) -> Result<Entry, Error> {
    let path = TreePath::new(path).map_err(|e| Error::damaged("a test's path", e))?;
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let mtime = FileTime { seconds: 1_795_000_000, nanos: 5 };
    let (user, group) = (b"alice".to_vec(), b"staff".to_vec());
    let meta = Metadata { mode, uid: 1000, gid: 50, user, group, mtime, xattrs: Vec::new() };
    Ok(Entry { path, kind, meta })
}

/// Bytes without pattern, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
