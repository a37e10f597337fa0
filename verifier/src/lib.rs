//! What `keephold-verify` is made of. The binary only maps its result to an exit code; the parts live in a library so
//! that the end-to-end tests, and anyone who wants to read a `report.json`, can use the same types.
//!
//! ```text
//! commands ─▶ settings ─▶ check: records ─▶ inventory ─▶ presence, lock, integrity ─▶ content ─▶ restore ─▶ report
//! ```
//!
//! - [`commands`]: the command line.
//! - [`settings`]: the configuration file under the command line.
//! - [`check`]: one module a check.
//! - [`prove`]: attacks on the lock of a canary.
//! - [`drill`]: does the identity in the safe still open everything?
//! - [`report`]: the document that a verification leaves behind, as JSON, as a page and as text.

pub mod check;
pub mod commands;
pub mod drill;
mod evidence;
pub mod prove;
pub mod report;
pub mod settings;
mod stop;
