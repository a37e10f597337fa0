//! The report in a few plain sentences, for someone who reads nothing else.

use super::model::{Level, LevelState, Report, RestoreResult, Verdict};
use super::words;

/// The verdict in one sentence, without a full stop.
pub fn headline(report: &Report) -> String {
    let result = &report.result;
    match result.verdict {
        Verdict::Failed => {
            let parts: Vec<_> = [(result.critical, "critical"), (result.high, "high")]
                .into_iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, word)| format!("{} {word}", words::count(number)))
                .collect();
            let noun = if result.critical + result.high == 1 { "finding" } else { "findings" };
            format!("Verification failed: {} {noun}", parts.join(" and "))
        }
        Verdict::Warnings if result.warning == 0 => "Nothing was checked".to_owned(),
        Verdict::Warnings => {
            format!("Verified, with {}", words::counted(result.warning, "warning"))
        }
        Verdict::Ok => {
            let passed =
                report.levels.iter().filter(|level| level.state == LevelState::Passed).count();
            if passed == Level::ALL.len() {
                "Backups verified at every level".to_owned()
            } else {
                format!("Backups verified at {passed} of {} levels", Level::ALL.len())
            }
        }
    }
}

/// What stands behind the verdict, one sentence a subject; what isn't known is said as well.
pub fn sentences(report: &Report) -> Vec<String> {
    [jobs(report), objects(report), integrity(report), restores(report), not_known(report)]
        .into_iter()
        .flatten()
        .collect()
}

fn jobs(report: &Report) -> Option<String> {
    let expected: Vec<_> = report.jobs.iter().filter(|job| job.expected).collect();
    if expected.is_empty() {
        return Some("No job is configured, so nothing is known to be backed up.".to_owned());
    }
    let with_rpo = expected.iter().filter(|job| job.rpo_s.is_some()).count();
    let fresh = expected.iter().filter(|job| job.is_fresh() == Some(true)).count();
    let seen: u64 = expected.iter().map(|job| job.runs_seen).sum();
    let succeeded: u64 = expected.iter().map(|job| job.runs_succeeded).sum();
    let asked: u64 = expected.iter().filter_map(|job| job.runs_expected).sum();
    let population = if expected.iter().all(|job| job.runs_expected.is_some()) {
        format!(
            "{} runs were expected, {} seen, {} succeeded",
            words::count(asked),
            words::count(seen),
            words::count(succeeded)
        )
    } else {
        format!("{} seen, {} succeeded", words::counted(seen, "run"), words::count(succeeded))
    };
    Some(match with_rpo {
        0 => format!("No job has an RPO to be held against; {population}."),
        _ => {
            format!("{fresh} of {with_rpo} jobs have a good backup within their RPO; {population}.")
        }
    })
}

fn objects(report: &Report) -> Option<String> {
    let objects = &report.objects;
    let needed = objects.needed?;
    let part = |number: Option<u64>, word: &str| match number {
        Some(number) if number == needed => format!("all are {word}"),
        Some(number) => format!("{} are {word}", words::count(number)),
        None => format!("how many are {word} is not known"),
    };
    let size = objects.bytes.map(|bytes| format!(" ({})", words::bytes(bytes))).unwrap_or_default();
    let until = objects
        .soonest_lock_end
        .map(|end| format!(", the first lock ending on {}", words::day(end)))
        .unwrap_or_default();
    Some(format!(
        "{} stored objects{size} are needed: {}, {}{until}.",
        words::count(needed),
        part(objects.present, "present"),
        part(objects.locked, "locked"),
    ))
}

fn integrity(report: &Report) -> Option<String> {
    let integrity = &report.integrity;
    if integrity.packs_checked == 0 {
        return None;
    }
    let rotation = match (integrity.rotation_days, integrity.oldest_check_days) {
        (Some(days), Some(oldest)) => {
            format!("; every pack has been read within {oldest} days (at most {days} allowed)")
        }
        (Some(days), None) => {
            format!("; some packs have never been read (at most {days} days allowed)")
        }
        _ => String::new(),
    };
    Some(format!(
        "{} ({} of {}) were downloaded again and recomputed{rotation}.",
        words::bytes(integrity.bytes_checked),
        words::percent(integrity.bytes_checked, integrity.bytes_total),
        words::bytes(integrity.bytes_total),
    ))
}

fn restores(report: &Report) -> Option<String> {
    let tests = &report.restore_tests;
    if tests.is_empty() {
        return None;
    }
    let passed = tests.iter().filter(|test| test.result == RestoreResult::Passed).count();
    let held = tests.iter().filter(|test| test.rto_target_s.is_some()).count();
    let met = tests.iter().filter(|test| test.rto_met == Some(true)).count();
    let rto = if held == 0 {
        "none has an RTO".to_owned()
    } else {
        format!("{met} of {held} met their RTO")
    };
    Some(format!(
        "{} done for real: {passed} equal to the source, {rto}.",
        if tests.len() == 1 {
            "1 test restore was".to_owned()
        } else {
            format!("{} test restores were", tests.len())
        },
    ))
}

fn not_known(report: &Report) -> Option<String> {
    let named = |state| {
        let names: Vec<_> = report
            .levels
            .iter()
            .filter(|level| level.state == state)
            .map(|level| words::level(level.level))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let parts: Vec<_> = [
        named(LevelState::CouldNotCheck).map(|names| format!("Could not be checked: {names}.")),
        named(LevelState::NotRun).map(|names| format!("Not part of this run: {names}.")),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
