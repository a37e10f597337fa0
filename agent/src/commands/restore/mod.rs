//! `keephold restore`: brings back files.

mod sink;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::Exit;
use keephold_cli::human;
use keephold_files::restore::{Existing, Options, Owners, Problems, Target};
use keephold_vault::Error;
use keephold_vault::read::restore::{Restored, restore};
use keephold_vault::read::{Selection, SnapshotReader};
use keephold_vault::store::Calls;
use keephold_vault::tree::{EntryKind, TreePath};

use crate::reading::{Choice, ReadArgs, ReadVault, tree_path};
use sink::TargetSink;

/// Most problems that are told one by one.
const TOLD_MAX: usize = 100;

/// Bring back a snapshot, or the given files and folders of it, below a directory.
///
/// Paths keep their place: /etc/hosts comes back as DIR/etc/hosts. Nothing is written outside DIR, whatever the
/// snapshot holds and whatever links stand in DIR. What can't be restored is named and stops nothing else.
///
/// Exit codes: 0 all restored; 1 something is missing; 3 all data is there, but not every owner, mode or attribute.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold restore latest --target /tmp/back /etc/nginx\n  \
    keephold restore db1/etc@41 --target / /etc/fstab --overwrite\n  \
    keephold restore --vault s3://b/p -i restore.agekey db1/home --target /mnt     on a new machine")]
pub(crate) struct RestoreArgs {
    /// latest, HOST/JOB, HOST/JOB@NUMBER, or the first digits of an id, as `keephold snapshots` shows them.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Choice,
    /// Files and folders in it; everything if there are none.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Directory to restore to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Only list what would be restored.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Replace what is already there; without this (or the two below) it is refused, by name.
    #[arg(long, conflicts_with_all = ["skip_existing", "keep_newer"])]
    pub(crate) overwrite: bool,
    /// Leave what is already there.
    #[arg(long, conflicts_with = "keep_newer")]
    pub(crate) skip_existing: bool,
    /// Replace what is already there, unless it was changed at the same time or later.
    #[arg(long)]
    pub(crate) keep_newer: bool,
    /// Restore owners by number, even where a user or group of the same name has another number here.
    #[arg(long, conflicts_with = "no_owners")]
    pub(crate) numeric_ids: bool,
    /// Let everything belong to whoever restores (so without root).
    #[arg(long)]
    pub(crate) no_owners: bool,
    /// Leave out extended attributes, ACLs and capabilities.
    #[arg(long)]
    pub(crate) no_xattrs: bool,
    /// Don't wait until everything is on the disk, as cp and tar don't: what a failing disk then loses is not told.
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Print the outcome as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

impl RestoreArgs {
    /// How to restore for someone who is root, or isn't.
    fn options(&self, root: bool) -> Options {
        let existing = match (self.overwrite, self.skip_existing, self.keep_newer) {
            (true, ..) => Existing::Overwrite,
            (_, true, _) => Existing::Skip,
            (_, _, true) => Existing::KeepNewer,
            _ => Existing::Refuse,
        };
        let owners = match (self.numeric_ids, self.no_owners || !root) {
            (true, _) => Owners::ByNumber,
            (_, true) => Owners::Ignored,
            _ => Owners::ByName,
        };
        Options { existing, owners, xattrs: !self.no_xattrs, sync: !self.no_sync }
    }
}

/// Restores a snapshot of an open vault.
pub(crate) async fn run(
    args: &RestoreArgs,
    open: &ReadVault,
    quiet: bool,
    out: &mut (dyn Write + Send),
) -> Result<Exit> {
    let run = open.choose_for_data(&args.snapshot).await?;
    let reader = open.snapshot(&run)?;
    let selection = select(&reader, &args.paths).await?;
    if args.dry_run {
        dry_run(&reader, selection, out).await?;
        return Ok(open.finish(Exit::Done));
    }
    let started = Instant::now();
    let options = args.options(rustix::process::geteuid().is_root());
    let owners_left = options.owners == Owners::Ignored && !args.no_owners;
    let (dir, target) = (args.target.clone(), args.target.clone());
    let target = tokio::task::spawn_blocking(move || Target::create(&target, options)).await??;
    let total = selection.is_all().then(|| reader.root().bytes);
    let sink = Arc::new(TargetSink::new(target.clone()));
    let shown = !quiet && !args.json && std::io::stderr().is_terminal();
    let watching = sink.watch(total, shown);
    let restored = restore(&reader, selection, Arc::clone(&sink) as _).await;
    // Folders get their modes and times also where the rest failed.
    let finished = tokio::task::spawn_blocking(move || target.finish()).await?;
    drop(watching);
    let restored =
        restored.with_context(|| format!("the restore to {} is not whole", dir.display()))?;
    let problems =
        finished.with_context(|| format!("the restore to {} is not whole", dir.display()))?;
    let missing = restored.failed + u64::from(restored.stopped);
    let exit = match (missing, problems.total()) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Findings,
        _ => Exit::Failed,
    };
    tell(&problems);
    if args.json {
        let calls = open.vault.store().calls();
        writeln!(out, "{}", json(&restored, sink.kept(), &problems, calls, started)?)?;
    } else if !quiet || exit != Exit::Done {
        let kept = sink.kept();
        write!(
            out,
            "{}",
            summary(&restored, kept, &problems, &dir, started.elapsed(), owners_left)
        )?;
    }
    out.flush()?;
    Ok(open.finish(exit))
}

/// The paths that were typed, each of which must be there.
async fn select(reader: &SnapshotReader, typed: &[OsString]) -> Result<Selection> {
    let mut paths = Vec::new();
    for typed in typed {
        // The top is everything.
        let Some(path) = tree_path(typed)? else { return Ok(Selection::all()) };
        match reader.entry(&path).await {
            Ok(_) => {}
            // Perhaps a folder of which only what lies deeper was backed up.
            Err(error @ Error::NotInSnapshot { .. }) => match reader.list(Some(&path)).next().await
            {
                None => return Err(error.into()),
                Some(item) => drop(item?),
            },
            Err(error) => return Err(error.into()),
        }
        paths.push(path);
    }
    Ok(Selection::of(paths))
}

async fn dry_run(
    reader: &SnapshotReader,
    selection: Selection,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut entries = reader.entries(selection);
    let (mut count, mut bytes) = (0, 0);
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        count += 1;
        if let EntryKind::File(content) = &entry.kind {
            bytes += content.size;
        }
        writeln!(out, "{}", super::ls::long(&entry, &entry.path.to_string()))?;
    }
    writeln!(out, "would restore {}, {}", human::count(count, "entry"), human::bytes(bytes))?;
    out.flush()?;
    Ok(())
}

/// Names what could not be set.
fn tell(problems: &Problems) {
    for problem in problems.first.iter().take(TOLD_MAX) {
        tracing::warn!("{problem}");
    }
    let rest = problems.total().saturating_sub(TOLD_MAX as u64);
    if rest > 0 {
        tracing::warn!("… and {} more", human::count(rest, "problem"));
    }
}

fn summary(
    restored: &Restored,
    kept: u64,
    problems: &Problems,
    dir: &std::path::Path,
    took: std::time::Duration,
    owners_left: bool,
) -> String {
    let mut out = format!(
        "restored {} with {} of data to {} in {}\n",
        human::count(restored.entries - kept, "entry"),
        human::bytes(restored.bytes),
        dir.display(),
        human::duration(took)
    );
    if kept > 0 {
        out.push_str(&format!(
            "  {} already there and left as they are\n",
            human::count(kept, "entry")
        ));
    }
    if owners_left {
        out.push_str("  owners were left out, since only root can give files away\n");
    }
    if problems.total() > 0 {
        out.push_str(&format!(
            "  {} could not be set, named above\n",
            human::count(problems.total(), "attribute")
        ));
    }
    if restored.failed > 0 {
        out.push_str(&format!(
            "  {} COULD NOT BE RESTORED, named above\n",
            human::count(restored.failed, "entry")
        ));
    }
    if restored.stopped {
        out.push_str("  STOPPED before the end\n");
    }
    out
}

fn json(
    restored: &Restored,
    kept: u64,
    problems: &Problems,
    calls: Option<Calls>,
    started: Instant,
) -> Result<String> {
    let told: Vec<_> = problems.first.iter().map(ToString::to_string).collect();
    Ok(serde_json::to_string(&serde_json::json!({
        "entries": restored.entries - kept,
        "files": restored.files,
        "bytes": restored.bytes,
        "kept": kept,
        "failed": restored.failed,
        "stopped": restored.stopped,
        "unset": problems.total(),
        "unset_first": told,
        "calls": calls,
        "duration_ms": u64::try_from(started.elapsed().as_millis())?,
    }))?)
}

/// A path for messages.
fn shown(path: Option<&TreePath>) -> String {
    path.map_or_else(|| "part of the snapshot's tree".to_owned(), |path| format!("'{path}'"))
}

#[cfg(test)]
mod tests;
