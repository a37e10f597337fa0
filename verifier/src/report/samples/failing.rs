//! The report of a bad day: files without protection, backups stopped, data lost, a restore that differs. Some names in it
//! are hostile, since a report must survive those as well.

use super::parts::{at, daily_runs, job, table};
use crate::report::catalogue;
use crate::report::model::*;

pub(crate) fn failing() -> Report {
    let mut report = super::base();
    report.report_id = "f0a1-20261123".to_owned();
    report.target.url = "file:///srv/vault".to_owned();
    (report.target.region, report.target.account) = (None, None);
    report.target.strength = Strength::Advisory;
    (report.target.versioning, report.target.object_lock) = (None, None);
    report.target.default_retention = None;
    report.target.notes = vec!["The process may not set the immutable attribute.".to_owned()];
    report.clock.offset_s = None;
    jobs(&mut report);
    objects(&mut report);
    restores(&mut report);
    report.encryption.algorithm = None;
    report.encryption.recipients[1].label = None;
    report.copies[0].objects_present = Some(18_011);
    report.lock_probes[0].actual = "deleted".to_owned();
    report.lock_probes[0].ok = false;
    report.lock_probes[0].result = ProbeResult::Broken;
    if let Some(proof) = &mut report.lock_proof {
        proof.verdict = ProofVerdict::Broken;
        proof.headline = "THE LOCK WAS BROKEN".to_owned();
    }
    let restore = &mut report.levels[5];
    restore.state = LevelState::CouldNotCheck;
    restore.reason = Some(
        "the identity in /etc/keephold/verify.key can't be read: permission denied".to_owned(),
    );
    restore.checked.clear();
    let coverage = &mut report.levels[7];
    coverage.state = LevelState::NotRun;
    coverage.reason = Some("no inventory is configured".to_owned());
    coverage.checked.clear();
    report.coverage = Coverage::default();
    findings(&mut report);
    if let Some(store) = &mut report.evidence_store {
        (store.files, store.stored_now, store.altered) = (None, None, None);
        (store.strength, store.locked_until) = (None, None);
    }
    report.previous_report = None;
    report.conclude();
    report
}

fn jobs(report: &mut Report) {
    let mut runs = daily_runs("db1", "shop", 41, 35);
    runs.drain(..4);
    for run in &mut runs[..3] {
        run.status = RunStatus::Failed;
        run.message = Some("pg_dump: error: connection to server failed".to_owned());
        (run.expires, run.lock_until, run.locked_fully) = (None, None, None);
        run.rows = None;
    }
    runs[6].chain_ok = false;
    runs[11].signature_ok = false;
    runs.remove(9);
    for run in &mut runs[3..] {
        run.locked_fully = Some(false);
        run.lock_until = (run.seq % 3 != 0)
            .then_some(run.started + super::parts::days(9))
            .filter(|_| run.seq > 26);
    }
    let mut shop = job("db1", "shop", JobKind::Postgres, runs);
    shop.newest_success = Some(at("2026-11-16T02:04:00Z"));
    shop.newest_success_age_s = Some(612_849);
    shop.longest_gap_s = Some(612_849);
    shop.gaps = vec![
        Gap { from: at("2026-11-09T02:04:00Z"), until: Some(at("2026-11-11T02:04:00Z")) },
        Gap { from: at("2026-11-16T02:04:00Z"), until: None },
    ];
    shop.last_restore_test = Some(at("2026-11-16T04:11:00Z"));
    (shop.runs_seen, shop.runs_succeeded, shop.missing_seqs) = (30, 27, vec![28]);
    let never = Job {
        newest_success: None,
        newest_success_age_s: None,
        oldest_restorable: None,
        longest_gap_s: None,
        runs_seen: 0,
        runs_succeeded: 0,
        runs: Bounded::none(),
        last_restore_test: None,
        restore_test_every_s: None,
        ..job(
            "web<script>alert(1)</script>",
            "uploads",
            JobKind::Directory,
            daily_runs("w", "u", 1, 1),
        )
    };
    let found = Job {
        expected: false,
        rpo_s: None,
        schedule: None,
        runs_expected: None,
        ..job("old-host", "mail", JobKind::Command, daily_runs("old-host", "mail", 3, 3))
    };
    report.jobs = vec![shop, never, found];
}

fn objects(report: &mut Report) {
    report.objects = Objects {
        needed: Some(18_420),
        present: Some(18_417),
        bytes: Some(335_350_000_000),
        zero_byte: Some(1),
        missing: Some(1),
        hidden: Some(1),
        surplus_versions: Some(2),
        unneeded: None,
        locked: Some(0),
        unlocked: Some(18_420),
        soonest_lock_end: None,
    };
    report.levels[1].checked = vec![Count::some("objects", 18_417, 18_420)];
    report.levels[2].checked = vec![Count::some("objects", 0, 18_420)];
}

fn restores(report: &mut Report) {
    let shop = &mut report.restore_tests[0];
    shop.seq = 34;
    shop.snapshot_time = at("2026-11-16T02:00:00Z");
    shop.result = RestoreResult::Different;
    shop.tier = Some(Tier::Restored);
    shop.durations = Durations {
        download_s: 1_204.0,
        restore_s: 2_980.5,
        checks_s: 301.0,
        teardown_s: 4.0,
        total_s: 4_485.5,
    };
    shop.rto_met = Some(false);
    shop.tables.shown[1] = TableResult {
        rows_found: Some(1_904_220),
        hash_ok: Some(false),
        ..table("orders", 1_904_221)
    };
    shop.tables.shown[3] =
        TableResult { rows_found: None, hash_ok: None, ..table("products", 18_204) };
    shop.tables.more = 212;
    shop.checks[2] = Check {
        name: "amcheck".to_owned(),
        expected: "no damage".to_owned(),
        found: "item order invariant violated for index \"orders_pkey\"".to_owned(),
        ok: false,
    };
    shop.differences = Bounded {
        shown: vec![
            "public.orders: 1 row fewer".to_owned(),
            "public.products: table is not there".to_owned(),
        ],
        more: 14,
    };
    shop.cleanup = Cleanup {
        done: false,
        detail: Some("/var/tmp/keephold-restore-8812 could not be removed: busy".to_owned()),
    };
    let files = &mut report.restore_tests[1];
    files.result = RestoreResult::Failed;
    files.failure = Some(
        "pack 0b4e… : the stored bytes are corrupt, so 212 files could not be restored".to_owned(),
    );
    (files.tier, files.rto_met, files.entries_compared) = (None, None, None);
    files.durations = Durations { download_s: 12.0, total_s: 12.0, ..Durations::default() };
    files.checks.clear();
}

fn findings(report: &mut Report) {
    let pack = "packs/0b/0b4e7d1f6a2c58939ee1b0d47f86a5c3210f9e8d7c6b5a493827160f5e4d3c2b";
    let first_seen = Some(at("2026-11-21T04:18:09Z"));
    report.findings = vec![
        Finding {
            detail: Some("The lock probe deleted canary/20261123T040110Z although it was locked until 2026-11-24.".to_owned()),
            ..catalogue::PROBE_SUCCEEDED.about("file:///srv/vault", "A probe object under lock could be deleted.")
        },
        Finding {
            detail: Some("Newest success 2026-11-16 02:04 UTC, 7 d 2 h ago; RPO 1 d 2 h. The last 3 runs failed.".to_owned()),
            first_seen,
            ..catalogue::STALE.about("db1/shop", "The newest successful backup is older than the RPO.")
        },
        catalogue::NO_SUCCESS.about("web<script>alert(1)</script>/uploads", "No run of this job has ever succeeded."),
        Finding {
            detail: Some("Recorded 18,874,368 bytes, listed 0. Needed by db1/shop #30 to #34.".to_owned()),
            ..catalogue::OBJECT_EMPTY.about("packs/77/771c0a9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a", "The object has no bytes.")
        },
        catalogue::HASH_DIFFERS.about(pack, "The stored bytes do not hash to the object's name."),
        catalogue::OBJECT_HIDDEN.about("packs/c4/c4d1…", "A delete marker of 2026-11-20 08:12 UTC lies over the object."),
        catalogue::SIGNATURE_BAD.about("db1/shop #26", "The record was changed after it was signed."),
        catalogue::CHAIN_BROKEN.about("db1/shop #31", "The record does not carry the hash of #30."),
        catalogue::SEQUENCE_MISSING.about("db1/shop #28", "No record with this number exists between #27 and #29."),
        catalogue::TARGET_ADVISORY.about("file:///srv/vault", "Nothing but file permissions protects the backups."),
        catalogue::ROWS_DIFFER.about("db1/shop #34", "2 of 217 tables have other row counts than the dump."),
        catalogue::AMCHECK_FAILED.about("db1/shop #34", "Item order invariant violated for index \"orders_pkey\"."),
        catalogue::RTO_MISSED.about("db1/shop #34", "The restore took 1 h 14 min; the RTO is 1 h."),
        catalogue::RESTORE_FAILED.about("files1/files #29", "212 files could not be restored."),
        catalogue::NOT_TORN_DOWN.about("db1/shop #34", "/var/tmp/keephold-restore-8812 could not be removed: busy."),
        catalogue::CLOCK_SKEW.about("db1", "The host's clock was 47 minutes ahead of the target's at run #33."),
    ];
}
