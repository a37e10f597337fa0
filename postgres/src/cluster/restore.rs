//! Restores one database.

use super::Cluster;
use crate::{
    Error, Result,
    archive::{ArchiveError, Observer, Parser, TocEntry},
    dump::database_argument,
    process::{LastWill, Running},
    snapshot::quote,
};
use serde::{Deserialize, Serialize};
use std::{path::Path, process::Stdio};
use tokio::io::AsyncReadExt;

/// How much of an archive is looked at for its CREATE DATABASE, which stands near the front, in bytes.
const HEAD: u64 = 64 << 20;

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The database's name.
    pub database: String,
    /// Messages of `pg_restore`, usually none.
    pub messages: String,
    /// What isn't as it was, for want of something on this machine.
    pub notes: Vec<String>,
}

/// The definitions that make the database itself.
#[derive(Default)]
struct Head {
    create: Option<String>,
    encoding: Option<String>,
}

impl Observer for Head {
    fn toc_entry(&mut self, entry: &TocEntry) {
        match entry.kind.as_str() {
            "DATABASE" => self.create = Some(entry.definition.clone()),
            "ENCODING" => self.encoding = entry.definition.split('\'').nth(1).map(str::to_owned),
            _ => {}
        }
    }
}

impl Cluster {
    /// Restores a custom-format archive as the database `name`, with its own encoding, locale, owners and rights, and stops at the
    /// first error. `jobs` tables are loaded at a time. A database of that name is dropped first.
    ///
    /// # Errors
    /// [`Error::Failed`] with `pg_restore`'s messages, or when the archive's beginning can't be read.
    pub async fn restore_database(
        &self,
        archive: &Path,
        name: &str,
        jobs: u32,
    ) -> Result<Restored> {
        let (original, head) = read_head(archive).await?;
        let mut restored = Restored { database: name.to_owned(), ..Restored::default() };
        self.drop_database(name).await?;
        // Only pg_restore's own --create brings back the database's settings and rights, but under the old name.
        if original == name && head.create.is_some() {
            match self.pg_restore(archive, super::MAINTENANCE, true, jobs).await {
                Ok(messages) => return Ok(Restored { messages, ..restored }),
                Err(Error::Failed { stderr, .. }) if lacks_locale(&stderr) => {
                    restored.notes.push(format!(
                        "the database's locale isn't on this machine, so it has C instead: {}",
                        stderr.trim()
                    ));
                }
                Err(error) => return Err(error),
            }
            self.drop_database(name).await?;
            self.create_plain(name, head.encoding.as_deref(), None).await?;
        } else {
            restored.notes.push("restored under another name, without the settings and rights of the database itself".to_owned());
            self.create_plain(name, head.encoding.as_deref(), head.create.as_deref()).await?;
        }
        restored.messages = self.pg_restore(archive, name, false, jobs).await?;
        Ok(restored)
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let client = self.maintenance().await?;
        let failed = |error| Error::query("dropping a database", name, &error);
        let query = "SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = $1";
        let found = client.query_opt(query, &[&name]).await.map_err(failed)?;
        match found.map(|row| row.get(0)) {
            None => return Ok(()),
            Some(true) => {
                let command = format!("ALTER DATABASE {} IS_TEMPLATE false", quote(name));
                client.batch_execute(&command).await.map_err(failed)?;
            }
            Some(false) => {}
        }
        client.batch_execute(&format!("DROP DATABASE {}", quote(name))).await.map_err(failed)
    }

    /// Makes a database with the clauses of its old CREATE DATABASE, or else with locale C.
    async fn create_plain(
        &self,
        name: &str,
        encoding: Option<&str>,
        create: Option<&str>,
    ) -> Result<()> {
        let client = self.maintenance().await?;
        // From the last such words: the old name may hold anything.
        let clauses =
            create.and_then(|create| create.get(create.rfind(" WITH TEMPLATE = template0")?..));
        let plain = format!(
            " WITH TEMPLATE = template0 ENCODING = '{}' LC_COLLATE = 'C' LC_CTYPE = 'C'",
            encoding.unwrap_or("UTF8").replace('\'', "''")
        );
        let command = format!("CREATE DATABASE {}", quote(name));
        if let Some(clauses) = clauses
            && client.batch_execute(&format!("{command}{clauses}")).await.is_ok()
        {
            return Ok(());
        }
        let made = client.batch_execute(&format!("{command}{plain}")).await;
        made.map_err(|error| Error::query("creating a database", name, &error))
    }

    async fn pg_restore(
        &self,
        archive: &Path,
        database: &str,
        create: bool,
        jobs: u32,
    ) -> Result<String> {
        let mut arguments = vec!["--exit-on-error".to_owned(), "--no-password".to_owned()];
        arguments.push(format!("--dbname={}", database_argument(database)));
        arguments.push(format!("--jobs={}", jobs.max(1)));
        if create {
            arguments.push("--create".to_owned());
        }
        arguments.push(archive.display().to_string());
        let program = &self.programs.restore.path;
        let mut running =
            Running::start(program, &arguments, Stdio::null(), LastWill::default(), |command| {
                self.connection.prepare(command, database)
            })?;
        running.succeed().await
    }
}

/// Whether CREATE DATABASE failed because this machine hasn't got the locale.
fn lacks_locale(messages: &str) -> bool {
    [
        "invalid locale name",
        "invalid LC_",
        "could not create locale",
        "could not open collator",
        "ICU is not supported",
    ]
    .iter()
    .any(|part| messages.contains(part))
}

/// The name of the database that was dumped, and what makes it.
async fn read_head(archive: &Path) -> Result<(String, Head)> {
    let failed = |error| Error::io(archive, error);
    let file = tokio::fs::File::open(archive).await.map_err(failed)?;
    let mut file = file.take(HEAD);
    let mut buffer = vec![0; 64 << 10];
    let mut parser = Parser::new(&[0; 32]);
    let mut head = Head::default();
    loop {
        let read = file.read(&mut buffer).await.map_err(failed)?;
        parser.feed_with(&buffer[..read], &mut head)?;
        if let Some(name) = parser.database()
            && (head.create.is_some() || parser.has_contents())
        {
            return Ok((name.to_owned(), head));
        }
        if read == 0 {
            let within = "its contents".to_owned();
            return Err(ArchiveError::Truncated { offset: parser.offset(), within }.into());
        }
    }
}
