//! Locks that reach much further than anything here needs: who holds a writer's credential can make storage cost money
//! for decades, since nobody can shorten a compliance lock.

use jiff::{SignedDuration, Timestamp};

use super::findings::Findings;
use super::history::History;
use crate::report::catalogue as code;
use crate::report::words;

/// A lock counts as absurd if it lasts longer from now than so many times the longest time for which any run here asked: agents
/// lock with slack, and some of it is a quarter.
const TIMES: i32 = 2;

/// Counts such locks.
#[derive(Debug)]
pub(super) struct FarLocks {
    /// Longer than this from now is too long; nothing is known without runs.
    limit: Option<Timestamp>,
    objects: u64,
    furthest: Option<(Timestamp, String)>,
}

impl FarLocks {
    pub(super) fn new(now: Timestamp, history: &History) -> Self {
        let asked = history.runs.iter().filter_map(|run| {
            let facts = run.facts.as_ref().ok()?;
            let end = facts.retention.expires.max(facts.retention.evidence_until);
            Some(end.duration_since(facts.started))
        });
        let limit = |longest: SignedDuration| now.checked_add(longest.checked_mul(TIMES)?).ok();
        Self { limit: asked.max().and_then(limit), objects: 0, furthest: None }
    }

    /// Takes a lock into account.
    pub(super) fn see(&mut self, key: &str, until: Timestamp) {
        if self.limit.is_none_or(|limit| until <= limit) {
            return;
        }
        self.objects += 1;
        if self.furthest.as_ref().is_none_or(|(furthest, _)| until > *furthest) {
            self.furthest = Some((until, key.to_owned()));
        }
    }

    /// Says so, once for the whole target.
    pub(super) fn tell(&self, url: &str, findings: &mut Findings) {
        let (Some((until, key)), Some(limit)) = (&self.furthest, self.limit) else { return };
        let summary = format!(
            "{} are locked for much longer than any run asked for.",
            words::counted(self.objects, "object")
        );
        let detail = format!(
            "{key} until {}; nothing should be locked beyond {}",
            words::minute(*until),
            words::minute(limit)
        );
        findings.add(&code::LOCK_FAR, url, summary, Some(detail));
    }
}
