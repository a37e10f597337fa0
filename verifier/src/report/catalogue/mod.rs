//! The catalogue of findings: what each code means, how bad it is, and what to do about it.
//!
//! A code never changes its meaning and is never used again, because alerts, tickets and auditors' notes refer to it.
//! `docs/FINDINGS.md` is made from this catalogue; a test fails when it drifts
//! (`KEEPHOLD_UPDATE_DOCS=1 cargo test -p keephold-verify` writes it anew).

mod codes;
mod markdown;

pub use codes::*;
pub use markdown::findings_page;

use super::model::{Finding, Level, Severity};

/// One kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The stable code, such as `KH-PRES-001`.
    pub id: &'static str,
    /// The level that finds it.
    pub level: Level,
    /// How much it matters unless the case at hand says otherwise.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// What that means, for someone who meets the code for the first time.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Code {
    /// A finding of this kind about `resource`; `summary` says in one sentence what is wrong with it.
    pub fn about(&self, resource: impl Into<String>, summary: impl Into<String>) -> Finding {
        Finding {
            code: self.id.to_owned(),
            severity: self.severity,
            level: self.level,
            resource: resource.into(),
            summary: summary.into(),
            detail: None,
            remedy: self.remedy.to_owned(),
            first_seen: None,
        }
    }
}

/// The code that says that a level could not be checked.
pub fn could_not_check(level: Level) -> &'static Code {
    match level {
        Level::Freshness => &UNCHECKED_FRESHNESS,
        Level::Presence => &UNCHECKED_PRESENCE,
        Level::Lock => &UNCHECKED_LOCK,
        Level::IntegrityKeyless => &UNCHECKED_KEYLESS,
        Level::IntegrityDeep => &UNCHECKED_DEEP,
        Level::Content => &UNCHECKED_CONTENT,
        Level::TestRestore => &UNCHECKED_RESTORE,
        Level::Coverage => &UNCHECKED_COVERAGE,
    }
}

/// Codes that nothing finds yet, and that the page says so of. None may be added; take out what is built.
const NOT_YET: [&str; 5] =
    ["KH-FRESH-003", "KH-INT-005", "KH-REST-007", "KH-COV-001", "KH-COV-002"];

/// Looks a code up by its id.
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.id == id)
}

#[cfg(test)]
mod tests {
    use super::{ALL, NOT_YET, could_not_check, find};
    use crate::report::model::Level;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// The sources below a folder, without tests.
    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["tests", "samples", "catalogue"].contains(&name) {
                sources(&path, text);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let all = std::fs::read_to_string(&path).unwrap();
                let tests = all.find("\n#[cfg(test)]\nmod tests {");
                text.push_str(tests.map_or(&all, |at| &all[..at]));
            }
        }
    }

    #[test]
    fn every_code_is_found_by_some_check() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut text = String::new();
        sources(&src, &mut text);
        let used: BTreeSet<_> = text
            .split("code::")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap())
            .collect();
        let codes = include_str!("codes.rs");
        let name = |id: &str| {
            let line = codes.lines().find(|line| line.contains(&format!("= \"{id}\""))).unwrap();
            line.split_whitespace().next().unwrap()
        };
        let levels: BTreeSet<_> = Level::ALL.map(|level| could_not_check(level).id).into();
        let dead: Vec<_> = ALL
            .iter()
            .map(|code| code.id)
            .filter(|id| !levels.contains(id) && !used.contains(name(id)))
            .collect();
        assert_eq!(dead, NOT_YET);
    }

    #[test]
    fn ids_are_unique_and_well_formed() {
        let ids: BTreeSet<_> = ALL.iter().map(|code| code.id).collect();
        assert_eq!(ids.len(), ALL.len(), "a code is used twice");
        for id in ids {
            let parts: Vec<_> = id.split('-').collect();
            assert!(parts.len() == 3 && parts[0] == "KH" && parts[2].len() == 3, "{id}");
            assert!(parts[1].bytes().all(|byte| byte.is_ascii_uppercase()), "{id}");
            assert!(parts[2].bytes().all(|byte| byte.is_ascii_digit()), "{id}");
            assert!(find(id).is_some());
        }
    }

    #[test]
    fn every_text_is_a_sentence_or_a_title() {
        for code in ALL {
            assert!(!code.title.ends_with('.') && !code.title.is_empty(), "{}", code.id);
            assert!(code.meaning.ends_with('.'), "{}: {}", code.id, code.meaning);
            assert!(code.remedy.ends_with('.'), "{}: {}", code.id, code.remedy);
        }
    }

    #[test]
    fn each_level_can_say_that_it_could_not_check() {
        for level in Level::ALL {
            assert_eq!(could_not_check(level).level, level);
        }
    }
}
