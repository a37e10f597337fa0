//! The prober's table, and what of the other settings it uses.

use std::path::{Path, PathBuf};

use anyhow::Result;
use keephold_cli::exit::usage;
use keephold_cli::target::{Target, TargetArgs, VaultTable};
use keephold_vault::sign::SigningKey;
use serde::Deserialize;

use super::config::{length, seconds};
use super::{Config, read_key};

/// Shortest lock of a canary: its attacks must be over before it ends.
const LOCK_MIN_S: u64 = 120;

/// The `[prober]` table: the credential of `prove-lock`. The rest is as in `[vault]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProberTable {
    /// Profile in the AWS configuration files.
    pub profile: Option<String>,
    /// The access key's id.
    pub access_key_id: Option<String>,
    /// File that holds the secret access key and nothing else.
    pub secret_file: Option<PathBuf>,
    /// How long in seconds a canary is locked.
    #[serde(rename = "lock_for", deserialize_with = "seconds")]
    pub lock_for_s: u64,
    /// The greatest age in seconds that the newest proof may have; none if nothing is expected.
    #[serde(rename = "max_age", deserialize_with = "length")]
    pub max_age_s: Option<u64>,
}

impl Default for ProberTable {
    fn default() -> Self {
        Self {
            profile: None,
            access_key_id: None,
            secret_file: None,
            lock_for_s: 600,
            max_age_s: None,
        }
    }
}

/// The vault's target with the prober's credential (never the verifier's), and how that credential is called.
///
/// # Errors
/// Usage errors that name the setting.
pub fn target(config: &Config, args: &TargetArgs) -> Result<(Target, String)> {
    let prober = &config.prober;
    if prober.lock_for_s < LOCK_MIN_S {
        return Err(usage(format!("[prober] lock_for must be {LOCK_MIN_S} s at least")));
    }
    let vault = VaultTable {
        profile: prober.profile.clone(),
        access_key_id: prober.access_key_id.clone(),
        secret_file: prober.secret_file.clone(),
        ..config.vault.clone()
    };
    let target = args.resolve(&vault)?;
    let options = &target.options;
    let called = match (&options.profile, &options.access_key_id) {
        (Some(profile), _) => format!("profile {profile}"),
        (None, Some(id)) => format!("key {id}"),
        (None, None) => match std::env::var("AWS_ACCESS_KEY_ID") {
            Ok(id) => format!("key {id}"),
            Err(_) => format!("uid {}", rustix::process::geteuid().as_raw()),
        },
    };
    Ok((target, called))
}

/// The key that signs a proof, and where it goes.
///
/// # Errors
/// A usage error if no key is named; errors that name its file.
pub fn evidence(
    config: &Config,
    key: Option<&Path>,
    out: Option<&Path>,
) -> Result<(SigningKey, PathBuf)> {
    let Some(key) = key.or(config.report_key.as_deref()) else {
        return Err(usage(
            "a proof is worth nothing unsigned: run `keephold-verify init` once, then give --report-key FILE",
        ));
    };
    Ok((read_key(key)?, config.reports(out)))
}
