//! Opens a session of our own.

use super::{ChannelBinding, Connection, Host, SslMode, tls};
use crate::{Error, Result, error::reason};
use tokio_postgres::{Client, Config, NoTls, config};
use tokio_postgres_rustls::MakeRustlsConnect;

impl Connection {
    /// Connects to `database`. The session's own task ends when the client is dropped.
    ///
    /// # Errors
    /// When the server can't be reached or refuses, or the TLS files can't be used.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let mut last = None;
        for tls in self.attempts() {
            match self.attempt(database, tls).await {
                Ok(client) => return Ok(client),
                Err(error @ Error::Connect { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::settings("no way to connect")))
    }

    /// With or without TLS, in which order: `allow` and `prefer` try the other way after a refusal, as libpq does.
    fn attempts(&self) -> Vec<bool> {
        match (&self.host, self.sslmode) {
            (Host::Socket(_), _) | (_, SslMode::Disable) => vec![false],
            (_, SslMode::Allow) => vec![false, true],
            (_, SslMode::Prefer) => vec![true, false],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => vec![true],
        }
    }

    async fn attempt(&self, database: &str, tls: bool) -> Result<Client> {
        let config = self.config(database, tls)?;
        let failed = |error: &tokio_postgres::Error| Error::Connect {
            target: self.with_database(database).to_string(),
            reason: reason(error),
        };
        // Two arms, since the two kinds of connection are different types.
        if tls {
            let connector = MakeRustlsConnect::new(tls::client_config(self)?);
            let (client, connection) =
                config.connect(connector).await.map_err(|error| failed(&error))?;
            drive(connection);
            Ok(client)
        } else {
            let (client, connection) =
                config.connect(NoTls).await.map_err(|error| failed(&error))?;
            drive(connection);
            Ok(client)
        }
    }

    fn config(&self, database: &str, tls: bool) -> Result<Config> {
        let mut config = Config::new();
        match &self.host {
            Host::Tcp { name, address } => {
                config.host(name);
                if let Some(address) = address {
                    config.hostaddr(*address);
                }
            }
            Host::Socket(folder) => {
                config.host_path(folder);
            }
        }
        config
            .port(self.port)
            .user(&self.user)
            .dbname(database)
            .application_name(&self.application_name);
        config.ssl_mode(if tls { config::SslMode::Require } else { config::SslMode::Disable });
        config.channel_binding(match self.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        if let Some(password) = self.password_for(database)? {
            config.password(password.expose());
        }
        if let Some(timeout) = self.connect_timeout {
            config.connect_timeout(timeout);
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        Ok(config)
    }
}

/// Runs the session's traffic. Its queries fail by themselves when it breaks, so an error is only worth a note.
fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a PostgreSQL session ended: {}", reason(&error));
        }
    });
}
