//! What a reader met and read through: never an error, never silent.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{ObjectKey, VersionId};

/// What stood in the way of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// A delete marker hides it.
    Hidden,
    /// A newer version with other bytes lies over it, or what a plain read answered is damaged.
    Replaced,
    /// It isn't named as any object in its place is, and was passed over.
    Stray,
}

/// Something that a reader met and read through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it was.
    pub kind: NoteKind,
    /// The object.
    pub key: ObjectKey,
    /// The version that was read instead.
    pub version: Option<VersionId>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match self.kind {
            NoteKind::Hidden => write!(f, "{key} is hidden by a delete marker"),
            NoteKind::Replaced => {
                write!(f, "a plain read of {key} answers other bytes than its own")
            }
            NoteKind::Stray => {
                return write!(f, "{key} is no object of a vault, and was passed over");
            }
        }?;
        match &self.version {
            Some(version) => write!(f, "; its version {version} was read instead"),
            None => f.write_str("; it was read again"),
        }
    }
}

/// Most notes that are kept: someone who hides a million packs says the same a million times.
const NOTES_MAX: usize = 1000;

/// Collects notes, each object once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Note>>>);

impl Notes {
    pub(crate) fn add(&self, note: Note) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = notes.iter().any(|n| n.key == note.key && n.kind == note.kind);
        if notes.len() < NOTES_MAX && !known {
            notes.push(note);
        }
    }

    pub(crate) fn all(&self) -> Vec<Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
