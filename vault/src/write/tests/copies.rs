//! Copies that runs write to as well: whatever goes wrong there, what can be seen at a copy is whole and locked, the
//! first target is never worse off, and what was missed is caught up with.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::record::SealedRecord;
use crate::replicate::{self, Tally, replicate};
use crate::store::LockPolicy;
use crate::store::memory::Fault;
use crate::write::{AtCopy, Copy, CopySettings, CopyStatus};

/// A copy, and what a run holds of it.
#[derive(Debug)]
pub(super) struct Second {
    memory: Arc<MemoryStore>,
    dir: tempfile::TempDir,
    spool_max: u64,
    spool_free: u64,
    keep: Option<SignedDuration>,
    opened: Mutex<Option<Arc<Copy>>>,
    /// Where a run is to be killed as it leaves its record.
    dies: Option<Step>,
}

/// What a run has just done when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Stored,
    Spooled,
    Recorded,
}

impl Second {
    fn new() -> Self {
        let memory = Arc::new(MemoryStore::default());
        // Versions must differ from those of the first target.
        for n in 0..9 {
            let key = ObjectKey::parse(&format!("other/{n}")).unwrap();
            memory.overwrite(&key, "x");
        }
        let (dir, spool_max) = (tempfile::tempdir().unwrap(), 1 << 30);
        let opened = Mutex::default();
        Self { memory, dir, spool_max, spool_free: 0, keep: None, opened, dies: None }
    }

    /// Reaches it, as a run does at its beginning.
    pub(super) async fn open(&self, config: &VaultConfig) -> Arc<Copy> {
        let settings = CopySettings {
            name: "far".into(),
            policy: LockPolicy::Compliance,
            keep: self.keep,
            spool_max: self.spool_max,
            spool_free: self.spool_free,
            dir: self.dir.path().to_owned(),
        };
        let store = self.memory.clone() as Arc<dyn Store>;
        let (config, until) = (config.to_bytes().unwrap().0, Timestamp::now() + LONG);
        let copy = Arc::new(Copy::open(settings, store, config.into(), until).await);
        *self.opened.lock().unwrap() = Some(copy.clone());
        copy
    }

    /// Leaves a record, as the agent does.
    pub(super) async fn leave(
        &self,
        first: &dyn Store,
        sealed: &SealedRecord,
        until: Timestamp,
        at: &[AtCopy],
    ) -> Result<(), Error> {
        let copy = self.opened.lock().unwrap().clone().unwrap();
        let killed = |step| match self.dies == Some(step) {
            true => Err(Error::Stopped("killed".into())),
            false => Ok(()),
        };
        killed(Step::Stored)?;
        copy.await_record(&sealed.key, &sealed.bytes, until);
        killed(Step::Spooled)?;
        first.put(&sealed.key.object()?, sealed.bytes.clone().into(), until).await?;
        killed(Step::Recorded)?;
        if matches!(at, [AtCopy::Whole(_)]) && copy.is_up() {
            copy.put_record(&sealed.key, sealed.bytes.clone().into(), until).await;
        }
        Ok(())
    }

    fn status(&self) -> CopyStatus {
        self.opened.lock().unwrap().as_ref().unwrap().status()
    }

    fn records(&self) -> usize {
        kinds_of(&self.memory.keys(), "runs/")
    }

    /// Lets one thing go wrong with the request with this number, counted from now.
    fn fails_at(&self, at: usize, fault: Fault) {
        let mut count = 0;
        self.memory.set_faults(Some(Box::new(move |_| {
            count += 1;
            if count == at + 1 { fault } else { Fault::None }
        })));
    }

    fn goes_down(&self) {
        self.memory.set_faults(Some(Box::new(|_| Fault::Before)));
    }

    fn comes_back(&self) {
        self.memory.set_faults(None);
        self.memory.take_log();
    }
}

/// A vault with a copy, and what its runs stored.
struct Pair {
    bench: Bench,
    first: Arc<MemoryStore>,
    whom: Reader,
    stored: BTreeMap<RecordKey, Files>,
}

impl Pair {
    async fn new() -> Self {
        let (mut bench, first) = Bench::in_memory().await;
        bench.also = Some(Second::new());
        Self { bench, first, whom: reader(), stored: BTreeMap::new() }
    }

    fn second(&mut self) -> &mut Second {
        self.bench.also.as_mut().unwrap()
    }

    fn copy(&self) -> &Second {
        self.bench.also.as_ref().unwrap()
    }

    async fn run(&mut self, files: &Files) -> Result<Run, Error> {
        self.run_for(files, LONG).await
    }

    async fn run_for(&mut self, files: &Files, kept: SignedDuration) -> Result<Run, Error> {
        let before = self.first.keys();
        let run = self.bench.run_for(&self.whom, files, kept).await;
        // Whatever the host was told.
        for key in self.first.keys().into_iter().filter(|key| !before.contains(key)) {
            if let Ok(key) = key.as_str().parse() {
                self.stored.insert(key, files.clone());
            }
        }
        run
    }

    /// Every record that can be seen at the copy restores from it alone, and all that it needs is locked there.
    async fn check(&self) {
        let memory = &self.copy().memory;
        let mut lying: HashMap<ObjectKey, Option<Timestamp>> = HashMap::new();
        for peek in memory.peek() {
            let lock = lying.entry(peek.key).or_default();
            *lock = (*lock).max(peek.locked_until);
        }
        let store = memory.clone() as Arc<dyn Store>;
        for (key, files) in &self.stored {
            self.bench.compare(&self.whom, key, files).await;
            let Some(lock) = lying.get(&key.object().unwrap()) else { continue };
            let vault = Vault::open(store.clone(), None).await.unwrap();
            let opener = Opener::with_identities(vault.id(), self.whom.identities.clone());
            let run = vault.run(key, &opener).await.unwrap();
            let expires = run.record.retention.expires;
            assert!(*lock >= Some(expires), "{key}: {lock:?}");
            for segment in &run.record.snapshot.as_ref().unwrap().segments {
                let object = ObjectKey::segment(&segment.id);
                assert!(lying[&object] >= Some(expires), "{key} needs {object}");
                let bytes = store.get(&object, None, 1 << 27).await.unwrap();
                let secret = &self.bench.secret;
                let open = crate::index::OpenSegment::open_whole(
                    &segment.id,
                    self.bench.config.id,
                    secret,
                    &bytes,
                );
                let rows = open.unwrap().pack_rows(&bytes).unwrap();
                for n in segment.used.iter() {
                    let object = ObjectKey::pack(&rows[n as usize].id);
                    let lock = lying.get(&object).copied().flatten();
                    assert!(lock >= Some(expires), "{key} needs {object}, locked until {lock:?}");
                }
            }
            let reader =
                SnapshotReader::new(&vault, &opener, &run, ReadSettings::default()).unwrap();
            same(&reader, files).await;
        }
    }

    /// The copy has all that the vault has.
    async fn whole(&self) {
        self.check().await;
        assert_eq!(self.copy().records(), self.stored.len(), "{:?}", self.copy().status());
        assert_eq!(self.copy().status().down, None);
        assert!(self.spool().is_empty(), "{:?}", self.spool());
    }

    fn spool(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.copy().dir.path().join("spool")).unwrap();
        let named = |path: &PathBuf| !path.ends_with(".lock");
        files.map(|e| e.unwrap().path()).filter(named).collect()
    }

    /// Makes a copy of what the vault has and the copy lacks; then a run stores nothing again, and all is there.
    async fn replicates(&mut self, files: &Files) {
        let settings = replicate::Settings {
            policy: LockPolicy::Compliance,
            keep: None,
            parallel: 2,
            fingerprint: None,
        };
        let (from, to) =
            (self.first.clone() as Arc<dyn Store>, self.copy().memory.clone() as Arc<dyn Store>);
        replicate(&from, &to, &settings, &Tally::default()).await.unwrap();
        let run = self.run(files).await.unwrap();
        assert_eq!((run.new, self.copy().status().bytes_again), (0, 0));
        self.whole().await;
    }
}

/// One small pack.
fn tiny(seed: u64) -> Files {
    vec![plain("same", noise(1, 40_000)), plain("new", noise(seed, 30_000))]
}

/// Two packs.
fn large(seed: u64) -> Files {
    vec![plain("same", noise(1, 40_000)), plain("new", noise(seed, 20 << 20))]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_gets_the_same_objects_in_order_with_locks_of_its_own() {
    let mut pair = Pair::new().await;
    let long = LONG * 3;
    pair.second().keep = Some(long);
    pair.run(&large(2)).await.unwrap();
    pair.run(&large(3)).await.unwrap();
    pair.whole().await;
    let log = pair.copy().memory.take_log();
    let puts = log.iter().filter_map(|r| match r {
        Request::Put(key) => Some(key.as_str().split('/').next().unwrap().to_owned()),
        _ => None,
    });
    let puts: Vec<_> = puts.collect();
    let run = ["packs", "packs", "index", "runs"];
    assert_eq!(puts, [&["vault.json"], &run[..], &run[..]].concat());
    let keys = |memory: &MemoryStore| -> Vec<_> {
        memory.keys().into_iter().filter(|k| !k.as_str().starts_with("other/")).collect()
    };
    assert_eq!(keys(&pair.copy().memory), keys(&pair.first));
    let least = Timestamp::now() + long - SignedDuration::from_hours(2);
    for peek in pair.copy().memory.peek() {
        if !peek.key.as_str().starts_with("other/") {
            assert!(peek.locked_until >= Some(least), "{peek:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thing_that_goes_wrong_at_any_request_is_caught_up_with() {
    for fault in [Fault::Before, Fault::After, Fault::Twice, Fault::Denied, Fault::Crash] {
        let mut behind = 0;
        for at in 0.. {
            let mut pair = Pair::new().await;
            // The first run's locks are too short for the second, so that it extends them.
            pair.run_for(&tiny(2), LONG / 2).await.unwrap();
            pair.copy().memory.take_log();
            pair.copy().fails_at(at, fault);
            pair.run(&tiny(3)).await.unwrap_or_else(|e| panic!("{fault:?} at {at}: {e}"));
            let requests = pair.copy().memory.take_log().len();
            let down = pair.copy().status().down;
            behind += usize::from(pair.copy().records() == 1);
            pair.copy().comes_back();
            pair.check().await;
            pair.run(&tiny(4)).await.unwrap();
            pair.whole().await;
            if requests <= at {
                assert!(at > 6 && down.is_none(), "{fault:?}: {at} requests");
                break;
            }
        }
        assert!(behind > 3 || fault == Fault::Twice, "{fault:?} did no harm");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_missed_while_it_was_down_comes_to_it_in_order() {
    let mut pair = Pair::new().await;
    pair.run(&large(2)).await.unwrap();
    pair.copy().goes_down();
    for seed in [3, 4] {
        let run = pair.run(&large(seed)).await.unwrap();
        assert_eq!(run.written.copies, [AtCopy::Down]);
    }
    assert_eq!((pair.copy().status().spooled.0, pair.copy().records()), (4, 1));
    pair.copy().comes_back();
    pair.check().await;
    let run = pair.run(&large(5)).await.unwrap();
    assert!(matches!(run.written.copies[..], [AtCopy::Whole(Some(_))]));
    assert_eq!((run.again, pair.copy().status().bytes_again), (0, 0));
    assert_eq!(pair.copy().status().caught_up, (4, 2));
    pair.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_any_step_leaves_the_copy_whole_and_is_caught_up_with() {
    for down in [false, true] {
        for step in [Step::Stored, Step::Spooled, Step::Recorded] {
            let mut pair = Pair::new().await;
            pair.run(&tiny(2)).await.unwrap();
            if down {
                pair.copy().goes_down();
            }
            pair.second().dies = Some(step);
            assert!(pair.run(&tiny(3)).await.is_err());
            pair.second().dies = None;
            pair.copy().comes_back();
            pair.check().await;
            pair.bench.seq -= u64::from(step != Step::Recorded);
            let run = pair.run(&tiny(3)).await.unwrap();
            assert_eq!(run.new, 0, "{step:?}: what was stored is used again");
            pair.check().await;
            // Only what never was a run may wait.
            assert_eq!(pair.copy().records(), pair.stored.len(), "{step:?}, down: {down}");
            assert_eq!(pair.spool().len(), usize::from(step == Step::Spooled), "{step:?}");
        }
        // Packs are stored, and described nowhere.
        let mut pair = Pair::new().await;
        if down {
            pair.copy().goes_down();
        }
        let index = Arc::new(failing::Faulty::over(&pair.first, "index/", 0));
        let store = std::mem::replace(&mut pair.bench.store, index);
        assert!(pair.run(&large(2)).await.is_err());
        pair.bench.store = store;
        pair.copy().comes_back();
        let run = pair.run(&large(2)).await.unwrap();
        assert_eq!(run.new, 0);
        pair.check().await;
        assert_eq!((pair.copy().records(), run.written.copies.len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_the_spool_is_stored_again_for_all() {
    // Turned off; room for one of two packs; a full disk.
    for (max, free) in [(0, 0), (17 << 20, 0), (1 << 30, u64::MAX)] {
        let mut pair = Pair::new().await;
        (pair.second().spool_max, pair.second().spool_free) = (max, free);
        pair.run(&tiny(2)).await.unwrap();
        pair.copy().goes_down();
        pair.run(&large(3)).await.unwrap();
        assert!(pair.copy().status().overflow.is_some());
        assert_eq!(pair.copy().status().spooled.0, 0, "what is of no use is not kept");
        pair.copy().comes_back();
        let run = pair.run(&large(3)).await.unwrap();
        assert!(matches!(run.written.copies[..], [AtCopy::Whole(_)]));
        let status = pair.copy().status();
        assert!(status.bytes_again >= 20 << 20, "{status:?}");
        assert_eq!((pair.copy().records(), status.waiting), (2, 1));
        pair.check().await;
        // What only the first has, a replication brings.
        pair.replicates(&large(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cache_costs_requests_only() {
    let mut pair = Pair::new().await;
    pair.run_for(&large(2), LONG / 2).await.unwrap();
    pair.bench.cache = tempfile::tempdir().unwrap();
    pair.second().dir = tempfile::tempdir().unwrap();
    pair.copy().memory.take_log();
    let run = pair.run(&large(2)).await.unwrap();
    assert_eq!((run.new, pair.copy().status().bytes_again), (0, 0));
    pair.whole().await;
    let log = pair.copy().memory.take_log();
    let unnamed = log.iter().filter(|r| matches!(r, Request::Extend(_, None))).count();
    let named = log.iter().filter(|r| matches!(r, Request::Extend(_, Some(_)))).count();
    assert_eq!((unnamed, named >= 3), (0, true), "an extension names the version: {log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_new_or_was_emptied_gets_the_next_snapshot_whole() {
    let mut pair = Pair::new().await;
    pair.run(&large(2)).await.unwrap();
    pair.run(&large(3)).await.unwrap();
    for key in pair.copy().memory.keys() {
        pair.copy().memory.lose(&key);
    }
    let run = pair.run(&large(3)).await.unwrap();
    assert!(matches!(run.written.copies[..], [AtCopy::Whole(_)]), "{:?}", run.written.copies);
    assert!(pair.copy().status().bytes_again >= 20 << 20);
    assert_eq!(pair.copy().records(), 1);
    pair.check().await;
    // Once it was replicated there, all of it is used again.
    pair.replicates(&large(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_were_pruned_from_a_copy_are_stored_again() {
    for forgets in [false, true] {
        let mut pair = Pair::new().await;
        pair.run_for(&large(2), SignedDuration::from_hours(30)).await.unwrap();
        let packs: Vec<_> = pair.copy().memory.keys();
        for key in packs.into_iter().filter(|key| key.as_pack().is_some()) {
            pair.copy().memory.lose(&key);
        }
        for (key, _) in std::mem::take(&mut pair.stored) {
            pair.copy().memory.lose(&key.object().unwrap());
        }
        if forgets {
            pair.second().dir = tempfile::tempdir().unwrap();
            // Nothing is known of the locks there, so it shows at the end.
            let run = pair.run(&large(2)).await.unwrap();
            assert!(matches!(run.written.copies[..], [AtCopy::Lacks(2)]), "{:?}", run.written);
            pair.check().await;
            assert_eq!(pair.copy().records(), 0);
        }
        let run = pair.run(&large(2)).await.unwrap();
        assert!(matches!(run.written.copies[..], [AtCopy::Whole(_)]));
        assert!(pair.copy().status().bytes_again >= 20 << 20);
        assert_eq!(pair.copy().records(), 1);
        pair.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vault_in_the_copy_s_place_is_not_written_to() {
    let mut pair = Pair::new().await;
    let other = crate::testing::VaultMaker::new().await.unwrap();
    let before = other.store.keys();
    pair.second().memory = other.store.clone();
    pair.run(&tiny(2)).await.unwrap();
    let down = pair.copy().status().down.unwrap();
    assert!(down.contains("belongs to vault"), "{down}");
    assert_eq!(other.store.keys(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn spooled_bytes_that_rot_are_not_delivered() {
    let mut pair = Pair::new().await;
    pair.run(&tiny(2)).await.unwrap();
    pair.copy().goes_down();
    pair.run(&tiny(3)).await.unwrap();
    for path in pair.spool() {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    pair.copy().comes_back();
    let run = pair.run(&tiny(3)).await.unwrap();
    assert!(matches!(run.written.copies[..], [AtCopy::Whole(_)]));
    assert_eq!(pair.copy().records(), 2, "the rotten record is gone");
    pair.check().await;
    assert!(pair.spool().is_empty());
}
