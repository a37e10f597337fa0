//! The bytes of one file or stream, in order, read ahead and checked as a whole.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::content::{Content, Extent, Extents};
use crate::error::Error;
use crate::ids::ContentHash;
use crate::read::fetch::Wanted;
use crate::read::join::join;
use crate::read::{ExtentStream, ReadSettings, SnapshotReader, Task, blocking};

/// Most extents fetched together, about 100 bytes each: a batch of a dump that was changed often has about as many.
pub(crate) const BATCH_EXTENTS_MAX: usize = 32_768;

/// A stretch of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// A hole of so many bytes, which read as zeros.
    Hole(u64),
}

/// The bytes of one content, in order. Size and hash are checked before its last pieces are handed out, so that
/// whoever only sees the bytes never sees a wrong content whole.
#[derive(Debug)]
pub struct ContentReader {
    ready: VecDeque<Piece>,
    ahead: Option<Task<(Source, Result<Batch, Error>)>>,
}

/// What reads batches; it wanders from task to task.
#[derive(Debug)]
struct Source {
    reader: SnapshotReader,
    extents: ExtentStream,
    check: HashCheck,
}

#[derive(Debug, Default)]
struct Batch {
    pieces: VecDeque<Piece>,
    last: bool,
}

/// Checks the hash of a content while its bytes pass.
#[derive(Debug, Clone)]
pub(crate) struct HashCheck {
    /// Only where there is something to check: it takes 2 KB, and thousands of small files wait in a plan.
    hasher: Option<Box<blake3::Hasher>>,
    expected: Option<ContentHash>,
    /// Whether there is one extent at most, a whole blob: its id says as much as the hash would.
    single: bool,
}

impl HashCheck {
    pub(crate) fn new(content: &Content) -> Self {
        let single = match &content.extents {
            Extents::Inline(extents) => matches!(extents.as_slice(), [] | [Extent::Blob { .. }]),
            Extents::Lists { .. } => false,
        };
        let hasher = content.hash.is_some().then(Box::default);
        Self { hasher, expected: content.hash, single }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    pub(crate) fn finish(&self) -> Result<(), Error> {
        let damaged = |why: String| Error::damaged("the content", why);
        match &self.expected {
            None if self.single => Ok(()),
            None => Err(damaged("its hash is missing".into())),
            Some(expected) => {
                let hash = self.hasher.as_ref().map(|hasher| *hasher.finalize().as_bytes());
                let found = ContentHash::from_bytes(hash.unwrap_or_default());
                if found == *expected {
                    return Ok(());
                }
                Err(damaged(format!("its bytes have the hash {found}, and not {expected}")))
            }
        }
    }
}

impl ContentReader {
    pub(crate) fn new(reader: SnapshotReader, content: &Content) -> Self {
        let extents = reader.extents(content);
        let source = Source { reader, extents, check: HashCheck::new(content) };
        Self { ready: VecDeque::new(), ahead: Some(Task::spawn(source.batch())) }
    }

    /// The next piece; `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the pack or blob; [`Error::BlobUnknown`]; whatever the target fails with.
    pub async fn next(&mut self) -> Option<Result<Piece, Error>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            let batch = match self.ahead.take()?.join().await {
                Ok((source, Ok(batch))) => {
                    if !batch.last {
                        self.ahead = Some(Task::spawn(source.batch()));
                    }
                    batch
                }
                Ok((_, Err(error))) | Err(error) => return Some(Err(error)),
            };
            self.ready = batch.pieces;
        }
    }
}

impl Source {
    async fn batch(mut self) -> (Self, Result<Batch, Error>) {
        let batch = self.read().await;
        (self, batch)
    }

    async fn read(&mut self) -> Result<Batch, Error> {
        let ReadSettings { batch_bytes, .. } = *self.reader.settings();
        let (mut extents, mut wanted) = (Vec::new(), Wanted::default());
        let (mut bytes, mut last) = (0, false);
        while bytes.max(wanted.bytes()) < batch_bytes as u64 && extents.len() < BATCH_EXTENTS_MAX {
            let Some(extent) = self.extents.next().await.transpose()? else {
                last = true;
                break;
            };
            bytes += extent.blob().map_or(0, |_| extent.length());
            wanted.add(&extent);
            extents.push(extent);
        }
        let fetched = self.reader.fetch_wanted(&wanted).await?;
        let mut check = self.check.clone();
        let (check, pieces, sound) = blocking(move || {
            let mut pieces = VecDeque::new();
            let joined = join(extents.iter(), &fetched, |piece| {
                if let Piece::Data(bytes) = &piece {
                    check.update(bytes);
                }
                pieces.push_back(piece);
                Ok::<_, Error>(())
            });
            let sound = joined.and_then(|()| if last { check.finish() } else { Ok(()) });
            (check, pieces, sound)
        })
        .await?;
        self.check = check;
        sound?;
        Ok(Batch { pieces, last })
    }
}
