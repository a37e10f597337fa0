//! What only shows against an earlier report, and evidence of other commands beside it.

use keephold_vault::sign::Purpose;
use keephold_vault::store::Store;

use super::*;
use crate::drill::KIND;
use crate::report::catalogue as code;
use crate::report::model::Severity;
use crate::report::write::write_report;

/// Has a folder of reports, with one in it; gives the folder.
async fn reported(bench: &mut Bench) -> TempDir {
    let out = tempfile::tempdir().unwrap();
    bench.settings.out = out.path().to_owned();
    write_down(bench).await;
    out
}

/// Writes a report, so that the next verification has one before it.
async fn write_down(bench: &Bench) {
    let key = &bench.settings.report_key;
    let sign = |json: &[u8]| Ok(key.sign(Purpose::Report, json)?);
    write_report(&bench.settings.out, &bench.verify().await, sign).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_ends_sooner_than_before_or_is_gone_was_shortened() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    let _out = reported(&mut bench).await;
    let found = bench.found().await;
    assert_eq!(found, (vec![], 0));
    let key = bench.maker.packs().remove(0);
    bench.maker.store.unlock(&key);
    let report = bench.verify().await;
    let shortened: Vec<_> =
        report.findings.iter().filter(|f| f.code == code::LOCK_SHORTENED.id).collect();
    assert!(!shortened.is_empty() && shortened[0].severity == Severity::Critical);
    assert!(shortened[0].detail.as_ref().unwrap().ends_with("none now"), "{shortened:?}");
    let version =
        bench.maker.store.peek().into_iter().find(|held| held.key == key).unwrap().version;
    let soon = Timestamp::now() + SignedDuration::from_hours(24);
    bench.maker.store.extend(&key, Some(&version), soon).await.unwrap();
    // The whole of it: shorter than before, than its runs need, and soon over. That stays so in the next report.
    for _ in 0..2 {
        assert_eq!(
            bench.found().await.0,
            [
                code::LOCK_SHORT.id,
                code::LOCK_SHORTENED.id,
                code::LOCK_ENDS_SOON.id,
                code::LOCK_RUNS_OUT.id
            ]
        );
        write_down(&bench).await;
    }
    let long = "2036-06-01T00:00:00Z".parse().unwrap();
    bench.maker.store.extend(&key, Some(&version), long).await.unwrap();
    assert_eq!(bench.found().await, (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_drill_that_is_expected_is_missed_and_forged_evidence_is_told() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    let out = reported(&mut bench).await;
    bench.settings.escrow_drill_every_s = Some(90 * 24 * 3600);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::ESCROW_OVERDUE.id]);
    assert!(report.findings[0].summary.contains("No escrow drill was done yet"));
    let (forger, drill) = (SigningKey::generate("verify1").unwrap(), serde_json::json!({}));
    crate::evidence::write(out.path(), KIND, &drill, &forger).unwrap();
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::ESCROW_OVERDUE.id, code::ESCROW_UNBELIEVED.id]);
    assert_eq!(report.escrow_drill, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_test_that_is_expected_is_missed_until_one_has_passed() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    let _out = reported(&mut bench).await;
    bench.expect("files", 24 * 3600);
    bench.settings.jobs[0].restore_test_every_s = Some(35 * 24 * 3600);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::RESTORE_OVERDUE.id]);
    assert!(report.findings[0].summary.contains("is known to have been tested"), "{report:?}");
    // A run of that level tests it; later ones of lower levels know.
    bench.settings.depth = Depth::Restore;
    assert_eq!(bench.found().await, (vec![], 0));
    write_down(&bench).await;
    bench.settings.depth = Depth::Lock;
    write_down(&bench).await;
    assert_eq!(bench.found().await, (vec![], 0));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    bench.settings.jobs[0].restore_test_every_s = Some(1);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::RESTORE_OVERDUE.id]);
    assert!(report.findings[0].summary.contains(" ago; one is expected every 1.0 s"), "{report:?}");
}
