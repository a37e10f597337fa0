//! Who there is, and what happens next: a discrete-event simulation, in which time jumps from one event to the next.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::cache;
use super::dice::Dice;
use super::gate::{Done, Gate, Life, Next, Place, Weather};
use super::host::{Files, Shared, host_name};
use super::lives::{Chore, Living};
use super::promises::Promise;
use super::{Happened, Length, chance};
use crate::chunk::ChunkBounds;
use crate::config::VaultConfig;
use crate::envelope::{Identities, Recipients};
use crate::keys::VaultSecret;
use crate::prune;
use crate::read::{Opener, ReadSettings};
use crate::sign::SigningKey;
use crate::store::memory::{MemoryStore, Request};
use crate::store::{ObjectKey, Store};
use crate::testing::noise;

pub(super) const BOUNDS: ChunkBounds = ChunkBounds { min: 1 << 10, avg: 4 << 10, max: 16 << 10 };
/// How many files a host has.
pub(super) const FILES: u64 = 5;
/// By how many minutes a clock may be wrong: beyond five the agent sets no locks, and the pruner deletes nothing.
pub(super) const MINUTES_MAX: i64 = 5;

pub(super) fn days(n: u64) -> SignedDuration {
    SignedDuration::from_hours(24 * n as i64)
}

/// A host with one job.
pub(super) struct Host {
    pub(super) signing: SigningKey,
    pub(super) cache: tempfile::TempDir,
    /// Until when its cache has aged.
    pub(super) aged: Timestamp,
    pub(super) keep: SignedDuration,
    pub(super) evidence: SignedDuration,
    pub(super) files: Files,
    pub(super) started_runs: u64,
    pub(super) failures: u64,
    pub(super) due: Timestamp,
    pub(super) skew: SignedDuration,
    pub(super) running: bool,
}

/// How the world is to all who live in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Climate {
    pub(super) faults: u64,
    pub(super) crashes: u64,
    pub(super) page: usize,
    pub(super) tells_time: bool,
    pub(super) skewed: bool,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) gate: Arc<Gate>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) copy: Arc<MemoryStore>,
    pub(super) second: Arc<MemoryStore>,
    pub(super) shared: Shared,
    /// Whoever restores.
    pub(super) opener: Opener,
    pub(super) reading: ReadSettings,
    pub(super) climate: Climate,
    pub(super) now: Timestamp,
    pub(super) began: Timestamp,
    pub(super) ends: Timestamp,
    pub(super) hosts: Vec<Host>,
    pub(super) chores: Vec<Chore>,
    pub(super) living: BTreeMap<Life, Living>,
    /// What each life was.
    pub(super) who: Vec<String>,
    /// Of each host, oldest first.
    pub(super) promises: Vec<Vec<Promise>>,
    pub(super) prune: prune::Settings,
    /// How often hosts extended each object of the vault.
    pub(super) extensions: HashMap<ObjectKey, u64>,
    /// The packs that came to the vault: when, and how many bytes.
    pub(super) put: VecDeque<(Timestamp, u64)>,
    pub(super) history: Vec<Done>,
    pub(super) restored: Cell<u64>,
    pub(super) happened: Happened,
}

impl World {
    pub(super) async fn new(seed: u64, length: Length) -> Self {
        let mut dice = Dice(seed);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let [store, copy, second] = [(); 3].map(|()| Arc::new(MemoryStore::default()));
        [&store, &copy, &second].into_iter().for_each(|target| target.set_clock(now));
        let secret = VaultSecret::generate().unwrap();
        let config = VaultConfig::generate(now, &secret, 0).unwrap();
        let (id, (bytes, _)) = (config.id, config.to_bytes().unwrap());
        store.put(&ObjectKey::vault_config(), bytes.into(), now + days(5000)).await.unwrap();
        store.take_log();
        let (public, identity) = chance::identity();
        let recipients = Recipients::parse(&public).unwrap();
        let climate = Climate {
            faults: [0, 20, 80][dice.below(3) as usize],
            crashes: [0, 10, 40][dice.below(3) as usize],
            page: [5, 50, 1000][dice.below(3) as usize],
            tells_time: dice.percent(70),
            skewed: dice.percent(50),
        };
        let hosts: Vec<Host> = (0..2 + dice.below(2))
            .map(|n| {
                // Kept for a few days where years pass: so that expiry, prune and draining matter.
                let keep = days(length.keep_min + dice.below(length.keep_span));
                Host {
                    signing: SigningKey::generate(&host_name(n as usize)).unwrap(),
                    cache: cache::new(),
                    aged: now,
                    keep,
                    evidence: keep + days(dice.below(20)),
                    // Hosts have files in common, so that they use each other's packs.
                    files: (0..FILES).map(|f| (format!("f{f}"), noise(f, 700))).collect(),
                    started_runs: 0,
                    failures: 0,
                    due: now + SignedDuration::from_mins(dice.below(24 * 60) as i64),
                    skew: SignedDuration::ZERO,
                    running: false,
                }
            })
            .collect();
        let prune = prune::Settings {
            newest: 1 + dice.below(3) as usize,
            grace: days(2 + dice.below(6)),
            ..prune::Settings::default()
        };
        let gate = Arc::new(Gate::new(now, Dice(dice.below(u64::MAX))));
        Self {
            gate,
            store,
            copy,
            second,
            shared: Shared { config, secret, recipients, offers: Arc::default() },
            opener: Opener::with_identities(id, Identities::parse(&identity).unwrap()),
            reading: ReadSettings::default(),
            climate,
            now,
            began: now,
            ends: now + days(length.days),
            promises: hosts.iter().map(|_| Vec::new()).collect(),
            hosts,
            chores: Chore::all(now),
            living: BTreeMap::new(),
            who: Vec::new(),
            prune,
            extensions: HashMap::new(),
            put: VecDeque::new(),
            history: Vec::new(),
            restored: Cell::new(0),
            happened: Happened::default(),
            dice,
        }
    }

    pub(super) fn target(&self, place: Place) -> Arc<MemoryStore> {
        let target = match place {
            Place::Vault => &self.store,
            Place::Copy => &self.copy,
            Place::Second => &self.second,
        };
        Arc::clone(target)
    }

    pub(super) fn signers(&self) -> String {
        let lines = self.hosts.iter().map(|h| h.signing.public().to_openssh());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What the next life has to put up with.
    pub(super) fn weather(&mut self, latencies_ms: &[u64], skew: SignedDuration) -> Weather {
        let Climate { faults, crashes, page, .. } = self.climate;
        let latency_ms = latencies_ms[self.dice.below(latencies_ms.len() as u64) as usize];
        Weather { latency_ms, faults, crashes, down: None, page, skew }
    }

    /// By how much somebody's clock is ahead.
    pub(super) fn skew(&mut self) -> SignedDuration {
        let most = 2 * MINUTES_MAX as u64 * 60;
        let seconds = self.dice.below(most + 1) as i64 - MINUTES_MAX * 60;
        SignedDuration::from_secs(if self.climate.skewed { seconds } else { 0 })
    }

    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        self.gate.set_now(now);
        for target in [&self.store, &self.copy, &self.second] {
            target.set_clock(now);
        }
    }

    /// All that happens until the world ends.
    pub(super) async fn go_on(&mut self) {
        while self.event().await {}
        self.check();
    }

    /// The next event; answers whether there was one.
    async fn event(&mut self) -> bool {
        let request = self.gate.next_due();
        let start = self.next_start().filter(|(at, _)| *at < self.ends);
        match (request, start) {
            (Some(request), Some((start, _))) if request <= start => self.request(request).await,
            (_, Some((start, chore))) => {
                self.set_now(start.max(self.now));
                self.start(chore).await;
            }
            (Some(request), None) => self.request(request).await,
            (None, None) => return false,
        }
        true
    }

    /// A request reaches its target, or its answer whoever sent it.
    async fn request(&mut self, at: Timestamp) {
        self.set_now(at);
        match self.gate.step() {
            Some(Next::Arrived(done)) => self.arrived(done).await,
            Some(Next::Answered(life)) => self.let_live(life).await,
            Some(Next::Crash(life, done)) => {
                self.kill(life).await;
                if let Some(done) = done {
                    self.arrived(done).await;
                }
            }
            Some(Next::Forgotten) | None => {}
        }
    }

    /// The hash of all requests with their answers.
    pub(super) fn log(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for done in &self.history {
            hasher.update(format!("{done:?}").as_bytes());
        }
        hasher.finalize()
    }

    /// Looks at what a request has done.
    async fn arrived(&mut self, done: Done) {
        let (place, request) = (done.place, done.request.clone());
        let by_host = self.who[done.life].starts_with("host");
        self.history.push(done);
        self.happened.requests += 1;
        match (place, request) {
            (Place::Vault, Request::Extend(key, _)) if by_host => {
                *self.extensions.entry(key).or_default() += 1;
            }
            (Place::Vault, Request::Delete(key)) => self.check_deleted(&key),
            (Place::Copy | Place::Second, Request::Delete(_)) => self.check_copy(place),
            (_, Request::Put(key)) => {
                let there = self.target(place).peek_at(&key);
                if there.is_empty() {
                    return;
                }
                if key.as_pack().is_some() && place == Place::Vault {
                    // Two, if it arrived twice; none, if it was there.
                    let new = there.iter().filter(|peek| peek.modified == self.now);
                    self.put.push_back((self.now, new.filter_map(|peek| peek.size).sum()));
                }
                if key.as_str().starts_with("runs/") {
                    match place {
                        Place::Vault => self.promise(key).await,
                        Place::Copy | Place::Second => self.promise_in_copy(place, &key).await,
                    }
                }
            }
            _ => {}
        }
    }
}

impl Done {
    /// The object that the request was about; nothing for listings.
    pub(super) fn key(&self) -> Option<&ObjectKey> {
        match &self.request {
            Request::Put(k) | Request::Extend(k, _) | Request::Delete(k) => Some(k),
            Request::Get(k, _) | Request::GetRange(k, _, _) | Request::Retention(k) => Some(k),
            Request::List(_) | Request::ListVersions(_) => None,
        }
    }
}
