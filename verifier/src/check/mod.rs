//! The checks, in the order in which a verification does them.
//!
//! ```text
//! history (records) ──▶ freshness
//!    └─▶ needed (what unexpired runs need) ─▶ inventory (as listed) ─▶ presence, lock, integrity
//! newest snapshot of each job ─▶ content ─▶ restore/{directory, postgres}
//! everything ─▶ assemble ─▶ Report
//! ```
//! A check only adds findings and says how far it got; it never stops another one. What the agent claims is compared,
//! never believed: names, ids and sums are recomputed from stored bytes.

mod assemble;
mod content;
mod context;
mod copies;
mod drift;
mod escrow;
mod far;
mod findings;
mod freshness;
mod history;
mod integrity;
mod inventory;
mod jobs;
mod kept;
mod lock;
mod needed;
mod object;
mod overdue;
mod pack;
mod presence;
mod previous;
mod progress;
mod proof;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;
mod unneeded;

pub(crate) use assemble::{signer, tool};
pub use progress::Progress;

use anyhow::{Context as _, Result};
use keephold_vault::Error;
use keephold_vault::read::Vault;

use self::context::Context;
use self::findings::Findings;
use self::history::History;
use self::previous::Previous;
use crate::report::catalogue as code;
use crate::report::model::{Level, LevelResult, LevelState, Report};
use crate::settings::Settings;
use crate::stop::Stop;

/// Verifies a vault; the report is concluded and waits to be written.
///
/// # Errors
/// What keeps the verification from being done at all: a vault that can't be opened, or a signal to stop.
pub async fn verify(settings: &Settings, stop: &Stop, progress: &Progress) -> Result<Report> {
    let store = settings.target.open()?;
    let pinned = settings.fingerprint.as_ref();
    match Vault::open(store.clone(), pinned).await {
        Ok(vault) => verify_vault(settings, vault, stop, progress).await,
        Err(other @ Error::OtherVault { .. }) => {
            // That is worth a signed report, as long as there is a vault at all.
            match Vault::open(store, None).await {
                Ok(vault) => Ok(report_other(settings, vault, stop, progress, &other).await),
                Err(_) => Err(other).context("opening the vault"),
            }
        }
        Err(error) => Err(error).context("opening the vault"),
    }
}

/// Another vault stands where the pinned one should: nothing in it is worth a look.
async fn report_other(
    settings: &Settings,
    vault: Vault,
    stop: &Stop,
    progress: &Progress,
    error: &Error,
) -> Report {
    let context = Context::new(settings, vault, stop, progress);
    let mut findings = Findings::default();
    let kept = kept::check(settings, &mut findings).await;
    let previous = Previous::find(&settings.out, &settings.report_key.public(), &mut findings);
    let summary = "vault.json is not the one whose fingerprint the configuration pins.".to_owned();
    findings.add(&code::VAULT_ALTERED, "vault.json", summary, Some(error.to_string()));
    let mut parts = assemble::Parts::new(&context, &previous, kept);
    parts.findings = findings;
    parts.levels = Level::ALL
        .map(|level| could_not_check(&context, level, "another vault is in its place"))
        .into();
    let mut report = parts.report();
    report.target.fingerprint_pinned = false;
    report
}

/// Verifies a vault that was opened.
async fn verify_vault(
    settings: &Settings,
    vault: Vault,
    stop: &Stop,
    progress: &Progress,
) -> Result<Report> {
    let context = Context::new(settings, vault, stop, progress);
    let mut findings = Findings::default();
    let kept = kept::check(settings, &mut findings).await;
    let previous = Previous::find(&settings.out, &settings.report_key.public(), &mut findings);

    progress.stage("reading the records");
    let history = match History::read(&context).await {
        Ok(history) => history,
        Err(error) => {
            stop.check()?;
            let reason = format!("{error:#}");
            tracing::error!("{reason}");
            let levels = Level::ALL.map(|level| could_not_check(&context, level, &reason)).into();
            let mut parts = assemble::Parts::new(&context, &previous, kept);
            (parts.findings, parts.levels) = (findings, levels);
            return Ok(parts.report());
        }
    };
    let mut parts = assemble::Parts::new(&context, &previous, kept);
    parts.levels.push(freshness::check(&context, &history, &previous, &mut findings));

    parts.escrow_drill = escrow::check(&context, &mut findings);

    let stored = inventory::check(&context, &history, &previous, &mut findings).await?;
    parts.levels.extend(stored.levels);
    (parts.objects, parts.integrity, parts.locks) =
        (stored.objects, stored.integrity, stored.locks);
    // Otherwise they stay "not looked at".
    if !stored.copies.is_empty() {
        parts.copies = stored.copies;
    }

    if settings.depth.holds(Level::Content) {
        progress.stage("looking into the newest snapshots");
        parts.levels.push(content::check(&context, &history, &mut findings).await?);
    }
    if settings.depth.holds(Level::TestRestore) {
        let (level, tests) = restore::check(&context, &history, &mut findings).await?;
        parts.levels.push(level);
        parts.restore_tests = tests;
    }
    stop.check()?;
    overdue::check(&context, &parts.restore_tests, &previous, &mut findings);
    parts.proof = proof::newest(&context, &mut findings);
    parts.history = Some(history);
    parts.findings = findings;
    Ok(parts.report())
}

/// A level that was asked for, and about which nothing could be learnt.
fn could_not_check(context: &Context<'_>, level: Level, reason: &str) -> LevelResult {
    let asked = context.settings.depth.holds(level);
    LevelResult {
        level,
        state: if asked { LevelState::CouldNotCheck } else { LevelState::NotRun },
        checked: Vec::new(),
        reason: Some(if asked { reason } else { "not part of this run" }.to_owned()),
    }
}
