//! What both Keephold programs share: how they are told where the vault is, where keys lie, how they log, use
//! memory, show numbers, and how they end.

pub mod config;
pub mod exit;
pub mod human;
pub mod identity;
pub mod keys;
pub mod logging;
pub mod memory;
pub mod target;
