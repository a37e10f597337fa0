//! Where blobs lie, as runs note it: held against what the vault's index says.

use super::*;
use crate::ids::{BlobId, SegmentId};
use crate::write::known::Lookup;

/// Feeds a run with blobs; answers their ids, and what was noted of each.
async fn noted(
    bench: &Bench,
    whom: &Reader,
    blobs: Vec<Vec<u8>>,
) -> (Vec<BlobId>, Vec<(Option<(SegmentId, u32)>, u32)>) {
    let mut writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let at = bench.cache.path().join("places");
    let (writer, ids) = blocking(move || {
        writer.note_places(&at).unwrap();
        let mut ids = Vec::new();
        for (n, blob) in blobs.iter().enumerate() {
            ids.push(writer.add(BlobKind::Data, blob).unwrap());
            // Nodes lie among them, but belong to no content.
            writer.add(BlobKind::Tree, format!("node {n}").as_bytes()).unwrap();
        }
        assert_eq!(writer.noted(), ids.len() as u64);
        (writer, ids)
    })
    .await;
    let until = Timestamp::now() + LONG;
    let (written, known) = writer.finish(until, until).await.unwrap();
    let mut places = written.places.unwrap();
    let mut found = Vec::new();
    for _ in &ids {
        let (pack, length) = places.next_place().unwrap();
        found.push((pack.and_then(|pack| known.name(pack)), length));
    }
    assert!(places.next_place().is_err());
    (ids, found)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_is_where_blobs_lie() {
    let (bench, _) = Bench::in_memory().await;
    let whom = reader();
    // Some come again soon, some late, some not; the second run knows half of them.
    let blob = |n: u64| noise(n % 1_900, 20 + (n % 7) as usize * 4_000);
    let first: Vec<_> = (0..4_000).map(blob).collect();
    let second: Vec<_> = (1_000..3_000).map(|n| noise(n, 20 + (n % 7) as usize * 4_000)).collect();
    for blobs in [first, second] {
        let (ids, found) = noted(&bench, &whom, blobs.clone()).await;
        let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
        blocking(move || {
            let mut writer = writer;
            let known = writer.known();
            for ((id, (place, length)), blob) in ids.iter().zip(found).zip(&blobs) {
                let Lookup::Held(pack) = known.look(id).unwrap() else { panic!("{id} isn't held") };
                assert_eq!((place, length as usize), (known.name(pack), blob.len()));
            }
        })
        .await;
    }
}

/// As many tables as runs would be searched, and held open, for each blob.
#[tokio::test(flavor = "multi_thread")]
async fn many_runs_leave_few_tables_that_know_all() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let mut files = Files::new();
    for n in 0..70u64 {
        files.push(plain(&format!("f{n:02}"), noise(n, 2_000)));
        let run = bench.run(&whom, &files).await.unwrap();
        // One file of at most a few chunks, and the nodes above it.
        assert!(run.new < 12_000, "run {n} stores {} bytes", run.new);
        let tables = bench.cached("tables").len();
        assert!(tables <= 12, "{tables} tables after run {n}");
    }
}
