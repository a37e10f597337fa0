//! `keephold-verify prove-lock`: tries to break a lock, and leaves a signed proof of what came of it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::SignedDuration;
use keephold_cli::target::TargetArgs;
use keephold_vault::sign::Purpose;

use super::evidence::store;
use crate::prove::{self, Proving};
use crate::report::model::{LockProof, ProbeResult};
use crate::report::words;
use crate::report::write::write_proof;
use crate::settings::{Config, EvidenceTarget, prober};

/// Try to break a lock: put a canary under a short lock, and delete, shorten, bypass and overwrite it.
///
/// It takes a credential of its own, which may put, delete, set locks and bypass governance, below `canary/` in the vault
/// and nowhere else: a refusal to one that may not delete would prove only the policy. Whether it may is tried first.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the lock held; 3 it was broken, or there is none; 1 not proven, or it could not be \
    tried, or its evidence not be stored; 2 usage."
)]
pub(super) struct ProveLockArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The key that signs the proof; `keephold-verify init` makes one.
    #[arg(long, env = "KEEPHOLD_REPORT_KEY", value_name = "FILE")]
    report_key: Option<PathBuf>,
    /// Folder for reports: the proof is put there, and shown in the next report.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where evidence is kept under lock as well; how it is reached says [evidence] in the configuration file.
    #[arg(long, value_name = "URL")]
    evidence: Option<String>,
    /// Configuration file.
    #[arg(short, long, env = "KEEPHOLD_VERIFY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the proof as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &ProveLockArgs) -> Result<u8> {
    let config = Config::chosen(args.config.as_deref(), args.target.vault.is_some())?;
    let (target, credential) = prober::target(&config, &args.target)?;
    let evidence = EvidenceTarget::resolve(&config, args.evidence.as_deref(), &target)?;
    let (key, out) = prober::evidence(&config, args.report_key.as_deref(), args.out.as_deref())?;
    let seconds = i64::try_from(config.prober.lock_for_s).unwrap_or(i64::MAX);
    let lock_for = SignedDuration::from_secs(seconds);
    let proving = Proving { target, credential, lock_for, key };
    let proof = prove::prove(&proving).await?;
    let folder = write_proof(&out, &proof, |json| Ok(proving.key.sign(Purpose::Report, json)?))
        .with_context(|| format!("the proof could not be written to {}", out.display()))?;
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    if args.json {
        println!("{}", serde_json::to_string_pretty(&proof)?);
    } else {
        print!("{}\n{}\n", text(&proof), folder.display());
    }
    store(&out, evidence.as_ref(), !args.json).await?;
    Ok(proof.exit_code)
}

/// The proof for a terminal.
pub(super) fn text(proof: &LockProof) -> String {
    let mut text = format!(
        "{}\n  {}, {}: {}\n",
        proof.headline,
        proof.target,
        proof.canary,
        proof.lock.as_deref().unwrap_or("no lock")
    );
    for attempt in &proof.attempts {
        let word = words::probe_result(attempt.result);
        let mark = if attempt.result == ProbeResult::Control { "may" } else { word };
        text.push_str(&format!("  {mark:<10} {}: {}\n", attempt.action, attempt.actual));
    }
    for finding in &proof.findings {
        text.push_str(&format!("  {} {}\n    {}\n", finding.code, finding.summary, finding.remedy));
    }
    text
}
