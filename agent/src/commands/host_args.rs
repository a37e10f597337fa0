//! What commands of a host that backs up are told of it: its vault, its keys, its cache, its name.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use keephold_cli::keys::default_cache;
use keephold_cli::target::TargetArgs;

use crate::config::Config;

/// A host, on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct HostArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Configuration file.
    #[arg(short, long, env = "KEEPHOLD_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Folder with this host's keys.
    #[arg(long, env = "KEEPHOLD_KEYS", hide_env_values = true, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Folder for the cache; losing it costs time, nothing else.
    #[arg(long, env = "KEEPHOLD_CACHE", hide_env_values = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// What this host is called in the vault.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl HostArgs {
    /// The configuration, with the name given here; see [`Config::chosen`].
    pub(super) fn config(&self, named_here: bool) -> Result<Config> {
        let mut config = Config::chosen(self.config.as_deref(), named_here)?;
        config.host = self.host.clone().or(config.host);
        Ok(config)
    }

    /// The folder with the host's keys.
    pub(super) fn key_folder(&self, config: &Config) -> PathBuf {
        config.vault.key_folder(self.keys.as_deref())
    }

    /// The folder of the cache.
    pub(super) fn cache(&self, config: &Config) -> PathBuf {
        self.cache.clone().or_else(|| config.cache.clone()).unwrap_or_else(default_cache)
    }
}
