//! Stored objects that are damaged, hidden, lost, or not locked as they should be.

use keephold_vault::content::Extent;
use keephold_vault::pack::BlobKind;
use keephold_vault::store::{LockMode, ObjectKey};
use keephold_vault::testing::{entry, noise};
use keephold_vault::tree::EntryKind;

use super::{Bench, codes, state};
use crate::report::catalogue as code;
use crate::report::model::{Level, LevelState};

/// The pack of the first run, which only that run and the second need.
fn pack(bench: &Bench) -> ObjectKey {
    bench.maker.packs().remove(0)
}

fn segment(bench: &Bench) -> ObjectKey {
    bench.maker.store.keys().into_iter().find(|key| key.as_segment().is_some()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_bytes_is_named() {
    let bench = Bench::with_runs().await;
    bench.maker.store.rot(&pack(&bench), Vec::clear);
    let report = bench.verify().await;
    let finding = report.findings.iter().find(|f| f.code == code::OBJECT_EMPTY.id).unwrap();
    assert_eq!(finding.resource, pack(&bench).to_string());
    assert!(finding.summary.contains("db1/files #2"), "{}", finding.summary);
    assert_eq!((report.objects.zero_byte, report.result.exit_code), (Some(1), 3));
    assert_eq!(state(&report, Level::IntegrityKeyless), LevelState::Findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_object_and_a_longer_one_are_told_apart() {
    let bench = Bench::with_runs().await;
    bench.maker.store.rot(&pack(&bench), |bytes| bytes.truncate(bytes.len() - 1));
    assert!(bench.found().await.0.contains(&code::OBJECT_TRUNCATED.id.to_owned()));
    bench.maker.store.rot(&pack(&bench), |bytes| bytes.extend([0; 9]));
    assert!(bench.found().await.0.contains(&code::OBJECT_SIZE.id.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_without_a_key() {
    let bench = Bench::with_runs().await;
    bench.maker.store.rot(&pack(&bench), |bytes| bytes[2000] ^= 1);
    let report = bench.verify().await;
    assert!(codes(&report).contains(&code::HASH_DIFFERS.id.to_owned()));
    assert_eq!(state(&report, Level::Presence), LevelState::Passed);
    assert_eq!(state(&report, Level::IntegrityKeyless), LevelState::Findings);
    assert_eq!(
        state(&report, Level::IntegrityDeep),
        LevelState::Findings,
        "not all packs were opened"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_object_is_named() {
    for lost in [pack as fn(&Bench) -> ObjectKey, segment] {
        let bench = Bench::with_runs().await;
        let key = lost(&bench);
        bench.maker.store.lose(&key);
        let report = bench.verify().await;
        let finding = report.findings.iter().find(|f| f.code == code::OBJECT_MISSING.id).unwrap();
        assert_eq!(finding.resource, key.to_string());
        assert_eq!(report.result.exit_code, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_over_an_object_is_told_and_read_through() {
    let bench = Bench::with_runs().await;
    bench.maker.store.hide(&pack(&bench));
    bench.maker.store.overwrite(&segment(&bench), b"something else".to_vec());
    let config = ObjectKey::vault_config();
    bench.maker.store.overwrite(&config, b"{}".to_vec());
    let report = bench.verify().await;
    assert_eq!(
        codes(&report),
        [code::OBJECT_HIDDEN.id, code::OBJECT_OVERWRITTEN.id],
        "{:#?}",
        report.findings
    );
    let over: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.code == code::OBJECT_OVERWRITTEN.id)
        .map(|f| f.resource.as_str())
        .collect();
    assert!(over.contains(&"vault.json") && over.len() == 2, "{over:?}");
    assert_eq!((report.objects.hidden, report.objects.surplus_versions), (Some(1), Some(3)));
    // The true versions are locked, whole, and restored from.
    for level in [Level::Lock, Level::IntegrityKeyless, Level::IntegrityDeep, Level::TestRestore] {
        assert_eq!(state(&report, level), LevelState::Passed, "{level:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_of_the_same_size_does_not_pass_for_the_true_one() {
    let bench = Bench::with_runs().await;
    let key = pack(&bench);
    let (vault, _) = bench.maker.open().await.unwrap();
    let size = vault.store().get(&key, None, u64::MAX).await.unwrap().len();
    bench.maker.store.overwrite(&key, vec![0; size]);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::OBJECT_OVERWRITTEN.id], "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_under_a_false_id_is_found_by_opening_it() {
    let mut bench = Bench::new().await;
    let honest = bench.maker.secret.blob_namer().name(BlobKind::Data, b"honest");
    bench.maker.blob_as(BlobKind::Data, honest, b"forged").await.unwrap();
    let content =
        bench.maker.content_of(vec![Extent::Blob { id: honest, length: 6 }], None).await.unwrap();
    bench.run(vec![entry("f", EntryKind::File(content)).unwrap()], 1).await;
    let report = bench.verify().await;
    assert_eq!(
        codes(&report),
        [code::BLOB_DIFFERS.id, code::RESTORE_FAILED.id],
        "{:#?}",
        report.findings
    );
    assert_eq!(state(&report, Level::IntegrityKeyless), LevelState::Passed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_ends_too_soon_or_is_too_weak_is_told() {
    let mut bench = Bench::new().await;
    let entries = bench.files(1, 1000).await;
    let mut record = bench.record(entries, 1).await;
    // The store's locks end in 2036.
    record.retention.expires = "2040-01-01T00:00:00Z".parse().unwrap();
    bench.maker.store_record(&record).await.unwrap();
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::LOCK_SHORT.id]);
    assert_eq!(report.jobs[0].runs.shown[0].locked_fully, Some(false));

    // What was put over an object has no lock; where the true version is gone, that is all there is.
    let key = bench.maker.packs().remove(0);
    let (vault, _) = bench.maker.open().await.unwrap();
    let bytes = vault.store().get(&key, None, u64::MAX).await.unwrap();
    bench.maker.store.lose(&key);
    bench.maker.store.overwrite(&key, bytes);
    assert_eq!(
        bench.found().await,
        (vec![code::LOCK_MISSING.id.into(), code::LOCK_SHORT.id.into()], 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_without_locks_make_the_whole_target_red() {
    let mut bench = Bench::new().await;
    let entries = bench.files(1, 1000).await;
    let mut record = bench.record(entries, 1).await;
    record.retention.mode = None;
    bench.maker.store_record(&record).await.unwrap();
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::TARGET_UNLOCKED.id]);
    assert_eq!(report.target.strength, crate::report::model::Strength::None);
    assert!(crate::report::text::render(&report, None).contains("NOT IMMUTABLE"));
    assert_eq!(
        super::super::lock::stronger(None, Some(LockMode::Advisory)),
        Some(LockMode::Advisory)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_keepholds_is_told() {
    let bench = Bench::with_runs().await;
    bench.maker.store.overwrite(&ObjectKey::parse("packs/hello").unwrap(), noise(1, 10));
    bench.maker.store.overwrite(&ObjectKey::parse("reports/x/report.json").unwrap(), noise(1, 10));
    assert_eq!(bench.found().await, (vec![code::UNKNOWN_OBJECT.id.into()], 3));
}
