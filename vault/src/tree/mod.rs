//! The snapshot tree: entries in sorted path order, in blobs of their own kind, under nodes that say which blob
//! holds which paths.
mod entry;
pub use entry::*;
