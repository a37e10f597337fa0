//! The snapshot tree: entries in sorted path order, in blobs of their own kind, under nodes that say which blob
//! holds which paths. Listing a folder or finding one file of ten million reads a handful of blobs.

mod build;
mod entry;
mod node;

pub use build::TreeBuilder;
pub use entry::{
    BadPath, Entry, EntryKind, FileTime, Metadata, PATH_LEN_MAX, TreePath, Xattr, cmp_paths,
};
pub(crate) use node::is_inner;
pub use node::{Child, Node, TreeRoot};
