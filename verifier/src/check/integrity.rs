//! Integrity: each needed object is downloaded whole and hashed again; each pack is then opened by itself, as a restore
//! with nothing but the bucket and an identity would, and the id of every blob in it recomputed.

use std::collections::HashMap;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt;
use keephold_vault::Error;
use keephold_vault::config::VaultConfig;
use keephold_vault::ids::{BlobId, PackId};
use keephold_vault::pack::{FramePlace, check_name};
use keephold_vault::record::{RecordKey, SealedRecord};
use keephold_vault::store::VersionId;

use super::context::{Context, is_about_object, told};
use super::findings::Findings;
use super::history::History;
use super::needed::Needed;
use super::object::{Kind, Object, len_max};
use super::pack::{self, Opened, Wrong};
use crate::report::catalogue as code;
use crate::report::model::{Count, Integrity, Level, LevelResult, LevelState};
use crate::report::words;
use crate::settings::Depth;

/// Other versions that are tried where the one that should be true is not; an attacker may have put many over it.
const VERSIONS_MAX: usize = 1000;

/// Reads objects.
#[derive(Debug)]
pub(super) struct Reading {
    deep: bool,
    objects: u64,
    /// Needed, but not read, since presence has found that they can't be right.
    skipped: u64,
    packs: u64,
    pack_bytes: u64,
    bytes: u64,
    opened: u64,
    blobs: u64,
    failed: Option<String>,
}

/// What became of one object.
struct Read<'a> {
    object: &'a Object,
    bytes: u64,
    result: Result<Option<Opened>, Wrong>,
}

impl Reading {
    pub(super) fn new(context: &Context<'_>) -> Self {
        Self {
            deep: context.settings.depth.holds(Level::IntegrityDeep),
            objects: 0,
            skipped: 0,
            packs: 0,
            pack_bytes: 0,
            bytes: 0,
            opened: 0,
            blobs: 0,
            failed: None,
        }
    }

    /// Reads the objects of a batch.
    ///
    /// # Errors
    /// Only a signal to stop.
    pub(super) async fn check(
        &mut self,
        context: &Context<'_>,
        batch: &[Object],
        needed: &Needed,
        history: &History,
        findings: &mut Findings,
    ) -> Result<()> {
        let deep = self.deep;
        let is_there = |object: &&Object| match (&object.versions, object.truth()) {
            (None, _) => true,
            (Some(_), Some(truth)) => object.size.is_none_or(|size| size == truth.size),
            (Some(_), None) => false,
        };
        let readable: Vec<_> = batch.iter().filter(is_there).collect();
        self.skipped += (batch.len() - readable.len()) as u64;
        // One more than threads, so that it is on its way while others are opened; each takes the memory of a whole pack.
        let ahead = context.settings.concurrency + 1;
        let mut reading = futures::stream::iter(readable)
            .map(|object| read(context, object, deep))
            .buffer_unordered(ahead);
        let mut suspects = Vec::new();
        while let Some(read) = context.stop.unless_set(reading.next()).await? {
            if self.failed.is_some() {
                break;
            }
            if let Some(suspect) = self.take(read, history, findings) {
                suspects.push(suspect);
            }
            let so_far = keephold_cli::human::bytes(self.bytes);
            context.progress.at(format!(
                "reading everything again: {} objects, {so_far}",
                words::count(self.objects)
            ));
        }
        drop(reading);
        for (object, footer) in suspects {
            context.stop.check()?;
            pack::compare_index(context, object, &footer, needed, findings).await;
        }
        Ok(())
    }

    fn take<'a>(
        &mut self,
        read: Read<'a>,
        history: &History,
        findings: &mut Findings,
    ) -> Option<(&'a Object, HashMap<BlobId, FramePlace>)> {
        let Read { object, bytes, result } = read;
        match result {
            Err(Wrong::Target(error)) => {
                self.failed = Some(told(&error));
                return None;
            }
            Err(Wrong::Object(code, why)) => {
                let what = match code.id {
                    id if id == code::HASH_DIFFERS.id => {
                        "Its bytes are not those that its name is the hash of"
                    }
                    id if id == code::INDEX_CORRUPT.id => {
                        "The index segment's bytes are not those that its name is the hash of"
                    }
                    id if id == code::BLOB_DIFFERS.id => "What it holds is not what its ids say",
                    _ => "It can't be opened",
                };
                findings.add(
                    code,
                    object.key.as_str(),
                    format!("{what}; it is {}.", object.needed_by(history)),
                    Some(why),
                );
                self.count(object, bytes);
            }
            Ok(opened) => {
                self.count(object, bytes);
                if let Some(opened) = opened {
                    self.opened += 1;
                    self.blobs += opened.blobs;
                    return Some((object, opened.differs?));
                }
            }
        }
        None
    }

    fn count(&mut self, object: &Object, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
        if matches!(object.kind, Kind::Pack(..)) {
            self.packs += 1;
            self.pack_bytes += bytes;
        }
    }

    pub(super) fn integrity(&self, needed: &Needed, (packs, bytes): (u64, u64)) -> Integrity {
        Integrity {
            packs_checked: self.packs,
            packs_total: packs,
            bytes_checked: self.pack_bytes,
            bytes_total: bytes,
            packs_opened: self.opened,
            blobs_checked: self.blobs,
            blobs_total: self.deep.then_some(needed.blobs),
            ..Integrity::default()
        }
    }

    pub(super) fn levels(&self, depth: Depth, packs: u64) -> Vec<LevelResult> {
        let state = |could: &Option<String>| match (could, self.skipped) {
            (Some(why), _) => {
                (LevelState::CouldNotCheck, Some(format!("objects can't be downloaded: {why}")))
            }
            (None, 1..) => {
                let skipped = words::counted(self.skipped, "needed object");
                (
                    LevelState::Findings,
                    Some(format!("{skipped} could not be read: missing, or of another size")),
                )
            }
            (None, 0) => (LevelState::Passed, None),
        };
        let level = |level, checked| {
            let (state, reason) = state(&self.failed);
            LevelResult { level, state, checked, reason }
        };
        let all = self.objects + self.skipped;
        let objects = if self.skipped == 0 {
            Count::all("objects", all)
        } else {
            Count::some("objects", self.objects, all)
        };
        let keyless = level(Level::IntegrityKeyless, vec![objects]);
        let packs = match packs.checked_sub(self.opened) {
            Some(1..) => Count::some("packs", self.opened, packs),
            _ => Count::all("packs", self.opened),
        };
        let mut deep = level(Level::IntegrityDeep, vec![packs, Count::all("blobs", self.blobs)]);
        if deep.state == LevelState::Passed && deep.checked[0].of.is_some() {
            deep.state = LevelState::Findings;
            deep.reason = Some("packs whose bytes are wrong were not opened".to_owned());
        }
        [keyless, deep].into_iter().filter(|result| depth.holds(result.level)).collect()
    }
}

/// Downloads and checks one object.
async fn read<'a>(context: &Context<'_>, object: &'a Object, deep: bool) -> Read<'a> {
    let (bytes, result) = match fetch(context, object).await {
        Err(wrong) => (0, Err(wrong)),
        Ok(bytes) => {
            let length = bytes.len() as u64;
            match (&object.kind, deep) {
                (Kind::Pack(id, places), true) => {
                    (length, pack::open(context, *id, bytes, places.clone()).await.map(Some))
                }
                _ => (length, Ok(None)),
            }
        }
    };
    Read { object, bytes, result }
}

/// Downloads the version that is true: the one that should be, else any other.
async fn fetch(context: &Context<'_>, object: &Object) -> Result<Bytes, Wrong> {
    let likely: Option<VersionId> =
        object.truth().and_then(|v| v.version.clone()).or_else(|| object.known.clone());
    let others = others(object, likely.as_ref());
    let store = context.vault.store();
    let mut why = "no version of it could be read".to_owned();
    for version in std::iter::once(likely).chain(others).take(VERSIONS_MAX) {
        match store
            .get(&object.key, version.as_ref(), len_max(&object.kind))
            .await
            .map_err(Error::from)
        {
            Ok(bytes) => {
                let (name, check) = (Name::of(context, object), bytes.clone());
                let found = blocking(move || name.check(&check)).await.map_err(Wrong::Target)?;
                match found {
                    Ok(()) => return Ok(bytes),
                    Err(found) => why = found,
                }
            }
            Err(error) if is_about_object(&error) => why = told(&error),
            Err(error) => return Err(Wrong::Target(error)),
        }
    }
    let code = match object.kind {
        Kind::Segment => &code::INDEX_CORRUPT,
        _ => &code::HASH_DIFFERS,
    };
    Err(Wrong::Object(code, why))
}

/// The versions to try after the likely one, the oldest first: what came later was put over it.
fn others(object: &Object, likely: Option<&VersionId>) -> Vec<Option<VersionId>> {
    let known = object.data().filter_map(|v| v.version.clone()).filter(|v| Some(v) != likely);
    let mut others: Vec<_> = known.map(Some).collect();
    others.reverse();
    others
}

/// What an object's name promises about its bytes.
enum Name {
    Hash([u8; 32]),
    Fingerprint(keephold_vault::ids::Fingerprint),
    Record(Option<RecordKey>),
}

impl Name {
    fn of(context: &Context<'_>, object: &Object) -> Self {
        match &object.kind {
            Kind::Pack(id, _) => Self::Hash(*id.as_bytes()),
            Kind::Segment => {
                Self::Hash(object.key.as_segment().map(|id| *id.as_bytes()).unwrap_or_default())
            }
            Kind::Config => Self::Fingerprint(context.vault.fingerprint()),
            Kind::Record => Self::Record(object.key.as_str().parse().ok()),
        }
    }

    /// Whether `bytes` keep it; if not, what was found.
    fn check(self, bytes: &Bytes) -> Result<(), String> {
        let found = || {
            format!(
                "the BLAKE3 of its {} bytes is {}",
                words::count(bytes.len() as u64),
                blake3::hash(bytes).to_hex()
            )
        };
        match self {
            Self::Hash(id) if check_name(&PackId::from_bytes(id), bytes) => Ok(()),
            Self::Fingerprint(known) if VaultConfig::fingerprint(bytes) == known => Ok(()),
            Self::Record(Some(key)) => {
                SealedRecord::read(key, bytes.to_vec()).map(drop).map_err(|e| told(&e))
            }
            Self::Hash(_) | Self::Fingerprint(_) | Self::Record(None) => Err(found()),
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Local {
        what: "a thread of the verifier".into(),
        source: std::io::Error::other(e),
    })
}
