//! What is known about an archive once it has been read to its end.

use super::RowSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The digest of one table's data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// The columns in the order of the rows' fields, as the COPY command has them: `(id, "full name")`.
    pub columns: String,
    /// The rows' number and sum of hashes.
    #[serde(flatten)]
    pub set: RowSet,
    /// The rows' bytes, newlines included, without the archive's own lengths.
    pub bytes: u64,
    /// The archive's number for the table's data.
    pub dump_id: i32,
    /// Offset in the stream of the table's data block, in bytes.
    pub start: u64,
    /// Offset just behind the table's data block, in bytes.
    pub end: u64,
}

impl TableDigest {
    /// `schema.table`, for messages.
    #[must_use]
    pub fn full_name(&self) -> String {
        full_name(&self.schema, &self.name)
    }
}

/// `schema.table`, quoted where SQL would need it, so that it is unambiguous and stays on one line.
#[must_use]
pub fn full_name(schema: &str, name: &str) -> String {
    let part = |part: &str| {
        let plain = part.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && part.chars().all(|letter| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
            });
        if plain {
            part.to_owned()
        } else {
            format!("\"{}\"", part.replace('"', "\"\"").replace('\n', "\\n"))
        }
    };
    if schema.is_empty() { part(name) } else { format!("{}.{}", part(schema), part(name)) }
}

/// The digest of all large objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    /// Their number (`rows`) and the sum of the keyed hashes of object id (four bytes, least first) and content.
    #[serde(flatten)]
    pub set: RowSet,
    /// The bytes of their contents.
    pub bytes: u64,
}

/// What a whole archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveSummary {
    /// Version of the archive format: `1.14.0`.
    pub archive_version: String,
    /// Version of the server, as it calls itself.
    pub server_version: String,
    /// Version of `pg_dump`.
    pub dump_version: String,
    /// The database's name.
    pub database: String,
    /// The database's encoding as PostgreSQL names it: `UTF8`.
    pub encoding: Option<String>,
    /// The command that would make the database, with its encoding and locale. Only if it was dumped with `--create`, or
    /// always in custom archives of pg_dump 11 and later.
    pub create_database: Option<String>,
    /// When the dump began, in local time of its host: `2026-11-23T18:30:00`.
    pub created: Option<String>,
    /// Number of entries in the table of contents.
    pub toc_entries: u64,
    /// How many entries there are of each kind: `TABLE`, `INDEX`, `FUNCTION`, …
    pub kinds: BTreeMap<String, u64>,
    /// A digest of all definitions that a restore must bring back unchanged, sequence values included. Only comparable between
    /// archives made by the same version of `pg_dump` from servers of the same major version.
    pub definitions: RowSet,
    /// Every table with data, in the order of the archive.
    pub tables: Vec<TableDigest>,
    /// The large objects.
    pub large_objects: LargeObjects,
    /// The archive's length in bytes.
    pub bytes: u64,
}

impl ArchiveSummary {
    /// All tables' rows together.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.set.rows).sum()
    }
}
