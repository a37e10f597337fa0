//! Reading backups: the vault, the keys, and the snapshot that is meant.

mod choose;
mod paths;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::{Exit, usage};
use keephold_cli::identity::IdentityArgs;
use keephold_cli::keys::HostKeys;
use keephold_cli::target::TargetArgs;
use keephold_vault::ids::Fingerprint;
use keephold_vault::read::{Opener, ReadSettings, RunRecord, SnapshotReader, Vault};
use keephold_vault::sign::AllowedSigners;

use crate::config::Config;

pub(crate) use choose::Choice;
pub(crate) use paths::tree_path;

/// Where the backups are, and what opens them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    /// Whose records to believe: public keys in the form of ssh-keygen's allowed_signers, or one key a line.
    #[arg(
        long,
        env = "KEEPHOLD_SIGNERS",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Keys"
    )]
    pub(crate) signers: Option<PathBuf>,
    /// The vault must be this one: the BLAKE3 of its vault.json, as `keephold init` printed it.
    #[arg(
        long,
        env = "KEEPHOLD_FINGERPRINT",
        hide_env_values = true,
        value_name = "HEX",
        help_heading = "Keys"
    )]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Configuration file; only its tables `[vault]` and `[performance]` are used.
    #[arg(short, long, env = "KEEPHOLD_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder with this host's keys, if this is a host that backs up.
    #[arg(
        long,
        env = "KEEPHOLD_KEYS",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Keys"
    )]
    pub(crate) keys: Option<PathBuf>,
}

/// A vault that is opened for reading.
pub(crate) struct ReadVault {
    pub(crate) vault: Vault,
    pub(crate) opener: Opener,
    /// Whose records are believed; without them signatures aren't checked.
    pub(crate) signers: Option<AllowedSigners>,
    pub(crate) settings: ReadSettings,
}

impl ReadArgs {
    /// Opens the vault. With identities everything can be read; with only the host's keys just the records.
    pub(crate) async fn open(&self, needs_data: bool) -> Result<ReadVault> {
        let config = Config::chosen(self.config.as_deref(), self.target.vault.is_some())?;
        let target = self.target.resolve(&config.vault)?;
        let keys = self.host_keys(&config)?;
        let pinned = self.fingerprint.or_else(|| keys.as_ref().map(|keys| keys.fingerprint));
        let vault =
            Vault::open(target.open()?, pinned.as_ref()).await.context("opening the vault")?;
        let secret = keys.as_ref().map(|keys| keys.secret.clone());
        let opener = match (self.identity.identities.is_empty() && !needs_data, secret) {
            (true, Some(secret)) => Opener::with_secret(vault.id(), secret),
            // Says which option is missing, if none is given.
            (_, secret) => {
                let opener = Opener::with_identities(vault.id(), self.identity.load()?);
                secret.into_iter().fold(opener, Opener::and_secret)
            }
        };
        let signers = self.signers.as_deref().map(read_signers).transpose()?;
        let settings = config.performance.resolve().reading();
        Ok(ReadVault { vault, opener, signers, settings })
    }

    /// This host's keys: the named ones, or those in their usual place if the vault is that of its configuration.
    fn host_keys(&self, config: &Config) -> Result<Option<HostKeys>> {
        if let Some(folder) = &self.keys {
            return Ok(Some(HostKeys::load(folder)?));
        }
        let folder = config.vault.key_folder(None);
        if self.target.vault.is_some() || !folder.join("vault.secret").exists() {
            return Ok(None);
        }
        // Who restores as another user may not read them, and needn't.
        Ok(HostKeys::load(&folder).ok())
    }
}

/// Reads a file of those whose records are believed.
pub(crate) fn read_signers(path: &Path) -> Result<AllowedSigners> {
    let text = std::fs::read_to_string(path)
        .with_context(|| usage(format!("the signers' file {} can't be read", path.display())))?;
    AllowedSigners::parse(&text).with_context(|| format!("in {}", path.display()))
}

impl ReadVault {
    /// Opens the snapshot of a run.
    pub(crate) fn snapshot(&self, run: &RunRecord) -> Result<SnapshotReader> {
        Ok(SnapshotReader::new(&self.vault, &self.opener, run, self.settings)?)
    }

    /// Tells what was met and read through; it makes the outcome one with findings.
    pub(crate) fn finish(&self, exit: Exit) -> Exit {
        let notes = self.vault.notes();
        for note in &notes {
            tracing::warn!("{note}");
        }
        if notes.is_empty() { exit } else { exit.max(Exit::Findings) }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use keephold_vault::testing::VaultMaker;

    /// Opens a vault made by hand.
    pub(crate) async fn opened(maker: &VaultMaker) -> ReadVault {
        let (vault, opener) = maker.open().await.unwrap();
        ReadVault { vault, opener, signers: None, settings: ReadSettings::default() }
    }
}
