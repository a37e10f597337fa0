//! Vaults made by hand, for tests: in memory, with blobs, lists, trees and records of any shape, hostile ones too.

mod samples;
pub mod steps;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::config::VaultConfig;
use crate::content::{Content, Extent, Extents, ListRef};
use crate::encode::append;
use crate::envelope::{self, Identities, Recipients, RunKeys};
use crate::error::Error;
use crate::frame::Compressor;
use crate::ids::{BlobId, ContentHash, Fingerprint, RecordHash};
use crate::index::{PackRow, SegmentBuilder};
use crate::keys::{RunKey, VaultSecret};
use crate::limits::{EXTENTS_INLINE_MAX, FRAME_RAW_TARGET};
use crate::pack::{BlobKind, PackBuilder};
use crate::read::{Opener, ReadSettings, RunRecord, SnapshotReader, Vault};
use crate::record::{
    self, JobKind, PackSet, Record, RecordKey, Retention, SegmentRef, Snapshot, Status, Totals,
};
use crate::sign::SigningKey;
use crate::store::memory::MemoryStore;
use crate::store::{ObjectKey, Store};
use crate::tree::{Entry, TreeBuilder, TreeRoot};

pub use crate::store::memory::{self, Request};
pub use samples::{content_hash, entry, noise};

/// Makes a vault in memory, piece by piece.
#[derive(Debug)]
pub struct VaultMaker {
    /// Where it lies.
    pub store: Arc<MemoryStore>,
    /// Its configuration.
    pub config: VaultConfig,
    /// The configuration's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its secret.
    pub secret: VaultSecret,
    /// The identity that everything is sealed to.
    pub identities: Identities,
    /// What signs its records.
    pub signing: SigningKey,
    /// How long a content's pieces and a list's pieces are, in bytes.
    pub piece_len: usize,
    recipients: Recipients,
    run: RunKeys,
    envelope: Vec<u8>,
    frames: Vec<PendingFrame>,
    pack: Option<PackBuilder>,
    segment: SegmentBuilder,
    segments: Vec<SegmentRef>,
    forgotten: Vec<BlobId>,
    previous: Option<(u64, RecordHash)>,
}

#[derive(Debug)]
struct PendingFrame {
    kind: BlobKind,
    raw: Vec<u8>,
    blobs: Vec<(BlobId, u32)>,
}

impl VaultMaker {
    /// A new vault without runs.
    pub async fn new() -> Result<Self, Error> {
        let store = Arc::new(MemoryStore::default());
        let secret = VaultSecret::generate()?;
        let config = VaultConfig::generate(at("2026-11-01T00:00:00Z"), &secret, 7)?;
        let (bytes, fingerprint) = config.to_bytes()?;
        store.put(&ObjectKey::vault_config(), bytes.into(), far()).await?;
        let (public, identity) = Identities::generate();
        let recipients = Recipients::parse(&public)?;
        let run = RunKeys { vault: config.id, run: RunKey::generate()?, secret: secret.clone() };
        Ok(Self {
            store,
            fingerprint,
            identities: Identities::parse(&identity)?,
            signing: SigningKey::generate("db1")?,
            piece_len: 64 * 1024,
            envelope: envelope::seal(&run, &recipients)?,
            recipients,
            run,
            secret,
            config,
            frames: Vec::new(),
            pack: None,
            segment: SegmentBuilder::default(),
            segments: Vec::new(),
            forgotten: Vec::new(),
            previous: None,
        })
    }

    /// Begins a run with a key of its own; blobs from now on are sealed with it.
    pub async fn next_run(&mut self) -> Result<(), Error> {
        self.close_segment().await?;
        self.run.run = RunKey::generate()?;
        self.envelope = envelope::seal(&self.run, &self.recipients)?;
        Ok(())
    }

    /// Those to whom it seals.
    pub fn recipients(&self) -> &Recipients {
        &self.recipients
    }

    /// Seals to these recipients from now on, in a run of its own.
    pub async fn seal_to(&mut self, recipients: Recipients) -> Result<(), Error> {
        self.recipients = recipients;
        self.next_run().await
    }

    /// Goes on as someone who knows the recipients, but not the vault's secret.
    pub async fn forge_secret(&mut self) -> Result<(), Error> {
        self.secret = VaultSecret::generate()?;
        self.run.secret = self.secret.clone();
        self.next_run().await
    }

    /// Adds a blob, whether or not it was added before.
    pub async fn blob(&mut self, kind: BlobKind, bytes: &[u8]) -> Result<BlobId, Error> {
        let id = self.secret.blob_namer().name(kind, bytes);
        self.blob_as(kind, id, bytes).await?;
        Ok(id)
    }

    /// Never stores a blob again, though it is named.
    pub fn forget(&mut self, id: &BlobId) {
        self.forgotten.push(*id);
    }

    /// Adds a blob under whatever id: a forgery, if it isn't its own.
    pub async fn blob_as(&mut self, kind: BlobKind, id: BlobId, bytes: &[u8]) -> Result<(), Error> {
        if self.forgotten.contains(&id) {
            return Ok(());
        }
        let at = self.frames.iter().position(|frame| frame.kind == kind).unwrap_or_else(|| {
            self.frames.push(PendingFrame { kind, raw: Vec::new(), blobs: Vec::new() });
            self.frames.len() - 1
        });
        self.frames[at].raw.extend_from_slice(bytes);
        self.frames[at].blobs.push((id, number(bytes.len())));
        if self.frames[at].raw.len() >= FRAME_RAW_TARGET {
            let frame = self.frames.swap_remove(at);
            self.store_frame(frame).await?;
        }
        Ok(())
    }

    async fn store_frame(&mut self, frame: PendingFrame) -> Result<(), Error> {
        let mut compressed = Vec::new();
        Compressor::new(1)?.compress(&frame.raw, &mut compressed)?;
        let mut pack = match self.pack.take() {
            Some(open) => open,
            None => PackBuilder::new(self.config.id, &self.run.run, &self.envelope, Vec::new())?,
        };
        pack.add(frame.kind, &[&compressed], frame.blobs)?;
        let full = pack.is_full();
        self.pack = Some(pack);
        if full { self.close_pack().await } else { Ok(()) }
    }

    /// Stores what is pending as a pack of its own.
    pub async fn close_pack(&mut self) -> Result<(), Error> {
        let Some(pack) = self.pack.take().filter(|pack| !pack.is_empty()) else {
            return Ok(());
        };
        let built = pack.finish()?;
        let size = number(built.bytes.len());
        let stored = self.store.put(&ObjectKey::pack(&built.id), built.bytes.into(), far()).await?;
        let row = PackRow {
            id: built.id,
            size,
            salt: built.salt,
            envelope: 0,
            version: stored.version,
            locked_until_s: Some(far().as_second()),
        };
        self.segment.add(row, &self.envelope, self.recipients.digest(), &built.frames);
        Ok(())
    }

    /// Stores all pending blobs in packs, and an index segment that describes them.
    pub async fn close_segment(&mut self) -> Result<(), Error> {
        for frame in std::mem::take(&mut self.frames) {
            self.store_frame(frame).await?;
        }
        self.close_pack().await?;
        if self.segment.packs() == 0 {
            return Ok(());
        }
        let segment = std::mem::take(&mut self.segment);
        let built = segment.finish(self.config.id, &self.secret, &self.envelope)?;
        let size = built.bytes.len() as u64;
        let key = ObjectKey::segment(&built.id);
        let stored = self.store.put(&key, built.bytes, far()).await?;
        let mut used = PackSet::default();
        (0..number(built.packs.len())).for_each(|n| used.insert(n));
        let named = SegmentRef {
            id: built.id,
            size,
            blobs: None,
            nodes: None,
            salt: built.salt,
            version: stored.version,
            used,
        };
        self.segments.insert(0, named);
        Ok(())
    }

    /// Adds a content in pieces of [`piece_len`](Self::piece_len), with lists of extents where it has many.
    pub async fn content(&mut self, bytes: &[u8]) -> Result<Content, Error> {
        let mut extents = Vec::new();
        for piece in bytes.chunks(self.piece_len) {
            let id = self.blob(BlobKind::Data, piece).await?;
            extents.push(Extent::Blob { id, length: number(piece.len()) });
        }
        let hash = (extents.len() > 1).then(|| content_hash(bytes));
        self.content_of(extents, hash).await
    }

    /// A content of any extents.
    pub async fn content_of(
        &mut self,
        mut extents: Vec<Extent>,
        hash: Option<ContentHash>,
    ) -> Result<Content, Error> {
        let size = extents.iter().map(Extent::length).sum();
        if extents.len() <= EXTENTS_INLINE_MAX {
            let extents = Extents::Inline(std::mem::take(&mut extents));
            return Ok(Content { size, hash, extents });
        }
        let mut depth = 1;
        let mut lists = self.lists(&extents, Extent::length).await?;
        while lists.len() > EXTENTS_INLINE_MAX {
            depth += 1;
            lists = self.lists(&lists, |list| list.covers).await?;
        }
        Ok(Content { size, hash, extents: Extents::Lists { depth, lists } })
    }

    /// Stores one level of lists.
    async fn lists<T: serde::Serialize>(
        &mut self,
        items: &[T],
        covers: impl Fn(&T) -> u64,
    ) -> Result<Vec<ListRef>, Error> {
        let mut lists = Vec::new();
        for items in items.chunks((self.piece_len / 32).max(2)) {
            let mut bytes = Vec::new();
            for item in items {
                append(item, &mut bytes).map_err(|e| Error::damaged("a test's extents", e))?;
            }
            let id = self.blob(BlobKind::List, &bytes).await?;
            lists.push(ListRef {
                id,
                length: number(bytes.len()),
                covers: items.iter().map(&covers).sum(),
            });
        }
        Ok(lists)
    }

    /// Adds a tree of entries, which are sorted first.
    pub async fn tree(&mut self, entries: &mut [Entry]) -> Result<TreeRoot, Error> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let namer = self.secret.blob_namer();
        let mut nodes = Vec::new();
        let mut keep = |bytes: &[u8]| -> Result<BlobId, Error> {
            nodes.push(bytes.to_vec());
            Ok(namer.name(BlobKind::Tree, bytes))
        };
        let mut builder = TreeBuilder::default();
        for entry in entries.iter() {
            builder.add(entry, &mut keep)?;
        }
        let root = builder.finish(&mut keep)?;
        for node in nodes {
            self.blob(BlobKind::Tree, &node).await?;
        }
        Ok(root)
    }

    /// A record as a run of now would write it, with everything stored so far; change it as you like.
    pub async fn record(&mut self, root: TreeRoot, started: &str) -> Result<Record, Error> {
        self.close_segment().await?;
        let started = at(started);
        Ok(Record {
            format: Record::FORMAT.into(),
            vault: self.fingerprint,
            host: "db1".into(),
            job: "files".into(),
            kind: JobKind::Directory,
            seq: self.previous.map_or(1, |(seq, _)| seq + 1),
            previous: self.previous.map(|(_, hash)| hash),
            started,
            finished: started + SignedDuration::from_secs(60),
            clock_offset_ms: None,
            status: Status::Success,
            messages: Vec::new(),
            program: "keephold 0.1.0".into(),
            recipients: self.recipients.names().to_vec(),
            retention: Retention {
                class: "daily".into(),
                expires: started + SignedDuration::from_hours(30 * 24),
                evidence_until: started + SignedDuration::from_hours(400 * 24),
                mode: None,
            },
            source: None,
            totals: Totals {
                entries: root.entries,
                files: root.entries,
                bytes: root.bytes,
                ..Totals::default()
            },
            snapshot: Some(Snapshot { root, segments: self.segments.clone(), locked_until: None }),
            copies: Vec::new(),
        })
    }

    /// Seals, signs and stores a record.
    pub async fn store_record(&mut self, record: &Record) -> Result<RecordKey, Error> {
        let sealed =
            record::seal(record, self.config.id, &self.secret, &self.envelope, &self.signing)?;
        self.store.put(&sealed.key.object()?, sealed.bytes.into(), far()).await?;
        self.previous = Some((record.seq, sealed.hash));
        Ok(sealed.key)
    }

    /// Stores entries as the next run's snapshot.
    pub async fn snapshot(
        &mut self,
        mut entries: Vec<Entry>,
        started: &str,
    ) -> Result<RecordKey, Error> {
        let root = self.tree(&mut entries).await?;
        let record = self.record(root, started).await?;
        self.store_record(&record).await
    }

    /// Opens the vault.
    pub async fn open(&self) -> Result<(Vault, Opener), Error> {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let vault = Vault::open(store, Some(&self.fingerprint)).await?;
        let opener = Opener::with_identities(vault.id(), self.identities.clone());
        Ok((vault, opener))
    }

    /// Opens the snapshot of a record.
    pub async fn reader(&self, key: &RecordKey) -> Result<SnapshotReader, Error> {
        let (vault, opener) = self.open().await?;
        let run: RunRecord = vault.run(key, &opener).await?;
        SnapshotReader::new(&vault, &opener, &run, ReadSettings::default())
    }

    /// The keys of the packs in it.
    pub fn packs(&self) -> Vec<ObjectKey> {
        self.store.keys().into_iter().filter(|key| key.as_pack().is_some()).collect()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

fn far() -> Timestamp {
    at("2036-01-01T00:00:00Z")
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
