//! Resolves libpq's conventions once, so that Keephold's own session and the programs it starts see the same server.
//!
//! `pg_dump` would find host, password and TLS settings by libpq's rules; tokio-postgres knows few of them. If each resolved the
//! connection by itself, the snapshot could be taken on one server and the dump on another. So [`Connection::resolve`] applies
//! the rules, and the outcome is handed to both: [`Connection::connect`] opens a session, [`Connection::prepare`] gives it
//! to a child program through its environment, from which every other `PG…` variable has been removed.
//!
//! The order of precedence is libpq's: connection string, then service file, then environment, then defaults.

mod child;
pub use self::child::Value;
pub(crate) use self::child::forget_inherited;
mod dsn;
mod files;
mod resolve;
mod session;
mod tls;

use self::files::Wanted;
use crate::Result;
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// Where Debian's and most other builds put the server's socket; upstream's own default is `/tmp`.
const SOCKET_FOLDER: &str = "/var/run/postgresql";

/// What the rules look at outside the connection string. A value, so that tests needn't change the process's environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Environment variables; only those that begin with `PG` matter.
    pub variables: BTreeMap<String, String>,
    /// The home folder, for `.pgpass`, `.pg_service.conf` and `.postgresql/`.
    pub home: Option<PathBuf>,
    /// The operating system's name for the user, the default role.
    pub user: Option<String>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| key.starts_with("PG"))
            .collect();
        let account = crate::account::Account::of_process();
        // libpq takes the account's folder, not HOME; the two differ under `sudo`.
        let home = account.as_ref().map(|account| account.home.clone()).or_else(std::env::home_dir);
        Self { variables, home, user: account.map(|account| account.name) }
    }
}

/// A text that is never shown, and is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, and perhaps the address to connect to without asking DNS.
    Tcp {
        /// Name or address, also the name that a certificate must have.
        name: String,
        /// libpq's `hostaddr`.
        address: Option<IpAddr>,
    },
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses to do without.
    Allow,
    /// TLS if the server can.
    Prefer,
    /// TLS, whoever answers; with a root certificate as `verify-ca`.
    Require,
    /// TLS with a certificate from a trusted authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate must name the host.
    VerifyFull,
}

impl SslMode {
    /// libpq's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If both sides can.
    Prefer,
    /// Or no connection.
    Require,
}

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// The operating system's.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// A resolved connection. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where the server listens.
    pub host: Host,
    /// Its port, also part of a socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// A password given outright. Otherwise the password file is asked, for each database.
    pub password: Option<Secret>,
    /// The password file.
    pub passfile: Option<PathBuf>,
    /// The database that is connected to if none is named.
    pub database: String,
    /// Whether and how TLS is used; never over a Unix socket.
    pub sslmode: SslMode,
    /// Trusted authorities, if there are any.
    pub sslrootcert: Option<RootCert>,
    /// Our certificate, PEM.
    pub sslcert: Option<PathBuf>,
    /// Our certificate's key, PEM.
    pub sslkey: Option<PathBuf>,
    /// Shown in the server's list of sessions.
    pub application_name: String,
    /// How long one attempt may take.
    pub connect_timeout: Option<Duration>,
    /// Settings for the session, `-c name=value …`.
    pub options: Option<String>,
    /// Whether SCRAM must be tied to the TLS session.
    pub channel_binding: ChannelBinding,
}

impl Connection {
    /// Applies libpq's rules to a connection string, which may be empty.
    ///
    /// # Errors
    /// When the string, a service file or a variable can't be understood or asks for what isn't supported.
    pub fn resolve(dsn: &str, environment: &Environment) -> Result<Self> {
        resolve::resolve(dsn, environment)
    }

    /// The same connection with another default database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The password for a database: the one given, or the password file's.
    ///
    /// # Errors
    /// When the password file is there and can't be read.
    pub fn password_for(&self, database: &str) -> Result<Option<Secret>> {
        if self.password.is_some() {
            return Ok(self.password.clone());
        }
        let Some(file) = &self.passfile else { return Ok(None) };
        let socket;
        let host = match &self.host {
            Host::Tcp { name, .. } => name,
            // The password file calls the default socket "localhost", any other by its folder.
            Host::Socket(folder) if folder == Path::new(SOCKET_FOLDER) => "localhost",
            Host::Socket(folder) => {
                socket = folder.to_string_lossy();
                &*socket
            }
        };
        let wanted = Wanted { host, port: self.port, database, user: &self.user };
        Ok(files::password(file, wanted)?.map(Secret::from))
    }
}

impl fmt::Display for Connection {
    /// `role@host:port/database`, for messages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, port, database, .. } = self;
        match &self.host {
            Host::Tcp { name, .. } if name.contains(':') => {
                write!(formatter, "{user}@[{name}]:{port}/{database}")
            }
            Host::Tcp { name, .. } => write!(formatter, "{user}@{name}:{port}/{database}"),
            Host::Socket(folder) => {
                write!(formatter, "{user}@{}:{port}/{database}", folder.display())
            }
        }
    }
}

#[cfg(test)]
mod tests;
