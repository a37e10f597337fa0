//! Runs whose vault could not even be opened: they leave a record too.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::Error as VaultError;
use keephold_vault::record::{Level, Message, Record, Retention, Totals};
use keephold_vault::store::StoreError;

use super::{chain, leave, spool};
use crate::config::Job;

/// Notes in the spool that runs failed because the vault could not even be opened, so that it learns of it later.
///
/// Only where this host has written to the vault before: the spool lies in the cache under the vault's id. Not where
/// the settings or the clock are wrong: nothing was tried then, and a record with a wrong time would break the chain.
pub(crate) fn keep_unopened(
    error: &anyhow::Error,
    jobs: &[Job],
    host: &str,
    evidence: SignedDuration,
    keys: &std::path::Path,
    cache: &std::path::Path,
    target: &keephold_cli::target::Target,
) {
    let store = || {
        error.chain().find_map(|c| match c.downcast_ref() {
            Some(VaultError::Store(e)) => Some(e),
            _ => c.downcast_ref::<StoreError>(),
        })
    };
    let wrong_clock = matches!(store(), Some(StoreError::ClockSkew { .. }));
    if wrong_clock || keephold_cli::exit::exit_of(error) == keephold_cli::exit::Exit::Usage {
        return;
    }
    let unreachable = store().is_some_and(StoreError::is_transient);
    let code = if unreachable { "unreachable" } else { "vault_refused" };
    let Ok(keys) = keephold_cli::keys::HostKeys::load(keys) else { return };
    let url = target.url.to_string();
    // A vault that this host has never reached: there is no chain yet that the record could belong to.
    let Ok(vault) = chain::caches_of(cache, &keys.fingerprint) else { return };
    let kept: Result<()> = (|| {
        let spool = spool::Spool::open(&vault)?;
        let now = Timestamp::now();
        for job in jobs {
            let text = format!("{url} could not be opened: {error:#}");
            let (class, keep) = job.keep.base();
            let expires = now.checked_add(keep)?;
            let evidence_until = now.checked_add(evidence)?.max(expires);
            let retention = Retention { class: class.into(), expires, evidence_until, mode: None };
            spool.keep(&Record {
                messages: vec![Message { level: Level::Error, code: code.into(), text }],
                totals: Totals { messages: 1, ..Totals::default() },
                ..leave::failed(&keys, host, job, now, retention)
            })?;
        }
        Ok(())
    })();
    if let Err(error) = kept {
        tracing::warn!("that this run failed could not be noted for the vault: {error:#}");
    }
}
