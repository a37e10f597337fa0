//! What must not grow without bound: what nothing needs, and the calls that move locks.

use std::collections::HashSet;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};

use super::promises::Lying;
use super::world::{Host, MINUTES_MAX, World, days};
use crate::index::OpenSegment;
use crate::store::memory::Peek;
use crate::store::{ObjectKey, Store};

impl World {
    /// No lock ends later than the longest class of any host asks for, and a quarter of it more.
    pub(super) fn check_locks(&self, lying: &Lying) {
        let longest = |host: &Host| (host.keep * 3 * 5 / 4).max(host.evidence);
        let furthest = self.hosts.iter().map(longest).max().unwrap();
        let furthest = self.now + furthest + SignedDuration::from_mins(MINUTES_MAX);
        for ((key, _), lock) in lying.iter().filter(|((k, _), _)| *k != ObjectKey::vault_config()) {
            assert!(lock.is_none_or(|lock| lock <= furthest), "{lock:?}: {}", self.story(key));
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

    /// After a prune in which nothing went wrong, no pack lies there that nothing has needed since it began, unless it is
    /// locked or young.
    pub(super) fn check_garbage(&self, began: Timestamp, needed: &HashSet<ObjectKey>) {
        let began = began - SignedDuration::from_mins(MINUTES_MAX);
        for left in self.garbage().into_iter().filter(|p| p.key.as_pack().is_some()) {
            let locked = left.locked_until.is_some_and(|until| until > began);
            let young = began.duration_since(left.modified) < self.prune.grace;
            let was_needed = needed.contains(&left.key);
            assert!(locked || young || was_needed, "prune left this: {}", self.story(&left.key));
        }
    }

    /// All that promises need which hold now.
    pub(super) fn needed_now(&self) -> HashSet<ObjectKey> {
        self.holding().iter().flat_map(|(p, _)| &p.needed).map(|(key, _)| key.clone()).collect()
    }

    /// What stays although nothing needs it, when all that time can do is done. A segment stays with any pack that it
    /// describes: those of an interrupted run may be described twice.
    pub(super) fn check_nothing_stays_for_ever(&self) {
        let lying = self.store.keys();
        for left in self.garbage() {
            let Some(id) = left.key.as_segment() else {
                panic!("garbage for ever: {}", self.story(&left.key));
            };
            let bytes = self.store.get(&left.key, Some(&left.version), 1 << 27).now_or_never();
            let bytes = bytes.unwrap().unwrap();
            let (vault, secret) = (self.shared.config.id, &self.shared.secret);
            let open = OpenSegment::open_whole(&id, vault, secret, &bytes).unwrap();
            let rows = open.pack_rows(&bytes).unwrap();
            let describes = rows.iter().any(|row| lying.contains(&ObjectKey::pack(&row.id)));
            assert!(describes, "garbage for ever: {}", self.story(&left.key));
        }
    }

    /// A host extends an object once in a quarter of its keeping time, not at every run; four times more, to be safe while
    /// a run lasts and when it is first used, each in two attempts; and twice for each run that failed.
    pub(super) fn check_extensions(&mut self) {
        let bound = |host: &Host| {
            let span = self.now.duration_since(self.began).as_secs() as u64;
            4 + span / (host.keep / 4).as_secs() as u64 + 2 * host.failures
        };
        let bound: u64 = self.hosts.iter().map(bound).sum();
        for (key, count) in &self.extensions {
            assert!(*count <= bound, "{count} extensions, more than {bound}: {}", self.story(key));
            self.happened.extended_share = self.happened.extended_share.max(100 * count / bound);
        }
        self.happened.extensions += self.extensions.values().sum::<u64>();
    }

    /// After a prune in which nothing went wrong, the packs of the vault have no more bytes than those that came as long
    /// ago as any lock lasts (with the grace period, and two days until the prune), and twice those that promises need: so
    /// it stops growing, however many years it is used.
    pub(super) fn check_size(&mut self) {
        let longest = self.hosts.iter().map(|host| host.keep * 15 / 4).max().unwrap();
        let since = self.now - longest - self.prune.grace - days(2);
        while self.put.front().is_some_and(|(at, _)| *at < since) {
            self.put.pop_front();
        }
        let recent: u64 = self.put.iter().map(|(_, bytes)| bytes).sum();
        let needed = self.needed_now();
        let (mut total, mut used) = (0, 0);
        for pack in self.store.peek().into_iter().filter(|p| p.key.as_pack().is_some()) {
            let size = pack.size.unwrap_or(0);
            total += size;
            used += if needed.contains(&pack.key) { size } else { 0 };
        }
        let bound = recent + 2 * used;
        assert!(total <= bound, "{total} bytes lie there, more than {bound}, at {}", self.now);
        self.happened.size_share = self.happened.size_share.max(100 * total / bound.max(1));
    }
}
