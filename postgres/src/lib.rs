//! PostgreSQL for Keephold: what the agent needs to dump databases it can vouch for, and the verifier to restore them.
//!
//! ```text
//! agent      connect ─ discover ─ snapshot ─ dump ──bytes──┬─ the vault
//!                         programs ────────────┘            └─ archive: whole? rows, sums
//! verifier   programs ─ cluster: start, restore, digest again, compare, amcheck, stop
//! ```
//!
//! | module | idea |
//! |---|---|
//! | [`connect`] | libpq's conventions, resolved once for our session and for the programs |
//! | [`programs`] | which `pg_dump`, `pg_restore`, `postgres` fit a server |
//! | [`discover`] | facts about a server, its databases, and which of them a job takes |
//! | [`snapshot`] | locks, then one frozen view that dump and queries share |
//! | [`dump`] | `pg_dump` and `pg_dumpall` as streams |
//! | [`pieces`] | a program's output, in few and large pieces |
//! | [`archive`] | reads a dump as it passes: whole or not, rows and sums for each table |
//! | [`cluster`] | a throw-away server to restore into, and the comparison |
//! | [`account`] | accounts of the operating system |
//!
//! Errors name the thing that is wrong, and [`Error::hint`] says what to do. Nothing here prints; notes go to `tracing`.

pub mod account;
pub mod archive;
pub mod cluster;
pub mod connect;
pub mod discover;
pub mod dump;
mod error;
pub mod pieces;
mod process;
pub mod programs;
pub mod snapshot;

pub use self::error::{Error, Result};
