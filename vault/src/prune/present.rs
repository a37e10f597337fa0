//! What lies in the vault, and whether that is all that a snapshot needs.

use std::collections::HashSet;
use std::collections::btree_map::{BTreeMap, Entry};

use futures::TryStreamExt;

use crate::error::Error;
use crate::ids::SegmentId;
use crate::keys::MetadataKey;
use crate::prune::holds::{ShortName, read_segment, short};
use crate::read::{Vault, concerns_object};
use crate::record::SegmentRef;
use crate::store::{Prefix, Prune};

/// What lies there, whatever hides it, in eight bytes for each pack; and as much again for those that segments describe.
pub(super) struct Present {
    /// Sorted.
    packs: Vec<ShortName>,
    segments: HashSet<SegmentId>,
    /// The packs that segments describe, by their numbers.
    described: BTreeMap<SegmentId, Vec<ShortName>>,
}

impl Present {
    /// Lists it.
    pub(super) async fn list(store: &dyn Prune) -> Result<Self, Error> {
        let mut packs = Vec::new();
        let mut segments = HashSet::new();
        for prefix in [Prefix::packs(), Prefix::index()] {
            let mut listed = store.list_versions(&prefix);
            while let Some(version) = listed.try_next().await? {
                if version.delete_marker {
                    continue;
                }
                packs.extend(version.key.as_pack().as_ref().map(short));
                segments.extend(version.key.as_segment());
            }
        }
        packs.sort_unstable();
        packs.dedup();
        Ok(Self { packs, segments, described: BTreeMap::new() })
    }

    /// Whether all lies there that a snapshot needs, as far as can be told: a segment that can't be read may describe
    /// what does.
    pub(super) async fn is_whole(
        &mut self,
        vault: &Vault,
        key: &MetadataKey,
        needs: &[SegmentRef],
    ) -> Result<bool, Error> {
        if !needs.iter().all(|segment| self.segments.contains(&segment.id)) {
            return Ok(false);
        }
        for segment in needs {
            let packs = match self.described.entry(segment.id) {
                Entry::Occupied(read) => read.into_mut(),
                Entry::Vacant(unread) => match describes(vault, key, segment).await {
                    Ok(packs) => unread.insert(packs),
                    Err(error) if concerns_object(&error) => continue,
                    Err(error) => return Err(error),
                },
            };
            let mut used = segment.used.iter().filter_map(|n| packs.get(n as usize));
            if !used.all(|pack| self.packs.binary_search(pack).is_ok()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What was read of segments on the way; what lies there is forgotten.
    pub(super) fn into_described(self) -> BTreeMap<SegmentId, Vec<ShortName>> {
        self.described
    }
}

/// The packs that a segment describes, by their numbers.
pub(super) async fn describes(
    vault: &Vault,
    key: &MetadataKey,
    segment: &SegmentRef,
) -> Result<Vec<ShortName>, Error> {
    let rows = read_segment(vault, key, &segment.id, segment.version.as_ref()).await?;
    Ok(rows.iter().map(|row| short(&row.id)).collect())
}
