//! From records to the report's jobs: the population that an auditor samples from.

use keephold_vault::record::{JobKind, Status};

use super::context::Context;
use super::freshness::{chain_ok, missing};
use super::history::{Facts, History, Run};
use super::lock::{Locks, RunLock};
use super::previous::Previous;
use crate::report::model::{self, Bounded, Gap, Job, RestoreTest, RunStatus};
use crate::settings::Believed;

/// Runs of each job that stand in a report; the rest are counted.
const RUNS_MAX: usize = 500;
const GAPS_MAX: usize = 100;

/// All jobs, those that are expected and have left nothing too.
pub(super) fn jobs(
    context: &Context<'_>,
    history: &History,
    locks: &Locks,
    tests: &[RestoreTest],
    previous: &Previous,
) -> Vec<Job> {
    let by_job = history.by_job();
    let mut jobs: Vec<Job> = Vec::new();
    for ((host, name), runs) in &by_job {
        jobs.push(job(
            context,
            host,
            name,
            runs,
            |run| locks_of(history, locks, run),
            tests,
            previous,
        ));
    }
    for expected in &context.settings.jobs {
        let (host, name) = (expected.host.as_str(), expected.name.as_str());
        if !by_job.contains_key(&(host, name)) && context.settings.wants(host, name) {
            jobs.push(job(context, host, name, &[], |_| RunLock::default(), tests, previous));
        }
    }
    jobs.sort_by(|a, b| (&a.host, &a.job).cmp(&(&b.host, &b.job)));
    jobs
}

fn locks_of(history: &History, locks: &Locks, run: &Run) -> RunLock {
    // Runs stand in `history.runs`, so their place is their number.
    let at = history.runs.iter().position(|other| std::ptr::eq(other, run));
    at.map(|number| locks.run(number)).unwrap_or_default()
}

fn job(
    context: &Context<'_>,
    host: &str,
    name: &str,
    runs: &[&Run],
    locks: impl Fn(&Run) -> RunLock,
    tests: &[RestoreTest],
    previous: &Previous,
) -> Job {
    let expected = context.settings.expected(host, name);
    let good: Vec<&Facts> =
        runs.iter().filter_map(|run| run.believed()).filter(|facts| facts.is_success()).collect();
    let newest = good.last().map(|facts| facts.finished);
    let restorable = good.iter().filter(|facts| facts.retention.expires > context.now);
    let kind = runs.iter().rev().find_map(|run| Some(run.facts.as_ref().ok()?.kind));
    let rpo_s = expected.and_then(|job| job.rpo_s);
    let mut shown: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(n, run)| one(run, n.checked_sub(1).and_then(|n| runs.get(n)).copied(), locks(run)))
        .collect();
    shown.reverse();
    Job {
        host: host.to_owned(),
        job: name.to_owned(),
        kind: kind.map_or(model::JobKind::Directory, self::kind),
        expected: expected.is_some(),
        rpo_s,
        schedule: None,
        newest_success: newest,
        newest_success_age_s: newest.map(|at| seconds(context.now.duration_since(at))),
        oldest_restorable: restorable.map(|facts| facts.started).min(),
        longest_gap_s: good
            .windows(2)
            .map(|pair| seconds(pair[1].finished.duration_since(pair[0].finished)))
            .max(),
        gaps: gaps(context, &good, rpo_s),
        runs_expected: None,
        runs_seen: runs.len() as u64,
        runs_succeeded: good.len() as u64,
        missing_seqs: missing(context, runs),
        runs: Bounded::take(shown, RUNS_MAX),
        last_restore_test: previous.restore_passed(tests, host, name),
        restore_test_every_s: expected.and_then(|job| job.restore_test_every_s),
    }
}

/// The times when the newest success was older than the RPO.
fn gaps(context: &Context<'_>, good: &[&Facts], rpo_s: Option<u64>) -> Vec<Gap> {
    let Some(rpo_s) = rpo_s else { return Vec::new() };
    let ends = good.iter().skip(1).map(|facts| Some(facts.finished)).chain([None]);
    let gaps = good.iter().zip(ends).filter_map(|(facts, until)| {
        let length = until.unwrap_or(context.now).duration_since(facts.finished);
        (seconds(length) > rpo_s).then_some(Gap { from: facts.finished, until })
    });
    gaps.take(GAPS_MAX).collect()
}

fn one(run: &Run, before: Option<&Run>, lock: RunLock) -> model::Run {
    let key = &run.found.key;
    let base = model::Run {
        seq: key.seq,
        record_key: key.to_string(),
        record_blake3: String::new(),
        started: key.started,
        finished: key.started,
        status: RunStatus::Unreadable,
        message: None,
        bytes: 0,
        bytes_read: 0,
        bytes_stored: 0,
        entries: None,
        rows: None,
        warnings: 0,
        signature_ok: false,
        signer: None,
        chain_ok: chain_ok(before, run),
        expires: None,
        lock_until: lock.until,
        locked_fully: lock.fully,
        lock_coverage: lock.fully.map(|_| lock.coverage),
    };
    match &run.facts {
        // Its hash isn't known, but the name holds the half of what it should be.
        Err(why) => {
            model::Run { record_blake3: key.id.repeat(2), message: Some(why.clone()), ..base }
        }
        Ok(facts) => model::Run {
            record_blake3: facts.hash.to_string(),
            started: facts.started,
            finished: facts.finished,
            status: match facts.status {
                Status::Success => RunStatus::Success,
                Status::Warning => RunStatus::Warnings,
                Status::Failed => RunStatus::Failed,
            },
            message: facts.message.clone(),
            bytes: facts.totals.bytes,
            bytes_read: facts.totals.bytes_read,
            bytes_stored: facts.totals.bytes_stored,
            entries: (facts.kind == JobKind::Directory).then_some(facts.totals.entries),
            rows: facts.rows,
            warnings: facts.warnings,
            signature_ok: matches!(facts.believed, Believed::Yes(_)),
            signer: match &facts.believed {
                Believed::Yes(signer) => Some(signer.clone()),
                Believed::Bad(_) | Believed::Unknown(_) | Believed::OutOfTime(_) => None,
            },
            expires: facts.tree.is_some().then_some(facts.retention.expires),
            ..base
        },
    }
}

/// The report's word for a kind of job.
pub(super) fn kind(kind: JobKind) -> model::JobKind {
    match kind {
        JobKind::Directory => model::JobKind::Directory,
        JobKind::Postgres => model::JobKind::Postgres,
    }
}

pub(super) fn seconds(length: jiff::SignedDuration) -> u64 {
    u64::try_from(length.as_secs()).unwrap_or(0)
}
