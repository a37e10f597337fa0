//! The report before this one, in the folder of reports: this one carries its hash, and compares with it.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use keephold_vault::sign::{AllowedSigners, Purpose, VerifyingKey};

use super::findings::Findings;
use crate::report::catalogue as code;
use crate::report::model::{BucketSetting, PreviousReport, Report, RestoreResult, RestoreTest};
use crate::report::write::{JSON, SIGNATURE};

/// The report before this one, if there is one that can be believed.
#[derive(Debug, Default)]
pub(super) struct Previous {
    named: Option<PreviousReport>,
    report: Option<Box<Report>>,
    /// Ends of locks, by the key of the run's record.
    locks: HashMap<String, Timestamp>,
}

impl Previous {
    /// Finds the newest report in `out`, and checks that it is one that this verifier made and that follows the one before it.
    pub(super) fn find(out: &Path, key: &VerifyingKey, findings: &mut Findings) -> Self {
        let mut folders = folders(out);
        let Some(newest) = folders.pop() else { return Self::default() };
        let broken = |findings: &mut Findings, folder: &Path, why: String| {
            let summary = "The previous report can't be relied on.".to_owned();
            findings.add(
                &code::REPORT_CHAIN_BROKEN,
                &folder.display().to_string(),
                summary,
                Some(why),
            );
        };
        let (json, report) = match read(&newest, key) {
            Ok(read) => read,
            Err(why) => {
                broken(findings, &newest, why);
                return Self::default();
            }
        };
        if let Some(named) = &report.previous_report {
            let before = folders
                .pop()
                .map(|folder| (fs::read(folder.join(JSON)).unwrap_or_default(), folder));
            match before {
                Some((bytes, _)) if blake3::hash(&bytes).to_hex().as_str() == named.blake3 => {}
                Some((_, folder)) => broken(
                    findings,
                    &folder,
                    format!("it is not the one whose hash report {} carries", report.report_id),
                ),
                None => broken(
                    findings,
                    &newest,
                    format!("the report before it ({}) is gone", named.report_id),
                ),
            }
        }
        let runs = report.jobs.iter().flat_map(|job| &job.runs.shown);
        let locks =
            runs.filter_map(|run| Some((run.record_key.clone(), run.lock_until?))).collect();
        let named = PreviousReport {
            report_id: report.report_id.clone(),
            finished: report.finished,
            blake3: blake3::hash(&json).to_hex().to_string(),
        };
        Self { named: Some(named), report: Some(report), locks }
    }

    /// What its findings of a code were about, without the prefix that they share.
    pub(super) fn resources(&self, code: &str, prefix: &str) -> BTreeSet<String> {
        let findings = self.report.iter().flat_map(|report| &report.findings);
        findings
            .filter(|finding| finding.code == code)
            .filter_map(|finding| finding.resource.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }

    /// What the new report says of it.
    pub(super) fn named(&self) -> Option<PreviousReport> {
        self.named.clone()
    }

    /// The settings that it found of a target.
    pub(super) fn settings(&self, url: &str) -> &[BucketSetting] {
        let report = self.report.as_ref().filter(|report| report.target.url == url);
        report.map(|report| report.target.settings.as_slice()).unwrap_or_default()
    }

    /// When it was begun.
    pub(super) fn started(&self) -> Option<Timestamp> {
        Some(self.report.as_ref()?.started)
    }

    /// The end of the locks of a run, as it saw it.
    pub(super) fn lock_until(&self, record_key: &str) -> Option<Timestamp> {
        self.locks.get(record_key).copied()
    }

    /// When an earlier report first had a finding.
    pub(super) fn first_seen(&self, code: &str, resource: &str) -> Option<Timestamp> {
        let report = self.report.as_ref()?;
        let same = report
            .findings
            .iter()
            .find(|finding| finding.code == code && finding.resource == resource)?;
        Some(same.first_seen.unwrap_or(report.finished))
    }

    /// Whether the configuration is another than it was.
    pub(super) fn config_changed(&self, now: &str) -> Option<bool> {
        Some(self.report.as_ref()?.policy.config_blake3 != now)
    }

    /// When a restore of a job was last tested with success: in these tests of this run, or before it.
    pub(super) fn restore_passed(
        &self,
        tests: &[RestoreTest],
        host: &str,
        job: &str,
    ) -> Option<Timestamp> {
        let known = self.report.as_ref().and_then(|report| {
            let mut jobs = report.jobs.iter();
            jobs.find(|known| (known.host.as_str(), known.job.as_str()) == (host, job))
        });
        let passed = tests
            .iter()
            .filter(|test| (test.host.as_str(), test.job.as_str()) == (host, job))
            .filter(|test| test.result == RestoreResult::Passed)
            .map(|test| test.started);
        passed.max().max(known.and_then(|job| job.last_restore_test))
    }
}

/// The folders of reports, the newest last: their names begin with the time.
fn folders(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let is_report = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(Report::names_folder) && path.is_dir()
    };
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(is_report).collect();
    folders.sort();
    folders
}

/// A report whose signature this verifier's own key made.
fn read(folder: &Path, key: &VerifyingKey) -> Result<(Vec<u8>, Box<Report>), String> {
    let file = |name: &str| {
        fs::read(folder.join(name)).map_err(|error| format!("{name} can't be read: {error}"))
    };
    let (json, signature) = (file(JSON)?, file(SIGNATURE)?);
    let own = AllowedSigners::parse(&key.to_openssh()).map_err(|error| error.to_string())?;
    own.check(Purpose::Report, &json, &String::from_utf8_lossy(&signature), "the report", None)
        .map_err(|error| error.to_string())?;
    let report = serde_json::from_slice(&json)
        .map_err(|error| format!("{JSON} can't be understood: {error}"))?;
    Ok((json, report))
}
