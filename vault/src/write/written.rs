//! What a run has done so far, and what it has written in the end.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;

use crate::record::SegmentRef;
use crate::write::known::AtCopy;
use crate::write::places::Places;

/// What a run has done so far; read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of blobs that the vault did not hold.
    pub bytes_new: AtomicU64,
    /// Blobs that the vault did not hold.
    pub blobs_new: AtomicU64,
    /// Bytes that the target has taken.
    pub bytes_stored: AtomicU64,
    /// Packs that the target has taken.
    pub packs_new: AtomicU64,
    /// Bytes of blobs that the vault held, but in packs that are being drained: they were stored again.
    pub bytes_again: AtomicU64,
    /// Bytes of streams that were found in the stream before, and refer to its blobs.
    pub bytes_matched: AtomicU64,
}

/// What a finished run has written.
#[derive(Debug)]
pub struct Written {
    /// The index segments that the snapshot needs, newest first.
    pub segments: Vec<SegmentRef>,
    /// Until when all that it needs is locked; `None` without locks.
    pub locked_until: Option<Timestamp>,
    /// Packs of earlier runs that it needs.
    pub packs_reused: u64,
    /// Packs that this run has begun to drain: they keep the lock that they have.
    pub packs_drained: u64,
    /// Locks that were extended.
    pub locks_extended: u64,
    /// How it stands with the snapshot at each copy, in the order in which they were joined.
    pub copies: Vec<AtCopy>,
    /// Where the blobs of contents lie, if that was [noted](super::Writer::note_places).
    pub places: Option<Places>,
}
