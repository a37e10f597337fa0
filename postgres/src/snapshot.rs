//! One frozen view of a database, that `pg_dump` and our own queries share.
//!
//! The order matters. `pg_dump` alone takes its snapshot first and its locks later; a `TRUNCATE` that commits in between makes
//! the dump *and* any count taken in the snapshot agree on zero rows. So here all tables are locked first, by name, in the
//! transaction that takes the snapshot afterwards, and then the list of tables is read again inside the snapshot: it must be
//! the same.
//!
//! The transaction holds back vacuum and, once somebody wants to alter a table, its readers: keep it no longer than the dump.

use crate::{
    Error, Result, archive::full_name, connect::Connection, discover::Server, error::reason,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::{Client, error::SqlState};

/// How often the list of tables may change under our hands before we give up.
const ATTEMPTS: u32 = 5;
/// Tables in one LOCK command.
const BATCH: usize = 500;

/// Everything that could end the session or change how it reads. `transaction_timeout` is there since 17.
const PREPARE: &str = "
    SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
     WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout',
                    'idle_session_timeout')
    UNION ALL SELECT pg_catalog.set_config('search_path', '', false)
    UNION ALL SELECT pg_catalog.set_config('TimeZone', 'UTC', false)
    UNION ALL SELECT pg_catalog.set_config('row_security', 'off', false)";

/// Tables of any kind that hold data, as far as they are the user's. Foreign tables hold none here. A size is only asked for
/// (`$1`) once the tables are locked: that function waits for locks itself.
const TABLES: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.reltuples,
           CASE WHEN $1::bool AND c.relkind <> 'm' THEN COALESCE(pg_catalog.pg_table_size(c.oid), 0) ELSE 0 END, c.relpersistence = 'u',
           c.relkind = 'r' AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
       AND n.nspname NOT LIKE 'pg\\_temp\\_%'
     ORDER BY 2, 3";

/// A table as the snapshot shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its number.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// The planner's estimate of its rows; `None` if it was never analysed.
    pub estimated_rows: Option<f32>,
    /// Its size on the server's disk, without indexes, in bytes; 0 for materialised views, which can't be locked against changes.
    pub size: u64,
    /// Whether its data don't survive a crash, and aren't there on a standby.
    pub unlogged: bool,
}

/// The kinds of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// An ordinary table or a partition.
    Table,
    /// A partitioned table, whose rows are in its partitions.
    Partitioned,
    /// A materialised view, whose rows are computed again at a restore.
    MaterialisedView,
}

/// An exported snapshot. It is valid until this is dropped or finished.
#[derive(Debug)]
pub struct Snapshot {
    client: Client,
    database: String,
    id: String,
    server: Server,
    tables: Vec<Table>,
}

/// Why an attempt didn't lead to a snapshot.
enum Setback {
    /// A table came or went: try again.
    Changed(String),
    Failed(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Snapshot {
    /// Locks all tables of `database` against changes of their structure, and freezes a view of it.
    ///
    /// # Errors
    /// When a lock isn't had within `lock_timeout`, tables come and go all the time, or row level security would hide rows.
    pub async fn open(
        connection: &Connection,
        database: &str,
        lock_timeout: Duration,
    ) -> Result<Self> {
        let client = connection.connect(database).await?;
        run(&client, database, "setting up the session", PREPARE).await?;
        let server = Server::of(&client).await?;
        let timeout =
            format!("SET lock_timeout = {}", lock_timeout.as_millis().min(i32::MAX as u128));
        run(&client, database, "setting up the session", &timeout).await?;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match attempt(&client, database, lock_timeout).await {
                Ok((id, tables)) => {
                    return Ok(Self { client, database: database.to_owned(), id, server, tables });
                }
                Err(Setback::Changed(table)) => last = table,
                Err(Setback::Failed(error)) => return Err(error),
            }
            run(&client, database, "ending a transaction", "ROLLBACK").await?;
        }
        Err(Error::TablesKeepChanging { database: database.to_owned(), attempts: ATTEMPTS, last })
    }

    /// The name by which other sessions import the snapshot.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// All tables, as the snapshot shows them.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The session, for queries that must see the same as the dump.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends the transaction, and with it all locks.
    ///
    /// # Errors
    /// When the session was lost meanwhile. The dump then had no protection against changes of structure, so it fails too.
    pub async fn finish(self) -> Result<()> {
        run(&self.client, &self.database, "ending the snapshot", "COMMIT").await
    }
}

/// Lists, locks, freezes, and lists again.
async fn attempt(
    client: &Client,
    database: &str,
    timeout: Duration,
) -> std::result::Result<(String, Vec<Table>), Setback> {
    let (expected, _) = list(client, database, false).await?;
    run(
        client,
        database,
        "opening a transaction",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    )
    .await?;
    // Materialised views can't be locked, and their data aren't dumped.
    let lockable: Vec<_> =
        expected.iter().filter(|table| table.kind != TableKind::MaterialisedView).collect();
    for batch in lockable.chunks(BATCH) {
        let names: Vec<_> = batch
            .iter()
            .map(|table| format!("ONLY {}.{}", quote(&table.schema), quote(&table.name)))
            .collect();
        let command = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        if let Err(error) = client.batch_execute(&command).await {
            return Err(lock_failed(database, timeout, &error));
        }
    }
    let export = client.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await;
    let id =
        export.map_err(|error| Error::query("exporting the snapshot", database, &error))?.get(0);
    let (tables, hidden) = list(client, database, true).await?;
    if let Some(changed) = first_change(&expected, &tables) {
        return Err(Setback::Changed(changed));
    }
    if !hidden.is_empty() {
        let role = client.query_one("SELECT current_user::text", &[]).await;
        let role = role.map_or_else(|_| String::new(), |row| row.get(0));
        return Err(Setback::Failed(Error::HiddenRows {
            database: database.to_owned(),
            role,
            tables: hidden,
        }));
    }
    Ok((id, tables))
}

fn lock_failed(database: &str, timeout: Duration, error: &tokio_postgres::Error) -> Setback {
    let gone =
        [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::WRONG_OBJECT_TYPE];
    match error.code() {
        Some(code) if gone.contains(code) => Setback::Changed(reason(error)),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
            Setback::Failed(Error::LockTimeout {
                database: database.to_owned(),
                seconds: timeout.as_secs(),
                reason: reason(error),
            })
        }
        _ => Setback::Failed(Error::query("locking the tables", database, error)),
    }
}

/// All tables, and the names of those that row level security would hide rows of.
async fn list(client: &Client, database: &str, sizes: bool) -> Result<(Vec<Table>, Vec<String>)> {
    let rows = client
        .query(TABLES, &[&sizes])
        .await
        .map_err(|error| Error::query("listing the tables", database, &error))?;
    let mut tables = Vec::with_capacity(rows.len());
    let mut hidden = Vec::new();
    for row in rows {
        let (schema, name): (String, String) = (row.get(1), row.get(2));
        if row.get(7) {
            hidden.push(full_name(&schema, &name));
        }
        let kind = match row.get(3) {
            "p" => TableKind::Partitioned,
            "m" => TableKind::MaterialisedView,
            _ => TableKind::Table,
        };
        let estimate: f32 = row.get(4);
        tables.push(Table {
            oid: row.get(0),
            schema,
            name,
            kind,
            // -1 since 14; before that, 0 also means "never analysed".
            estimated_rows: Some(estimate).filter(|rows| *rows >= 0.0),
            size: u64::try_from(row.get::<_, i64>(5)).unwrap_or_default(),
            unlogged: row.get(6),
        });
    }
    Ok((tables, hidden))
}

/// A table that is in only one of two lists, or under another name.
fn first_change(before: &[Table], after: &[Table]) -> Option<String> {
    let names = |tables: &[Table]| -> BTreeMap<u32, String> {
        tables.iter().map(|table| (table.oid, full_name(&table.schema, &table.name))).collect()
    };
    let (before, after) = (names(before), names(after));
    let changed = after.iter().find(|(oid, name)| before.get(oid) != Some(name));
    changed
        .or_else(|| before.iter().find(|(oid, _)| !after.contains_key(oid)))
        .map(|(_, name)| name.clone())
}

/// An identifier, quoted for SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn run(client: &Client, database: &str, what: &'static str, command: &str) -> Result<()> {
    client.batch_execute(command).await.map_err(|error| Error::query(what, database, &error))
}
