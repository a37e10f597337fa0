//! Test restores: the newest good snapshot of every job, for real, compared, and removed again whatever happens.

mod database;
mod directory;
mod expected;
mod postgres;
mod remove;
mod sink;

use std::time::Instant;

use anyhow::Result;
use jiff::Timestamp;
use keephold_vault::Error;
use keephold_vault::record::JobKind;

use super::assemble::tool;
use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::history::{History, Run};
use super::jobs;
use super::snapshot::Snapshot;
use crate::report::catalogue as code;
use crate::report::model::{
    Bounded, Cleanup, Count, Durations, Environment, Level, LevelResult, LevelState, RestoreResult,
    RestoreTest,
};
use crate::report::words;

/// Differences that stand in a report.
const DIFFERENCES_MAX: usize = 200;

/// Why a test restore didn't come to its end.
#[derive(Debug)]
enum Failure {
    /// The backup is at fault.
    Backup(String),
    /// This host, the way to the target, or what is installed here: nothing is known about the backup.
    Verifier(String),
    /// A signal.
    Stopped(anyhow::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if is_about_object(&error) {
            Self::Backup(told(&error))
        } else {
            Self::Verifier(told(&error))
        }
    }
}

/// Restores the newest good snapshot of each job.
///
/// # Errors
/// Only a signal to stop.
pub(super) async fn check(
    context: &Context<'_>,
    history: &History,
    findings: &mut Findings,
) -> Result<(LevelResult, Vec<RestoreTest>)> {
    let newest = history.newest();
    let by = tool();
    let mut tests = Vec::new();
    for run in &newest {
        context.stop.check()?;
        context.progress.stage(&format!("restoring {}", run.name()));
        let mut test = prepared(context, run, &format!("keephold-verify on {}", by.hostname));
        let tested = match Snapshot::open(context, run).await {
            Ok(snapshot) if run.believed().is_some_and(|facts| facts.kind == JobKind::Postgres) => {
                postgres::test(context, &snapshot, &mut test, findings).await
            }
            Ok(snapshot) => directory::test(context, snapshot, &mut test, findings).await,
            Err(error) => Err(error.into()),
        };
        finish(&mut test, tested, findings)?;
        tests.push(test);
    }
    let done =
        tests.iter().filter(|test| test.result != RestoreResult::CouldNotCheck).count() as u64;
    let (state, reason) = if newest.is_empty() {
        (LevelState::CouldNotCheck, Some("there is no snapshot that can be believed".to_owned()))
    } else if done == 0 {
        (LevelState::CouldNotCheck, tests.iter().find_map(|test| test.failure.clone()))
    } else if done < tests.len() as u64 {
        (LevelState::Findings, None)
    } else {
        (LevelState::Passed, None)
    };
    let checked = vec![Count::some("jobs", done, newest.len() as u64)];
    Ok((LevelResult { level: Level::TestRestore, state, checked, reason }, tests))
}

/// A test of which nothing is known yet.
fn prepared(context: &Context<'_>, run: &Run, by: &str) -> RestoreTest {
    let key = &run.found.key;
    let expected = context.settings.expected(&key.host, &key.job);
    let facts = run.believed();
    RestoreTest {
        host: key.host.clone(),
        job: key.job.clone(),
        kind: jobs::kind(facts.map_or(JobKind::Directory, |facts| facts.kind)),
        seq: key.seq,
        snapshot_time: facts.map_or(key.started, |facts| facts.started),
        chosen: "the newest good snapshot of the job".to_owned(),
        performed_by: by.to_owned(),
        started: Timestamp::now(),
        durations: Durations::default(),
        rto_target_s: expected.and_then(|job| job.rto_s),
        rto_met: None,
        tier: None,
        result: RestoreResult::CouldNotCheck,
        failure: None,
        checks: Vec::new(),
        tables: Bounded::none(),
        entries_compared: None,
        bytes_restored: None,
        differences: Bounded::none(),
        environment: Environment {
            place: String::new(),
            server_version: None,
            source_version: None,
            role: None,
        },
        cleanup: Cleanup { done: true, detail: None },
    }
}

/// Ends a test: its verdict, its time, and what is to be said of it.
fn finish(
    test: &mut RestoreTest,
    tested: Result<(), Failure>,
    findings: &mut Findings,
) -> Result<()> {
    let name = format!("{}/{} #{}", test.host, test.job, test.seq);
    let durations = &mut test.durations;
    durations.total_s = durations.download_s + durations.restore_s + durations.checks_s;
    match tested {
        Ok(()) => {}
        Err(Failure::Stopped(error)) => return Err(error),
        Err(Failure::Backup(why)) => {
            test.result = RestoreResult::Failed;
            findings.add(
                &code::RESTORE_FAILED,
                &name,
                "The snapshot could not be restored.".to_owned(),
                Some(why.clone()),
            );
            test.failure = Some(why);
        }
        Err(Failure::Verifier(why)) => {
            test.result = RestoreResult::CouldNotCheck;
            let summary = "The restore could not be tested here.".to_owned();
            findings.add(&code::UNCHECKED_RESTORE, &name, summary, Some(why.clone()));
            test.failure = Some(why);
        }
    }
    let ended = matches!(test.result, RestoreResult::Passed | RestoreResult::Different);
    if let Some(target_s) = test.rto_target_s.filter(|_| ended) {
        #[expect(clippy::cast_precision_loss, reason = "seconds of an RTO")]
        let met = test.durations.total_s <= target_s as f64;
        test.rto_met = Some(met);
        if !met {
            let took = words::seconds(test.durations.total_s);
            let summary =
                format!("The restore took {took}; the RTO is {}.", words::whole_seconds(target_s));
            findings.add(&code::RTO_MISSED, &name, summary, None);
        }
    }
    if !test.cleanup.done {
        let summary = "What was restored could not be removed again.".to_owned();
        findings.add(&code::NOT_TORN_DOWN, &name, summary, test.cleanup.detail.clone());
    }
    Ok(())
}

/// Seconds since `start`.
fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

/// The first of many differences.
fn bounded(list: Vec<String>, total: u64) -> Bounded<String> {
    let shown: Vec<_> = list.into_iter().take(DIFFERENCES_MAX).collect();
    Bounded { more: total.saturating_sub(shown.len() as u64), shown }
}
