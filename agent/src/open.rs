//! Opening a vault for writing: the target is reached and understood, the vault is the pinned one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use keephold_cli::keys::HostKeys;
use keephold_cli::target::Target;
use keephold_vault::config::VaultConfig;
use keephold_vault::limits::CONFIG_LEN_MAX;
use keephold_vault::store::{
    LockPolicy, ObjectKey, Prefix, Protection, Store, StoreError, VersionId, ensure_lockable,
};

/// A vault that a host may write to.
pub(crate) struct OpenVault {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: VaultConfig,
    pub(crate) keys: HostKeys,
    /// The true version of `vault.json`.
    pub(crate) config_version: Option<VersionId>,
    pub(crate) protection: Protection,
    pub(crate) policy: LockPolicy,
    /// The folder of this vault in the cache.
    pub(crate) cache: PathBuf,
}

impl OpenVault {
    /// Opens a vault.
    pub(crate) async fn open(target: &Target, keys: HostKeys, cache: &Path) -> Result<Self> {
        let store = target.open()?;
        let policy = target.options.lock;
        let protection = ensure_lockable(&*store, policy).await?;
        let (config, config_version) =
            true_config(&*store, &keys).await.context("opening the vault")?;
        config.check_secret(&keys.secret)?;
        let folder = cache.join(config.id.to_string());
        keephold_cli::keys::private_folder(&folder)?;
        crate::run::note_cache(cache, &keys.fingerprint, &config.id)?;
        let cache = folder;
        Ok(Self { store, config, keys, config_version, protection, policy, cache })
    }

    /// Whether what is written gets locks.
    pub(crate) fn locks(&self) -> bool {
        self.policy != LockPolicy::None
    }
}

/// Reads the `vault.json` that the host has pinned, past newer versions and delete markers that may hide it.
pub(crate) async fn true_config(
    store: &dyn Store,
    keys: &HostKeys,
) -> Result<(VaultConfig, Option<VersionId>)> {
    let key = ObjectKey::vault_config();
    let listed: Result<Vec<_>, StoreError> =
        store.list_versions(&Prefix::exact(&key)).try_collect().await;
    let versions: Vec<_> = match listed {
        Ok(list) => list
            .into_iter()
            .filter(|v| v.key == key && !v.delete_marker)
            .map(|v| v.version)
            .collect(),
        // Without the right to list versions, the newest one must do.
        Err(StoreError::Denied { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for version in versions.iter().filter(|v| v.is_some()) {
        let bytes = match store.get(&key, version.as_ref(), CONFIG_LEN_MAX).await {
            Ok(bytes) => bytes,
            // Whoever may write could otherwise stop the runs of all hosts with one object.
            Err(StoreError::TooLarge { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        if VaultConfig::fingerprint(&bytes) == keys.fingerprint {
            if version != &versions[0] {
                tracing::warn!("another vault.json was put over the true one; passed over");
            }
            return Ok((VaultConfig::read(&bytes, Some(&keys.fingerprint))?, version.clone()));
        }
    }
    let bytes = match store.get(&key, None, CONFIG_LEN_MAX).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { target, .. }) => {
            anyhow::bail!(
                "there is no vault at {target}: run `keephold init --vault {target}` first, or check the URL"
            )
        }
        Err(error) => return Err(error.into()),
    };
    Ok((VaultConfig::read(&bytes, Some(&keys.fingerprint))?, None))
}

#[cfg(test)]
mod tests {
    use keephold_vault::envelope::{Identities, Recipients};
    use keephold_vault::testing::VaultMaker;

    use super::*;

    #[tokio::test]
    async fn the_pinned_vault_is_found_below_whatever_was_put_over_it() {
        let maker = VaultMaker::new().await.unwrap();
        let key = ObjectKey::vault_config();
        let bytes = maker.store.get(&key, None, CONFIG_LEN_MAX).await.unwrap();
        let keys = HostKeys {
            secret: maker.secret.clone(),
            fingerprint: VaultConfig::fingerprint(&bytes),
            signing: maker.signing.clone(),
            recipients: Recipients::parse(&Identities::generate().0).unwrap(),
        };
        let too_long = vec![b' '; usize::try_from(CONFIG_LEN_MAX).unwrap() + 1];
        for over in [b"{}".to_vec(), too_long] {
            maker.store.overwrite(&key, over);
            let (config, version) = true_config(&*maker.store, &keys).await.unwrap();
            assert_eq!(config.id, maker.config.id);
            assert!(version.is_some(), "its lock can be extended");
        }
        maker.store.hide(&key);
        assert!(true_config(&*maker.store, &keys).await.is_ok());
    }
}
