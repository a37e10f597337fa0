//! What can go wrong with a server, its programs and its dumps.

use crate::archive::ArchiveError;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every message names the thing that is wrong; [`Error::hint`] says what to do about it. None holds a password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection string or one of its sources can't be understood.
    #[error("the PostgreSQL connection can't be understood: {what}")]
    Settings {
        /// What is wrong, without the string itself, which may hold a password.
        what: String,
    },
    /// A parameter that libpq knows and Keephold doesn't.
    #[error("the PostgreSQL connection parameter {name} isn't supported")]
    Unsupported {
        /// The parameter.
        name: String,
    },
    /// No service file defines the service.
    #[error("no definition of the PostgreSQL service {service:?} in {}", list(tried))]
    NoService {
        /// The service's name.
        service: String,
        /// The files that were read, or would have been.
        tried: Vec<PathBuf>,
    },
    /// A certificate or key can't be used.
    #[error("TLS to PostgreSQL can't be set up: {what}")]
    Tls {
        /// What is wrong, with the file's name.
        what: String,
    },
    /// The server can't be reached, or doesn't let us in.
    #[error("can't connect to {target}: {reason}")]
    Connect {
        /// Where to, as whom, without a password.
        target: String,
        /// What libraries and server say.
        reason: String,
    },
    /// A query failed.
    #[error("{what} failed in database {database:?}: {reason}")]
    Query {
        /// What was being done.
        what: &'static str,
        /// The database.
        database: String,
        /// The server's message, with its SQLSTATE.
        reason: String,
    },
    /// A program isn't installed.
    #[error("no {program} found in {}", list(tried))]
    NoProgram {
        /// The program.
        program: &'static str,
        /// The major version that is wanted, if it must be that one.
        major: Option<u32>,
        /// Folders that were searched.
        tried: Vec<PathBuf>,
    },
    /// Every `pg_dump` that was found is older than the server.
    #[error(
        "the server is PostgreSQL {server}, newer than every {program} found: {}",
        found(found_versions)
    )]
    ServerNewer {
        /// The program.
        program: &'static str,
        /// The server's major version.
        server: u32,
        /// What was found: path and version.
        found_versions: Vec<(PathBuf, String)>,
    },
    /// A pattern that includes databases matches none.
    #[error("the pattern {pattern:?} matches no database on this server")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// Row level security would hide rows from the role that dumps.
    #[error("row level security hides rows of database {database:?} from role {role:?}: {}", tables.join(", "))]
    HiddenRows {
        /// The database.
        database: String,
        /// The role that Keephold connects as.
        role: String,
        /// The tables.
        tables: Vec<String>,
    },
    /// Another session holds a table's lock.
    #[error("no lock on the tables of database {database:?} within {seconds} s: {reason}")]
    LockTimeout {
        /// The database.
        database: String,
        /// How long was waited, in seconds.
        seconds: u64,
        /// The server's message.
        reason: String,
    },
    /// Tables were made or dropped at each attempt.
    #[error(
        "the tables of database {database:?} changed during each of {attempts} attempts, last {last}"
    )]
    TablesKeepChanging {
        /// The database.
        database: String,
        /// The number of attempts.
        attempts: u32,
        /// A table that came or went.
        last: String,
    },
    /// A program couldn't be started.
    #[error("can't start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program ended without success.
    #[error("{program} failed ({status}){}", tail(stderr))]
    Failed {
        /// The program.
        program: String,
        /// Exit code or signal.
        status: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The output of `pg_dumpall` doesn't end as it should.
    #[error("the dump of roles and tablespaces is cut off after {bytes} bytes")]
    GlobalsCut {
        /// Its length in bytes.
        bytes: u64,
    },
    /// The archive isn't whole.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A throw-away server can't be used.
    #[error("the throw-away PostgreSQL server {what}{}", tail(log))]
    Cluster {
        /// What is wrong.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// A file or pipe can't be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file, or a description of the pipe.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What a person should do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Settings { .. } => {
                "write it as `host=… port=… user=… dbname=…` or `postgresql://user@host:port/database`, and keep the password in a \
                 password file"
            }
            Self::Unsupported { .. } => "remove it from the connection string, the service file and the environment",
            Self::NoService { .. } => "define it in one of these files, or correct `service` or PGSERVICE",
            Self::Tls { .. } => "check sslmode, sslrootcert, sslcert and sslkey; the files must be PEM and readable",
            Self::Connect { .. } => {
                "check that the server runs, that pg_hba.conf admits this role, and that the password is in the password file"
            }
            Self::Query { .. } => "look at the server's log; the role needs pg_read_all_data and CONNECT on each database",
            Self::NoProgram { program, major, .. } => return install(program, *major),
            Self::ServerNewer { program, server, .. } => return install(program, Some(*server)),
            Self::NoMatch { .. } => "correct the pattern, or remove it; a backup that leaves out what it names would look complete",
            Self::HiddenRows { .. } => {
                "give the role BYPASSRLS (`ALTER ROLE … BYPASSRLS`), or exclude the database; without it the dump would lack rows"
            }
            Self::LockTimeout { .. } => "run the backup when no schema change or VACUUM FULL runs, or raise the lock timeout",
            Self::TablesKeepChanging { .. } => "run the backup when no job creates and drops tables all the time",
            Self::Start { .. } => "check that the file is there and may be executed",
            Self::Failed { .. } => "the program's own messages say why",
            Self::GlobalsCut { .. } => "run the backup again; if it recurs, run pg_dumpall --globals-only by hand",
            Self::Archive(error) => error.hint(),
            Self::Cluster { .. } => {
                "check that its folder has space and may be written, that its account exists, and that the server of this version \
                 is installed"
            }
            Self::Io { .. } => "check that it exists, has space and may be accessed",
        }
        .to_owned()
    }

    pub(crate) fn settings(what: impl Into<String>) -> Self {
        Self::Settings { what: what.into() }
    }

    pub(crate) fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn query(what: &'static str, database: &str, error: &tokio_postgres::Error) -> Self {
        Self::Query { what, database: database.to_owned(), reason: reason(error) }
    }
}

/// A server's message with its code, or a library's with its cause.
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail} [{}]", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        // Some errors already print their cause.
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn install(program: &str, major: Option<u32>) -> String {
    let is_server = matches!(program, "postgres" | "initdb");
    let number = major.map_or("N".to_owned(), |major| major.to_string());
    let package = if is_server { "postgresql" } else { "postgresql-client" };
    let red_hat = if is_server {
        format!("postgresql{number}-server")
    } else {
        format!("postgresql{number}")
    };
    format!(
        "install {package}-{number} (Debian, Ubuntu) or {red_hat} (Red Hat, SUSE), or set bin_dir to the folder that has {program}"
    )
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "any folder".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn found(versions: &[(PathBuf, String)]) -> String {
    versions
        .iter()
        .map(|(path, version)| format!("{} ({version})", path.display()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn tail(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
