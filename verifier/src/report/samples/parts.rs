//! The parts that the sample reports are put together from.

use crate::report::model::*;
use jiff::{SignedDuration, Timestamp};

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn hash(of: &str) -> String {
    blake3::hash(of.as_bytes()).to_hex().to_string()
}

pub(super) fn days(number: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * number)
}

/// `number` daily runs down from `newest_seq`, newest first: kept 35 days, the one on each Sunday 90.
pub(super) fn daily_runs(host: &str, job: &str, newest_seq: u64, number: u64) -> Vec<Run> {
    (0..number)
        .map(|back| {
            let seq = newest_seq - back;
            let started = at("2026-11-23T02:00:00Z") - days(i64::try_from(back).unwrap());
            let kept = if back % 7 == 1 { 90 } else { 37 };
            Run {
                seq,
                record_key: format!(
                    "runs/{host}/{job}/{}-{seq:08}-6b1f",
                    started.strftime("%Y%m%dT%H%M%SZ")
                ),
                record_blake3: hash(&format!("{host}/{job}/{seq}")),
                started,
                finished: started + SignedDuration::from_secs(240),
                status: RunStatus::Success,
                message: None,
                bytes: 41_220_118_016 + seq * 1_204_551,
                bytes_read: 8_120_400_128 + seq * 1_204_551,
                bytes_stored: 22_880_412 + seq * 8_191,
                entries: (job != "shop").then_some(48_212 + seq),
                rows: (job == "shop").then_some(10_414_890 + seq * 212),
                warnings: 0,
                signature_ok: true,
                signer: Some(format!("{host}@keephold")),
                chain_ok: true,
                expires: Some(started + days(kept)),
                lock_until: Some(started + days(kept) + SignedDuration::from_mins(90)),
                locked_fully: Some(true),
                lock_coverage: Some(LockCoverage {
                    objects: 1_204,
                    objects_locked: 1_204,
                    bytes: 19_800_412_551,
                    bytes_locked: 19_800_412_551,
                }),
            }
        })
        .collect()
}

pub(super) fn job(host: &str, name: &str, kind: JobKind, runs: Vec<Run>) -> Job {
    Job {
        host: host.to_owned(),
        job: name.to_owned(),
        kind,
        expected: true,
        rpo_s: Some(26 * 3600),
        schedule: Some("daily at 02:00 UTC".to_owned()),
        newest_success: Some(runs[0].finished),
        newest_success_age_s: Some(8_049),
        oldest_restorable: runs.last().map(|run| run.finished),
        longest_gap_s: Some(86_400),
        gaps: Vec::new(),
        runs_expected: Some(35),
        runs_seen: runs.len() as u64,
        runs_succeeded: runs.len() as u64,
        missing_seqs: Vec::new(),
        runs: Bounded::take(runs, 400),
        last_restore_test: (name != "etc").then(|| at("2026-11-23T04:16:00Z")),
        restore_test_every_s: (name == "shop").then_some(35 * 24 * 3600),
    }
}

pub(super) fn tool() -> Tool {
    Tool {
        name: "keephold-verify".to_owned(),
        version: "0.1.0".to_owned(),
        binary_blake3: Some(hash("binary")),
        hostname: "verify1.acme.example".to_owned(),
        user: "keephold-verify".to_owned(),
        invoked_by: Some("systemd: keephold-verify.timer".to_owned()),
    }
}

pub(super) fn target() -> Target {
    Target {
        url: "s3://acme-backups/prod".to_owned(),
        vault_id: "6f1c2b9e04d7".to_owned(),
        fingerprint: hash("vault.json"),
        fingerprint_pinned: true,
        region: Some("eu-central-1".to_owned()),
        account: Some("backup account 4412…9087".to_owned()),
        strength: Strength::Compliance,
        versioning: Some(true),
        object_lock: Some(true),
        default_retention: Some(DefaultRetention { mode: LockMode::Compliance, days: 7 }),
        settings: settings(),
        notes: vec!["The bucket's policy bounds the remaining retention at 400 days.".to_owned()],
    }
}

fn settings() -> Vec<BucketSetting> {
    let set = |name: &str, value: &str| BucketSetting {
        name: name.to_owned(),
        result: SettingResult::Set,
        value: Some(value.to_owned()),
        blake3: Some(hash(value)),
    };
    vec![
        set("versioning", "Status=Enabled"),
        set(
            "object_lock",
            "ObjectLockEnabled=Enabled Rule(DefaultRetention(Days=7 Mode=COMPLIANCE))",
        ),
        BucketSetting {
            name: "lifecycle".to_owned(),
            result: SettingResult::NotSet,
            value: None,
            blake3: None,
        },
        BucketSetting {
            name: "policy".to_owned(),
            result: SettingResult::NotReadable,
            value: Some("AccessDenied: Access Denied".to_owned()),
            blake3: None,
        },
    ]
}

pub(super) fn policy() -> Policy {
    Policy {
        id: Some("Backup and recovery policy".to_owned()),
        version: Some("3.1".to_owned()),
        owner: Some("Head of infrastructure".to_owned()),
        approved_by: Some("m.okafor".to_owned()),
        approved_on: Some("2026-08-31".to_owned()),
        config_blake3: hash("verify.toml"),
        changed_since_previous: Some(false),
        required_mode: Some(LockMode::Compliance),
        retention: vec![
            "daily: 37 days".to_owned(),
            "weekly (Sunday): 90 days".to_owned(),
            "records and reports: 400 days".to_owned(),
        ],
    }
}

fn check(name: &str, expected: &str, found: &str) -> Check {
    Check {
        name: name.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        ok: expected == found,
    }
}

pub(super) fn table(table: &str, rows: u64) -> TableResult {
    TableResult {
        database: "shop".to_owned(),
        schema: "public".to_owned(),
        table: table.to_owned(),
        rows_expected: rows,
        rows_found: Some(rows),
        hash_ok: Some(true),
    }
}

pub(super) fn postgres_restore() -> RestoreTest {
    RestoreTest {
        host: "db1".to_owned(),
        job: "shop".to_owned(),
        kind: JobKind::Postgres,
        seq: 41,
        snapshot_time: at("2026-11-23T02:00:00Z"),
        chosen: "newest".to_owned(),
        performed_by: "service keephold-verify on verify1".to_owned(),
        started: at("2026-11-23T04:07:31Z"),
        durations: Durations {
            download_s: 96.2,
            restore_s: 331.8,
            checks_s: 88.0,
            teardown_s: 2.1,
            total_s: 516.0,
        },
        rto_target_s: Some(3600),
        rto_met: Some(true),
        tier: Some(Tier::Exercised),
        result: RestoreResult::Passed,
        failure: None,
        checks: vec![
            check("globals", "6 roles", "6 roles"),
            check("schema", "same as recorded", "same as recorded"),
            check("amcheck", "no damage", "no damage"),
            check("orders have customers", "0 orphans", "0 orphans"),
        ],
        tables: Bounded {
            shown: vec![
                table("customers", 212_408),
                table("orders", 1_904_221),
                table("order_lines", 8_112_090),
                table("products", 18_204),
                table("stock_moves", 176_659),
            ],
            more: 0,
        },
        entries_compared: None,
        bytes_restored: Some(8_169_786_719),
        differences: Bounded::none(),
        environment: Environment {
            place: "throw-away PostgreSQL on verify1".to_owned(),
            server_version: Some("18.4".to_owned()),
            source_version: Some("18.4".to_owned()),
            role: Some("shop_app".to_owned()),
        },
        cleanup: Cleanup {
            done: true,
            detail: Some("server stopped, its data directory removed".to_owned()),
        },
    }
}

pub(super) fn directory_restore() -> RestoreTest {
    RestoreTest {
        host: "files1".to_owned(),
        job: "files".to_owned(),
        kind: JobKind::Directory,
        seq: 29,
        snapshot_time: at("2026-11-11T02:00:00Z"),
        chosen: "random, seed 1f0c77aa".to_owned(),
        started: at("2026-11-23T04:16:08Z"),
        durations: Durations {
            download_s: 41.7,
            restore_s: 22.9,
            checks_s: 17.4,
            teardown_s: 3.3,
            total_s: 82.0,
        },
        rto_target_s: Some(14_400),
        checks: vec![check("entries", "48,241", "48,241"), check("special files", "12", "12")],
        tables: Bounded::none(),
        tier: Some(Tier::Compared),
        entries_compared: Some(48_241),
        bytes_restored: Some(8_155_332_107),
        environment: Environment {
            place: "scratch folder on verify1 (ext4)".to_owned(),
            server_version: None,
            source_version: None,
            role: None,
        },
        cleanup: Cleanup { done: true, detail: Some("48,241 entries removed".to_owned()) },
        ..postgres_restore()
    }
}

pub(super) fn lock_proof() -> NamedProof {
    NamedProof {
        proof_id: "5d2c7be0913f".to_owned(),
        finished: at("2026-11-23T04:01:12Z"),
        blake3: hash("proof"),
        verdict: ProofVerdict::Held,
        headline: "The lock held against all 3 attempts to break it".to_owned(),
    }
}

pub(super) fn lock_probes() -> Vec<LockProbe> {
    ["delete the locked version", "shorten the lock", "bypass governance"]
        .map(|action| LockProbe {
            tried: at("2026-11-23T04:01:10Z"),
            action: action.to_owned(),
            credential: "prober, which may delete and bypass under canary/".to_owned(),
            expected: "refused".to_owned(),
            actual: "refused".to_owned(),
            ok: true,
            result: ProbeResult::Held,
        })
        .to_vec()
}

/// The whole proof.
pub(crate) fn proof() -> LockProof {
    let NamedProof { proof_id, finished, verdict, headline, .. } = lock_proof();
    LockProof {
        schema: PROOF_SCHEMA.to_owned(),
        proof_id,
        started: at("2026-11-23T04:01:02Z"),
        finished,
        verdict,
        exit_code: 0,
        headline,
        tool: tool(),
        target: "s3://acme-backups/db1".to_owned(),
        canary: "canary/5d2c7be0913f".to_owned(),
        version: Some("3HL4kqtJlcpXroDTDmJ".to_owned()),
        lock: Some("compliance lock until 2026-11-23 04:06 UTC".to_owned()),
        attempts: lock_probes(),
        removed: 1,
        findings: Vec::new(),
        signer: signer(),
    }
}

pub(super) fn escrow_drill() -> EscrowDrill {
    EscrowDrill {
        finished: at("2026-10-05T09:12:00Z"),
        recipient: Some("age1escrowk2m4n6b8v0c1x3z5l7k9j2h4g6f8d0s1a3p5o7i9".to_owned()),
        jobs: 3,
        jobs_opened: 3,
        blake3: hash("escrow drill"),
    }
}

pub(super) fn evidence_store() -> EvidenceStore {
    EvidenceStore {
        url: "s3://acme-evidence/verify1".to_owned(),
        keep_days: 400,
        files: Some(93),
        stored_now: Some(3),
        altered: Some(0),
        strength: Some(Strength::Compliance),
        locked_until: Some(at("2027-12-27T04:17:42Z")),
        notes: Vec::new(),
    }
}

pub(super) fn encryption() -> Encryption {
    let recipient = |key: &str, label: &str, last_used: Option<&str>| Recipient {
        public_key: key.to_owned(),
        label: Some(label.to_owned()),
        jobs: ["db1/shop", "files1/files", "db1/etc"].map(str::to_owned).to_vec(),
        last_used: last_used.map(at),
    };
    Encryption {
        algorithm: Some("AES-256-GCM, one key a pack".to_owned()),
        key_sealing: Some("age v1, X25519".to_owned()),
        writer_can_read: Some(false),
        transport: Some("TLS 1.3".to_owned()),
        packs_authenticated: 1_310,
        recipients: vec![
            recipient(
                "age1verifyq0x7m3c5s9d2l8w6k4h1j0f3g5t7y9u2i4o6p8a0z1x3c5vqh7r2m",
                "verifier",
                Some("2026-11-23T04:18:00Z"),
            ),
            recipient(
                "age1escrowk2m4n6b8v0c1x3z5l7k9j2h4g6f8d0s1a3p5o7i9u2y4t6rwq3e5n8",
                "escrow (safe, two persons)",
                Some("2026-07-02T09:30:00Z"),
            ),
        ],
    }
}

pub(super) fn signer() -> Signer {
    Signer {
        principal: "verify1@keephold".to_owned(),
        fingerprint: "SHA256:pZp3s1Jm0Q1s8m9c5qE0lW3bqv2o7N6yT4rKxUeDfGh".to_owned(),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB7w3q9b5Yt1n8sJ0kP4x2cV6mZ7dL9fR3hU5gT1eWqa verify1@keephold".to_owned(),
        namespace: "keephold-report".to_owned(),
    }
}
