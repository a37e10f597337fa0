//! The pruner and the replicator, at work on targets behind the gate.

use std::sync::Arc;

use super::door::Door;
use super::host::Shared;
use crate::config::VaultConfig;
use crate::error::Error;
use crate::keys::PrunerKey;
use crate::prune::{self, Report};
use crate::replicate::{self, Done, Tally};
use crate::sign::AllowedSigners;
use crate::store::{LockPolicy, Prune, Store};

/// Deletes what nothing needs.
pub(super) async fn prune(
    door: Arc<dyn Prune>,
    shared: Shared,
    signers: AllowedSigners,
    settings: prune::Settings,
) -> Result<Report, Error> {
    let vault = VaultConfig::fingerprint(&shared.config.to_bytes()?.0);
    let key = PrunerKey { vault, metadata: shared.secret.metadata_key() };
    prune::prune(door, &key, &signers, &settings).await
}

/// Copies what the copy lacks.
pub(super) async fn replicate(source: Door, copy: Door) -> Result<(Done, Arc<Tally>), Error> {
    let (source, copy) = (Arc::new(source) as Arc<dyn Store>, Arc::new(copy) as Arc<dyn Store>);
    let policy = LockPolicy::Compliance;
    let settings = replicate::Settings { policy, keep: None, parallel: 2, fingerprint: None };
    let tally = Arc::new(Tally::default());
    let done = replicate::replicate(&source, &copy, &settings, &tally).await?;
    Ok((done, tally))
}
