//! `keephold dump`: one file or database dump of a snapshot, to standard output.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::{Exit, usage};
use keephold_vault::Error;
use keephold_vault::content::Content;
use keephold_vault::read::{Piece, RunRecord, SnapshotReader};
use keephold_vault::record::SourceReport;
use keephold_vault::tree::{EntryKind, TreePath};

use crate::reading::{Choice, ReadArgs, ReadVault, tree_path};

/// Write one file of a snapshot, or the dump of one database, to standard output.
///
/// Every byte is checked before it is written, and the whole before its last megabytes are. If anything is wrong, the
/// output is cut short and the exit code isn't 0; a program at the other end of a pipe sees only the bytes, so have
/// the shell tell: set -o pipefail.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold dump db1/main shop | pg_restore --clean --if-exists --exit-on-error -d shop\n  \
    keephold dump db1/main globals.sql | psql -d postgres     'already exists' does no harm\n  \
    keephold dump latest /etc/fstab")]
pub(crate) struct DumpArgs {
    /// latest, HOST/JOB, HOST/JOB@NUMBER, or the first digits of an id, as `keephold snapshots` shows them.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Choice,
    /// File in it; for a snapshot of PostgreSQL also the name of a database.
    #[arg(value_name = "PATH|DATABASE")]
    pub(crate) path: OsString,
    /// Write binary data to a terminal too.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// Writes a content of an open vault.
pub(crate) async fn run(
    args: &DumpArgs,
    open: &ReadVault,
    out: &mut (dyn Write + Send),
) -> Result<Exit> {
    let run = open.choose_for_data(&args.snapshot).await?;
    let reader = open.snapshot(&run)?;
    let (path, content) = find(&reader, &run, &args.path).await?;
    let binary = path.as_bytes().ends_with(b".pgdump");
    if binary && !args.force && std::io::stdout().is_terminal() {
        return Err(usage(
            "the dump is binary: give it to pg_restore through a pipe, or to a file (or use --force)",
        ));
    }
    match write(&reader, &content, out).await {
        Ok(()) => Ok(open.finish(Exit::Done)),
        // Whoever reads has had enough, and knows. Quiet as a program that SIGPIPE ends, and no success either.
        Err(error) if is_closed(&error) => Ok(Exit::Failed),
        Err(error) => Err(error.context(format!("'{path}' could not be written whole"))),
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The content that is meant: a database's dump by its name, else a file by its path.
async fn find(
    reader: &SnapshotReader,
    run: &RunRecord,
    name: &OsString,
) -> Result<(TreePath, Content)> {
    let mut path =
        tree_path(name)?.ok_or_else(|| usage("name a file in the snapshot, or a database"))?;
    if let Some(SourceReport::Postgres(report)) = &run.record.source
        && let Some(database) = report.databases.iter().find(|d| name.to_str() == Some(&d.name))
    {
        path = TreePath::new(database.dump.as_bytes())?;
    }
    // One step, since a hard link names the first name itself.
    for _ in 0..2 {
        let entry = match reader.entry(&path).await {
            Err(error @ Error::NotInSnapshot { .. }) => return Err(unknown(run, error)),
            other => other?,
        };
        match entry.kind {
            EntryKind::File(content) => return Ok((path, content)),
            EntryKind::HardLink(target) => path = TreePath::new(target)?,
            EntryKind::Directory => {
                return Err(usage(format!(
                    "'{path}' is a folder; bring it back with `keephold restore`"
                )));
            }
            other => {
                return Err(usage(format!(
                    "'{path}' is a {}, which has no data",
                    super::json::kind_word(&other)
                )));
            }
        }
    }
    anyhow::bail!("'{path}' is a hard link to a hard link; the snapshot contradicts itself")
}

fn unknown(run: &RunRecord, error: Error) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    match &run.record.source {
        Some(SourceReport::Postgres(report)) => {
            let names: Vec<_> = report.databases.iter().map(|d| d.name.as_str()).collect();
            error.context(format!("no such database; there are: {}", names.join(", ")))
        }
        _ => error,
    }
}

/// Streams a content; its hash was checked when its last pieces come.
pub(crate) async fn write(
    reader: &SnapshotReader,
    content: &Content,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let zeros = vec![0; 1 << 16];
    let mut pieces = reader.content(content);
    while let Some(piece) = pieces.next().await {
        match piece? {
            Piece::Data(bytes) => out.write_all(&bytes).context("writing to standard output")?,
            Piece::Hole(mut length) => {
                while length > 0 {
                    let n = usize::try_from(length).unwrap_or(usize::MAX).min(zeros.len());
                    out.write_all(&zeros[..n]).context("writing to standard output")?;
                    length -= n as u64;
                }
            }
        }
    }
    out.flush().context("writing to standard output")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use keephold_vault::record::{DatabaseReport, JobKind, PgReport};
    use keephold_vault::testing::{VaultMaker, entry, noise};

    use super::*;
    use crate::reading::testing::opened;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: DumpArgs,
    }

    async fn dumped(maker: &VaultMaker, path: &str, out: &mut (dyn Write + Send)) -> Result<Exit> {
        let cli = Cli::parse_from(["dump", "latest", path]);
        run(&cli.args, &opened(maker).await, out).await
    }

    async fn vault(dump: &[u8]) -> VaultMaker {
        let mut maker = VaultMaker::new().await.unwrap();
        let content = maker.content(dump).await.unwrap();
        let mut entries = [
            entry("databases", EntryKind::Directory).unwrap(),
            entry("databases/shop/dump.pgdump", EntryKind::File(content)).unwrap(),
            entry(
                "databases/shop/link",
                EntryKind::HardLink(b"databases/shop/dump.pgdump".to_vec()),
            )
            .unwrap(),
        ];
        let root = maker.tree(&mut entries).await.unwrap();
        let mut record = maker.record(root, "2026-11-20T01:00:00Z").await.unwrap();
        record.kind = JobKind::Postgres;
        let database = DatabaseReport {
            name: "shop".into(),
            dump: "databases/shop/dump.pgdump".into(),
            tables_path: "databases/shop/tables.json".into(),
            dump_bytes: dump.len() as u64,
            database_bytes: 0,
            tables: 0,
            rows: 0,
            large_objects: 0,
            duration_ms: 0,
        };
        let report = PgReport { databases: vec![database], ..PgReport::default() };
        record.source = Some(SourceReport::Postgres(Box::new(report)));
        maker.store_record(&record).await.unwrap();
        maker
    }

    #[tokio::test]
    async fn a_database_is_found_by_its_name_and_comes_whole() {
        let dump = noise(1, 3_000_000);
        let maker = vault(&dump).await;
        for name in ["shop", "/databases/shop/dump.pgdump", "databases/shop/link"] {
            let mut out = Vec::new();
            assert_eq!(dumped(&maker, name, &mut out).await.unwrap(), Exit::Done);
            assert!(out == dump);
        }
        let error = dumped(&maker, "stop", &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "no such database; there are: shop");
        let error = dumped(&maker, "databases", &mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
    }

    #[tokio::test]
    async fn damage_cuts_the_output_short_and_is_an_error() {
        let dump = noise(1, 3_000_000);
        let maker = vault(&dump).await;
        maker.store.rot(&maker.packs()[0], |bytes| bytes[2_000_000] ^= 1);
        let mut out = Vec::new();
        let error = dumped(&maker, "shop", &mut out).await.unwrap_err();
        assert!(format!("{error:#}").contains("the sealed message at byte"), "{error:#}");
        assert!(out.len() < dump.len());
    }

    #[tokio::test]
    async fn a_closed_pipe_is_quiet_and_no_success() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let maker = vault(b"some dump").await;
        assert_eq!(dumped(&maker, "shop", &mut Closed).await.unwrap(), Exit::Failed);
    }
}
