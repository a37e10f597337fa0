//! The chain of a job's records: which came last.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::ids::{Fingerprint, RecordHash, VaultId};
use keephold_vault::keys::VaultSecret;
use keephold_vault::limits::RECORD_LEN_MAX;
use keephold_vault::record::{RecordKey, SealedRecord};
use keephold_vault::store::{Prefix, Store, StoreError, VersionId};

/// How far a clock may seem to have gone back between two runs without anyone being told.
pub(crate) const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// The folder in the cache of the vault with this fingerprint, as the last run that could open it left it.
pub(crate) fn caches_of(cache: &Path, fingerprint: &Fingerprint) -> Result<PathBuf> {
    let note = cache.join(format!("{fingerprint}.vault"));
    let id = std::fs::read_to_string(&note)
        .with_context(|| format!("no run has reached this vault yet ({})", note.display()))?;
    Ok(cache.join(id.trim()))
}

/// Notes which folder of the cache belongs to a vault.
pub(crate) fn note_cache(cache: &Path, fingerprint: &Fingerprint, id: &VaultId) -> Result<()> {
    let note = cache.join(format!("{fingerprint}.vault"));
    std::fs::write(&note, format!("{id}\n"))
        .with_context(|| format!("{} can't be written", note.display()))
}

/// The end of a chain.
#[derive(Debug, Default)]
pub(crate) struct Last {
    pub(crate) seq: u64,
    pub(crate) hash: Option<RecordHash>,
    pub(crate) finished: Option<Timestamp>,
}

/// Finds the last record of a job, past delete markers and newer versions that may hide it.
pub(crate) async fn last(
    store: &dyn Store,
    host: &str,
    job: &str,
    vault: VaultId,
    secret: &VaultSecret,
) -> Result<Last> {
    let Some(prefix) = Prefix::folder(&["runs", host, job]) else { return Ok(Last::default()) };
    let mut found: Vec<(RecordKey, Option<VersionId>)> = Vec::new();
    let mut take = |key: &str, version| {
        if let Ok(key) = key.parse::<RecordKey>() {
            found.push((key, version));
        }
    };
    let versions: Result<Vec<_>, StoreError> = store.list_versions(&prefix).try_collect().await;
    match versions {
        Ok(versions) => {
            versions
                .into_iter()
                .filter(|v| !v.delete_marker)
                .for_each(|v| take(v.key.as_str(), v.version));
        }
        Err(StoreError::Denied { .. }) => {
            let listed: Vec<_> = store.list(&prefix).try_collect().await?;
            listed.iter().for_each(|l| take(l.key.as_str(), None));
        }
        Err(error) => return Err(error.into()),
    }
    found.sort_by(|(a, _), (b, _)| (b.seq, b.started, &b.id).cmp(&(a.seq, a.started, &a.id)));
    for (key, version) in found {
        let bytes = match store.get(&key.object()?, version.as_ref(), RECORD_LEN_MAX).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        match SealedRecord::read(key.clone(), bytes.to_vec()) {
            Ok(sealed) => {
                let finished = sealed.open(vault, secret).ok().map(|record| record.finished);
                return Ok(Last { seq: key.seq, hash: Some(sealed.hash), finished });
            }
            Err(error) => tracing::warn!("passed over: {error}"),
        }
    }
    Ok(Last::default())
}
