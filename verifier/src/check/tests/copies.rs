//! Copies at other targets: behind, without locks, out of reach.

use std::sync::Arc;

use jiff::SignedDuration;
use keephold_vault::replicate::{Settings as Replication, Tally, replicate};
use keephold_vault::store::{LockPolicy, Store};

use super::*;
use crate::report::catalogue as code;
use crate::report::model::Strength;
use crate::settings::CopyTarget;

/// A copy in a folder, without locks.
async fn copied(bench: &mut Bench, lag_hours: i64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let target = Target {
        url: TargetUrl::parse(dir.path().to_str().unwrap()).unwrap(),
        options: TargetOptions { lock: LockPolicy::None, ..TargetOptions::default() },
    };
    let source = Arc::clone(&bench.maker.store) as Arc<dyn Store>;
    let settings = Replication {
        policy: LockPolicy::None,
        keep: None,
        parallel: 2,
        fingerprint: Some(bench.maker.fingerprint),
    };
    replicate(&source, &target.open().unwrap(), &settings, &Tally::default()).await.unwrap();
    let lag = SignedDuration::from_hours(lag_hours);
    bench.settings.copies.push(CopyTarget { name: "far".to_owned(), target, read_days: 1, lag });
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_which_snapshots_a_copy_has() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    let dir = copied(&mut bench, 0).await;
    let report = bench.verify().await;
    let copy = &report.copies[0];
    assert_eq!((copy.objects_present, copy.snapshots.total()), (copy.objects_needed, 2));
    assert!(copy.snapshots.shown.iter().all(|s| s.complete && s.locked_until.is_none()));
    assert!(copy.newest_complete.is_some());
    // It has no locks, which is said of it, and no finding as long as nobody asks for them.
    assert_eq!(codes(&report), [""; 0]);
    assert_eq!(copy.strength, Some(Strength::None));
    bench.settings.copies[0].target.options.lock = LockPolicy::Compliance;
    assert_eq!(codes(&bench.verify().await), [code::COPY_LOCK_SHORT.id]);

    // A pack is lost from it: the first run's record names what both need.
    let pack = dir.path().join(bench.maker.packs()[0].as_str());
    std::fs::remove_file(&pack).unwrap();
    let report = bench.verify().await;
    assert!(codes(&report).contains(&code::COPY_BEHIND.id.to_owned()), "{:#?}", report.findings);
    let copy = &report.copies[0];
    assert_eq!(copy.objects_present, copy.objects_needed.map(|n| n - 1));
    assert!(copy.snapshots.shown.iter().any(|s| !s.complete));
    // That is no finding yet within the time that a copy may lag behind.
    bench.settings.copies[0].lag = SignedDuration::from_hours(48);
    assert!(!codes(&bench.verify().await).contains(&code::COPY_BEHIND.id.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_out_of_reach_is_never_good() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    drop(copied(&mut bench, 48).await);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::COPY_UNCHECKED.id]);
    assert_eq!(report.copies[0].objects_present, None);
    assert_eq!(report.result.exit_code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_byte_in_a_copy_is_named() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Integrity;
    let dir = copied(&mut bench, 48).await;
    assert_eq!(codes(&bench.verify().await), [""; 0]);
    let key = bench.maker.packs()[0].to_string();
    let path = dir.path().join(&key);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let report = bench.verify().await;
    let named = report.findings.iter().find(|f| f.code == code::COPY_DAMAGED.id).unwrap();
    assert_eq!(named.resource, format!("far: {key}"));
    assert_eq!(report.copies[0].objects_damaged, Some(1));
    assert!(report.copies[0].snapshots.shown.iter().any(|s| !s.complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vault_in_a_copy_is_critical() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    let mut other = Bench::with_runs().await;
    let _dir = copied(&mut other, 48).await;
    bench.settings.copies = other.settings.copies.clone();
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::COPY_OTHER_VAULT.id]);
    assert_eq!(report.copies[0].snapshots_complete, None);
}
