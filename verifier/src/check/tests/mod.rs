//! The checks against vaults in memory, each damaged in one way.

mod content;
mod copies;
mod damage;
mod previous;
mod records;
mod unneeded;

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use keephold_cli::target::Target;
use keephold_vault::record::Record;
use keephold_vault::sign::SigningKey;
use keephold_vault::store::{LockMode, TargetOptions, TargetUrl};
use keephold_vault::testing::{VaultMaker, entry, noise};
use keephold_vault::tree::{Entry, EntryKind};
use tempfile::TempDir;

use super::{Progress, verify_vault};
use crate::report::model::{Level, LevelState, Report};
use crate::settings::{Depth, ExpectedJob, Settings, Signers};
use crate::stop::Stop;

/// A vault in memory, and a verifier of it.
struct Bench {
    maker: VaultMaker,
    settings: Settings,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let maker = VaultMaker::new().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&maker, dir.path());
        Self { maker, settings, dir }
    }

    /// A vault with two runs of some files, a part of them unchanged.
    async fn with_runs() -> Self {
        let mut bench = Self::new().await;
        for n in 0..2 {
            let entries = bench.files(n, 300_000).await;
            bench.run(entries, 2 - i64::from(u8::try_from(n).unwrap())).await;
            bench.maker.next_run().await.unwrap();
        }
        bench
    }

    async fn files(&mut self, seed: u64, size: usize) -> Vec<Entry> {
        let mut entries = vec![entry("srv", EntryKind::Directory).unwrap()];
        for (name, seed) in [("srv/same", 77), ("srv/changed", seed)] {
            let content = self.maker.content(&noise(seed, size)).await.unwrap();
            entries.push(entry(name, EntryKind::File(content)).unwrap());
        }
        entries.push(entry("srv/link", EntryKind::Symlink(b"same".to_vec())).unwrap());
        entries
    }

    async fn record(&mut self, mut entries: Vec<Entry>, hours_ago: i64) -> Record {
        let root = self.maker.tree(&mut entries).await.unwrap();
        let mut record = self.maker.record(root, &ago(hours_ago).to_string()).await.unwrap();
        record.retention.mode = Some(LockMode::Compliance);
        // As long as the maker locks everything.
        record.retention.evidence_until = "2036-01-01T00:00:00Z".parse().unwrap();
        record
    }

    /// Stores entries as a run that began so many hours ago.
    async fn run(&mut self, entries: Vec<Entry>, hours_ago: i64) {
        let record = self.record(entries, hours_ago).await;
        self.maker.store_record(&record).await.unwrap();
    }

    fn expect(&mut self, name: &str, rpo_s: u64) {
        let job = ExpectedJob {
            host: "db1".into(),
            name: name.into(),
            rpo_s: Some(rpo_s),
            rto_s: Some(600),
            restore_test_every_s: None,
        };
        self.settings.jobs.push(job);
    }

    async fn verify(&self) -> Report {
        let (vault, _) = self.maker.open().await.unwrap();
        let report = verify_vault(&self.settings, vault, &Stop::default(), &Progress::new(false))
            .await
            .unwrap();
        let left = std::fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(left, 0, "everything is removed");
        report
    }

    /// The codes that are found, each once, and the exit status.
    async fn found(&self) -> (Vec<String>, u8) {
        let report = self.verify().await;
        (codes(&report), report.result.exit_code)
    }
}

fn settings(maker: &VaultMaker, dir: &Path) -> Settings {
    Settings {
        target: Target {
            url: TargetUrl::parse("/nowhere").unwrap(),
            options: TargetOptions::default(),
        },
        lock_named: false,
        fingerprint: Some(maker.fingerprint),
        identities: maker.identities.clone(),
        signers: Signers::parse(&format!("db1 {}", maker.signing.public().to_openssh())).unwrap(),
        report_key: SigningKey::generate("verify1").unwrap(),
        out: dir.join("no/reports"),
        evidence: None,
        depth: Depth::Restore,
        scratch: dir.to_owned(),
        pg_bin_dir: None,
        concurrency: 2,
        jobs: Vec::new(),
        copies: Vec::new(),
        max_shrink_percent: 50,
        only: Vec::new(),
        lock_lead_s: 7 * 24 * 3600,
        proof_max_age_s: None,
        escrow_drill_every_s: None,
        config_blake3: "00".repeat(32),
    }
}

fn ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

fn codes(report: &Report) -> Vec<String> {
    let mut codes: Vec<_> = report.findings.iter().map(|finding| finding.code.clone()).collect();
    codes.sort();
    codes.dedup();
    codes
}

fn state(report: &Report, level: Level) -> LevelState {
    report.levels.iter().find(|result| result.level == level).unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_vault_passes_at_every_level() {
    let mut bench = Bench::with_runs().await;
    bench.expect("files", 7200);
    let report = bench.verify().await;
    assert_eq!(codes(&report), [""; 0], "{:#?}", report.findings);
    assert_eq!(report.result.exit_code, 0);
    for level in Level::ALL.into_iter().filter(|level| *level != Level::Coverage) {
        assert_eq!(state(&report, level), LevelState::Passed, "{level:?}");
    }
    let test = &report.restore_tests[0];
    assert_eq!((test.seq, test.entries_compared, test.rto_met), (2, Some(4), Some(true)));
    let job = &report.jobs[0];
    assert_eq!((job.runs_seen, job.runs_succeeded, job.runs.shown[0].seq), (2, 2, 2));
    assert!(
        job.runs
            .shown
            .iter()
            .all(|run| run.signature_ok && run.chain_ok && run.is_locked() == Some(true))
    );
    let objects = &report.objects;
    assert_eq!((objects.present, objects.locked), (objects.needed, objects.needed));
    assert_eq!(report.integrity.blobs_checked, report.integrity.blobs_total.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_depth_leaves_out_those_below_it() {
    let mut bench = Bench::with_runs().await;
    bench.settings.depth = Depth::Lock;
    let report = bench.verify().await;
    let states: Vec<_> = report.levels.iter().map(|result| result.state).collect();
    assert_eq!(states[..3], [LevelState::Passed; 3]);
    assert!(states[3..].iter().all(|state| *state == LevelState::NotRun), "{states:?}");
    assert_eq!(report.result.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_away_is_never_good() {
    let bench = Bench::with_runs().await;
    let before = bench.maker.store.take_log().len();
    let (vault, _) = bench.maker.open().await.unwrap();
    assert!(before > 0);
    for requests in [0, 2, 6, 9, 12] {
        bench.maker.store.cut_off_after(requests);
        let report =
            verify_vault(&bench.settings, vault.clone(), &Stop::default(), &Progress::new(false))
                .await
                .unwrap();
        assert_eq!(report.result.exit_code, 1, "after {requests}: {:#?}", report.findings);
        let critical: Vec<_> =
            codes(&report).into_iter().filter(|code| !code.starts_with("KH-CHECK")).collect();
        assert!(critical.is_empty(), "what can't be reached isn't called lost: {critical:?}");
    }
}
