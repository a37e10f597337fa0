//! The verifier, on a machine of its own: its identity, whose records to believe, its own report key, and nothing else.

use serde_json::Value;

use super::Site;
use super::program::{Output, Program, binary};

/// A command that leaves signed JSON: with the verifier's folder of reports, its key and its list of signers.
pub(crate) fn signing(site: &Site, command: &str) -> Program {
    let home = site.path("verifier");
    if !home.join("conf").exists() {
        std::fs::create_dir_all(&home).unwrap();
        Program::new(binary("keephold-verify"), &home)
            .arg("init")
            .arg("--dir")
            .arg(home.join("conf"))
            .run()
            .ok();
    }
    site.program("keephold-verify", "verifier", &[command, "--json"])
        .arg("--signers")
        .arg(site.path("keys/signing_key.pub"))
        .arg("--report-key")
        .arg(home.join("conf/report_key"))
        .arg("--out")
        .arg(home.join("reports"))
}

/// `keephold-verify run` on this vault, as one JSON report.
pub(crate) fn command(site: &Site, arguments: &[&str]) -> Program {
    let fingerprint = std::fs::read_to_string(site.path("keys/vault.fingerprint")).unwrap();
    signing(site, "run")
        .arg("--identity")
        .arg(site.path("safe/verifier.agekey"))
        .arg("--fingerprint")
        .arg(fingerprint.trim())
        .arg("--scratch")
        .arg(site.path("verifier/tmp"))
        .args(arguments)
}

/// Runs it; gives what it ended with and its report.
#[track_caller]
pub(crate) fn run(site: &Site, arguments: &[&str]) -> (Output, Value) {
    let output = command(site, arguments).run();
    let report = output.json();
    (output, report)
}

/// Codes of a report's findings, sorted, each once; without those that only say that this vault isn't immutable.
pub(crate) fn codes(report: &Value) -> Vec<String> {
    let mut codes: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Everything there was to check was checked, and was right.
#[track_caller]
pub(crate) fn green(site: &Site) -> Value {
    green_but_for(site, &[])
}

/// Nothing was found but, perhaps, findings of these codes.
#[track_caller]
pub(crate) fn green_but_for(site: &Site, codes: &[&str]) -> Value {
    let (output, report) = run(site, &[]);
    let found = report["findings"].as_array().unwrap();
    let other: Vec<_> =
        found.iter().filter(|f| !codes.contains(&f["code"].as_str().unwrap())).collect();
    assert!(other.is_empty(), "{}: {other:#?}", site.place_and_url());
    let output = output.exits(if found.is_empty() { 0 } else { 3 });
    // Not found for want of looking is not good enough.
    for level in report["levels"].as_array().unwrap() {
        let state = level["state"].as_str().unwrap();
        let fine = state == "passed"
            || (state == "findings" && !found.is_empty())
            || level["level"] == "coverage";
        assert!(fine, "{level}\n{}", output.stderr);
    }
    report
}
