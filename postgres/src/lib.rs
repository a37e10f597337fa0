//! PostgreSQL for Keephold.

pub mod account;
pub mod archive;
pub mod connect;
mod error;

pub use self::error::{Error, Result};
