//! Bounds of the format. Readers believe no length before it is held against one of these.

/// How many extents stand in an entry itself; longer lists are stored in list blobs.
pub const EXTENTS_INLINE_MAX: usize = 64;
