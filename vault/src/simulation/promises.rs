//! What must be true after each step, and at the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::host::{Files, Host, Promise};
use super::world::{World, days};
use crate::read::{Opener, Piece, ReadSettings, Selection, SnapshotReader, Vault};
use crate::store::memory::{MemoryStore, Peek};
use crate::store::{ObjectKey, Store};
use crate::tree::EntryKind;

impl World {
    /// The promises that hold now, each with the time until when locks must.
    fn holding(&self) -> Vec<(&Promise, Option<Timestamp>)> {
        let visible: HashSet<ObjectKey> = self.store.keys().into_iter().collect();
        let mut holding = Vec::new();
        for host in 0..self.hosts.len() {
            let mut own: Vec<_> = self.promises.iter().filter(|p| p.host == host).collect();
            own.sort_by_key(|p| std::cmp::Reverse(p.seq));
            let mut seen = true;
            for (age, promise) in own.into_iter().enumerate() {
                let unexpired = promise.expires > self.now;
                let newest = age < self.settings.newest;
                let there = visible.contains(&promise.object);
                assert!(seen || !there, "the chain has a gap after {}", promise.object);
                seen = there;
                let evidence = promise.evidence_until > self.now;
                assert!(there || !(unexpired || newest || evidence), "{} is gone", promise.object);
                if there && (unexpired || newest) {
                    holding.push((promise, unexpired.then_some(promise.expires)));
                }
            }
        }
        holding
    }

    /// All that visible records promise.
    pub(super) fn check(&self) {
        self.check_copy(&self.copy);
        self.check_copy(&self.second);
        let lying: HashMap<_, _> = self
            .store
            .peek()
            .into_iter()
            .map(|p| ((p.key, Some(p.version)), p.locked_until))
            .collect();
        for (promise, until) in self.holding() {
            for needed in &promise.needed {
                let Some(lock) = lying.get(needed) else {
                    panic!(
                        "{} needs what is gone: {:?} of {}",
                        promise.object,
                        needed.1,
                        self.story(&needed.0)
                    )
                };
                // Hosts count locks in whole hours.
                let held = until.is_none_or(|until| lock.is_some_and(|lock| lock >= until));
                assert!(
                    held,
                    "{} needs until {until:?} {:?} of {}",
                    promise.object,
                    needed.1,
                    self.story(&needed.0)
                );
            }
        }
        let furthest = self.hosts.iter().map(|h| (h.keep * 15 / 4).max(h.evidence)).max().unwrap();
        for ((key, _), lock) in lying.iter().filter(|((k, _), _)| *k != ObjectKey::vault_config()) {
            assert!(
                lock.is_none_or(|l| l <= self.now + furthest),
                "{key} is locked until {lock:?}"
            );
        }
    }

    /// A record that can be seen in a copy promises there what it promises in the source, until it expires.
    fn check_copy(&self, copy: &MemoryStore) {
        let mut lying: HashMap<ObjectKey, Option<Timestamp>> = HashMap::new();
        for peek in copy.peek() {
            let lock = lying.entry(peek.key).or_default();
            *lock = (*lock).max(peek.locked_until);
        }
        let visible = |p: &&Promise| p.expires > self.now && lying.contains_key(&p.object);
        for promise in self.promises.iter().filter(visible) {
            for (needed, _) in &promise.needed {
                let Some(lock) = lying.get(needed) else {
                    panic!("in the copy, {} needs {needed}, which isn't there", promise.object)
                };
                let held = lock.is_some_and(|lock| lock >= promise.expires);
                assert!(
                    held,
                    "in the copy, {} needs {needed}, locked until {lock:?}",
                    promise.object
                );
            }
        }
    }

    /// Packs and segments that no record needs.
    fn garbage(&self) -> Vec<Peek> {
        let holding = self.holding();
        let needed: HashSet<_> =
            holding.iter().flat_map(|(p, _)| &p.needed).map(|(k, _)| k).collect();
        let mut lying = self.store.peek();
        lying.retain(|p| p.key.as_pack().is_some() || p.key.as_segment().is_some());
        lying.retain(|p| !needed.contains(&p.key));
        lying
    }

    /// What stays although nothing needs it, when all that time can do is done. A segment stays with any pack that it
    /// describes: those of an interrupted run may be described twice.
    async fn garbage_for_ever(&self) -> Vec<Peek> {
        let lying = self.store.keys();
        let mut left = self.garbage();
        for n in (0..left.len()).rev() {
            let Some(id) = left[n].key.as_segment() else { continue };
            let rows = self.rows(&id, Some(&left[n].version)).await.unwrap();
            if rows.iter().any(|row| lying.contains(&ObjectKey::pack(&row.id))) {
                left.remove(n);
            }
        }
        left
    }

    /// After a prune nothing lies there that nothing needs, unless it is locked or young; and a segment for its packs.
    pub(super) fn check_garbage(&self) {
        for left in self.garbage().into_iter().filter(|p| p.key.as_pack().is_some()) {
            let locked = left.locked_until.is_some_and(|until| until > self.now);
            let young = self.now.duration_since(left.modified) < self.settings.grace;
            assert!(locked || young, "prune left {left:?} at {}", self.now);
        }
    }

    /// Reads a snapshot back, with nothing but the vault and the identity.
    async fn restore(&self, store: &Arc<MemoryStore>, promise: &Promise) {
        let store = Arc::clone(store) as Arc<dyn Store>;
        let vault = Vault::open(store, None).await.unwrap();
        let opener = Opener::with_identities(vault.id(), self.identities.clone());
        let run = vault.run(&promise.key, &opener).await.unwrap();
        let reader = SnapshotReader::new(&vault, &opener, &run, ReadSettings::default()).unwrap();
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
        assert!(found == promise.files, "{} came back with other files", promise.object);
    }

    /// All runs have ended, and time passes: what is left is what the newest good snapshots need.
    pub(super) async fn end(&mut self) {
        for (promise, _) in self.holding() {
            self.restore(&self.store, promise).await;
        }
        let seen: HashSet<_> = self.second.keys().into_iter().collect();
        for (promise, _) in self.holding() {
            if promise.expires > self.now && seen.contains(&promise.object) {
                self.restore(&self.second, promise).await;
            }
        }
        self.check_extensions();
        (self.pruning, self.replicating) = (None, None);
        for host in &mut self.hosts {
            host.going = None;
        }
        // What was cut off so often is caught up with at once.
        self.begin_replicating().finish().await;
        let copied: HashSet<_> = self.copy.keys().into_iter().collect();
        for (promise, _) in self.holding() {
            assert!(copied.contains(&promise.object), "{} has no copy", promise.object);
            self.restore(&self.copy, promise).await;
        }
        self.pass(days(120));
        self.begin_pruning(&self.store).await.unwrap();
        self.check();
        let left = self.garbage_for_ever().await;
        assert!(left.is_empty(), "garbage is left for ever: {left:?}");
        for (promise, _) in self.holding() {
            self.restore(&self.store, promise).await;
        }
    }

    /// An object is extended once in a quarter of its keeping time, not at every run: twice at most (to be safe while
    /// the run lasts, then for as long as it is kept), for each host, and again after a failure.
    fn check_extensions(&self) {
        let span = self.now.duration_since(self.began).as_secs();
        let bound = |host: &Host| {
            let times = |keep: SignedDuration| 2 + span as u64 / (keep / 4).as_secs() as u64;
            2 * (times(host.keep) + times(host.keep * 3)) + 2 * host.failures
        };
        let bound: u64 = self.hosts.iter().map(bound).sum();
        for (key, count) in &self.extensions {
            assert!(*count <= bound, "{key} was extended {count} times, more than {bound}");
        }
    }
}
