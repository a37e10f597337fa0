//! The way into the vault and back, over whole runs: what was reused, what came back, and what a failure leaves.

mod draining;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::chunk::ChunkBounds;
use crate::config::VaultConfig;
use crate::content::{Content, Extents};
use crate::envelope::{self, Identities, Recipients, RunKeys};
use crate::error::Error;
use crate::ids::BlobId;
use crate::index::SegmentBuilder;
use crate::keys::VaultSecret;
use crate::pack::BlobKind;
use crate::read::{Opener, Piece, ReadSettings, Selection, SnapshotReader, Vault};
use crate::record::{self, JobKind, Record, RecordKey, Retention, Snapshot, Status, Totals};
use crate::sign::SigningKey;
use crate::store::memory::{MemoryStore, Request};
use crate::store::{
    Listed, Lock, LockPolicy, ObjectKey, Prefix, Protection, Store, StoreError, Stored,
    TargetOptions, TargetUrl, Version, VersionId, create_target, open_store,
};
use crate::testing::{entry, noise};
use crate::tree::{Entry, EntryKind, TreeBuilder};
use crate::write::{ContentWriter, Known, RunContext, Settings, Writer, Written, prepare};

/// Small chunks, so that a few megabytes are many.
const BOUNDS: ChunkBounds = ChunkBounds { min: 1 << 10, avg: 4 << 10, max: 16 << 10 };
const LONG: SignedDuration = SignedDuration::from_hours(35 * 24);

/// What a file of a test consists of.
#[derive(Debug, Clone)]
enum Part {
    Bytes(Vec<u8>),
    Hole(u64),
}

type Files = Vec<(String, Vec<Part>)>;

fn plain(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<Part>) {
    (name.into(), vec![Part::Bytes(bytes.into())])
}

/// Enough for several frames and two packs.
fn some_files() -> Files {
    let mut files: Files = (0..40).map(|n| plain(&format!("s{n:02}"), noise(n, 900))).collect();
    files.push(plain("big", noise(100, 18 << 20)));
    files
}

/// Several frames, one pack.
fn few_files() -> Files {
    let mut files: Files = (0..40).map(|n| plain(&format!("s{n:02}"), noise(n, 900))).collect();
    files.push(plain("big", noise(100, 3 << 20)));
    files
}

fn spelt_out(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(more) => bytes.extend_from_slice(more),
            Part::Hole(n) => bytes.resize(bytes.len() + *n as usize, 0),
        }
    }
    bytes
}

/// A vault with one host's cache.
struct Bench {
    store: Arc<dyn Store>,
    config: VaultConfig,
    secret: VaultSecret,
    cache: tempfile::TempDir,
    locks: bool,
    seq: u64,
    /// How many days after today runs take place, where it is told; and then packs are drained.
    day: Option<i64>,
}

struct Run {
    key: RecordKey,
    written: Written,
    /// Bytes in blobs that the vault did not hold.
    new: u64,
    /// Bytes that were stored again since their packs are drained.
    again: u64,
}

struct Reader {
    recipients: Recipients,
    identities: Identities,
}

fn reader() -> Reader {
    let (public, secret) = Identities::generate();
    let recipients = Recipients::parse(&public).unwrap();
    Reader { recipients, identities: Identities::parse(&secret).unwrap() }
}

impl Bench {
    async fn over(store: Arc<dyn Store>, locks: bool) -> Self {
        let secret = VaultSecret::generate().unwrap();
        let config = VaultConfig::generate(Timestamp::now(), &secret, 7).unwrap();
        let (bytes, _) = config.to_bytes().unwrap();
        store.put(&ObjectKey::vault_config(), bytes.into(), Timestamp::now() + LONG).await.unwrap();
        let cache = tempfile::tempdir().unwrap();
        Self { store, config, secret, cache, locks, seq: 0, day: None }
    }

    async fn in_memory() -> (Self, Arc<MemoryStore>) {
        let memory = Arc::new(MemoryStore::default());
        (Self::over(memory.clone(), true).await, memory)
    }

    async fn writer(&self, whom: &Recipients, kept: SignedDuration) -> Result<Writer, Error> {
        let (store, id, secret) = (self.store.clone(), self.config.id, self.secret.clone());
        let mut known = Known::open(
            self.cache.path(),
            store.clone(),
            id,
            secret.clone(),
            whom.digest(),
            self.locks,
        )
        .await?;
        let needed = self.now() + kept;
        let until = needed + self.slack(kept);
        if self.day.is_some() {
            known.plan_draining("files", needed, until)?;
        }
        let cache = self.cache.path().to_owned();
        let context = RunContext::new(store, id, secret, whom, until, cache)?;
        let settings = Settings { level: 1, threads: 2, uploads: 2 };
        Writer::start(context, &settings, BOUNDS, known).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_hours(24 * self.day.unwrap_or(0))
    }

    /// How far beyond what is needed locks are extended: as the agent does, or hardly.
    fn slack(&self, kept: SignedDuration) -> SignedDuration {
        if self.day.is_some() { kept / 4 } else { SignedDuration::from_hours(2) }
    }

    async fn run(&mut self, whom: &Reader, files: &Files) -> Result<Run, Error> {
        self.run_for(whom, files, LONG).await
    }

    /// A whole run as the agent makes it, with a record at its end.
    async fn run_for(
        &mut self,
        whom: &Reader,
        files: &Files,
        kept: SignedDuration,
    ) -> Result<Run, Error> {
        let started = self.now();
        let writer = self.writer(&whom.recipients, kept).await?;
        let progress = writer.progress();
        let (writer, entries) = feed(writer, files.clone()).await?;
        let (writer, root) = blocking(move || {
            let mut writer = writer;
            let mut tree = TreeBuilder::default();
            let mut keep = |bytes: &[u8]| writer.add(BlobKind::Tree, bytes);
            for entry in &entries {
                tree.add(entry, &mut keep)?;
            }
            let root = tree.finish(&mut keep)?;
            Ok::<_, Error>((writer, root))
        })
        .await?;
        let needed = started + kept;
        let (written, known) = writer.finish(needed, needed + self.slack(kept)).await?;
        if self.day.is_some() {
            known.note_usage("files", needed)?;
        }
        self.seq += 1;
        let snapshot = Snapshot {
            root,
            segments: written.segments.clone(),
            locked_until: written.locked_until,
        };
        let record = Record {
            format: Record::FORMAT.into(),
            vault: VaultConfig::fingerprint(&self.config.to_bytes()?.0),
            host: "db1".into(),
            job: "files".into(),
            kind: JobKind::Directory,
            seq: self.seq,
            previous: None,
            started,
            finished: started,
            clock_offset_ms: None,
            status: Status::Success,
            messages: Vec::new(),
            program: "test".into(),
            recipients: whom.recipients.names().to_vec(),
            retention: Retention {
                class: "keep".into(),
                expires: needed,
                evidence_until: needed,
                mode: None,
            },
            source: None,
            totals: Totals::default(),
            snapshot: Some(snapshot),
        };
        let keys = RunKeys::for_record(self.config.id, self.secret.clone())?;
        let envelope = envelope::seal(&keys, &whom.recipients)?;
        let signing = SigningKey::generate("db1")?;
        let sealed = record::seal(&record, self.config.id, &self.secret, &envelope, &signing)?;
        self.store.put(&sealed.key.object()?, sealed.bytes.into(), needed).await?;
        let new = progress.bytes_new.load(Ordering::Relaxed);
        let again = progress.bytes_again.load(Ordering::Relaxed);
        Ok(Run { key: sealed.key, written, new, again })
    }

    async fn open(&self, whom: &Reader, key: &RecordKey) -> Result<SnapshotReader, Error> {
        let vault = Vault::open(self.store.clone(), None).await?;
        let opener = Opener::with_identities(vault.id(), whom.identities.clone());
        let run = vault.run(key, &opener).await?;
        SnapshotReader::new(&vault, &opener, &run, ReadSettings::default())
    }

    /// Reads a snapshot back and holds it against what went in; the record alone says where everything lies.
    async fn compare(&self, whom: &Reader, key: &RecordKey, files: &Files) {
        let reader = self.open(whom, key).await.unwrap();
        let mut entries = reader.entries(Selection::all());
        let mut wanted = files.clone();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, parts) in wanted {
            let found = entries.next().await.unwrap().unwrap();
            assert_eq!(found.path.to_string(), name);
            let EntryKind::File(content) = &found.kind else { panic!("{name} is no file") };
            assert!(content.is_sound(), "{name}");
            let bytes = bytes_of(&reader, content).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(bytes == spelt_out(&parts), "{name} came back with other bytes");
        }
        assert!(entries.next().await.is_none());
    }

    fn cached(&self, sub: &str) -> Vec<PathBuf> {
        let mut found: Vec<_> =
            fs::read_dir(self.cache.path().join(sub)).unwrap().map(|e| e.unwrap().path()).collect();
        found.sort();
        found
    }
}

async fn bytes_of(reader: &SnapshotReader, content: &Content) -> Result<Vec<u8>, Error> {
    let mut pieces = reader.content(content);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece? {
            Piece::Data(data) => bytes.extend_from_slice(&data),
            Piece::Hole(n) => bytes.resize(bytes.len() + n as usize, 0),
        }
    }
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Adds files as the thread that reads sources does.
async fn feed(mut writer: Writer, mut files: Files) -> Result<(Writer, Vec<Entry>), Error> {
    files.sort_by(|a, b| a.0.cmp(&b.0));
    blocking(move || {
        let mut entries = Vec::new();
        for (name, parts) in &files {
            let content = add(&mut writer, parts)?;
            entries.push(entry(name, EntryKind::File(content))?);
        }
        Ok((writer, entries))
    })
    .await
}

fn add(writer: &mut Writer, parts: &[Part]) -> Result<Content, Error> {
    let mut content = ContentWriter::default();
    for part in parts {
        match part {
            Part::Bytes(bytes) => content.push(writer, bytes)?,
            Part::Hole(length) => content.hole(writer, *length)?,
        }
    }
    content.finish(writer)
}

/// The packs that a run's snapshot needs.
fn needs(run: &Run) -> u64 {
    run.written.segments.iter().map(|s| s.used.len()).sum()
}

fn kinds_of(keys: &[ObjectKey], prefix: &str) -> usize {
    keys.iter().filter(|k| k.as_str().starts_with(prefix)).count()
}

/// A store that does something else than it should at one of its writes.
#[derive(Debug)]
struct Faulty {
    inner: Arc<MemoryStore>,
    /// Only writes below this prefix count.
    prefix: &'static str,
    writes: AtomicUsize,
    at: usize,
    panics: bool,
}

impl Faulty {
    fn over(inner: &Arc<MemoryStore>, prefix: &'static str, at: usize) -> Self {
        Self { inner: inner.clone(), prefix, writes: AtomicUsize::new(0), at, panics: false }
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
            assert!(!self.panics, "this store panics on purpose");
            return Err(StoreError::Full { target: self.url(), detail: "on purpose".into() });
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
async fn contents_of_every_size_and_shape_come_back() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let (min, max) = (BOUNDS.min as usize, BOUNDS.max as usize);
    let mut files: Files =
        [0, 1, min - 1, min, min + 1, max - 1, max, max + 1, 4 * max, 4 * max + 1]
            .into_iter()
            .chain([700_000, 3_000_000])
            .map(|n| plain(&format!("f{n:08}"), noise(n as u64, n)))
            .collect();
    files.push(plain("same", noise(700_000, 700_000)));
    files.push(plain("zeros", vec![0; 2_000_000]));
    files.push(("hole".into(), vec![Part::Hole(5_000_000)]));
    files.push(("no-hole".into(), vec![Part::Hole(0), Part::Bytes(vec![7; 10]), Part::Hole(0)]));
    let mixed = vec![
        Part::Hole(1),
        Part::Bytes(noise(1, 9_000)),
        Part::Hole(70_000),
        Part::Bytes(vec![1]),
        Part::Hole(3),
    ];
    files.push(("mixed".into(), mixed));
    let run = bench.run(&whom, &files).await.unwrap();
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_lists_come_back() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let parts: Vec<Part> = (0u32..60_000)
        .flat_map(|n| [Part::Bytes((n % 5_000).to_le_bytes().to_vec()), Part::Hole(1)])
        .collect();
    let files = vec![("lists".to_owned(), parts)];
    let run = bench.run(&whom, &files).await.unwrap();
    bench.compare(&whom, &run.key, &files).await;
    let reader = bench.open(&whom, &run.key).await.unwrap();
    let found = reader.entries(Selection::all()).next().await.unwrap().unwrap();
    let EntryKind::File(content) = found.kind else { panic!() };
    assert!(matches!(content.extents, Extents::Lists { depth: 2.., .. }), "{:?}", content.extents);
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_files_are_like_any_other() {
    let (bench, _) = Bench::in_memory().await;
    let mut writer = bench.writer(&reader().recipients, LONG).await.unwrap();
    let done = blocking(move || {
        for n in [0, 1, 4_000, 100_000, 1_000_000] {
            let bytes = noise(n as u64, n);
            let prepared = prepare(writer.chunker(), writer.namer(), bytes.clone());
            let content = writer.add_prepared(&prepared).unwrap();
            assert_eq!(content, add(&mut writer, &[Part::Bytes(bytes)]).unwrap(), "{n} bytes");
        }
        writer
    });
    let soon = Timestamp::now() + LONG;
    done.await.finish(soon, soon).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_the_bytes_of_nodes_and_lists_are_files() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    // Once the node is stored first and once the file.
    let mut node = Vec::new();
    let small = vec![plain("a", "first")];
    for file_first in [false, true] {
        let small = if file_first { vec![plain("b", "second")] } else { small.clone() };
        let namer = bench.secret.blob_namer();
        let mut tree = TreeBuilder::default();
        let Some(Part::Bytes(bytes)) = small[0].1.first() else { panic!() };
        let content = Content {
            size: bytes.len() as u64,
            hash: None,
            extents: Extents::Inline(vec![crate::content::Extent::Blob {
                id: namer.name(BlobKind::Data, bytes),
                length: bytes.len() as u32,
            }]),
        };
        let mut keep = |bytes: &[u8]| {
            node = bytes.to_vec();
            Ok::<BlobId, Error>(namer.name(BlobKind::Tree, bytes))
        };
        tree.add(&entry(&small[0].0, EntryKind::File(content)).unwrap(), &mut keep).unwrap();
        tree.finish(&mut keep).unwrap();
        let twin = vec![plain("twin", node.clone())];
        let runs = if file_first { [&twin, &small] } else { [&small, &twin] };
        for files in runs {
            let run = bench.run(&whom, files).await.unwrap();
            bench.compare(&whom, &run.key, files).await;
        }
    }
    // All three kinds of the same bytes, in one run.
    let mut writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let progress = writer.progress();
    let writer = blocking(move || {
        let ids = BlobKind::ALL.map(|kind| writer.add(kind, b"the same bytes").unwrap());
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        writer
    })
    .await;
    assert_eq!(progress.blobs_new.load(Ordering::Relaxed), 3);
    writer.abandon().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_data_again_adds_nothing_with_or_without_the_cache() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), some_files());
    let first = bench.run(&whom, &files).await.unwrap();
    assert!(needs(&first) >= 2 && first.written.packs_reused == 0);
    for round in 0..3 {
        if round % 2 == 1 {
            fs::remove_dir_all(bench.cache.path()).unwrap();
        }
        let before = memory.keys().len();
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!((run.new, memory.keys().len()), (0, before + 1), "round {round}");
        assert_eq!(run.written.packs_reused, needs(&first));
        assert_eq!(run.written.segments[0].id, first.written.segments[0].id);
        bench.compare(&whom, &run.key, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recipients_can_read_all_of_their_runs_and_nothing_is_stored_twice_for_them() {
    let (mut bench, _) = Bench::in_memory().await;
    let (old, new, files) = (reader(), reader(), few_files());
    let first = bench.run(&old, &files).await.unwrap();
    let second = bench.run(&new, &files).await.unwrap();
    assert_eq!((second.new, second.written.packs_reused), (first.new, 0));
    bench.compare(&new, &second.key, &files).await;
    assert!(bench.open(&old, &second.key).await.is_err());
    // Both copies stay known: whoever's turn it is, nothing is stored again.
    for whom in [&new, &old, &new, &old] {
        let run = bench.run(whom, &files).await.unwrap();
        assert_eq!(run.new, 0);
        bench.compare(whom, &run.key, &files).await;
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
async fn packs_that_are_gone_are_noticed_and_stored_again() {
    // Once when a blob is used again, once when the run is over.
    for (hours, at_end) in [(1, false), (100, true)] {
        let (mut bench, memory) = Bench::in_memory().await;
        let (whom, files) = (reader(), few_files());
        bench.run_for(&whom, &files, SignedDuration::from_hours(hours)).await.unwrap();
        for key in memory.keys().iter().filter(|k| k.as_pack().is_some()).take(1) {
            memory.lose(key);
        }
        let mut result = bench.run(&whom, &files).await;
        if at_end {
            let error = result.err().unwrap();
            assert!(matches!(error, Error::Gone { objects: 1 }), "{error}");
            result = bench.run(&whom, &files).await;
        }
        let run = result.unwrap();
        assert!(run.new > 0);
        bench.compare(&whom, &run.key, &files).await;
        for round in 0..3 {
            let run = bench.run(&whom, &files).await.unwrap();
            assert_eq!(run.new, 0, "round {round}: what was stored again is known");
            bench.compare(&whom, &run.key, &files).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_gone_is_noticed() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), few_files());
    bench.run(&whom, &files).await.unwrap();
    for key in memory.keys().iter().filter(|k| k.as_segment().is_some()) {
        memory.lose(key);
    }
    let run = bench.run(&whom, &files).await.unwrap();
    assert!(run.new > 0);
    bench.compare(&whom, &run.key, &files).await;
}

/// A copy of a bucket gives the same bytes other versions: the one noted here is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_in_another_version_is_found() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), vec![plain("a", "text")]);
    bench.run_for(&whom, &files, SignedDuration::from_hours(100)).await.unwrap();
    let keys = memory.keys();
    let key = keys.iter().find(|k| k.as_segment().is_some()).unwrap();
    let bytes = memory.get(key, None, 1 << 20).await.unwrap();
    memory.lose(key);
    memory.put(key, bytes, Timestamp::now()).await.unwrap();
    let run = bench.run(&whom, &files).await.unwrap();
    assert_eq!(run.new, 0);
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_cache_is_never_believed() {
    let (mut bench, memory) = Bench::in_memory().await;
    let whom = reader();
    let mut files: Files = (0..300).map(|n| plain(&format!("f{n:03}"), noise(n, 3_000))).collect();
    bench.run(&whom, &files).await.unwrap();
    for sub in ["tables", "segments", "locks"] {
        for damage in 0..6 {
            files.push(plain(&format!("{sub}{damage}"), noise(1_000 + damage, 500 + sub.len())));
            for path in bench.cached(sub) {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                match damage {
                    0 => bytes[0] ^= 1,
                    1 => bytes[middle] ^= 1,
                    2 => *bytes.last_mut().unwrap() ^= 1,
                    3 => bytes.truncate(middle),
                    4 => bytes.clear(),
                    _ => bytes.extend_from_slice(&[0; 100]),
                }
                fs::write(&path, bytes).unwrap();
            }
            let known = kinds_of(&memory.keys(), "packs/") as u64;
            let run = bench.run(&whom, &files).await;
            let run = run.unwrap_or_else(|e| panic!("{sub}, {damage}: {e}"));
            assert!(run.written.packs_reused <= known && run.written.packs_reused > 0);
            assert!(run.new < 100_000, "{sub}, {damage}: {} bytes again", run.new);
            bench.compare(&whom, &run.key, &files).await;
        }
    }
}

/// A table that rots while the run goes on, which only a search notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_rots_during_a_run_is_made_again() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let files: Files = (0..300).map(|n| plain(&format!("f{n:03}"), noise(n, 3_000))).collect();
    bench.run(&whom, &files).await.unwrap();
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    for path in bench.cached("tables") {
        let mut bytes = fs::read(&path).unwrap();
        bytes[5] ^= 1;
        // In place: the writer has it open.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    }
    let progress = writer.progress();
    let (writer, _) = feed(writer, files).await.unwrap();
    assert_eq!(progress.bytes_new.load(Ordering::Relaxed), 0);
    writer.abandon().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_rubbish_in_the_index_stops_nobody() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), vec![plain("a", noise(1, 5_000))]);
    bench.run(&whom, &files).await.unwrap();
    let other = SegmentBuilder::default()
        .finish(crate::ids::VaultId::from_bytes([9; 16]), &bench.secret, b"e")
        .unwrap();
    let newer = b"KHINDX02 of a later version".to_vec();
    for bytes in [b"rubbish".to_vec(), Vec::new(), newer, other.bytes] {
        let id = crate::ids::SegmentId::from_bytes(*blake3::hash(&bytes).as_bytes());
        memory.put(&ObjectKey::segment(&id), bytes.into(), Timestamp::now()).await.unwrap();
    }
    for _ in 0..2 {
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!(run.new, 0);
        bench.compare(&whom, &run.key, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_fails_the_run_by_name_and_leaves_nothing_referenced() {
    let whom = reader();
    for panics in [false, true] {
        let files = if panics { few_files() } else { some_files() };
        let mut at = 0;
        loop {
            let (mut bench, memory) = Bench::in_memory().await;
            bench.store = Arc::new(Faulty { panics, ..Faulty::over(&memory, "", at) });
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
                Error::Store(StoreError::Full { .. }) if !panics => {}
                Error::Stopped(_) if panics => {}
                other => panic!("write {at}: {other}"),
            }
            bench.store = memory.clone();
            let run = bench.run(&whom, &files).await.unwrap();
            bench.compare(&whom, &run.key, &files).await;
            at += 1;
            // The record itself is the agent's matter, and the last of them.
            if panics && at == 2 {
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

#[tokio::test(flavor = "multi_thread")]
async fn very_many_very_small_files_stay_within_the_formats_bounds() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let writer = blocking(move || {
        let mut writer = writer;
        let mut some = |count: u32, length: usize| {
            for n in 0..count {
                let mut blob = noise(u64::from(n), length.max(4));
                if length < 8 {
                    blob[..4].copy_from_slice(&n.to_le_bytes());
                }
                writer.add(BlobKind::Data, &blob[..length]).unwrap();
            }
        };
        // A full pack that alone doesn't end a segment, then one with as many blobs as can be.
        some(254_000, 66);
        some(209_716, 5);
        some(262_144, 4);
        some(349_526, 3);
        writer
    })
    .await;
    let soon = Timestamp::now() + LONG;
    let (written, _) = writer.finish(soon, soon).await.unwrap();
    assert!(written.segments.len() >= 2);
    // Whoever opens the index finds it sound.
    let run = bench.run(&whom, &vec![plain("a", [0, 0, 0])]).await.unwrap();
    assert!(run.written.packs_reused == 1, "the three bytes are known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_without_locks_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let url = TargetUrl::parse(folder.path().join("vault").to_str().unwrap()).unwrap();
    let options = TargetOptions { lock: LockPolicy::None, ..TargetOptions::default() };
    create_target(&url, &options, &|_| None).await.unwrap();
    let store = open_store(&url, &options, &|_| None).unwrap();
    let mut bench = Bench::over(store, false).await;
    let (whom, files) = (reader(), few_files());
    for round in 0..2 {
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!((run.new == 0, run.written.locked_until), (round == 1, None));
        bench.compare(&whom, &run.key, &files).await;
    }
}

/// Two jobs of one host share its cache and may run at once.
#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_share_a_cache() {
    let (bench, memory) = Bench::in_memory().await;
    let whom = reader();
    let shared = bench.cache.path().to_owned();
    let mut runs = Vec::new();
    for job in 0..3u64 {
        let (config, secret) = (bench.config.clone(), bench.secret.clone());
        let (store, shared) = (memory.clone() as Arc<dyn Store>, shared.clone());
        let digest = whom.recipients.digest();
        let recipients = whom.recipients.clone();
        runs.push(tokio::spawn(async move {
            for round in 0..6 {
                let known =
                    Known::open(&shared, store.clone(), config.id, secret.clone(), digest, true)
                        .await?;
                let until = Timestamp::now() + LONG;
                let context = RunContext::new(
                    store.clone(),
                    config.id,
                    secret.clone(),
                    &recipients,
                    until,
                    shared.clone(),
                )?;
                let settings = Settings { level: 1, threads: 1, uploads: 1 };
                let writer = Writer::start(context, &settings, BOUNDS, known).await?;
                let files = vec![plain("a", noise(round / 2 + 10 * (job % 2), 100_000))];
                let (writer, _) = feed(writer, files).await?;
                writer.finish(until, until).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    for run in runs {
        run.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_bytes_are_pushed_makes_no_difference() {
    let (bench, _) = Bench::in_memory().await;
    let writer = bench.writer(&reader().recipients, LONG).await.unwrap();
    let writer = blocking(move || {
        let writer = RefCell::new(writer);
        let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
        // Runs of noise and of one byte: chunks of every length, from the least to the longest.
        let piece = (any::<u64>(), 0usize..60_000, any::<bool>())
            .prop_map(|(seed, n, even)| if even { vec![seed as u8; n] } else { noise(seed, n) });
        let cuts = prop::collection::vec(1usize..40_000, 1..12);
        let cases = (prop::collection::vec(piece, 0..5), cuts);
        runner
            .run(&cases, |(pieces, cuts)| {
                let bytes = pieces.concat();
                let mut writer = writer.borrow_mut();
                let whole = add(&mut writer, &[Part::Bytes(bytes.clone())]).unwrap();
                let mut content = ContentWriter::default();
                let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                    content.push(&mut writer, now).unwrap();
                    rest = later;
                }
                prop_assert!(whole.is_sound());
                prop_assert_eq!(content.finish(&mut writer).unwrap(), whole);
                Ok(())
            })
            .unwrap();
        writer.into_inner()
    })
    .await;
    writer.abandon().await.unwrap();
}
