//! Values in words: one place, so that the page, the terminal and the documentation say the same.

use super::model::{
    EvidenceStore, JobKind, Level, LevelState, LockMode, ProbeResult, Report, RestoreResult,
    RunStatus, SettingResult, Severity, Strength, Tier, Verdict,
};
use jiff::Timestamp;

/// The verdict.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warnings => "warnings",
        Verdict::Failed => "failed",
    }
}

/// A severity.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

/// A level.
pub fn level(level: Level) -> &'static str {
    match level {
        Level::Freshness => "freshness",
        Level::Presence => "presence",
        Level::Lock => "lock",
        Level::IntegrityKeyless => "integrity (keyless)",
        Level::IntegrityDeep => "integrity (deep)",
        Level::Content => "content",
        Level::TestRestore => "test restore",
        Level::Coverage => "coverage",
    }
}

/// What a level asks, as a question that an auditor would put.
pub fn level_question(level: Level) -> &'static str {
    match level {
        Level::Freshness => {
            "Has every job run within its RPO, and are its signed records whole and in sequence?"
        }
        Level::Presence => "Is every needed object there, of its recorded size, and not hidden?",
        Level::Lock => "Is every needed object locked in the required mode until its runs expire?",
        Level::IntegrityKeyless => "Do the stored bytes, downloaded again, hash to their names?",
        Level::IntegrityDeep => {
            "Does every pack decrypt, and does every blob have the id that it was stored under?"
        }
        Level::Content => {
            "Is what was stored plausible: not empty, not cut short, not suddenly smaller?"
        }
        Level::TestRestore => {
            "Was it restored for real, found equal to the source, and within the RTO?"
        }
        Level::Coverage => {
            "Is everything on the hosts in some job, or left out for a stated reason?"
        }
    }
}

/// The criteria that a level gives evidence for.
pub fn level_criteria(level: Level) -> &'static str {
    match level {
        Level::Freshness | Level::Coverage => "A1.2",
        Level::Presence | Level::Content | Level::IntegrityKeyless | Level::IntegrityDeep => {
            "A1.2, A1.3"
        }
        Level::Lock => "A1.2, CC6.1",
        Level::TestRestore => "A1.3",
    }
}

/// What came of a level.
pub fn level_state(state: LevelState) -> &'static str {
    match state {
        LevelState::Passed => "passed",
        LevelState::Findings => "findings",
        LevelState::NotRun => "not run",
        LevelState::CouldNotCheck => "could not check",
    }
}

/// What a job backs up.
pub fn job_kind(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Postgres => "PostgreSQL",
        JobKind::Directory => "directory",
        JobKind::Command => "command",
    }
}

/// What came of a run.
pub fn run_status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Success => "success",
        RunStatus::Warnings => "with warnings",
        RunStatus::Failed => "failed",
        RunStatus::Unreadable => "record unreadable",
    }
}

/// What came of a restore test.
pub fn restore_result(result: RestoreResult) -> &'static str {
    match result {
        RestoreResult::Passed => "passed",
        RestoreResult::Different => "different",
        RestoreResult::Failed => "failed",
        RestoreResult::CouldNotCheck => "could not check",
    }
}

/// How deep a restore test went.
pub fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Decrypted => "decrypted",
        Tier::Parsed => "read to its end",
        Tier::Restored => "restored without error",
        Tier::Compared => "compared with the source",
        Tier::Exercised => "compared, and used by queries",
    }
}

/// What a target promises.
pub fn strength(strength: Strength) -> &'static str {
    match strength {
        Strength::None => "none",
        Strength::Advisory => "advisory",
        Strength::ImmutableFile => "immutable file attribute",
        Strength::Governance => "governance lock",
        Strength::Compliance => "compliance lock",
    }
}

/// Whether earlier evidence lies at its target, and what holds it there; and how good that is, as a class of the page.
pub fn evidence_held(store: &EvidenceStore) -> (String, &'static str) {
    let files = match store.files {
        None => return ("NOT STORED".to_owned(), "bad"),
        Some(0) => return ("nothing was there before this report".to_owned(), ""),
        Some(files) => counted(files, "file"),
    };
    let now = match store.stored_now {
        Some(now @ 1..) => format!(", {} of them stored only now", count(now)),
        _ => String::new(),
    };
    let (held, class) = held(store.strength, store.locked_until);
    match store.altered {
        Some(altered @ 1..) => {
            (format!("{files} of earlier evidence{now}; {held}; {} TOUCHED", count(altered)), "bad")
        }
        _ => (format!("{files} of earlier evidence{now}; {held}"), class),
    }
}

/// What holds the newest file at an evidence target, and how good that is, as a class of the page.
pub fn held(by: Option<Strength>, until: Option<Timestamp>) -> (String, &'static str) {
    match (by, until) {
        (Some(by), Some(until)) if by > Strength::Advisory => {
            (format!("{} until {}", strength(by), minute(until)), "")
        }
        (Some(by), _) => (format!("NOT IMMUTABLE: {}", strength(by)), "bad"),
        (None, _) => ("no lock was read, so nothing is claimed of it".to_owned(), "warn"),
    }
}

/// What a target's promise means for someone who wants to delete a backup.
pub fn strength_meaning(strength: Strength) -> &'static str {
    match strength {
        Strength::None => {
            "NOT IMMUTABLE. Anyone with write access to the target can delete or change backups."
        }
        Strength::Advisory => {
            "NOT IMMUTABLE. File permissions are all that protects the backups: the owner of the machine can delete them."
        }
        Strength::ImmutableFile => {
            "Immutable against everyone but the root user of the storage machine, who can clear the attribute."
        }
        Strength::Governance => {
            "Immutable against everyone but those who hold the permission to bypass governance locks."
        }
        Strength::Compliance => {
            "Immutable: no one can delete, change or unlock a backup before its time, the account's owner neither."
        }
    }
}

/// One of Object Lock's modes.
pub fn lock_mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "governance",
        LockMode::Compliance => "compliance",
    }
}

/// A count with thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with its noun: `1 run`, `2 runs`. Only for nouns whose plural ends in an s.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes in the unit that suits them: `18.4 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return counted(bytes, "byte");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // Rounding to one decimal must not show 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time in its two largest units: `2 d 4 h`, `1 min 32 s`, `0.8 s`.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    // A `f64` to integer cast saturates, and a length of time that long says so by itself.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and saturating"
    )]
    let whole = seconds.round() as u64;
    let parts = [
        (whole / 86_400, "d"),
        (whole / 3600 % 24, "h"),
        (whole / 60 % 60, "min"),
        (whole % 60, "s"),
    ];
    let first = parts.iter().position(|(value, _)| *value > 0).unwrap_or(parts.len() - 1);
    let shown: Vec<_> = parts[first..]
        .iter()
        .take(2)
        .filter(|(value, _)| *value > 0)
        .map(|(value, unit)| format!("{value} {unit}"))
        .collect();
    shown.join(" ")
}

/// A length of time in whole seconds.
pub fn whole_seconds(whole: u64) -> String {
    seconds(whole as f64)
}

/// A part of a whole in percent; a part that isn't all of it never rounds up to 100.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "—".to_owned();
    }
    if part >= whole {
        return "100 %".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    if tenths.is_multiple_of(10) {
        format!("{} %", tenths / 10)
    } else {
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

/// A moment, to the minute.
pub fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What is known of a setting.
pub fn setting_result(result: SettingResult) -> &'static str {
    match result {
        SettingResult::Set => "set",
        SettingResult::NotSet => "none",
        SettingResult::NotReadable => "not readable",
    }
}

/// What an attempt to break a lock shows.
pub fn probe_result(result: ProbeResult) -> &'static str {
    match result {
        ProbeResult::Held => "held",
        ProbeResult::Broken => "BROKEN",
        ProbeResult::NotProven => "not proven",
        ProbeResult::Control => "may do it",
    }
}

/// A day.
pub fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// The report with every character that could deceive a reader made visible. Names in it come from hosts and storage that
/// the verifier doesn't believe: a terminal would obey an escape sequence, and both terminal and browser would let a
/// direction override turn a name round. The JSON keeps the names as they are.
pub fn printable(report: &Report) -> Report {
    fn walk(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) if text.chars().any(deceives) => *text = visible(text),
            serde_json::Value::Array(values) => values.iter_mut().for_each(walk),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(walk),
            _ => {}
        }
    }
    let made_visible = serde_json::to_value(report).and_then(|mut value| {
        walk(&mut value);
        serde_json::from_value(value)
    });
    // Only texts were changed, into texts.
    made_visible.unwrap_or_else(|_| report.clone())
}

fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if deceives(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let shown = [0.04, 9.94, 9.96, 59.6, 92.0, 3600.0, 5400.0, 187_200.0, -1.0].map(seconds);
        assert_eq!(
            shown,
            [
                "0.0 s",
                "9.9 s",
                "10 s",
                "1 min",
                "1 min 32 s",
                "1 h",
                "1 h 30 min",
                "2 d 4 h",
                "unknown"
            ]
        );
    }

    #[test]
    fn a_part_never_rounds_up_to_the_whole() {
        assert_eq!(percent(999_999, 1_000_000), "99.9 %");
        assert_eq!(percent(1, 2), "50 %");
        assert_eq!(percent(7, 7), "100 %");
        assert_eq!(percent(0, 0), "—");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1, 1023, 1024, 1_048_575, u64::MAX].map(bytes),
            ["1 byte", "1,023 bytes", "1.0 KiB", "1.0 MiB", "16384.0 PiB"]
        );
    }

    #[test]
    fn nothing_in_a_name_reaches_the_terminal_as_a_command() {
        let mut report = samples::good();
        report.jobs[0].host = "db\u{1b}[2J\u{202e}1".to_owned();
        assert_eq!(printable(&report).jobs[0].host, "db\\u{1b}[2J\\u{202e}1");
        assert_eq!(printable(&samples::failing()), samples::failing());
    }
}
