//! Runs that fail, are abandoned or dropped: nothing is referenced that isn't there, and little is sent again.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::*;
use crate::store::{Listed, Lock, Prefix, Protection, Stored, Version, VersionId};
use crate::write::known::Lookup;

/// A store that does something else than it should at one of its writes.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<MemoryStore>,
    /// Only writes below this prefix count.
    prefix: &'static str,
    writes: AtomicUsize,
    at: usize,
    does: Does,
}

/// What it does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Fails,
    Panics,
    /// Takes so long that others arrive before, and then writes.
    Dawdles,
    /// Takes as long, and then fails.
    FailsLate,
}

impl Faulty {
    pub(super) fn over(inner: &Arc<MemoryStore>, prefix: &'static str, at: usize) -> Self {
        Self { inner: inner.clone(), prefix, writes: AtomicUsize::new(0), at, does: Does::Fails }
    }
}

#[async_trait]
impl Store for Faulty {
    fn url(&self) -> String {
        self.inner.url()
    }
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        until: Timestamp,
    ) -> Result<Stored, StoreError> {
        if key.as_str().starts_with(self.prefix)
            && self.writes.fetch_add(1, Ordering::SeqCst) == self.at
        {
            assert!(self.does != Does::Panics, "this store panics on purpose");
            if matches!(self.does, Does::Dawdles | Does::FailsLate) {
                tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            }
            if self.does != Does::Dawdles {
                return Err(StoreError::Full { target: self.url(), detail: "on purpose".into() });
            }
        }
        self.inner.put(key, body, until).await
    }
    async fn get(
        &self,
        key: &ObjectKey,
        v: Option<&VersionId>,
        max: u64,
    ) -> Result<Bytes, StoreError> {
        self.inner.get(key, v, max).await
    }
    async fn get_range(
        &self,
        key: &ObjectKey,
        v: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, v, range).await
    }
    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>> {
        self.inner.list(prefix)
    }
    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>> {
        self.inner.list_versions(prefix)
    }
    async fn retention(
        &self,
        key: &ObjectKey,
        v: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        self.inner.retention(key, v).await
    }
    async fn extend(
        &self,
        key: &ObjectKey,
        v: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError> {
        self.inner.extend(key, v, until).await
    }
    async fn protection(&self) -> Result<Protection, StoreError> {
        self.inner.protection().await
    }
    fn clock_offset_ms(&self) -> Option<i64> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_abandoned_run_has_sent_is_used_again() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), some_files());
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let (writer, _) = feed(writer, files.clone()).await.unwrap();
    writer.abandon().await.unwrap();
    assert_eq!(kinds_of(&memory.keys(), "index/"), 1);
    let run = bench.run(&whom, &files).await.unwrap();
    assert!(run.written.packs_reused >= 1 && run.new < 3 << 20, "{} bytes again", run.new);
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_left_is_made_an_index() {
    for other in [false, true] {
        let (mut bench, memory) = Bench::in_memory().await;
        let (whom, next, files) = (reader(), reader(), some_files());
        // The index can't be written: packs are there, but only the journal knows.
        let faulty = Faulty::over(&memory, "index/", 0);
        bench.store = Arc::new(faulty);
        let error = bench.run(&whom, &files).await.err().unwrap();
        assert!(matches!(error, Error::Store(StoreError::Full { .. })), "{error}");
        assert_eq!(bench.cached("journal").len(), 1);
        let packs = kinds_of(&memory.keys(), "packs/");
        assert!(packs >= 2);
        bench.store = memory.clone();
        let whom = if other { next } else { whom };
        let run = bench.run(&whom, &files).await.unwrap();
        bench.compare(&whom, &run.key, &files).await;
        if other {
            // Sealed to somebody else.
            assert_eq!(run.written.packs_reused, 0);
        } else {
            assert_eq!((run.new, kinds_of(&memory.keys(), "packs/")), (0, packs));
        }
        assert!(bench.cached("journal").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_dropped_does_no_harm() {
    let (mut bench, _) = Bench::in_memory().await;
    let (whom, files) = (reader(), few_files());
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    drop(feed(writer, files.clone()).await.unwrap());
    let run = bench.run(&whom, &files).await.unwrap();
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_fails_the_run_by_name_and_leaves_nothing_referenced() {
    let whom = reader();
    for does in [Does::Fails, Does::Panics] {
        let files = if does == Does::Panics { few_files() } else { some_files() };
        let mut at = 0;
        loop {
            let (mut bench, memory) = Bench::in_memory().await;
            bench.store = Arc::new(Faulty { does, ..Faulty::over(&memory, "", at) });
            let run = bench.run(&whom, &files);
            // A stage that is gone must not leave another waiting for ever.
            let result = tokio::time::timeout(std::time::Duration::from_secs(60), run).await;
            let result = result.unwrap_or_else(|_| panic!("write {at} hangs"));
            let records = kinds_of(&memory.keys(), "runs/");
            let Err(error) = result else {
                assert!(at >= 3, "packs, index and record are written");
                break;
            };
            assert_eq!(records, 0, "write {at}");
            match &error {
                Error::Store(StoreError::Full { .. }) if does == Does::Fails => {}
                Error::Stopped(_) if does == Does::Panics => {}
                other => panic!("write {at}: {other}"),
            }
            bench.store = memory.clone();
            let run = bench.run(&whom, &files).await.unwrap();
            bench.compare(&whom, &run.key, &files).await;
            at += 1;
            // The record itself is the agent's matter, and the last of them.
            if does == Does::Panics && at == 2 {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_end_well_beside_one_that_fails_are_not_sent_again() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), vec![plain("big", noise(1, 50 << 20))]);
    bench.store = Arc::new(Faulty::over(&memory, "packs/", 1));
    bench.run(&whom, &files).await.err().unwrap();
    let held = kinds_of(&memory.keys(), "packs/") as u64;
    assert!(held >= 1);
    bench.store = memory.clone();
    let run = bench.run(&whom, &files).await.unwrap();
    assert_eq!(run.written.packs_reused, held);
}

/// Uploads end in any order, and so do compressors; where blobs are described is no matter of chance.
#[tokio::test(flavor = "multi_thread")]
async fn packs_are_described_in_the_order_in_which_they_were_filled() {
    let (mut bench, memory) = Bench::in_memory().await;
    let whom = reader();
    let late = Faulty::over(&memory, "packs/", 1);
    bench.store = Arc::new(Faulty { does: Does::Dawdles, ..late });
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let (writer, ids) = blocking(move || {
        let mut writer = writer;
        // Frames that take more and less time to compress, of some packs.
        let blob = |n: u64| noise(n, if n.is_multiple_of(5) { 4 << 20 } else { 1 << 20 });
        let ids: Vec<_> = (0..60).map(|n| writer.add(BlobKind::Data, &blob(n)).unwrap()).collect();
        (writer, ids)
    })
    .await;
    let until = Timestamp::now() + LONG;
    let (_, mut known) = writer.finish(until, until).await.unwrap();
    let packs: Vec<u32> = blocking(move || {
        let held = |id| match known.look(id).unwrap() {
            Lookup::Held(pack) => known.name(pack).unwrap().1,
            other => panic!("{other:?}"),
        };
        ids.iter().map(held).collect()
    })
    .await;
    assert!(packs.is_sorted() && packs.last() > Some(&4), "{packs:?}");
}

/// Packs that have arrived while one before them hadn't, which then fails, are of use to the next run.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_pack_that_failed_is_used_again() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), vec![plain("big", noise(7, 60 << 20))]);
    let late = Faulty::over(&memory, "packs/", 0);
    bench.store = Arc::new(Faulty { does: Does::FailsLate, ..late });
    let error = bench.run(&whom, &files).await.err().unwrap();
    assert!(matches!(error, Error::Store(StoreError::Full { .. })), "{error}");
    let packs = kinds_of(&memory.keys(), "packs/");
    assert!(packs >= 2, "others arrived before it");
    bench.store = memory.clone();
    let run = bench.run(&whom, &files).await.unwrap();
    assert_eq!(run.written.packs_reused, packs as u64);
    bench.compare(&whom, &run.key, &files).await;
}
