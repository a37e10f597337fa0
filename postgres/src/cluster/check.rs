//! Looks at a restored database: its rows again, its schema, its indexes.

use super::Cluster;
use crate::{
    Error, Result,
    archive::{ArchiveSummary, Parser},
    dump::{Dump, DumpOptions},
    error::reason,
    pieces::Pieces,
    snapshot::quote,
};
use serde::{Deserialize, Serialize};

/// Longest schema text that is compared, in bytes; it is held in memory.
const MAX_SCHEMA: usize = 256 << 20;

/// Every B-tree index that can be checked.
const INDEXES: &str = "
    SELECT c.oid, c.oid::pg_catalog.regclass::text
      FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
      JOIN pg_catalog.pg_am a ON a.oid = c.relam
     WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND i.indisready
     ORDER BY 2";

/// What amcheck found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amcheck {
    /// How many indexes were checked.
    pub indexes: u64,
    /// The indexes that aren't sound, each with the server's message.
    pub findings: Vec<String>,
    /// Why nothing could be checked, if so: that is not the same as "sound".
    pub unavailable: Option<String>,
}

impl Cluster {
    /// Dumps a database again and digests its rows under `key`, for [`super::compare`].
    ///
    /// # Errors
    /// When the dump fails or isn't whole.
    pub async fn digest_database(&self, name: &str, key: &[u8; 32]) -> Result<ArchiveSummary> {
        let options = DumpOptions::default();
        let Dump { pieces, program } =
            Dump::start(&self.programs.dump, &self.connection, name, &options)?;
        let parser = parse(pieces, Parser::new(key)).await;
        // The program's own failure explains a cut stream better than the parser can.
        program.finish().await?;
        Ok(parser?.finish()?)
    }

    /// The schema as SQL text, without lines that differ from dump to dump.
    ///
    /// # Errors
    /// When the dump fails, or is longer than 256 MiB.
    pub async fn schema_text(&self, name: &str) -> Result<String> {
        let mut dump = Dump::schema(&self.programs.dump, &self.connection, name)?;
        let text = dump.pieces.collect(MAX_SCHEMA).await;
        let text = text.map_err(|error| Error::io("the output of pg_dump", error))?;
        dump.program.finish().await?;
        Ok(comparable_schema(&String::from_utf8_lossy(&text)))
    }

    /// Checks all B-tree indexes of a database, that each row is in them. Changes the database: do it after all comparing.
    ///
    /// # Errors
    /// When there is no session or the indexes can't be listed.
    pub async fn amcheck(&self, name: &str) -> Result<Amcheck> {
        let client = self.session(name).await?;
        let mut result = Amcheck::default();
        if let Err(error) = client.batch_execute("CREATE EXTENSION IF NOT EXISTS amcheck").await {
            result.unavailable =
                Some(format!("the extension amcheck can't be created: {}", reason(&error)));
            return Ok(result);
        }
        let failed = |error| Error::query("listing the indexes", name, &error);
        let schema: String = client
            .query_one("SELECT n.nspname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'", &[])
            .await
            .map_err(failed)?
            .get(0);
        let check = format!(
            "SELECT {}.bt_index_check($1::pg_catalog.oid::pg_catalog.regclass, true)",
            quote(&schema)
        );
        let check = client.prepare(&check).await.map_err(failed)?;
        for row in client.query(INDEXES, &[]).await.map_err(failed)? {
            let (oid, index): (u32, String) = (row.get(0), row.get(1));
            result.indexes += 1;
            if let Err(error) = client.execute(&check, &[&oid]).await {
                result.findings.push(format!("{index}: {}", reason(&error)));
            }
        }
        Ok(result)
    }
}

async fn parse(mut pieces: Pieces, mut parser: Parser) -> Result<Parser> {
    let failed = |error| Error::io("the output of pg_dump", error);
    while let Some(piece) = pieces.next().await.map_err(failed)? {
        parser.feed(&piece)?;
    }
    Ok(parser)
}

/// The text of `pg_dump --schema-only` without what differs between two dumps of the same schema: random tokens, versions, and
/// the comments around them.
#[must_use]
pub fn comparable_schema(sql: &str) -> String {
    let is_volatile = |line: &str| {
        [
            "\\restrict ",
            "\\unrestrict ",
            "-- Dumped from database version",
            "-- Dumped by pg_dump version",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let mut text = String::with_capacity(sql.len());
    for line in sql.lines().filter(|line| !is_volatile(line)) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::comparable_schema;

    #[test]
    fn volatile_lines_are_left_out() {
        let dump = |token: &str, version: &str| {
            format!(
                "--\n\n\\restrict {token}\n\n-- Dumped from database version {version}\n-- Dumped by pg_dump version {version}\n\nCREATE TABLE a ();\n\n\\unrestrict {token}\n"
            )
        };
        assert_eq!(comparable_schema(&dump("a", "15.1")), comparable_schema(&dump("b", "15.2")));
        assert!(comparable_schema(&dump("a", "15.1")).contains("CREATE TABLE a"));
    }
}
