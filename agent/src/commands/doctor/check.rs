//! One check and what came of it; the whole examination, as text and as JSON.

use std::fmt::Write as _;

use keephold_cli::exit::Exit;
use keephold_cli::human;
use serde::Serialize;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Right.
    Ok,
    /// Worth knowing; nothing to do.
    Note,
    /// Works, but should be mended.
    Warning,
    /// Wrong: backups fail, or aren't protected.
    Bad,
    /// Could not be checked.
    Unchecked,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Bad => "BAD",
            Self::Unchecked => "UNKNOWN",
        }
    }
}

/// What one look found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// What was looked at; never changes, for programs.
    pub(super) name: &'static str,
    pub(super) state: State,
    /// In words.
    pub(super) text: String,
    /// The command or setting that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

/// All checks of a host.
#[derive(Debug, Serialize)]
pub(super) struct Examination {
    pub(super) vault: String,
    pub(super) host: String,
    pub(super) checks: Vec<Check>,
}

impl Examination {
    pub(super) fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, State::Ok, text, None);
    }

    pub(super) fn note(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, State::Note, text, None);
    }

    pub(super) fn unchecked(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, State::Unchecked, text, None);
    }

    pub(super) fn warn(&mut self, name: &'static str, text: impl Into<String>, mend: String) {
        self.add(name, State::Warning, text, Some(mend));
    }

    pub(super) fn bad(&mut self, name: &'static str, text: impl Into<String>, mend: String) {
        self.add(name, State::Bad, text, Some(mend));
    }

    pub(super) fn add(
        &mut self,
        name: &'static str,
        state: State,
        text: impl Into<String>,
        mend: Option<String>,
    ) {
        self.checks.push(Check { name, state, text: text.into(), mend });
    }

    fn count(&self, state: State) -> usize {
        self.checks.iter().filter(|c| c.state == state).count()
    }

    /// What it all comes to.
    pub(super) fn exit(&self) -> Exit {
        if self.count(State::Unchecked) > 0 {
            Exit::Failed
        } else if self.count(State::Warning) + self.count(State::Bad) > 0 {
            Exit::Findings
        } else {
            Exit::Done
        }
    }

    /// For people. A mending command stands alone on its line, ready to paste.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{} on host '{}'\n\n", self.vault, self.host);
        for (at, check) in self.checks.iter().enumerate() {
            let _ = writeln!(out, "{:<8} {:<19} {}", check.state.word(), check.name, check.text);
            // One policy mends many rights: it is shown once, with the last of them.
            let again = |mend: &&String| {
                self.checks[at + 1..].iter().any(|c| c.mend.as_ref() == Some(mend))
            };
            for line in check.mend.iter().filter(|mend| !again(mend)).flat_map(|mend| mend.lines())
            {
                let _ = writeln!(out, "             {line}");
            }
        }
        let tally: Vec<_> =
            [(State::Bad, "bad"), (State::Warning, "to mend"), (State::Unchecked, "not known")]
                .into_iter()
                .filter(|(state, _)| self.count(*state) > 0)
                .map(|(state, word)| format!("{} {word}", self.count(state)))
                .collect();
        let verdict = if tally.is_empty() { "all fine".to_owned() } else { tally.join(", ") };
        let checks = human::count(self.checks.len() as u64, "check");
        let _ = writeln!(out, "\n{checks}: {verdict}");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_checked_is_never_fine() {
        let mut found =
            Examination { vault: "s3://b/p".into(), host: "web1".into(), checks: Vec::new() };
        found.ok("clock", "fine");
        found.note("policy", "worth knowing");
        assert_eq!(found.exit(), Exit::Done);
        assert!(found.text().ends_with("2 checks: all fine\n"), "{}", found.text());
        found.warn("cache", "not writable", "chmod u+w /c".into());
        assert_eq!(found.exit(), Exit::Findings);
        found.unchecked("vault", "can't be reached");
        assert_eq!(found.exit(), Exit::Failed);
        assert!(found.text().contains("1 to mend, 1 not known"), "{}", found.text());
    }

    #[test]
    fn a_remedy_for_many_is_shown_once_with_the_last() {
        let mut found =
            Examination { vault: "s3://b/p".into(), host: "web1".into(), checks: Vec::new() };
        found.bad("may not", "write", "give it the policy".into());
        found.warn("too wide", "deletes", "give it the policy".into());
        let text = found.text();
        assert_eq!(text.matches("give it the policy").count(), 1, "{text}");
        assert!(text.find("deletes") < text.find("give it the policy"), "{text}");
    }
}
