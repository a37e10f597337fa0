//! `docs/FINDINGS.md`, from the catalogue.

use super::{ALL, Code, NOT_YET};
use crate::report::words;
use std::fmt::Write as _;

/// The page that explains every code.
pub fn findings_page() -> String {
    let mut page = String::from(INTRODUCTION);
    for code in ALL {
        let _ = write!(page, "\n{}", section(code));
    }
    page
}

fn section(code: &Code) -> String {
    format!(
        "## {}: {}\n\n*Severity: {}. Level: {}.*\n\n{}{}\n\n**What to do:** {}\n",
        code.id,
        code.title,
        words::severity(code.severity),
        words::level(code.level),
        if NOT_YET.contains(&code.id) { "**Not checked yet: no report has it.** " } else { "" },
        code.meaning,
        code.remedy,
    )
}

const INTRODUCTION: &str = "\
<!-- Made from verifier/src/report/catalogue. Change it there, then run
     KEEPHOLD_UPDATE_DOCS=1 cargo test -p keephold-verify -->
# Findings

Each finding of `keephold-verify` has a code that keeps its meaning for ever, so that alerts, tickets and auditors' notes
can refer to it. The severity given here is the usual one; a finding may say otherwise.

| severity | means |
|---|---|
| critical | data is lost, can't be restored, or someone has tampered |
| high | a promise of the policy is broken, and data may be lost if nobody acts |
| warning | worth a look soon; nothing is lost |
| info | for the record |

A report with a critical or high finding is `failed`, with warnings only it is `warnings`. The exit status says something
else: 3 whenever the verification was done and there are findings, also critical ones; 1 when something that was to be checked
could not be (a `KH-CHECK` finding), since then nothing is known about it.
";

#[cfg(test)]
mod tests {
    use super::findings_page;
    use std::{env, fs, path::PathBuf};

    #[test]
    fn the_page_in_docs_is_the_catalogue() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/FINDINGS.md");
        if env::var_os("KEEPHOLD_UPDATE_DOCS").is_some() {
            fs::write(&path, findings_page()).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == findings_page(),
            "docs/FINDINGS.md differs from the catalogue: KEEPHOLD_UPDATE_DOCS=1 cargo test -p keephold-verify"
        );
    }
}
