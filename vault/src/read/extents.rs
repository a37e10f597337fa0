//! The extents of one content, in order and in bounded memory, down through lists of lists.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;

use crate::content::{Content, Extent, Extents, Item, ListRef, Recent};
use crate::error::Error;
use crate::limits::BLOB_LEN_MAX;
use crate::pack::BlobKind;
use crate::read::SnapshotReader;

/// The extents of one content, in order. Their lengths add up to its size, or the stream ends with an error.
#[derive(Debug)]
pub struct ExtentStream {
    reader: SnapshotReader,
    /// Extents that were read and not yet given out.
    ready: VecDeque<Extent>,
    /// Lists still to be read: one queue for each level, the topmost first.
    lists: Vec<VecDeque<ListRef>>,
    /// What is left of the content's size.
    left: u64,
    size: u64,
    sound: bool,
    done: bool,
}

impl ExtentStream {
    pub(crate) fn new(reader: SnapshotReader, content: &Content) -> Self {
        let sound = content.is_sound();
        let (ready, lists) = match &content.extents {
            Extents::Inline(extents) => (extents.iter().copied().collect(), Vec::new()),
            Extents::Lists { depth, lists } => {
                let mut levels = vec![VecDeque::new(); usize::from(*depth).max(1)];
                levels[0] = lists.iter().copied().collect();
                (VecDeque::new(), levels)
            }
        };
        let (left, size) = (content.size, content.size);
        Self { reader, ready, lists, left, size, sound, done: false }
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
        let next =
            if self.sound { self.pull().await } else { Err(damaged("it contradicts itself")) };
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

    /// Takes the next extent; reads the next list of the lowest level that has one when none is ready.
    async fn pull(&mut self) -> Result<Option<Extent>, Error> {
        loop {
            if let Some(extent) = self.ready.pop_front() {
                return Ok(Some(extent));
            }
            let Some(level) = self.lists.iter().rposition(|level| !level.is_empty()) else {
                return Ok(None);
            };
            let Some(list) = self.lists[level].pop_front() else { return Ok(None) };
            let bytes = self.read(&list).await?;
            if level + 1 == self.lists.len() {
                let extents = extents(&bytes)?;
                check_cover(&list, extents.iter().map(Extent::length))?;
                self.ready = extents;
            } else {
                let below: VecDeque<ListRef> = items(&bytes)?;
                check_cover(&list, below.iter().map(|l| l.covers))?;
                self.lists[level + 1] = below;
            }
        }
    }

    async fn read(&self, list: &ListRef) -> Result<bytes::Bytes, Error> {
        if !(1..=BLOB_LEN_MAX).contains(&list.length) {
            return Err(damaged(format!("a list of it claims {} bytes", list.length)));
        }
        let fetched = self.reader.fetch_kind(BlobKind::List, [list.id].into_iter()).await?;
        let whole = Extent::Blob { id: list.id, length: list.length };
        fetched.extent(&whole)?.ok_or_else(|| damaged("a list of it is a hole"))
    }
}

/// The items of a list blob, end to end.
fn items<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<VecDeque<T>, Error> {
    let mut items = VecDeque::new();
    while !bytes.is_empty() {
        let (item, rest) = postcard::take_from_bytes(bytes).map_err(damaged)?;
        items.push_back(item);
        bytes = rest;
    }
    Ok(items)
}

/// The extents of a list blob.
fn extents(bytes: &[u8]) -> Result<VecDeque<Extent>, Error> {
    let mut recent = Recent::default();
    let missing = || damaged("it refers to a blob that it hasn't named");
    let extent = |item| recent.extent(item).ok_or_else(missing);
    items::<Item>(bytes)?.into_iter().map(extent).collect()
}

fn check_cover(list: &ListRef, mut lengths: impl Iterator<Item = u64>) -> Result<(), Error> {
    let covered = lengths.try_fold(0u64, u64::checked_add);
    if covered == Some(list.covers) && list.covers > 0 {
        Ok(())
    } else {
        Err(damaged("a list of it covers another length than it says"))
    }
}

fn damaged(why: impl ToString) -> Error {
    Error::damaged("a content's list of extents", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300)) {
            let _ = extents(&bytes);
            let _ = items::<ListRef>(&bytes);
        }
    }
}
