//! Collects findings: each thing once, and no more of a kind than a person can read.

use std::collections::{BTreeMap, HashSet};

use crate::report::catalogue::Code;
use crate::report::model::Finding;

/// How many findings of one kind stand in a report; the rest are counted.
const SHOWN_MAX: u64 = 200;

/// Findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    seen: HashSet<(String, String)>,
    counts: BTreeMap<&'static str, (u64, Option<Code>)>,
}

impl Findings {
    /// Adds what is wrong with `resource`; the numbers behind it stand in `detail`.
    pub(super) fn add(
        &mut self,
        code: &Code,
        resource: &str,
        summary: String,
        detail: Option<String>,
    ) {
        self.push(code, Finding { detail, ..code.about(resource, summary) });
    }

    /// Adds a finding, perhaps of another severity than is usual.
    pub(super) fn push(&mut self, code: &Code, finding: Finding) {
        let (count, _) = self.counts.entry(code.id).or_insert((0, Some(*code)));
        // One thing is said once, whichever check meets it first; the set is bounded with the list.
        let name = (finding.code.clone(), finding.resource.clone());
        if self.seen.contains(&name) {
            return;
        }
        *count += 1;
        tracing::info!(code = finding.code, resource = finding.resource, "{}", finding.summary);
        if *count <= SHOWN_MAX {
            self.seen.insert(name);
            self.list.push(finding);
        }
    }

    /// All of them; where there were too many of a kind, one says how many more.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        for (count, code) in self.counts.values() {
            if let (Some(more @ 1..), Some(code)) = (count.checked_sub(SHOWN_MAX), code) {
                let summary = format!("The same is found of {more} more, which are not listed.");
                self.list.push(code.about(format!("{more} more"), summary));
            }
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::catalogue::{OBJECT_EMPTY, OBJECT_MISSING};

    #[test]
    fn each_thing_once_and_not_too_many() {
        let mut findings = Findings::default();
        for n in 0..250 {
            findings.add(&OBJECT_MISSING, &format!("packs/{n}"), "Gone.".into(), None);
        }
        findings.add(&OBJECT_MISSING, "packs/7", "Gone.".into(), None);
        findings.add(&OBJECT_EMPTY, "packs/7", "Empty.".into(), None);
        let list = findings.finish();
        assert_eq!(list.len(), 202);
        assert_eq!(list[201].resource, "50 more");
    }
}
