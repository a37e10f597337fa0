//! The Keephold vault: the format of stored backups, and the locked store beneath it.
pub mod content;
pub mod ids;
pub mod limits;
pub mod store;
pub mod tree;
