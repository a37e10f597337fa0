//! One job: how it stands, its calendar, its locks, and its runs.

use super::calendar::Calendar;
use super::facts::{Fact, classed, fact, or_unknown};
use super::horizon::Horizon;
use crate::report::model::{Job, Report, Run, RunStatus};
use crate::report::words;

/// One job.
pub(super) struct JobView {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) state: &'static str,
    pub(super) class: &'static str,
    pub(super) facts: Vec<Fact>,
    pub(super) calendar: Calendar,
    pub(super) horizon: Option<Horizon>,
    pub(super) runs: Vec<RunRow>,
    pub(super) runs_total: u64,
    pub(super) runs_more: u64,
}

/// One run in the table of the population.
pub(super) struct RunRow {
    pub(super) seq: u64,
    pub(super) started: String,
    pub(super) took: String,
    pub(super) status: &'static str,
    pub(super) class: &'static str,
    pub(super) message: Option<String>,
    pub(super) content: String,
    pub(super) size: String,
    pub(super) read: String,
    pub(super) stored: String,
    pub(super) proof: &'static str,
    pub(super) proof_class: &'static str,
    pub(super) expires: String,
    pub(super) locked: String,
    pub(super) locked_class: &'static str,
    pub(super) record: String,
}

impl JobView {
    pub(super) fn of(job: &Job, report: &Report) -> Self {
        let (state, class) = match (job.expected, job.is_fresh()) {
            (false, _) => ("found in the vault, not configured", "none"),
            (true, Some(true)) => ("within its RPO", "ok"),
            (true, Some(false)) if job.newest_success.is_none() => ("no good backup", "bad"),
            (true, Some(false)) => ("beyond its RPO", "bad"),
            (true, None) => ("no RPO set", "warn"),
        };
        Self {
            name: format!("{}/{}", job.host, job.job),
            kind: words::job_kind(job.kind),
            state,
            class,
            facts: facts(job),
            calendar: Calendar::of(job, &report.period),
            horizon: Horizon::of(job, report.finished),
            runs: job.runs.shown.iter().map(run).collect(),
            runs_total: job.runs.total(),
            runs_more: job.runs.more,
        }
    }
}

fn facts(job: &Job) -> Vec<Fact> {
    let newest = match (job.newest_success, job.newest_success_age_s) {
        (Some(time), Some(age)) => {
            format!("{} ({} ago)", words::minute(time), words::whole_seconds(age))
        }
        (Some(time), None) => words::minute(time),
        (None, _) => "never".to_owned(),
    };
    let fresh_class = if job.is_fresh() == Some(false) { "bad" } else { "" };
    let gap = match job.longest_gap_s {
        Some(gap_s) if job.gaps.is_empty() => fact("RPO attained", words::whole_seconds(gap_s)),
        Some(gap_s) => classed(
            "RPO attained",
            format!("{}, beyond the RPO {}", words::whole_seconds(gap_s), times(job.gaps.len())),
            "bad",
        ),
        None => fact("RPO attained", "not known"),
    };
    let runs = match job.runs_expected {
        Some(expected) => {
            format!("{expected} expected, {} seen, {} succeeded", job.runs_seen, job.runs_succeeded)
        }
        None => format!("{} seen, {} succeeded", job.runs_seen, job.runs_succeeded),
    };
    let short = job.runs_expected.is_some_and(|expected| job.runs_succeeded < expected);
    let mut facts = vec![
        classed("Newest good backup", newest, fresh_class),
        fact("RPO", job.rpo_s.map_or_else(|| "none set".to_owned(), words::whole_seconds)),
        gap,
        fact("Schedule", or_unknown(job.schedule.clone())),
        classed("Runs in the period", runs, if short { "warn" } else { "" }),
        fact(
            "Oldest restorable",
            job.oldest_restorable.map_or_else(|| "none".to_owned(), words::day),
        ),
        fact("Last good test restore", tested(job)),
    ];
    facts.extend(protected(job));
    if !job.missing_seqs.is_empty() {
        facts.push(classed("Missing records", numbers(&job.missing_seqs), "bad"));
    }
    facts
}

fn tested(job: &Job) -> String {
    let last = job.last_restore_test.map_or_else(|| "none known".to_owned(), words::day);
    match job.restore_test_every_s {
        Some(every_s) => format!("{last}; expected every {}", words::whole_seconds(every_s)),
        None => last,
    }
}

fn times(number: usize) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

/// The first numbers of a list that may be long.
fn numbers(seqs: &[u64]) -> String {
    const SHOWN_MAX: usize = 12;
    let shown: Vec<_> = seqs.iter().take(SHOWN_MAX).map(|seq| format!("#{seq}")).collect();
    match seqs.len().checked_sub(SHOWN_MAX) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn run(run: &Run) -> RunRow {
    let (proof, proof_class) = match (run.signature_ok, run.chain_ok) {
        (true, true) => ("signed, chained", "ok"),
        (false, _) => ("signature wrong", "bad"),
        (true, false) => ("chain broken", "bad"),
    };
    let (locked, locked_class) = match (run.status.has_snapshot(), run.is_locked(), run.lock_until)
    {
        (false, ..) => ("no snapshot".to_owned(), "none"),
        (true, None, _) => ("not checked".to_owned(), "warn"),
        (true, Some(_), None) => (format!("not locked; {}", coverage(run)), "bad"),
        (true, Some(true), Some(until)) => (words::day(until), "ok"),
        (true, Some(false), Some(until)) => {
            (format!("{}; {}", words::day(until), coverage(run)), "bad")
        }
    };
    RunRow {
        seq: run.seq,
        started: words::minute(run.started),
        took: words::seconds(run.finished.duration_since(run.started).as_secs_f64()),
        status: words::run_status(run.status),
        class: status_class(run.status),
        message: run.message.clone(),
        content: match (run.rows, run.entries) {
            (Some(rows), _) => words::counted(rows, "row"),
            (None, Some(1)) => "1 entry".to_owned(),
            (None, Some(entries)) => format!("{} entries", words::count(entries)),
            (None, None) => String::new(),
        },
        size: words::bytes(run.bytes),
        read: words::bytes(run.bytes_read),
        stored: words::bytes(run.bytes_stored),
        proof,
        proof_class,
        expires: run.expires.map_or_else(String::new, words::day),
        locked,
        locked_class,
        record: run.record_blake3.chars().take(12).collect(),
    }
}

/// How much of a run is locked until it expires: `52 of 60 objects (87 % of bytes) until it expires`.
fn coverage(run: &Run) -> String {
    match run.lock_coverage {
        Some(held) => format!(
            "{} of {} objects ({} of bytes) until it expires",
            words::count(held.objects_locked),
            words::count(held.objects),
            words::percent(held.bytes_locked, held.bytes)
        ),
        None => "how much of it is not known".to_owned(),
    }
}

/// Until when the newest snapshot is protected whole.
fn protected(job: &Job) -> Option<Fact> {
    let run = job.runs.shown.iter().find(|run| run.status.has_snapshot())?;
    let (text, class) = match (run.is_locked(), run.lock_until) {
        (None, _) => ("not checked".to_owned(), "warn"),
        (Some(true), Some(until)) => (format!("fully locked until {}", words::minute(until)), ""),
        (Some(_), Some(until)) => {
            (format!("fully locked until {} only; {}", words::minute(until), coverage(run)), "bad")
        }
        (Some(_), None) => (format!("not fully locked; {}", coverage(run)), "bad"),
    };
    Some(classed("Newest snapshot", text, class))
}

fn status_class(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Success => "ok",
        RunStatus::Warnings => "warn",
        RunStatus::Failed | RunStatus::Unreadable => "bad",
    }
}
