//! Tables of which blob lies where: few, sorted, merged as they grow.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;

use super::{Known, LockState};
use crate::error::Error;
use crate::ids::{BlobId, SegmentId};
use crate::read::concerns_object;
use crate::write::table::{self, Row, Table};

/// So many tables of like size are merged. Each row is then written again once for each time that a vault has grown to
/// so much more, and there are fewer than this of each size to search.
const ALIKE: usize = 4;

/// How many tables may turn out damaged, one after the other, before that is an error.
const TABLES_MAX: usize = 64;

impl Known {
    /// Opens the tables, and makes one of the segments that are in none.
    pub(super) fn open_tables(&mut self, numbers: &[u32]) -> Result<(), Error> {
        for _ in 0..TABLES_MAX {
            self.tables.clear();
            match self.try_tables(numbers) {
                // The damaged table is gone, and what it told is in none now.
                Err(error) if is_damaged_table(&error) => tracing::warn!("{error}"),
                result => return result,
            }
        }
        self.tables.clear();
        self.try_tables(numbers)
    }

    fn try_tables(&mut self, numbers: &[u32]) -> Result<(), Error> {
        let folder = self.dir.join("tables");
        let entries =
            fs::read_dir(&folder).map_err(Error::local(format!("reading {}", folder.display())))?;
        let mut paths: Vec<_> = entries
            .flatten()
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| entry.path())
            .collect();
        // Folders are listed in no order; of equal tables the same is asked first each time.
        paths.sort();
        let mut covered: HashSet<SegmentId> = HashSet::new();
        let mut tables: Vec<Table> = Vec::new();
        for path in paths {
            let Some(table) = Table::open(&path) else { continue };
            if table.segments().iter().any(|id| self.numbers.contains_key(id)) {
                covered.extend(table.segments());
                tables.push(table);
            } else {
                let _ = fs::remove_file(table.path());
            }
        }
        for &number in numbers {
            let segment = &self.segments[number as usize];
            if covered.contains(&segment.id) {
                continue;
            }
            match self.tabulate(segment.id) {
                // At once, or a fresh cache of a large vault would hold a file open for each segment.
                Ok(table) => {
                    tables.push(table);
                    tables = self.merged(tables)?;
                }
                Err(error) if concerns_object(&error) => {
                    tracing::warn!(%error, "an index segment is passed over; what it describes may be stored again");
                }
                Err(error) => return Err(error),
            }
        }
        self.merge(tables)
    }

    /// Makes a table of one segment from its copy.
    fn tabulate(&self, id: SegmentId) -> Result<Table, Error> {
        let (open, bytes) = self.copy_of(&id)?;
        let rows = open.blob_rows(&bytes);
        self.write_table(
            &[id],
            open.blobs().into(),
            rows.map(|r| r.map(|r| Row { id: r.id, segment: 0, pack: r.pack })),
        )
    }

    pub(super) fn write_table(
        &self,
        segments: &[SegmentId],
        most: u64,
        rows: impl IntoIterator<Item = Result<Row, Error>>,
    ) -> Result<Table, Error> {
        let name: [u8; 12] = crate::keys::random()?;
        let path = self.dir.join("tables").join(hex::encode(name));
        table::write(&path, segments, most, rows)
    }

    /// Merges tables of like size, and takes them into use.
    pub(super) fn merge(&mut self, tables: Vec<Table>) -> Result<(), Error> {
        for table in self.merged(tables)? {
            self.use_table(table);
        }
        Ok(())
    }

    /// Merges tables of like size, so that there are few to search and to hold open.
    fn merged(&self, mut tables: Vec<Table>) -> Result<Vec<Table>, Error> {
        loop {
            tables.sort_by_key(|table| std::cmp::Reverse(table.rows()));
            let mut alike = tables.chunk_by(|a, b| size_of(a) == size_of(b)).rev();
            let Some(alike) = alike.find(|alike| alike.len() >= ALIKE) else { return Ok(tables) };
            let merged = self.merge_all(alike)?;
            let old: Vec<PathBuf> = alike.iter().map(|table| table.path().to_owned()).collect();
            tables.retain(|table| !old.iter().any(|path| path == table.path()));
            for path in old {
                let _ = fs::remove_file(path);
            }
            tables.push(merged);
        }
    }

    fn merge_all(&self, tables: &[Table]) -> Result<Table, Error> {
        let mut segments: Vec<SegmentId> = Vec::new();
        let mut at: HashMap<SegmentId, u32> = HashMap::new();
        // Each segment's number in the new table, and in this run.
        let mut renumber = |table: &Table| -> Vec<Option<(u32, u32)>> {
            let number = |id: &SegmentId| {
                let number = *self.numbers.get(id)?;
                let at = *at.entry(*id).or_insert_with(|| {
                    segments.push(*id);
                    u32::try_from(segments.len() - 1).unwrap_or(u32::MAX)
                });
                Some((at, number))
            };
            table.segments().iter().map(number).collect()
        };
        // What lies in packs that are gone is left out.
        let live = |map: Vec<Option<(u32, u32)>>| {
            move |row: Result<Row, Error>| match row {
                Ok(row) => {
                    let (segment, number) = map.get(row.segment as usize).copied().flatten()?;
                    let lock = self.segments[number as usize].packs.get(row.pack as usize);
                    (lock != Some(&LockState::GONE)).then_some(Ok(Row { segment, ..row }))
                }
                Err(error) => Some(Err(error)),
            }
        };
        let inputs = tables.iter().map(|table| table.iter().filter_map(live(renumber(table))));
        let mut inputs: Vec<_> = inputs.map(Iterator::peekable).collect();
        let mut next = move || {
            // An error before all rows, and of equal ids the first table's.
            let heads = inputs.iter_mut().enumerate();
            let heads =
                heads.filter_map(|(n, rows)| Some((rows.peek()?.as_ref().ok().map(|r| r.id), n)));
            let (_, least) = heads.min()?;
            inputs[least].next()
        };
        // A blob that was stored several times stays known in all places: one may be gone, or sealed to others.
        let mut last: Option<BlobId> = None;
        let mut places: Vec<(u32, u32)> = Vec::new();
        let rows = std::iter::from_fn(|| {
            loop {
                let row = match next()? {
                    Ok(row) => row,
                    error => return Some(error),
                };
                if last.replace(row.id) != Some(row.id) {
                    places.clear();
                }
                if !places.contains(&(row.segment, row.pack)) {
                    places.push((row.segment, row.pack));
                    return Some(Ok(row));
                }
            }
        });
        self.write_table(&segments, tables.iter().map(Table::rows).sum(), rows)
    }

    fn use_table(&mut self, table: Table) {
        let numbers = table.segments().iter().map(|id| self.numbers.get(id).copied()).collect();
        self.tables.push((table, numbers));
    }
}

/// In which class a table is by its size: from one to the next, tables grow by as many times as there may be of a class.
fn size_of(table: &Table) -> u32 {
    table.rows().max(1).ilog(ALIKE as u64)
}

/// Whether a table of this cache was found damaged, and was removed.
pub(super) fn is_damaged_table(error: &Error) -> bool {
    matches!(error, Error::Local { source, .. } if source.kind() == std::io::ErrorKind::InvalidData)
}
