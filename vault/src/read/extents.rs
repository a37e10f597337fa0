//! The extents of one content, in order and in bounded memory, down through lists of lists.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::content::{Content, Extent, Extents};
use crate::error::Error;
use crate::limits::{BLOB_LEN_MAX, LIST_DEPTH_MAX};
use crate::pack::BlobKind;
use crate::read::SnapshotReader;

/// More bytes than any extent takes in a list: one for its kind, an id, and two numbers.
const EXTENT_STORED_MAX: usize = 64;

/// The extents of one content, in order. Their lengths add up to its size, or the stream ends with an error.
#[derive(Debug)]
pub struct ExtentStream {
    reader: SnapshotReader,
    /// What the entry itself holds: extents, or the list blobs of the topmost level.
    inline: VecDeque<Extent>,
    /// One for each level of lists, the topmost first.
    lists: Vec<List>,
    /// What is left of the content's size.
    left: u64,
    size: u64,
    /// Set after an error, or before the first extent where the content claims what can't be.
    ended: Option<&'static str>,
    done: bool,
}

/// The bytes of one level of list blobs, laid end to end, as far as they were read and not yet used.
#[derive(Debug, Default)]
struct List {
    /// The beginning of an extent that goes on in the next blob.
    begun: Vec<u8>,
    rest: Bytes,
}

impl ExtentStream {
    pub(crate) fn new(reader: SnapshotReader, content: &Content) -> Self {
        let (inline, depth) = match &content.extents {
            Extents::Inline(extents) => (extents, 0),
            Extents::Lists { depth, blobs } => (blobs, *depth),
        };
        let lists = matches!(content.extents, Extents::Lists { .. });
        let ended = (lists && !(1..=LIST_DEPTH_MAX).contains(&depth))
            .then_some("it claims more levels of lists than there can be, or none");
        Self {
            reader,
            inline: inline.iter().copied().collect(),
            lists: (0..depth.min(LIST_DEPTH_MAX)).map(|_| List::default()).collect(),
            left: content.size,
            size: content.size,
            ended,
            done: false,
        }
    }

    /// The next extent; `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the lists contradict themselves or the content's size; whatever reading them fails
    /// with.
    pub async fn next(&mut self) -> Option<Result<Extent, Error>> {
        if self.done {
            return None;
        }
        let next = match self.ended {
            Some(why) => Err(damaged(why)),
            None => self.pull().await,
        };
        let next = next.and_then(|extent| self.count(extent));
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    fn count(&mut self, extent: Option<Extent>) -> Result<Option<Extent>, Error> {
        let Some(extent) = extent else {
            return if self.left == 0 {
                Ok(None)
            } else {
                let missing = self.left;
                Err(damaged(format!("it ends {missing} bytes short of the {} claimed", self.size)))
            };
        };
        // Without bytes it would never count against the size, and a list could go on for ever.
        let length = Some(extent.length()).filter(|&n| n > 0);
        self.left = match length.and_then(|n| self.left.checked_sub(n)) {
            Some(left) => left,
            None => {
                let why =
                    format!("it goes on beyond the {} bytes claimed, or names none", self.size);
                return Err(damaged(why));
            }
        };
        Ok(Some(extent))
    }

    /// Takes the next extent off the lowest level that has one, and reads its list until it is one of content.
    async fn pull(&mut self) -> Result<Option<Extent>, Error> {
        let mut level = self.lists.len();
        loop {
            let extent = match level.checked_sub(1) {
                None => match self.inline.pop_front() {
                    Some(extent) => extent,
                    None if self.lists.iter().all(List::is_empty) => return Ok(None),
                    None => return Err(damaged("it ends within an extent")),
                },
                Some(list) => match self.lists[list].take()? {
                    Some(extent) => extent,
                    None => {
                        level -= 1;
                        continue;
                    }
                },
            };
            if level == self.lists.len() {
                return Ok(Some(extent));
            }
            let Extent::Blob { id, length: 1..=BLOB_LEN_MAX } = extent else {
                return Err(damaged("a list of it is no whole blob"));
            };
            let fetched = self.reader.fetch_kind(BlobKind::List, [id].into_iter()).await?;
            let Some(bytes) = fetched.extent(&extent)? else {
                return Err(damaged("a list of it is a hole"));
            };
            self.lists[level].append(bytes);
            level = self.lists.len();
        }
    }
}

impl List {
    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.rest.is_empty()
    }

    /// Appends a blob; what is left of the one before is less than an extent.
    fn append(&mut self, bytes: Bytes) {
        self.begun.extend_from_slice(&self.rest);
        self.rest = bytes;
    }

    /// Takes one extent; `None` if its end is still to be read.
    fn take(&mut self) -> Result<Option<Extent>, Error> {
        if self.begun.is_empty() {
            return match postcard::take_from_bytes::<Extent>(&self.rest) {
                Ok((extent, tail)) => {
                    let used = self.rest.len() - tail.len();
                    self.rest.advance(used);
                    Ok(Some(extent))
                }
                Err(postcard::Error::DeserializeUnexpectedEnd)
                    if self.rest.len() < EXTENT_STORED_MAX =>
                {
                    Ok(None)
                }
                Err(error) => Err(damaged(error)),
            };
        }
        // It began in the blob before: put as much of this one to it as an extent may take.
        let before = self.begun.len();
        let more = self.rest.len().min(EXTENT_STORED_MAX);
        self.begun.extend_from_slice(&self.rest[..more]);
        match postcard::take_from_bytes::<Extent>(&self.begun) {
            Ok((extent, tail)) => {
                let used = self.begun.len() - tail.len();
                let Some(used) = used.checked_sub(before) else {
                    return Err(damaged("an extent of it was read twice"));
                };
                self.begun.clear();
                self.rest.advance(used);
                Ok(Some(extent))
            }
            Err(postcard::Error::DeserializeUnexpectedEnd) if more == self.rest.len() => {
                if self.begun.len() >= EXTENT_STORED_MAX {
                    return Err(damaged("an extent of it has no end"));
                }
                self.rest.clear();
                Ok(None)
            }
            Err(error) => Err(damaged(error)),
        }
    }
}

fn damaged(why: impl ToString) -> Error {
    Error::damaged("a content's list of extents", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BlobId;

    fn some(n: u32) -> Extent {
        let id = BlobId::from_bytes([n as u8; 24]);
        match n % 3 {
            0 => Extent::Blob { id, length: n + 1 },
            1 => Extent::Part { id, offset: n, length: 1_000_000 },
            _ => Extent::Hole { length: u64::MAX - 5 },
        }
    }

    #[test]
    fn extents_that_straddle_blobs_are_put_together() {
        let extents: Vec<_> = (0..40).map(some).collect();
        let mut bytes = Vec::new();
        for extent in &extents {
            bytes = postcard::to_extend(extent, bytes).unwrap();
        }
        for step in 1..100 {
            let (mut list, mut back) = (List::default(), Vec::new());
            for blob in bytes.chunks(step) {
                list.append(Bytes::copy_from_slice(blob));
                while let Some(extent) = list.take().unwrap() {
                    back.push(extent);
                }
            }
            assert_eq!(back, extents, "cut every {step} bytes");
            assert!(list.is_empty());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            blobs in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 1..90), 0..9),
        ) {
            let mut list = List::default();
            'blobs: for blob in blobs {
                list.append(blob.into());
                loop {
                    match list.take() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'blobs,
                    }
                }
            }
        }
    }
}
