//! What must be true: every record that can be seen is whole, locked for as long as it says, and restores exactly.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use jiff::Timestamp;

use super::gate::Place;
use super::host::Files;
use super::world::World;
use crate::index::OpenSegment;
use crate::read::{Piece, ReadSettings, Selection, SnapshotReader, Vault};
use crate::record::{RecordKey, Snapshot};
use crate::store::memory::{MemoryStore, Peek};
use crate::store::{ObjectKey, Store, VersionId};
use crate::tree::EntryKind;

/// What a record keeps, if its run was good.
pub(super) struct Kept {
    pub(super) snapshot: Snapshot,
    pub(super) files: Files,
}

/// What a record says that is on its way to the vault: a promise as soon as it is there, whatever its host learns of it.
pub(super) struct Offer {
    pub(super) host: usize,
    pub(super) key: RecordKey,
    pub(super) expires: Timestamp,
    pub(super) evidence_until: Timestamp,
    pub(super) kept: Option<Kept>,
}

pub(super) type Offers = Arc<Mutex<BTreeMap<ObjectKey, Offer>>>;

/// A record that can be seen, and all that it needs.
pub(super) struct Promise {
    pub(super) offer: Offer,
    pub(super) object: ObjectKey,
    pub(super) needed: Vec<(ObjectKey, Option<VersionId>)>,
}

impl Promise {
    fn is_good(&self) -> bool {
        self.offer.kept.is_some()
    }
}

/// A promise that holds, and until when locks must.
type Holding<'a> = (&'a Promise, Option<Timestamp>);

/// When the lock of each version ends.
pub(super) type Lying = HashMap<(ObjectKey, Option<VersionId>), Option<Timestamp>>;

pub(super) fn lying(store: &MemoryStore) -> Lying {
    let peeks = store.peek().into_iter();
    peeks.map(|p| ((p.key, Some(p.version)), p.locked_until)).collect()
}

impl World {
    /// A record has come to the vault: from now on it must be good for what it says.
    pub(super) async fn promise(&mut self, object: ObjectKey) {
        let Some(offer) = self.shared.offers.lock().unwrap().remove(&object) else { return };
        let needed = offer.kept.as_ref().map_or_else(Vec::new, |kept| self.needed(&kept.snapshot));
        let promise = Promise { offer, object, needed };
        let lying = lying(&self.store);
        if promise.is_good() {
            self.check_one(&lying, (&promise, Some(promise.offer.expires)));
            self.restore(&self.store, &promise).await;
            self.happened.runs += 1;
        }
        let host = &mut self.promises[promise.offer.host];
        host.push(promise);
        host.sort_by_key(|promise| promise.offer.key.seq);
    }

    /// A record has come to a copy: there it promises what it does in the vault, as long as it hasn't expired.
    pub(super) async fn promise_in_copy(&mut self, place: Place, object: &ObjectKey) {
        let (store, often) = (self.target(place), self.dice.percent(25));
        self.check_copy(place);
        let promise = self.promises.iter().flatten().find(|p| p.object == *object);
        let good = |p: &&Promise| p.is_good() && p.offer.expires > self.now;
        if let Some(promise) = promise.filter(good).filter(|_| often) {
            self.restore(&store, promise).await;
        }
    }

    fn needed(&self, snapshot: &Snapshot) -> Vec<(ObjectKey, Option<VersionId>)> {
        let mut needed = Vec::new();
        for segment in &snapshot.segments {
            let key = ObjectKey::segment(&segment.id);
            let bytes = self.store.get(&key, segment.version.as_ref(), 1 << 27).now_or_never();
            let bytes = bytes.unwrap().unwrap();
            let (id, secret) = (self.shared.config.id, &self.shared.secret);
            let open = OpenSegment::open_whole(&segment.id, id, secret, &bytes).unwrap();
            let rows = open.pack_rows(&bytes).unwrap();
            needed.push((key, segment.version.clone()));
            for n in segment.used.iter() {
                let row = &rows[n as usize];
                needed.push((ObjectKey::pack(&row.id), row.version.clone()));
            }
        }
        needed
    }

    /// The promises that hold now. Records that were rightly taken away are forgotten by [`World::check`].
    pub(super) fn holding(&self) -> Vec<Holding<'_>> {
        let mut holding = Vec::new();
        for host in &self.promises {
            let mut good = 0;
            for promise in host.iter().rev().filter(|promise| promise.is_good()) {
                good += 1;
                let unexpired = promise.offer.expires > self.now;
                if unexpired || good <= self.prune.newest {
                    holding.push((promise, unexpired.then_some(promise.offer.expires)));
                }
            }
        }
        holding
    }

    fn check_one(&self, lying: &Lying, (promise, until): Holding<'_>) {
        for needed in &promise.needed {
            let found = lying.get(needed);
            // A lock that holds for ever isn't asked for: after the expiry, being there is enough.
            let held = found.is_some_and(|lock| until.is_none_or(|until| *lock >= Some(until)));
            assert!(
                held,
                "{} needs until {until:?} version {:?}, which lies there with lock {found:?}, of {}",
                promise.object,
                needed.1,
                self.story(&needed.0)
            );
        }
    }

    /// All that visible records promise.
    pub(super) fn check(&mut self) {
        let lying = lying(&self.store);
        for holding in self.holding() {
            self.check_one(&lying, holding);
        }
        self.check_chains();
        for place in [Place::Copy, Place::Second] {
            self.check_copy(place);
        }
        self.check_locks(&lying);
    }

    /// No record is gone that must be there, and only the oldest ones are.
    fn check_chains(&mut self) {
        let visible: HashSet<ObjectKey> =
            self.store.keys().into_iter().filter(|key| key.as_str().starts_with("runs/")).collect();
        let holding: HashSet<ObjectKey> =
            self.holding().into_iter().map(|(promise, _)| promise.object.clone()).collect();
        for host in 0..self.promises.len() {
            let first = self.promises[host].iter().position(|p| visible.contains(&p.object));
            let first = first.unwrap_or(self.promises[host].len());
            for (n, promise) in self.promises[host].iter().enumerate() {
                let there = visible.contains(&promise.object);
                assert!(there || n < first, "a gap in the chain: {}", self.story(&promise.object));
                let evidence = promise.offer.evidence_until > self.now;
                let needed = evidence || holding.contains(&promise.object);
                assert!(there || !needed, "a record is gone: {}", self.story(&promise.object));
            }
            self.promises[host].drain(..first);
        }
    }

    /// A version was deleted from the vault: nothing that holds may have needed it.
    pub(super) fn check_deleted(&self, key: &ObjectKey) {
        let lying = lying(&self.store);
        for (promise, until) in self.holding() {
            if promise.needed.iter().any(|(needed, _)| needed == key) {
                self.check_one(&lying, (promise, until));
            }
            assert!(promise.object != *key, "a record is gone: {}", self.story(key));
        }
    }

    /// A record that can be seen in a copy promises there what it promises in the vault, until it expires.
    pub(super) fn check_copy(&self, place: Place) {
        let mut lying: HashMap<ObjectKey, Option<Timestamp>> = HashMap::new();
        for peek in self.target(place).peek() {
            let lock = lying.entry(peek.key).or_default();
            *lock = (*lock).max(peek.locked_until);
        }
        let visible = |p: &&Promise| p.offer.expires > self.now && lying.contains_key(&p.object);
        for promise in self.promises.iter().flatten().filter(visible) {
            for (needed, _) in &promise.needed {
                let found = lying.get(needed);
                let held = found.is_some_and(|lock| *lock >= Some(promise.offer.expires));
                assert!(
                    held,
                    "in {place:?}, {} needs until {} what lies there with lock {found:?}: {}",
                    promise.object,
                    promise.offer.expires,
                    self.story(needed)
                );
            }
        }
    }

    /// A promise that holds, chosen by chance, is kept.
    pub(super) async fn restore_any(&mut self) {
        let count = self.holding().len() as u64;
        if count == 0 {
            return;
        }
        let (chosen, place) = (self.dice.below(count) as usize, self.dice.below(10));
        let (promise, until) = self.holding()[chosen];
        let place = [Place::Copy, Place::Second].get(place as usize).copied();
        let store = self.target(place.unwrap_or(Place::Vault));
        // In a copy, only what can be seen there and hasn't expired.
        let there = || until.is_some() && store.keys().contains(&promise.object);
        if place.is_none() || there() {
            self.restore(&store, promise).await;
        }
    }

    /// Reads a snapshot back, with nothing but a target and the identity.
    pub(super) async fn restore(&self, target: &Arc<MemoryStore>, promise: &Promise) {
        let Some(kept) = &promise.offer.kept else { return };
        let store = Arc::clone(target) as Arc<dyn Store>;
        let vault = Vault::open(store, None).await.unwrap();
        // It remembers the keys that it opened, by the hash of their envelope.
        let opener = &self.opener;
        let run = vault.run(&promise.offer.key, opener).await.unwrap();
        let settings = ReadSettings { threads: 1, ..self.reading };
        let reader = SnapshotReader::new(&vault, opener, &run, settings).unwrap();
        let mut entries = reader.entries(Selection::all());
        let mut found = Files::new();
        while let Some(entry) = entries.next().await {
            let entry = entry.unwrap();
            let EntryKind::File(content) = &entry.kind else { panic!("{} is no file", entry.path) };
            let mut pieces = reader.content(content);
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.next().await {
                let Piece::Data(data) = piece.unwrap() else { panic!("a hole") };
                bytes.extend_from_slice(&data);
            }
            found.insert(entry.path.to_string(), bytes);
        }
        assert!(found == kept.files, "{} came back with other files", promise.object);
        target.take_log();
        self.restored.set(self.restored.get() + 1);
    }

    /// What was done with an object, and what lies there now.
    pub(super) fn story(&self, key: &ObjectKey) -> String {
        let mut lines = vec![format!("{key}, now {}:", self.now)];
        for (number, done) in self.history.iter().enumerate().filter(|(_, d)| d.key() == Some(key))
        {
            let who = &self.who[done.life];
            lines.push(format!(
                "  {number}: {who} in {:?}, sent {}, there {}: {:?}: {}",
                done.place, done.sent, done.at, done.request, done.outcome
            ));
        }
        for place in [Place::Vault, Place::Copy, Place::Second] {
            let peeks = self.target(place).peek();
            let here = |p: &&Peek| p.key == *key;
            lines.extend(peeks.iter().filter(here).map(|p| format!("  {place:?}: {p:?}")));
        }
        lines.join("\n")
    }
}
