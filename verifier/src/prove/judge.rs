//! From attempts to a verdict, always towards the worse.

use anyhow::Result;
use jiff::Timestamp;
use keephold_vault::store::LockMode;

use super::canary::{Held, Session, told};
use super::{Proving, fresh_id};
use crate::check::{signer, tool};
use crate::report::catalogue::{self as code, Code};
use crate::report::model::{
    Finding, LockProbe, LockProof, PROOF_SCHEMA, ProbeResult, ProofVerdict,
};

pub(super) fn conclude(
    proving: &Proving,
    session: Session<'_>,
    held: &Held,
    removed: u64,
    started: Timestamp,
) -> Result<LockProof> {
    let url = proving.target.url.to_string();
    let advisory = matches!(held, Held::Lock(lock) if lock.mode == LockMode::Advisory);
    let not_kept = match held {
        Held::NotKept(why) => Some(why.as_str()),
        Held::NotAsked => Some("the configuration asks for none (lock = \"none\")"),
        Held::Lock(_) => None,
    };
    let (verdict, findings) = judge(&url, &session.attempts, not_kept, advisory);
    let attacks = session.attempts.iter().filter(|a| a.result == ProbeResult::Held).count();
    let headline = match verdict {
        ProofVerdict::Held => format!("The lock held against all {attacks} attempts to break it"),
        ProofVerdict::Broken => match not_kept {
            Some(_) => "The target kept no lock".to_owned(),
            None => "THE LOCK WAS BROKEN".to_owned(),
        },
        ProofVerdict::NotProven => {
            "Nothing was broken, and it is not proven that the lock is why".to_owned()
        }
        ProofVerdict::Advisory => "Nothing but Keephold itself keeps files here".to_owned(),
    };
    Ok(LockProof {
        schema: PROOF_SCHEMA.to_owned(),
        proof_id: fresh_id()?,
        started,
        finished: Timestamp::now(),
        verdict,
        exit_code: match verdict {
            ProofVerdict::Held => 0,
            ProofVerdict::NotProven => 1,
            ProofVerdict::Broken | ProofVerdict::Advisory => 3,
        },
        headline,
        tool: tool(),
        target: url,
        canary: session.key.to_string(),
        version: session.version.as_ref().map(ToString::to_string),
        lock: match held {
            Held::Lock(lock) => Some(told(*lock)),
            Held::NotKept(_) | Held::NotAsked => None,
        },
        attempts: session.attempts,
        removed,
        findings,
        signer: signer(&proving.key),
    })
}

/// The verdict, and what is found wrong.
fn judge(
    url: &str,
    attempts: &[LockProbe],
    not_kept: Option<&str>,
    advisory: bool,
) -> (ProofVerdict, Vec<Finding>) {
    let told = |result: ProbeResult| {
        let lines: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt.result == result)
            .map(|attempt| format!("{}: {}", attempt.action, attempt.actual))
            .collect();
        lines.join("; ")
    };
    let with = |code: &Code, summary: &str, detail: String| Finding {
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        ..code.about(url, summary)
    };
    let any = |result| attempts.iter().any(|attempt| attempt.result == result);
    if advisory {
        let summary = "A canary could be deleted or changed before its time: files here are kept by custom only.";
        let finding = with(&code::TARGET_ADVISORY, summary, told(ProbeResult::Broken));
        return (ProofVerdict::Advisory, vec![finding]);
    }
    let mut findings = Vec::new();
    if let Some(why) = not_kept {
        let summary = "The target kept no lock on a canary.";
        findings.push(with(&code::LOCK_NOT_KEPT, summary, why.to_owned()));
    }
    if any(ProbeResult::Broken) {
        let summary = "A canary was deleted, changed or unlocked before its time.";
        findings.push(with(&code::PROBE_SUCCEEDED, summary, told(ProbeResult::Broken)));
    }
    if !findings.is_empty() {
        return (ProofVerdict::Broken, findings);
    }
    if any(ProbeResult::NotProven) || !any(ProbeResult::Held) {
        let summary =
            "Attempts to break a lock were refused, but not shown to be refused by the lock.";
        let finding = with(&code::LOCK_NOT_PROVEN, summary, told(ProbeResult::NotProven));
        return (ProofVerdict::NotProven, vec![finding]);
    }
    (ProofVerdict::Held, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(results: &[ProbeResult]) -> Vec<LockProbe> {
        let one = |result: &ProbeResult| LockProbe {
            tried: Timestamp::UNIX_EPOCH,
            action: "try".into(),
            credential: "prober".into(),
            expected: "refused".into(),
            actual: "so".into(),
            ok: true,
            result: *result,
        };
        results.iter().map(one).collect()
    }

    #[test]
    fn the_worst_attempt_decides() {
        use ProbeResult::{Broken, Control, Held, NotProven};
        let verdict = |results: &[ProbeResult]| judge("t", &attempts(results), None, false);
        assert_eq!(verdict(&[Control, Held, Held]), (ProofVerdict::Held, Vec::new()));
        assert_eq!(verdict(&[Control, Held, NotProven]).0, ProofVerdict::NotProven);
        assert_eq!(verdict(&[Control, NotProven, Held, Broken]).0, ProofVerdict::Broken);
        assert_eq!(verdict(&[Control]).0, ProofVerdict::NotProven, "nothing was attacked");
        let (kept, findings) = judge("t", &attempts(&[Held]), Some("none"), false);
        assert_eq!((kept, findings[0].code.as_str()), (ProofVerdict::Broken, "KH-LOCK-012"));
        assert_eq!(judge("t", &attempts(&[Broken]), None, true).0, ProofVerdict::Advisory);
    }
}
