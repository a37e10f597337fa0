//! Who there is, and whose turn it is.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::host::{Files, Host, Promise};
use super::workers::{Pruning, Replicating};
use super::{Dice, Happened};
use crate::chunk::ChunkBounds;
use crate::config::VaultConfig;
use crate::envelope::{Identities, Recipients};
use crate::keys::VaultSecret;
use crate::prune;
use crate::sign::SigningKey;
use crate::store::memory::{Fault, MemoryStore, Request};
use crate::store::{ObjectKey, Store};
use crate::testing::noise;

pub(super) const BOUNDS: ChunkBounds = ChunkBounds { min: 1 << 10, avg: 4 << 10, max: 16 << 10 };
/// How many files a host has.
pub(super) const FILES: u64 = 5;

pub(super) fn days(n: u64) -> SignedDuration {
    SignedDuration::from_hours(24 * n as i64)
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) store: Arc<MemoryStore>,
    /// What the replicator copies to. Nobody deletes there.
    pub(super) copy: Arc<MemoryStore>,
    /// What the first host writes to as well.
    pub(super) second: Arc<MemoryStore>,
    pub(super) config: VaultConfig,
    pub(super) secret: VaultSecret,
    pub(super) recipients: Recipients,
    pub(super) identities: Identities,
    pub(super) now: Timestamp,
    pub(super) began: Timestamp,
    pub(super) hosts: Vec<Host>,
    pub(super) promises: Vec<Promise>,
    pub(super) settings: prune::Settings,
    pub(super) pruning: Option<Pruning>,
    pub(super) replicating: Option<Replicating>,
    pub(super) extensions: HashMap<ObjectKey, u64>,
    /// Who asked the source for what, and when: printed where a promise is broken.
    pub(super) history: Vec<(Timestamp, String, Request)>,
    pub(super) happened: Happened,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let store = Arc::new(MemoryStore::default());
        store.set_clock(now);
        let copy = Arc::new(MemoryStore::default());
        copy.set_clock(now);
        let second = Arc::new(MemoryStore::default());
        second.set_clock(now);
        let secret = VaultSecret::generate().unwrap();
        let config = VaultConfig::generate(now, &secret, 0).unwrap();
        let (bytes, _) = config.to_bytes().unwrap();
        store.put(&ObjectKey::vault_config(), bytes.into(), now + days(5000)).await.unwrap();
        let (public, identity) = Identities::generate();
        let hosts = (0..2 + dice.below(2)).map(|n| {
            let keep = days(5 + dice.below(20));
            Host {
                name: format!("host{n}"),
                signing: SigningKey::generate(&format!("host{n}")).unwrap(),
                cache: cache(),
                keep,
                evidence: keep + days(dice.below(20)),
                // Hosts have files in common, so that they use each other's packs.
                files: (0..FILES).map(|f| (format!("f{f}"), noise(f, 700))).collect::<Files>(),
                started_runs: 0,
                going: None,
                also: None,
                last: now - days(9),
                failures: 0,
            }
        });
        let hosts = hosts.collect();
        let settings = prune::Settings {
            newest: 1 + dice.below(3) as usize,
            grace: days(2 + dice.below(6)),
            ..prune::Settings::default()
        };
        Self {
            dice,
            store,
            copy,
            second,
            config,
            secret,
            recipients: Recipients::parse(&public).unwrap(),
            identities: Identities::parse(&identity).unwrap(),
            now,
            began: now,
            hosts,
            promises: Vec::new(),
            settings,
            pruning: None,
            replicating: None,
            extensions: HashMap::new(),
            history: Vec::new(),
            happened: Happened::default(),
        }
    }

    /// Perhaps something goes wrong with one of the next requests to a store; says whether.
    pub(super) fn risk(&mut self, store: &MemoryStore, percent: u64) -> bool {
        if !self.dice.percent(percent) {
            return false;
        }
        let mut left = self.dice.below(12);
        let fault =
            [Fault::Before, Fault::After, Fault::Twice, Fault::Crash][self.dice.below(4) as usize];
        store.set_faults(Some(Box::new(move |_| {
            let now = left == 0;
            left = left.wrapping_sub(1);
            if now { fault } else { Fault::None }
        })));
        true
    }

    /// Some time passes, and somebody does something.
    pub(super) async fn step(&mut self) {
        let minutes = self.dice.below(16 * 60);
        self.pass(SignedDuration::from_mins(minutes as i64));
        match self.dice.below(100) {
            0..25 => self.prune_some().await,
            25..45 => self.replicate_some().await,
            45..48 => self.prune_second().await,
            _ => self.run_some().await,
        }
        self.check();
    }

    pub(super) fn pass(&mut self, time: SignedDuration) {
        self.now += time;
        self.store.set_clock(self.now);
        self.copy.set_clock(self.now);
        self.second.set_clock(self.now);
    }

    async fn run_some(&mut self) {
        let host = self.dice.below(self.hosts.len() as u64) as usize;
        let store = Arc::clone(&self.store);
        self.risk(&store, 12);
        let second = Arc::clone(&self.second);
        match self.dice.below(10) {
            0 | 1 => second.set_faults(Some(Box::new(|_| Fault::Before))),
            2 | 3 => _ = self.risk(&second, 100),
            _ => {}
        }
        let mut ended = self.advance(host).await.is_err();
        self.store.set_faults(None);
        second.set_faults(None);
        second.take_log();
        let who = self.hosts[host].name.clone();
        self.note_requests(&who);
        // Killed between two steps, or the host's disk is lost.
        ended |= self.dice.percent(3);
        if self.dice.percent(2) {
            ended = true;
            self.hosts[host].cache = cache();
        }
        if ended {
            self.hosts[host].going = None;
            self.hosts[host].failures += 1;
            self.happened.failures += 1;
        }
    }

    /// Takes the requests since the last time down.
    pub(super) fn note_requests(&mut self, who: &str) {
        for request in self.store.take_log() {
            if let (Request::Extend(key, _), true) = (&request, who.starts_with("host")) {
                *self.extensions.entry(key.clone()).or_default() += 1;
            }
            self.history.push((self.now, who.to_owned(), request));
        }
    }

    /// What was done with an object, and what lies there now.
    pub(super) fn story(&self, key: &ObjectKey) -> String {
        let about = |request: &Request| match request {
            Request::Put(k) | Request::Extend(k, _) | Request::Delete(k) => k == key,
            Request::Get(k, _) | Request::GetRange(k, _, _) | Request::Retention(k) => k == key,
            Request::List(_) | Request::ListVersions(_) => false,
        };
        let mut lines = vec![format!("{key}, now {}:", self.now)];
        for (when, who, request) in self.history.iter().filter(|(_, _, r)| about(r)) {
            lines.push(format!("  {when} {who}: {request:?}"));
        }
        lines
            .extend(self.store.peek().iter().filter(|p| p.key == *key).map(|p| format!("  {p:?}")));
        lines.join("\n")
    }
}

/// A host's cache: in memory where that can be, since thousands of seeds make very many small files.
fn cache() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
