//! What the cache notes: files that are whole, or are not believed.

use std::fs;
use std::path::Path;

use super::{LockState, Segment};
use crate::error::Error;
use crate::record::PackSet;
use crate::store::VersionId;

/// What this host remembers of a segment: of its locks, so that they aren't extended more often than needed.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Memo {
    pub(super) version: Option<VersionId>,
    pub(super) segment: LockState,
    pub(super) packs: Vec<LockState>,
    pub(super) drained: PackSet,
    /// How many nodes and lists it describes: it doesn't tell itself.
    pub(super) nodes: Option<u32>,
}

impl Memo {
    pub(super) fn of(segment: &Segment) -> Self {
        Self {
            version: segment.version.clone(),
            segment: segment.lock,
            packs: segment.packs.clone(),
            drained: segment.drained.clone(),
            nodes: segment.nodes,
        }
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        read_note(path)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        write_note(path, self)
    }
}

/// Reads a note of this cache; `None` if there is none, or it is damaged.
pub(super) fn read_note<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    let (body, hash) = bytes.split_last_chunk::<32>()?;
    (blake3::hash(body).as_bytes() == hash).then(|| postcard::from_bytes(body).ok())?
}

/// Writes a note, with its hash behind it.
pub(super) fn write_note(path: &Path, note: &impl serde::Serialize) -> Result<(), Error> {
    let mut bytes = postcard::to_stdvec(note).map_err(|e| Error::damaged(path.display(), e))?;
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    write_file(path, &bytes)
}

/// Writes a cache file under a temporary name, then renames it: what is found later is whole.
pub(in crate::write) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let suffix: [u8; 6] = crate::keys::random()?;
    let temp = path.with_file_name(format!(".tmp-{}", hex::encode(suffix)));
    fs::write(&temp, bytes).and_then(|()| fs::rename(&temp, path)).map_err(|e| {
        let _ = fs::remove_file(&temp);
        Error::local(format!("writing {}", path.display()))(e)
    })
}
