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
mod session;
mod tls;

use self::{dsn::Settings, files::Wanted};
use crate::{Error, Result};
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use zeroize::Zeroizing;

/// Where Debian's and most other builds put the server's socket; upstream's own default is `/tmp`.
const SOCKET_FOLDER: &str = "/var/run/postgresql";
/// Where Debian's build keeps the service file of the whole machine.
const SYSTEM_FOLDER: &str = "/etc/postgresql-common";
const DEFAULT_PORT: u16 = 5432;

/// The environment variables of libpq that stand for a parameter.
const VARIABLES: [(&str, &str); 20] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

/// Parameters without a meaning here: Keephold uses one server, no GSSAPI, and decides the encoding itself.
const IGNORED: [&str; 16] = [
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "gssdelegation",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "krbsrvname",
    "load_balance_hosts",
    "sslcompression",
    "sslsni",
    "ssl_min_protocol_version",
    "tcp_user_timeout",
    "target_session_attrs",
];

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
        let mut settings = dsn::parse(dsn)?;
        add_service(&mut settings, environment)?;
        for (variable, key) in VARIABLES {
            if let Some(value) =
                environment.variables.get(variable).filter(|value| !value.is_empty())
            {
                settings.entry(key.to_owned()).or_insert_with(|| value.clone());
            }
        }
        Resolver { settings, home: environment.home.as_deref() }.resolve(environment)
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

/// Adds what a service file has, below what the connection string says.
fn add_service(settings: &mut Settings, environment: &Environment) -> Result<()> {
    let variable = |name: &str| environment.variables.get(name).filter(|value| !value.is_empty());
    let Some(service) = settings.remove("service").or_else(|| variable("PGSERVICE").cloned())
    else {
        return Ok(());
    };
    let own = settings
        .remove("servicefile")
        .or_else(|| variable("PGSERVICEFILE").cloned())
        .map(PathBuf::from);
    let own = own.or_else(|| environment.home.as_ref().map(|home| home.join(".pg_service.conf")));
    let system = variable("PGSYSCONFDIR").map_or(SYSTEM_FOLDER, String::as_str);
    let files = own.into_iter().chain([Path::new(system).join("pg_service.conf")]).collect();
    for (key, value) in files::service(&service, files)? {
        settings.entry(key).or_insert(value);
    }
    Ok(())
}

/// Turns texts into a [`Connection`].
struct Resolver<'a> {
    settings: Settings,
    home: Option<&'a Path>,
}

impl Resolver<'_> {
    fn resolve(mut self, environment: &Environment) -> Result<Connection> {
        let user = self.take("user").or_else(|| environment.user.clone());
        let user = user.ok_or_else(|| {
            Error::settings("no user is given, and this process's account has no name")
        })?;
        let (host, port) = (self.host()?, self.number("port")?.unwrap_or(DEFAULT_PORT));
        let sslmode = self.sslmode()?;
        let sslrootcert = match self.take("sslrootcert") {
            Some(system) if system == "system" => Some(RootCert::System),
            Some(file) => Some(RootCert::File(file.into())),
            None => self.own_file("root.crt").map(RootCert::File),
        };
        // As libpq 16 and later: everyone has a certificate from some public authority, so the name must be checked.
        if sslrootcert == Some(RootCert::System)
            && !matches!(sslmode, SslMode::VerifyFull | SslMode::Disable)
        {
            return Err(Error::settings(format!(
                "sslrootcert=system needs sslmode=verify-full, not {}",
                sslmode.name()
            )));
        }
        let sslcert =
            self.take("sslcert").map(PathBuf::from).or_else(|| self.own_file("postgresql.crt"));
        let sslkey =
            self.take("sslkey").map(PathBuf::from).or_else(|| self.own_file("postgresql.key"));
        let passfile = self
            .take("passfile")
            .map(PathBuf::from)
            .or_else(|| self.home.map(|home| home.join(".pgpass")));
        let seconds: Option<i64> = self.number("connect_timeout")?;
        let connect_timeout =
            seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        let connection = Connection {
            host,
            port,
            database: self.take("dbname").unwrap_or_else(|| user.clone()),
            user,
            password: self.take("password").map(Secret::from),
            passfile,
            sslmode,
            sslrootcert,
            sslcert,
            sslkey,
            application_name: self
                .take("application_name")
                .unwrap_or_else(|| "keephold".to_owned()),
            // libpq waits at least two seconds, whatever it is told.
            connect_timeout: connect_timeout.map(|seconds| Duration::from_secs(seconds.max(2))),
            options: self.take("options"),
            channel_binding: self.channel_binding()?,
        };
        self.settings.retain(|key, value| !IGNORED.contains(&key.as_str()) && !value.is_empty());
        match self.settings.into_keys().next() {
            Some(name) => Err(Error::Unsupported { name }),
            None => Ok(connection),
        }
    }

    /// An empty value counts as none, as in libpq.
    fn take(&mut self, key: &str) -> Option<String> {
        self.settings.remove(key).filter(|value| !value.is_empty())
    }

    fn number<N: FromStr>(&mut self, key: &str) -> Result<Option<N>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        if key == "port" && text.contains(',') {
            return Err(Error::settings("several ports are given; name one server"));
        }
        text.trim()
            .parse()
            .map(Some)
            .map_err(|_| Error::settings(format!("{key} {text:?} isn't a number in its range")))
    }

    fn host(&mut self) -> Result<Host> {
        let (host, address) = (self.take("host"), self.take("hostaddr"));
        if [&host, &address].into_iter().flatten().any(|text| text.contains(',')) {
            // The snapshot and the dump must come from the same server.
            return Err(Error::settings(
                "several hosts are given; a backup needs one server, so name one",
            ));
        }
        let address =
            match address {
                Some(text) => Some(text.parse().map_err(|_| {
                    Error::settings(format!("hostaddr {text:?} isn't an IP address"))
                })?),
                None => None,
            };
        Ok(match (host, address) {
            (Some(folder), None) if folder.starts_with('/') => Host::Socket(folder.into()),
            (Some(socket), None) if socket.starts_with('@') => {
                return Err(Error::Unsupported {
                    name: format!("host={socket} (an abstract socket)"),
                });
            }
            (Some(name), address) => Host::Tcp { name, address },
            (None, Some(address)) => {
                Host::Tcp { name: address.to_string(), address: Some(address) }
            }
            (None, None) => Host::Socket(SOCKET_FOLDER.into()),
        })
    }

    fn sslmode(&mut self) -> Result<SslMode> {
        let Some(word) = self.take("sslmode") else { return Ok(SslMode::Prefer) };
        let modes = [
            SslMode::Disable,
            SslMode::Allow,
            SslMode::Prefer,
            SslMode::Require,
            SslMode::VerifyCa,
            SslMode::VerifyFull,
        ];
        let mode = modes.into_iter().find(|mode| mode.name() == word);
        mode.ok_or_else(|| Error::settings(format!("sslmode {word:?} isn't one of disable, allow, prefer, require, verify-ca, verify-full")))
    }

    fn channel_binding(&mut self) -> Result<ChannelBinding> {
        match self.take("channel_binding").as_deref() {
            None | Some("prefer") => Ok(ChannelBinding::Prefer),
            Some("disable") => Ok(ChannelBinding::Disable),
            Some("require") => Ok(ChannelBinding::Require),
            Some(word) => Err(Error::settings(format!(
                "channel_binding {word:?} isn't one of disable, prefer, require"
            ))),
        }
    }

    /// A file in the home folder that libpq uses when it is there.
    fn own_file(&self, name: &str) -> Option<PathBuf> {
        self.home.map(|home| home.join(".postgresql").join(name)).filter(|file| file.exists())
    }
}

#[cfg(test)]
mod tests;
