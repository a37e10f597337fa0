//! Reads a custom-format archive of `pg_dump` as it streams past.
//!
//! The agent sees a dump only once, on its way to storage, and has to know three things about it: whether it is whole, what is
//! in it, and a digest of each table's rows that the verifier can compare after a test restore. [`Parser`] is fed the
//! stream's bytes in pieces of any size and keeps a bounded amount of them: the names of tables with data, never rows.
//!
//! ```text
//! header ─ table of contents ─┬─ 1, id, chunk, chunk, …, 0          rows of one table, as COPY text up to `\.`
//! (header.rs)    (toc.rs)     ├─ 3, id, oid, chunk, …, 0, oid, …, 0   large objects
//!                             └─ end: exactly when every listed block was there (parser.rs)
//! ```
//!
//! Facts about the format are from PostgreSQL's own reader and writer (`src/bin/pg_dump`, archive versions 1.12 to 1.16,
//! that is PostgreSQL 9.0 to 18). `pg_dump` never writes lengths that it doesn't fill, so no length is believed before its bytes
//! came, and none decides how much memory is taken.

mod batches;
mod blocks;
mod error;
mod header;
mod parser;
mod primitive;
mod rows;
mod rowset;
mod summary;
#[cfg(test)]
mod tests;
mod toc;

pub use self::{
    error::ArchiveError,
    parser::Parser,
    rowset::RowSet,
    summary::{ArchiveSummary, LargeObjects, TableDigest, full_name},
    toc::TocEntry,
};

/// Told about an archive's parts as they pass. Every method does nothing unless it is written.
pub trait Observer {
    /// Whether it is to be told of each row. Without that, rows are hashed many at once, which takes less time.
    const ROWS: bool = true;

    /// An entry of the table of contents; all of them come before any data.
    fn toc_entry(&mut self, _entry: &TocEntry) {}
    /// A table's data begin. Names are known; everything else in the digest is still empty.
    fn table_start(&mut self, _table: &TableDigest) {}
    /// A row of the table that began last.
    fn row(&mut self, _row: &Row<'_>) {}
    /// The table's data ended, properly.
    fn table_end(&mut self, _table: &TableDigest) {}
}

/// Observes nothing.
impl Observer for () {
    const ROWS: bool = false;
}

/// One row as it passes.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its number in its table, from 0.
    pub number: u64,
    /// Offset in the stream of its first byte.
    pub start: u64,
    /// Offset in the stream just behind its newline. Where a row lies in several chunks of the archive, the lengths of the later
    /// ones are in between.
    pub end: u64,
    /// The keyed hash of its bytes without the newline.
    pub hash: &'a [u8; 32],
    /// Its bytes without the newline, if they came in one feed and one chunk; rows are never copied.
    pub bytes: Option<&'a [u8]>,
}
