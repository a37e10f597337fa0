//! Identities: who reads.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use keephold_vault::envelope::Identities;

use crate::exit::usage;

/// Whose key opens what was sealed.
#[derive(Debug, Clone, Default, Args)]
pub struct IdentityArgs {
    /// File with an age identity (AGE-SECRET-KEY-1…); may be given several times.
    #[arg(
        short,
        long = "identity",
        env = "KEEPHOLD_IDENTITY",
        hide_env_values = true,
        value_name = "FILE",
        value_delimiter = ':'
    )]
    pub identities: Vec<PathBuf>,
}

impl IdentityArgs {
    /// Reads the identities.
    ///
    /// # Errors
    /// A usage error if none is given; an error that names the file otherwise.
    pub fn load(&self) -> Result<Identities> {
        if self.identities.is_empty() {
            return Err(usage(
                "reading a backup takes an identity: give --identity FILE (the restore.agekey that `keephold init` made)",
            ));
        }
        let mut text = String::new();
        for path in &self.identities {
            let one = std::fs::read_to_string(path)
                .with_context(|| format!("the identity file {} can't be read", path.display()))?;
            Identities::parse(&one).with_context(|| format!("in {}", path.display()))?;
            text.push_str(&one);
            text.push('\n');
        }
        Ok(Identities::parse(&text)?)
    }
}
