//! From what the checks left in the document to a verdict.
//!
//! The verdict is derived here and nowhere else, and always towards the worse: a level that could not be checked becomes a
//! finding, a level with findings can't be `passed`, and a report in which nothing was checked isn't `ok`.

use super::catalogue;
use super::model::{Finding, Level, LevelResult, LevelState, Outcome, Report, Severity, Verdict};
use super::summary;

impl Outcome {
    /// What stands in a report until it is concluded: nothing good.
    pub(crate) fn unconcluded() -> Self {
        Self {
            verdict: Verdict::Failed,
            exit_code: 1,
            headline: String::new(),
            critical: 0,
            high: 0,
            warning: 0,
            info: 0,
        }
    }
}

impl Report {
    /// Puts levels and findings in order, makes them agree, and sets the result. Call it last, before writing.
    pub fn conclude(&mut self) {
        self.complete_levels();
        self.report_unchecked_levels();
        self.findings.sort_by(|a, b| order(a).cmp(&order(b)));
        self.result = outcome(self);
        self.result.headline = summary::headline(self);
    }

    /// Every level is listed, and none with findings says that it passed.
    fn complete_levels(&mut self) {
        for level in Level::ALL {
            if !self.levels.iter().any(|result| result.level == level) {
                self.levels.push(LevelResult {
                    level,
                    state: LevelState::NotRun,
                    checked: Vec::new(),
                    reason: Some("not part of this run".to_owned()),
                });
            }
        }
        self.levels.sort_by_key(|result| result.level);
        for result in &mut self.levels {
            let found = self
                .findings
                .iter()
                .any(|finding| finding.level == result.level && finding.severity != Severity::Info);
            if found && result.state == LevelState::Passed {
                result.state = LevelState::Findings;
            }
        }
    }

    fn report_unchecked_levels(&mut self) {
        for result in self.levels.iter().filter(|result| result.state == LevelState::CouldNotCheck)
        {
            let code = catalogue::could_not_check(result.level);
            if self.findings.iter().any(|finding| finding.code == code.id) {
                continue;
            }
            let mut finding = code.about(&self.target.url, format!("{}.", code.title));
            finding.detail.clone_from(&result.reason);
            self.findings.push(finding);
        }
    }
}

fn order(finding: &Finding) -> (Severity, &str, &str, &str) {
    (finding.severity, &finding.code, &finding.resource, &finding.summary)
}

fn outcome(report: &Report) -> Outcome {
    let count = |severity| {
        report.findings.iter().filter(|finding| finding.severity == severity).count() as u64
    };
    let (critical, high, warning) =
        (count(Severity::Critical), count(Severity::High), count(Severity::Warning));
    let anything_checked = report
        .levels
        .iter()
        .any(|result| matches!(result.state, LevelState::Passed | LevelState::Findings));
    let verdict = if critical + high > 0 {
        Verdict::Failed
    } else if warning > 0 || !anything_checked {
        Verdict::Warnings
    } else {
        Verdict::Ok
    };
    Outcome {
        verdict,
        exit_code: exit_code(report, verdict, anything_checked),
        headline: String::new(),
        critical,
        high,
        warning,
        info: count(Severity::Info),
    }
}

/// The exit status of the verifier, that of every Keephold command: 0 done, 3 done with findings (critical ones too), 1 when
/// the verification itself failed: something that was to be checked could not be, or nothing was. 2 is kept for usage.
fn exit_code(report: &Report, verdict: Verdict, anything_checked: bool) -> u8 {
    let unchecked = |finding: &Finding| {
        Level::ALL.iter().any(|level| catalogue::could_not_check(*level).id == finding.code)
    };
    match verdict {
        _ if !anything_checked || report.findings.iter().any(unchecked) => 1,
        Verdict::Ok => 0,
        Verdict::Warnings | Verdict::Failed => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{catalogue, model::*, samples};

    fn state(report: &Report, level: Level) -> LevelState {
        report.levels.iter().find(|result| result.level == level).unwrap().state
    }

    #[test]
    fn a_level_that_could_not_be_checked_is_never_ok() {
        let mut report = samples::good();
        report.levels[2].state = LevelState::CouldNotCheck;
        report.levels[2].reason = Some("access denied".to_owned());
        report.conclude();
        assert_eq!((report.result.verdict, report.result.exit_code), (Verdict::Failed, 1));
        assert_eq!(report.findings[0].code, catalogue::UNCHECKED_LOCK.id);
        assert_eq!(report.findings[0].detail.as_deref(), Some("access denied"));
        report.conclude();
        assert_eq!(report.result.high, 1, "concluding twice changes nothing");
    }

    #[test]
    fn a_level_with_findings_did_not_pass() {
        let mut report = samples::good();
        report.findings.push(catalogue::LOCK_ENDS_SOON.about("job", "Soon."));
        report.conclude();
        assert_eq!(state(&report, Level::Lock), LevelState::Findings);
        assert_eq!((report.result.verdict, report.result.exit_code), (Verdict::Warnings, 3));
    }

    #[test]
    fn nothing_checked_is_not_ok() {
        let mut report = samples::good();
        report.levels.clear();
        report.conclude();
        assert_eq!(report.levels.len(), Level::ALL.len());
        assert_eq!((report.result.verdict, report.result.exit_code), (Verdict::Warnings, 1));
    }

    #[test]
    fn the_worst_comes_first() {
        let mut report = samples::good();
        report.findings.push(catalogue::CONFIG_CHANGED.about("a", "A."));
        report.findings.push(catalogue::OBJECT_MISSING.about("b", "B."));
        report.conclude();
        assert_eq!(report.findings[0].code, catalogue::OBJECT_MISSING.id);
        assert_eq!((report.result.verdict, report.result.exit_code), (Verdict::Failed, 3));
    }
}
