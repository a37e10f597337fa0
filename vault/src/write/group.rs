//! Which blobs lie together in a frame: those that are read together, or compress well beside each other.

use crate::limits::{FRAME_RAW_TARGET, SMALL_FRAME_TARGET};
use crate::pack::BlobKind;
use crate::write::life::Life;

/// Tree and list frames are smaller than data frames: whoever looks one path up reads one of them.
const NODE_FRAME_TARGET: usize = 256 * 1024;
/// The inner nodes of a tree of a million files fit into one frame with the root: the way down is one read up to the leaves.
/// Over a line of 50 ms, a third of a MiB more takes less time than another request.
const INNER_FRAME_TARGET: usize = 1 << 20;
/// After many runs, each MiB of a stream of row deltas consists of a little from each: whoever restores it expands a frame
/// of every run to get at a few rows, so these are as small as they can be without losing much to compression.
const SCATTERED_FRAME_TARGET: usize = 128 * 1024;
/// A frame of small files holds at most this share of what its run has stored. What a run of few changes stores is
/// read back among much else, file by file: there, a large frame would be expanded for little.
const FRAME_SHARE: u64 = 16;

/// What is gathered into frames of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Group {
    /// Small files, each a blob.
    Small(Life),
    /// Chunks of long files and streams.
    Stream(Life),
    /// What is new in a stream that mostly repeats an earlier one.
    Scattered,
    /// Leaves of the tree.
    Leaves,
    /// Inner nodes of the tree stand together, so that the way down to the leaves is one read.
    Inner,
    Lists,
}

impl Group {
    pub(super) const ALL: [Self; 8] = [
        Self::Small(Life::Passing),
        Self::Small(Life::Lasting),
        Self::Stream(Life::Passing),
        Self::Stream(Life::Lasting),
        Self::Scattered,
        Self::Leaves,
        Self::Inner,
        Self::Lists,
    ];

    /// Its place among [all](Self::ALL).
    pub(super) fn index(self) -> usize {
        match self {
            Self::Small(life) => life as usize,
            Self::Stream(life) => 2 + life as usize,
            Self::Scattered => 4,
            Self::Leaves => 5,
            Self::Inner => 6,
            Self::Lists => 7,
        }
    }

    /// Where a blob goes, unless more is known about it.
    pub(super) fn of(kind: BlobKind, bytes: &[u8]) -> Self {
        match kind {
            BlobKind::Data => Self::Stream(Life::Passing),
            BlobKind::Tree if crate::tree::is_inner(bytes) => Self::Inner,
            BlobKind::Tree => Self::Leaves,
            BlobKind::List => Self::Lists,
        }
    }

    pub(super) fn kind(self) -> BlobKind {
        match self {
            Self::Small(_) | Self::Stream(_) | Self::Scattered => BlobKind::Data,
            Self::Leaves | Self::Inner => BlobKind::Tree,
            Self::Lists => BlobKind::List,
        }
    }

    /// How long its data is expected to be needed; nodes and lists are needed as long as anything is.
    pub(super) fn life(self) -> Life {
        match self {
            Self::Small(life) | Self::Stream(life) => life,
            Self::Scattered => Life::Passing,
            Self::Leaves | Self::Inner | Self::Lists => Life::Lasting,
        }
    }

    /// From how many bytes on a frame is closed, in a run that has stored `stored` bytes.
    pub(super) fn target(self, stored: u64) -> usize {
        match self {
            Self::Small(_) => usize::try_from(stored / FRAME_SHARE)
                .unwrap_or(usize::MAX)
                .clamp(FRAME_RAW_TARGET, SMALL_FRAME_TARGET),
            Self::Stream(_) => FRAME_RAW_TARGET,
            Self::Scattered => SCATTERED_FRAME_TARGET,
            Self::Inner => INNER_FRAME_TARGET,
            Self::Leaves | Self::Lists => NODE_FRAME_TARGET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_of_its_own() {
        for (n, group) in Group::ALL.into_iter().enumerate() {
            assert_eq!(group.index(), n, "{group:?}");
        }
    }
}
