//! What a server is, which databases it has, and which of them a job takes.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// Facts about a server that belong in a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Version as a number: 150018.
    pub version_num: u32,
    /// Version as text: `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// State of data checksums: `on`, `off`, or on the way (19 and later).
    pub data_checksums: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The locale that values of type `money` are written in; a server that restores them needs the same.
    pub lc_monetary: String,
    /// The number that a cluster and its standbys share, if this role may see it.
    pub system_identifier: Option<i64>,
}

impl Server {
    /// Asks a server.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn of(client: &Client) -> Result<Self> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int4, current_setting('server_version'),
                        current_setting('data_checksums'), pg_catalog.pg_is_in_recovery(),
                        current_setting('lc_monetary')",
                &[],
            )
            .await
            .map_err(|error| Error::query("reading the server's settings", "", &error))?;
        // A role may have lost the right to this function.
        let identifier = client
            .query_one("SELECT system_identifier FROM pg_catalog.pg_control_system()", &[])
            .await;
        Ok(Self {
            version_num: u32::try_from(row.get::<_, i32>(0)).unwrap_or_default(),
            version: row.get(1),
            data_checksums: row.get(2),
            in_recovery: row.get(3),
            lc_monetary: row.get(4),
            system_identifier: identifier.ok().map(|row| row.get(0)),
        })
    }

    /// The major version: 15; 9 for all of 9.x.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

/// A database of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its number.
    pub oid: u32,
    /// Its size on the server's disk in bytes, if this role may see it.
    pub size: Option<u64>,
    /// Whether one may connect to it.
    pub allows_connections: bool,
    /// Whether a `DROP DATABASE` was interrupted in it, after which it can only be dropped.
    pub invalid: bool,
    /// Whether it is a template.
    pub is_template: bool,
    /// Its encoding: `UTF8`.
    pub encoding: String,
    /// Its `LC_COLLATE`.
    pub collate: String,
    /// Its `LC_CTYPE`.
    pub ctype: String,
}

/// Lists all databases of a server, by name.
///
/// # Errors
/// When the query fails.
pub async fn databases(client: &Client) -> Result<Vec<Database>> {
    let rows = client
        .query(
            "SELECT datname::text, oid,
                    CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT')
                           OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
                         THEN pg_catalog.pg_database_size(oid) END,
                    datallowconn, datconnlimit = -2, datistemplate,
                    pg_catalog.pg_encoding_to_char(encoding)::text,
                    COALESCE(datcollate::text, ''), COALESCE(datctype::text, '')
               FROM pg_catalog.pg_database ORDER BY datname",
            &[],
        )
        .await
        .map_err(|error| Error::query("listing the databases", "", &error))?;
    let database = |row: &tokio_postgres::Row| Database {
        name: row.get(0),
        oid: row.get(1),
        size: row.get::<_, Option<i64>>(2).and_then(|size| u64::try_from(size).ok()),
        allows_connections: row.get(3),
        invalid: row.get(4),
        is_template: row.get(5),
        encoding: row.get(6),
        collate: row.get(7),
        ctype: row.get(8),
    };
    Ok(rows.iter().map(database).collect())
}

/// Which databases a job takes. The default takes all of them, so that a new one is in without anyone having to think of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases {
    /// Patterns with `*` and `?`; empty for all.
    pub include: Vec<String>,
    /// Patterns with `*` and `?` of those to leave out.
    pub exclude: Vec<String>,
}

/// What became of each database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// Those that are taken.
    pub taken: Vec<Database>,
    /// Those that aren't, with the reason.
    pub skipped: Vec<Skipped>,
}

/// A database that isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a database isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// It is `template0` or `template1`, as every server has them.
    Template,
    /// It matches no pattern to include.
    NotIncluded,
    /// It matches a pattern to exclude.
    Excluded,
    /// The server admits no connections to it.
    NoConnections,
    /// A `DROP DATABASE` was interrupted in it.
    Invalid,
}

impl Databases {
    /// All databases.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Applies the patterns.
    ///
    /// # Errors
    /// [`Error::NoMatch`] for a pattern to include that matches nothing: a renamed database must not fall out silently.
    pub fn select(&self, databases: &[Database]) -> Result<Selected> {
        let unused = self
            .include
            .iter()
            .find(|pattern| !databases.iter().any(|one| matches(pattern, &one.name)));
        if let Some(pattern) = unused {
            return Err(Error::NoMatch { pattern: pattern.clone() });
        }
        let mut selected = Selected::default();
        for database in databases {
            match self.reason_to_skip(database) {
                None => selected.taken.push(database.clone()),
                Some(reason) => {
                    selected.skipped.push(Skipped { name: database.name.clone(), reason });
                }
            }
        }
        Ok(selected)
    }

    fn reason_to_skip(&self, database: &Database) -> Option<SkipReason> {
        let name = &database.name;
        let is_named = self.include.contains(name);
        let is_template = matches!(name.as_str(), "template0" | "template1");
        if is_template && !is_named {
            Some(SkipReason::Template)
        } else if !self.include.is_empty()
            && !self.include.iter().any(|pattern| matches(pattern, name))
        {
            Some(SkipReason::NotIncluded)
        } else if self.exclude.iter().any(|pattern| matches(pattern, name)) {
            Some(SkipReason::Excluded)
        } else if database.invalid {
            Some(SkipReason::Invalid)
        } else if !database.allows_connections {
            Some(SkipReason::NoConnections)
        } else {
            None
        }
    }
}

/// Whether a name matches a pattern, in which `*` stands for any text and `?` for one letter.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last star doesn't fit: the star takes one letter more.
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str) -> Database {
        Database {
            name: name.to_owned(),
            allows_connections: name != "template0",
            ..Database::default()
        }
    }

    type Names = (Vec<String>, Vec<(String, SkipReason)>);

    fn select(include: &[&str], exclude: &[&str]) -> Result<Names> {
        let owned =
            |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let mut all: Vec<_> =
            ["app", "app test", "postgres", "template0", "template1"].map(database).into();
        all.push(Database { allows_connections: false, ..database("closed") });
        all.push(Database { invalid: true, ..database("half dropped") });
        let selected =
            Databases { include: owned(include), exclude: owned(exclude) }.select(&all)?;
        let taken = selected.taken.into_iter().map(|database| database.name).collect();
        Ok((
            taken,
            selected.skipped.into_iter().map(|skipped| (skipped.name, skipped.reason)).collect(),
        ))
    }

    #[test]
    fn all_are_in_unless_they_cannot_be() {
        let (taken, skipped) = select(&[], &[]).unwrap();
        assert_eq!(taken, ["app", "app test", "postgres"]);
        let reasons = [
            ("template0", SkipReason::Template),
            ("template1", SkipReason::Template),
            ("closed", SkipReason::NoConnections),
            ("half dropped", SkipReason::Invalid),
        ];
        assert_eq!(skipped, reasons.map(|(name, reason)| (name.to_owned(), reason)));
    }

    #[test]
    fn patterns_choose() {
        assert_eq!(select(&["app*"], &["* test"]).unwrap().0, ["app"]);
        assert_eq!(select(&["template1"], &[]).unwrap().0, ["template1"]);
        let error = select(&["app*", "shop"], &[]).unwrap_err();
        assert!(error.to_string().contains("\"shop\""), "{error}");
    }

    #[test]
    fn stars_backtrack() {
        assert!(matches("*a*b?", "xaabbbc"));
        assert!(!matches("*a*b?", "xaabbb_c"));
        assert!(matches("*", ""));
        assert!(!matches("?", ""));
        assert!(matches("größe", "größe"));
    }
}
