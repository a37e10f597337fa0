//! From a target's URL to a store.

use std::sync::Arc;

use jiff::Timestamp;

use super::azure::AzureStore;
use super::gcs::GcsStore;
use super::http::check_offset;
use super::local::LocalStore;
use super::s3::S3Store;
use super::target::{TargetOptions, TargetUrl};
use super::{LockPolicy, Permissions, Probe, Protection, Prune, Store, StoreError};

/// A look-up of environment variables; `&|name| std::env::var(name).ok()` in programs.
pub type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

/// Opens a target for writing and reading. Nothing is sent yet; a local folder must exist.
///
/// # Errors
/// [`StoreError::Config`], [`StoreError::NoCredential`] where that is plain from the settings alone, and
/// [`StoreError::NoTarget`] for a missing folder.
pub fn open_store(
    url: &TargetUrl,
    options: &TargetOptions,
    env: Env<'_>,
) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match url {
        TargetUrl::S3 { .. } => Arc::new(S3Store::open(url, options, env)?),
        TargetUrl::Google { .. } => Arc::new(GcsStore::open(url, options, env)?),
        TargetUrl::Azure { .. } => Arc::new(AzureStore::open(url, options, env)?),
        TargetUrl::Local { path } => Arc::new(LocalStore::open(path, options.lock)?),
    })
}

/// Opens a target with the right to delete as well: for the pruner only.
///
/// # Errors
/// As [`open_store`].
pub fn open_prune(
    url: &TargetUrl,
    options: &TargetOptions,
    env: Env<'_>,
) -> Result<Arc<dyn Prune>, StoreError> {
    Ok(match url {
        TargetUrl::S3 { .. } => Arc::new(S3Store::open(url, options, env)?),
        TargetUrl::Google { .. } => Arc::new(GcsStore::open(url, options, env)?),
        TargetUrl::Azure { .. } => Arc::new(AzureStore::open(url, options, env)?),
        TargetUrl::Local { path } => Arc::new(LocalStore::open(path, options.lock)?),
    })
}

/// Opens a target with the right to attack the locks of canaries: for the prober only.
///
/// # Errors
/// As [`open_store`].
pub fn open_probe(
    url: &TargetUrl,
    options: &TargetOptions,
    env: Env<'_>,
) -> Result<Arc<dyn Probe>, StoreError> {
    Ok(match url {
        TargetUrl::S3 { .. } => Arc::new(S3Store::open(url, options, env)?),
        TargetUrl::Google { .. } => Arc::new(GcsStore::open(url, options, env)?),
        TargetUrl::Azure { .. } => Arc::new(AzureStore::open(url, options, env)?),
        TargetUrl::Local { path } => Arc::new(LocalStore::open(path, options.lock)?),
    })
}

/// Prepares a target for a new vault: makes the folder, or checks that the bucket exists and can lock. Buckets
/// aren't made: their lock, policy and region are the operator's choice, and an agent's credential can't anyway.
///
/// # Errors
/// [`StoreError::NoTarget`] for a missing bucket, [`StoreError::Unprotected`] if it can't lock as
/// [`TargetOptions::lock`] asks.
pub async fn create_target(
    url: &TargetUrl,
    options: &TargetOptions,
    env: Env<'_>,
) -> Result<Protection, StoreError> {
    if let TargetUrl::Local { path } = url {
        let path = path.clone();
        super::local::blocking(move || LocalStore::create(&path)).await?;
    }
    let store = open_store(url, options, env)?;
    ensure_lockable(store.as_ref(), options.lock).await
}

/// What the target promises, refused where it says that it can't lock although `policy` asks for locks. To be
/// called before a run's first write: it also learns the server's clock.
///
/// A target that doesn't tell (its credential may not ask) passes: the first write is read back then.
///
/// # Errors
/// [`StoreError::Unprotected`], [`StoreError::ClockSkew`], and whatever [`Store::protection`] meets.
pub async fn ensure_lockable(
    store: &dyn Store,
    policy: LockPolicy,
) -> Result<Protection, StoreError> {
    let protection = store.protection().await?;
    if policy != LockPolicy::None && protection.object_lock == Some(false) {
        return Err(StoreError::Unprotected {
            target: store.url(),
            detail: store.unlockable().into(),
        });
    }
    if policy != LockPolicy::None {
        check_offset(store.clock_offset_ms(), &store.url())?;
    }
    Ok(protection)
}

/// What a credential may do with a target, tried without changing anything there; `None` for a local folder, where
/// file permissions say it all, and for Azure and Google, where it can't be tried without writing. `longest` is the end of
/// the longest lock that a run of now would set.
///
/// # Errors
/// As [`open_store`], and [`StoreError`] where the target can't be asked.
pub async fn permissions(
    url: &TargetUrl,
    options: &TargetOptions,
    env: Env<'_>,
    longest: Timestamp,
) -> Result<Option<Permissions>, StoreError> {
    match url {
        TargetUrl::S3 { .. } => {
            S3Store::open(url, options, env)?.permissions(longest).await.map(Some)
        }
        TargetUrl::Google { .. } | TargetUrl::Azure { .. } | TargetUrl::Local { .. } => Ok(None),
    }
}
