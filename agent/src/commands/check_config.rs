//! `keephold check-config`: is the configuration file right?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use keephold_cli::exit::{Exit, usage};
use keephold_cli::target::TargetArgs;

use crate::config::{Config, FILE};

/// Check a configuration file without running anything.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckConfigArgs {
    /// The file; the one in its usual place by default.
    file: Option<PathBuf>,
}

pub(crate) fn run(args: &CheckConfigArgs) -> Result<Exit> {
    let Some(path) = keephold_cli::config::find(args.file.as_deref(), FILE) else {
        return Err(usage(
            "there is no configuration file in /etc/keephold or ~/.config/keephold; name one",
        ));
    };
    let config = Config::read(&path)?;
    let jobs = config.jobs()?;
    if config.vault.url.is_some() {
        let target = TargetArgs::default().resolve(&config.vault)?;
        crate::copies::configured(&config, &target)?;
    }
    let mut out = format!("{}: sound\n  host '{}'\n", path.display(), config.host()?);
    for job in &jobs {
        out.push_str(&format!(
            "  job '{}' ({:?}), kept: {}\n",
            job.name,
            job.source.kind(),
            job.keep.in_words()
        ));
    }
    for replica in config.also() {
        let spool = keephold_cli::human::bytes(replica.spool_max()?);
        let url = replica.vault.url.as_deref().unwrap_or_default();
        out.push_str(&format!("  copy '{}' at {url}, spooled up to {spool}\n", replica.name));
    }
    if jobs.is_empty() {
        out.push_str("  no jobs\n");
    }
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        print!("{out}");
    }
    Ok(Exit::Done)
}
