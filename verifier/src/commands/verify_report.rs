//! `keephold-verify verify-report`: checks the signature of a report, a lock proof or an escrow drill, with nothing but the
//! document and the verifier's public key.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use keephold_vault::sign::{AllowedSigners, Purpose};
use serde::Deserialize;

use super::prove_lock;
use crate::drill::{self, Drill};
use crate::report::model::{LockProof, PROOF_SCHEMA, Report, SCHEMA};
use crate::report::{summary, words};

/// Check the signature of a report, a lock proof or an escrow drill, offline: for auditors.
///
/// The same can be done without Keephold: `ssh-keygen -Y verify -n keephold-report -f SIGNERS -I NAME -s FILE.sig < FILE`
/// (keephold-evidence for an escrow drill).
#[derive(Debug, Args)]
pub(super) struct VerifyReportArgs {
    /// The report.json, lock-proof.json or escrow-drill-….json; its signature lies beside it, as FILE.sig.
    file: PathBuf,
    /// Whose reports are believed: an OpenSSH allowed-signers file, or the verifier's report_key.pub.
    #[arg(long, value_name = "FILE")]
    signers: PathBuf,
}

pub(super) fn run(args: &VerifyReportArgs) -> Result<u8> {
    let text = check(&args.file, &args.signers)?;
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        print!("{text}");
    }
    Ok(0)
}

fn check(file: &Path, signers: &Path) -> Result<String> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("{} can't be read", path.display()));
    let json = read(file)?;
    let mut signature_path = file.as_os_str().to_owned();
    signature_path.push(".sig");
    let signature =
        String::from_utf8(read(Path::new(&signature_path))?).context("the signature is no text")?;
    let list = AllowedSigners::parse(&String::from_utf8_lossy(&read(signers)?))
        .with_context(|| format!("in {}", signers.display()))?;
    let what = file.display().to_string();
    let document = Document::read(&json, &what);
    // What can't be understood is still held against the signature: that it was changed is the greater news.
    let purpose = document.as_ref().map_or(Purpose::Report, Document::purpose);
    let word = document.as_ref().map_or("document", Document::word);
    let signer = list.check(purpose, &json, &signature, &what, None).map_err(|error| {
        let text = format!("DO NOT RELY on this {word}: it was changed, or someone else made it");
        anyhow!(error).context(text)
    })?;
    let document = document?;
    // Its time is what it says of itself; only its verifier's later key can tell that it was made up.
    list.check(purpose, &json, &signature, &what, Some(document.finished()))
        .with_context(|| format!("DO NOT RELY on this {word}"))?;
    Ok(format!(
        "The signature is good: {} ({})\nBLAKE3 {}\n\n{}",
        signer.principal,
        signer.fingerprint,
        blake3::hash(&json).to_hex(),
        document.text()
    ))
}

/// What a verifier signs.
enum Document {
    Report(Box<Report>),
    Proof(Box<LockProof>),
    Drill(Box<Drill>),
}

impl Document {
    /// Reads one of the forms that this version knows, by the name that it gives itself.
    fn read(json: &[u8], what: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Form {
            schema: String,
        }
        let unclear =
            || format!("{what} is no document of a verifier that this version understands");
        let form: Form = serde_json::from_slice(json).with_context(unclear)?;
        Ok(match form.schema.as_str() {
            SCHEMA => Self::Report(serde_json::from_slice(json).with_context(unclear)?),
            PROOF_SCHEMA => Self::Proof(serde_json::from_slice(json).with_context(unclear)?),
            drill::SCHEMA => Self::Drill(serde_json::from_slice(json).with_context(unclear)?),
            other => bail!("{}: it is of the form {other:?}", unclear()),
        })
    }

    fn purpose(&self) -> Purpose {
        match self {
            Self::Report(_) | Self::Proof(_) => Purpose::Report,
            Self::Drill(_) => Purpose::Evidence,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Report(_) => "report",
            Self::Proof(_) => "lock proof",
            Self::Drill(_) => "escrow drill",
        }
    }

    fn finished(&self) -> Timestamp {
        match self {
            Self::Report(report) => report.finished,
            Self::Proof(proof) => proof.finished,
            Self::Drill(drill) => drill.finished,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Report(report) => report_text(report),
            Self::Proof(proof) => format!(
                "Lock proof {} of {}\n{}",
                proof.proof_id,
                words::minute(proof.finished),
                prove_lock::text(proof)
            ),
            Self::Drill(drill) => format!("{}\n{}", words::minute(drill.finished), drill.text()),
        }
    }
}

fn report_text(report: &Report) -> String {
    let mut text = format!(
        "{} of {}, {}\n{}\n",
        report.report_id,
        words::minute(report.finished),
        report.target.url,
        report.result.headline,
    );
    for sentence in summary::sentences(&words::printable(report)) {
        text.push_str(&format!("  {sentence}\n"));
    }
    match &report.previous_report {
        Some(previous) => text.push_str(&format!(
            "\nIt follows report {} of {}, whose BLAKE3 is {}\n",
            previous.report_id,
            words::minute(previous.finished),
            previous.blake3
        )),
        None => text.push_str("\nIt is the first report of its verifier.\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use keephold_vault::sign::SigningKey;

    use super::*;
    use crate::report::samples;
    use crate::report::write::{write_proof, write_report};

    #[test]
    fn only_the_unchanged_report_of_a_known_verifier_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate("verify1").unwrap();
        let sign = |bytes: &[u8]| Ok(key.sign(Purpose::Report, bytes)?);
        let written = write_report(dir.path(), &samples::failing(), sign).unwrap();
        let (file, signers) =
            (written.folder.join("report.json"), dir.path().join("report_key.pub"));
        fs::write(&signers, key.public().to_openssh()).unwrap();
        let text = check(&file, &signers).unwrap();
        assert!(
            text.contains("The signature is good: verify1") && text.contains(&written.json_blake3),
            "{text}"
        );

        let mut json = fs::read(&file).unwrap();
        json[100] ^= 1;
        fs::write(&file, json).unwrap();
        let error = format!("{:#}", check(&file, &signers).unwrap_err());
        assert!(error.contains("DO NOT RELY"), "{error}");
        let other = SigningKey::generate("x").unwrap();
        fs::write(&signers, other.public().to_openssh()).unwrap();
        fs::write(&file, &written.json).unwrap();
        let error = format!("{:#}", check(&file, &signers).unwrap_err());
        assert!(error.contains("not among the allowed signers"), "{error}");
    }

    #[test]
    fn lock_proofs_and_drills_are_read_too_and_each_only_as_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate("verify1").unwrap();
        let signers = dir.path().join("report_key.pub");
        fs::write(&signers, key.public().to_openssh()).unwrap();
        let proof = samples::proof();
        let folder =
            write_proof(dir.path(), &proof, |b| Ok(key.sign(Purpose::Report, b)?)).unwrap();
        let file = folder.join("lock-proof.json");
        let text = check(&file, &signers).unwrap();
        assert!(text.contains("Lock proof") && text.contains(&proof.headline), "{text}");
        // Changed, also in its form alone.
        let json = fs::read_to_string(&file).unwrap();
        for (from, to) in [("\"held\"", "\"broken\""), ("lock-proof/1", "lock-proof/2")] {
            fs::write(&file, json.replacen(from, to, 1)).unwrap();
            let error = format!("{:#}", check(&file, &signers).unwrap_err());
            assert!(error.contains("DO NOT RELY"), "{error}");
        }
        // Well signed, and of a later form.
        let later =
            LockProof { schema: "keephold.lock-proof/2".into(), proof_id: "b".into(), ..proof };
        let folder =
            write_proof(dir.path(), &later, |b| Ok(key.sign(Purpose::Report, b)?)).unwrap();
        let error = format!("{:#}", check(&folder.join("lock-proof.json"), &signers).unwrap_err());
        assert!(error.contains("lock-proof/2"), "{error}");

        let drill = drill::sample(&[drill::Opened::Opened]);
        let path = crate::evidence::write(dir.path(), drill::KIND, &drill, &key).unwrap();
        let text = check(&path, &signers).unwrap();
        assert!(text.contains("Escrow drill") && text.contains("all 1 jobs"), "{text}");
        // A drill that was signed as a report is none.
        let json = fs::read(&path).unwrap();
        let mut signature = path.into_os_string();
        signature.push(".sig");
        fs::write(&signature, key.sign(Purpose::Report, &json).unwrap()).unwrap();
        let file = signature.to_str().unwrap().trim_end_matches(".sig").to_owned();
        assert!(check(Path::new(&file), &signers).is_err());
    }
}
