//! Where the vault is: options of the command line over the `[vault]` table of a configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use keephold_vault::store::{LockPolicy, Store, TargetOptions, TargetUrl, open_store};
use serde::Deserialize;

use crate::exit::usage;
use crate::keys::default_folder;

/// Where the vault is, on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct TargetArgs {
    /// The vault: s3:// or gs://bucket/prefix, az://account/container/prefix, or file:///path.
    #[arg(
        long,
        env = "KEEPHOLD_VAULT",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Vault"
    )]
    pub vault: Option<String>,
    /// Address of an S3-compatible server, or of another cloud of Azure's or Google's.
    #[arg(
        long,
        env = "KEEPHOLD_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Vault"
    )]
    pub endpoint: Option<String>,
    /// Region to sign requests for.
    #[arg(long, value_name = "NAME", help_heading = "Vault")]
    pub region: Option<String>,
    /// Profile in the AWS configuration files.
    #[arg(long, value_name = "NAME", help_heading = "Vault")]
    pub profile: Option<String>,
    /// How what is written is locked.
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Vault")]
    pub lock: Option<LockArg>,
    /// Give up on a server after so many seconds of failing requests.
    #[arg(long, value_name = "SECONDS", help_heading = "Vault")]
    pub retry: Option<u64>,
}

/// [`LockPolicy`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LockArg {
    /// Nobody can shorten a lock or delete before its end, you included.
    Compliance,
    /// A credential with a special right can.
    Governance,
    /// Nothing is locked; every report shows it in red.
    None,
}

impl From<LockArg> for LockPolicy {
    fn from(arg: LockArg) -> Self {
        match arg {
            LockArg::Compliance => Self::Compliance,
            LockArg::Governance => Self::Governance,
            LockArg::None => Self::None,
        }
    }
}

/// The `[vault]` table of a configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultTable {
    /// The vault's URL.
    pub url: Option<String>,
    /// The key folder of the host.
    pub keys: Option<PathBuf>,
    /// How what is written is locked.
    pub lock: Option<LockPolicy>,
    /// Address of an S3-compatible server.
    pub endpoint: Option<String>,
    /// Region to sign requests for.
    pub region: Option<String>,
    /// Whether the bucket stands in the path instead of the host's name.
    pub path_style: Option<bool>,
    /// Whether the endpoint may be plain `http://`.
    pub allow_http: Option<bool>,
    /// Profile in the AWS configuration files.
    pub profile: Option<String>,
    /// The access key's id.
    pub access_key_id: Option<String>,
    /// File that holds the secret access key and nothing else.
    pub secret_file: Option<PathBuf>,
    /// PEM file of certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one attempt to connect may take, in seconds.
    pub connect_timeout_s: Option<u64>,
    /// How long failing requests are tried again, in seconds.
    pub retry_s: Option<u64>,
    /// Copies that runs write to as well, by the names of their tables. Only where a host backs up.
    pub also: Vec<String>,
}

impl VaultTable {
    /// To be asked wherever runs don't write: `also` would be passed over there.
    ///
    /// # Errors
    /// A usage error that says where it belongs; `place` is the table.
    pub fn refuse_also(&self, place: &str) -> Result<()> {
        if self.also.is_empty() {
            return Ok(());
        }
        Err(usage(format!(
            "{place} has `also`, which means nothing there: it belongs in [vault] of a host that backs up"
        )))
    }

    /// The key folder: the one that is named, or the table's, or the usual one.
    pub fn key_folder(&self, named: Option<&Path>) -> PathBuf {
        named.or(self.keys.as_deref()).map_or_else(default_folder, Path::to_owned)
    }
}

/// A vault's place, and how to reach it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub url: TargetUrl,
    /// How.
    pub options: TargetOptions,
}

impl TargetArgs {
    /// Puts the command line over a configuration file's table.
    ///
    /// # Errors
    /// A usage error if no vault is named, or its URL is wrong.
    pub fn resolve(&self, table: &VaultTable) -> Result<Target> {
        let Some(url) = self.vault.as_ref().or(table.url.as_ref()) else {
            return Err(usage(
                "no vault is named: give --vault URL (s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix or \
                 file:///path), or a configuration file with a [vault] table",
            ));
        };
        let defaults = TargetOptions::default();
        let endpoint = self.endpoint.clone().or_else(|| table.endpoint.clone());
        // Who types a plain http address on the command line means it; a file must say so.
        let plain = self.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
        let options = TargetOptions {
            region: self.region.clone().or_else(|| table.region.clone()),
            path_style: table.path_style,
            lock: self.lock.map(Into::into).or(table.lock).unwrap_or_default(),
            allow_http: table.allow_http.unwrap_or(plain),
            profile: self.profile.clone().or_else(|| table.profile.clone()),
            access_key_id: table.access_key_id.clone(),
            secret_file: table.secret_file.clone(),
            ca_file: table.ca_file.clone(),
            connect_timeout_s: table.connect_timeout_s.unwrap_or(defaults.connect_timeout_s),
            retry_s: self.retry.or(table.retry_s).unwrap_or(defaults.retry_s),
            endpoint,
            ..defaults
        };
        Ok(Target { url: TargetUrl::parse(url)?, options })
    }
}

impl Target {
    /// Whether it is the same place as another, as far as their settings tell.
    pub fn is_at(&self, other: &Self) -> bool {
        self.url == other.url && self.options.endpoint == other.options.endpoint
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`open_store`].
    pub fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(open_store(&self.url, &self.options, &|name| std::env::var(name).ok())?)
    }
}
