//! Runs `pg_dump` and `pg_dumpall`, as streams.
//!
//! A dump that was read to its end says nothing yet: the program's exit status does, and whether the stream came to its
//! proper end. So [`DumpProgram::finish`] must be asked, and [`crate::archive::Parser::finish`] too.

use crate::{
    Error, Result,
    connect::Connection,
    pieces::Pieces,
    process::{LastWill, Running},
    programs::Program,
};
use std::time::Duration;

/// What `pg_dumpall` writes last before 13.22, 14.19, 15.14, 16.10 and 17.6.
const COMPLETE: &str = "-- PostgreSQL database cluster dump complete";
/// How a dump ends since then, followed by the token that began it.
const UNRESTRICT: &str = "\\unrestrict ";
/// How such a dump begins.
const RESTRICT: &str = "\\restrict ";

/// `pg_dump` pins most settings that change how a value is written, but not these and not `TimeZone`; rows must read the same
/// after a restore elsewhere. `lc_monetary` has to stay, since values of type `money` are read back by it: what compares
/// them must run under the same one, see [`crate::discover::Server::lc_monetary`].
const PINNED: &str = "-c bytea_output=hex";

/// How a database is dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// A snapshot to read, see [`crate::snapshot::Snapshot::id`].
    pub snapshot: Option<String>,
    /// How long `pg_dump` may wait for a table's lock.
    pub lock_wait: Option<Duration>,
    /// Leave out the rows of unlogged tables: a standby hasn't got them.
    pub no_unlogged_data: bool,
    /// Patterns of tables whose definition is dumped without rows, in `pg_dump`'s own syntax.
    pub exclude_table_data: Vec<String>,
    /// Patterns of tables that are left out.
    pub exclude_tables: Vec<String>,
    /// Patterns of schemas that are left out.
    pub exclude_schemas: Vec<String>,
}

impl DumpOptions {
    fn arguments(&self) -> Vec<String> {
        // Compression is ours to do, once and on several cores; row level security is never left on.
        let mut arguments: Vec<_> =
            ["--format=custom", "--compress=0", "--no-password"].map(str::to_owned).into();
        if let Some(wait) = self.lock_wait {
            arguments.push(format!("--lock-wait-timeout={}", wait.as_millis()));
        }
        arguments.extend(self.snapshot.iter().map(|id| format!("--snapshot={id}")));
        if self.no_unlogged_data {
            arguments.push("--no-unlogged-table-data".to_owned());
        }
        arguments.extend(
            self.exclude_table_data.iter().map(|table| format!("--exclude-table-data={table}")),
        );
        arguments
            .extend(self.exclude_tables.iter().map(|table| format!("--exclude-table={table}")));
        arguments
            .extend(self.exclude_schemas.iter().map(|schema| format!("--exclude-schema={schema}")));
        arguments
    }
}

/// A running dump.
#[derive(Debug)]
pub struct Dump {
    /// What it writes.
    pub pieces: Pieces,
    /// What writes it.
    pub program: DumpProgram,
}

/// A program that dumps. Dropping it kills the program.
#[derive(Debug)]
pub struct DumpProgram(Running);

impl DumpProgram {
    /// Waits for the program's end: its messages, of which the last 64 KiB are kept. Call it once the stream is read to its end,
    /// or dropped.
    ///
    /// # Errors
    /// [`Error::Failed`] unless the program exits with 0.
    pub async fn finish(mut self) -> Result<String> {
        self.0.succeed().await
    }
}

impl Dump {
    /// Starts `pg_dump` in custom format, uncompressed.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        program: &Program,
        connection: &Connection,
        database: &str,
        options: &DumpOptions,
    ) -> Result<Self> {
        Self::spawn(program, connection, database, &options.arguments())
    }

    /// Starts `pg_dump --schema-only` as SQL text.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn schema(program: &Program, connection: &Connection, database: &str) -> Result<Self> {
        Self::spawn(
            program,
            connection,
            database,
            &["--schema-only".to_owned(), "--no-password".to_owned()],
        )
    }

    /// Starts `pg_dumpall --globals-only`: roles, tablespaces, and their settings, as SQL text. `database` is the one to
    /// connect to. A role without the right to read password hashes needs `without_passwords`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn globals(
        program: &Program,
        connection: &Connection,
        database: &str,
        without_passwords: bool,
    ) -> Result<Self> {
        let mut arguments = vec!["--globals-only".to_owned(), "--no-password".to_owned()];
        arguments.push(format!("--database={}", database_argument(database)));
        if without_passwords {
            arguments.push("--no-role-passwords".to_owned());
        }
        Self::spawn(program, connection, database, &arguments)
    }

    fn spawn(
        program: &Program,
        connection: &Connection,
        database: &str,
        arguments: &[String],
    ) -> Result<Self> {
        let (stdout, pieces) = Pieces::pipe().map_err(|error| Error::io("a pipe", error))?;
        let running =
            Running::start(&program.path, arguments, stdout, LastWill::default(), |command| {
                connection.prepare(command, database)?;
                // Also above the settings of the database and the role.
                let own = connection.options.as_deref().unwrap_or_default();
                command.env("PGTZ", "UTC").env("PGOPTIONS", format!("{PINNED} {own}").trim_end());
                Ok(())
            })?;
        Ok(Self { pieces, program: DumpProgram(running) })
    }
}

/// Checks that the text of `pg_dumpall --globals-only` came to its end. Only the beginning and the end are needed.
///
/// # Errors
/// [`Error::GlobalsCut`] if it didn't.
pub fn check_globals(sql: &str) -> Result<()> {
    let last = sql.trim_end().lines().next_back().unwrap_or_default();
    let token = sql.lines().find_map(|line| line.strip_prefix(RESTRICT));
    let complete = match (token, last.strip_prefix(UNRESTRICT)) {
        (Some(first), Some(last)) => first == last,
        (None, None) => sql.trim_end().lines().rev().any(|line| line == COMPLETE),
        // Some versions write the comment last, with the end of the restriction before it.
        (Some(token), None) => last_two(sql, token),
        (None, Some(_)) => false,
    };
    if complete && sql.ends_with('\n') {
        Ok(())
    } else {
        Err(Error::GlobalsCut { bytes: sql.len() as u64 })
    }
}

fn last_two(sql: &str, token: &str) -> bool {
    let end = sql.rfind(UNRESTRICT).and_then(|at| sql.get(at + UNRESTRICT.len()..));
    end.is_some_and(|end| {
        end.lines().next() == Some(token) && end.lines().any(|line| line == COMPLETE)
    })
}

/// A database's name where programs would take `a=b` for a connection string.
pub(crate) fn database_argument(database: &str) -> String {
    if database.contains('=')
        || database.starts_with("postgres://")
        || database.starts_with("postgresql://")
    {
        format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        database.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_globals_are_known() {
        let old = "--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE a;\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        assert!(check_globals(old).is_ok());
        let new = "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict abc\n\nCREATE ROLE a;\n\n\\unrestrict abc\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        assert!(check_globals(new).is_ok());
        let newest = "--\n\\restrict abc\n\nCREATE ROLE a;\n\n\\unrestrict abc\n\n";
        assert!(check_globals(newest).is_ok());
        let error = check_globals(&newest[..30]).unwrap_err();
        assert!(error.to_string().contains("30 bytes"));
        assert!(check_globals(&newest.replace("\\unrestrict abc", "\\unrestrict abd")).is_err());
        assert!(check_globals("").is_err());
        for cut in 0..newest.len() - 1 {
            assert!(check_globals(&newest[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn options_never_turn_row_security_on() {
        let options = DumpOptions {
            snapshot: Some("0001-1".to_owned()),
            lock_wait: Some(Duration::from_secs(30)),
            no_unlogged_data: true,
            exclude_table_data: vec!["log*".to_owned()],
            ..DumpOptions::default()
        };
        let arguments = options.arguments();
        assert!(arguments.contains(&"--snapshot=0001-1".to_owned()));
        assert!(arguments.contains(&"--lock-wait-timeout=30000".to_owned()));
        assert!(
            !arguments
                .iter()
                .any(|argument| argument.contains("row-security") || argument.contains("insert"))
        );
    }

    #[test]
    fn odd_names_of_databases_are_not_taken_for_connection_strings() {
        assert_eq!(database_argument("sh op"), "sh op");
        assert_eq!(database_argument("a=b 'c'"), "dbname='a=b \\'c\\''");
    }
}
