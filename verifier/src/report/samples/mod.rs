//! Three reports with fixed times, for the tests: one good, one with warnings, one failing.

mod failing;
mod parts;

use super::catalogue;
use super::model::*;
use parts::{at, daily_runs};

pub(crate) use failing::failing;
pub(crate) use parts::proof;

/// Three jobs of two hosts in a bucket under compliance locks; everything checked, nothing found.
pub(crate) fn good() -> Report {
    let mut report = base();
    report.conclude();
    report
}

/// A new configuration, a failed run in between, a missed run, a slow rotation; coverage not checked.
pub(crate) fn warning() -> Report {
    let mut report = base();
    report.report_id = "w3n8-20261123".to_owned();
    let job = &mut report.jobs[1];
    let runs = &mut job.runs.shown;
    runs[9].status = RunStatus::Failed;
    runs[9].message = Some("permission denied: /srv/files/private".to_owned());
    (runs[9].expires, runs[9].lock_until, runs[9].locked_fully) = (None, None, None);
    runs[4].status = RunStatus::Warnings;
    runs[4].warnings = 3;
    runs[4].message = Some("3 files changed while they were read".to_owned());
    runs.remove(15);
    (job.runs_seen, job.runs_succeeded) = (34, 33);
    job.longest_gap_s = Some(172_800);
    job.gaps =
        vec![Gap { from: at("2026-11-06T02:04:00Z"), until: Some(at("2026-11-08T02:04:00Z")) }];
    report.target.strength = Strength::Governance;
    report.target.fingerprint_pinned = false;
    report.policy.required_mode = Some(LockMode::Governance);
    report.policy.changed_since_previous = Some(true);
    report.integrity.oldest_check_days = None;
    report.levels[7].state = LevelState::CouldNotCheck;
    report.levels[7].reason = Some("files1 sent no inventory".to_owned());
    report.levels[7].checked.clear();
    report.coverage = Coverage {
        unprotected: vec![Unprotected {
            host: "db1".to_owned(),
            resource: "database scratch".to_owned(),
            reason: None,
            approved_by: None,
        }],
        ..Coverage::default()
    };
    report.copies.clear();
    report.evidence_store = None;
    report.restore_tests[1].rto_target_s = None;
    report.restore_tests[1].rto_met = None;
    report.findings = vec![
        catalogue::FAILED_RUN.about(
            "files1/files #32",
            "The run of 2026-11-14 failed: permission denied: /srv/files/private.",
        ),
        catalogue::MISSED_RUN
            .about("files1/files", "No record of the run that was due on 2026-11-07 at 02:00 UTC."),
        catalogue::RUN_WARNINGS.about("files1/files #37", "3 files changed while they were read."),
        catalogue::VAULT_UNPINNED.about(
            "s3://acme-backups/prod",
            "Nothing in the configuration pins the vault's fingerprint.",
        ),
        catalogue::ROTATION_BEHIND.about(
            "s3://acme-backups/prod",
            "118 packs have never been read back; the rotation is set to 30 days.",
        ),
        catalogue::CONFIG_CHANGED.about(
            "verify.toml",
            "The verifier's configuration is not the one of the previous report.",
        ),
        Finding {
            first_seen: Some(at("2026-11-02T04:18:09Z")),
            ..catalogue::OPT_OUT_UNEXPLAINED
                .about("db1: database scratch", "Left out, and nobody has said why.")
        },
    ];
    report.conclude();
    report
}

/// What the three have in common: a whole report, not concluded.
pub(super) fn base() -> Report {
    let now = at("2026-11-23T04:18:09Z");
    let counts = |what: &str, number| vec![Count::all(what, number)];
    let passed =
        |level, checked| LevelResult { level, state: LevelState::Passed, checked, reason: None };
    Report {
        schema: SCHEMA.to_owned(),
        report_id: "v7k2-20261123".to_owned(),
        started: at("2026-11-23T04:00:02Z"),
        finished: now,
        result: Outcome::unconcluded(),
        tool: parts::tool(),
        clock: Clock {
            offset_s: Some(-0.4),
            tolerance_s: 120.0,
            compared_with: Some("Date header of s3.eu-central-1.amazonaws.com".to_owned()),
        },
        period: Period { from: at("2026-10-19T00:00:00Z"), until: now },
        target: parts::target(),
        policy: parts::policy(),
        levels: vec![
            passed(Level::Freshness, vec![Count::all("jobs", 3), Count::all("runs", 105)]),
            passed(Level::Presence, counts("objects", 18_420)),
            passed(Level::Lock, counts("objects", 18_420)),
            passed(Level::IntegrityKeyless, vec![Count::some("packs", 1_310, 18_210)]),
            passed(
                Level::IntegrityDeep,
                vec![Count::some("packs", 1_310, 18_210), Count::all("blobs", 884_102)],
            ),
            passed(Level::Content, counts("snapshots", 105)),
            passed(Level::TestRestore, counts("restores", 2)),
            passed(Level::Coverage, counts("databases and paths", 9)),
        ],
        findings: Vec::new(),
        jobs: vec![
            parts::job("db1", "shop", JobKind::Postgres, daily_runs("db1", "shop", 41, 35)),
            parts::job(
                "files1",
                "files",
                JobKind::Directory,
                daily_runs("files1", "files", 41, 35),
            ),
            parts::job("db1", "etc", JobKind::Directory, daily_runs("db1", "etc", 41, 35)),
        ],
        objects: Objects {
            needed: Some(18_420),
            present: Some(18_420),
            bytes: Some(335_410_000_000),
            zero_byte: Some(0),
            missing: Some(0),
            hidden: Some(0),
            surplus_versions: Some(0),
            unneeded: Some(Unneeded {
                expired: Left { packs: 412, segments: 9, bytes: 7_120_000_000 },
                ..Unneeded::default()
            }),
            locked: Some(18_420),
            unlocked: Some(0),
            soonest_lock_end: Some(at("2026-11-25T02:01:00Z")),
        },
        integrity: Integrity {
            packs_checked: 1_310,
            packs_total: 18_210,
            bytes_checked: 24_120_000_000,
            bytes_total: 335_410_000_000,
            packs_opened: 1_310,
            blobs_checked: 884_102,
            blobs_total: Some(12_301_551),
            rotation_days: Some(30),
            oldest_check_days: Some(14),
            sampling: Some(Sampling {
                method: "those read longest ago, then BLAKE3 of seed and name, ascending"
                    .to_owned(),
                seed: Some("1f0c77aa".to_owned()),
                population: 18_210,
                selected: 1_310,
            }),
        },
        restore_tests: vec![parts::postgres_restore(), parts::directory_restore()],
        lock_probes: parts::lock_probes(),
        lock_proof: Some(parts::lock_proof()),
        encryption: parts::encryption(),
        copies: vec![OffsiteCopy {
            name: "second-region".to_owned(),
            url: "s3://acme-backups-dr/prod".to_owned(),
            region: Some("eu-west-1".to_owned()),
            objects_present: Some(18_420),
            objects_needed: Some(18_420),
            objects_read: Some(614),
            objects_damaged: Some(0),
            strength: Some(Strength::Compliance),
            snapshots_complete: Some(1),
            newest_complete: Some(at("2026-11-23T02:04:00Z")),
            locked_until: Some(at("2026-12-28T02:00:00Z")),
            snapshots: Bounded::take(
                [CopySnapshot {
                    record_key:
                        "runs/db1/main/20261123T020000Z-412-00112233445566778899aabbccddeeff"
                            .to_owned(),
                    complete: true,
                    locked_until: Some(at("2026-12-28T02:00:00Z")),
                }],
                1,
            ),
        }],
        coverage: Coverage {
            resources_found: Some(9),
            resources_protected: Some(8),
            unprotected: vec![Unprotected {
                host: "db1".to_owned(),
                resource: "database scratch".to_owned(),
                reason: Some("rebuilt from fixtures every night".to_owned()),
                approved_by: Some("j.rivera".to_owned()),
            }],
        },
        escrow_drill: Some(parts::escrow_drill()),
        evidence_store: Some(parts::evidence_store()),
        previous_report: Some(PreviousReport {
            report_id: "q1x9-20261122".to_owned(),
            finished: at("2026-11-22T04:17:40Z"),
            blake3: parts::hash("previous report"),
        }),
        signer: parts::signer(),
    }
}
