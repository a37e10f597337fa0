//! `keephold-verify check-config`: is the configuration file right?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use keephold_cli::exit::usage;
use keephold_cli::human;
use keephold_cli::target::TargetArgs;

use crate::settings::{Config, FILE, Overrides, Settings};

/// Check a configuration file, and that the files that it names can be used, without verifying anything.
#[derive(Debug, Args)]
pub(super) struct CheckConfigArgs {
    /// The file; the one in its usual place by default.
    file: Option<PathBuf>,
}

pub(super) fn run(args: &CheckConfigArgs) -> Result<u8> {
    let Some(path) = keephold_cli::config::find(args.file.as_deref(), FILE) else {
        return Err(usage(
            "there is no configuration file in /etc/keephold or ~/.config/keephold; name one",
        ));
    };
    let config = Config::read(&path)?;
    let settings = Settings::resolve(&config, &TargetArgs::default(), &Overrides::default())?;
    let mut out = format!(
        "{}: sound\n  vault    {}{}\n  reports  {}, signed by {}\n",
        path.display(),
        settings.target.url,
        if settings.fingerprint.is_some() { "" } else { " (fingerprint NOT pinned)" },
        settings.out.display(),
        settings.report_key.public().fingerprint(),
    );
    match &settings.evidence {
        Some(to) => out.push_str(&format!(
            "  evidence {}, for {} days\n",
            to.target.url,
            to.keep.as_hours() / 24
        )),
        None => out
            .push_str("  evidence only in that folder: [evidence] names no target that locks it\n"),
    }
    for job in &settings.jobs {
        let limit = |word: &str, seconds: Option<u64>| match seconds {
            Some(s) => format!("{word} {}", human::duration(std::time::Duration::from_secs(s))),
            None => format!("no {word}"),
        };
        out.push_str(&format!(
            "  job      {}/{}: {}, {}, {}\n",
            job.host,
            job.name,
            limit("RPO", job.rpo_s),
            limit("RTO", job.rto_s),
            limit("greatest age of its restore test", job.restore_test_every_s)
        ));
    }
    if settings.jobs.is_empty() {
        out.push_str("  no jobs are expected, so a job that never ran will not be missed\n");
    }
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        print!("{out}");
    }
    Ok(0)
}
