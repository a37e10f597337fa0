//! Snapshots that are whole, and yet not what they should be.

use keephold_vault::content::Content;
use keephold_vault::record::{DatabaseReport, JobKind, PgReport, SourceReport};
use keephold_vault::testing::{entry, noise};
use keephold_vault::tree::{Entry, EntryKind};

use super::{Bench, codes};
use crate::report::catalogue as code;
use crate::report::model::Level;
use crate::settings::Depth;

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_tree_is_told() {
    let mut bench = Bench::new().await;
    bench.run(vec![entry("srv", EntryKind::Directory).unwrap()], 1).await;
    assert_eq!(bench.found().await, (vec![code::TREE_EMPTY.id.into()], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_shrank_is_told() {
    let mut bench = Bench::with_runs().await;
    let entries = bench.files(7, 140_000).await;
    bench.run(entries, 0).await;
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::SHRUNK.id]);
    assert_eq!(report.findings[0].resource, "db1/files #3");
    bench.settings.max_shrink_percent = 60;
    assert_eq!(bench.found().await, (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_grew_tenfold_is_told() {
    let mut bench = Bench::with_runs().await;
    // 600 kB before: nine times as much and some is plausible, and so is tenfold of little.
    let entries = bench.files(7, 3_500_000).await;
    bench.run(entries, 0).await;
    assert_eq!(bench.found().await, (vec![], 0));
    let mut bench = Bench::with_runs().await;
    let entries = bench.files(7, 10_000_000).await;
    bench.run(entries, 0).await;
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::GROWN.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_no_longer_compresses_is_told_and_one_that_never_did_is_not() {
    // Of what was new, in bytes, and stored; the last run's must be told of if its first run compressed.
    let first = |stored| (2 << 20, stored);
    for (before, now, told) in [
        (first(600_000), (2 << 20, 2 << 20), true),
        (first(2 << 20), (2 << 20, 2 << 20), false),
        (first(600_000), (2 << 20, 900_000), false),
        // Little was new: a photograph was added.
        (first(600_000), (1_000, 1_000), false),
    ] {
        let mut bench = Bench::new().await;
        for (hours_ago, (new, stored)) in [(3, before), (2, (0, 0)), (1, now)] {
            let entries = bench.files(7, 1 << 20).await;
            let mut record = bench.record(entries, hours_ago).await;
            (record.totals.bytes_new, record.totals.bytes_stored) = (new, stored);
            bench.maker.store_record(&record).await.unwrap();
            bench.maker.next_run().await.unwrap();
        }
        let report = bench.verify().await;
        assert_eq!(
            codes(&report).contains(&code::ENTROPY.id.to_owned()),
            told,
            "{before:?} {now:?}"
        );
    }
}

/// A server's snapshot with one database, whose dump is `dump`.
async fn server(dump: Content, bench: &mut Bench) -> Vec<String> {
    let globals = bench.maker.content(b"-- roles").await.unwrap();
    let tables = bench.maker.content(b"{}").await.unwrap();
    let file = |path: &str, content| entry(path, EntryKind::File(content)).unwrap();
    let folder = |path: &str| entry(path, EntryKind::Directory).unwrap();
    let entries: Vec<Entry> = vec![
        folder("databases"),
        folder("databases/shop"),
        file("databases/shop/dump.pgdump", dump),
        file("databases/shop/tables.json", tables),
        file("globals.sql", globals),
    ];
    let mut record = bench.record(entries, 1).await;
    record.kind = JobKind::Postgres;
    let database = DatabaseReport {
        name: "shop".into(),
        dump: "databases/shop/dump.pgdump".into(),
        tables_path: "databases/shop/tables.json".into(),
        dump_bytes: 9,
        database_bytes: 9,
        tables: 1,
        rows: 1,
        large_objects: 0,
        duration_ms: 1,
    };
    let report = PgReport {
        server_version: "15.1".into(),
        databases: vec![database],
        ..PgReport::default()
    };
    record.source = Some(SourceReport::Postgres(Box::new(report)));
    bench.maker.store_record(&record).await.unwrap();
    bench.settings.depth = Depth::Content;
    assert!(bench.settings.depth.holds(Level::Content));
    bench.found().await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_dump_is_told() {
    let mut bench = Bench::new().await;
    assert_eq!(server(Content::empty(), &mut bench).await, [code::DUMP_EMPTY.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_dump_is_told() {
    let mut bench = Bench::new().await;
    let dump = bench.maker.content(&noise(3, 5000)).await.unwrap();
    assert_eq!(server(dump, &mut bench).await, [code::DUMP_INCOMPLETE.id]);
}
