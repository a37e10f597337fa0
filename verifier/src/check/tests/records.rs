//! Records that are missing, forged, out of their chain, or too old.

use keephold_vault::envelope::Recipients;
use keephold_vault::identity::Identities;
use keephold_vault::ids::RecordHash;
use keephold_vault::record::{Level as MessageLevel, Message, Status};
use keephold_vault::sign::SigningKey;

use super::{Bench, codes};
use crate::report::catalogue as code;
use crate::settings::Signers;

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_is_not_listed_or_of_another_host_is_not_believed() {
    let mut bench = Bench::with_runs().await;
    let key = bench.maker.signing.public().to_openssh();
    let stranger = SigningKey::generate("x").unwrap().public().to_openssh();
    for (signers, code) in
        [(stranger, &code::SIGNER_UNKNOWN), (format!("db2 {key}"), &code::SIGNER_UNKNOWN)]
    {
        bench.settings.signers = Signers::parse(&signers).unwrap();
        let report = bench.verify().await;
        assert!(codes(&report).contains(&code.id.to_owned()), "{signers}");
        assert!(codes(&report).contains(&code::NO_SUCCESS.id.to_owned()), "none can be believed");
        assert!(report.restore_tests.is_empty());
        assert_eq!(report.jobs[0].newest_success, None);
    }
    // A plain line of a .pub file stands for the host that its comment names.
    let plain = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    bench.settings.signers = Signers::parse(&format!("{plain} keephold@db1")).unwrap();
    assert_eq!(bench.found().await, (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_revoked_key_is_critical_by_the_time_when_it_arrived() {
    let (just_before, later) = (super::ago(0), super::ago(-1));
    let mut bench = Bench::with_runs().await;
    // They say that they are one and two hours old, but the store had them just now.
    let key = bench.maker.signing.public();
    let of = |revoked| keephold_vault::sign::line("db1", &key, None, Some(revoked));
    bench.settings.signers = Signers::parse(&of(later)).unwrap();
    assert_eq!(bench.found().await, (vec![], 0));
    bench.settings.signers = Signers::parse(&of(just_before)).unwrap();
    let report = bench.verify().await;
    let revoked: Vec<_> =
        report.findings.iter().filter(|f| f.code == code::SIGNER_REVOKED.id).collect();
    assert_eq!(revoked.len(), 2, "{:#?}", report.findings);
    assert_eq!(report.result.verdict, crate::report::model::Verdict::Failed);
    assert!(report.restore_tests.is_empty(), "nothing of it is believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_sealed_to_others_is_told_wherever_its_record_stands() {
    let (others, _) = Identities::generate();
    for (first, ours_too) in [(true, false), (false, false), (false, true)] {
        let mut bench = if first { Bench::new().await } else { Bench::with_runs().await };
        let ours = bench.maker.recipients().names().join("\n");
        let changed = if ours_too { format!("{ours}\n{others}") } else { others.clone() };
        for (n, recipients) in [changed, ours].iter().take(if first { 2 } else { 1 }).enumerate() {
            bench.maker.seal_to(Recipients::parse(recipients).unwrap()).await.unwrap();
            let entries = bench.files(5 + n as u64, 300_000).await;
            bench.run(entries, 0).await;
        }
        let report = bench.verify().await;
        let found = codes(&report);
        // The secret that another record gave opens the one that is sealed to others alone.
        assert!(!found.contains(&code::RECORD_UNREADABLE.id.to_owned()), "{first}: {found:?}");
        let changes: Vec<_> =
            report.findings.iter().filter(|f| f.code == code::RECIPIENTS_CHANGED.id).collect();
        let [change] = &changes[..] else { panic!("{first}: {:#?}", report.findings) };
        let detail = change.detail.as_deref().unwrap();
        assert_eq!(detail.contains("added: ") && detail.contains("removed: "), !ours_too);
        assert!(detail.contains(others.trim()), "{detail}");
        if ours_too {
            assert_eq!(found, [code::RECIPIENTS_CHANGED.id]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_gone_leaves_a_gap() {
    let mut bench = Bench::with_runs().await;
    let entries = bench.files(9, 300_000).await;
    bench.run(entries, 0).await;
    let records: Vec<_> = bench
        .maker
        .store
        .keys()
        .into_iter()
        .filter(|key| key.as_str().starts_with("runs/"))
        .collect();
    bench.maker.store.lose(&records[1]);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::SEQUENCE_MISSING.id]);
    assert_eq!(report.jobs[0].missing_seqs, [2]);
    // A hidden one is still read.
    bench.maker.store.hide(&records[2]);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::OBJECT_HIDDEN.id, code::SEQUENCE_MISSING.id]);
    assert_eq!(report.restore_tests[0].seq, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_history_is_told() {
    let mut bench = Bench::with_runs().await;
    let entries = bench.files(5, 300_000).await;
    let mut record = bench.record(entries, 0).await;
    record.previous = Some(RecordHash::from_bytes([9; 32]));
    bench.maker.store_record(&record).await.unwrap();
    assert_eq!(bench.found().await.0, [code::CHAIN_BROKEN.id]);
    // A second one with the same number.
    record.totals.bytes += 1;
    bench.maker.store_record(&record).await.unwrap();
    assert!(bench.found().await.0.contains(&code::SEQUENCE_FORKED.id.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_told_once_a_level() {
    let bench = Bench::with_runs().await;
    let record =
        bench.maker.store.keys().into_iter().find(|key| key.as_str().starts_with("runs/")).unwrap();
    bench.maker.store.rot(&record, |bytes| bytes[300] ^= 1);
    assert_eq!(bench.found().await.0, [code::HASH_DIFFERS.id, code::RECORD_UNREADABLE.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_held_against_their_rpo() {
    let mut bench = Bench::with_runs().await;
    bench.expect("files", 60);
    bench.expect("never", 60);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [code::STALE.id, code::NO_SUCCESS.id]);
    assert_eq!(report.jobs.len(), 2);
    assert_eq!(report.jobs[0].gaps.len(), 2, "{:?}", report.jobs[0].gaps);
    bench.settings.only = vec![("db1".into(), "other".into())];
    let report = bench.verify().await;
    assert!(report.jobs.is_empty());
    assert_eq!(report.result.exit_code, 1, "nothing could be restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_and_a_wrong_clock_are_told() {
    let mut bench = Bench::with_runs().await;
    let entries = bench.files(5, 300_000).await;
    let mut record = bench.record(entries, 0).await;
    (record.status, record.snapshot) = (Status::Failed, None);
    let text = "pg_dump: error:\n  connection lost".into();
    record.messages.push(Message { level: MessageLevel::Error, code: "dump_failed".into(), text });
    record.clock_offset_ms = Some(-3_600_000);
    bench.maker.store_record(&record).await.unwrap();
    let report = bench.verify().await;
    assert_eq!(
        codes(&report),
        [code::FAILED_RUN.id, code::CLOCK_SKEW.id],
        "{:#?}",
        report.findings
    );
    let failed = report.findings.iter().find(|f| f.code == code::FAILED_RUN.id).unwrap();
    assert_eq!(failed.detail.as_deref(), Some("pg_dump: error: connection lost"));
    assert_eq!(report.restore_tests[0].seq, 2, "the last good one is restored");
}
