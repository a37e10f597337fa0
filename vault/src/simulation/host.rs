//! What a host does: a run in steps, and the promise at its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::world::{BOUNDS, FILES, World, days};
use crate::config::VaultConfig;
use crate::content::{Content, Extent, Extents};
use crate::envelope::{self, RunKeys};
use crate::error::Error;
use crate::ids::SegmentId;
use crate::index::{OpenSegment, PackRow};
use crate::pack::BlobKind;
use crate::record::{self, JobKind, Record, RecordKey, Retention, Snapshot, Status, Totals};
use crate::sign::SigningKey;
use crate::store::{LockPolicy, ObjectKey, Store, VersionId};
use crate::testing::{entry, noise};
use crate::tree::{EntryKind, TreeBuilder, TreeRoot};
use crate::write::{AtCopy, Copy, CopySettings, Known, RunContext, Settings, Writer};

const JOB: &str = "files";

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A host with one job.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) signing: SigningKey,
    pub(super) cache: tempfile::TempDir,
    pub(super) keep: SignedDuration,
    pub(super) evidence: SignedDuration,
    pub(super) files: Files,
    pub(super) started_runs: u64,
    pub(super) going: Option<Going>,
    /// The copy that its run writes to as well.
    pub(super) also: Option<Arc<Copy>>,
    pub(super) last: Timestamp,
    pub(super) failures: u64,
}

/// A run between two of its steps.
pub(super) enum Going {
    Fed { writer: Box<Writer>, root: TreeRoot, run: Run },
    Stored { snapshot: Snapshot, at: Vec<AtCopy>, run: Run },
}

/// What a run backs up, and for how long.
pub(super) struct Run {
    started: Timestamp,
    keep: SignedDuration,
    files: Files,
}

impl Run {
    fn expires(&self) -> Timestamp {
        self.started + self.keep
    }

    /// Where a lock must be moved anyway, it is moved so far.
    fn until(&self) -> Timestamp {
        self.expires() + self.keep / 4
    }
}

/// What a record promises.
pub(super) struct Promise {
    pub(super) host: usize,
    pub(super) seq: u64,
    pub(super) object: ObjectKey,
    pub(super) key: RecordKey,
    pub(super) expires: Timestamp,
    pub(super) evidence_until: Timestamp,
    pub(super) needed: Vec<(ObjectKey, Option<VersionId>)>,
    pub(super) files: Files,
}

impl World {
    /// A host does the next step of its run.
    pub(super) async fn advance(&mut self, n: usize) -> Result<(), Error> {
        match self.hosts[n].going.take() {
            None if self.now.duration_since(self.hosts[n].last)
                < SignedDuration::from_hours(20) =>
            {
                Ok(())
            }
            None => self.begin(n).await,
            Some(Going::Fed { writer, root, run }) => {
                let (written, known) = writer.finish(run.expires(), run.until()).await?;
                self.happened.drained += written.packs_drained;
                let (segments, locked_until) = (written.segments, written.locked_until);
                let snapshot = Snapshot { root, segments, locked_until };
                known.note_usage(JOB, run.expires())?;
                let at = written.copies;
                self.hosts[n].going = Some(Going::Stored { snapshot, at, run });
                Ok(())
            }
            Some(Going::Stored { snapshot, at, run }) => self.leave(n, snapshot, &at, run).await,
        }
    }

    async fn begin(&mut self, n: usize) -> Result<(), Error> {
        for _ in 0..=self.dice.below(2) {
            let (name, version) = (self.dice.below(FILES), self.dice.below(1 << 40));
            self.hosts[n]
                .files
                .insert(format!("f{name}"), noise(version, 300 + version as usize % 900));
        }
        let host = &mut self.hosts[n];
        host.last = self.now;
        host.started_runs += 1;
        // Of two classes: each seventh run is kept three times as long.
        let keep = host.keep * if host.started_runs.is_multiple_of(7) { 3 } else { 1 };
        let run = Run { started: self.now, keep, files: host.files.clone() };
        let (store, id) = (self.store.clone() as Arc<dyn Store>, self.config.id);
        let whom = &self.recipients;
        let cache = host.cache.path().to_owned();
        let secret = self.secret.clone();
        let mut known =
            Known::open(&cache, store.clone(), id, secret.clone(), whom.digest(), true).await?;
        if n == 0 {
            let also = self.open_second(run.until()).await;
            known.join(std::slice::from_ref(&also)).await;
            self.happened.caught_up += also.status().caught_up.1;
            self.hosts[n].also = Some(also);
        }
        known.plan_draining(JOB, run.expires(), run.until())?;
        let context = RunContext::new(store, id, secret, whom, run.until(), cache)?;
        let settings = Settings { level: 1, threads: 1, uploads: 1 };
        let mut writer = Writer::start(context, &settings, BOUNDS, known).await?;
        let fed = tokio::task::spawn_blocking(move || {
            let mut tree = TreeBuilder::default();
            let mut entries = Vec::new();
            for (name, bytes) in &run.files {
                let id = writer.add(BlobKind::Data, bytes)?;
                let extents = vec![Extent::Blob { id, length: bytes.len() as u32 }];
                let extents = Extents::Inline(extents);
                let content = Content { size: bytes.len() as u64, hash: None, extents };
                entries.push(entry(name, EntryKind::File(content))?);
            }
            let mut keep = |bytes: &[u8]| writer.add(BlobKind::Tree, bytes);
            for entry in &entries {
                tree.add(entry, &mut keep)?;
            }
            let root = tree.finish(&mut keep)?;
            Ok::<_, Error>(Going::Fed { writer: Box::new(writer), root, run })
        });
        self.hosts[n].going = Some(fed.await.unwrap()?);
        Ok(())
    }

    /// Reaches the copy that the first host writes to.
    async fn open_second(&self, until: Timestamp) -> Arc<Copy> {
        let settings = CopySettings {
            name: "second".into(),
            policy: LockPolicy::Compliance,
            keep: None,
            spool_max: 1 << 13,
            spool_free: 0,
            dir: self.hosts[0].cache.path().join("copies/second"),
        };
        let config = self.config.to_bytes().unwrap().0.into();
        let until = until + days(5000);
        Arc::new(Copy::open(settings, self.second.clone(), config, until).await)
    }

    /// Writes the record, which is the promise.
    async fn leave(
        &mut self,
        n: usize,
        snapshot: Snapshot,
        at: &[AtCopy],
        run: Run,
    ) -> Result<(), Error> {
        let needed = self.needed(&snapshot).await?;
        let host = &self.hosts[n];
        // Dead records too, as the agent sees them in the listing.
        let prefix = format!("runs/{}/", host.name);
        let before = self.store.keys().into_iter().filter(|k| k.as_str().starts_with(&prefix));
        let seq = 1 + before
            .filter_map(|k| Some(k.as_str().parse::<RecordKey>().ok()?.seq))
            .max()
            .unwrap_or(0);
        let expires = run.expires();
        let evidence_until = run.started + host.evidence.max(run.keep);
        let record = Record {
            format: Record::FORMAT.into(),
            vault: VaultConfig::fingerprint(&self.config.to_bytes()?.0),
            host: host.name.clone(),
            job: JOB.into(),
            kind: JobKind::Directory,
            seq,
            previous: None,
            started: run.started,
            finished: self.now,
            clock_offset_ms: None,
            status: Status::Success,
            messages: Vec::new(),
            program: "simulation".into(),
            recipients: self.recipients.names().to_vec(),
            retention: Retention { class: "daily".into(), expires, evidence_until, mode: None },
            source: None,
            totals: Totals::default(),
            snapshot: Some(snapshot),
            copies: Vec::new(),
        };
        record.ensure_unexpired(self.now)?;
        let keys = RunKeys::for_record(self.config.id, self.secret.clone())?;
        let envelope = envelope::seal(&keys, &self.recipients)?;
        let sealed = record::seal(&record, self.config.id, &self.secret, &envelope, &host.signing)?;
        let object = sealed.key.object()?;
        let also = self.hosts[n].also.clone();
        if let Some(also) = &also {
            also.await_record(&sealed.key, &sealed.bytes, evidence_until);
        }
        let bytes = bytes::Bytes::from(sealed.bytes);
        let mut put = self.store.put(&object, bytes.clone(), evidence_until).await;
        if put.is_err() {
            put = self.store.put(&object, bytes.clone(), evidence_until).await;
        }
        // Killed between the two, or it goes on.
        if let (Some(also), Ok(_), false) = (&also, &put, self.dice.percent(5)) {
            self.happened.again += u64::from(also.status().bytes_again > 0);
            if matches!(at, [AtCopy::Whole(_)]) && also.is_up() {
                let there = also.put_record(&sealed.key, bytes, evidence_until).await;
                self.happened.copied += u64::from(there);
            }
        }
        // Whatever the host was told: what can be seen is a promise.
        if self.store.keys().contains(&object) {
            let key = sealed.key;
            self.happened.runs += 1;
            self.promises.push(Promise {
                host: n,
                seq,
                object,
                key,
                expires,
                evidence_until,
                needed,
                files: run.files,
            });
        }
        put.map(|_| ()).map_err(Error::from)
    }

    async fn needed(
        &self,
        snapshot: &Snapshot,
    ) -> Result<Vec<(ObjectKey, Option<VersionId>)>, Error> {
        let mut needed = Vec::new();
        for segment in &snapshot.segments {
            let rows = self.rows(&segment.id, segment.version.as_ref()).await?;
            let key = ObjectKey::segment(&segment.id);
            needed.push((key, segment.version.clone()));
            for n in segment.used.iter() {
                let row = &rows[n as usize];
                needed.push((ObjectKey::pack(&row.id), row.version.clone()));
            }
        }
        Ok(needed)
    }

    /// What a segment says of its packs.
    pub(super) async fn rows(
        &self,
        id: &SegmentId,
        version: Option<&VersionId>,
    ) -> Result<Vec<PackRow>, Error> {
        let bytes = self.store.get(&ObjectKey::segment(id), version, 1 << 27).await?;
        OpenSegment::open_whole(id, self.config.id, &self.secret, &bytes)?.pack_rows(&bytes)
    }
}
