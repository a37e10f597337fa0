//! A directory: restored into a scratch folder, compared entry by entry, removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use keephold_files::Base;
use keephold_files::compare::{self, Compare, Difference};
use keephold_files::restore::{Options, Owners, Problems, Target};
use keephold_vault::Error;
use keephold_vault::read::{Selection, restore};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::expected::Entries;
use super::remove::remove;
use super::sink::Sink;
use super::{DIFFERENCES_MAX, Failure, bounded, seconds};
use crate::check::context::{Context, told};
use crate::check::findings::Findings;
use crate::check::snapshot::Snapshot;
use crate::report::catalogue as code;
use crate::report::model::{Check, Cleanup, Finding, RestoreResult, RestoreTest, Severity, Tier};
use crate::report::words;

/// Restores and compares a directory's snapshot.
pub(super) async fn test(
    context: &Context<'_>,
    snapshot: Snapshot,
    test: &mut RestoreTest,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let scratch = &context.settings.scratch;
    test.environment.place = "a scratch folder on the verifier".to_owned();
    // Only the verifier may look into it.
    let folder = tempfile::Builder::new().prefix("keephold-restore-").tempdir_in(scratch);
    let folder = folder.map_err(|e| {
        Failure::Verifier(format!("no folder can be made in {}: {e}", scratch.display()))
    })?;
    let tested = restore_and_compare(context, &snapshot, &folder, test, findings).await;
    let start = Instant::now();
    let path = folder.path().to_owned();
    let removed = tokio::task::spawn_blocking(move || remove(folder)).await;
    test.durations.teardown_s = seconds(start);
    test.cleanup = match removed {
        Ok(Ok(())) => {
            Cleanup { done: true, detail: Some("the scratch folder was removed".to_owned()) }
        }
        Ok(Err(error)) => Cleanup {
            done: false,
            detail: Some(format!("{} is still there: {error}", path.display())),
        },
        Err(error) => Cleanup {
            done: false,
            detail: Some(format!("{} is still there: {error}", path.display())),
        },
    };
    tested
}

async fn restore_and_compare(
    context: &Context<'_>,
    snapshot: &Snapshot,
    folder: &TempDir,
    test: &mut RestoreTest,
    findings: &mut Findings,
) -> Result<(), Failure> {
    // Numbers are what a host that is restored would get; without root nobody else can own a file.
    let root = rustix::process::geteuid().is_root();
    let owners = if root { Owners::ByNumber } else { Owners::Ignored };
    let options = Options { owners, xattrs: root, sync: false, ..Options::default() };
    let base = folder.path().join("tree");
    let target = Target::create(&base, options).map_err(|error| Failure::Verifier(told(&error)))?;
    let sink = Arc::new(Sink::new(target, context.stop.clone()));

    let start = Instant::now();
    let restored = restore::restore(&snapshot.reader, Selection::all(), sink.clone()).await;
    context.stop.check().map_err(Failure::Stopped)?;
    let failures = sink.failures();
    if let Some(full) = failures.full {
        return Err(Failure::Verifier(format!("there is no room to restore to: {full}")));
    }
    let restored = restored?;
    let problems = blocking(move || sink.target.finish())
        .await?
        .map_err(|error| Failure::Verifier(told(&error)))?;
    test.durations.restore_s = seconds(start);
    test.bytes_restored = Some(restored.bytes);
    test.tier = Some(if failures.count == 0 { Tier::Restored } else { Tier::Decrypted });

    let start = Instant::now();
    context.progress.at(format!("comparing {}/{} #{}", test.host, test.job, test.seq));
    let entries =
        Entries::new(Handle::current(), snapshot.reader.clone(), snapshot.secret.blob_namer());
    let options = compare::Options { owners, xattrs: root, times: true };
    let stop = context.stop.clone();
    let compared = blocking(move || {
        let base = Base::open(&base).map_err(|error| Failure::Verifier(error.to_string()))?;
        compare_trees(&base, entries, options, &problems, &|| stop.is_set())
    });
    let compared = compared.await??;
    context.stop.check().map_err(Failure::Stopped)?;
    test.durations.checks_s = seconds(start);
    if let Some(error) = compared.error {
        return Err(error.into());
    }
    judge(snapshot, test, compared, failures.count, failures.first, findings)
}

/// What came of a comparison.
struct Compared {
    entries: u64,
    /// Of the backup.
    serious: u64,
    /// Of this host, which could not set what it should have.
    local: u64,
    first: Vec<String>,
    error: Option<Error>,
}

fn compare_trees(
    base: &Base,
    mut entries: Entries,
    options: compare::Options,
    problems: &Problems,
    stopped: &dyn Fn() -> bool,
) -> Result<Compared, Failure> {
    // What the restore itself said that it could not set here says nothing about the backup.
    let excused: BTreeSet<_> = problems.first.iter().map(|problem| problem.path.clone()).collect();
    let more_problems = problems.total() > problems.first.len() as u64;
    let is_local = |difference: &Difference| {
        use keephold_files::compare::What;
        let metadata = matches!(
            difference.what,
            What::Owner | What::Group | What::Mode | What::Xattr | What::Time
        );
        let named = difference.path.as_ref().is_some_and(|path| excused.contains(path));
        (named && (metadata || difference.what == What::Missing)) || (metadata && more_problems)
    };
    let (mut serious, mut local, mut first) = (0, 0, Vec::new());
    let compared = {
        let mut compare =
            Compare::start(base, &mut entries, options).map_err(|e| Failure::Verifier(told(&e)))?;
        for difference in compare.by_ref() {
            if stopped() {
                break;
            }
            let here = is_local(&difference);
            *(if here { &mut local } else { &mut serious }) += 1;
            if first.len() < DIFFERENCES_MAX {
                first.push(format!(
                    "{difference}{}",
                    if here { " (could not be set here)" } else { "" }
                ));
            }
        }
        compare.compared()
    };
    Ok(Compared { entries: compared, serious, local, first, error: entries.error.take() })
}

fn judge(
    snapshot: &Snapshot,
    test: &mut RestoreTest,
    compared: Compared,
    failed: u64,
    mut told: Vec<String>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let name = format!("{}/{} #{}", test.host, test.job, test.seq);
    let wanted = snapshot.reader.root().entries;
    test.entries_compared = Some(compared.entries);
    let count = |name: &str, expected: u64, found: u64| Check {
        name: name.to_owned(),
        expected: words::count(expected),
        found: words::count(found),
        ok: expected == found,
    };
    test.checks = vec![
        count("entries that could not be restored", 0, failed),
        // Sockets, and what can't be made here, are in the snapshot and not on the disk.
        Check {
            ok: compared.entries + compared.local >= wanted || failed + compared.serious > 0,
            ..count("entries compared", wanted, compared.entries)
        },
        count("entries that differ", 0, compared.serious),
    ];
    told.extend(compared.first);
    test.differences = bounded(told, failed + compared.serious + compared.local);
    let example = test.differences.shown.first().cloned();
    if failed > 0 {
        test.result = RestoreResult::Failed;
        let why = format!("{} could not be restored", words::counted(failed, "part"));
        return Err(Failure::Backup(
            example.map_or(why.clone(), |one| format!("{why}, the first of them {one}")),
        ));
    }
    test.tier = Some(Tier::Compared);
    if wanted > 0 && compared.entries == 0 {
        return Err(Failure::Backup(
            "nothing was compared, although the snapshot is not empty".to_owned(),
        ));
    }
    if compared.serious > 0 {
        test.result = RestoreResult::Different;
        let summary = format!(
            "{} of {} is not as recorded.",
            words::counted(compared.serious, "thing"),
            words::counted(wanted, "entrie")
        );
        findings.add(&code::TREE_DIFFERS, &name, summary, example);
        return Ok(());
    }
    test.result = RestoreResult::Passed;
    if compared.local > 0 {
        let number = words::counted(compared.local, "thing");
        let summary = format!(
            "{number} could not be set on the verifier's scratch file system, so they were not compared."
        );
        let finding = Finding {
            severity: Severity::Warning,
            detail: example,
            ..code::TREE_DIFFERS.about(&name, summary)
        };
        findings.push(&code::TREE_DIFFERS, finding);
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::Verifier(error.to_string()))
}
