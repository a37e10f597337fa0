//! Hands a resolved connection to a child program.
//!
//! Never on the command line, which every user of the machine can read: through the environment, which only the same
//! account and root can.

use super::{ChannelBinding, Connection, Host, RootCert};
use crate::Result;
use std::{collections::BTreeMap, ffi::OsStr, fmt, path::Path, process::Command};
use zeroize::Zeroizing;

/// Where distributions keep the operating system's authorities in one PEM file. libpq before 16 doesn't know
/// `sslrootcert=system`, so it is given the file.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A path that can't exist, which libpq passes over in silence; of `/dev/null` itself it complains.
const NO_FILE: &str = "/dev/null/none";

/// The value of a variable, perhaps a password, so `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Zeroizing<String>);

impl Value {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

impl Connection {
    /// The environment variables that make libpq connect to `database` exactly as [`Connection::connect`] does.
    ///
    /// # Errors
    /// When the password file is there and can't be read.
    pub fn command_env(&self, database: &str) -> Result<BTreeMap<&'static str, Value>> {
        let mut set = BTreeMap::new();
        let mut put = |key, value: &str| set.insert(key, Value(Zeroizing::new(value.to_owned())));
        let path = |path: &Path| path.to_string_lossy().into_owned();
        match &self.host {
            Host::Tcp { name, address } => {
                put("PGHOST", name);
                if let Some(address) = address {
                    put("PGHOSTADDR", &address.to_string());
                }
            }
            Host::Socket(folder) => {
                put("PGHOST", &path(folder));
            }
        }
        put("PGPORT", &self.port.to_string());
        put("PGUSER", &self.user);
        put("PGDATABASE", database);
        put("PGAPPNAME", &self.application_name);
        put("PGSSLMODE", self.sslmode.name());
        put("PGGSSENCMODE", "disable");
        // The password is already known; a file that libpq found by itself could have another.
        put("PGPASSFILE", NO_FILE);
        if let Some(password) = self.password_for(database)? {
            put("PGPASSWORD", password.expose());
        }
        match &self.sslrootcert {
            Some(RootCert::File(file)) => {
                put("PGSSLROOTCERT", &path(file));
            }
            Some(RootCert::System) => {
                let file = SYSTEM_ROOTS.into_iter().find(|file| Path::new(file).exists());
                put("PGSSLROOTCERT", file.unwrap_or("system"));
            }
            None => {}
        }
        if let Some(file) = &self.sslcert {
            put("PGSSLCERT", &path(file));
        }
        if let Some(file) = &self.sslkey {
            put("PGSSLKEY", &path(file));
        }
        if let Some(timeout) = self.connect_timeout {
            put("PGCONNECT_TIMEOUT", &timeout.as_secs().to_string());
        }
        if let Some(options) = &self.options {
            put("PGOPTIONS", options);
        }
        match self.channel_binding {
            ChannelBinding::Disable => put("PGCHANNELBINDING", "disable"),
            ChannelBinding::Prefer => None,
            ChannelBinding::Require => put("PGCHANNELBINDING", "require"),
        };
        Ok(set)
    }

    /// Prepares a program of PostgreSQL to connect to `database`: removes every inherited `PG…` variable, sets its own, and
    /// has messages in English, so that they can be recognised.
    ///
    /// # Errors
    /// When the password file is there and can't be read.
    pub fn prepare(&self, command: &mut Command, database: &str) -> Result<()> {
        forget_inherited(command);
        for (key, value) in self.command_env(database)? {
            command.env(key, value.expose());
        }
        Ok(())
    }
}

/// Removes every `PG…` variable that the program would inherit, and sets the language of its messages.
pub(crate) fn forget_inherited(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        if is_libpq(&key) {
            command.env_remove(key);
        }
    }
    command.env("LC_MESSAGES", "C").env_remove("LC_ALL").env_remove("LANGUAGE");
}

fn is_libpq(key: &OsStr) -> bool {
    key.as_encoded_bytes().starts_with(b"PG")
}
