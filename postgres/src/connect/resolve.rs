//! The rules themselves: which source counts, and what the texts mean.

use super::{
    ChannelBinding, Connection, Environment, Host, RootCert, SOCKET_FOLDER, Secret, SslMode,
    dsn::{self, Settings},
    files,
};
use crate::{Error, Result};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

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

/// See [`Connection::resolve`].
pub(super) fn resolve(dsn: &str, environment: &Environment) -> Result<Connection> {
    let mut settings = dsn::parse(dsn)?;
    add_service(&mut settings, environment)?;
    for (variable, key) in VARIABLES {
        if let Some(value) = environment.variables.get(variable).filter(|value| !value.is_empty()) {
            settings.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    Resolver { settings, home: environment.home.as_deref() }.resolve(environment)
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
