//! The pruner and the replicator: each goes on for a few requests when it is its turn.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::world::World;
use crate::config::VaultConfig;
use crate::error::Error;
use crate::keys::PrunerKey;
use crate::prune::{self, Report};
use crate::replicate::{self, Done, Tally};
use crate::sign::AllowedSigners;
use crate::store::memory::MemoryStore;
use crate::store::{LockPolicy, Prune, Store};

pub(super) type Pruning = Pin<Box<dyn Future<Output = Result<Report, Error>>>>;

/// A replication between two of its requests.
pub(super) struct Replicating {
    work: Pin<Box<dyn Future<Output = Result<Done, Error>>>>,
    tally: Arc<Tally>,
    /// Whether something may have gone wrong since it began.
    risked: bool,
}

impl Replicating {
    /// To the end, when nothing goes wrong any more.
    pub(super) async fn finish(self) {
        let done = self.work.await.unwrap();
        assert_eq!(done.held_back, 0, "{:?}", self.tally.totals());
    }
}

impl World {
    pub(super) fn begin_pruning(&self, store: &Arc<MemoryStore>) -> Pruning {
        let store = store.clone() as Arc<dyn Prune>;
        let vault = VaultConfig::fingerprint(&self.config.to_bytes().unwrap().0);
        let key = PrunerKey { vault, metadata: self.secret.metadata_key() };
        let lines: Vec<_> = self.hosts.iter().map(|h| h.signing.public().to_openssh()).collect();
        let signers = AllowedSigners::parse(&lines.join("\n")).unwrap();
        let settings = self.settings.clone();
        Box::pin(async move { prune::prune(store, &key, &signers, &settings).await })
    }

    pub(super) fn begin_replicating(&self) -> Replicating {
        let (source, copy) = (self.store.clone() as Arc<dyn Store>, self.copy.clone());
        let copy = copy as Arc<dyn Store>;
        let settings = replicate::Settings {
            policy: LockPolicy::Compliance,
            keep: None,
            parallel: 2,
            fingerprint: None,
        };
        let tally = Arc::new(Tally::default());
        let counted = Arc::clone(&tally);
        let work = async move { replicate::replicate(&source, &copy, &settings, &counted).await };
        Replicating { work: Box::pin(work), tally, risked: false }
    }

    /// How often a worker is polled this time; nothing if it is killed.
    fn polls(&mut self) -> Option<u64> {
        match self.dice.below(20) {
            0 => None,
            1..11 => Some(u64::MAX),
            _ => Some(1 + self.dice.below(40)),
        }
    }

    /// The pruner does a few requests; then the others go on.
    pub(super) async fn prune_some(&mut self) {
        let fresh = self.pruning.is_none();
        let mut pruning = self.pruning.take().unwrap_or_else(|| self.begin_pruning(&self.store));
        let Some(polls) = self.polls() else { return };
        let store = Arc::clone(&self.store);
        self.risk(&store, 5);
        let done = self.go_on("pruner", &mut pruning, polls).await;
        match done {
            None => self.pruning = Some(pruning),
            Some(Ok(report)) => {
                assert!(report.concerns.is_empty(), "{:?}", report.concerns);
                self.happened.pruned += report.total(|t| t.deleted).objects;
                if fresh {
                    self.check_garbage();
                }
            }
            // Lost requests, and what took too long.
            Some(Err(Error::Store(_) | Error::Stopped(_))) => self.happened.cut_off += 1,
            Some(Err(error)) => panic!("prune failed: {error}"),
        }
    }

    /// The pruner goes through the first host's own copy, all at once.
    pub(super) async fn prune_second(&mut self) {
        if self.second.keys().is_empty() {
            return;
        }
        let report = self.begin_pruning(&self.second).await.unwrap();
        assert!(report.concerns.is_empty(), "{:?}", report.concerns);
    }

    /// The same for the replicator.
    pub(super) async fn replicate_some(&mut self) {
        let mut going = self.replicating.take().unwrap_or_else(|| self.begin_replicating());
        let Some(polls) = self.polls() else { return };
        let store = Arc::clone(if self.dice.percent(50) { &self.store } else { &self.copy });
        going.risked |= self.risk(&store, 10);
        match self.go_on("replicator", &mut going.work, polls).await {
            None => self.replicating = Some(going),
            Some(Ok(done)) => {
                let totals = going.tally.totals();
                assert!(going.risked || done.held_back == 0, "{totals:?}");
                self.happened.replications += 1;
            }
            Some(Err(Error::Store(_))) => self.happened.cut_off += 1,
            Some(Err(error)) => panic!("replication failed: {error}"),
        }
    }

    /// Polls some work, and answers what came of it if it has ended.
    async fn go_on<T>(
        &mut self,
        who: &str,
        work: &mut Pin<Box<dyn Future<Output = T>>>,
        polls: u64,
    ) -> Option<T> {
        self.store.set_yielding(true);
        self.copy.set_yielding(true);
        let mut done = None;
        for _ in 0..polls {
            if let Poll::Ready(result) = futures::poll!(&mut *work) {
                done = Some(result);
                break;
            }
            // Whoever gave way is woken by the runtime only.
            tokio::task::yield_now().await;
        }
        for store in [&self.store, &self.copy] {
            store.set_yielding(false);
            store.set_faults(None);
        }
        self.note_requests(who);
        self.copy.take_log();
        done
    }
}
