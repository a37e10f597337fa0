//! How extents stand in a list blob: where many are stretches of the same few blobs, a few bytes for each.

use serde::{Deserialize, Serialize};

use crate::content::Extent;
use crate::ids::BlobId;

/// Of how many blobs a list's reader keeps in mind where their last stretch ended.
const RECENT_MAX: usize = 16;

/// An extent in a list blob. The first three are as in [`Extent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Item {
    Blob {
        id: BlobId,
        length: u32,
    },
    Part {
        id: BlobId,
        offset: u32,
        length: u32,
    },
    Hole {
        length: u64,
    },
    /// `length` bytes of a blob that was named in this list before, from `skip` bytes behind its last stretch on.
    More {
        /// How many other blobs were named since.
        back: u8,
        skip: u32,
        length: u32,
    },
}

/// The blobs that were named last in one list blob, each with the end of its last stretch; the latest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent(Vec<(BlobId, u32)>);

impl Recent {
    /// The shortest item for the next extent.
    pub(crate) fn item(&mut self, extent: Extent) -> Item {
        let item = match extent {
            Extent::Hole { length } => Item::Hole { length },
            Extent::Blob { id, length } => Item::Blob { id, length },
            Extent::Part { id, offset, length } => {
                let before = self.0.iter().position(|(before, _)| *before == id);
                let more = before.and_then(|at| {
                    let skip = offset.checked_sub(self.0[at].1)?;
                    Some(Item::More { back: u8::try_from(at).ok()?, skip, length })
                });
                more.unwrap_or(Item::Part { id, offset, length })
            }
        };
        self.note(&extent);
        item
    }

    /// The extent of the next item; `None` if it refers to what isn't there.
    pub(crate) fn extent(&mut self, item: Item) -> Option<Extent> {
        let extent = match item {
            Item::Hole { length } => Extent::Hole { length },
            Item::Blob { id, length } => Extent::Blob { id, length },
            Item::Part { id, offset, length } => Extent::Part { id, offset, length },
            Item::More { back, skip, length } => {
                let (id, end) = *self.0.get(usize::from(back))?;
                Extent::Part { id, offset: end.checked_add(skip)?, length }
            }
        };
        self.note(&extent);
        Some(extent)
    }

    fn note(&mut self, extent: &Extent) {
        let (id, end) = match *extent {
            Extent::Hole { .. } => return,
            Extent::Blob { id, length } => (id, length),
            Extent::Part { id, offset, length } => (id, offset.saturating_add(length)),
        };
        let before = self.0.iter().position(|(before, _)| *before == id);
        if before.is_none() {
            self.0.truncate(RECENT_MAX - 1);
            self.0.push((id, end));
        }
        let at = before.unwrap_or(self.0.len() - 1);
        self.0[at].1 = end;
        self.0[..=at].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        let id = (0..24u8).prop_map(|n| BlobId::from_bytes([n; 24]));
        let extent = prop_oneof![
            1 => (1..u64::MAX).prop_map(|length| Extent::Hole { length }),
            2 => (id.clone(), 1..u32::MAX).prop_map(|(id, length)| Extent::Blob { id, length }),
            9 => (id, any::<u32>(), 1..u32::MAX)
                .prop_map(|(id, offset, length)| Extent::Part { id, offset, length }),
        ];
        prop::collection::vec(extent, 0..200)
    }

    proptest! {
        #[test]
        fn any_extents_come_back(extents in extents()) {
            let (mut there, mut back) = (Recent::default(), Recent::default());
            for extent in extents {
                let item = there.item(extent);
                prop_assert_eq!(back.extent(item), Some(extent));
                prop_assert!(there.0.len() <= RECENT_MAX);
            }
        }
    }

    #[test]
    fn stretches_of_blobs_that_take_turns_are_short() {
        let [a, b] = [1, 2].map(|n| BlobId::from_bytes([n; 24]));
        let mut recent = Recent::default();
        let mut item = |id, offset, length| recent.item(Extent::Part { id, offset, length });
        item(a, 0, 1000);
        item(b, 0, 50);
        assert_eq!(item(a, 1050, 400), Item::More { back: 1, skip: 50, length: 400 });
        assert_eq!(item(b, 50, 7), Item::More { back: 1, skip: 0, length: 7 });
        // What lies before is named in full.
        assert_eq!(item(a, 3, 9), Item::Part { id: a, offset: 3, length: 9 });
        assert_eq!(Recent::default().extent(Item::More { back: 0, skip: 0, length: 1 }), None);
    }
}
