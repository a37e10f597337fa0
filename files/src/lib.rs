//! File trees for Keephold: walking, reading, restoring and comparing them.
//!
//! ```text
//! backup:   walk ─▶ meta ─▶ read ─▶ (vault)
//! restore:  (vault) ─▶ restore ─▶ compare
//! ```
//! Everything is done below a directory's descriptor and never through a symbolic link ([`Base`]); nothing prints; what
//! goes wrong with one entry is a typed problem and never stops the others.
mod beneath;
pub mod compare;
pub mod meta;
mod problem;
pub mod read;
pub mod restore;
mod stat;
#[cfg(test)]
mod testing;
pub mod walk;

pub use beneath::{Base, FileOpener};
pub use problem::{Problem, ProblemKind};
pub use stat::{Kind, Stat};
