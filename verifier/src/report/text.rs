//! What the terminal shows when a verification ends: findings with their remedies, then what was checked, then where the
//! report is. Plain text of fixed form, so that it reads the same in a journal, a mail and a ticket.

use super::model::{Count, Finding, LevelState, Report, RestoreTest, Strength, Verdict};
use super::{summary, words};
use std::fmt::Write as _;
use std::path::Path;

/// How many findings are shown in full; the rest are counted, since the report has them all.
const FINDINGS_MAX: usize = 20;
const WIDTH: usize = 100;

/// The summary, and where the report was written, if it was.
pub fn render(report: &Report, written: Option<&Path>) -> String {
    let report = &words::printable(report);
    let mut text = String::new();
    head(&mut text, report);
    findings(&mut text, report);
    levels(&mut text, report);
    restores(&mut text, report);
    copies(&mut text, report);
    if let Some(store) = &report.evidence_store {
        let _ = writeln!(text, "\nEvidence: {} ({})", store.url, words::evidence_held(store).0);
    }
    if let Some(path) = written {
        let _ = writeln!(text, "\nReport: {}", path.display());
    }
    text
}

fn head(text: &mut String, report: &Report) {
    let mark = match report.result.verdict {
        Verdict::Ok => "OK",
        Verdict::Warnings => "WARNINGS",
        Verdict::Failed => "FAILED",
    };
    let _ = writeln!(text, "{mark}  {}", report.result.headline);
    let pinned = if report.target.fingerprint_pinned { "pinned" } else { "NOT pinned" };
    let strength = words::strength(report.target.strength);
    let immutable =
        if report.target.strength <= Strength::Advisory { "NOT IMMUTABLE: " } else { "" };
    let _ =
        writeln!(text, "{}  ({immutable}{strength}; fingerprint {pinned})\n", report.target.url);
    for sentence in summary::sentences(report) {
        wrap(text, &sentence, "");
    }
}

fn findings(text: &mut String, report: &Report) {
    if report.findings.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nFindings");
    for finding in report.findings.iter().take(FINDINGS_MAX) {
        one_finding(text, finding);
    }
    if let Some(more @ 1..) = report.findings.len().checked_sub(FINDINGS_MAX) {
        let _ = writeln!(text, "\n  and {more} more, all of them in the report");
    }
}

fn one_finding(text: &mut String, finding: &Finding) {
    let severity = words::severity(finding.severity).to_uppercase();
    let _ = writeln!(text, "\n  {severity:<8}  {:<13}  {}", finding.code, finding.resource);
    wrap(text, &finding.summary, "    ");
    if let Some(detail) = &finding.detail {
        wrap(text, detail, "    ");
    }
    wrap(text, &format!("→ {}", finding.remedy), "    ");
}

fn levels(text: &mut String, report: &Report) {
    let _ = writeln!(text, "\nChecked");
    for result in &report.levels {
        let state = match result.state {
            LevelState::CouldNotCheck => "COULD NOT CHECK",
            state => words::level_state(state),
        };
        let mut line = format!("  {:<20} {state:<17}", words::level(result.level));
        let counts: Vec<_> = result.checked.iter().map(counted).collect();
        let said = if counts.is_empty() {
            result.reason.clone().unwrap_or_default()
        } else {
            counts.join(", ")
        };
        line.push_str(&said);
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn restores(text: &mut String, report: &Report) {
    if report.restore_tests.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nTest restores");
    let name = |test: &RestoreTest| format!("{}/{} #{}", test.host, test.job, test.seq);
    let width =
        report.restore_tests.iter().map(|test| name(test).chars().count()).max().unwrap_or(0);
    for test in &report.restore_tests {
        let rto = match (test.rto_target_s, test.rto_met) {
            (Some(target), Some(true)) => format!(" of RTO {}", words::whole_seconds(target)),
            (Some(target), Some(false)) => format!(", RTO {} MISSED", words::whole_seconds(target)),
            (Some(target), None) => {
                format!(" until it stopped, RTO {} not shown", words::whole_seconds(target))
            }
            (None, _) => ", no RTO set".to_owned(),
        };
        let _ = writeln!(
            text,
            "  {:<width$}  {:<16} {}{rto}",
            name(test),
            words::restore_result(test.result),
            words::seconds(test.durations.total_s),
        );
    }
}

fn copies(text: &mut String, report: &Report) {
    if report.copies.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nCopies");
    for copy in &report.copies {
        let said = match (copy.snapshots_complete, copy.strength) {
            (Some(complete), strength) => format!(
                "{} of {} snapshots whole, {}",
                words::count(complete),
                words::count(copy.snapshots.total()),
                strength.map_or("nothing there", words::strength)
            ),
            (None, _) => "NOT CHECKED".to_owned(),
        };
        let _ = writeln!(text, "  {}: {said}", copy.name);
    }
}

/// A count as `1,842 objects` or `210 of 1,842 packs`.
pub(super) fn counted(count: &Count) -> String {
    match count.of {
        Some(of) => {
            format!("{} of {} {}", words::count(count.checked), words::count(of), count.what)
        }
        None => format!("{} {}", words::count(count.checked), count.what),
    }
}

/// Breaks `sentence` at spaces so that no line is longer than [`WIDTH`], unless one word is.
fn wrap(text: &mut String, sentence: &str, indent: &str) {
    let mut line = String::new();
    for word in sentence.split(' ') {
        let wide = indent.chars().count() + line.chars().count() + 1 + word.chars().count() > WIDTH;
        if wide && !line.is_empty() {
            let _ = writeln!(text, "{indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(text, "{indent}{line}");
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::report::samples;
    use std::path::Path;

    #[test]
    fn good() {
        let path = Path::new("/var/lib/keephold/reports/20261123T041809Z-v7k2/report.html");
        insta::assert_snapshot!(render(&samples::good(), Some(path)));
    }

    #[test]
    fn warning() {
        insta::assert_snapshot!(render(&samples::warning(), None));
    }

    #[test]
    fn failing() {
        insta::assert_snapshot!(render(&samples::failing(), None));
    }
}
