//! The evidence target: where reports, proofs and drills are kept under lock, beside the verifier's own folder.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::SignedDuration;
use keephold_cli::exit::usage;
use keephold_cli::target::{Target, TargetArgs, VaultTable};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Config;
use super::config::length;

/// How long evidence is locked where nothing else is said: a year for a yearly audit, and a month for it to take place.
const KEEP_S: u64 = 400 * 24 * 3600;

/// The `[evidence]` table.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EvidenceTable {
    /// For how long in seconds what is stored is locked.
    #[serde(default, rename = "keep", deserialize_with = "length")]
    pub keep_s: Option<u64>,
    /// Where it is, and how to reach it, as the table `[vault]` says it.
    #[serde(flatten)]
    pub vault: VaultTable,
    /// What is written wrong: a flattened table takes what it knows and can't refuse the rest.
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, IgnoredAny>,
}

/// Where evidence is kept under lock.
#[derive(Debug, Clone)]
pub struct EvidenceTarget {
    /// Where.
    pub target: Target,
    /// For how long what is stored is locked.
    pub keep: SignedDuration,
}

impl EvidenceTarget {
    /// The target that `named` or the configuration asks for, if one is; `vault` is where the backups are.
    ///
    /// # Errors
    /// Usage errors that name the setting.
    pub fn resolve(config: &Config, named: Option<&str>, vault: &Target) -> Result<Option<Self>> {
        let table = &config.evidence;
        if named.is_none() && table.vault.url.is_none() {
            return Ok(None);
        }
        let args = TargetArgs { vault: named.map(str::to_owned), ..TargetArgs::default() };
        let target = args.resolve(&table.vault)?;
        if target.is_at(vault) {
            return Err(usage(format!(
                "the evidence target {} is the vault itself, where a verifier must not write: give it a bucket of its own",
                target.url
            )));
        }
        let seconds = i64::try_from(table.keep_s.unwrap_or(KEEP_S)).unwrap_or(i64::MAX);
        Ok(Some(Self { target, keep: SignedDuration::from_secs(seconds) }))
    }
}
