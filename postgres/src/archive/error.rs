//! What can be wrong with an archive.

use thiserror::Error;

/// Why a stream isn't a whole archive that Keephold can vouch for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It doesn't begin like a custom-format archive.
    #[error("the stream doesn't begin like a custom-format archive of pg_dump")]
    NotAnArchive,
    /// An archive version outside 1.12 to 1.16.
    #[error("archive version {major}.{minor} isn't known (1.12 to 1.16 are)")]
    Version {
        /// Major number of the archive's version.
        major: u8,
        /// Minor number of the archive's version.
        minor: u8,
    },
    /// The archive's header holds something that no `pg_dump` writes.
    #[error("the archive's header is damaged: {what}")]
    Header {
        /// Which part, and its value.
        what: String,
    },
    /// The data are compressed, so that rows can't be seen.
    #[error("the archive is compressed by pg_dump itself")]
    Compressed,
    /// An entry of the table of contents can't be true.
    #[error("entry {entry} of the archive's contents is damaged at offset {offset}: {what}")]
    Toc {
        /// Number of the entry, from 0.
        entry: u64,
        /// Offset in the stream, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The data are INSERT commands instead of COPY rows.
    #[error("the data of table {table} are INSERT commands, not COPY rows")]
    Inserts {
        /// The table, with its schema.
        table: String,
    },
    /// A data block that the contents don't list, of the wrong kind, or a second time.
    #[error("the data block at offset {offset} is damaged: {what}")]
    Block {
        /// Offset in the stream, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A chunk's length can't be true.
    #[error("the data of {item} are damaged at offset {offset}: {what}")]
    Data {
        /// The table or large object.
        item: String,
        /// Offset in the stream, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The stream stops in the middle.
    #[error("the archive is cut off at offset {offset}, in {within}")]
    Truncated {
        /// Offset at which the stream stopped, in bytes.
        offset: u64,
        /// What was being read.
        within: String,
    },
    /// The stream stops between blocks, before all listed data came.
    #[error(
        "the archive ends at offset {offset} without the data of {first} ({missing} missing in all)"
    )]
    Missing {
        /// Offset at which the stream stopped, in bytes.
        offset: u64,
        /// The first table whose data are missing.
        first: String,
        /// How many are missing.
        missing: u64,
    },
    /// Bytes after the end of the archive.
    #[error("the archive goes on after its end at offset {offset}")]
    Trailing {
        /// Offset of the first byte too many.
        offset: u64,
    },
    /// The parser was used after it had reported an error.
    #[error("the archive was already found damaged")]
    AfterError,
}

impl ArchiveError {
    /// What a person should do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAnArchive => {
                "make the dump with pg_dump --format=custom, and check that nothing else writes to its output"
            }
            Self::Version { .. } => {
                "update Keephold, or dump with a pg_dump of PostgreSQL 9.0 to 18"
            }
            Self::Compressed => "dump with --compress=0; Keephold compresses what it stores",
            Self::Inserts { .. } => {
                "dump without --inserts, --column-inserts and --rows-per-insert"
            }
            Self::Truncated { .. } | Self::Missing { .. } => {
                "the dump didn't finish: look at pg_dump's messages and the server's log, then run the backup again"
            }
            Self::Header { .. }
            | Self::Toc { .. }
            | Self::Block { .. }
            | Self::Data { .. }
            | Self::Trailing { .. }
            | Self::AfterError => {
                "don't trust this dump: run the backup again, and verify the disk or store it was read from"
            }
        }
    }
}
