//! One module a command.

pub(crate) mod backup;
pub(crate) mod benchmark;
pub(crate) mod check_config;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod dump;
mod host_args;
pub(crate) mod init;
mod json;
pub(crate) mod keys;
pub(crate) mod ls;
pub(crate) mod policy;
pub(crate) mod prune;
pub(crate) mod replicate;
pub(crate) mod restore;
pub(crate) mod snapshots;
mod table;
