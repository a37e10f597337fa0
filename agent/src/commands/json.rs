//! Entries as JSON lines: the same for `ls` and `diff`.

use keephold_vault::tree::{Entry, EntryKind, TreePath};
use serde::Serialize;

/// An entry as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct EntryLine {
    path: String,
    /// Raw bytes in hexadecimal, where `path` doesn't say them exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// BLAKE3 of the content without its holes, where the snapshot holds it: a content of one piece has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(flatten)]
    meta: Option<MetaLine>,
}

#[derive(Debug, Serialize)]
struct MetaLine {
    mode: String,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    mtime_s: i64,
    mtime_ns: u32,
    xattrs: usize,
}

/// The word for a kind of entry.
pub(crate) fn kind_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::File(_) => "file",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::HardLink(_) => "hard link",
        EntryKind::CharDevice { .. } => "character device",
        EntryKind::BlockDevice { .. } => "block device",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

/// Raw bytes of a link's target as text that can do no harm on a terminal.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                out.extend(c.to_string().bytes().map(|b| format!("\\x{b:02x}")));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    out
}

impl EntryLine {
    /// An entry in full.
    pub(crate) fn of(entry: &Entry) -> Self {
        let meta = &entry.meta;
        let content = match &entry.kind {
            EntryKind::File(content) => Some(content),
            _ => None,
        };
        let target = match &entry.kind {
            EntryKind::Symlink(to) | EntryKind::HardLink(to) => Some(shown(to)),
            _ => None,
        };
        Self {
            kind: kind_word(&entry.kind),
            size: content.map(|content| content.size),
            blake3: content.and_then(|content| content.hash).map(|hash| hash.to_string()),
            target,
            meta: Some(MetaLine {
                mode: format!("{:04o}", meta.mode),
                uid: meta.uid,
                gid: meta.gid,
                user: shown(&meta.user),
                group: shown(&meta.group),
                mtime_s: meta.mtime.seconds,
                mtime_ns: meta.mtime.nanos,
                xattrs: meta.xattrs.len(),
            }),
            ..Self::above(&entry.path)
        }
    }

    /// A folder that has no entry of its own.
    pub(crate) fn above(path: &TreePath) -> Self {
        let text = path.to_string();
        let exact = text.as_bytes() == path.as_bytes();
        let path_hex = (!exact).then(|| hex::encode(path.as_bytes()));
        Self {
            path: text,
            path_hex,
            kind: "directory",
            size: None,
            blake3: None,
            target: None,
            meta: None,
        }
    }
}
