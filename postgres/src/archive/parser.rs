//! The parser: what comes after what, and whether all of it came.

use super::{
    ArchiveError, ArchiveSummary, Observer, TableDigest, TocEntry,
    blocks::{LargeObject, columns, damaged_data, large_object, start_of_int},
    full_name,
    header::{Header, HeaderReader},
    primitive::{Cursor, Fixed},
    rows::{BadRows, Rows},
    toc::TocReader,
};
use std::collections::BTreeMap;

/// Type of a block with a table's rows.
const BLOCK_ROWS: u8 = 1;
/// Type of a block with large objects.
const BLOCK_LARGE_OBJECTS: u8 = 3;
/// Kinds of entries that are counted by name; there are about sixty. More would be damage, and unbounded.
const MAX_KINDS: usize = 256;

/// A push parser: feed it the stream in pieces of any size, then ask it to [finish](Parser::finish).
#[derive(Debug)]
pub struct Parser {
    key: [u8; 32],
    offset: u64,
    state: State,
    fixed: Fixed,
    header: Header,
    summary: ArchiveSummary,
    /// What has a data block, by dump id.
    blocks: BTreeMap<i32, Block>,
    /// How many of them haven't come yet.
    outstanding: u64,
}

/// A block that the contents announce.
#[derive(Debug)]
struct Block {
    kind: u8,
    seen: bool,
    /// Where [`ArchiveSummary::tables`] has the table, if it is one.
    table: usize,
}

#[derive(Debug)]
enum State {
    Header(Box<HeaderReader>),
    /// The number of entries follows.
    TocSize,
    Toc {
        reader: Box<TocReader>,
        left: u64,
    },
    /// A block's type or the end of the archive follows.
    BlockType,
    BlockId {
        kind: u8,
        start: u64,
    },
    Rows(Box<Table>),
    /// An object id or zero follows.
    LargeObjects,
    LargeObject(Box<LargeObject>),
    Failed,
}

#[derive(Debug)]
struct Table {
    index: usize,
    start: u64,
    rows: Rows,
    chunk: u64,
}

impl Parser {
    /// A parser that hashes rows under `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: *key,
            offset: 0,
            state: State::Header(Box::default()),
            fixed: Fixed::default(),
            header: Header::default(),
            summary: ArchiveSummary::default(),
            blocks: BTreeMap::new(),
            outstanding: 0,
        }
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The name of the database that was dumped, once the header is read.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        (!matches!(self.state, State::Header(_))).then_some(self.summary.database.as_str())
    }

    /// Whether the table of contents has been read.
    #[must_use]
    pub fn has_contents(&self) -> bool {
        !matches!(self.state, State::Header(_) | State::TocSize | State::Toc { .. } | State::Failed)
    }

    /// Reads the next bytes of the stream.
    ///
    /// # Errors
    /// What is wrong with the archive, as soon as it shows. After an error the parser only answers that there was one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.feed_with(bytes, &mut ())
    }

    /// Reads the next bytes of the stream, and tells the observer what they hold.
    ///
    /// # Errors
    /// As [`Parser::feed`].
    pub fn feed_with(
        &mut self,
        bytes: &[u8],
        observer: &mut impl Observer,
    ) -> Result<(), ArchiveError> {
        let mut cursor = Cursor { rest: bytes, offset: self.offset };
        loop {
            match self.step(&mut cursor, observer) {
                Ok(Some(next)) => self.state = next,
                // Everything was used up, and the value at the end isn't whole.
                Ok(None) => break,
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            }
        }
        self.offset = cursor.offset;
        Ok(())
    }

    /// Checks that the archive came to its proper end, and says what it held.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`] or [`ArchiveError::Missing`] if it didn't.
    pub fn finish(self) -> Result<ArchiveSummary, ArchiveError> {
        let within = match &self.state {
            State::BlockType if self.outstanding == 0 => {
                let mut summary = self.summary;
                summary.bytes = self.offset;
                return Ok(summary);
            }
            State::BlockType => {
                let first = self.blocks.values().find(|block| !block.seen);
                return Err(ArchiveError::Missing {
                    offset: self.offset,
                    first: first.map(|block| self.item(block)).unwrap_or_default(),
                    missing: self.outstanding,
                });
            }
            State::Header(_) if self.offset == 0 => "its header: the stream is empty".to_owned(),
            State::Header(_) => "its header".to_owned(),
            State::TocSize => "its contents".to_owned(),
            State::Toc { reader, .. } if reader.is_partial() => reader.place(),
            State::Toc { .. } => "its contents".to_owned(),
            State::BlockId { .. } => "the start of a data block".to_owned(),
            State::Rows(table) => format!("the rows of {}", self.table_name(table.index)),
            State::LargeObjects => "the large objects".to_owned(),
            State::LargeObject(object) => format!("large object {}", object.oid),
            State::Failed => return Err(ArchiveError::AfterError),
        };
        Err(ArchiveError::Truncated { offset: self.offset, within })
    }

    /// Reads one value, or a piece of data: the state after it, or `None` if bytes are missing.
    fn step(
        &mut self,
        cursor: &mut Cursor<'_>,
        observer: &mut impl Observer,
    ) -> Result<Option<State>, ArchiveError> {
        let width = self.header.int_width;
        match &mut self.state {
            State::Header(reader) => {
                let Some(header) = reader.read(cursor).transpose()? else { return Ok(None) };
                self.start(header);
                Ok(Some(State::TocSize))
            }
            State::TocSize => {
                let Some(size) = self.fixed.int(cursor, width) else { return Ok(None) };
                let left = size.and_then(|size| u64::try_from(size).ok());
                let left = left.ok_or_else(|| ArchiveError::Header {
                    what: "its number of entries".to_owned(),
                })?;
                Ok(Some(if left == 0 {
                    State::BlockType
                } else {
                    State::Toc { reader: Box::default(), left }
                }))
            }
            State::Toc { .. } => self.toc(cursor, observer),
            State::BlockType => {
                let start = cursor.offset;
                let Some(kind) = cursor.take(1).first().copied() else { return Ok(None) };
                if self.outstanding == 0 {
                    return Err(ArchiveError::Trailing { offset: start });
                }
                Ok(Some(State::BlockId { kind, start }))
            }
            State::BlockId { kind, start } => {
                let (kind, start) = (*kind, *start);
                let Some(id) = self.fixed.int(cursor, width) else { return Ok(None) };
                self.open_block(kind, start, id, observer).map(Some)
            }
            State::Rows(_) => self.rows(cursor, observer),
            State::LargeObjects => {
                let Some(oid) = self.fixed.int(cursor, width) else { return Ok(None) };
                let at = start_of_int(cursor, width);
                // An object id is written as a signed integer, so half of them are negative.
                let oid = oid
                    .filter(|oid| (-(1 << 31)..1 << 32).contains(oid))
                    .map(|oid| (oid & 0xffff_ffff).cast_unsigned());
                let Some(oid) = oid.and_then(|oid| u32::try_from(oid).ok()) else {
                    return Err(damaged_data("the large objects", at, "an impossible object id"));
                };
                if oid == 0 {
                    return Ok(Some(State::BlockType));
                }
                let mut hasher = blake3::Hasher::new_keyed(&self.key);
                hasher.update(&oid.to_le_bytes());
                Ok(Some(State::LargeObject(Box::new(LargeObject {
                    oid,
                    hasher,
                    bytes: 0,
                    chunk: 0,
                }))))
            }
            State::LargeObject(object) => {
                let used = large_object(
                    object,
                    cursor,
                    &mut self.fixed,
                    width,
                    &mut self.summary.large_objects,
                )?;
                Ok(used.then_some(State::LargeObjects))
            }
            State::Failed => Err(ArchiveError::AfterError),
        }
    }

    fn start(&mut self, header: Header) {
        let (major, minor, revision) = header.version;
        self.summary.archive_version = format!("{major}.{minor}.{revision}");
        self.summary.server_version.clone_from(&header.server_version);
        self.summary.dump_version.clone_from(&header.dump_version);
        self.summary.database.clone_from(&header.database);
        self.summary.created.clone_from(&header.created);
        self.header = header;
    }

    fn toc(
        &mut self,
        cursor: &mut Cursor<'_>,
        observer: &mut impl Observer,
    ) -> Result<Option<State>, ArchiveError> {
        loop {
            let State::Toc { reader, left } = &mut self.state else { return Ok(None) };
            let number = reader.number;
            let Some(entry) = reader.read(cursor, &self.header, &self.key).transpose()? else {
                return Ok(None);
            };
            *left -= 1;
            let done = *left == 0;
            if done {
                self.summary.definitions = reader.definitions;
            }
            observer.toc_entry(&entry);
            self.list(entry, number, cursor.offset)?;
            if done {
                return Ok(Some(State::BlockType));
            }
        }
    }

    /// Remembers of an entry what will be needed.
    fn list(&mut self, entry: TocEntry, number: u64, offset: u64) -> Result<(), ArchiveError> {
        self.summary.toc_entries += 1;
        let damaged = |what: String| ArchiveError::Toc { entry: number, offset, what };
        *self.summary.kinds.entry(entry.kind.clone()).or_default() += 1;
        if self.summary.kinds.len() > MAX_KINDS {
            return Err(damaged(format!("more than {MAX_KINDS} kinds of entries")));
        }
        match entry.kind.as_str() {
            "ENCODING" => {
                self.summary.encoding = entry.definition.split('\'').nth(1).map(str::to_owned);
            }
            "DATABASE" => self.summary.create_database = Some(entry.definition),
            _ => {}
        }
        if !entry.has_data {
            return Ok(());
        }
        let kind = match entry.kind.as_str() {
            "TABLE DATA" => BLOCK_ROWS,
            "BLOBS" => BLOCK_LARGE_OBJECTS,
            other => return Err(damaged(format!("data of the unknown kind {other}"))),
        };
        let table = self.summary.tables.len();
        if kind == BLOCK_ROWS {
            if entry.copy.is_empty() {
                return Err(ArchiveError::Inserts { table: full_name(&entry.schema, &entry.name) });
            }
            let columns = columns(&entry.copy, &entry.schema, &entry.name);
            let (schema, name, dump_id) = (entry.schema, entry.name, entry.dump_id);
            self.summary.tables.push(TableDigest {
                schema,
                name,
                columns,
                dump_id,
                ..TableDigest::default()
            });
        }
        if self.blocks.insert(entry.dump_id, Block { kind, seen: false, table }).is_some() {
            return Err(damaged(format!("dump id {} a second time", entry.dump_id)));
        }
        self.outstanding += 1;
        Ok(())
    }

    fn open_block(
        &mut self,
        kind: u8,
        start: u64,
        id: Option<i64>,
        observer: &mut impl Observer,
    ) -> Result<State, ArchiveError> {
        let damaged = |what: String| ArchiveError::Block { offset: start, what };
        if kind != BLOCK_ROWS && kind != BLOCK_LARGE_OBJECTS {
            return Err(damaged(format!(
                "its type is {kind}, where 1 (rows) or 3 (large objects) must stand"
            )));
        }
        let id = id
            .and_then(|id| i32::try_from(id).ok())
            .ok_or_else(|| damaged("an impossible id".to_owned()))?;
        let Some(block) = self.blocks.get_mut(&id) else {
            return Err(damaged(format!("the contents don't list its id {id}")));
        };
        if block.kind != kind {
            return Err(damaged(format!("its type is {kind}, the contents say {}", block.kind)));
        }
        if block.seen {
            return Err(damaged(format!("id {id} comes a second time")));
        }
        block.seen = true;
        self.outstanding -= 1;
        if kind == BLOCK_LARGE_OBJECTS {
            return Ok(State::LargeObjects);
        }
        let index = block.table;
        if let Some(table) = self.summary.tables.get(index) {
            observer.table_start(table);
        }
        Ok(State::Rows(Box::new(Table { index, start, rows: Rows::default(), chunk: 0 })))
    }

    fn rows(
        &mut self,
        cursor: &mut Cursor<'_>,
        observer: &mut impl Observer,
    ) -> Result<Option<State>, ArchiveError> {
        let State::Rows(table) = &mut self.state else { return Ok(None) };
        let named = |what: &str, at: u64, tables: &[TableDigest]| {
            let name = tables.get(table.index).map(TableDigest::full_name).unwrap_or_default();
            damaged_data(&format!("table {name}"), at, what)
        };
        // Chunks are as small as a row with older programs, so this loop is hot: it never leaves for the state machine.
        loop {
            if table.chunk == 0 {
                let Some(length) = self.fixed.int(cursor, self.header.int_width) else {
                    return Ok(None);
                };
                let at = start_of_int(cursor, self.header.int_width);
                let Some(length) = length.and_then(|length| u64::try_from(length).ok()) else {
                    return Err(named("an impossible chunk length", at, &self.summary.tables));
                };
                if length == 0 {
                    break;
                }
                table.chunk = length;
            }
            let at = cursor.offset;
            let piece = cursor.take(table.chunk);
            if piece.is_empty() {
                return Ok(None);
            }
            table.chunk -= piece.len() as u64;
            if let Err(bad) = table.rows.feed(&self.key, piece, at, observer) {
                let at = if let BadRows::AfterEnd(at) = bad { at } else { at };
                return Err(named("data after the end of the rows", at, &self.summary.tables));
            }
        }
        if table.rows.finish().is_err() {
            return Err(named(
                "the rows stop without the line that ends them",
                cursor.offset,
                &self.summary.tables,
            ));
        }
        if let Some(digest) = self.summary.tables.get_mut(table.index) {
            digest.set = table.rows.set;
            digest.bytes = table.rows.bytes;
            digest.start = table.start;
            digest.end = cursor.offset;
            observer.table_end(digest);
        }
        Ok(Some(State::BlockType))
    }

    fn item(&self, block: &Block) -> String {
        if block.kind == BLOCK_ROWS {
            self.table_name(block.table)
        } else {
            "the large objects".to_owned()
        }
    }

    fn table_name(&self, index: usize) -> String {
        self.summary
            .tables
            .get(index)
            .map(|table| format!("table {}", table.full_name()))
            .unwrap_or_default()
    }
}
