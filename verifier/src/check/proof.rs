//! The newest proof that locks hold, from the folder of reports: `prove-lock` left it there.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use keephold_vault::sign::{AllowedSigners, Purpose};

use super::context::Context;
use super::findings::Findings;
use crate::report::catalogue as code;
use crate::report::model::{LockProof, NamedProof};
use crate::report::words;
use crate::report::write::{PROOF_JSON, PROOF_SIGNATURE};

/// The newest proof of this target, with its hash; what it found is found again, until a newer proof says otherwise.
pub(super) fn newest(
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<(NamedProof, LockProof)> {
    let settings = context.settings;
    let url = context.vault.store().url();
    let found =
        folders(&settings.out).into_iter().rev().find_map(|folder| match read(&folder, context) {
            Ok((_, proof)) if proof.target != url => None,
            Ok(found) => Some(Ok(found)),
            Err(why) => Some(Err((folder, why))),
        });
    let proof = match found {
        None => None,
        Some(Ok((hash, proof))) => {
            for finding in &proof.findings {
                if let Some(code) = code::find(&finding.code) {
                    findings.push(code, finding.clone());
                }
            }
            Some((named(&proof, hash), proof))
        }
        Some(Err((folder, why))) => {
            let summary = "The newest proof that locks hold can't be relied on.".to_owned();
            findings.add(&code::LOCK_NOT_PROVEN, &folder.display().to_string(), summary, Some(why));
            None
        }
    };
    let Some(max_age_s) = settings.proof_max_age_s else { return proof };
    let max_age = SignedDuration::from_secs(i64::try_from(max_age_s).unwrap_or(i64::MAX));
    let old = match &proof {
        None => Some("Locks were never tried on this target.".to_owned()),
        Some((_, proof)) if context.now.duration_since(proof.finished) > max_age => {
            Some(format!("Locks were last tried at {}.", words::minute(proof.finished)))
        }
        Some(_) => None,
    };
    if let Some(summary) = old {
        let detail = format!("at least every {} is asked for", words::whole_seconds(max_age_s));
        findings.add(&code::LOCK_NOT_PROVEN, &url, summary, Some(detail));
    }
    proof
}

fn named(proof: &LockProof, blake3: String) -> NamedProof {
    NamedProof {
        proof_id: proof.proof_id.clone(),
        finished: proof.finished,
        blake3,
        verdict: proof.verdict,
        headline: proof.headline.clone(),
    }
}

/// The folders of proofs, the newest last: their names hold the time.
fn folders(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let is_proof = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(LockProof::FOLDER))
    };
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(is_proof).collect();
    folders.sort();
    folders
}

/// A proof whose signature this verifier's own key made.
fn read(folder: &Path, context: &Context<'_>) -> Result<(String, LockProof), String> {
    let file = |name: &str| {
        fs::read(folder.join(name)).map_err(|error| format!("{name} can't be read: {error}"))
    };
    let (json, signature) = (file(PROOF_JSON)?, file(PROOF_SIGNATURE)?);
    let key = context.settings.report_key.public();
    let own = AllowedSigners::parse(&key.to_openssh()).map_err(|error| error.to_string())?;
    own.check(Purpose::Report, &json, &String::from_utf8_lossy(&signature), "the proof", None)
        .map_err(|error| error.to_string())?;
    let proof = serde_json::from_slice(&json)
        .map_err(|error| format!("{PROOF_JSON} can't be understood: {error}"))?;
    Ok((blake3::hash(&json).to_hex().to_string(), proof))
}
