//! What unexpired runs need, held against what the target lists: in one pass, since both come in the order of names.
//! Each batch of objects then goes through presence, lock and integrity.

use std::collections::BTreeMap;
use std::pin::Pin;

use anyhow::Result;
use futures::StreamExt;
use futures::stream::BoxStream;
use futures::stream::Peekable;
use jiff::Timestamp;
use keephold_vault::ids::PackId;
use keephold_vault::store::{ObjectKey, Prefix, StoreError, Version};

use super::context::Context;
use super::copies::Copies;
use super::could_not_check;
use super::findings::Findings;
use super::history::History;
use super::integrity::Reading;
use super::lock::{Locking, Locks};
use super::needed::{Needed, Pack};
use super::object::{Kind, Object, demand, is_known_form};
use super::presence::Presence;
use super::previous::Previous;
use super::unneeded::Leftovers;
use crate::report::catalogue as code;
use crate::report::model::{Integrity, Level, LevelResult, Objects, OffsiteCopy};

/// Objects that go through the checks together.
const BATCH: usize = 4096;

/// What came of the checks of stored objects.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) levels: Vec<LevelResult>,
    pub(super) objects: Objects,
    pub(super) integrity: Integrity,
    pub(super) locks: Locks,
    pub(super) copies: Vec<OffsiteCopy>,
}

/// Checks presence, locks and integrity of everything that unexpired runs need.
///
/// # Errors
/// Only a signal to stop: whatever else stands in the way is told in the levels.
pub(super) async fn check(
    context: &Context<'_>,
    history: &History,
    previous: &Previous,
    findings: &mut Findings,
) -> Result<Stored> {
    let depth = context.settings.depth;
    let levels = [Level::Presence, Level::Lock, Level::IntegrityKeyless, Level::IntegrityDeep];
    if !depth.holds(Level::Presence) {
        return Ok(Stored::default());
    }
    let unchecked = |error: &anyhow::Error| Stored {
        levels: levels.map(|level| could_not_check(context, level, &format!("{error:#}"))).into(),
        ..Stored::default()
    };
    vault_json(context, findings);
    context.progress.stage("reading the index");
    let needed = match Needed::gather(context, history, findings).await {
        Ok(needed) => needed,
        Err(error) => {
            context.stop.check()?;
            return Ok(unchecked(&error));
        }
    };
    context.progress.stage("holding the vault's objects against the index");
    let mut presence = Presence::new(&needed);
    let mut locking = Locking::new(context, history, &needed);
    let mut copies = Copies::open(context, history, &needed, previous).await?;
    let mut reading = Reading::new(context);
    let mut leftovers = Leftovers::new(context, history);
    let mut inventory = Inventory::new(context, history, needed);
    loop {
        context.stop.check()?;
        let batch = match inventory.batch(&mut leftovers, findings).await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => {
                context.stop.check()?;
                return Ok(unchecked(&error));
            }
        };
        presence.check(&batch, history, findings);
        if depth.holds(Level::Lock) {
            locking.check(context, &batch, history, findings).await?;
            copies.check(context, &batch, history).await?;
        }
        if depth.holds(Level::IntegrityKeyless) {
            reading.check(context, &batch, inventory.needed(), history, findings).await?;
        }
    }
    let mut stored = Stored {
        integrity: reading.integrity(inventory.needed(), presence.packs()),
        ..Stored::default()
    };
    stored.levels.push(presence.level(inventory.failed.as_ref()));
    stored.objects = presence.objects();
    stored.objects.unneeded = match inventory.failed {
        None => leftovers.tell(presence.packs(), inventory.needed().unread, findings),
        Some(_) => None,
    };
    if depth.holds(Level::Lock) {
        stored.levels.push(locking.level(context, history, previous, findings).await?);
        locking.count(&mut stored.objects);
        stored.locks = locking.locks();
        stored.copies = copies.finish(context, history, findings);
    }
    stored.levels.extend(reading.levels(depth, presence.packs().0));
    Ok(stored)
}

/// What is to be said of `vault.json` itself; that it is the pinned one was seen when the vault was opened.
fn vault_json(context: &Context<'_>, findings: &mut Findings) {
    if context.settings.fingerprint.is_none() {
        let summary = "Nothing pins the vault's fingerprint, so another vault in its place would not be noticed.";
        let detail = format!("it is {} now", context.vault.fingerprint());
        findings.add(
            &code::VAULT_UNPINNED,
            &context.vault.store().url(),
            summary.to_owned(),
            Some(detail),
        );
    }
}

type Listing<'a> = Pin<Box<Peekable<BoxStream<'a, Result<Version, StoreError>>>>>;

/// Goes through the listing and what is needed side by side.
struct Inventory<'a> {
    history: &'a History,
    now: Timestamp,
    needed: Needed,
    listing: Option<Listing<'a>>,
    /// What isn't a pack, and wasn't listed yet.
    singles: BTreeMap<ObjectKey, Object>,
    /// Packs of the part that the listing is at, which weren't listed yet.
    packs: BTreeMap<PackId, Pack>,
    /// The part after it; above 255 when all are done.
    next_shard: u16,
    /// Why the listing ended before its end.
    failed: Option<String>,
}

impl<'a> Inventory<'a> {
    fn new(context: &'a Context<'_>, history: &'a History, needed: Needed) -> Self {
        let listing = context.vault.store().list_versions(&Prefix::all());
        let mut inventory = Self {
            history,
            now: context.now,
            needed,
            listing: Some(Box::pin(listing.peekable())),
            singles: BTreeMap::new(),
            packs: BTreeMap::new(),
            next_shard: 0,
            failed: None,
        };
        inventory.add_singles();
        inventory
    }

    fn needed(&self) -> &Needed {
        &self.needed
    }

    fn add_singles(&mut self) {
        let mut add = |object: Object| self.singles.insert(object.key.clone(), object);
        for (number, run) in self.history.runs.iter().enumerate() {
            let Ok(key) = run.found.key.object() else { continue };
            // For how long one that can't be read is needed isn't known, but that it is here and whole is asked of it.
            let (size, until, mode) = match &run.facts {
                Ok(facts) => {
                    let retention = &facts.retention;
                    (
                        Some(facts.size),
                        retention.evidence_until.max(retention.expires),
                        retention.mode,
                    )
                }
                Err(_) => (None, Timestamp::UNIX_EPOCH, None),
            };
            if run.facts.is_err() || until > self.now {
                let runs = u32::try_from(number).into_iter().collect();
                add(Object {
                    key,
                    kind: Kind::Record,
                    size,
                    known: None,
                    until,
                    mode,
                    runs,
                    versions: None,
                });
            }
        }
        for segment in &self.needed.segments {
            let runs: Vec<_> = segment.runs(None).collect();
            let (until, mode) = demand(self.history, &runs);
            let key = ObjectKey::segment(&segment.id);
            let known = segment.version.clone();
            add(Object {
                key,
                kind: Kind::Segment,
                size: Some(segment.size),
                known,
                until,
                mode,
                runs,
                versions: None,
            });
        }
        let all: Vec<_> = (0..)
            .zip(&self.history.runs)
            .filter(|(_, run)| run.facts.is_ok())
            .map(|(n, _)| n)
            .collect();
        let (until, mode) = demand(self.history, &all);
        add(Object {
            key: ObjectKey::vault_config(),
            kind: Kind::Config,
            size: None,
            known: None,
            until,
            mode,
            runs: Vec::new(),
            versions: None,
        });
    }

    /// The next objects; `None` at the end.
    async fn batch(
        &mut self,
        leftovers: &mut Leftovers<'_>,
        findings: &mut Findings,
    ) -> Result<Option<Vec<Object>>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some((key, versions)) = self.group().await else {
                leftovers.look(&mut self.needed.packs).await?;
                self.finish(&mut batch)?;
                break;
            };
            if let Some(id) = key.as_pack() {
                if self.next_shard == 0 {
                    // Segments are listed before packs, and say what the packs are.
                    leftovers.look(&mut self.needed.packs).await?;
                }
                let shard = u16::from(id.as_bytes()[0]);
                if shard + 1 < self.next_shard {
                    self.fail(
                        "the target lists objects in another order than that of their names".into(),
                    );
                    continue;
                }
                while self.next_shard <= shard {
                    self.next_part(&mut batch)?;
                }
                match self.packs.remove(&id) {
                    Some(pack) if pack.is_needed() => {
                        batch.push(self.pack(pack, Some(versions)));
                    }
                    described => {
                        leftovers.pack(key, &versions, described.is_some());
                        leftovers.look_if_many(&mut self.needed.packs).await?;
                    }
                }
            } else if let Some(object) = self.singles.remove(&key) {
                batch.push(Object { versions: Some(versions), ..object });
            } else if let Some(id) = key.as_segment() {
                leftovers.segment(key, id, &versions);
                leftovers.look_if_many(&mut self.needed.packs).await?;
            } else if !is_known_form(&key) {
                let summary = "Nothing of Keephold is named like this.".to_owned();
                let size = versions.first().map_or(0, |version| version.size);
                findings.add(
                    &code::UNKNOWN_OBJECT,
                    key.as_str(),
                    summary,
                    Some(format!("{size} bytes")),
                );
            }
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    /// All versions of the next key in the listing.
    async fn group(&mut self) -> Option<(ObjectKey, Vec<Version>)> {
        let listing = self.listing.as_mut()?;
        let first = match listing.next().await {
            Some(Ok(first)) => first,
            Some(Err(error)) => {
                self.fail(super::context::told(&error));
                return None;
            }
            None => {
                self.listing = None;
                return None;
            }
        };
        let key = first.key.clone();
        let mut versions = vec![first];
        while let Some(Ok(next)) =
            listing.as_mut().next_if(|next| next.as_ref().is_ok_and(|v| v.key == key)).await
        {
            versions.push(next);
        }
        Some((key, versions))
    }

    fn fail(&mut self, why: String) {
        self.listing = None;
        self.failed = Some(why);
    }

    /// What the listing had nothing of: absent, or not known if the listing failed.
    fn finish(&mut self, batch: &mut Vec<Object>) -> Result<()> {
        while batch.len() < BATCH && self.next_shard <= 256 {
            self.next_part(batch)?;
        }
        if self.next_shard > 256 {
            let unlisted = self.unlisted();
            for (_, object) in std::mem::take(&mut self.singles) {
                batch.push(Object { versions: unlisted.clone(), ..object });
            }
        }
        Ok(())
    }

    /// Ends a part: what is left of it wasn't listed. Then the next one.
    fn next_part(&mut self, batch: &mut Vec<Object>) -> Result<()> {
        for (_, pack) in std::mem::take(&mut self.packs).into_iter().filter(|(_, p)| p.is_needed())
        {
            batch.push(self.pack(pack, self.unlisted()));
        }
        if let Ok(shard) = u8::try_from(self.next_shard) {
            self.packs = self.needed.packs.take(shard)?;
        }
        self.next_shard += 1;
        Ok(())
    }

    fn unlisted(&self) -> Option<Vec<Version>> {
        self.failed.is_none().then(Vec::new)
    }

    fn pack(&self, pack: Pack, versions: Option<Vec<Version>>) -> Object {
        let mut runs: Vec<u32> = pack
            .places
            .iter()
            .flat_map(|place| self.needed.segments[place.segment as usize].runs(Some(place.number)))
            .collect();
        runs.sort_unstable();
        runs.dedup();
        let (until, mode) = demand(self.history, &runs);
        Object {
            key: ObjectKey::pack(&pack.id),
            kind: Kind::Pack(pack.id, pack.places),
            size: Some(pack.size.into()),
            known: pack.version,
            until,
            mode,
            runs,
            versions,
        }
    }
}
