//! What a copy missed is delivered before a run begins: packs, then the segments whose packs are all there, then the
//! records whose snapshots are.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::SignedDuration;

use super::copies::{AtCopy, CopyMemo, Joined, Spot};
use super::{Known, LITTER_AGE};
use crate::error::Error;
use crate::ids::PackId;
use crate::pack::check_name;
use crate::read::{blocking, concerns_object};
use crate::record::{RecordKey, SealedRecord};
use crate::store::{ObjectKey, Store, StoreError};
use crate::write::copy::{At, Copy, Entry, find};

/// Packs that are read from the spool and sent at once; each is in memory meanwhile.
const PACKS_AT_ONCE: usize = 3;

/// By how much locks that are moved for a late record go beyond its expiry, at most.
const SLACK_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Known {
    /// From now on this run writes to these copies too. Those that can be reached get what they missed, and then tell what
    /// they hold; one that can't is down for this run.
    pub async fn join(&mut self, copies: &[Arc<Copy>]) {
        self.copies = copies.iter().map(|copy| Joined::new(copy.clone())).collect();
        for (n, copy) in copies.iter().enumerate() {
            if let Err(error) = self.catch_up(n, copy).await {
                copy.fail(&error);
            }
        }
    }

    async fn catch_up(&mut self, n: usize, copy: &Arc<Copy>) -> Result<(), Error> {
        let Some(store) = copy.up().cloned() else { return Ok(()) };
        // Another run of this host may be at it.
        let alone = copy.spool().lock();
        let mut delivered = HashMap::new();
        if alone.is_some() {
            delivered = deliver_packs(copy, &store).await?;
        }
        self.list_copy(n, &*store).await?;
        self.give_owed(n, &delivered).await?;
        if alone.is_some() {
            self.deliver_records(n, copy, &*store).await?;
        }
        Ok(())
    }

    /// Gives the copies the segments that they are owed, after what an interrupted run left was indexed.
    pub(in crate::write) async fn give_all_owed(&mut self) {
        for n in 0..self.copies.len() {
            if let Err(error) = self.give_owed(n, &HashMap::new()).await {
                self.copies[n].copy.fail(&error);
            }
        }
    }

    /// Gives a copy the segments that it is owed, and whose packs it has.
    async fn give_owed(
        &mut self,
        n: usize,
        delivered: &HashMap<PackId, Spot>,
    ) -> Result<(), Error> {
        let copy = self.copies[n].copy.clone();
        let Some(store) = copy.up().cloned() else { return Ok(()) };
        let waiting = copy.spool().entries();
        for entry in &waiting {
            let Some(id) = entry.key.as_segment() else { continue };
            let Some(&number) = self.numbers.get(&id) else {
                // Another run is about to store it, or one was killed before it did.
                if entry.age > LITTER_AGE {
                    copy.spool().remove(entry);
                }
                continue;
            };
            if self.copies[n].holds(number) {
                copy.spool().remove(entry);
                continue;
            }
            let found = self.look_for_packs(&*store, &id, delivered).await?;
            if found.iter().any(|(_, at)| *at == At::Nowhere) {
                // Another run may be delivering them; else the copy will never have them.
                if !all_wait(&found, &waiting) {
                    copy.spool().remove(entry);
                }
                continue;
            }
            let (_, bytes) = self.copy_of(&id)?;
            let memo = copy.put_segment(&id, Bytes::from(bytes), entry.until, &found).await;
            if let Some(memo) = memo {
                self.hold_segment(n, number, &memo)?;
            }
        }
        Ok(())
    }

    /// Takes a segment into account that this run has stored at the copies too.
    pub(super) fn stored_at_copies(&mut self, number: u32, memos: Vec<Option<CopyMemo>>) {
        for (n, memo) in memos.into_iter().enumerate() {
            let Some(memo) = memo else { continue };
            if let Err(error) = self.hold_segment(n, number, &memo) {
                self.copies[n].copy.fail(&error);
            }
        }
    }

    /// Delivers records that wait, each job's oldest first.
    async fn deliver_records(
        &mut self,
        n: usize,
        copy: &Arc<Copy>,
        store: &dyn Store,
    ) -> Result<(), Error> {
        let named = |entry: Entry| Some((entry.key.as_str().parse::<RecordKey>().ok()?, entry));
        let mut records: Vec<_> = copy.spool().entries().into_iter().filter_map(named).collect();
        records.sort_by(|(a, _), (b, _)| (&a.host, &a.job, a.seq).cmp(&(&b.host, &b.job, b.seq)));
        for (key, entry) in records {
            let Some(bytes) = entry.read() else { continue };
            let opened = SealedRecord::read(key.clone(), bytes)
                .and_then(|sealed| Ok((sealed.open(self.vault, &self.secret)?, sealed.bytes)));
            let (record, bytes) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::warn!(copy = copy.name(), %error, "a spooled record is passed over");
                    copy.spool().remove(&entry);
                    continue;
                }
            };
            match find(&*self.store, &entry.key, entry.size).await {
                Ok(Some(_)) => {}
                // What the vault doesn't have never happened: its run was killed, or is about to store it.
                Ok(None) if entry.age > LITTER_AGE => {
                    copy.spool().remove(&entry);
                    continue;
                }
                // That the vault can't be asked is the run's own trouble, not the copy's.
                Ok(None) | Err(_) => continue,
            }
            if find(store, &entry.key, entry.size).await?.is_some() {
                copy.spool().remove(&entry);
                continue;
            }
            if let Some(snapshot) = &record.snapshot {
                let expires = record.retention.expires;
                if expires <= store.now() {
                    tracing::info!(copy = copy.name(), %key, "it expired before the copy had it");
                    copy.spool().remove(&entry);
                    continue;
                }
                let slack = expires.duration_since(record.started) / 4;
                let until = expires.checked_add(slack.min(SLACK_MAX)).unwrap_or(expires);
                match self.settle(n, &snapshot.segments, expires, until).await {
                    AtCopy::Whole(_) => {}
                    AtCopy::Lacks(_) => {
                        copy.count_waiting();
                        continue;
                    }
                    AtCopy::Down => return Ok(()),
                }
            }
            if !copy.put_record(&key, Bytes::from(bytes), entry.until).await {
                return Ok(());
            }
            copy.count_caught_up(0, 1);
        }
        Ok(())
    }
}

/// Whether all packs that aren't at the copy are in the spool.
fn all_wait(packs: &[(PackId, At)], waiting: &[Entry]) -> bool {
    packs.iter().filter(|(_, at)| *at == At::Nowhere).all(|(id, _)| {
        let key = ObjectKey::pack(id);
        waiting.iter().any(|other| other.key == key)
    })
}

/// Sends the packs that wait; answers where they lie now.
async fn deliver_packs(
    copy: &Arc<Copy>,
    store: &Arc<dyn Store>,
) -> Result<HashMap<PackId, Spot>, Error> {
    let packs = copy.spool().entries().into_iter().filter(|entry| entry.key.as_pack().is_some());
    let sent = futures::stream::iter(packs)
        .map(|entry| async move { deliver_pack(copy, &**store, entry).await })
        .buffer_unordered(PACKS_AT_ONCE);
    sent.try_filter_map(|sent| async move { Ok(sent) }).try_collect().await
}

async fn deliver_pack(
    copy: &Arc<Copy>,
    store: &dyn Store,
    entry: Entry,
) -> Result<Option<(PackId, Spot)>, Error> {
    let Some(id) = entry.key.as_pack() else { return Ok(None) };
    let file = entry.clone();
    let bytes = blocking(move || file.read().filter(|bytes| check_name(&id, bytes))).await?;
    let Some(bytes) = bytes else {
        tracing::warn!(copy = copy.name(), key = %entry.key, "a spooled pack is damaged; dropped");
        copy.spool().remove(&entry);
        return Ok(None);
    };
    let until = copy.lock_end(store.now(), entry.until);
    let size = bytes.len() as u64;
    match store.put(&entry.key, bytes.into(), until).await {
        Ok(stored) => {
            copy.count_stored(size);
            copy.spool().remove(&entry);
            copy.count_caught_up(1, 0);
            Ok(Some((id, Spot::of(&stored))))
        }
        // Something else lies in its place: that would stop the spool for ever.
        Err(error) => {
            let conflict = matches!(error, StoreError::Conflict { .. });
            let error = Error::from(error);
            if !conflict && !concerns_object(&error) {
                return Err(error);
            }
            tracing::warn!(copy = copy.name(), %error, "a spooled pack is not taken; dropped");
            copy.spool().remove(&entry);
            Ok(None)
        }
    }
}
