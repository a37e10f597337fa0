//! Pruning a vault in memory: what goes, what stays, and what stops it.

use super::*;
use crate::sign::SigningKey;
use crate::store::memory::{Fault, MemoryStore, Request};
use crate::store::{ObjectKey, VersionId};
use crate::testing::{VaultMaker, entry, noise};
use crate::tree::EntryKind;

/// Ten years after the runs: each has expired, and so has its evidence.
const LATER: &str = "2036-06-01T00:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A run, and what only it needs.
struct Run {
    key: RecordKey,
    pack: ObjectKey,
    segment: ObjectKey,
}

/// Adds a run of this day of November 2026 with a pack of its own; its locks end with it.
async fn run(maker: &mut VaultMaker, day: u8) -> Run {
    let started = format!("2026-11-{day:02}T01:00:00Z");
    maker.store.set_clock(time(&started));
    maker.next_run().await.unwrap();
    let before: HashSet<_> = maker.store.keys().into_iter().collect();
    let content = maker.content(&noise(day.into(), 20_000)).await.unwrap();
    let mut entries = [entry("file", EntryKind::File(content)).unwrap()];
    let root = maker.tree(&mut entries).await.unwrap();
    let mut record = maker.record(root, &started).await.unwrap();
    record.snapshot.as_mut().unwrap().segments.truncate(1);
    let key = maker.store_record(&record).await.unwrap();
    let new = |prefix: &str| {
        let mut keys = maker.store.keys().into_iter().filter(|k| !before.contains(k));
        keys.find(|k| k.as_str().starts_with(prefix)).unwrap()
    };
    let (pack, segment) = (new("packs/"), new("index/"));
    for key in [&pack, &segment, &key.object().unwrap()] {
        maker.store.unlock(key);
    }
    Run { key, pack, segment }
}

/// A vault with runs on the first days of November.
async fn runs(n: u8) -> (VaultMaker, Vec<Run>) {
    let mut maker = VaultMaker::new().await.unwrap();
    let mut made = Vec::new();
    for day in 1..=n {
        made.push(run(&mut maker, day).await);
    }
    maker.store.set_clock(time(LATER));
    maker.store.take_log();
    (maker, made)
}

fn newest(n: usize) -> Settings {
    Settings { newest: n, ..Settings::default() }
}

async fn pruned(maker: &VaultMaker, settings: &Settings) -> Result<Report, Error> {
    let signers = AllowedSigners::parse(&maker.signing.public().to_openssh()).unwrap();
    pruned_by(maker, settings, &signers).await
}

async fn pruned_by(
    maker: &VaultMaker,
    settings: &Settings,
    signers: &AllowedSigners,
) -> Result<Report, Error> {
    let key = PrunerKey { vault: maker.fingerprint, metadata: maker.secret.metadata_key() };
    let store = Arc::clone(&maker.store) as Arc<dyn Prune>;
    prune(store, &key, signers, settings).await
}

fn there(store: &MemoryStore, key: &ObjectKey) -> bool {
    store.keys().contains(key)
}

fn deletions(store: &MemoryStore) -> Vec<ObjectKey> {
    let deleted = |request| match request {
        Request::Delete(key) => Some(key),
        _ => None,
    };
    store.take_log().into_iter().filter_map(deleted).collect()
}

fn versions(store: &MemoryStore, key: &ObjectKey) -> Vec<(VersionId, Option<u64>)> {
    let all = store.peek().into_iter().filter(|p| p.key == *key);
    all.map(|p| (p.version, p.size)).collect()
}

#[tokio::test]
async fn what_only_expired_runs_need_goes_and_the_newest_good_ones_stay() {
    let (maker, runs) = runs(4).await;
    let report = pruned(&maker, &newest(2)).await.unwrap();
    for (n, run) in runs.iter().enumerate() {
        let stays = n >= 2;
        assert_eq!(there(&maker.store, &run.pack), stays, "pack of run {n}");
        assert_eq!(there(&maker.store, &run.segment), stays, "segment of run {n}");
        assert_eq!(there(&maker.store, &run.key.object().unwrap()), stays, "record of run {n}");
    }
    assert_eq!((report.records, report.unexpired, report.newest), (4, 0, 2));
    assert_eq!(report.total(|t| t.deleted).objects, 6);
    assert_eq!(report.concerns, []);
    assert!(maker.reader(&runs[3].key).await.is_ok());
}

#[tokio::test]
async fn packs_go_before_segments_and_segments_before_records_the_oldest_first() {
    let (maker, runs) = runs(3).await;
    pruned(&maker, &newest(1)).await.unwrap();
    let order = deletions(&maker.store);
    let rank = |key: &ObjectKey| match key.as_str().split('/').next().unwrap() {
        "packs" => 0,
        "index" => 1,
        _ => 2,
    };
    assert!(order.is_sorted_by_key(rank), "{order:?}");
    let records: Vec<_> = order.into_iter().filter(|k| rank(k) == 2).collect();
    assert_eq!(records, [runs[0].key.object().unwrap(), runs[1].key.object().unwrap()]);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_deletes_nothing() {
    let (maker, _) = runs(4).await;
    let before = maker.store.peek();
    let dry = Settings { dry_run: true, ..newest(1) };
    let said = pruned(&maker, &dry).await.unwrap();
    assert_eq!(deletions(&maker.store), []);
    assert_eq!(maker.store.peek(), before);
    let done = pruned(&maker, &newest(1)).await.unwrap();
    // A dry run can't know yet that a segment's packs will be gone; everything else is the same.
    assert_eq!(said.kinds[&Kind::Pack], done.kinds[&Kind::Pack]);
    assert_eq!(said.kinds[&Kind::Record], done.kinds[&Kind::Record]);
    let segments = |report: &Report| {
        let tally = report.kinds[&Kind::Segment];
        tally.deleted.objects + tally.waiting.objects
    };
    assert_eq!(segments(&said), segments(&done));
}

#[tokio::test]
async fn what_an_unexpired_run_needs_stays_whatever_its_lock_is() {
    let (maker, runs) = runs(3).await;
    // Runs are kept for 30 days.
    maker.store.set_clock(time("2026-12-01T12:00:00Z"));
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert!(!there(&maker.store, &runs[0].pack), "it expired that morning");
    assert!(there(&maker.store, &runs[1].pack), "it expires the next day");
    assert!(there(&maker.store, &runs[0].key.object().unwrap()), "records are evidence");
    assert_eq!(report.unexpired, 2);
}

#[tokio::test]
async fn a_lock_holds_what_nothing_needs_and_the_report_says_until_when() {
    let (maker, runs) = runs(2).await;
    let until = time("2036-08-15T00:00:00Z");
    maker.store.extend(&runs[0].pack, None, until).await.unwrap();
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert!(there(&maker.store, &runs[0].pack));
    assert!(there(&maker.store, &runs[0].segment), "it describes a pack that is there");
    assert_eq!(report.kinds[&Kind::Pack].locked.objects, 1);
    assert_eq!(report.kinds[&Kind::Segment].waiting.objects, 1);
    assert_eq!(report.locked_until["2036-08"].objects, 1);
    maker.store.set_clock(until);
    pruned(&maker, &newest(1)).await.unwrap();
    assert!(!there(&maker.store, &runs[0].pack) && !there(&maker.store, &runs[0].segment));
}

#[tokio::test]
async fn what_was_stored_within_the_grace_period_stays() {
    let (mut maker, _) = runs(1).await;
    maker.next_run().await.unwrap();
    maker.content(&noise(99, 20_000)).await.unwrap();
    maker.close_segment().await.unwrap();
    let packs = maker.packs();
    for key in maker.store.keys() {
        maker.store.unlock(&key);
    }
    let grace = Settings::default().grace;
    maker.store.set_clock(time(LATER) + grace - SignedDuration::from_secs(1));
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert_eq!(report.kinds[&Kind::Pack].waiting.objects, 1);
    assert_eq!(maker.packs(), packs);
    maker.store.set_clock(time(LATER) + grace);
    pruned(&maker, &newest(1)).await.unwrap();
    assert_eq!(maker.packs().len(), packs.len() - 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_everything_until_someone_has_looked() {
    let (maker, runs) = runs(3).await;
    let record = runs[1].key.object().unwrap();
    maker.store.rot(&record, |bytes| bytes[40] ^= 1);
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert!(report.blocked);
    assert_eq!(report.concerns[0].kind, ConcernKind::Unreadable);
    assert_eq!(deletions(&maker.store), []);
    let disregard = HashSet::from([runs[1].key.clone()]);
    let report = pruned(&maker, &Settings { disregard, ..newest(1) }).await.unwrap();
    assert!(!report.blocked);
    assert!(!there(&maker.store, &runs[1].pack));
    assert!(there(&maker.store, &record), "it is left for whoever asks what happened");
    assert!(there(&maker.store, &runs[2].pack));
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_stops_everything_if_a_kept_run_needs_it() {
    let (maker, runs) = runs(2).await;
    maker.store.rot(&runs[1].segment, |bytes| bytes[40] ^= 1);
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert!(report.blocked);
    assert_eq!(report.concerns[0].kind, ConcernKind::SegmentUnreadable);
    assert_eq!(deletions(&maker.store), []);
    // One that no kept run needs is left alone, and stops nothing.
    let (maker, runs) = self::runs(2).await;
    maker.store.rot(&runs[0].segment, |bytes| bytes[40] ^= 1);
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert!(!report.blocked && !there(&maker.store, &runs[0].pack));
    assert_eq!(report.kinds[&Kind::Segment].unknown.objects, 1);
    assert!(there(&maker.store, &runs[0].segment));
}

#[tokio::test]
async fn snapshots_that_are_not_whole_push_no_good_one_out() {
    let (maker, runs) = runs(5).await;
    // As in a copy that was cut off until the source had pruned what these needed.
    maker.store.lose(&runs[4].pack);
    maker.store.lose(&runs[3].segment);
    let report = pruned(&maker, &newest(2)).await.unwrap();
    assert_eq!((report.newest, report.concerns), (2, vec![]));
    let packs = runs.iter().map(|run| there(&maker.store, &run.pack));
    assert_eq!(packs.collect::<Vec<_>>(), [false, true, true, false, false]);
}

#[tokio::test]
async fn more_may_be_kept_from_now_on_than_were_before() {
    let (maker, runs) = runs(5).await;
    // Expired, but still evidence.
    maker.store.set_clock(time("2027-02-01T00:00:00Z"));
    pruned(&maker, &newest(2)).await.unwrap();
    maker.store.take_log();
    let report = pruned(&maker, &newest(4)).await.unwrap();
    assert_eq!((report.newest, report.blocked), (2, false));
    assert_eq!(deletions(&maker.store), []);
    assert!(runs[3..].iter().all(|run| there(&maker.store, &run.pack)));
}

#[tokio::test]
async fn records_that_are_not_believed_hold_what_they_name_and_push_nothing_out() {
    let (mut maker, runs) = runs(2).await;
    let believed = AllowedSigners::parse(&maker.signing.public().to_openssh()).unwrap();
    // Somebody with the vault's secret, but not the host's key, adds newer ones.
    maker.signing = SigningKey::generate("db1").unwrap();
    let mut forged = Vec::new();
    for day in 3..=6 {
        forged.push(run(&mut maker, day).await);
    }
    maker.store.set_clock(time(LATER));
    let report = pruned_by(&maker, &newest(1), &believed).await.unwrap();
    assert!(there(&maker.store, &runs[1].pack), "the newest good one");
    assert!(!there(&maker.store, &runs[0].pack));
    assert!(there(&maker.store, &forged[3].pack), "the newest of the others");
    let kinds: Vec<_> = report.concerns.iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [ConcernKind::NotBelieved; 4]);
    for run in &forged {
        assert!(there(&maker.store, &run.key.object().unwrap()), "what was found is evidence");
    }
}

#[tokio::test]
async fn a_record_that_nobody_signed_and_nobody_can_open_holds_nothing() {
    let (mut maker, runs) = runs(1).await;
    let believed = AllowedSigners::parse(&maker.signing.public().to_openssh()).unwrap();
    let key = PrunerKey { vault: maker.fingerprint, metadata: maker.secret.metadata_key() };
    maker.signing = SigningKey::generate("db1").unwrap();
    maker.forge_secret().await.unwrap();
    let forged = run(&mut maker, 2).await;
    maker.store.set_clock(time(LATER));
    let store = Arc::clone(&maker.store) as Arc<dyn Prune>;
    let report = prune(store, &key, &believed, &newest(1)).await.unwrap();
    assert_eq!(report.concerns[0].kind, ConcernKind::Worthless);
    assert!(!report.blocked);
    assert!(!there(&maker.store, &forged.pack) && there(&maker.store, &runs[0].pack));
}

#[tokio::test]
async fn what_was_put_over_a_needed_pack_goes_and_its_true_bytes_stay() {
    let (maker, runs) = runs(1).await;
    let pack = &runs[0].pack;
    let truth = versions(&maker.store, pack);
    maker.store.overwrite(pack, vec![7; 100]);
    maker.store.hide(pack);
    maker.store.set_clock(time(LATER) + SignedDuration::from_hours(24 * 30));
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert_eq!(report.kinds[&Kind::Surplus].deleted.objects, 1);
    let left = versions(&maker.store, pack);
    assert_eq!(left[0], truth[0]);
    assert_eq!(left[1].1, None, "a marker over data stays, and the verifier tells of it");
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn without_true_bytes_nothing_over_a_needed_pack_goes() {
    let (maker, runs) = runs(1).await;
    let pack = &runs[0].pack;
    maker.store.rot(pack, |bytes| bytes[40] ^= 1);
    maker.store.overwrite(pack, vec![7; 100]);
    maker.store.set_clock(time(LATER) + SignedDuration::from_hours(24 * 30));
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert_eq!(versions(&maker.store, pack).len(), 2);
    assert_eq!(report.total(|t| t.deleted).objects, 0);
}

#[tokio::test]
async fn a_marker_with_nothing_beneath_it_goes() {
    let (maker, runs) = runs(2).await;
    pruned(&maker, &newest(1)).await.unwrap();
    let pack = &runs[0].pack;
    maker.store.hide(pack);
    maker.store.set_clock(time(LATER) + SignedDuration::from_hours(24 * 30));
    let report = pruned(&maker, &newest(1)).await.unwrap();
    assert_eq!(report.kinds[&Kind::Marker].deleted.objects, 1);
    assert!(!there(&maker.store, pack));
}

#[tokio::test]
async fn refusals_are_counted_and_told_and_the_rest_goes_on() {
    for refused in ["delete", "ask"] {
        let (maker, runs) = runs(3).await;
        let pack = runs[0].pack.clone();
        let asked = refused == "ask";
        maker.store.set_faults(Some(Box::new(move |request| match request {
            Request::Delete(key) if *key == pack && !asked => Fault::Denied,
            Request::Retention(key) if *key == pack && asked => Fault::Denied,
            _ => Fault::None,
        })));
        let report = pruned(&maker, &newest(1)).await.unwrap();
        maker.store.set_faults(None);
        assert!(there(&maker.store, &runs[0].pack) && !there(&maker.store, &runs[1].pack));
        assert!(there(&maker.store, &runs[0].segment), "it describes what is still there");
        assert_eq!(report.kinds[&Kind::Pack].refused.objects, 1, "{refused}");
        assert!(report.refusals[0].contains("AccessDenied"), "{:?}", report.refusals);
    }
}

#[tokio::test]
async fn a_crash_at_any_request_leaves_kept_runs_whole_and_the_rest_for_the_next_time() {
    let mut n = 0;
    loop {
        let (maker, runs) = runs(4).await;
        maker.store.cut_off_after(n);
        let done = pruned(&maker, &newest(2)).await;
        maker.store.reconnect();
        for run in &runs[2..] {
            let (key, reader) = (&run.key, maker.reader(&run.key).await);
            assert!(reader.is_ok() && there(&maker.store, &run.pack), "{key} after {n} requests");
        }
        // No record is gone while an older one stays.
        let records = runs.iter().map(|r| there(&maker.store, &r.key.object().unwrap()));
        assert!(records.is_sorted(), "after {n} requests");
        pruned(&maker, &newest(2)).await.unwrap();
        assert_eq!(maker.packs().len(), 2, "after {n} requests");
        if done.is_ok() {
            break;
        }
        n += 1;
    }
    assert!(n > 10);
}

#[tokio::test]
async fn what_a_prune_does_not_know_is_never_asked_for() {
    let (maker, _) = runs(2).await;
    let others = ["canary/x/1", "reports/2026/report.json", "packs/odd", "index/odd", "other"];
    for key in others {
        let key = ObjectKey::parse(key).unwrap();
        maker.store.put(&key, vec![1].into(), time("2027-01-01T00:00:00Z")).await.unwrap();
    }
    maker.store.set_clock(time(LATER) + SignedDuration::from_hours(24 * 365));
    maker.store.take_log();
    let report = pruned(&maker, &newest(1)).await.unwrap();
    for key in others {
        assert!(there(&maker.store, &ObjectKey::parse(key).unwrap()), "{key}");
    }
    assert_eq!(report.kinds[&Kind::Pack].unknown.objects, 1);
    let prefixes = ["packs/", "index/", "runs/"];
    for request in maker.store.take_log() {
        if let Request::List(prefix) | Request::ListVersions(prefix) = request {
            let known = prefixes.iter().any(|p| prefix.as_str().starts_with(p));
            assert!(known || prefix.as_str() == "vault.json", "{prefix:?}");
        }
    }
}

#[tokio::test]
async fn another_vaults_key_prunes_nothing() {
    let (maker, _) = runs(2).await;
    let (other, _) = runs(1).await;
    let key = PrunerKey { vault: other.fingerprint, metadata: other.secret.metadata_key() };
    let signers = AllowedSigners::parse(&maker.signing.public().to_openssh()).unwrap();
    let store = Arc::clone(&maker.store) as Arc<dyn Prune>;
    let error = prune(store, &key, &signers, &newest(1)).await.unwrap_err();
    assert!(matches!(error, Error::OtherVault { .. }), "{error}");
    assert_eq!(deletions(&maker.store), []);
}
