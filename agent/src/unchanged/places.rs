//! Where the blobs of a run lie: looked up ahead of whoever writes that down.

use std::fs::File;
use std::io::{BufReader, Read};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};
use keephold_vault::ids::{BlobId, SegmentId};
use keephold_vault::write::Known;

/// Bytes of a blob in the file of blobs: its id and its length.
const TOLD: usize = BlobId::LEN + 4;
/// How many blobs are looked up together: up to three such batches are in memory, of under a MiB each.
const BATCH: usize = 1 << 14;

/// The segment and the number of the pack that holds a blob, if any may be used, and the blob's length.
pub(super) type Place = (Option<(SegmentId, u32)>, u64);

/// Places of blobs, in the order in which the blobs were told.
pub(super) struct Places {
    found: Receiver<Result<Vec<Place>>>,
    batch: std::vec::IntoIter<Place>,
}

impl Places {
    pub(super) fn new(found: Receiver<Result<Vec<Place>>>) -> Self {
        Self { found, batch: Vec::new().into_iter() }
    }

    /// The next blob's.
    pub(super) fn next(&mut self) -> Result<Place> {
        loop {
            if let Some(place) = self.batch.next() {
                return Ok(place);
            }
            let batch = self.found.recv().ok().context("the file of blobs ends before its time")?;
            self.batch = batch?.into_iter();
        }
    }
}

/// Looks all blobs of the file up, until nobody takes the answers.
pub(super) fn look_up(blobs: File, known: &mut Known, found: &Sender<Result<Vec<Place>>>) {
    let mut blobs = BufReader::new(blobs);
    loop {
        let batch = batch(&mut blobs, known);
        if batch.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        let failed = batch.is_err();
        if found.send(batch).is_err() || failed {
            return;
        }
    }
}

/// The next of them, looked up in the order of their ids: so each block of the tables that tell is read once.
fn batch(blobs: &mut impl Read, known: &mut Known) -> Result<Vec<Place>> {
    let mut bytes = Vec::with_capacity(BATCH * TOLD);
    blobs.take((BATCH * TOLD) as u64).read_to_end(&mut bytes)?;
    let told = bytes.as_chunks::<TOLD>().0.iter().enumerate();
    let mut told: Vec<_> = told
        .map(|(at, [id @ .., a, b, c, d])| {
            (BlobId::from_bytes(*id), u64::from(u32::from_le_bytes([*a, *b, *c, *d])), at)
        })
        .collect();
    told.sort_unstable_by_key(|(id, ..)| *id);
    let mut places = vec![(None, 0); told.len()];
    for (id, length, at) in told {
        places[at] = (known.find(&id)?.and_then(|pack| known.name(pack)), length);
    }
    Ok(places)
}
