//! The way into the vault and back, over whole runs: what was reused, what came back, and what a failure leaves.

mod again;
mod content;
mod copies;
mod delta;
mod draining;
mod failing;
mod lives;
mod many;
mod places;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use crate::chunk::ChunkBounds;
use crate::config::VaultConfig;
use crate::content::Content;
use crate::envelope::{self, Identities, Recipients, RunKeys};
use crate::error::Error;
use crate::keys::VaultSecret;
use crate::pack::BlobKind;
use crate::read::{Opener, Piece, ReadSettings, Selection, SnapshotReader, Vault};
use crate::record::{self, JobKind, Record, RecordKey, Retention, Snapshot, Status, Totals};
use crate::sign::SigningKey;
use crate::store::memory::{MemoryStore, Request};
use crate::store::{ObjectKey, Store, StoreError};
use crate::testing::{entry, noise};
use crate::tree::{Entry, EntryKind, TreeBuilder};
use crate::write::{ContentWriter, Known, Life, RunContext, Settings, Writer, Written};

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
    /// A copy that runs write to as well.
    also: Option<copies::Second>,
}

struct Run {
    key: RecordKey,
    written: Written,
    /// Bytes in blobs that the vault did not hold.
    new: u64,
    /// Bytes that were stored again since their packs are drained.
    again: u64,
    /// Bytes that were found in the stream before.
    matched: u64,
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
        Self { store, config, secret, cache, locks, seq: 0, day: None, also: None }
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
        if let Some(also) = &self.also {
            known.join(&[also.open(&self.config).await]).await;
        }
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

    async fn run_for(
        &mut self,
        whom: &Reader,
        files: &Files,
        kept: SignedDuration,
    ) -> Result<Run, Error> {
        let files = files.clone();
        let feed = move |writer: &mut Writer| Ok((add_files(writer, files)?, ()));
        Ok(self.run_of(whom, kept, feed).await?.0)
    }

    /// A whole run as the agent makes it, of what `feed` adds, with a record at its end.
    async fn run_of<T: Send + 'static>(
        &mut self,
        whom: &Reader,
        kept: SignedDuration,
        feed: impl FnOnce(&mut Writer) -> Result<(Vec<Entry>, T), Error> + Send + 'static,
    ) -> Result<(Run, T), Error> {
        let started = self.now();
        let mut writer = self.writer(&whom.recipients, kept).await?;
        let progress = writer.progress();
        let (writer, root, fed) = blocking(move || {
            let (entries, fed) = feed(&mut writer)?;
            let mut tree = TreeBuilder::default();
            let mut keep = |bytes: &[u8]| writer.add(BlobKind::Tree, bytes);
            for entry in &entries {
                tree.add(entry, &mut keep)?;
            }
            let root = tree.finish(&mut keep)?;
            Ok::<_, Error>((writer, root, fed))
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
            copies: Vec::new(),
        };
        let keys = RunKeys::for_record(self.config.id, self.secret.clone())?;
        let envelope = envelope::seal(&keys, &whom.recipients)?;
        let signing = SigningKey::generate("db1")?;
        let sealed = record::seal(&record, self.config.id, &self.secret, &envelope, &signing)?;
        match &self.also {
            Some(also) => also.leave(&*self.store, &sealed, needed, &written.copies).await?,
            None => {
                self.store.put(&sealed.key.object()?, sealed.bytes.into(), needed).await?;
            }
        }
        let new = progress.bytes_new.load(Ordering::Relaxed);
        let again = progress.bytes_again.load(Ordering::Relaxed);
        let matched = progress.bytes_matched.load(Ordering::Relaxed);
        Ok((Run { key: sealed.key, written, new, again, matched }, fed))
    }

    async fn open(&self, whom: &Reader, key: &RecordKey) -> Result<SnapshotReader, Error> {
        let vault = Vault::open(self.store.clone(), None).await?;
        let opener = Opener::with_identities(vault.id(), whom.identities.clone());
        let run = vault.run(key, &opener).await?;
        SnapshotReader::new(&vault, &opener, &run, ReadSettings::default())
    }

    /// Reads a snapshot back and holds it against what went in; the record alone says where everything lies.
    async fn compare(&self, whom: &Reader, key: &RecordKey, files: &Files) {
        same(&self.open(whom, key).await.unwrap(), files).await;
    }

    fn cached(&self, sub: &str) -> Vec<PathBuf> {
        let mut found: Vec<_> =
            fs::read_dir(self.cache.path().join(sub)).unwrap().map(|e| e.unwrap().path()).collect();
        found.sort();
        found
    }
}

/// Reads a snapshot back and holds it against what went in.
async fn same(reader: &SnapshotReader, files: &Files) {
    let mut entries = reader.entries(Selection::all());
    let mut wanted = files.clone();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, parts) in wanted {
        let found = entries.next().await.unwrap().unwrap();
        assert_eq!(found.path.to_string(), name);
        let EntryKind::File(content) = &found.kind else { panic!("{name} is no file") };
        assert!(content.is_sound(), "{name}");
        let bytes = bytes_of(reader, content).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(bytes == spelt_out(&parts), "{name} came back with other bytes");
    }
    assert!(entries.next().await.is_none());
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
async fn feed(mut writer: Writer, files: Files) -> Result<(Writer, Vec<Entry>), Error> {
    blocking(move || add_files(&mut writer, files).map(|entries| (writer, entries))).await
}

fn add_files(writer: &mut Writer, mut files: Files) -> Result<Vec<Entry>, Error> {
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let file =
        |(name, parts): &(String, Vec<Part>)| entry(name, EntryKind::File(add(writer, parts)?));
    files.iter().map(file).collect()
}

fn add(writer: &mut Writer, parts: &[Part]) -> Result<Content, Error> {
    let mut content = ContentWriter::new(writer, Life::default());
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
