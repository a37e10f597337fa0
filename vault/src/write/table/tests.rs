//! Tables of known blobs: what is found, how many blocks that takes, and what damage does.

use super::*;
use crate::keys::random;

fn rows_of(n: u32) -> Vec<Row> {
    let mut rows: Vec<_> = (0..n)
        .map(|pack| Row { id: BlobId::from_bytes(random().unwrap()), segment: pack % 3, pack })
        .collect();
    rows.sort_by_key(|row| row.id);
    rows
}

fn write_all(path: &Path, rows: &[Row]) -> Result<Table, Error> {
    let made = rows.iter().copied().map(Ok);
    write(path, &[SegmentId::from_bytes([7; 32])], rows.len() as u64, made)
}

/// A table of so many rows, in a folder that lasts as long as the first of these.
fn table_of(n: u32) -> (tempfile::TempDir, Table, Vec<Row>) {
    let dir = tempfile::tempdir().unwrap();
    let (path, rows) = (dir.path().join("t"), rows_of(n));
    let table = write_all(&path, &rows).unwrap();
    (dir, table, rows)
}

#[test]
fn every_row_is_found_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for n in [0, 1, 126, 127, 128, 50_000] {
        let path = dir.path().join(n.to_string());
        let rows = rows_of(n);
        write_all(&path, &rows).unwrap();
        let table = Table::open(&path).unwrap();
        for row in &rows {
            assert_eq!(table.find(&row.id).unwrap(), [*row]);
        }
        for _ in 0..1000 {
            assert_eq!(table.find(&BlobId::from_bytes(random().unwrap())).unwrap(), []);
        }
        assert_eq!(table.find(&BlobId::from_bytes([0; 24])).unwrap(), []);
        assert_eq!(table.find(&BlobId::from_bytes([0xff; 24])).unwrap(), []);
        assert_eq!(table.iter().collect::<Result<Vec<_>, _>>().unwrap(), rows);
    }
    assert!(
        !std::fs::read_dir(dir.path())
            .unwrap()
            .any(|e| { e.unwrap().file_name().to_string_lossy().starts_with(".tmp") })
    );
}

#[test]
fn whoever_asks_in_order_reads_each_block_about_once() {
    let (_dir, table, rows) = table_of(100_000);
    for row in &rows {
        assert_eq!(table.find(&row.id).unwrap(), [*row]);
    }
    let reads = table.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reads < table.blocks() * 3, "{reads} reads of {} blocks", table.blocks());
}

#[test]
fn what_is_not_there_is_hardly_ever_looked_for() {
    let (_dir, table, rows) = table_of(100_000);
    for _ in 0..10_000 {
        assert_eq!(table.find(&BlobId::from_bytes(random().unwrap())).unwrap(), []);
    }
    let reads = table.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!((50..400).contains(&reads), "{reads} reads for 10,000 ids");
    // As it was written, and as it comes back; and a damaged filter hides nothing.
    let at = usize::try_from(table.blocks()).unwrap() * BLOCK;
    for damage in [0, 1] {
        let mut bytes = std::fs::read(table.path()).unwrap();
        bytes[at + 7] ^= damage;
        std::fs::write(table.path(), bytes).unwrap();
        let again = Table::open(table.path()).unwrap();
        assert_eq!(again.filter().is_some(), damage == 0);
        assert!(rows.iter().all(|row| again.find(&row.id).unwrap() == [*row]));
    }
}

/// A table without its filter, as very large ones are.
fn unfiltered(table: Table) -> Table {
    Table { filter: None.into(), ..table }
}

#[test]
fn whoever_asks_in_any_order_reads_two_blocks_or_so() {
    let (_dir, table, _) = table_of(1_000_000);
    let table = unfiltered(table);
    for _ in 0..10_000 {
        assert_eq!(table.find(&BlobId::from_bytes(random().unwrap())).unwrap(), []);
    }
    let reads = table.reads.load(std::sync::atomic::Ordering::Relaxed);
    // Going on block by block from the first guess took 39,000.
    assert!(reads < 25_000, "{reads} reads for 10,000 ids");
}

#[test]
fn a_table_that_another_run_has_merged_and_removed_meanwhile_still_answers() {
    let (_dir, table, rows) = table_of(300);
    std::fs::remove_file(table.path()).unwrap();
    assert!(rows.iter().all(|row| table.find(&row.id).unwrap() == [*row]));
}

#[test]
fn a_blob_in_many_places_is_found_in_all() {
    let dir = tempfile::tempdir().unwrap();
    for (ids, copies) in [(1, 1000), (3, 127), (50, 9), (254, 2)] {
        let path = dir.path().join(format!("{ids}-{copies}"));
        let mut rows = Vec::new();
        for row in rows_of(ids) {
            rows.extend((0..copies).map(|pack| Row { pack, ..row }));
        }
        write_all(&path, &rows).unwrap();
        let table = Table::open(&path).unwrap();
        for same in rows.chunks(copies as usize) {
            assert_eq!(table.find(&same[0].id).unwrap(), same);
        }
    }
}

#[test]
fn what_is_in_a_damaged_block_is_not_believed_and_what_is_not_in_it_costs_no_hash() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rows) = (dir.path().join("t"), rows_of(100));
    write_all(&path, &rows).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The number of the pack, which nothing else would show to be wrong.
    bytes[ROW * 5 + 28] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let table = unfiltered(Table::open(&path).unwrap());
    assert_eq!(table.find(&BlobId::from_bytes(random().unwrap())).unwrap(), []);
    assert!(path.exists());
    assert!(table.find(&rows[5].id).is_err());
    assert!(!path.exists());
}

#[test]
fn a_damaged_table_never_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let rows = rows_of(300);
    write_all(&path, &rows).unwrap();
    let sound = std::fs::read(&path).unwrap();
    for at in [0, 4000, 4095, 4096, 9000, sound.len() - 1, sound.len() - 40] {
        let mut bad = sound.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let answered = Table::open(&path).is_some_and(|t| {
            rows.iter().all(|row| t.find(&row.id).is_ok()) && t.iter().all(|row| row.is_ok())
        });
        assert!(!answered, "byte {at}");
    }
    std::fs::write(&path, &sound[..5000]).unwrap();
    assert!(Table::open(&path).is_none());
}
