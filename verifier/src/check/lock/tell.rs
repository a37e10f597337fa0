//! What is said of locks that isn't said of one object: of the target, of runs and of jobs.

use jiff::SignedDuration;
use keephold_vault::store::{LockMode, LockPolicy};

use super::Locking;
use crate::check::context::Context;
use crate::check::findings::Findings;
use crate::check::history::History;
use crate::check::previous::Previous;
use crate::report::catalogue as code;
use crate::report::words;

impl Locking {
    pub(super) fn target(&self, context: &Context<'_>, url: &str, findings: &mut Findings) {
        let none_wanted =
            context.settings.lock_named && context.settings.target.options.lock == LockPolicy::None;
        if self.locks.unasked || none_wanted {
            let who =
                if self.locks.unasked { "Runs were made" } else { "The verifier is configured" };
            let summary = format!(
                "{who} with lock = \"none\": anyone with the credential can delete these backups."
            );
            findings.add(&code::TARGET_UNLOCKED, url, summary, None);
        }
        if self.locks.strongest == Some(LockMode::Advisory) {
            let summary =
                "Nothing but file permissions keeps these backups from being changed or deleted."
                    .to_owned();
            findings.add(&code::TARGET_ADVISORY, url, summary, None);
        }
        if let Some(protection) = self.locks.protection.as_ref().filter(|_| !self.locks.unasked) {
            let off: Vec<_> =
                [("versioning", protection.versioning), ("Object Lock", protection.object_lock)]
                    .into_iter()
                    .filter(|(_, on)| *on == Some(false))
                    .map(|(what, _)| what)
                    .collect();
            if !off.is_empty() {
                let summary = format!("The bucket has no {}.", off.join(" and no "));
                findings.add(
                    &code::BUCKET_SETTINGS,
                    url,
                    summary,
                    Some(protection.notes.join("; ")).filter(|n| !n.is_empty()),
                );
            }
        }
    }

    /// Locks only ever get longer; one that an earlier report saw end later was shortened, or taken away. That is told until
    /// all that the run needs is locked for long enough again.
    pub(super) fn shortened(
        &self,
        context: &Context<'_>,
        history: &History,
        previous: &Previous,
        findings: &mut Findings,
    ) {
        let told = previous.resources(code::LOCK_SHORTENED.id, "");
        for (run, lock) in history.runs.iter().zip(&self.locks.runs) {
            let key = run.found.key.to_string();
            let before = previous.lock_until(&key);
            let shorter = match (before, lock.until) {
                (Some(before), Some(now)) => now < before,
                (Some(before), None) => lock.unlocked && before > context.now,
                (None, _) => false,
            };
            let still = lock.fully == Some(false) && told.contains(&key);
            if !shorter && !still {
                continue;
            }
            let summary = format!(
                "The locks of what {} needs end sooner than an earlier report saw.",
                run.name()
            );
            let [before, now] = [before, lock.until]
                .map(|end| end.map_or_else(|| "none".to_owned(), words::minute));
            let detail = format!("{before} in the previous report, {now} now");
            findings.add(&code::LOCK_SHORTENED, &key, summary, Some(detail));
        }
    }

    /// Whether the only good snapshot of a job will soon be without protection.
    pub(super) fn soon(&self, context: &Context<'_>, history: &History, findings: &mut Findings) {
        for run in history.newest() {
            let number = history.runs.iter().position(|other| std::ptr::eq(other, run));
            let lock = number.map(|number| self.locks.run(number)).unwrap_or_default();
            let (Some(until), Ok(facts)) = (lock.until, &run.facts) else { continue };
            let kept = facts.retention.expires.duration_since(facts.started);
            if until.duration_since(context.now) < lead(context).min(kept / 4) {
                let summary = format!(
                    "The lock of {}, the newest good snapshot, ends at {}.",
                    run.name(),
                    words::minute(until)
                );
                let job = format!("{}/{}", run.found.key.host, run.found.key.job);
                findings.add(&code::LOCK_ENDS_SOON, &job, summary, None);
            }
        }
    }

    /// Snapshots of which something will lose its lock soon, and before it should.
    pub(super) fn runs_out(
        &self,
        context: &Context<'_>,
        history: &History,
        findings: &mut Findings,
    ) {
        for (run, lock) in history.runs.iter().zip(&self.locks.runs) {
            let (Some(until), Some(false), Ok(facts)) = (lock.until, lock.fully, &run.facts) else {
                continue;
            };
            let expires = facts.retention.expires;
            if until >= expires || until.duration_since(context.now) >= lead(context) {
                continue;
            }
            let coverage = &lock.coverage;
            let summary = format!(
                "{} is protected until {} only, and kept until {}.",
                run.name(),
                words::minute(until),
                words::minute(expires)
            );
            let detail = format!(
                "{} of the {} objects that it needs, and {} of their bytes, are locked until then",
                words::count(coverage.objects_locked),
                words::count(coverage.objects),
                words::percent(coverage.bytes_locked, coverage.bytes)
            );
            findings.add(&code::LOCK_RUNS_OUT, &run.found.key.to_string(), summary, Some(detail));
        }
    }
}

/// How long before its end a lock is warned about.
fn lead(context: &Context<'_>) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(context.settings.lock_lead_s).unwrap_or(i64::MAX))
}
