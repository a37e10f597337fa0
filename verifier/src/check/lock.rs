//! Locks: each needed object's true version is locked until its runs expire, as strongly as they asked; and what the
//! target itself promises.

mod tell;

use std::collections::BTreeSet;

use anyhow::Result;
use futures::StreamExt;
use jiff::Timestamp;
use keephold_vault::store::{Lock, LockMode, LockPolicy, Protection, StoreError, VersionId};

use super::context::{Context, told};
use super::drift;
use super::far::FarLocks;
use super::findings::Findings;
use super::history::{History, Run};
use super::needed::Needed;
use super::object::Object;
use super::previous::Previous;
use crate::report::catalogue as code;
use crate::report::model::{
    self, BucketSetting, Count, Level, LevelResult, LevelState, LockCoverage, Objects,
};
use crate::report::words;

/// Locks that are asked for at once: each is a small request.
const AHEAD: usize = 32;

/// What was learnt about locks.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// By number of the run.
    runs: Vec<RunLock>,
    soonest: Option<Timestamp>,
    /// The strongest mode that was seen.
    strongest: Option<LockMode>,
    /// Whether an unexpired run was made without locks.
    unasked: bool,
    /// What the target tells about itself.
    pub(super) protection: Option<Protection>,
    /// The bucket's settings as found.
    pub(super) settings: Vec<BucketSetting>,
}

/// The locks of all that one run needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RunLock {
    /// The earliest end; `None` if one has none, or nothing was seen.
    pub(super) until: Option<Timestamp>,
    /// Whether all are locked until the run expires; `None` if that isn't known.
    pub(super) fully: Option<bool>,
    /// How much is locked until then.
    pub(super) coverage: LockCoverage,
    unlocked: bool,
}

impl Locks {
    /// What is known of a run's locks.
    pub(super) fn run(&self, number: usize) -> RunLock {
        self.runs.get(number).copied().unwrap_or_default()
    }

    /// The strongest promise that the target was seen to keep.
    pub(super) fn strength(&self) -> Option<model::Strength> {
        let seen = self.strongest.map(model::Strength::from);
        if self.unasked { Some(model::Strength::None) } else { seen }
    }
}

/// Asks for locks.
#[derive(Debug)]
pub(super) struct Locking {
    locks: Locks,
    asked: u64,
    locked: u64,
    unlocked: u64,
    failed: Option<String>,
    required: Option<LockMode>,
    /// Runs of which not all that they need is known.
    unknown: BTreeSet<u32>,
    far: FarLocks,
}

impl Locking {
    pub(super) fn new(context: &Context<'_>, history: &History, needed: &Needed) -> Self {
        let runs = vec![RunLock::default(); history.runs.len()];
        let unexpired = |run: &&Run| {
            run.facts.as_ref().is_ok_and(|f| {
                f.is_success() && f.retention.expires > context.now && f.retention.mode.is_none()
            })
        };
        let unasked = history.runs.iter().any(|run| unexpired(&run));
        let locks = Locks { runs, unasked, ..Locks::default() };
        Self {
            locks,
            asked: 0,
            locked: 0,
            unlocked: 0,
            failed: None,
            required: required(context),
            unknown: needed.unread_runs().collect(),
            far: FarLocks::new(context.now, history),
        }
    }

    /// Asks for the locks of a batch.
    ///
    /// # Errors
    /// Only a signal to stop.
    pub(super) async fn check(
        &mut self,
        context: &Context<'_>,
        batch: &[Object],
        history: &History,
        findings: &mut Findings,
    ) -> Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        let store = context.vault.store();
        // What isn't there has no lock either; presence has said so.
        let (there, missing): (Vec<_>, Vec<_>) = batch
            .iter()
            .partition(|object| object.versions.as_ref().is_none_or(|_| object.truth().is_some()));
        for object in missing {
            self.see(object, None, history);
        }
        let mut answers = futures::stream::iter(there)
            .map(|object| async move {
                let version: Option<VersionId> =
                    object.truth().and_then(|v| v.version.clone()).or_else(|| object.known.clone());
                (object, store.retention(&object.key, version.as_ref()).await)
            })
            .buffer_unordered(AHEAD);
        while let Some((object, answer)) = context.stop.unless_set(answers.next()).await? {
            match answer {
                Ok(lock) => self.judge(object, lock, history, findings),
                Err(StoreError::NotFound { .. }) => self.see(object, None, history),
                Err(error) => {
                    self.failed = Some(told(&error));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Holds one lock against what was asked for.
    fn judge(
        &mut self,
        object: &Object,
        lock: Option<Lock>,
        history: &History,
        findings: &mut Findings,
    ) {
        self.asked += 1;
        self.see(object, lock, history);
        if let Some(lock) = lock {
            self.far.see(object.key.as_str(), lock.until);
            self.locks.soonest =
                Some(self.locks.soonest.map_or(lock.until, |soonest| soonest.min(lock.until)));
            self.locks.strongest = stronger(self.locks.strongest, Some(lock.mode));
        }
        let asked = if object.mode.is_some() { stronger(object.mode, self.required) } else { None };
        let key = object.key.as_str();
        let by = object.needed_by(history);
        let until = words::minute(object.until);
        let Some(lock) = lock else {
            self.unlocked += 1;
            // A run that asked for none is told of once, for the whole target.
            if asked.is_some() {
                let summary =
                    format!("It has no lock, and should be locked until {until}; it is {by}.");
                findings.add(&code::LOCK_MISSING, key, summary, None);
            }
            return;
        };
        let mut good = true;
        if lock.until < object.until {
            good = false;
            let summary = format!(
                "Its lock ends at {}, and it is needed until {until}; it is {by}.",
                words::minute(lock.until)
            );
            findings.add(&code::LOCK_SHORT, key, summary, None);
        }
        if let Some(asked) = asked.filter(|asked| rank(lock.mode) < rank(*asked)) {
            good = false;
            if lock.mode == LockMode::Governance {
                let summary = format!(
                    "It is locked in governance mode; compliance was asked for. It is {by}."
                );
                findings.add(&code::LOCK_MODE, key, summary, None);
            } else {
                let summary = format!(
                    "Nothing holds it any more but the date beside it: {} was asked for. It is {by}.",
                    word(asked)
                );
                findings.add(
                    &code::LOCK_MISSING,
                    key,
                    summary,
                    Some(format!("it is locked as {}", word(lock.mode))),
                );
            }
        }
        if good {
            self.locked += 1;
        } else {
            self.unlocked += 1;
        }
    }

    /// Counts one object for each run that needs it.
    pub(super) fn see(&mut self, object: &Object, lock: Option<Lock>, history: &History) {
        for &number in &object.runs {
            let Some(Ok(facts)) = history.run(number).map(|run| run.facts.as_ref()) else {
                continue;
            };
            let retention = &facts.retention;
            let asked = if retention.mode.is_some() {
                stronger(retention.mode, self.required)
            } else {
                None
            };
            let strong = |lock: &Lock| asked.is_none_or(|asked| rank(lock.mode) >= rank(asked));
            let size = object.size.unwrap_or(0);
            if let Some(run) = self.locks.runs.get_mut(number as usize) {
                run.see(lock, retention.expires, lock.as_ref().is_some_and(strong), size);
            }
        }
    }

    /// What came of it; adds what is to be said of the target and of jobs.
    pub(super) async fn level(
        &mut self,
        context: &Context<'_>,
        history: &History,
        previous: &Previous,
        findings: &mut Findings,
    ) -> Result<LevelResult> {
        let url = context.vault.store().url();
        // A local folder is asked by writing to it, and the verifier writes nothing.
        if !context.settings.target.url.is_local() {
            match context.vault.store().protection().await {
                Ok(protection) => self.locks.protection = Some(protection),
                Err(error) => self.failed = self.failed.take().or_else(|| Some(told(&error))),
            }
            self.locks.settings = drift::check(context, previous, findings).await?;
        }
        self.target(context, &url, findings);
        self.far.tell(&url, findings);
        self.shortened(context, history, previous, findings);
        self.soon(context, history, findings);
        self.runs_out(context, history, findings);
        let (state, reason) = match &self.failed {
            Some(why) => (LevelState::CouldNotCheck, Some(format!("locks can't be read: {why}"))),
            None => (LevelState::Passed, None),
        };
        Ok(LevelResult {
            level: Level::Lock,
            state,
            checked: vec![Count::all("objects", self.asked)],
            reason,
        })
    }

    /// Puts the counts into the report's totals.
    pub(super) fn count(&self, objects: &mut Objects) {
        if self.failed.is_none() {
            objects.locked = Some(self.locked);
            objects.unlocked = Some(self.unlocked);
        }
        objects.soonest_lock_end = self.locks.soonest;
    }

    /// What was learnt; of runs that were not seen whole nothing is claimed.
    pub(super) fn locks(mut self) -> Locks {
        for (number, run) in (0..).zip(&mut self.locks.runs) {
            if self.failed.is_some() || self.unknown.contains(&number) {
                *run = RunLock::default();
            }
        }
        self.locks
    }
}

impl RunLock {
    /// Counts an object; `strong` says whether its lock, if any, is of the mode that was asked for.
    pub(super) fn see(&mut self, lock: Option<Lock>, expires: Timestamp, strong: bool, size: u64) {
        let end = lock.map(|lock| lock.until);
        self.unlocked |= end.is_none();
        let until = match (self.fully, self.until, end) {
            (None, _, end) => end,
            (Some(_), Some(until), Some(end)) => Some(until.min(end)),
            (Some(_), ..) => None,
        };
        self.until = until.filter(|_| !self.unlocked);
        let whole = strong && end.is_some_and(|end| end >= expires);
        let coverage = &mut self.coverage;
        coverage.objects += 1;
        coverage.bytes += size;
        if whole {
            coverage.objects_locked += 1;
            coverage.bytes_locked += size;
        }
        self.fully = Some(self.fully.unwrap_or(true) && whole);
    }
}

/// The mode that the verifier's own configuration asks for, on a target that has modes.
fn required(context: &Context<'_>) -> Option<LockMode> {
    let target = &context.settings.target;
    if !context.settings.lock_named || target.url.is_local() {
        return None;
    }
    match target.options.lock {
        LockPolicy::Compliance => Some(LockMode::Compliance),
        LockPolicy::Governance => Some(LockMode::Governance),
        LockPolicy::None => None,
    }
}

pub(super) fn rank(mode: LockMode) -> u8 {
    match mode {
        LockMode::Advisory => 1,
        LockMode::ImmutableFile => 2,
        LockMode::Governance => 3,
        LockMode::Compliance => 4,
    }
}

/// The stronger of two modes.
pub(super) fn stronger(a: Option<LockMode>, b: Option<LockMode>) -> Option<LockMode> {
    [a, b].into_iter().flatten().max_by_key(|mode| rank(*mode))
}

fn word(mode: LockMode) -> &'static str {
    words::strength(mode.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_locked_as_its_weakest_object_is() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let lock = |s| Some(Lock { mode: LockMode::Compliance, until: at(s) });
        let mut run = RunLock::default();
        run.see(lock(100), at(90), true, 7);
        run.see(lock(95), at(90), true, 7);
        assert_eq!((run.until, run.fully), (Some(at(95)), Some(true)));
        run.see(lock(100), at(90), false, 1);
        assert_eq!((run.until, run.fully), (Some(at(95)), Some(false)), "too weak a mode");
        run.see(lock(80), at(90), true, 1);
        assert_eq!((run.until, run.fully), (Some(at(80)), Some(false)));
        run.see(None, at(90), false, 1);
        run.see(lock(100), at(90), true, 4);
        assert_eq!((run.until, run.fully), (None, Some(false)));
        let coverage = LockCoverage { objects: 6, objects_locked: 3, bytes: 21, bytes_locked: 18 };
        assert_eq!(run.coverage, coverage);
    }
}
