//! Short facts: a label and a value, with a class where the value is good or bad.

use crate::report::model::{Level, LevelState, Report, RestoreResult, Strength};
use crate::report::words;

/// A label and its value.
pub(super) struct Fact {
    pub(super) label: &'static str,
    pub(super) value: String,
    /// `ok`, `warn`, `bad`, `code` for hashes and keys, or nothing.
    pub(super) class: &'static str,
}

/// A number to be seen first.
pub(super) struct Tile {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
    pub(super) class: &'static str,
}

pub(super) fn fact(label: &'static str, value: impl Into<String>) -> Fact {
    Fact { label, value: value.into(), class: "" }
}

pub(super) fn code(label: &'static str, value: impl Into<String>) -> Fact {
    Fact { label, value: value.into(), class: "code" }
}

pub(super) fn classed(label: &'static str, value: impl Into<String>, class: &'static str) -> Fact {
    Fact { label, value: value.into(), class }
}

/// A value, or that it isn't known.
pub(super) fn or_unknown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "not known".to_owned())
}

fn or_unset(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| "not stated".to_owned())
}

/// What the report is about, for its head.
pub(super) fn about(report: &Report) -> Vec<Fact> {
    vec![
        fact("Target", &report.target.url),
        fact(
            "Runs looked at",
            format!("{} to {}", words::day(report.period.from), words::day(report.period.until)),
        ),
        fact("Verified", format!("{}, in {}", words::minute(report.finished), duration(report))),
        fact(
            "By",
            format!("{} {} on {}", report.tool.name, report.tool.version, report.tool.hostname),
        ),
        fact("Report", &report.report_id),
    ]
}

fn duration(report: &Report) -> String {
    words::seconds(report.finished.duration_since(report.started).as_secs_f64())
}

/// The four numbers that most readers come for.
pub(super) fn tiles(report: &Report) -> Vec<Tile> {
    vec![freshness(report), locked(report), read_back(report), restored(report)]
}

fn unchecked(report: &Report, level: Level) -> bool {
    report.levels.iter().any(|result| {
        result.level == level
            && matches!(result.state, LevelState::NotRun | LevelState::CouldNotCheck)
    })
}

fn freshness(report: &Report) -> Tile {
    let label = "Age of the newest backup, worst job";
    if unchecked(report, Level::Freshness) {
        return not_checked(label);
    }
    let expected: Vec<_> = report.jobs.iter().filter(|job| job.expected).collect();
    let without = expected.iter().filter(|job| job.newest_success_age_s.is_none()).count();
    let oldest = expected.iter().filter_map(|job| job.newest_success_age_s).max();
    let late = expected.iter().filter(|job| job.is_fresh() == Some(false)).count();
    let note = match (without, late) {
        (0, 0) => format!("all {} jobs within their RPO", expected.len()),
        (0, late) => format!("{late} of {} jobs beyond their RPO", expected.len()),
        (without, late) => format!(
            "{late} of {} jobs beyond their RPO, {without} without any backup",
            expected.len()
        ),
    };
    Tile {
        label,
        value: oldest.map_or_else(|| "no backup".to_owned(), words::whole_seconds),
        note,
        class: if late > 0 || expected.is_empty() { "bad" } else { "ok" },
    }
}

fn locked(report: &Report) -> Tile {
    let label = "Objects locked until their runs expire";
    let (Some(needed), Some(locked)) = (report.objects.needed, report.objects.locked) else {
        return not_checked(label);
    };
    if unchecked(report, Level::Lock) {
        return not_checked(label);
    }
    Tile {
        label,
        value: words::percent(locked, needed),
        note: format!(
            "{} of {}, {}",
            words::count(locked),
            words::count(needed),
            words::strength(report.target.strength)
        ),
        class: if locked < needed || report.target.strength <= Strength::Advisory {
            "bad"
        } else {
            "ok"
        },
    }
}

fn read_back(report: &Report) -> Tile {
    let integrity = &report.integrity;
    let label = "Stored data read back and recomputed";
    if integrity.packs_checked == 0 || unchecked(report, Level::IntegrityKeyless) {
        return not_checked(label);
    }
    let note = match (integrity.rotation_days, integrity.oldest_check_days) {
        (Some(days), Some(oldest)) => {
            format!("in this run; all of it within {oldest} days ({days} allowed)")
        }
        (Some(_), None) => "in this run; some of it never yet".to_owned(),
        (None, _) => "in this run".to_owned(),
    };
    let behind = integrity
        .rotation_days
        .is_some_and(|days| integrity.oldest_check_days.is_none_or(|oldest| oldest > days));
    let class = match (has_corruption(report), behind) {
        (true, _) => "bad",
        (false, true) => "warn",
        (false, false) => "ok",
    };
    Tile {
        label,
        value: words::percent(integrity.bytes_checked, integrity.bytes_total),
        note,
        class,
    }
}

fn has_corruption(report: &Report) -> bool {
    use crate::report::catalogue as is;
    let corrupt =
        [is::HASH_DIFFERS.id, is::PACK_UNREADABLE.id, is::BLOB_DIFFERS.id, is::INDEX_CORRUPT.id];
    report.findings.iter().any(|finding| corrupt.contains(&finding.code.as_str()))
}

fn restored(report: &Report) -> Tile {
    let label = "Test restores equal to the source";
    let tests = &report.restore_tests;
    if tests.is_empty() {
        return not_checked(label);
    }
    let passed = tests.iter().filter(|test| test.result == RestoreResult::Passed).count();
    let missed = tests.iter().filter(|test| test.rto_met == Some(false)).count();
    let slowest = tests.iter().map(|test| test.durations.total_s).fold(0.0, f64::max);
    let note = match missed {
        0 => format!("the longest took {}", words::seconds(slowest)),
        _ => format!("{missed} missed the RTO; the longest took {}", words::seconds(slowest)),
    };
    Tile {
        label,
        value: format!("{passed} of {}", tests.len()),
        note,
        class: if passed < tests.len() || missed > 0 { "bad" } else { "ok" },
    }
}

fn not_checked(label: &'static str) -> Tile {
    Tile {
        label,
        value: "not checked".to_owned(),
        note: "nothing is known from this run".to_owned(),
        class: "warn",
    }
}

/// The policy as found.
pub(super) fn policy(report: &Report) -> Vec<Fact> {
    let policy = &report.policy;
    let changed = match policy.changed_since_previous {
        None => fact("Changed since the previous report", "there is none to compare with"),
        Some(false) => fact("Changed since the previous report", "no"),
        Some(true) => {
            classed("Changed since the previous report", "yes: ask for the approval", "warn")
        }
    };
    let approved = match (&policy.approved_by, &policy.approved_on) {
        (None, None) => "not stated".to_owned(),
        (by, on) => format!("by {}, on {}", or_unset(by.as_ref()), or_unset(on.as_ref())),
    };
    vec![
        fact(
            "Policy",
            format!(
                "{}, version {}",
                or_unset(policy.id.as_ref()),
                or_unset(policy.version.as_ref())
            ),
        ),
        fact("Owner", or_unset(policy.owner.as_ref())),
        fact("Approved", approved),
        fact("Lock mode asked for", policy.required_mode.map_or("none", words::lock_mode)),
        fact(
            "Retention",
            if policy.retention.is_empty() {
                "not stated".to_owned()
            } else {
                policy.retention.join("; ")
            },
        ),
        code("BLAKE3 of the configuration", &policy.config_blake3),
        changed,
    ]
}

/// Where the report comes from.
pub(super) fn provenance(report: &Report) -> Vec<Fact> {
    let tool = &report.tool;
    let clock = &report.clock;
    let clock_fact = match clock.offset_s {
        None => classed("Clock", "could not be compared with the target's", "warn"),
        Some(offset) => classed(
            "Clock",
            format!(
                "{offset:+.1} s against {} (tolerance {})",
                or_unknown(clock.compared_with.clone()),
                words::seconds(clock.tolerance_s)
            ),
            if offset.abs() > clock.tolerance_s { "bad" } else { "" },
        ),
    };
    let previous = match &report.previous_report {
        None => fact("Previous report", "none: this is the first of its chain"),
        Some(previous) => code(
            "Previous report",
            format!(
                "{} of {}, BLAKE3 {}",
                previous.report_id,
                words::minute(previous.finished),
                previous.blake3
            ),
        ),
    };
    let drill = match &report.escrow_drill {
        None => fact("Escrow drill", "none was done yet"),
        Some(drill) => classed(
            "Escrow drill",
            format!(
                "{}: {} of {} opened by {}; BLAKE3 of the evidence {}",
                words::minute(drill.finished),
                drill.jobs_opened,
                words::counted(drill.jobs, "job"),
                drill.recipient.as_deref().unwrap_or("a hardware key"),
                drill.blake3
            ),
            if drill.jobs_opened == drill.jobs { "" } else { "bad" },
        ),
    };
    let store = match &report.evidence_store {
        None => classed("Evidence kept", "in the verifier's folder only, under no lock", "warn"),
        Some(store) => {
            let (held, class) = words::evidence_held(store);
            classed("Evidence kept", format!("{}: {held}", store.url), class)
        }
    };
    vec![
        fact("Program", format!("{} {}", tool.name, tool.version)),
        code("BLAKE3 of the program", or_unknown(tool.binary_blake3.clone())),
        fact("Ran on", format!("{} as {}", tool.hostname, tool.user)),
        fact("Started by", or_unknown(tool.invoked_by.clone())),
        fact(
            "From, to",
            format!("{}, {}", words::minute(report.started), words::minute(report.finished)),
        ),
        clock_fact,
        code(
            "Vault",
            format!("{}, fingerprint {}", report.target.vault_id, report.target.fingerprint),
        ),
        drill,
        previous,
        store,
    ]
}
