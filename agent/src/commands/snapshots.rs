//! `keephold snapshots`: which runs there are.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use futures::StreamExt;
use keephold_cli::exit::Exit;
use keephold_cli::human;
use keephold_vault::read::{FoundRecord, RecordScope, RunRecord};
use keephold_vault::record::{JobKind, Record, Status};
use serde::Serialize;

use super::table::table;
use crate::reading::{ReadArgs, ReadVault};

/// Records that are read at once.
const READS: usize = 8;

/// List the snapshots in the vault, oldest first.
///
/// On a host that backs up, its own keys open the records; anywhere else an identity does.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold snapshots                                     on a host that backs up\n  \
    keephold snapshots --vault s3://b/p -i restore.agekey  on any machine\n  \
    keephold snapshots --job main --all                    failed runs too")]
pub(crate) struct SnapshotsArgs {
    /// Only this host's.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Only this job's.
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Failed runs too, which have no snapshot.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print one JSON object for each run: its whole record.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// A run as JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    key: String,
    hidden: bool,
    #[serde(flatten)]
    record: &'a Record,
}

/// Lists the runs of an open vault.
pub(crate) async fn run(
    args: &SnapshotsArgs,
    open: &ReadVault,
    out: &mut dyn Write,
) -> Result<Exit> {
    let scope = RecordScope { host: args.host.clone(), job: args.job.clone() };
    let mut found = open.vault.find_records(&scope).await?;
    found.sort_by_key(|f| (f.key.started, f.key.clone()));
    let read = futures::stream::iter(&found).map(|f| async move { (f, open.open_record(f).await) });
    let mut read = std::pin::pin!(read.buffered(READS));
    let (mut rows, mut exit, mut failed) = (vec![heads()], Exit::Done, 0_u64);
    while let Some((found, run)) = read.next().await {
        let run = match run {
            Ok(run) => run,
            Err(error) if error_is_fatal(&error) => return Err(error.into()),
            Err(error) => {
                tracing::warn!("{error}");
                exit = Exit::Findings;
                continue;
            }
        };
        if run.record.snapshot.is_none() && !args.all {
            failed += 1;
            continue;
        }
        if args.json {
            let (id, key) = (run.key.id.as_str(), run.key.to_string());
            let line = Line { id, key, hidden: found.hidden, record: &run.record };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        } else {
            rows.push(row(found, &run));
        }
    }
    if !args.json {
        if rows.len() > 1 {
            out.write_all(table(&rows, &[6, 7]).as_bytes())?;
        } else {
            writeln!(out, "There are no snapshots in {}.", open.vault.store().url())?;
        }
        if failed > 0 {
            writeln!(
                out,
                "{} without a snapshot, shown with --all.",
                human::count(failed, "failed run")
            )?;
        }
    }
    out.flush()?;
    Ok(open.finish(exit))
}

/// Whether it would befall every other record too.
fn error_is_fatal(error: &keephold_vault::Error) -> bool {
    use keephold_vault::Error;
    use keephold_vault::store::StoreError;
    match error {
        Error::Store(error) => {
            !matches!(error, StoreError::NotFound { .. } | StoreError::TooLarge { .. })
        }
        _ => false,
    }
}

fn heads() -> Vec<String> {
    ["ID", "HOST", "JOB", "KIND", "STARTED (UTC)", "STATUS", "ENTRIES", "SIZE", "CLASS", "EXPIRES"]
        .map(String::from)
        .into()
}

fn row(found: &FoundRecord, run: &RunRecord) -> Vec<String> {
    let record = &run.record;
    let kind = match record.kind {
        JobKind::Directory => "directory",
        JobKind::Postgres => "postgres",
    };
    let status = match record.status {
        Status::Success => "success",
        Status::Warning => "warning",
        Status::Failed => "FAILED",
    };
    let (entries, size, class, expires) = match &record.snapshot {
        Some(snapshot) => (
            human::number(snapshot.root.entries),
            human::bytes(snapshot.root.bytes),
            record.retention.class.clone(),
            record.retention.expires.strftime("%Y-%m-%d").to_string(),
        ),
        None => ("-".into(), "-".into(), "-".into(), "-".into()),
    };
    vec![
        run.key.id.chars().take(8).collect(),
        record.host.clone(),
        format!("{}@{}", record.job, record.seq),
        kind.into(),
        record.started.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        if found.hidden { format!("{status}, HIDDEN") } else { status.into() },
        entries,
        size,
        class,
        expires,
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keephold_vault::testing::{VaultMaker, entry};
    use keephold_vault::tree::EntryKind;

    use super::*;
    use crate::reading::testing::opened;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SnapshotsArgs,
    }

    async fn printed(maker: &VaultMaker, options: &[&str]) -> (String, Exit) {
        let cli = Cli::parse_from(["snapshots"].iter().chain(options));
        let mut out = Vec::new();
        let exit = run(&cli.args, &opened(maker).await, &mut out).await.unwrap();
        (String::from_utf8(out).unwrap(), exit)
    }

    /// Ids are random.
    fn masked(text: &str) -> String {
        let mask = |line: &str| match line.split_once("  ") {
            Some((id, rest)) if id.len() == 8 => format!("########  {rest}"),
            _ => line.to_owned(),
        };
        text.lines().map(mask).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn snapshots_are_listed_failed_runs_on_request() {
        let mut maker = VaultMaker::new().await.unwrap();
        assert!(printed(&maker, &[]).await.0.starts_with("There are no snapshots in memory://"));
        for (day, status) in [(1, Status::Success), (2, Status::Failed), (3, Status::Warning)] {
            let content = maker.content(&vec![7; 3_000_000]).await.unwrap();
            let mut entries = [entry("etc/file", EntryKind::File(content)).unwrap()];
            let root = maker.tree(&mut entries).await.unwrap();
            let mut record =
                maker.record(root, &format!("2026-11-0{day}T01:00:00Z")).await.unwrap();
            record.status = status;
            record.snapshot = record.snapshot.filter(|_| status != Status::Failed);
            let key = maker.store_record(&record).await.unwrap();
            if day == 3 {
                maker.store.hide(&key.object().unwrap());
            }
        }
        let (text, exit) = printed(&maker, &[]).await;
        assert_eq!(exit, Exit::Findings);
        insta::assert_snapshot!("good", masked(&text));
        insta::assert_snapshot!("all", masked(&printed(&maker, &["--all"]).await.0));
        let (json, _) = printed(&maker, &["--json", "--all", "--host", "db1"]).await;
        let lines: Vec<serde_json::Value> =
            json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (lines[1]["status"].as_str(), lines[2]["hidden"].as_bool()),
            (Some("failed"), Some(true))
        );
        assert!(printed(&maker, &["--host", "db2"]).await.0.starts_with("There are no"));
    }
}
