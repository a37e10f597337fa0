//! Whether each job's restore was tested as lately as is expected: in this run, or in one that an earlier report tells of.

use jiff::SignedDuration;

use super::context::Context;
use super::findings::Findings;
use super::jobs::seconds;
use super::previous::Previous;
use crate::report::catalogue as code;
use crate::report::model::RestoreTest;
use crate::report::words;

pub(super) fn check(
    context: &Context<'_>,
    tests: &[RestoreTest],
    previous: &Previous,
    findings: &mut Findings,
) {
    let settings = context.settings;
    for job in settings.jobs.iter().filter(|job| settings.wants(&job.host, &job.name)) {
        let Some(every_s) = job.restore_test_every_s else { continue };
        let allowed = words::whole_seconds(every_s);
        let most = SignedDuration::from_secs(i64::try_from(every_s).unwrap_or(i64::MAX));
        let name = format!("{}/{}", job.host, job.name);
        let summary = match previous.restore_passed(tests, &job.host, &job.name) {
            None => format!(
                "No restore of {name} is known to have been tested with success; one is expected every {allowed}."
            ),
            Some(at) => {
                let age = context.now.duration_since(at);
                if age <= most {
                    continue;
                }
                format!(
                    "The last restore of {name} that was tested with success was {} ago; one is expected every {allowed}.",
                    words::whole_seconds(seconds(age))
                )
            }
        };
        findings.add(&code::RESTORE_OVERDUE, &name, summary, None);
    }
}
