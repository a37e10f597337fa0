//! Which blobs lie together in a frame: those that are read together, or compress well beside each other.

use crate::limits::{FRAME_RAW_TARGET, SMALL_FRAME_TARGET};
use crate::pack::BlobKind;

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
    Small,
    /// Chunks of long files and streams.
    Stream,
    /// What is new in a stream that mostly repeats an earlier one.
    Scattered,
    /// Leaves of the tree.
    Leaves,
    /// Inner nodes of the tree stand together, so that the way down to the leaves is one read.
    Inner,
    Lists,
}

impl Group {
    pub(super) const ALL: [Self; 6] =
        [Self::Small, Self::Stream, Self::Scattered, Self::Leaves, Self::Inner, Self::Lists];

    /// Where a blob goes, unless more is known about it.
    pub(super) fn of(kind: BlobKind, bytes: &[u8]) -> Self {
        match kind {
            BlobKind::Data => Self::Stream,
            BlobKind::Tree if crate::tree::is_inner(bytes) => Self::Inner,
            BlobKind::Tree => Self::Leaves,
            BlobKind::List => Self::Lists,
        }
    }

    pub(super) fn kind(self) -> BlobKind {
        match self {
            Self::Small | Self::Stream | Self::Scattered => BlobKind::Data,
            Self::Leaves | Self::Inner => BlobKind::Tree,
            Self::Lists => BlobKind::List,
        }
    }

    /// From how many bytes on a frame is closed, in a run that has stored `stored` bytes.
    pub(super) fn target(self, stored: u64) -> usize {
        match self {
            Self::Small => usize::try_from(stored / FRAME_SHARE)
                .unwrap_or(usize::MAX)
                .clamp(FRAME_RAW_TARGET, SMALL_FRAME_TARGET),
            Self::Stream => FRAME_RAW_TARGET,
            Self::Scattered => SCATTERED_FRAME_TARGET,
            Self::Inner => INNER_FRAME_TARGET,
            Self::Leaves | Self::Lists => NODE_FRAME_TARGET,
        }
    }
}
