//! PostgreSQL: roles and tablespaces, and each database as a custom-format dump, streamed.
//!
//! A dump counts when `pg_dump` exited with 0 *and* its stream was parsed to its proper end *and* it holds the tables
//! that the snapshot showed. The snapshot tree of a run:
//!
//! ```text
//! databases/<name>/dump.pgdump     what pg_restore takes
//! databases/<name>/tables.json     rows, bytes and row-set hash of each table, counted as the dump passed
//! globals.sql                      roles, tablespaces, settings: pg_dumpall --globals-only
//! ```

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use keephold_postgres::archive::{ArchiveSummary, Parser};
use keephold_postgres::connect::{Connection, Environment};
use keephold_postgres::discover::{Database, Databases, Server, databases};
use keephold_postgres::dump::{Dump, DumpOptions, check_globals};
use keephold_postgres::pieces::Piece;
use keephold_postgres::programs::Programs;
use keephold_postgres::snapshot::{Snapshot, TableKind};
use keephold_vault::content::Content;
use keephold_vault::record::{DatabaseReport, Level, PgReport};
use keephold_vault::tree::{Entry, EntryKind, FileTime, Metadata, TreePath, TreeRoot};
use keephold_vault::write::{ContentWriter, Life, Writer};
use tokio::runtime::Handle;

use crate::notes::Notes;
use crate::source::dumps::PieceLists;
use crate::source::{Counters, Stop, TreeWriter};

/// How many parsed pieces of a dump may wait to be cut into blobs.
const PARSED: usize = 8;
/// How often a dump that gives nothing looks whether the run is to end.
const STOP_LOOKS: Duration = Duration::from_millis(100);
/// Longest `pg_dumpall --globals-only` that is believed; it is held in memory to check its end.
const GLOBALS_MAX: usize = 64 << 20;

/// A PostgreSQL job.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) dsn: String,
    pub(crate) databases: Databases,
    pub(crate) exclude_table_data: Vec<String>,
    pub(crate) bin_dir: Option<PathBuf>,
    pub(crate) lock_wait: Duration,
    pub(crate) no_role_passwords: bool,
}

/// What a job needs before it can begin: the server was reached, and programs fit it.
pub(crate) struct Plan {
    connection: Connection,
    server: Server,
    programs: Programs,
    taken: Vec<Database>,
    pub(crate) report: PgReport,
}

/// Makes an error of the postgres crate carry its remedy.
fn hinted(error: keephold_postgres::Error) -> anyhow::Error {
    let hint = error.hint();
    let text = error.to_string();
    if hint.is_empty() { anyhow!(error) } else { anyhow!("{text}; {hint}") }
}

impl Postgres {
    /// Reaches the server, finds its databases and the programs to dump them with.
    pub(crate) async fn plan(&self, notes: &mut Notes) -> Result<Plan> {
        let connection =
            Connection::resolve(&self.dsn, &Environment::of_process()).map_err(hinted)?;
        let client = connection.connect(&connection.database).await.map_err(hinted)?;
        let server = Server::of(&client).await.map_err(hinted)?;
        let found = databases(&client).await.map_err(hinted)?;
        let selected = self.databases.select(&found).map_err(hinted)?;
        let programs =
            Programs::search(self.bin_dir.as_deref(), std::env::var_os("PATH").as_deref());
        let pg_dump = programs.client("pg_dump", server.major()).map_err(hinted)?;
        if selected.taken.is_empty() {
            bail!("no database of {connection} is taken; check the patterns of this job");
        }
        let mut taken = selected.taken;
        taken.sort_by_key(|database| component(&database.name));
        let skipped: Vec<_> = selected
            .skipped
            .iter()
            .filter(|s| s.reason != keephold_postgres::discover::SkipReason::Template)
            .map(|s| (s.name.clone(), skip_reason(s.reason).to_owned()))
            .collect();
        for (name, reason) in &skipped {
            notes.add(
                Level::Note,
                "database_skipped",
                format!("database '{name}' is not backed up: {reason}"),
            );
        }
        let report = PgReport {
            server: connection.to_string(),
            server_version: server.version.clone(),
            system_identifier: server
                .system_identifier
                .map(|id| id.to_string())
                .unwrap_or_default(),
            data_checksums: server.data_checksums == "on",
            standby: server.in_recovery,
            lc_monetary: server.lc_monetary.clone(),
            pg_dump_version: pg_dump.version,
            databases: Vec::new(),
            skipped,
        };
        Ok(Plan { connection, server, programs, taken, report })
    }
}

fn skip_reason(reason: keephold_postgres::discover::SkipReason) -> &'static str {
    use keephold_postgres::discover::SkipReason;
    match reason {
        SkipReason::Template => "it is a template",
        SkipReason::NotIncluded => "no include pattern matches it",
        SkipReason::Excluded => "an exclude pattern matches it",
        SkipReason::NoConnections => "the server admits no connections to it",
        SkipReason::Invalid => "an interrupted DROP DATABASE left it invalid; drop it",
    }
}

/// A database's name as one component of a path: `%`, `/` and dots in front come as `%XX`.
fn component(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if byte == b'%' || byte == b'/' || (byte == b'.' && at == 0) {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}

/// Whether an error is the vault's: then going on with the next database makes no sense.
fn is_vault_error(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<keephold_vault::Error>()
}

/// Backs a PostgreSQL job up. Runs on a thread of its own.
pub(crate) fn backup(
    job: &Postgres,
    plan: &mut Plan,
    lists: &mut PieceLists,
    writer: &mut Writer,
    notes: &mut Notes,
    counters: &Counters,
    stop: &Stop,
) -> Result<TreeRoot> {
    let expected = plan.taken.iter().filter_map(|d| d.size).sum();
    counters.bytes_expected.store(expected, std::sync::atomic::Ordering::Relaxed);
    let row_key = lists.secret().row_set_key();
    let mut ingest =
        Ingest { job, plan, lists, writer, notes, counters, stop, runtime: Handle::current() };
    let globals = ingest.globals();
    let globals = ingest.settle("pg_dumpall --globals-only", globals)?;
    let mut tree = TreeWriter::default();
    ingest.add(&mut tree, "databases".into(), EntryKind::Directory)?;
    for database in ingest.plan.taken.clone() {
        let dumped = ingest.database(&database, &row_key);
        let Some((dump, tables, report)) =
            ingest.settle(&format!("database '{}'", database.name), dumped)?
        else {
            continue;
        };
        let folder = [b"databases/".as_slice(), &component(&database.name)].concat();
        ingest.add(&mut tree, folder.clone(), EntryKind::Directory)?;
        ingest.add(
            &mut tree,
            [&folder, b"/dump.pgdump".as_slice()].concat(),
            EntryKind::File(dump),
        )?;
        ingest.add(
            &mut tree,
            [&folder, b"/tables.json".as_slice()].concat(),
            EntryKind::File(tables),
        )?;
        ingest.plan.report.databases.push(report);
    }
    if let Some(globals) = globals {
        ingest.add(&mut tree, b"globals.sql".to_vec(), EntryKind::File(globals))?;
    }
    Ok(tree.finish(writer)?)
}

struct Ingest<'a> {
    job: &'a Postgres,
    plan: &'a mut Plan,
    lists: &'a mut PieceLists,
    writer: &'a mut Writer,
    notes: &'a mut Notes,
    counters: &'a Counters,
    stop: &'a Stop,
    runtime: Handle,
}

impl Ingest<'_> {
    /// A failure of one database fails the run, but the others are tried, so that one look tells of all.
    /// A failure of the vault, or a signal, ends it at once.
    fn settle<T>(&mut self, what: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.chain().any(is_vault_error) => Err(error),
            Err(error) => {
                self.notes.add(Level::Error, "dump_failed", format!("{what}: {error:#}"));
                Ok(None)
            }
        }
    }

    fn add(&mut self, tree: &mut TreeWriter, path: Vec<u8>, kind: EntryKind) -> Result<()> {
        let now = Timestamp::now();
        let mode = if matches!(kind, EntryKind::Directory) { 0o700 } else { 0o600 };
        let meta = Metadata {
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            user: Vec::new(),
            group: Vec::new(),
            mtime: FileTime {
                seconds: now.as_second(),
                nanos: now.subsec_nanosecond().unsigned_abs(),
            },
            xattrs: Vec::new(),
        };
        let entry = Entry { path: TreePath::new(path)?, kind, meta };
        Ok(tree.add(&entry, self.writer, self.counters)?)
    }

    fn globals(&mut self) -> Result<Content> {
        let program =
            self.plan.programs.client("pg_dumpall", self.plan.server.major()).map_err(hinted)?;
        let connection = &self.plan.connection;
        let dump =
            Dump::globals(&program, connection, &connection.database, self.job.no_role_passwords)
                .map_err(hinted)?;
        let mut sql = Vec::new();
        let collect = |piece: &[u8]| {
            sql.extend_from_slice(piece);
            if sql.len() > GLOBALS_MAX {
                bail!("roles and tablespaces take more than {GLOBALS_MAX} bytes of SQL");
            }
            Ok(())
        };
        self.stream(dump, collect, |_, _| Ok(()))?;
        check_globals(&String::from_utf8_lossy(&sql)).map_err(hinted)?;
        let mut content = ContentWriter::new(self.writer, Life::default());
        content.push(self.writer, &sql)?;
        Ok(content.finish(self.writer)?)
    }

    /// Dumps one database. Its bytes go into the vault as they pass, but nothing refers to them unless all is well.
    fn database(
        &mut self,
        database: &Database,
        row_key: &[u8; 32],
    ) -> Result<(Content, Content, DatabaseReport)> {
        let started = Instant::now();
        let name = &database.name;
        let (connection, lock_wait) = (self.plan.connection.clone(), self.job.lock_wait);
        let snapshot =
            self.runtime.block_on(Snapshot::open(&connection, name, lock_wait)).map_err(hinted)?;
        let program =
            self.plan.programs.client("pg_dump", self.plan.server.major()).map_err(hinted)?;
        let options = DumpOptions {
            snapshot: Some(snapshot.id().to_owned()),
            lock_wait: Some(lock_wait),
            no_unlogged_data: self.plan.server.in_recovery,
            exclude_table_data: self.job.exclude_table_data.clone(),
            ..DumpOptions::default()
        };
        let dump = Dump::start(&program, &connection, name, &options).map_err(hinted)?;
        let mut parser = Parser::new(row_key);
        let mut content = self.lists.begin(&component(name));
        let streamed = self.stream(
            dump,
            |piece| Ok(parser.feed(piece)?),
            |writer, piece| Ok(content.push(writer, piece)?),
        );
        let length = parser.offset();
        let context = || format!("the dump of database '{name}' ended after {length} bytes");
        streamed.with_context(context)?;
        let summary =
            parser.finish().map_err(|e| anyhow!("{e}; {}", e.hint())).with_context(context)?;
        self.plausible(database, &snapshot, &summary)?;
        self.runtime.block_on(snapshot.finish()).map_err(hinted)?;
        let (dump, list) = content.finish(self.writer)?;
        self.lists.add(list);
        let mut tables = ContentWriter::new(self.writer, Life::default());
        tables.push(self.writer, &serde_json::to_vec_pretty(&summary)?)?;
        let tables = tables.finish(self.writer)?;
        let folder = format!("databases/{}", String::from_utf8_lossy(&component(name)));
        let report = DatabaseReport {
            name: name.clone(),
            dump: format!("{folder}/dump.pgdump"),
            tables_path: format!("{folder}/tables.json"),
            dump_bytes: dump.size,
            database_bytes: database.size.unwrap_or(0),
            tables: summary.tables.len() as u64,
            rows: summary.rows(),
            large_objects: summary.large_objects.set.rows,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok((dump, tables, report))
    }

    /// A dump that is whole can still be of nothing: the tables that the snapshot showed must be in it.
    fn plausible(
        &mut self,
        database: &Database,
        snapshot: &Snapshot,
        summary: &ArchiveSummary,
    ) -> Result<()> {
        if summary.database != database.name {
            bail!(
                "the dump says that it is of database '{}', not '{}'",
                summary.database,
                database.name
            );
        }
        if !self.job.exclude_table_data.is_empty() || self.plan.server.in_recovery {
            return Ok(());
        }
        let in_dump: std::collections::HashSet<_> =
            summary.tables.iter().map(|t| (t.schema.as_str(), t.name.as_str())).collect();
        let missing: Vec<String> = snapshot
            .tables()
            .iter()
            .filter(|t| {
                t.kind == TableKind::Table
                    && !in_dump.contains(&(t.schema.as_str(), t.name.as_str()))
            })
            .map(|t| format!("{}.{}", t.schema, t.name))
            .collect();
        let filled = snapshot.tables().iter().any(|t| t.kind == TableKind::Table && t.size > 0);
        if summary.tables.is_empty() && filled {
            bail!(
                "the dump holds no table's rows, but the database has {} tables",
                snapshot.tables().len()
            );
        }
        if !missing.is_empty() {
            // Members of extensions have no rows in a dump unless the extension says so.
            let shown = missing.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let text = format!(
                "database '{}': the rows of {} of its tables are not in the dump, as for members of extensions: {shown}",
                database.name,
                missing.len()
            );
            self.notes.add(Level::Note, "tables_without_rows", text);
        }
        Ok(())
    }

    /// Passes a program's output through `parse`, on a thread of its own, and then to `take`; fails if the program fails.
    fn stream(
        &mut self,
        dump: Dump,
        mut parse: impl FnMut(&[u8]) -> Result<()> + Send,
        take: impl FnMut(&mut Writer, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Dump { mut pieces, program } = dump;
        let (program, parsed) = std::thread::scope(|scope| {
            let (parsed, to_take) = sync_channel::<Piece>(PARSED);
            let parser = scope.spawn(move || -> Result<()> {
                while let Some(piece) = pieces.next_blocking()? {
                    parse(&piece)?;
                    if parsed.send(piece).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = self.take(&to_take, take) {
                // It may be waiting for the server, and the parser for it.
                drop(program);
                return Err(error);
            }
            Ok((program, parser.join()))
        })?;
        let parsed =
            parsed.unwrap_or_else(|_| Err(anyhow!("parsing the dump panicked; please report it")));
        // What the program says of its own failure explains what the parser stumbled over.
        let finished = self.runtime.block_on(program.finish()).map_err(hinted);
        match (finished, parsed) {
            (Ok(said), Ok(())) => {
                for line in said.lines().filter(|l| !l.trim().is_empty()).take(20) {
                    self.notes.add(Level::Warning, "dump_said", line.to_owned());
                }
                Ok(())
            }
            (Err(failed), Ok(())) => Err(failed),
            (Ok(_), Err(broken)) => Err(broken),
            (Err(failed), Err(broken)) => Err(failed.context(broken.to_string())),
        }
    }

    fn take(
        &mut self,
        pieces: &Receiver<Piece>,
        mut take: impl FnMut(&mut Writer, &[u8]) -> Result<()>,
    ) -> Result<()> {
        loop {
            self.stop.check()?;
            let piece = match pieces.recv_timeout(STOP_LOOKS) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            Counters::add(&self.counters.bytes_read, piece.len() as u64);
            take(self.writer, &piece)?;
        }
    }
}
