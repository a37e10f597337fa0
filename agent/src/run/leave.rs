//! The record of a run: what stands in each, and how it is left in the vault, or on this host until that can be reached.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::Timestamp;
use keephold_cli::keys::HostKeys;
use keephold_vault::envelope::{self, RunKeys};
use keephold_vault::record::{Level, Message, Record, RecordKey, Retention, Status, Totals, seal};
use keephold_vault::store::{ObjectKey, Store, StoreError};

use super::{Outcome, Runner, chain, spool};
use crate::config::Job;
use crate::copies;

/// The record of a run that ends now and came to nothing; it has no place in the chain yet.
pub(super) fn failed(
    keys: &HostKeys,
    host: &str,
    job: &Job,
    started: Timestamp,
    retention: Retention,
) -> Record {
    Record {
        format: Record::FORMAT.into(),
        vault: keys.fingerprint,
        host: host.to_owned(),
        job: job.name.clone(),
        kind: job.source.kind(),
        seq: 0,
        previous: None,
        started,
        finished: Timestamp::now(),
        clock_offset_ms: None,
        status: Status::Failed,
        messages: Vec::new(),
        program: concat!("keephold ", env!("CARGO_PKG_VERSION")).into(),
        recipients: keys.recipients.names().to_vec(),
        retention,
        source: None,
        totals: Totals::default(),
        snapshot: None,
        copies: Vec::new(),
    }
}

impl Runner<'_> {
    /// Gives the record its place in the chain, and stores it; into the spool if the target can't be reached.
    pub(super) async fn leave(&self, mut record: Record) -> Result<Outcome> {
        let spool = spool::Spool::open(&self.vault.cache)?;
        let delivered = async {
            for (path, old) in spool.waiting(&record.host, &record.job)? {
                self.deliver(old).await?;
                spool::remove(&path)?;
            }
            self.deliver(record.clone()).await
        };
        match delivered.await {
            Ok((record, key)) => Ok(Outcome { record, key: Some(key) }),
            Err(error) => {
                // What can't be shown didn't happen: a snapshot without its record is none.
                if record.snapshot.take().is_some() {
                    record.status = Status::Failed;
                    let text = format!("the record could not be stored: {error:#}");
                    record.messages.push(Message {
                        level: Level::Error,
                        code: "record_failed".into(),
                        text,
                    });
                    record.totals.messages += 1;
                }
                spool.keep(&record)?;
                tracing::error!(
                    "the record of this run is kept on this host until the target can be reached: {error:#}"
                );
                Ok(Outcome { record, key: None })
            }
        }
    }

    async fn deliver(&self, mut record: Record) -> Result<(Record, RecordKey)> {
        let vault = self.vault;
        let (store, secret) = (&*vault.store, &vault.keys.secret);
        record.ensure_unexpired(store.now())?;
        let before = async {
            let (host, job) = (&record.host, &record.job);
            chain::Chain::list(store, host, job, vault.config.id, secret).await?.last().await
        };
        let before = before.await.context("looking for the run before this one")?;
        record.seq = before.seq + 1;
        record.previous = before.hash;
        if let Some(finished) = before.finished.filter(|f| *f > record.started + chain::CLOCK_SLACK)
        {
            let text = format!(
                "this host's clock says {}, but the run before this one ended at {finished}: the clock was set back, or \
                 was wrong then, and locks are only as long as it is right; set it (timedatectl set-ntp true)",
                record.started
            );
            record.messages.push(Message { level: Level::Warning, code: "clock".into(), text });
            record.totals.messages += 1;
            record.status = record.status.max(Status::Warning);
        }
        // The record is its own run's: nobody but its recipients needs to open its envelope.
        let keys = RunKeys::for_record(vault.config.id, vault.keys.secret.clone())?;
        let envelope = envelope::seal(&keys, &vault.keys.recipients)?;
        let sealed =
            seal(&record, vault.config.id, &vault.keys.secret, &envelope, &vault.keys.signing)?;
        let key = sealed.key.object()?;
        let until = record.retention.evidence_until;
        for copy in self.copies {
            copy.await_record(&sealed.key, &sealed.bytes, until);
        }
        let bytes = Bytes::from(sealed.bytes);
        put_again(&*vault.store, &key, bytes.clone(), until)
            .await
            .context("storing the run's record")?;
        for copy in self.copies {
            let whole = record.copies.iter().any(|c| c.name == copy.name() && c.whole);
            let ready = copy.is_up() && (whole || record.snapshot.is_none());
            if ready && !copy.put_record(&sealed.key, bytes.clone(), until).await {
                // The record is sealed, and can't tell of it; whoever reads this run's output can.
                let text = copies::late(copy).unwrap_or_default();
                record.messages.push(Message {
                    level: Level::Warning,
                    code: copies::BEHIND.into(),
                    text,
                });
                record.totals.messages += 1;
                record.status = record.status.max(Status::Warning);
            }
        }
        Ok((record, sealed.key))
    }
}

/// Stores the record; it is the last word of a run, so one more try after a pause is worth it.
async fn put_again(
    store: &dyn Store,
    key: &ObjectKey,
    body: Bytes,
    until: Timestamp,
) -> Result<(), StoreError> {
    match store.put(key, body.clone(), until).await {
        Err(error) if error.is_transient() => {
            tracing::warn!("storing the run's record failed, trying once more: {error}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            store.put(key, body, until).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}
