//! Bounds of the format. Readers believe no length before it is held against one of these.

/// How many extents stand in an entry itself; longer lists are stored in list blobs.
pub const EXTENTS_INLINE_MAX: usize = 32;
/// How many levels of list blobs a content may have: enough for 2^60 bytes at 64 KiB a blob.
pub const LIST_DEPTH_MAX: u8 = 6;
/// How many levels of inner nodes a snapshot tree may have.
pub const TREE_DEPTH_MAX: u8 = 12;

/// Longest blob in bytes.
pub const BLOB_LEN_MAX: u32 = 8 * MIB;
/// A frame of a long stream's blobs is closed once they reach this many bytes, and so is one of small files in a run
/// that stores little.
pub const FRAME_RAW_TARGET: usize = MIB as usize;
/// A frame of small files is closed at this many bytes at the latest. Source code takes 3 to 6 % less than in frames
/// of 1 MiB, at the same speed. At 4 MiB it would take as much less again, but a restore holds a dozen frames.
pub const SMALL_FRAME_TARGET: usize = 2 * MIB as usize;
/// A file up to this size is one blob, whole: what cutting it would save after a change is less than what a second
/// blob costs in names, hashes and index.
pub const SMALL_FILE_MAX: usize = 128 * 1024;
/// Most bytes that a frame expands to: one longest blob on top of an almost full frame.
pub const FRAME_RAW_MAX: u32 = BLOB_LEN_MAX + MIB;
/// Most stored bytes of a frame: zstd's and sealing's overhead on data that doesn't shrink stay far below this.
pub const FRAME_STORED_MAX: u32 = FRAME_RAW_MAX + 64 * 1024;

/// A pack is closed once it reaches this many bytes.
pub const PACK_TARGET: usize = 16 * MIB as usize;
/// Longest pack in bytes.
pub const PACK_LEN_MAX: u32 = 64 * MIB;
/// Most blobs in a pack: bounds what its footer can make a reader allocate.
pub const PACK_BLOBS_MAX: usize = 1 << 20;

/// Blobs described by one block of an index segment.
pub const BLOB_BLOCK_LEN: usize = 1024;
/// Packs described by one block of an index segment.
pub const PACK_BLOCK_LEN: usize = 256;
/// Most blobs in one index segment; a writer begins another one well before.
pub const SEGMENT_BLOBS_MAX: usize = 1 << 20;
/// A run stores a segment after so many packs, or one in [`SEGMENT_SHARE`] of all that it has stored, whichever is more: so
/// a host that is lost in a long run loses little, and the largest vault still has few segments to search.
pub const SEGMENT_PACKS: usize = 128;
/// See [`SEGMENT_PACKS`].
pub const SEGMENT_SHARE: u64 = 8;
/// Longest index segment in bytes.
pub const SEGMENT_LEN_MAX: u32 = 128 * MIB;

/// Longest age file in a header, in bytes: room for hundreds of recipients.
pub const ENVELOPE_LEN_MAX: u32 = 64 * 1024;
/// Longest run record in bytes.
pub const RECORD_LEN_MAX: u64 = 32 * MIB as u64;
/// Longest record body when expanded, in bytes.
pub const RECORD_BODY_MAX: u32 = 128 * MIB;
/// Longest `vault.json` in bytes.
pub const CONFIG_LEN_MAX: u64 = 64 * 1024;

/// Tree nodes are cut where a path's hash says so, between these lengths in bytes.
pub const NODE_LEN_MIN: usize = 4 * 1024;
/// Longest tree node that a writer makes, but for one entry that is longer by itself.
pub const NODE_LEN_MAX: usize = 256 * 1024;

const MIB: u32 = 1 << 20;

const _: () = assert!(FRAME_STORED_MAX < PACK_LEN_MAX);
const _: () = assert!(PACK_TARGET + (FRAME_STORED_MAX as usize) < PACK_LEN_MAX as usize);
const _: () = assert!(NODE_LEN_MAX < BLOB_LEN_MAX as usize);
const _: () = assert!(SMALL_FRAME_TARGET + SMALL_FILE_MAX <= FRAME_RAW_MAX as usize);
