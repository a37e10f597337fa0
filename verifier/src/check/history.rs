//! The records of all runs, read again: which there are, whether they are what their names say, whose they are.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result};
use futures::StreamExt;
use jiff::Timestamp;
use keephold_vault::Error;
use keephold_vault::ids::{RecordHash, SegmentId};
use keephold_vault::read::{FoundRecord, RecordScope, RunRecord};
use keephold_vault::record::{
    JobKind, Level, Record, Retention, SegmentRef, SourceReport, Status, Totals,
};

use super::context::{Context, is_about_object, told};
use crate::settings::Believed;

/// Records read at once; they are small.
const AHEAD: usize = 16;
/// How much of a record's messages is kept.
const MESSAGE_MAX: usize = 500;

/// One run, as its record tells it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) found: FoundRecord,
    /// What the record says; why it can't be read, if so.
    pub(super) facts: Result<Facts, String>,
}

/// What is kept of a record that was read and opened: a vault may hold many, so neither messages nor lists of packs.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) hash: RecordHash,
    pub(super) size: u64,
    pub(super) believed: Believed,
    pub(super) kind: JobKind,
    pub(super) previous: Option<RecordHash>,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) clock_offset_ms: Option<i64>,
    pub(super) status: Status,
    /// The gravest message.
    pub(super) message: Option<String>,
    pub(super) warnings: u64,
    pub(super) recipients: Vec<String>,
    pub(super) retention: Retention,
    pub(super) totals: Totals,
    pub(super) rows: Option<u64>,
    /// Entries and bytes of its snapshot, if it left one.
    pub(super) tree: Option<(u64, u64)>,
    /// Its databases, and the lengths of their dumps in bytes.
    pub(super) databases: Vec<(String, u64)>,
}

/// All runs of the jobs that are wanted, by host, job, number and time; and the segments that unexpired ones need.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) runs: Vec<Run>,
    /// By number of the run in `runs`.
    pub(super) segments: Vec<(u32, Vec<SegmentRef>)>,
    /// Segments that expired runs needed, as believed records say.
    pub(super) expired_segments: HashSet<SegmentId>,
}

impl Run {
    /// The run as a person calls it: `db1/main #12`.
    pub(super) fn name(&self) -> String {
        let key = &self.found.key;
        format!("{}/{} #{}", key.host, key.job, key.seq)
    }

    /// What the record says, if it is to be believed.
    pub(super) fn believed(&self) -> Option<&Facts> {
        self.facts.as_ref().ok().filter(|facts| matches!(facts.believed, Believed::Yes(_)))
    }
}

impl Facts {
    /// Whether it left something to restore, as far as it says.
    pub(super) fn is_success(&self) -> bool {
        self.tree.is_some() && self.status != Status::Failed
    }

    fn of(run: &RunRecord, size: u64, believed: Believed) -> Self {
        let record = &run.record;
        let databases = match &record.source {
            Some(SourceReport::Postgres(pg)) => pg.databases.as_slice(),
            _ => &[],
        };
        Self {
            hash: run.hash,
            size,
            believed,
            kind: record.kind,
            previous: record.previous,
            started: record.started,
            finished: record.finished,
            clock_offset_ms: record.clock_offset_ms,
            status: record.status,
            message: gravest(record),
            warnings: record.messages.iter().filter(|m| m.level == Level::Warning).count() as u64,
            recipients: record.recipients.clone(),
            retention: record.retention.clone(),
            totals: record.totals.clone(),
            rows: (record.kind == JobKind::Postgres)
                .then(|| databases.iter().map(|db| db.rows).sum()),
            tree: record
                .snapshot
                .as_ref()
                .map(|snapshot| (snapshot.root.entries, snapshot.root.bytes)),
            databases: databases.iter().map(|db| (db.name.clone(), db.dump_bytes)).collect(),
        }
    }
}

/// The first of the gravest messages, as one line.
fn gravest(record: &Record) -> Option<String> {
    let of = |level| record.messages.iter().find(|m| m.level == level);
    let message = of(Level::Error).or_else(|| of(Level::Warning))?;
    let text = message.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = text.chars().take(MESSAGE_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    Some(short)
}

impl History {
    /// Reads the records of all jobs that are wanted.
    ///
    /// # Errors
    /// What concerns the target as a whole; what is wrong with one record stands with its run.
    pub(super) async fn read(context: &Context<'_>) -> Result<Self> {
        let scope = RecordScope::default();
        let listed = context.stop.unless_set(context.vault.find_records(&scope)).await?;
        let mut found = listed.context("the records can't be listed")?;
        found.retain(|record| context.settings.wants(&record.key.host, &record.key.job));
        // Keys sort by time, and a clock that jumps must not reorder the numbers.
        found.sort_by(|a, b| {
            let order =
                |r: &FoundRecord| (r.key.host.clone(), r.key.job.clone(), r.key.seq, r.key.started);
            order(a).cmp(&order(b)).then_with(|| a.key.id.cmp(&b.key.id))
        });
        let (mut history, mut foreign) = (Self::default(), Vec::new());
        let mut reading = read_all(context, found);
        while let Some(read) = context.stop.unless_set(reading.next()).await? {
            let Read { run, segments, foreign: error } = read?;
            let number = history.runs.len();
            foreign.extend(error.map(|error| (number, error)));
            history.runs.push(run);
            history.need(number, segments, context.now)?;
        }
        // Nothing at all is sealed to this identity: that says something about the identity, and nothing about the vault.
        if foreign.len() == history.runs.len()
            && let Some((_, error)) = foreign.pop()
        {
            return Err(anyhow::Error::from(error)
                .context("not one record is sealed to the verifier's identity"));
        }
        // One that was opened gave the vault's secret, which opens those too that are sealed to others. What a report says
        // must not hang on which of them came first.
        let again = foreign.iter().filter_map(|(number, _)| history.runs.get(*number));
        let again: Vec<_> = again.map(|run| run.found.clone()).collect();
        let mut reading = read_all(context, again);
        for (number, _) in foreign {
            let Some(read) = context.stop.unless_set(reading.next()).await? else { break };
            let Read { run, segments, .. } = read?;
            if let Some(place) = history.runs.get_mut(number) {
                *place = run;
            }
            history.need(number, segments, context.now)?;
        }
        Ok(history)
    }

    /// Keeps the segments that a run needs; of one that has expired, only their names.
    fn need(
        &mut self,
        number: usize,
        segments: Option<Vec<SegmentRef>>,
        now: Timestamp,
    ) -> Result<()> {
        let run = self.runs.get(number);
        let (Some(segments), Some(Ok(facts))) = (segments, run.map(|run| run.facts.as_ref()))
        else {
            return Ok(());
        };
        if facts.retention.expires > now {
            let number =
                u32::try_from(number).context("there are more records than can be numbered")?;
            self.segments.push((number, segments));
        } else if matches!(facts.believed, Believed::Yes(_)) {
            self.expired_segments.extend(segments.iter().map(|segment| segment.id));
        }
        Ok(())
    }

    /// The run with this number.
    pub(super) fn run(&self, number: u32) -> Option<&Run> {
        self.runs.get(number as usize)
    }

    /// The runs of each job, in the order of their numbers.
    pub(super) fn by_job(&self) -> BTreeMap<(&str, &str), Vec<&Run>> {
        let mut jobs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for run in &self.runs {
            jobs.entry((run.found.key.host.as_str(), run.found.key.job.as_str()))
                .or_default()
                .push(run);
        }
        jobs
    }

    /// The newest run of each job that is believed and left a snapshot.
    pub(super) fn newest(&self) -> Vec<&Run> {
        let good = |run: &&&Run| run.believed().is_some_and(Facts::is_success);
        self.by_job().values().filter_map(|runs| runs.iter().rev().find(good).copied()).collect()
    }

    /// The run before `run` in its job that is believed and left a snapshot.
    pub(super) fn success_before(&self, run: &Run) -> Option<&Run> {
        let key = &run.found.key;
        self.runs.iter().rev().find(|other| {
            let of = &other.found.key;
            (&of.host, &of.job) == (&key.host, &key.job)
                && of.seq < key.seq
                && other.believed().is_some_and(Facts::is_success)
        })
    }
}

/// One record, read.
struct Read {
    run: Run,
    segments: Option<Vec<SegmentRef>>,
    /// Why it couldn't be opened: it isn't sealed to the verifier's identity, and no other was opened before it.
    foreign: Option<Error>,
}

impl Read {
    fn unreadable(found: FoundRecord, error: &Error) -> Self {
        Self { run: Run { facts: Err(told(error)), found }, segments: None, foreign: None }
    }
}

/// Reads records, several at once, in their order.
fn read_all<'a>(
    context: &'a Context<'_>,
    found: Vec<FoundRecord>,
) -> impl futures::Stream<Item = Result<Read>> + Unpin + 'a {
    Box::pin(
        futures::stream::iter(found).map(move |found| read_one(context, found)).buffered(AHEAD),
    )
}

async fn read_one(context: &Context<'_>, found: FoundRecord) -> Result<Read> {
    let sealed = match context.vault.read_record(&found.key).await {
        Ok(sealed) => sealed,
        Err(error) if is_about_object(&error) => return Ok(Read::unreadable(found, &error)),
        Err(error) => {
            return Err(anyhow::Error::from(error).context(format!("{} can't be read", found.key)));
        }
    };
    let (opener, signers) = (context.opener.clone(), context.settings.signers.clone());
    let (fingerprint, arrived) = (context.vault.fingerprint(), found.modified);
    let (size, opened) = tokio::task::spawn_blocking(move || {
        let believed = signers.check(&sealed, arrived);
        (sealed.bytes.len() as u64, opener.record(&sealed, &fingerprint).map(|run| (run, believed)))
    })
    .await?;
    match opened {
        Ok((run, believed)) => {
            let facts = Facts::of(&run, size, believed);
            let segments = run.record.snapshot.map(|snapshot| snapshot.segments);
            Ok(Read { run: Run { found, facts: Ok(facts) }, segments, foreign: None })
        }
        Err(error @ Error::Local { .. }) => Err(error.into()),
        Err(error @ Error::WrongIdentity { .. }) => {
            let read = Read::unreadable(found, &error);
            Ok(Read { foreign: Some(error), ..read })
        }
        Err(error) => Ok(Read::unreadable(found, &error)),
    }
}
