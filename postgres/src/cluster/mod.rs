//! A throw-away PostgreSQL server, to restore into.
//!
//! It lives in a private folder, listens only on a socket in it, keeps nothing safe (no fsync), and is gone afterwards, with its
//! folder: [`Cluster::stop`], dropping (also in a panic), and the leash described in `process.rs` when this process is killed.
//!
//! A restore runs what is in the dump as the server's superuser, functions and triggers included. PostgreSQL refuses to run as
//! root; when Keephold is root, the server runs as an account without rights. Who fears that dumps come from a host that was
//! taken over should run the verifier in a container or virtual machine of its own.

mod check;
mod compare;
mod globals;
mod restore;

pub use self::{
    check::{Amcheck, comparable_schema},
    compare::{Difference, DifferenceKind, compare},
    globals::GlobalsFinding,
    restore::Restored,
};

use crate::{
    Error, Result,
    account::Account,
    connect::{ChannelBinding, Connection, Host, SslMode},
    error::reason,
    process::{LastWill, Running},
    programs::{Program, Programs, ServerPrograms},
    snapshot::quote,
};
use rustix::process::Signal;
use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_postgres::Client;

/// The database that maintenance connects to, so that every other one, `postgres` included, can be dropped and restored.
const MAINTENANCE: &str = "keephold_maintenance";
/// Accounts that the server runs as when Keephold is root, in this order.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// How long the server may take to end its sessions when it is told to stop at once, in seconds.
const STOP_SECONDS: u32 = 10;
/// PostgreSQL's own; only a socket in a private folder is named after it.
const DEFAULT_PORT: u16 = 5432;
/// Longest path of a Unix socket on Linux, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// No durability, everything for loading, nothing in the background, nothing on the network.
const SETTINGS: [&str; 22] = [
    "listen_addresses=",
    "port=5432",
    "unix_socket_permissions=0700",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=4GB",
    "checkpoint_timeout=1d",
    "autovacuum=off",
    "jit=off",
    "shared_buffers=128MB",
    "maintenance_work_mem=256MB",
    "max_connections=50",
    // A dump locks every table of a database at once.
    "max_locks_per_transaction=1024",
    // Containers often have a /dev/shm of 64 MB.
    "dynamic_shared_memory_type=mmap",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_messages=warning",
    "restart_after_crash=off",
    "timezone=UTC",
];

/// How a throw-away server is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// The folder in which its own is made; the temporary folder by default. The account must be able to reach it.
    pub folder: PathBuf,
    /// The account it runs as if this process is root.
    pub account: Option<String>,
    /// The name of its superuser: that of the server that was dumped, so that owners match.
    pub superuser: String,
    /// The encoding of its own databases; restored ones have their own.
    pub encoding: String,
    /// The locale of its own databases; restored ones have their own.
    pub locale: String,
    /// Settings beyond Keephold's, `name=value`; later ones win.
    pub settings: Vec<String>,
    /// How long it may take to make and to start.
    pub start_timeout: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            folder: std::env::temp_dir(),
            account: None,
            superuser: "postgres".to_owned(),
            encoding: "UTF8".to_owned(),
            locale: "C".to_owned(),
            settings: Vec::new(),
            start_timeout: Duration::from_secs(120),
        }
    }
}

/// A running throw-away server.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the server must be gone before its folder is removed.
    running: Running,
    folder: TempDir,
    connection: Connection,
    programs: ClusterPrograms,
}

/// The programs that work on the server.
#[derive(Clone, Debug)]
struct ClusterPrograms {
    server: ServerPrograms,
    dump: Program,
    restore: Program,
}

impl Cluster {
    /// Makes and starts a server of exactly this major version.
    ///
    /// # Errors
    /// When its programs aren't installed, or it can't be made or started; with the end of its log.
    pub async fn start(programs: &Programs, major: u32, options: &ClusterOptions) -> Result<Self> {
        let programs = ClusterPrograms {
            server: programs.server(major)?,
            dump: programs.client("pg_dump", major)?,
            restore: programs.client("pg_restore", major)?,
        };
        let account = account(options)?;
        let folder = tempfile::Builder::new().prefix("keephold-pg-").tempdir_in(&options.folder);
        let folder = folder.map_err(|error| Error::io(&options.folder, error))?;
        let path = folder.path();
        if path.as_os_str().len() + "/.s.PGSQL.5432".len() > MAX_SOCKET_PATH {
            return Err(failed(
                &format!("can't have its socket in {}: the path is too long", path.display()),
                "",
            ));
        }
        if let Some(account) = &account {
            chown(path, Some(account.uid), Some(account.gid))
                .map_err(|error| Error::io(path, error))?;
        }
        let prepare = |command: &mut Command| {
            command.current_dir(path).env("LC_ALL", "C");
            if let Some(account) = &account {
                command.uid(account.uid).gid(account.gid).env("HOME", path);
            }
            Ok(())
        };
        let will = LastWill { folder: Some(path), grace_seconds: 0 };
        let initdb = &programs.server.initdb.path;
        let mut running =
            Running::start(initdb, &initdb_arguments(path, options), Stdio::null(), will, prepare)?;
        within(options.start_timeout, "took too long to be made", running.succeed()).await??;
        let will = LastWill { folder: Some(path), grace_seconds: STOP_SECONDS };
        let postgres = &programs.server.postgres.path;
        let running = Running::start(
            postgres,
            &server_arguments(path, options),
            Stdio::null(),
            will,
            prepare,
        )?;
        let connection = connection(path, options);
        let mut cluster = Self { running, folder, connection, programs };
        cluster.wait_until_ready(options.start_timeout).await?;
        Ok(cluster)
    }

    /// How to connect as its superuser.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How to connect as another role: any password, or none, will do.
    #[must_use]
    pub fn connection_as(&self, role: &str) -> Connection {
        Connection { user: role.to_owned(), ..self.connection.clone() }
    }

    /// Its folder, removed at the end. It may hold other scratch files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The version of the server's program.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.programs.server.postgres.version
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.messages().text()
    }

    /// Stops it at once, and removes its folder.
    ///
    /// # Errors
    /// When the folder can't be removed.
    pub async fn stop(mut self) -> Result<()> {
        self.running.signal(Signal::QUIT);
        // An immediate shutdown ends with an error status; what matters is that it ends.
        let _ = tokio::time::timeout(Duration::from_secs(STOP_SECONDS.into()), self.running.wait())
            .await;
        remove(self.folder.path())
    }

    /// A session of the superuser in `database`.
    async fn session(&self, database: &str) -> Result<Client> {
        self.connection.connect(database).await
    }

    async fn maintenance(&self) -> Result<Client> {
        self.session(MAINTENANCE).await
    }

    async fn wait_until_ready(&mut self, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        let client = loop {
            if let Some(status) = self.running.ended() {
                return Err(failed(&format!("didn't start ({status})"), &self.log()));
            }
            match self.session("postgres").await {
                Ok(client) => break client,
                Err(error) if start.elapsed() > timeout => {
                    return Err(failed(
                        &format!("isn't ready after {} s: {error}", timeout.as_secs()),
                        &self.log(),
                    ));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let command = format!("CREATE DATABASE {} TEMPLATE template0", quote(MAINTENANCE));
        let made = client.batch_execute(&command).await;
        made.map_err(|error| failed(&format!("can't be set up: {}", reason(&error)), &self.log()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.running.signal(Signal::QUIT);
        let start = Instant::now();
        while self.running.ended().is_none()
            && start.elapsed() < Duration::from_secs(STOP_SECONDS.into())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = remove(self.folder.path());
    }
}

/// Removes a folder in which a dying process may still make files.
fn remove(folder: &Path) -> Result<()> {
    let mut attempts = 0;
    loop {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound && attempts == 20 => {
                return Err(Error::io(folder, error));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            _ => return Ok(()),
        }
    }
}

/// Root's stand-in; nobody else can or must change.
fn account(options: &ClusterOptions) -> Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let names: Vec<_> = match &options.account {
        Some(name) => vec![name.as_str()],
        None => ACCOUNTS.to_vec(),
    };
    let found =
        names.iter().find_map(|name| Account::named(name)).filter(|account| account.uid != 0);
    match found {
        Some(account) => Ok(Some(account)),
        None => Err(failed(
            &format!("can't run as root, and there is no account {}", names.join(" or ")),
            "",
        )),
    }
}

fn initdb_arguments(folder: &Path, options: &ClusterOptions) -> Vec<String> {
    vec![
        format!("--pgdata={}", folder.join("data").display()),
        format!("--username={}", options.superuser),
        format!("--encoding={}", options.encoding),
        format!("--locale={}", options.locale),
        // The folder above admits only the account itself, and root.
        "--auth=trust".to_owned(),
        "--no-sync".to_owned(),
    ]
}

fn server_arguments(folder: &Path, options: &ClusterOptions) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), folder.join("data").display().to_string()];
    let socket = format!("unix_socket_directories={}", folder.display());
    let settings = SETTINGS.iter().map(|setting| (*setting).to_owned()).chain([socket]);
    for setting in settings.chain(options.settings.iter().cloned()) {
        arguments.extend(["-c".to_owned(), setting]);
    }
    arguments
}

fn connection(folder: &Path, options: &ClusterOptions) -> Connection {
    Connection {
        host: Host::Socket(folder.to_owned()),
        port: port(options),
        user: options.superuser.clone(),
        password: None,
        passfile: None,
        database: MAINTENANCE.to_owned(),
        sslmode: SslMode::Disable,
        sslrootcert: None,
        sslcert: None,
        sslkey: None,
        application_name: "keephold-verify".to_owned(),
        connect_timeout: Some(Duration::from_secs(10)),
        options: None,
        channel_binding: ChannelBinding::Prefer,
    }
}

/// The port is part of the socket's name, and a caller's settings may choose it.
fn port(options: &ClusterOptions) -> u16 {
    let chosen = options
        .settings
        .iter()
        .rev()
        .find_map(|setting| setting.strip_prefix("port=")?.parse().ok());
    chosen.unwrap_or(DEFAULT_PORT)
}

fn failed(what: &str, log: &str) -> Error {
    Error::Cluster { what: what.to_owned(), log: log.to_owned() }
}

async fn within<T>(timeout: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(timeout, work).await.map_err(|_| failed(what, ""))
}
