//! Reading the true bytes of an object, whatever lies over it.
//!
//! A lock protects versions, not names: whoever may write can put a delete marker or other bytes over a locked
//! object. The true version is still there, and its name is the hash of its bytes.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::error::Error;
use crate::read::notes::{Note, NoteKind, Notes};
use crate::store::{Listed, ObjectKey, Prefix, Store, StoreError, Version, VersionId};

/// Most versions of one key that are tried: who can write may have put many over it, the true one is the oldest.
const VERSIONS_MAX: usize = 10_000;

/// Whether an error says something about one object only, so that other versions or other objects may be sound.
pub(crate) fn concerns_object(error: &Error) -> bool {
    match error {
        Error::Store(error) => matches!(
            error,
            StoreError::NotFound { .. }
                | StoreError::Truncated { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Altered { .. }
        ),
        Error::Damaged { .. }
        | Error::BlobUnknown { .. }
        | Error::WrongIdentity { .. }
        | Error::OtherVault { .. }
        | Error::NewerFormat { .. } => true,
        _ => false,
    }
}

/// The same error once more, for each of the things that it befell. Only for those that
/// [`concerns_object`] names; others become [`Error::Damaged`] with the same words.
pub(crate) fn reproduce(error: &Error) -> Error {
    match error {
        Error::Damaged { what, why } => Error::damaged(what, why),
        Error::BlobUnknown { id } => Error::BlobUnknown { id: *id },
        Error::WrongIdentity { what, detail } => {
            Error::WrongIdentity { what: what.clone(), detail: detail.clone() }
        }
        Error::NewerFormat { what, found } => {
            Error::NewerFormat { what: what.clone(), found: found.clone() }
        }
        Error::Store(StoreError::NotFound { what, target }) => {
            StoreError::NotFound { what: what.clone(), target: target.clone() }.into()
        }
        other => Error::damaged("the vault", other),
    }
}

/// The versions below a prefix, newest first for each key. A credential that may not list them sees the newest of each
/// key, without its version: enough unless someone tampers.
pub fn versions_or_newest<'a>(
    store: &'a dyn Store,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Version, StoreError>> {
    let (mut versions, prefix) = (store.list_versions(prefix), prefix.clone());
    let listed = async move {
        match versions.next().await {
            Some(Err(StoreError::Denied { .. })) => {
                let newest = store.list(&prefix);
                let plain = newest.map_ok(|Listed { key, size, modified }| Version {
                    key,
                    version: None,
                    size,
                    modified,
                    latest: true,
                    delete_marker: false,
                });
                plain.boxed()
            }
            first => stream::iter(first).chain(versions).boxed(),
        }
    };
    stream::once(listed).flatten().boxed()
}

/// The versions of one key that hold data, the oldest first: locked objects are written once, so what came later
/// is what someone put over them.
///
/// # Errors
/// [`StoreError`] if they can't be listed.
pub(crate) async fn versions_of(
    store: &dyn Store,
    key: &ObjectKey,
) -> Result<Vec<Version>, StoreError> {
    let prefix = Prefix::exact(key);
    let mut listed = store.list_versions(&prefix);
    let mut versions = Vec::new();
    while let Some(version) = listed.next().await {
        let version = version?;
        if version.key == *key && !version.delete_marker {
            versions.push(version);
        }
        if versions.len() > VERSIONS_MAX {
            versions.remove(0);
        }
    }
    versions.reverse();
    Ok(versions)
}

/// Which versions to try after a plain read of `key` failed: the one that the index knows, then all others.
/// A target that can't list versions has none to offer.
pub(crate) async fn candidates(
    store: &dyn Store,
    key: &ObjectKey,
    known: Option<&VersionId>,
) -> Vec<Option<VersionId>> {
    let mut candidates: Vec<_> = known.into_iter().cloned().map(Some).collect();
    match versions_of(store, key).await {
        Ok(versions) => {
            let others = versions.into_iter().map(|v| v.version).filter(|v| v.as_ref() != known);
            candidates.extend(others);
        }
        Err(error) => tracing::debug!(%key, %error, "versions can't be listed"),
    }
    candidates
}

/// Notes that a plain read of `key` met `error`, and which version was read instead.
pub(crate) fn note(
    notes: &Notes,
    key: &ObjectKey,
    error: Option<&Error>,
    version: Option<VersionId>,
) {
    let hidden = matches!(error, Some(Error::Store(StoreError::NotFound { .. })));
    let kind = if hidden { NoteKind::Hidden } else { NoteKind::Replaced };
    notes.add(Note { kind, key: key.clone(), version });
}

/// Reads the whole object of at most `max` bytes whose bytes `is_true` believes: as a plain read answers it, else
/// in the version that the index knows, else in whichever version holds it.
pub(crate) async fn read_true(
    store: &dyn Store,
    notes: &Notes,
    key: &ObjectKey,
    known: Option<&VersionId>,
    max: u64,
    is_true: &(dyn Fn(&[u8]) -> bool + Sync),
) -> Result<Bytes, Error> {
    let first = match store.get(key, None, max).await {
        Ok(bytes) if is_true(&bytes) => return Ok(bytes),
        Ok(_) => None,
        Err(error) => {
            let error = Error::from(error);
            if !concerns_object(&error) {
                return Err(error);
            }
            Some(error)
        }
    };
    let candidates = candidates(store, key, known).await;
    let tried = candidates.len();
    for version in candidates {
        match store.get(key, version.as_ref(), max).await {
            Ok(bytes) if is_true(&bytes) => {
                note(notes, key, first.as_ref(), version);
                return Ok(bytes);
            }
            Ok(_) => {}
            Err(error) => {
                let error = Error::from(error);
                if !concerns_object(&error) {
                    return Err(error);
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| untrue(store, key, tried)))
}

/// No version holds what the name says.
pub(crate) fn untrue(store: &dyn Store, key: &ObjectKey, tried: usize) -> Error {
    let why = match tried {
        0 | 1 => "its bytes are not those that its name is the hash of".to_owned(),
        n => format!("none of its {n} versions has the bytes that its name is the hash of"),
    };
    Error::damaged(format!("{key} in {}", store.url()), why)
}
