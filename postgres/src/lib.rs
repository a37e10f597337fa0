//! PostgreSQL for Keephold.

pub mod account;
pub mod archive;
pub mod cluster;
pub mod connect;
pub mod discover;
pub mod dump;
mod error;
mod process;
pub mod programs;
pub mod snapshot;

pub use self::error::{Error, Result};
