//! A vault that is opened for reading: its configuration, its records, its objects by name.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;

use crate::config::VaultConfig;
use crate::error::Error;
use crate::ids::{Fingerprint, PackId, SegmentId, VaultId};
use crate::index::OpenSegment;
use crate::keys::VaultSecret;
use crate::limits::{CONFIG_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX};
use crate::pack::check_name;
use crate::read::notes::{Note, NoteKind, Notes};
use crate::read::opener::{Opener, RunRecord};
use crate::read::versions::{self, versions_of};
use crate::record::{RecordKey, SealedRecord};
use crate::store::{ObjectKey, Prefix, Store, StoreError, Version, VersionId};

/// A vault, opened for reading. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    store: Arc<dyn Store>,
    config: VaultConfig,
    fingerprint: Fingerprint,
    notes: Notes,
}

/// Whose records to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordScope {
    /// Only this host's.
    pub host: Option<String>,
    /// Only this job's.
    pub job: Option<String>,
}

/// A record as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its key.
    pub key: RecordKey,
    /// Length of its newest version in bytes.
    pub size: u64,
    /// When the store took its oldest version, by the store's clock.
    pub modified: Timestamp,
    /// Whether a delete marker hides it from a plain read.
    pub hidden: bool,
    /// How many versions with data there are; more than one means that someone wrote over it.
    pub versions: usize,
}

impl Vault {
    /// Opens the vault in `store`, which must be the one whose fingerprint is pinned, if one is.
    ///
    /// # Errors
    /// [`Error::OtherVault`] if it is another; [`StoreError`]; [`Error::Damaged`].
    pub async fn open(store: Arc<dyn Store>, pinned: Option<&Fingerprint>) -> Result<Self, Error> {
        let notes = Notes::default();
        let bytes = read_config(store.as_ref(), &notes, pinned).await?;
        let config = VaultConfig::read(&bytes, pinned)?;
        Ok(Self { config, fingerprint: VaultConfig::fingerprint(&bytes), store, notes })
    }

    /// Where it lies.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Its configuration.
    pub fn config(&self) -> &VaultConfig {
        &self.config
    }

    /// Its name.
    pub fn id(&self) -> VaultId {
        self.config.id
    }

    /// The BLAKE3 of `vault.json`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What was met and read through so far: hidden and overwritten objects.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.all()
    }

    pub(crate) fn notebook(&self) -> &Notes {
        &self.notes
    }

    /// Reads a whole object of at most `max` bytes, in the version whose bytes `is_true` believes: a plain read
    /// first, then the version that is known, then all others.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`Error::Damaged`] if no version is believed.
    pub async fn read_true(
        &self,
        key: &ObjectKey,
        known: Option<&VersionId>,
        max: u64,
        is_true: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> Result<Bytes, Error> {
        versions::read_true(self.store.as_ref(), &self.notes, key, known, max, is_true).await
    }

    /// Reads a whole pack: the bytes that its name is the hash of.
    ///
    /// # Errors
    /// As [`read_true`](Self::read_true).
    pub async fn read_pack(&self, id: &PackId, known: Option<&VersionId>) -> Result<Bytes, Error> {
        let max = u64::from(PACK_LEN_MAX);
        self.read_true(&ObjectKey::pack(id), known, max, &|bytes| check_name(id, bytes)).await
    }

    /// Lists records in the order of their keys, as they come: by host, job and time. Hidden ones are found too,
    /// where the target lets versions be listed: otherwise `latest` would be whatever an attacker leaves visible.
    pub fn records(&self, scope: &RecordScope) -> BoxStream<'_, Result<FoundRecord, Error>> {
        let Some(prefix) = scope.prefix() else {
            return stream::empty().boxed();
        };
        let job = scope.job.clone();
        let versions = versions::versions_or_newest(self.store.as_ref(), &prefix);
        let grouped = stream::unfold(
            Grouping { versions, next: None, vault: self },
            |mut grouping| async move { Some((grouping.next().await?, grouping)) },
        );
        grouped
            .filter_map(move |found| {
                let found = match found {
                    Ok(found) if job.as_ref().is_some_and(|job| *job != found.key.job) => None,
                    other => Some(other),
                };
                async move { found }
            })
            .boxed()
    }

    /// All records of a scope, sorted by host, job, time and number.
    ///
    /// # Errors
    /// [`StoreError`] if they can't be listed.
    pub async fn find_records(&self, scope: &RecordScope) -> Result<Vec<FoundRecord>, Error> {
        let mut found = Vec::new();
        let mut records = self.records(scope);
        while let Some(record) = records.next().await {
            found.push(record?);
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Reads a record's stored bytes, in the version that its name is the hash of.
    ///
    /// # Errors
    /// As [`read_true`](Self::read_true), [`Error::NewerFormat`].
    pub async fn read_record(&self, key: &RecordKey) -> Result<SealedRecord, Error> {
        let named = |bytes: &[u8]| key.names(bytes);
        let bytes = self.read_true(&key.object()?, None, RECORD_LEN_MAX, &named).await?;
        SealedRecord::read(key.clone(), bytes.to_vec())
    }

    /// Reads and opens a record.
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record) and [`open_record`](Self::open_record).
    pub async fn run(&self, key: &RecordKey, opener: &Opener) -> Result<RunRecord, Error> {
        self.open_record(self.read_record(key).await?, opener).await
    }

    /// Opens a record that was read. Anyone can seal a record to public recipients, but not with this vault's secret:
    /// such a forgery is refused here, also by those who hold no signer's key to check it by.
    ///
    /// # Errors
    /// As [`Opener::record`]; [`Error::OtherVault`] if it was made with another secret than this vault's.
    pub async fn open_record(
        &self,
        sealed: SealedRecord,
        opener: &Opener,
    ) -> Result<RunRecord, Error> {
        let (opener, fingerprint) = (opener.clone(), self.fingerprint);
        let run = super::blocking(move || opener.record(&sealed, &fingerprint)).await??;
        self.check_secret(&run)?;
        Ok(run)
    }

    /// Opens an index segment whose whole bytes are at hand, whichever run wrote it. Who lacks the vault's secret can't make
    /// one that opens. Call it where blocking is allowed.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::OtherVault`] if it was made with another secret than this vault's; as [`Opener::keys`] as
    /// long as the opener doesn't know the secret.
    pub fn open_segment(
        &self,
        id: &SegmentId,
        bytes: &[u8],
        opener: &Opener,
    ) -> Result<OpenSegment, Error> {
        let is_ours = |secret: &VaultSecret| self.config.check_secret(secret).is_ok();
        let secret = match opener.secret().filter(is_ours) {
            Some(secret) => secret,
            None => {
                let header = OpenSegment::header(id, bytes)?;
                let secret = opener.keys(&header.envelope, &format!("index segment {id}"))?.secret;
                Some(secret).filter(is_ours).ok_or_else(|| Error::OtherVault {
                    what: format!("index segment {id}"),
                    found: "made with another secret".into(),
                    expected: format!("vault {}", self.config.id),
                })?
            }
        };
        OpenSegment::open_whole(id, self.id(), &secret, bytes)
    }

    pub(crate) fn check_secret(&self, run: &RunRecord) -> Result<(), Error> {
        self.config.check_secret(&run.secret).map_err(|_| Error::OtherVault {
            what: format!("record {}", run.key),
            found: "made with another secret".into(),
            expected: format!("vault {}", self.config.id),
        })
    }
}

impl RecordScope {
    /// The folder to list; `None` where no record can have such a host or job.
    fn prefix(&self) -> Option<Prefix> {
        match (&self.host, &self.job) {
            (None, _) => Some(Prefix::runs()),
            (Some(host), None) => Prefix::folder(&["runs", host]),
            (Some(host), Some(job)) => Prefix::folder(&["runs", host, job]),
        }
    }
}

/// Reads `vault.json`: by its fingerprint where one is pinned; otherwise the first that was ever written, if a
/// plain read finds none.
async fn read_config(
    store: &dyn Store,
    notes: &Notes,
    pinned: Option<&Fingerprint>,
) -> Result<Bytes, Error> {
    let key = ObjectKey::vault_config();
    let newest = store.get(&key, None, CONFIG_LEN_MAX).await;
    let error = match (newest, pinned) {
        // What isn't a vault.json at all was put over the true one.
        (Ok(bytes), None) => match VaultConfig::read(&bytes, None) {
            Ok(_) => return Ok(bytes),
            Err(error) => error,
        },
        (Ok(bytes), Some(pinned)) if VaultConfig::fingerprint(&bytes) == *pinned => {
            return Ok(bytes);
        }
        // Said by whoever reads it: the fingerprint that was found tells more than "damaged".
        (Ok(bytes), Some(pinned)) => match VaultConfig::read(&bytes, Some(pinned)) {
            Ok(_) => return Ok(bytes),
            Err(error) => error,
        },
        (Err(error), _) => error.into(),
    };
    if !versions::concerns_object(&error) {
        return Err(error);
    }
    for version in versions_of(store, &key).await.unwrap_or_default() {
        let Ok(bytes) = store.get(&key, version.version.as_ref(), CONFIG_LEN_MAX).await else {
            continue;
        };
        if VaultConfig::read(&bytes, pinned).is_ok() {
            versions::note(notes, &key, Some(&error), version.version);
            return Ok(bytes);
        }
    }
    Err(error)
}

/// Makes one [`FoundRecord`] of the versions of a key, which come together, newest first.
struct Grouping<'a> {
    versions: BoxStream<'a, Result<Version, StoreError>>,
    next: Option<Version>,
    vault: &'a Vault,
}

impl Grouping<'_> {
    async fn next(&mut self) -> Option<Result<FoundRecord, Error>> {
        loop {
            let first = match self.next.take() {
                Some(version) => version,
                None => match self.versions.next().await? {
                    Ok(version) => version,
                    Err(error) => return Some(Err(error.into())),
                },
            };
            match self.group(first).await {
                Ok(None) => {}
                Ok(Some(found)) => return Some(Ok(found)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Collects the versions of one key; `None` if there is no data among them, or it is no record.
    async fn group(&mut self, first: Version) -> Result<Option<FoundRecord>, Error> {
        let hidden = first.delete_marker;
        let mut data = Some(first.clone()).filter(|v| !v.delete_marker);
        let mut versions = usize::from(data.is_some());
        while let Some(version) = self.versions.next().await {
            let version = version?;
            if version.key != first.key {
                self.next = Some(version);
                break;
            }
            if !version.delete_marker {
                versions += 1;
                let size = data.as_ref().map_or(version.size, |newest| newest.size);
                data = Some(Version { size, ..version });
            }
        }
        let Some(data) = data else { return Ok(None) };
        Ok(self.key_of(&first.key).map(|key| FoundRecord {
            key,
            size: data.size,
            modified: data.modified,
            hidden,
            versions,
        }))
    }

    fn key_of(&self, key: &ObjectKey) -> Option<RecordKey> {
        let read = key.as_str().parse().ok();
        if read.is_none() {
            let note = Note { kind: NoteKind::Stray, key: key.clone(), version: None };
            self.vault.notes.add(note);
        }
        read
    }
}
