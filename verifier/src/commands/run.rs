//! `keephold-verify run`: verifies a vault, and leaves a signed report.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use keephold_vault::sign::Purpose;

use super::evidence;
use super::vault_args::VaultArgs;
use crate::check::{self, Progress};
use crate::report::text;
use crate::report::write::write_report;
use crate::settings::{Config, Depth, Overrides, Settings};
use crate::stop::Stop;

/// Verify a vault: read it all again, restore from it for real, and write a signed report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    keephold-verify run                                 as /etc/keephold/verify.toml says\n  \
    keephold-verify run --level integrity --job db1/main\n  \
    keephold-verify run --vault file:///srv/vault --identity verifier.agekey --signers signing_key.pub \\\n      \
    --report-key report_key --fingerprint HEX\n\n\
    Exit codes: 0 nothing was found; 3 there are findings; 1 something could not be checked,\n\
    or the evidence not be stored; 2 usage.")]
pub(super) struct RunArgs {
    /// How deep to verify; each depth holds those before it.
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Depth>,
    #[command(flatten)]
    of: VaultArgs,
    /// The key that signs the report; `keephold-verify init` makes one.
    #[arg(long, env = "KEEPHOLD_REPORT_KEY", value_name = "FILE")]
    report_key: Option<PathBuf>,
    /// Folder for reports.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where evidence is kept under lock as well; how it is reached says [evidence] in the configuration file.
    #[arg(long, value_name = "URL")]
    evidence: Option<String>,
    /// Folder to restore into; what is restored is removed again.
    #[arg(long, env = "KEEPHOLD_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Folder with PostgreSQL's programs.
    #[arg(long, value_name = "DIR")]
    pg_bin_dir: Option<PathBuf>,
    /// Objects read at once, of up to 64 MiB each.
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Configuration file.
    #[arg(short, long, env = "KEEPHOLD_VERIFY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    fn settings(&self) -> Result<Settings> {
        let config = Config::chosen(self.config.as_deref(), self.of.target.vault.is_some())?;
        let over = Overrides {
            report_key: self.report_key.clone(),
            out: self.out.clone(),
            evidence: self.evidence.clone(),
            level: self.level,
            scratch: self.scratch.clone(),
            pg_bin_dir: self.pg_bin_dir.clone(),
            concurrency: self.concurrency,
            ..self.of.overrides()
        };
        Settings::resolve(&config, &self.of.target, &over)
    }
}

pub(super) async fn run(args: &RunArgs, quiet: bool) -> Result<u8> {
    let settings = args.settings()?;
    let stop = Stop::on_signals()?;
    let shown = !args.json && !quiet && std::io::stderr().is_terminal();
    let report = check::verify(&settings, &stop, &Progress::new(shown)).await?;
    let key = &settings.report_key;
    let written = write_report(&settings.out, &report, |json| Ok(key.sign(Purpose::Report, json)?))
        .with_context(|| {
            format!("the report could not be written to {}", settings.out.display())
        })?;
    let page = std::path::absolute(written.folder.join("report.html")).unwrap_or(written.folder);
    let shown = !quiet || report.result.exit_code != 0;
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    if args.json {
        print!("{}", String::from_utf8_lossy(&written.json));
    } else if shown {
        print!("{}", text::render(&report, Some(&page)));
    }
    evidence::store(&settings.out, settings.evidence.as_ref(), shown && !args.json).await?;
    Ok(report.result.exit_code)
}
