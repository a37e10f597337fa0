//! One module a command.

pub(crate) mod backup;
pub(crate) mod check_config;
pub(crate) mod init;
