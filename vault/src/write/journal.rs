//! The journal: packs that are stored, but that no index segment describes yet.
//!
//! A run that is killed leaves its journal behind; the next run on the host stores a segment from it, so that
//! nothing is sent twice. A torn last line is passed over: its pack is merely stored again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::envelope::RecipientsDigest;
use crate::error::Error;
use crate::index::PackRow;
use crate::pack::FrameInfo;

/// A stored pack, with what an index segment will say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) row: PackRow,
    pub(crate) envelope: ByteBuf,
    pub(crate) recipients: RecipientsDigest,
    pub(crate) frames: Vec<FrameInfo>,
}

/// One run's journal, locked as long as the run lives.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Begins a journal in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let name: [u8; 8] = crate::keys::random()?;
            let path = dir.join(hex::encode(name));
            let local = |e| Error::local(format!("making {}", path.display()))(e);
            let file =
                OpenOptions::new().create_new(true).append(true).open(&path).map_err(local)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file, path }),
                // Another job's run looks for what dead runs left, and came upon it before it was locked.
                Err(_) if tries < 8 => tries += 1,
                Err(e) => return Err(local(e.into())),
            }
        }
    }

    /// Notes a pack that the store has taken.
    pub(crate) fn add(&mut self, note: &Note) -> Result<(), Error> {
        let body = postcard::to_stdvec(note).map_err(|e| Error::damaged("the journal", e))?;
        let length = u32::try_from(body.len()).map_err(|e| Error::damaged("the journal", e))?;
        let mut line = Vec::with_capacity(body.len() + 36);
        line.extend_from_slice(&length.to_le_bytes());
        line.extend_from_slice(blake3::hash(&body).as_bytes());
        line.extend_from_slice(&body);
        self.file.write_all(&line).map_err(Error::local(format!("writing {}", self.path.display())))
    }

    /// Forgets all notes: a stored segment describes their packs now.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::local(format!("writing {}", self.path.display())))
    }

    /// Removes the journal; the run is over and left nothing.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A journal that a dead run left behind. It is held until dropped, and removed by [`remove`](Self::remove).
#[derive(Debug)]
pub(crate) struct Left {
    _file: File,
    path: PathBuf,
    pub(crate) notes: Vec<Note>,
}

impl Left {
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The journals in `dir` whose runs are no longer alive.
pub(crate) fn left_behind(dir: &Path) -> Result<Vec<Left>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::local(format!("reading {}", dir.display())))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut left = Vec::new();
    for path in paths {
        let Ok(file) = File::open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let bytes = fs::read(&path).map_err(Error::local(format!("reading {}", path.display())))?;
        left.push(Left { _file: file, path, notes: read(&bytes) });
    }
    Ok(left)
}

fn read(mut bytes: &[u8]) -> Vec<Note> {
    let mut notes = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some((hash, rest)) = rest.split_first_chunk::<32>() else { break };
        let Some((body, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            break;
        };
        if blake3::hash(body).as_bytes() != hash {
            break;
        }
        let Ok(note) = postcard::from_bytes(body) else { break };
        notes.push(note);
        bytes = rest;
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PackId;

    fn note(n: u8) -> Note {
        let row = PackRow {
            id: PackId::from_bytes([n; 32]),
            size: 5,
            salt: [n; 16],
            envelope: 0,
            version: None,
            locked_until_s: Some(7),
        };
        Note { row, envelope: ByteBuf::from(vec![1, 2]), recipients: [3; 32], frames: vec![] }
    }

    #[test]
    fn a_killed_runs_notes_are_found_up_to_the_torn_one_and_a_live_runs_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut live = Journal::create(dir.path()).unwrap();
        live.add(&note(9)).unwrap();
        let mut dead = Journal::create(dir.path()).unwrap();
        dead.add(&note(1)).unwrap();
        dead.add(&note(2)).unwrap();
        let length = fs::metadata(&dead.path).unwrap().len();
        dead.file.set_len(length - 3).unwrap();
        drop(dead);
        let left = left_behind(dir.path()).unwrap();
        assert_eq!(left.iter().flat_map(|l| l.notes.clone()).collect::<Vec<_>>(), [note(1)]);
        left.into_iter().for_each(Left::remove);
        assert!(left_behind(dir.path()).unwrap().is_empty());
        live.remove();
    }
}
