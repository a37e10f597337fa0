//! The Keephold vault: the format of stored backups, and the locked store beneath it.
//!
//! Data flows through one module a step, and comes back beside it:
//!
//! ```text
//! write:  chunk → blob id (keys) → frame (zstd) → seal (AES-256-GCM) → pack → name (BLAKE3) → store (lock)
//! read:   store → name → pack → open → expand → blob id → content
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`ids`], [`limits`], [`error`] | names, bounds, errors |
//! | [`config`] | `vault.json` |
//! | [`keys`], [`envelope`], [`identity`], [`sign`] | secrets and what is derived from them; age; SSH signatures |
//! | [`chunk`], `hash`, `frame`, [`seal`], [`pack`] | from bytes to packs, and back |
//! | [`index`] | which blob lies where |
//! | [`content`], [`tree`] | files and snapshots |
//! | [`encode`] | postcard's encoding, behind what a buffer holds |
//! | [`record`] | one signed record for each run |
//! | [`store`] | the locked store |
//! | [`mod@write`], [`read`] | the two flows |
//! | [`mod@replicate`] | a second vault that holds the same objects, copied without a key |
//! | [`prune`] | taking away what nothing needs any more |
//!
//! `docs/FORMAT.md` describes the format for a second reader. The library prints nothing, reads no environment,
//! and knows no command line.

#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "tests count in small numbers"))]

pub mod chunk;
pub mod config;
pub mod content;
pub mod encode;
pub mod envelope;
pub mod error;
mod frame;
mod hash;
pub mod identity;
pub mod ids;
pub mod index;
pub mod keys;
pub mod limits;
pub mod pack;
pub mod prune;
pub mod read;
pub mod record;
pub mod replicate;
pub mod seal;
pub mod sign;
#[cfg(test)]
mod simulation;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tree;
pub mod write;

pub use error::Error;
