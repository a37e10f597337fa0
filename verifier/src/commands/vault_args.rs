//! Which vault is looked at, which of its jobs, who opens them, and whose records are believed.

use std::path::PathBuf;

use clap::Args;
use keephold_cli::identity::IdentityArgs;
use keephold_cli::target::TargetArgs;
use keephold_vault::ids::Fingerprint;

use crate::settings::Overrides;

/// A vault and what opens it, on the command line.
#[derive(Debug, Args)]
pub(super) struct VaultArgs {
    /// Only this job; may be given several times.
    #[arg(long = "job", value_name = "HOST/JOB", value_parser = job_name)]
    jobs: Vec<(String, String)>,
    /// The vault's fingerprint, as `keephold init` printed it.
    #[arg(long, env = "KEEPHOLD_FINGERPRINT", value_name = "HEX", help_heading = "Vault")]
    fingerprint: Option<Fingerprint>,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    identities: IdentityArgs,
    /// Whose records are believed: each host's signing_key.pub, or an allowed-signers file.
    #[arg(long, env = "KEEPHOLD_SIGNERS", value_name = "FILE")]
    signers: Option<PathBuf>,
}

fn job_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((host, job)) if !host.is_empty() && !job.is_empty() && !job.contains('/') => {
            Ok((host.into(), job.into()))
        }
        _ => Err("write it as HOST/JOB".into()),
    }
}

impl VaultArgs {
    /// What of this goes before the configuration file.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            fingerprint: self.fingerprint,
            identities: self.identities.clone(),
            signers: self.signers.clone(),
            only: self.jobs.clone(),
            ..Overrides::default()
        }
    }
}
