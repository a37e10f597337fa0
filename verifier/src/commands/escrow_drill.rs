//! `keephold-verify escrow-drill`: proves that an offline identity still opens the newest snapshot of each job.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::evidence::store;
use super::vault_args::VaultArgs;
use crate::settings::{Config, Overrides, Settings};
use crate::stop::Stop;
use crate::{drill, evidence};

/// Prove that an offline identity still opens the newest snapshot of each job, and leave signed evidence of it.
///
/// Fetch the identity from the safe, run this, and put it back: nothing of it is kept here. For each job the newest
/// record's envelope is opened with it, and with that the top of the tree and one piece of data are read and recomputed.
/// Later reports say when the last drill was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    keephold-verify escrow-drill --identity /media/usb/restore.agekey\n  \
    keephold-verify escrow-drill --identity /media/usb/escrow.agekey --job db1/main\n\n\
    Exit codes: 0 it opens all of them; 3 it doesn't; 1 something could not be checked,\n\
    or the evidence not be stored; 2 usage.")]
pub(super) struct EscrowDrillArgs {
    #[command(flatten)]
    of: VaultArgs,
    /// The key that signs the evidence: the one that signs reports.
    #[arg(long, env = "KEEPHOLD_REPORT_KEY", value_name = "FILE")]
    report_key: Option<PathBuf>,
    /// Folder of the reports; the evidence goes into its folder `evidence`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where evidence is kept under lock as well; how it is reached says [evidence] in the configuration file.
    #[arg(long, value_name = "URL")]
    evidence: Option<String>,
    /// Configuration file.
    #[arg(short, long, env = "KEEPHOLD_VERIFY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the evidence as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &EscrowDrillArgs) -> Result<u8> {
    let mut config = Config::chosen(args.config.as_deref(), args.of.target.vault.is_some())?;
    // The verifier's own identity proves nothing about the one in the safe.
    config.identity.clear();
    let over = Overrides {
        report_key: args.report_key.clone(),
        out: args.out.clone(),
        evidence: args.evidence.clone(),
        ..args.of.overrides()
    };
    if over.identities.identities.is_empty() {
        return Err(keephold_cli::exit::usage(
            "a drill takes the identity from the safe: give --identity FILE",
        ));
    }
    let settings = Settings::resolve(&config, &args.of.target, &over)?;
    let drill = drill::drill(&settings, &Stop::on_signals()?).await?;
    let path = evidence::write(&settings.out, drill::KIND, &drill, &settings.report_key)
        .context("the evidence could not be written")?;
    let path = std::path::absolute(&path).unwrap_or(path);
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    if args.json {
        println!("{}", serde_json::to_string_pretty(&drill)?);
    } else {
        print!("{}\nSigned evidence: {}\n", drill.text(), path.display());
    }
    store(&settings.out, settings.evidence.as_ref(), !args.json).await?;
    Ok(drill.exit_code())
}
