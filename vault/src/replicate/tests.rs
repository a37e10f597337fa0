//! Replication between vaults in memory: its order, crashes at each request, bad bytes, locks.

use super::*;
use crate::read::{Opener, ReadSettings, RecordScope, SnapshotReader};
use crate::store::Lock;
use crate::store::memory::{Fault, MemoryStore, Request};
use crate::testing::{VaultMaker, entry, noise};
use crate::tree::{EntryKind, TreePath};

const PAST: &str = "2026-11-20T01:00:00Z";

fn settings() -> Settings {
    Settings { policy: LockPolicy::Compliance, keep: None, parallel: 2, fingerprint: None }
}

/// Three runs of one job, each with a pack of its own for what is new, and all of what came before.
async fn three_runs() -> VaultMaker {
    let mut maker = VaultMaker::new().await.unwrap();
    let mut entries = Vec::new();
    for n in 0..3 {
        let content = maker.content(&noise(n, 200_000)).await.unwrap();
        entries.push(entry(&format!("file-{n}"), EntryKind::File(content)).unwrap());
        maker.snapshot(entries.clone(), &format!("2026-11-2{n}T01:00:00Z")).await.unwrap();
        maker.next_run().await.unwrap();
    }
    maker.store.take_log();
    maker
}

async fn run(maker: &VaultMaker, target: &Arc<MemoryStore>) -> (Result<Done, Error>, Totals) {
    run_with(maker, target, &settings()).await
}

async fn run_with(
    maker: &VaultMaker,
    target: &Arc<MemoryStore>,
    settings: &Settings,
) -> (Result<Done, Error>, Totals) {
    let source = Arc::clone(&maker.store) as Arc<dyn Store>;
    let copy = Arc::clone(target) as Arc<dyn Store>;
    let tally = Tally::default();
    let done = replicate(&source, &copy, settings, &tally).await;
    (done, tally.totals())
}

/// Restores everything of every record that the copy shows; how many there are.
async fn restores(maker: &VaultMaker, target: &Arc<MemoryStore>) -> usize {
    let store = Arc::clone(target) as Arc<dyn Store>;
    let vault = match Vault::open(store, Some(&maker.fingerprint)).await {
        Ok(vault) => vault,
        Err(error) => {
            assert!(target.keys().is_empty(), "{error}");
            return 0;
        }
    };
    let opener = Opener::with_identities(vault.id(), maker.identities.clone());
    let records = vault.find_records(&RecordScope::default()).await.unwrap();
    for (n, found) in records.iter().enumerate() {
        assert_eq!(found.key.seq, n as u64 + 1, "the chain has no hole");
        let run = vault.run(&found.key, &opener).await.unwrap();
        let reader = SnapshotReader::new(&vault, &opener, &run, ReadSettings::default()).unwrap();
        for file in 0..=n {
            let path = TreePath::new(format!("file-{file}").as_str()).unwrap();
            let EntryKind::File(content) = reader.entry(&path).await.unwrap().kind else {
                panic!("it is a file");
            };
            let mut pieces = reader.content(&content);
            let mut length = 0;
            while let Some(piece) = pieces.next().await {
                let crate::read::Piece::Data(data) = piece.unwrap() else { panic!("no holes") };
                length += data.len();
            }
            assert_eq!(length, 200_000);
        }
    }
    records.len()
}

async fn lock(store: &MemoryStore, key: &ObjectKey) -> Lock {
    store.retention(key, None).await.unwrap().unwrap()
}

fn puts(log: &[Request]) -> Vec<&ObjectKey> {
    log.iter().filter_map(|r| if let Request::Put(key) = r { Some(key) } else { None }).collect()
}

#[tokio::test]
async fn a_copy_is_whole_in_order_and_copied_once() {
    let maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    let (done, totals) = run(&maker, &target).await;
    assert_eq!(done.unwrap().held_back, 0);
    assert_eq!((totals.records_copied, totals.packs_copied), (3, maker.packs().len() as u64));
    assert_eq!(target.keys(), maker.store.keys());
    assert_eq!(restores(&maker, &target).await, 3);
    let log = target.take_log();
    let folder = |key: &ObjectKey| {
        ["vault.json", "packs/", "index/", "runs/"].iter().position(|f| key.as_str().starts_with(f))
    };
    let order: Vec<_> = puts(&log).into_iter().map(|key| folder(key).unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
    for key in maker.store.keys() {
        assert_eq!(lock(&target, &key).await.until, lock(&maker.store, &key).await.until, "{key}");
    }
    target.take_log();
    maker.store.take_log();

    // What is there is neither read nor written again, and no lock is asked for.
    let (done, totals) = run(&maker, &target).await;
    assert!(!done.unwrap().locks_compared);
    assert_eq!((totals.objects_read, totals.objects_written, totals.locks_read), (0, 0, 0));
    let log = [target.take_log(), maker.store.take_log()].concat();
    assert!(puts(&log).is_empty() && log.len() < 20, "{log:#?}");
}

#[tokio::test]
async fn after_a_crash_at_any_request_every_record_in_the_copy_is_whole() {
    let maker = three_runs().await;
    for n in 0.. {
        let target = Arc::new(MemoryStore::default());
        target.cut_off_after(n);
        let (done, _) = run(&maker, &target).await;
        target.reconnect();
        let so_far = target.keys().len() as u64;
        let shown = restores(&maker, &target).await;
        let whole = done.is_ok();
        assert!(!whole || shown == 3);
        let (done, totals) = run(&maker, &target).await;
        assert_eq!(done.unwrap().held_back, 0);
        assert_eq!(totals.objects_written, maker.store.keys().len() as u64 - so_far, "at {n}");
        assert_eq!(restores(&maker, &target).await, 3);
        if whole {
            assert!(n > 10, "it takes more requests than that");
            break;
        }
    }
}

#[tokio::test]
async fn a_source_that_ends_in_the_middle_leaves_whole_records_only() {
    let maker = three_runs().await;
    for n in 0.. {
        let target = Arc::new(MemoryStore::default());
        maker.store.take_log();
        maker.store.cut_off_after(n);
        let (done, _) = run(&maker, &target).await;
        maker.store.reconnect();
        restores(&maker, &target).await;
        if done.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn a_record_written_meanwhile_waits_for_the_next_replication() {
    // What is stored after the records were listed is copied or not, but its record isn't.
    let mut maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    assert_eq!(run(&maker, &target).await.1.records_copied, 3);
    let content = maker.content(&noise(9, 300_000)).await.unwrap();
    maker.close_segment().await.unwrap();
    // A run that has no record yet.
    let (done, totals) = run(&maker, &target).await;
    assert!(!done.unwrap().locks_compared);
    assert_eq!((totals.records_copied, totals.packs_copied, totals.segments_copied), (0, 1, 1));
    let entries = vec![entry("file-9", EntryKind::File(content)).unwrap()];
    maker.snapshot(entries, "2026-11-23T01:00:00Z").await.unwrap();
    let (_, totals) = run(&maker, &target).await;
    assert_eq!((totals.records_found, totals.records_copied), (4, 1));
}

#[tokio::test]
async fn bytes_that_are_not_those_of_their_name_are_never_copied() {
    let maker = three_runs().await;
    let [pack, record] = ["packs/", "runs/"].map(|folder| {
        maker.store.keys().into_iter().find(|key| key.as_str().starts_with(folder)).unwrap()
    });
    maker.store.rot(&pack, |bytes| bytes[1000] ^= 1);
    maker.store.rot(&record, |bytes| bytes[100] ^= 1);
    let target = Arc::new(MemoryStore::default());
    let (done, totals) = run(&maker, &target).await;
    assert_eq!(done.unwrap().held_back, 0, "damage in the source holds nothing back");
    let damaged: Vec<_> = totals.damaged.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(damaged, [pack.as_str(), record.as_str()]);
    assert!(totals.damaged[0].why.contains("not those that its name is the hash of"));
    let keys = target.keys();
    assert!(!keys.contains(&pack) && !keys.contains(&record));
    assert_eq!(keys.len(), maker.store.keys().len() - 2);
    // It is said again as long as it lasts.
    assert_eq!(run(&maker, &target).await.1.objects_damaged, 2);
}

#[tokio::test]
async fn what_was_put_over_an_object_is_passed_by_on_both_sides() {
    let maker = three_runs().await;
    for (n, key) in maker.store.keys().iter().enumerate() {
        match n % 3 {
            0 => maker.store.hide(key),
            1 => maker.store.overwrite(key, noise(7, 1000)),
            _ => {}
        }
    }
    let pinned = Settings { fingerprint: Some(maker.fingerprint), ..settings() };
    let target = Arc::new(MemoryStore::default());
    let (done, totals) = run_with(&maker, &target, &pinned).await;
    assert_eq!((done.unwrap().held_back, totals.objects_damaged), (0, 0));
    assert_eq!(restores(&maker, &target).await, 3);
    for key in target.keys() {
        target.hide(&key);
    }
    let (_, totals) = run_with(&maker, &target, &pinned).await;
    assert_eq!(totals.objects_written, 0, "hidden isn't missing");
}

#[tokio::test]
async fn a_longer_lock_in_the_source_is_followed_before_the_record_is_copied() {
    let mut maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    run(&maker, &target).await.0.unwrap();
    // The next run uses an old pack again, and so makes its lock longer.
    let pack = maker.packs().remove(0);
    let later: Timestamp = "2037-05-05T00:00:00Z".parse().unwrap();
    maker.store.extend(&pack, None, later).await.unwrap();
    maker.snapshot(Vec::new(), "2026-11-23T01:00:00Z").await.unwrap();
    // An attacker's version over the copy's pack must not get the lock.
    let true_version = target.list_versions(&Prefix::exact(&pack)).try_next().await.unwrap();
    let true_version = true_version.unwrap().version;
    target.overwrite(&pack, noise(3, 100));
    target.take_log();
    let (done, totals) = run(&maker, &target).await;
    assert!(done.unwrap().locks_compared);
    assert_eq!(totals.locks_extended, 1);
    let held = target.retention(&pack, true_version.as_ref()).await.unwrap().unwrap();
    assert_eq!(held.until, later);
    assert_eq!(target.retention(&pack, None).await.unwrap(), None);
    let log = target.take_log();
    let extended = log.iter().position(|r| matches!(r, Request::Extend(..))).unwrap();
    let record = log
        .iter()
        .position(|r| matches!(r, Request::Put(key) if key.as_str().starts_with("runs/")));
    assert!(extended < record.unwrap());
    // Two questions about each lock that both have.
    let both = maker.store.keys().len() as u64 - totals.objects_written;
    assert_eq!(totals.locks_read, 2 * both + totals.objects_written);
}

#[tokio::test]
async fn a_copy_is_kept_for_as_long_as_is_asked_and_extended_now_and_then() {
    let mut maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    let keep = SignedDuration::from_hours(24 * 365 * 15);
    let settings = Settings { keep: Some(keep), ..settings() };
    run_with(&maker, &target, &settings).await.0.unwrap();
    let pack = maker.packs().remove(0);
    let end = lock(&target, &pack).await.until;
    assert!(end > Timestamp::now() + keep && end < Timestamp::now() + keep + keep / 3);
    maker.snapshot(Vec::new(), "2026-11-23T01:00:00Z").await.unwrap();
    let (_, totals) = run_with(&maker, &target, &settings).await;
    assert_eq!(totals.locks_extended, 0, "slack spares it");
}

#[tokio::test]
async fn a_lock_that_has_ended_is_no_lock_in_the_past() {
    let maker = three_runs().await;
    let pack = maker.packs().remove(0);
    let body = maker.store.get(&pack, None, 1 << 30).await.unwrap();
    maker.store.lose(&pack);
    maker.store.put(&pack, body, PAST.parse().unwrap()).await.unwrap();
    let target = Arc::new(MemoryStore::default());
    run(&maker, &target).await.0.unwrap();
    assert!(lock(&target, &pack).await.until > Timestamp::now());
}

#[tokio::test]
async fn a_source_without_locks_asks_for_a_length() {
    let maker = three_runs().await;
    let pack = maker.packs().remove(0);
    let body = maker.store.get(&pack, None, 1 << 30).await.unwrap();
    maker.store.lose(&pack);
    maker.store.overwrite(&pack, body);
    let target = Arc::new(MemoryStore::default());
    let error = run(&maker, &target).await.0.unwrap_err().to_string();
    assert!(error.contains("has no lock") && error.contains("give `keep`"), "{error}");
    assert_eq!(restores(&maker, &target).await, 0);
    let settings = Settings { keep: Some(SignedDuration::from_hours(24 * 30)), ..settings() };
    run_with(&maker, &target, &settings).await.0.unwrap();
    assert_eq!(restores(&maker, &target).await, 3);
}

#[tokio::test]
async fn what_can_t_be_copied_holds_every_new_record_back() {
    let maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    // Other bytes stand where a pack is to go, and the target writes nothing over them.
    let pack = maker.packs().remove(0);
    target.overwrite(&pack, noise(1, 10));
    let (done, totals) = run(&maker, &target).await;
    assert_eq!(done.unwrap().held_back, 3);
    assert_eq!((totals.records_copied, totals.segments_copied, totals.objects_failed), (0, 0, 1));
    assert_eq!(totals.failed[0].key, pack.as_str());
    target.lose(&pack);
    assert_eq!(run(&maker, &target).await.0.unwrap().held_back, 0);
    assert_eq!(restores(&maker, &target).await, 3);
}

#[tokio::test]
async fn what_a_pruner_took_meanwhile_is_no_problem() {
    let maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    let tally = Tally::default();
    let (source, copy) =
        (Arc::clone(&maker.store) as Arc<dyn Store>, Arc::clone(&target) as Arc<dyn Store>);
    let vault = open(&source, &copy, None).await.unwrap();
    let job = Replication {
        source: source.as_ref(),
        target: copy.as_ref(),
        settings: &settings(),
        tally: &tally,
        fingerprint: vault.fingerprint(),
        now: Timestamp::now(),
        copies: Semaphore::new(1),
    };
    let records = job.pass(&Prefix::runs(), Missing::Later, false).await.unwrap();
    maker.store.lose(&records[0].key);
    job.copy_records(records).await.unwrap();
    let totals = tally.totals();
    assert_eq!((totals.gone, totals.records_copied, totals.objects_failed), (1, 2, 0));
}

/// What nothing in the copy needs any more is pruned there, while a new run in the source uses it again.
#[tokio::test]
async fn what_a_pruner_takes_from_the_copy_meanwhile_is_copied_again() {
    let mut maker = three_runs().await;
    let target = Arc::new(MemoryStore::default());
    run(&maker, &target).await.0.unwrap();
    maker.snapshot(Vec::new(), "2026-11-23T01:00:00Z").await.unwrap();
    // The last object of each kind is gone once its lock is compared, which is after it was listed.
    let keys = target.keys();
    let last = |prefix: &str| keys.iter().rfind(|key| key.as_str().starts_with(prefix)).unwrap();
    let taken = ["runs/", "index/", "packs/"].map(|prefix| last(prefix).clone());
    let pruner = Arc::clone(&target);
    let mut left = taken.to_vec();
    maker.store.set_faults(Some(Box::new(move |request| {
        if let Request::Retention(key) = request
            && let Some(at) = left.iter().position(|taken| taken == key)
        {
            left.remove(at);
            pruner.lose(key);
        }
        Fault::None
    })));
    let (done, totals) = run(&maker, &target).await;
    assert_eq!((done.unwrap().held_back, totals.objects_failed), (0, 0), "{totals:?}");
    assert_eq!(target.keys(), maker.store.keys());
}

#[tokio::test]
async fn another_vault_is_never_mixed_in() {
    let (maker, other) = (three_runs().await, VaultMaker::new().await.unwrap());
    let before = other.store.keys();
    let (done, _) = run(&maker, &other.store).await;
    let error = done.unwrap_err().to_string();
    assert!(error.contains(&other.fingerprint.to_string()), "{error}");
    assert_eq!(other.store.keys(), before);
    // Nor is a source that isn't the pinned vault.
    let target = Arc::new(MemoryStore::default());
    let pinned = Settings { fingerprint: Some(other.fingerprint), ..settings() };
    assert!(matches!(run_with(&maker, &target, &pinned).await.0, Err(Error::OtherVault { .. })));
    assert!(target.keys().is_empty());
}
