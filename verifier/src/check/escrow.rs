//! The last escrow drill, from the evidence that it left: whether there was one, was young enough, and opened everything.

use jiff::SignedDuration;

use super::context::Context;
use super::findings::Findings;
use super::jobs::seconds;
use crate::drill::{Drill, KIND};
use crate::evidence;
use crate::report::catalogue as code;
use crate::report::model::EscrowDrill;
use crate::report::words;

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) -> Option<EscrowDrill> {
    let settings = context.settings;
    let newest = evidence::newest::<Drill>(&settings.out, KIND, &settings.report_key.public());
    let believed = newest.and_then(|(path, read)| match read {
        Ok((drill, blake3)) if drill.fingerprint == context.vault.fingerprint().to_string() => {
            Some((drill, blake3))
        }
        Ok(_) => None,
        Err(why) => {
            let summary = "The evidence of the last escrow drill can't be believed.".to_owned();
            let (name, why) = (path.display().to_string(), format!("{why:#}"));
            findings.add(&code::ESCROW_UNBELIEVED, &name, summary, Some(why));
            None
        }
    });
    let resource = "escrow drill";
    if let Some(every_s) = settings.escrow_drill_every_s {
        let allowed = words::whole_seconds(every_s);
        let age = believed.as_ref().map(|(drill, _)| context.now.duration_since(drill.finished));
        let most = SignedDuration::from_secs(i64::try_from(every_s).unwrap_or(i64::MAX));
        let summary = match age {
            None => Some(format!("No escrow drill was done yet; one is expected every {allowed}.")),
            Some(age) if age > most => Some(format!(
                "The last escrow drill was {} ago; one is expected every {allowed}.",
                words::whole_seconds(seconds(age))
            )),
            Some(_) => None,
        };
        if let Some(summary) = summary {
            findings.add(&code::ESCROW_OVERDUE, resource, summary, None);
        }
    }
    let (drill, blake3) = believed?;
    if drill.exit_code() != 0 {
        let summary = format!(
            "The escrow drill of {} opened the newest snapshot of {} of {} jobs.",
            words::day(drill.finished),
            drill.opened(),
            drill.jobs.len()
        );
        let why = drill
            .jobs
            .iter()
            .find_map(|job| Some(format!("{}/{}: {}", job.host, job.job, job.why.as_deref()?)));
        findings.add(&code::ESCROW_FAILED, resource, summary, why);
    }
    Some(EscrowDrill {
        finished: drill.finished,
        recipient: drill.recipient.clone(),
        jobs: drill.jobs.len() as u64,
        jobs_opened: drill.opened() as u64,
        blake3,
    })
}
