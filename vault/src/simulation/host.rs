//! What a host does: one run, from the vault's index to the record, which is the promise.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::promises::{Kept, Offer, Offers};
use super::world::{BOUNDS, days};
use crate::config::VaultConfig;
use crate::content::{Content, Extent, Extents};
use crate::envelope::{self, Recipients, RunKeys};
use crate::error::Error;
use crate::keys::VaultSecret;
use crate::pack::BlobKind;
use crate::record::{self, JobKind, Record, RecordKey, Retention, Snapshot, Status, Totals};
use crate::sign::SigningKey;
use crate::store::{LockPolicy, Prefix, Store};
use crate::testing::entry;
use crate::tree::{EntryKind, TreeBuilder, TreeRoot};
use crate::write::{AtCopy, Copy, CopySettings, Known, RunContext, Settings, Writer, Written};

const JOB: &str = "files";
/// How often a run begins anew when something that it meant to use again is gone, as the agent does.
const ATTEMPTS: u32 = 2;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What everybody in a vault knows.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: VaultConfig,
    pub(super) secret: VaultSecret,
    pub(super) recipients: Recipients,
    /// What records are about to promise.
    pub(super) offers: Offers,
}

/// Everything that one run takes.
pub(super) struct Run {
    pub(super) shared: Shared,
    pub(super) n: usize,
    pub(super) signing: SigningKey,
    pub(super) cache: PathBuf,
    pub(super) store: Arc<dyn Store>,
    /// The copy that it writes to as well.
    pub(super) second: Option<Arc<dyn Store>>,
    /// By the host's own clock.
    pub(super) started: Timestamp,
    pub(super) keep: SignedDuration,
    pub(super) evidence: SignedDuration,
    pub(super) files: Files,
}

/// What came of a run.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ran {
    pub(super) drained: u64,
    /// Whether the copy got the record with the run, how many it got late, and whether anything was stored again for it.
    pub(super) copied: bool,
    pub(super) caught_up: u64,
    pub(super) again: bool,
}

impl Run {
    fn expires(&self) -> Timestamp {
        self.started + self.keep
    }

    /// Where a lock must be moved anyway, it is moved so far (as the agent's `retention::slack` has it).
    fn until(&self) -> Timestamp {
        self.expires() + (self.keep / 4).min(days(30))
    }

    /// Runs the job; leaves a record, whatever comes of it.
    pub(super) async fn go(self) -> Result<Ran, Error> {
        let copy = match &self.second {
            Some(second) => Some(self.open_second(second).await),
            None => None,
        };
        let mut attempt = 1;
        let stored = loop {
            match self.attempt(copy.as_ref()).await {
                Err(Error::Gone { .. }) if attempt < ATTEMPTS => attempt += 1,
                result => break result,
            }
        };
        match stored {
            Ok((root, written)) => {
                let ran = Ran {
                    drained: written.packs_drained,
                    caught_up: copy.as_ref().map_or(0, |copy| copy.status().caught_up.1),
                    again: copy.as_ref().is_some_and(|copy| copy.status().bytes_again > 0),
                    copied: false,
                };
                let (segments, locked_until) = (written.segments, written.locked_until);
                let snapshot = Snapshot { root, segments, locked_until };
                let copied = self.leave(Some(snapshot), copy.as_ref(), &written.copies).await?;
                Ok(Ran { copied, ..ran })
            }
            Err(error) => {
                self.leave(None, copy.as_ref(), &[]).await?;
                Err(error)
            }
        }
    }

    async fn attempt(&self, copy: Option<&Arc<Copy>>) -> Result<(TreeRoot, Written), Error> {
        let Shared { config, secret, recipients, .. } = &self.shared;
        let digest = recipients.digest();
        let (store, id) = (self.store.clone(), config.id);
        let mut known =
            Known::open(&self.cache, store.clone(), id, secret.clone(), digest, true).await?;
        known.join(copy.map_or(&[], std::slice::from_ref)).await;
        known.plan_draining(JOB, self.expires(), self.until())?;
        let cache = self.cache.clone();
        let context = RunContext::new(store, id, secret.clone(), recipients, self.until(), cache)?;
        let settings = Settings { level: 1, threads: 1, uploads: 1 };
        let writer = Writer::start(context, &settings, BOUNDS, known).await?;
        let files = self.files.clone();
        let fed = tokio::task::spawn_blocking(move || feed(writer, &files)).await;
        let (writer, root) = fed.unwrap()?;
        let (written, known) = writer.finish(self.expires(), self.until()).await?;
        known.note_usage(JOB, self.expires())?;
        Ok((root, written))
    }

    /// Reaches the copy that the first host writes to.
    async fn open_second(&self, store: &Arc<dyn Store>) -> Arc<Copy> {
        let settings = CopySettings {
            name: "second".into(),
            policy: LockPolicy::Compliance,
            keep: None,
            spool_max: 1 << 13,
            spool_free: 0,
            dir: self.cache.join("copies/second"),
        };
        let config = self.shared.config.to_bytes().unwrap().0.into();
        Arc::new(Copy::open(settings, store.clone(), config, self.until() + days(5000)).await)
    }

    /// The number of the last record of this host, dead ones too.
    async fn last_seq(&self) -> Result<u64, Error> {
        let prefix = Prefix::folder(&["runs", &host_name(self.n), JOB]).unwrap();
        let listed: Vec<_> = self.store.list(&prefix).try_collect().await?;
        let seq = |key: &str| key.parse::<RecordKey>().map_or(0, |key| key.seq);
        Ok(listed.iter().map(|listed| seq(listed.key.as_str())).max().unwrap_or(0))
    }

    /// Writes the record, which is the promise; answers whether the copy got it too.
    async fn leave(
        &self,
        snapshot: Option<Snapshot>,
        copy: Option<&Arc<Copy>>,
        at: &[AtCopy],
    ) -> Result<bool, Error> {
        let Shared { config, secret, recipients, offers } = &self.shared;
        let (expires, evidence_until) =
            (self.expires(), self.started + self.evidence.max(self.keep));
        let finished = self.started.max(self.store.now());
        let mut record = Record {
            format: Record::FORMAT.into(),
            vault: VaultConfig::fingerprint(&config.to_bytes()?.0),
            host: host_name(self.n),
            job: JOB.into(),
            kind: JobKind::Directory,
            seq: 0,
            previous: None,
            started: self.started,
            finished,
            clock_offset_ms: self.store.clock_offset_ms(),
            status: if snapshot.is_some() { Status::Success } else { Status::Failed },
            messages: Vec::new(),
            program: "simulation".into(),
            recipients: recipients.names().to_vec(),
            retention: Retention { class: "daily".into(), expires, evidence_until, mode: None },
            source: None,
            totals: Totals::default(),
            snapshot,
            copies: Vec::new(),
        };
        record.ensure_unexpired(self.store.now())?;
        record.seq = 1 + self.last_seq().await?;
        let keys = RunKeys::for_record(config.id, secret.clone())?;
        let envelope = envelope::seal(&keys, recipients)?;
        let sealed = record::seal(&record, config.id, secret, &envelope, &self.signing)?;
        let object = sealed.key.object()?;
        if let Some(copy) = copy {
            copy.await_record(&sealed.key, &sealed.bytes, evidence_until);
        }
        let snapshot = record.snapshot.take();
        let kept = snapshot.map(|snapshot| Kept { snapshot, files: self.files.clone() });
        offers.lock().unwrap().insert(
            object.clone(),
            Offer { host: self.n, key: sealed.key.clone(), expires, evidence_until, kept },
        );
        let ready = record.status == Status::Failed || matches!(at, [AtCopy::Whole(_)]);
        let bytes = bytes::Bytes::from(sealed.bytes);
        if self.store.put(&object, bytes.clone(), evidence_until).await.is_err() {
            self.store.put(&object, bytes.clone(), evidence_until).await?;
        }
        let Some(copy) = copy.filter(|copy| ready && copy.is_up()) else { return Ok(false) };
        Ok(copy.put_record(&sealed.key, bytes, evidence_until).await)
    }
}

pub(super) fn host_name(n: usize) -> String {
    format!("host{n}")
}

/// Reads the source into the pipeline.
fn feed(mut writer: Writer, files: &Files) -> Result<(Writer, TreeRoot), Error> {
    let mut tree = TreeBuilder::default();
    let mut entries = Vec::new();
    for (name, bytes) in files {
        let id = writer.add(BlobKind::Data, bytes)?;
        let extents = Extents::Inline(vec![Extent::Blob { id, length: bytes.len() as u32 }]);
        let content = Content { size: bytes.len() as u64, hash: None, extents };
        entries.push(entry(name, EntryKind::File(content))?);
    }
    let mut keep = |bytes: &[u8]| writer.add(BlobKind::Tree, bytes);
    for entry in &entries {
        tree.add(entry, &mut keep)?;
    }
    let root = tree.finish(&mut keep)?;
    Ok((writer, root))
}
