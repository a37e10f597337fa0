//! The evidence target: what earlier runs left here is stored there, and what lies there is looked at.

use super::findings::Findings;
use crate::evidence;
use crate::report::catalogue as code;
use crate::report::model::{EvidenceStore, Strength};
use crate::report::words;
use crate::settings::{EvidenceTarget, Settings};

/// To be done before the folder of reports is read: where it is empty, the newest evidence is fetched.
pub(super) async fn check(settings: &Settings, findings: &mut Findings) -> Option<EvidenceStore> {
    let to = settings.evidence.as_ref()?;
    let url = to.target.url.to_string();
    let fetched = match evidence::fetch(&settings.out, to).await {
        Ok(fetched) => fetched,
        Err(why) => {
            return Some(not_stored(to, "Earlier evidence could not be fetched.", &why, findings));
        }
    };
    let mut kept = match evidence::keep(&settings.out, to).await {
        Ok(kept) => kept,
        Err(why) => {
            let summary =
                "Evidence of earlier runs is NOT stored: it is in the verifier's folder only.";
            return Some(not_stored(to, summary, &why, findings));
        }
    };
    if !fetched.is_empty() {
        let names = fetched.join(", ");
        kept.state.notes.push(format!("the folder of reports had none, and got {names} from here"));
    }
    for (key, what) in kept.altered {
        let summary = "Stored evidence was touched: what was stored first still counts.".to_owned();
        findings.add(&code::EVIDENCE_TOUCHED, &format!("{url}/{key}"), summary, Some(what));
    }
    if let Some(strength) = kept.state.strength.filter(|strength| *strength <= Strength::Advisory) {
        let summary = format!(
            "Stored evidence is not immutable: its protection is '{}'.",
            words::strength(strength)
        );
        let notes = Some(kept.state.notes.join("; ")).filter(|notes| !notes.is_empty());
        findings.add(&code::EVIDENCE_UNLOCKED, &url, summary, notes);
    }
    Some(kept.state)
}

fn not_stored(
    to: &EvidenceTarget,
    summary: &str,
    why: &anyhow::Error,
    findings: &mut Findings,
) -> EvidenceStore {
    let url = to.target.url.to_string();
    findings.add(&code::EVIDENCE_NOT_STORED, &url, summary.to_owned(), Some(format!("{why:#}")));
    evidence::unknown(to)
}
