//! Freshness: each job's records, signed, chained and without gaps; and its newest good snapshot, young enough.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use keephold_vault::record::Status;

use super::context::Context;
use super::findings::Findings;
use super::history::{Facts, History, Run};
use super::previous::Previous;
use crate::report::catalogue as code;
use crate::report::model::{Count, Level, LevelResult, LevelState};
use crate::report::words;
use crate::settings::Believed;

/// Clocks that are farther apart than this make ages and locks unreliable.
pub(super) const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// Without an earlier report, failures and warnings are told again for so long after they happened.
const RECENT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Missing numbers that are named one by one.
const GAPS_NAMED: usize = 20;

pub(super) fn check(
    context: &Context<'_>,
    history: &History,
    previous: &Previous,
    findings: &mut Findings,
) -> LevelResult {
    // What ended while it was being made may not stand in it.
    let recent = previous.started().unwrap_or(context.now - RECENT);
    let jobs = history.by_job();
    clocks(context, findings);
    for ((host, job), runs) in &jobs {
        let name = format!("{host}/{job}");
        let newest =
            runs.iter().rev().find(|run| run.believed().is_some_and(Facts::is_success)).copied();
        for run in runs {
            record(run, findings);
            outcome(run, newest, recent, findings);
            clock_of(context, run, recent, findings);
        }
        recipients(runs, recent, findings);
        chain(context, &name, runs, findings);
        age(context, &name, (host, job), runs.len(), newest, findings);
    }
    for expected in &context.settings.jobs {
        let unseen = !jobs.contains_key(&(expected.host.as_str(), expected.name.as_str()));
        if unseen && context.settings.wants(&expected.host, &expected.name) {
            age(
                context,
                &format!("{}/{}", expected.host, expected.name),
                (&expected.host, &expected.name),
                0,
                None,
                findings,
            );
        }
    }
    LevelResult {
        level: Level::Freshness,
        state: LevelState::Passed,
        checked: vec![
            Count::all("jobs", jobs.len() as u64),
            Count::all("runs", history.runs.len() as u64),
        ],
        reason: history.runs.is_empty().then(|| "there are no records in the vault".to_owned()),
    }
}

/// Whether a record is what it should be, and whose.
fn record(run: &Run, findings: &mut Findings) {
    let key = run.found.key.to_string();
    let name = run.name();
    match &run.facts {
        Err(why) => {
            let summary =
                format!("The record of {name} can't be read, so what it stored isn't known.");
            findings.add(&code::RECORD_UNREADABLE, &key, summary, Some(why.clone()));
        }
        Ok(Facts { believed: Believed::Bad(why), .. }) => {
            let summary = format!("The record of {name} doesn't match its signature.");
            findings.add(&code::SIGNATURE_BAD, &key, summary, Some(why.clone()));
        }
        Ok(Facts { believed: Believed::Unknown(why), .. }) => {
            let summary = format!(
                "The record of {name} is signed by a key that isn't believed for this host."
            );
            findings.add(&code::SIGNER_UNKNOWN, &key, summary, Some(why.clone()));
        }
        Ok(Facts { believed: Believed::OutOfTime(why), .. }) => {
            let summary = format!(
                "The record of {name} is signed by a key that was not to be believed when the record arrived."
            );
            findings.add(&code::SIGNER_REVOKED, &key, summary, Some(why.clone()));
        }
        Ok(_) => {}
    }
}

/// A run that failed or warned, if that is news or still matters.
fn outcome(run: &Run, newest: Option<&Run>, recent: Timestamp, findings: &mut Findings) {
    let Ok(facts) = &run.facts else { return };
    let since_success = newest.is_none_or(|newest| newest.found.key.seq <= run.found.key.seq);
    if !since_success && facts.finished <= recent {
        return;
    }
    let (code, summary) = match facts.status {
        Status::Success => return,
        Status::Failed => {
            (&code::FAILED_RUN, format!("The run of {} failed.", words::minute(facts.started)))
        }
        Status::Warning => {
            let number = words::counted(facts.warnings, "warning");
            (
                &code::RUN_WARNINGS,
                format!("The run of {} ended with {number}.", words::minute(facts.started)),
            )
        }
    };
    findings.add(code, &run.name(), summary, facts.message.clone());
}

/// A run that is sealed to others than the one before it, if that is news by the store's clock: the host's own could hide it.
fn recipients(runs: &[&Run], recent: Timestamp, findings: &mut Findings) {
    let recent = recent.saturating_sub(CLOCK_TOLERANCE).unwrap_or(recent);
    let believed: Vec<_> = runs.iter().filter_map(|run| Some((run, run.believed()?))).collect();
    for pair in believed.windows(2) {
        let [(_, before), (run, facts)] = pair else { continue };
        let of = |facts: &Facts| facts.recipients.iter().cloned().collect::<BTreeSet<_>>();
        let (before, now) = (of(before), of(facts));
        if before == now || run.found.modified <= recent {
            continue;
        }
        let list = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            a.difference(b).cloned().collect::<Vec<_>>().join(", ")
        };
        let changes = [("added", list(&now, &before)), ("removed", list(&before, &now))];
        let changes = changes.iter().filter(|(_, names)| !names.is_empty());
        let detail: Vec<_> = changes.map(|(what, names)| format!("{what}: {names}")).collect();
        let summary = format!(
            "The run of {} is sealed to other recipients than the one before it.",
            words::minute(facts.started)
        );
        findings.add(&code::RECIPIENTS_CHANGED, &run.name(), summary, Some(detail.join("; ")));
    }
}

/// The verifier's clock against the target's.
fn clocks(context: &Context<'_>, findings: &mut Findings) {
    let store = context.vault.store();
    if let Some(ms) = store.clock_offset_ms()
        && ms.unsigned_abs()
            > CLOCK_TOLERANCE.unsigned_abs().as_millis().try_into().unwrap_or(u64::MAX)
    {
        let summary =
            "The verifier's clock differs from the target's, so ages and locks are judged wrongly.";
        let detail = format!(
            "the target is {} s {} this verifier",
            ms.abs() / 1000,
            if ms > 0 { "ahead of" } else { "behind" }
        );
        findings.add(&code::CLOCK_SKEW, &store.url(), summary.to_owned(), Some(detail));
    }
}

/// A host's clock against the target's, and against itself.
fn clock_of(context: &Context<'_>, run: &Run, recent: Timestamp, findings: &mut Findings) {
    let Ok(facts) = &run.facts else { return };
    let offset = facts.clock_offset_ms.map(SignedDuration::from_millis).unwrap_or_default();
    let why = if offset.abs() > CLOCK_TOLERANCE {
        format!("the host's clock was {} s off the target's", offset.as_secs().abs())
    } else if facts.finished.duration_since(run.found.modified) > CLOCK_TOLERANCE {
        // It can arrive late (spooled), but never before it was written.
        format!(
            "the run says that it ended at {}, but the target had its record at {}",
            facts.finished, run.found.modified
        )
    } else if facts.started.duration_since(context.now) > CLOCK_TOLERANCE {
        format!("the run says that it began at {}, which is still to come", facts.started)
    } else if facts.finished < facts.started {
        format!(
            "the run says that it ended at {}, before it began at {}",
            facts.finished, facts.started
        )
    } else {
        return;
    };
    // A lock from a clock that is ahead ends late, which is harmless; ages are what is wrong, and those pass.
    if facts.finished > recent || facts.started > context.now {
        findings.add(
            &code::CLOCK_SKEW,
            &run.name(),
            "The host's clock was wrong during this run.".to_owned(),
            Some(why),
        );
    }
}

/// Each record carries the number after, and the hash of, the one before it.
fn chain(context: &Context<'_>, name: &str, runs: &[&Run], findings: &mut Findings) {
    for pair in runs.windows(2) {
        let [before, run] = pair else { continue };
        let (seq, previous_seq) = (run.found.key.seq, before.found.key.seq);
        if seq == previous_seq {
            let summary = format!("Two records say that they are run {seq} of {name}.");
            let detail = format!("{} and {}", before.found.key, run.found.key);
            findings.add(&code::SEQUENCE_FORKED, &run.name(), summary, Some(detail));
        }
        if run.facts.is_ok() && !chain_ok(Some(before), run) {
            let summary = format!(
                "The record of {} does not carry the hash of the one before it.",
                run.name()
            );
            findings.add(&code::CHAIN_BROKEN, &run.found.key.to_string(), summary, None);
        }
        if let (Ok(earlier), Ok(later)) = (&before.facts, &run.facts)
            && earlier.started.duration_since(later.started) > CLOCK_TOLERANCE
        {
            let summary = "The host's clock went backwards between two runs.".to_owned();
            let detail = format!(
                "{} began at {}, the run before it at {}",
                run.name(),
                later.started,
                earlier.started
            );
            findings.add(&code::CLOCK_SKEW, &run.name(), summary, Some(detail));
        }
    }
    if let Some(first) = runs.first().filter(|run| run.facts.is_ok() && !chain_ok(None, run)) {
        let summary = format!(
            "The record of {} says that another came before it, although it is the first.",
            first.name()
        );
        findings.add(&code::CHAIN_BROKEN, &first.found.key.to_string(), summary, None);
    }
    let missing = missing(context, runs);
    if !missing.is_empty() {
        let named: Vec<_> = missing.iter().take(GAPS_NAMED).map(|seq| format!("#{seq}")).collect();
        let more = missing.len().saturating_sub(GAPS_NAMED);
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let summary = format!(
            "No record is found of {} of {name}: {}{and_more}.",
            words::counted(missing.len() as u64, "run"),
            named.join(", ")
        );
        findings.add(&code::SEQUENCE_MISSING, name, summary, None);
    }
}

/// Whether a record follows the one before it; where that one isn't there, there is nothing to compare.
pub(super) fn chain_ok(before: Option<&Run>, run: &Run) -> bool {
    let Ok(facts) = &run.facts else { return false };
    match before {
        None => run.found.key.seq > 1 || facts.previous.is_none(),
        Some(before) if before.found.key.seq + 1 == run.found.key.seq => {
            before.facts.as_ref().map_or(true, |earlier| facts.previous == Some(earlier.hash))
        }
        Some(_) => true,
    }
}

/// The numbers between the first and the last record of a job for which there is none. Those before the first count
/// where the vault is too young for any record's evidence period to have ended.
pub(super) fn missing(context: &Context<'_>, runs: &[&Run]) -> Vec<u64> {
    const MISSING_MAX: usize = 10_000;
    let Some(first) = runs.first() else { return Vec::new() };
    let none_expired = first.facts.as_ref().is_ok_and(|facts| {
        let evidence = facts.retention.evidence_until.duration_since(facts.started);
        context.now.duration_since(context.vault.config().created) < evidence
    });
    let mut missing: Vec<u64> = if none_expired {
        (1..first.found.key.seq).take(MISSING_MAX).collect()
    } else {
        Vec::new()
    };
    for pair in runs.windows(2) {
        let [before, run] = pair else { continue };
        missing.extend((before.found.key.seq + 1..run.found.key.seq).take(MISSING_MAX));
        missing.truncate(MISSING_MAX);
    }
    missing
}

/// The newest good snapshot of a job against its RPO.
fn age(
    context: &Context<'_>,
    name: &str,
    (host, job): (&str, &str),
    records: usize,
    newest: Option<&Run>,
    findings: &mut Findings,
) {
    let expected = context.settings.expected(host, job);
    let Some(facts) = newest.and_then(Run::believed) else {
        if expected.is_some() || records > 0 {
            let summary = match records {
                0 => format!("{name} is expected, and the vault holds no record of it at all."),
                n => format!(
                    "{name} has {}, and none with a snapshot that can be believed.",
                    words::counted(n as u64, "record")
                ),
            };
            findings.add(&code::NO_SUCCESS, name, summary, None);
        }
        return;
    };
    let Some(rpo_s) = expected.and_then(|job| job.rpo_s) else { return };
    let age_s = u64::try_from(context.now.duration_since(facts.finished).as_secs()).unwrap_or(0);
    if age_s > rpo_s {
        let summary = format!(
            "The newest good backup of {name} is {} old; at most {} are allowed.",
            words::whole_seconds(age_s),
            words::whole_seconds(rpo_s)
        );
        findings.add(&code::STALE, name, summary, Some(format!("it ended at {}", facts.finished)));
    }
}
