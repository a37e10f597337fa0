//! Findings by severity, and the table of levels.

use crate::report::model::{Finding, LevelResult, LevelState, Report, Severity};
use crate::report::{catalogue, text, words};

/// All findings of one severity.
pub(super) struct Group {
    pub(super) heading: String,
    pub(super) class: &'static str,
    pub(super) meaning: &'static str,
    pub(super) findings: Vec<FindingView>,
}

/// One finding.
pub(super) struct FindingView {
    pub(super) code: String,
    pub(super) title: String,
    pub(super) level: &'static str,
    pub(super) resource: String,
    pub(super) summary: String,
    pub(super) detail: Option<String>,
    pub(super) remedy: Vec<Part>,
    pub(super) age: String,
}

/// A piece of a sentence: plain, or a command or name that stood between backticks.
pub(super) struct Part {
    pub(super) text: String,
    pub(super) code: bool,
}

/// One level.
pub(super) struct LevelRow {
    pub(super) name: &'static str,
    pub(super) question: &'static str,
    pub(super) state: &'static str,
    pub(super) class: &'static str,
    pub(super) checked: Vec<String>,
    pub(super) reason: Option<String>,
    pub(super) criteria: &'static str,
}

pub(super) fn groups(report: &Report) -> Vec<Group> {
    Severity::ALL
        .into_iter()
        .filter_map(|severity| {
            let findings: Vec<_> = report
                .findings
                .iter()
                .filter(|finding| finding.severity == severity)
                .map(view)
                .collect();
            (!findings.is_empty()).then(|| Group {
                heading: heading(severity, findings.len()),
                class: severity_class(severity),
                meaning: meaning(severity),
                findings,
            })
        })
        .collect()
}

fn heading(severity: Severity, number: usize) -> String {
    match (severity, number) {
        (Severity::Warning, 2..) => format!("{number} warnings"),
        _ => format!("{number} {}", words::severity(severity)),
    }
}

fn view(finding: &Finding) -> FindingView {
    // A newer verifier's code may not be in this catalogue when an old report is rendered, or the other way round.
    let title = catalogue::find(&finding.code).map_or(finding.summary.as_str(), |code| code.title);
    let repeats = title.trim_end_matches('.') == finding.summary.trim_end_matches('.');
    FindingView {
        code: finding.code.clone(),
        title: title.to_owned(),
        level: words::level(finding.level),
        resource: finding.resource.clone(),
        summary: if repeats { String::new() } else { finding.summary.clone() },
        detail: finding.detail.clone(),
        remedy: parts(&finding.remedy),
        age: finding
            .first_seen
            .map_or_else(String::new, |time| format!("first seen {}", words::day(time))),
    }
}

fn parts(sentence: &str) -> Vec<Part> {
    sentence
        .split('`')
        .enumerate()
        .map(|(index, text)| Part { text: text.to_owned(), code: index % 2 == 1 })
        .collect()
}

fn severity_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "bad",
        Severity::Warning => "warn",
        Severity::Info => "info",
    }
}

fn meaning(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "data is lost, can't be restored, or someone has tampered",
        Severity::High => "a promise of the policy is broken, and data may be lost if nobody acts",
        Severity::Warning => "worth a look soon; nothing is lost",
        Severity::Info => "for the record",
    }
}

pub(super) fn levels(report: &Report) -> Vec<LevelRow> {
    report.levels.iter().map(|result| row(result, report)).collect()
}

fn row(result: &LevelResult, report: &Report) -> LevelRow {
    LevelRow {
        name: words::level(result.level),
        question: words::level_question(result.level),
        state: words::level_state(result.state),
        class: state_class(result, report),
        checked: result.checked.iter().map(text::counted).collect(),
        reason: result.reason.clone(),
        criteria: words::level_criteria(result.level),
    }
}

/// How a level's state looks: one with findings is as bad as the worst of them.
pub(super) fn state_class(result: &LevelResult, report: &Report) -> &'static str {
    match result.state {
        LevelState::Passed => "ok",
        LevelState::NotRun => "none",
        LevelState::CouldNotCheck => "bad",
        LevelState::Findings => report
            .findings
            .iter()
            .filter(|finding| finding.level == result.level)
            .map(|finding| finding.severity)
            .min()
            .map_or("warn", severity_class),
    }
}

/// How the packs were chosen, in a sentence.
pub(super) fn sampling(report: &Report) -> Option<String> {
    let sampling = report.integrity.sampling.as_ref()?;
    let seed = sampling.seed.as_ref().map(|seed| format!(", seed {seed}")).unwrap_or_default();
    Some(format!(
        "{} of {} packs were read in this run, chosen by: {}{seed}.",
        words::count(sampling.selected),
        words::count(sampling.population),
        sampling.method
    ))
}
