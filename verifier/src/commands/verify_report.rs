//! `keephold-verify verify-report`: checks a report's signature, with nothing but the report and the verifier's public key.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use keephold_vault::sign::{AllowedSigners, Purpose};

use crate::report::model::Report;
use crate::report::{summary, words};

/// Check the signature of a report, offline: for auditors.
///
/// The same can be done without Keephold: `ssh-keygen -Y verify -n keephold-report -f SIGNERS -I NAME -s FILE.sig < FILE`.
#[derive(Debug, Args)]
pub(super) struct VerifyReportArgs {
    /// The report.json; its signature lies beside it, as report.json.sig.
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
    let signer = list.check(Purpose::Report, &json, &signature, &what, None).map_err(|error| {
        anyhow!(error)
            .context("DO NOT RELY on this report: it was changed, or someone else made it")
    })?;
    let report: Report = serde_json::from_slice(&json).with_context(|| {
        format!("{what} is signed, but is no report that this version understands")
    })?;
    // Its time is what the report says of itself; only its verifier's later key can tell that it was made up.
    list.check(Purpose::Report, &json, &signature, &what, Some(report.finished))
        .context("DO NOT RELY on this report")?;
    let mut text = format!(
        "The signature is good: {} ({})\nBLAKE3 {}\n\n{} of {}, {}\n{}\n",
        signer.principal,
        signer.fingerprint,
        blake3::hash(&json).to_hex(),
        report.report_id,
        words::minute(report.finished),
        report.target.url,
        report.result.headline,
    );
    for sentence in summary::sentences(&words::printable(&report)) {
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
    Ok(text)
}

#[cfg(test)]
mod tests {
    use keephold_vault::sign::SigningKey;

    use super::*;
    use crate::report::samples;
    use crate::report::write::write_report;

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
}
