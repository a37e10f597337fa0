//! What no run needs: explained by expired runs, by draining, by runs that may be under way; or by nothing.

use bytes::Bytes;
use keephold_vault::ids::{PackId, SegmentId};
use keephold_vault::store::{ObjectKey, Store};

use super::*;
use crate::report::catalogue as code;
use crate::report::model::{Finding, Left, Severity, Unneeded};

async fn looked_at(bench: &Bench) -> (Unneeded, Vec<Finding>) {
    let report = bench.verify().await;
    let named = report.findings.into_iter().filter(|f| f.code == code::UNEXPLAINED.id).collect();
    (report.objects.unneeded.unwrap(), named)
}

/// Puts an object of so many bytes that begins so, as whoever has a credential can.
async fn put(bench: &Bench, key: ObjectKey, beginning: &[u8], length: usize, days_ago: i64) {
    let mut body = noise(7, length);
    body[..beginning.len()].copy_from_slice(beginning);
    bench.maker.store.set_clock(ago(24 * days_ago));
    let until = Timestamp::now() + SignedDuration::from_hours(24);
    bench.maker.store.put(&key, Bytes::from(body), until).await.unwrap();
    bench.maker.store.set_clock(Timestamp::now());
}

fn pack(n: u8) -> ObjectKey {
    ObjectKey::pack(&PackId::from_bytes([n; 32]))
}

/// How an object of this vault begins.
fn beginning(bench: &Bench, magic: &[u8; 8]) -> Vec<u8> {
    [&magic[..], bench.maker.config.id.as_bytes()].concat()
}

async fn bench() -> Bench {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Presence;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_runs_and_draining_left_is_counted_and_no_finding() {
    let mut bench = bench().await;
    assert_eq!(looked_at(&bench).await, (Unneeded::default(), vec![]));
    let entries = bench.files(9, 100_000).await;
    let mut record = bench.record(entries, 3).await;
    let drained = record.snapshot.as_ref().unwrap().segments[0].id;
    record.retention.expires = ago(1);
    bench.maker.store_record(&record).await.unwrap();
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.expired.packs, counts.expired.segments), (1, 1));
    assert!(counts.expired.bytes > 100_000 && named.is_empty(), "{counts:?}");

    // A later run needs the segment, and none of its packs any more.
    let entries = bench.files(0, 300_000).await;
    let mut record = bench.record(entries, 0).await;
    for segment in &mut record.snapshot.as_mut().unwrap().segments {
        if segment.id == drained {
            segment.used = keephold_vault::record::PackSet::default();
        }
    }
    bench.maker.store_record(&record).await.unwrap();
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.expired.packs, counts.expired.segments), (1, 0), "{counts:?}");
    assert_eq!(
        (counts.unfinished, counts.foreign, named),
        (Left::default(), Left::default(), vec![])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_under_good_names_is_named_at_once() {
    let bench = bench().await;
    for n in 0..3 {
        put(&bench, pack(n), b"", 900_000, 0).await;
    }
    let segment = ObjectKey::segment(&SegmentId::from_bytes([1; 32]));
    put(&bench, segment.clone(), &beginning(&bench, b"KHINDX01"), 5000, 0).await;
    put(&bench, ObjectKey::segment(&SegmentId::from_bytes([2; 32])), b"", 3, 0).await;
    let (counts, named) = looked_at(&bench).await;
    let foreign = Left { packs: 3, segments: 2, bytes: 2_705_003 };
    assert_eq!(counts, Unneeded { foreign, ..Unneeded::default() });
    assert_eq!((named.len(), named[0].severity), (1, Severity::High));
    assert!(named[0].summary.contains("3 packs and 2 index segments"), "{}", named[0].summary);
    assert!(named[0].detail.as_ref().unwrap().contains(segment.as_str()), "{:?}", named[0].detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_no_segment_describes_are_told_by_their_age_and_number() {
    let bench = bench().await;
    let begins = beginning(&bench, b"KHPACK01");
    for n in 0..200 {
        put(&bench, pack(n), &begins, 100, 0).await;
    }
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.recent.packs, counts.unfinished.packs, named), (200, 0, vec![]));
    for n in 0..128 {
        bench.maker.store.lose(&pack(n));
        put(&bench, pack(n), &begins, 100, 8).await;
    }
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.recent.packs, counts.unfinished.packs), (72, 128));
    assert_eq!(named, vec![], "one lost run may have left these");
    put(&bench, pack(250), &begins, 100, 8).await;
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.unfinished.packs, named.len()), (129, 1));
    assert_eq!(named[0].severity, Severity::Warning);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_this_vault_that_no_record_names_is_no_junk_and_one_of_another_secret_is() {
    let mut bench = bench().await;
    bench.files(5, 200_000).await;
    bench.maker.close_segment().await.unwrap();
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.recent.packs, counts.recent.segments, named), (1, 1, vec![]));
    // Whoever knows the recipients can seal to them.
    bench.maker.forge_secret().await.unwrap();
    bench.files(6, 200_000).await;
    bench.maker.close_segment().await.unwrap();
    let (counts, named) = looked_at(&bench).await;
    assert_eq!((counts.foreign.segments, named.len()), (1, 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_where_only_some_jobs_are_looked_at() {
    let mut bench = bench().await;
    put(&bench, pack(1), b"", 100, 0).await;
    bench.settings.only = vec![("db1".into(), "files".into())];
    let report = bench.verify().await;
    assert_eq!((report.objects.unneeded, report.findings), (None, vec![]));
}
