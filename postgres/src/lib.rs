//! PostgreSQL for Keephold.

pub mod archive;
