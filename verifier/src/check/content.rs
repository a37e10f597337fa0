//! Content: what the newest snapshots hold is plausible. Not empty, not cut, not half of what it was.

use anyhow::Result;
use keephold_postgres::archive::{ArchiveSummary, Parser};
use keephold_postgres::cluster::{Difference, compare};
use keephold_vault::Error;
use keephold_vault::read::Selection;
use keephold_vault::record::{DatabaseReport, JobKind};
use keephold_vault::tree::EntryKind;

use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::history::{Facts, History, Run};
use super::snapshot::{self, Snapshot};
use crate::report::catalogue as code;
use crate::report::model::{Count, Level, LevelResult, LevelState};
use crate::report::words;

/// Differences that are told of one dump.
const DIFFERENCES_MAX: usize = 5;

/// Looks into the newest good snapshot of each job.
///
/// # Errors
/// Only a signal to stop.
pub(super) async fn check(
    context: &Context<'_>,
    history: &History,
    findings: &mut Findings,
) -> Result<LevelResult> {
    let newest = history.newest();
    let (mut snapshots, mut dumps, mut failed) = (0, 0, None);
    for run in &newest {
        let Some(facts) = run.believed() else { continue };
        shrinkage(context, run, facts, history, findings);
        growth(run, facts, history, findings);
        entropy(run, facts, history, findings);
        context.progress.at(format!("looking into {}", run.name()));
        let looked = match Snapshot::open(context, run).await {
            Err(error) => Err(error),
            Ok(snapshot) => match facts.kind {
                JobKind::Directory => {
                    context.stop.unless_set(tree(run, &snapshot, findings)).await?
                }
                JobKind::Postgres => {
                    dumps += facts.databases.len() as u64;
                    context.stop.unless_set(server(run, &snapshot, findings)).await?
                }
            },
        };
        match looked {
            Ok(()) => snapshots += 1,
            Err(error) => failed = Some(format!("{}: {}", run.name(), told(&error))),
        }
    }
    let (state, reason) = match failed {
        Some(why) => (LevelState::CouldNotCheck, Some(why)),
        None if newest.is_empty() => (
            LevelState::CouldNotCheck,
            Some("there is no snapshot that can be believed".to_owned()),
        ),
        None => (LevelState::Passed, None),
    };
    let checked =
        vec![Count::some("snapshots", snapshots, newest.len() as u64), Count::all("dumps", dumps)];
    Ok(LevelResult { level: Level::Content, state, checked, reason })
}

/// Whether a snapshot is implausibly smaller than the one before it.
fn shrinkage(
    context: &Context<'_>,
    run: &Run,
    facts: &Facts,
    history: &History,
    findings: &mut Findings,
) {
    let Some(before) = history.success_before(run) else { return };
    let (Some((entries, bytes)), Some(earlier)) = (facts.tree, before.believed()) else { return };
    let Some((entries_before, bytes_before)) = earlier.tree else { return };
    let max = u128::from(context.settings.max_shrink_percent);
    let shrunk = |before: u64, now: u64| {
        u128::from(before - now.min(before)) * 100 > u128::from(before) * max
    };
    let mut what = Vec::new();
    if shrunk(bytes_before, bytes) {
        what.push(format!("{} of {} are left", words::bytes(bytes), words::bytes(bytes_before)));
    }
    if shrunk(entries_before, entries) {
        what.push(format!(
            "{} of {} entries are left",
            words::count(entries),
            words::count(entries_before)
        ));
    }
    for (name, length_before) in &earlier.databases {
        match facts.databases.iter().find(|(other, _)| other == name) {
            None => what.push(format!("database '{name}' is no longer in it")),
            Some((_, length)) if shrunk(*length_before, *length) => {
                let (now, then) = (words::bytes(*length), words::bytes(*length_before));
                what.push(format!("the dump of database '{name}' has {now} instead of {then}"));
            }
            Some(_) => {}
        }
    }
    if !what.is_empty() {
        let summary = format!("It is much smaller than {}.", before.name());
        findings.add(&code::SHRUNK, &run.name(), summary, Some(what.join("; ")));
    }
}

/// A snapshot that holds so many times as much as the one before it …
const GROWTH_TIMES: u64 = 10;
/// … and so many bytes more, is told of.
const GROWTH_MIN: u64 = 16 << 20;

/// Whether a snapshot is implausibly larger than the one before it.
fn growth(run: &Run, facts: &Facts, history: &History, findings: &mut Findings) {
    let Some(before) = history.success_before(run) else { return };
    let (Some((_, bytes)), Some(earlier)) = (facts.tree, before.believed()) else { return };
    let Some((_, bytes_before)) = earlier.tree else { return };
    if bytes / GROWTH_TIMES > bytes_before && bytes - bytes_before > GROWTH_MIN {
        let summary = format!("It is much larger than {}.", before.name());
        let detail = format!("{}, {} before", words::bytes(bytes), words::bytes(bytes_before));
        findings.add(&code::GROWN, &run.name(), summary, Some(detail));
    }
}

/// A run says something about how well a job compresses if it stored at least so many bytes …
const ENTROPY_MIN: u64 = 1 << 20;
/// … and this share of its snapshot, in percent.
const ENTROPY_SHARE: u64 = 50;
/// Of what compresses, less than this is stored, in percent; of what doesn't, at least [`INCOMPRESSIBLE`].
const COMPRESSIBLE: u64 = 80;
const INCOMPRESSIBLE: u64 = 95;

/// Whether most of a snapshot is new and doesn't compress, where the job's data used to. That is what ransomware looks like
/// that encrypts files where they lie: their number and sizes stay.
fn entropy(run: &Run, facts: &Facts, history: &History, findings: &mut Findings) {
    // How much was stored of what was new, in percent, if that was most of the snapshot.
    let stored = |facts: &Facts| {
        let (new, stored) = (facts.totals.bytes_new, facts.totals.bytes_stored);
        let most = new / 100 >= facts.tree?.1 / 100 * ENTROPY_SHARE / 100;
        (new >= ENTROPY_MIN && most).then(|| stored.saturating_mul(100) / new)
    };
    if stored(facts).is_none_or(|now| now < INCOMPRESSIBLE) {
        return;
    }
    let mut at = run;
    while let Some(before) = history.success_before(at) {
        if let Some(then) = before.believed().and_then(stored) {
            if then < COMPRESSIBLE {
                let summary =
                    "Most of it is new and doesn't compress, as if it were encrypted.".to_owned();
                let detail = format!("{} stored {then} % of what was new", before.name());
                findings.add(&code::ENTROPY, &run.name(), summary, Some(detail));
            }
            return;
        }
        at = before;
    }
}

/// Whether a tree holds anything but folders.
async fn tree(run: &Run, snapshot: &Snapshot, findings: &mut Findings) -> Result<(), Error> {
    let mut entries = snapshot.reader.entries(Selection::all());
    let mut folders = 0;
    while let Some(entry) = entries.next().await {
        match entry {
            Ok(entry) if entry.kind == EntryKind::Directory => folders += 1,
            Ok(_) => return Ok(()),
            Err(error) if is_about_object(&error) => {
                let summary = "Its tree can't be read.".to_owned();
                findings.add(&code::PACK_UNREADABLE, &run.name(), summary, Some(told(&error)));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let summary = match folders {
        0 => "The snapshot holds nothing at all.".to_owned(),
        n => format!("The snapshot holds {} and no file.", words::counted(n, "folder")),
    };
    findings.add(&code::TREE_EMPTY, &run.name(), summary, None);
    Ok(())
}

/// Whether the dumps of a server are whole, and what was counted when they were made.
async fn server(run: &Run, snapshot: &Snapshot, findings: &mut Findings) -> Result<(), Error> {
    let databases = snapshot.postgres().map(|pg| pg.databases.clone()).unwrap_or_default();
    if databases.is_empty() {
        let summary = "The snapshot of a server holds no database.".to_owned();
        findings.add(&code::DUMP_EMPTY, &run.name(), summary, None);
    }
    match snapshot.file("globals.sql").await {
        Ok(content) if content.size > 0 => {}
        Ok(_) => findings.add(
            &code::DUMP_EMPTY,
            &format!("{}: globals.sql", run.name()),
            "The roles and tablespaces are empty.".to_owned(),
            None,
        ),
        Err(error) => missing(&error, &format!("{}: globals.sql", run.name()), findings)?,
    }
    for database in &databases {
        let resource = format!("{}: {}", run.name(), database.dump);
        match dump(snapshot, database).await {
            Ok(None) => {}
            Ok(Some(Flaw::Empty)) => {
                let summary = format!("The dump of database '{}' has no bytes.", database.name);
                findings.add(&code::DUMP_EMPTY, &resource, summary, None);
            }
            Ok(Some(Flaw::Incomplete(why))) => {
                let summary = format!(
                    "The dump of database '{}' does not come to its proper end.",
                    database.name
                );
                findings.add(&code::DUMP_INCOMPLETE, &resource, summary, Some(why));
            }
            Ok(Some(Flaw::Other(why))) => {
                let summary = format!(
                    "The dump of database '{}' does not hold what was counted when it was made.",
                    database.name
                );
                findings.add(&code::DUMP_INCOMPLETE, &resource, summary, Some(why));
            }
            Err(error) => missing(&error, &resource, findings)?,
        }
    }
    Ok(())
}

fn missing(error: &Error, resource: &str, findings: &mut Findings) -> Result<(), Error> {
    if !is_about_object(error) {
        let what = resource.to_owned();
        return Err(Error::Local { what, source: std::io::Error::other(told(error)) });
    }
    let summary = "It should be in the snapshot, and can't be read.".to_owned();
    findings.add(&code::DUMP_INCOMPLETE, resource, summary, Some(told(error)));
    Ok(())
}

/// What is wrong with a dump.
enum Flaw {
    Empty,
    Incomplete(String),
    Other(String),
}

/// Reads a dump to its end, and counts its rows again.
async fn dump(snapshot: &Snapshot, database: &DatabaseReport) -> Result<Option<Flaw>, Error> {
    let content = snapshot.file(&database.dump).await?;
    if content.size == 0 {
        return Ok(Some(Flaw::Empty));
    }
    let mut parser = Parser::new(&snapshot.secret.row_set_key());
    let mut reader = snapshot.reader.content(&content);
    while let Some(piece) = snapshot::next(&mut reader).await {
        if let Err(error) = parser.feed(&piece?) {
            return Ok(Some(Flaw::Incomplete(error.to_string())));
        }
    }
    let found = match parser.finish() {
        Ok(found) => found,
        Err(error) => return Ok(Some(Flaw::Incomplete(error.to_string()))),
    };
    let recorded = match counts(snapshot, database).await {
        Ok(recorded) => recorded,
        Err(error) => return Ok(Some(Flaw::Other(format!("{error:#}")))),
    };
    if found.database != database.name {
        return Ok(Some(Flaw::Other(format!("it is of database '{}'", found.database))));
    }
    let differences = compare(&recorded, &found);
    let named: Vec<_> =
        differences.iter().take(DIFFERENCES_MAX).map(Difference::to_string).collect();
    Ok((!named.is_empty())
        .then(|| Flaw::Other(format!("{} differences: {}", differences.len(), named.join("; ")))))
}

/// What the agent counted as the dump passed.
///
/// # Errors
/// If it can't be read or understood.
pub(super) async fn counts(
    snapshot: &Snapshot,
    database: &DatabaseReport,
) -> Result<ArchiveSummary> {
    use anyhow::Context as _;
    let bytes = snapshot.small(&database.tables_path).await?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("'{}' can't be understood", database.tables_path))
}
