//! What the vault holds is used again, whatever became of the cache, the index or the packs.

use super::*;
use crate::index::SegmentBuilder;
use crate::store::{LockPolicy, TargetOptions, TargetUrl, create_target, open_store};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_data_again_adds_nothing_with_or_without_the_cache() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), some_files());
    let first = bench.run(&whom, &files).await.unwrap();
    assert!(needs(&first) >= 2 && first.written.packs_reused == 0);
    for round in 0..3 {
        if round % 2 == 1 {
            fs::remove_dir_all(bench.cache.path()).unwrap();
        }
        let before = memory.keys().len();
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!((run.new, memory.keys().len()), (0, before + 1), "round {round}");
        assert_eq!(run.written.packs_reused, needs(&first));
        assert_eq!(run.written.segments[0].id, first.written.segments[0].id);
        bench.compare(&whom, &run.key, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recipients_can_read_all_of_their_runs_and_nothing_is_stored_twice_for_them() {
    let (mut bench, _) = Bench::in_memory().await;
    let (old, new, files) = (reader(), reader(), few_files());
    let first = bench.run(&old, &files).await.unwrap();
    let second = bench.run(&new, &files).await.unwrap();
    assert_eq!((second.new, second.written.packs_reused), (first.new, 0));
    bench.compare(&new, &second.key, &files).await;
    assert!(bench.open(&old, &second.key).await.is_err());
    // Both copies stay known: whoever's turn it is, nothing is stored again.
    for whom in [&new, &old, &new, &old] {
        let run = bench.run(whom, &files).await.unwrap();
        assert_eq!(run.new, 0);
        bench.compare(whom, &run.key, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_gone_are_noticed_and_stored_again() {
    // Once when a blob is used again, once when the run is over.
    for (hours, at_end) in [(1, false), (100, true)] {
        let (mut bench, memory) = Bench::in_memory().await;
        let (whom, files) = (reader(), few_files());
        bench.run_for(&whom, &files, SignedDuration::from_hours(hours)).await.unwrap();
        for key in memory.keys().iter().filter(|k| k.as_pack().is_some()).take(1) {
            memory.lose(key);
        }
        let mut result = bench.run(&whom, &files).await;
        if at_end {
            let error = result.err().unwrap();
            assert!(matches!(error, Error::Gone { objects: 1 }), "{error}");
            result = bench.run(&whom, &files).await;
        }
        let run = result.unwrap();
        assert!(run.new > 0);
        bench.compare(&whom, &run.key, &files).await;
        for round in 0..3 {
            let run = bench.run(&whom, &files).await.unwrap();
            assert_eq!(run.new, 0, "round {round}: what was stored again is known");
            bench.compare(&whom, &run.key, &files).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_gone_is_noticed() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), few_files());
    bench.run(&whom, &files).await.unwrap();
    for key in memory.keys().iter().filter(|k| k.as_segment().is_some()) {
        memory.lose(key);
    }
    let run = bench.run(&whom, &files).await.unwrap();
    assert!(run.new > 0);
    bench.compare(&whom, &run.key, &files).await;
}

/// A copy of a bucket gives the same bytes other versions: the one noted here is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_in_another_version_is_found() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), vec![plain("a", "text")]);
    bench.run_for(&whom, &files, SignedDuration::from_hours(100)).await.unwrap();
    let keys = memory.keys();
    let key = keys.iter().find(|k| k.as_segment().is_some()).unwrap();
    let bytes = memory.get(key, None, 1 << 20).await.unwrap();
    memory.lose(key);
    memory.put(key, bytes, Timestamp::now()).await.unwrap();
    let run = bench.run(&whom, &files).await.unwrap();
    assert_eq!(run.new, 0);
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_cache_is_never_believed() {
    let (mut bench, memory) = Bench::in_memory().await;
    let whom = reader();
    let mut files: Files = (0..300).map(|n| plain(&format!("f{n:03}"), noise(n, 3_000))).collect();
    bench.run(&whom, &files).await.unwrap();
    for sub in ["tables", "segments", "locks"] {
        for damage in 0..6 {
            files.push(plain(&format!("{sub}{damage}"), noise(1_000 + damage, 500 + sub.len())));
            for path in bench.cached(sub) {
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                match damage {
                    0 => bytes[0] ^= 1,
                    1 => bytes[middle] ^= 1,
                    2 => *bytes.last_mut().unwrap() ^= 1,
                    3 => bytes.truncate(middle),
                    4 => bytes.clear(),
                    _ => bytes.extend_from_slice(&[0; 100]),
                }
                fs::write(&path, bytes).unwrap();
            }
            let known = kinds_of(&memory.keys(), "packs/") as u64;
            let run = bench.run(&whom, &files).await;
            let run = run.unwrap_or_else(|e| panic!("{sub}, {damage}: {e}"));
            assert!(run.written.packs_reused <= known && run.written.packs_reused > 0);
            assert!(run.new < 100_000, "{sub}, {damage}: {} bytes again", run.new);
            bench.compare(&whom, &run.key, &files).await;
        }
    }
}

/// A table that rots while the run goes on, which only a search notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_rots_during_a_run_is_made_again() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let files: Files = (0..300).map(|n| plain(&format!("f{n:03}"), noise(n, 3_000))).collect();
    bench.run(&whom, &files).await.unwrap();
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    for path in bench.cached("tables") {
        let mut bytes = fs::read(&path).unwrap();
        // The number of a pack. (A blob with another id may not be found, and is stored again: no harm, but not nothing.)
        bytes[30] ^= 1;
        // In place: the writer has it open.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    }
    let progress = writer.progress();
    let (writer, _) = feed(writer, files).await.unwrap();
    assert_eq!(progress.bytes_new.load(Ordering::Relaxed), 0);
    writer.abandon().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_rubbish_in_the_index_stops_nobody() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), vec![plain("a", noise(1, 5_000))]);
    bench.run(&whom, &files).await.unwrap();
    let other = SegmentBuilder::default()
        .finish(crate::ids::VaultId::from_bytes([9; 16]), &bench.secret, b"e")
        .unwrap();
    let newer = b"KHINDX02 of a later version".to_vec();
    for bytes in [b"rubbish".to_vec(), Vec::new(), newer, other.bytes.to_vec()] {
        let id = crate::ids::SegmentId::from_bytes(*blake3::hash(&bytes).as_bytes());
        memory.put(&ObjectKey::segment(&id), bytes.into(), Timestamp::now()).await.unwrap();
    }
    for _ in 0..2 {
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!(run.new, 0);
        bench.compare(&whom, &run.key, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_without_locks_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let url = TargetUrl::parse(folder.path().join("vault").to_str().unwrap()).unwrap();
    let options = TargetOptions { lock: LockPolicy::None, ..TargetOptions::default() };
    create_target(&url, &options, &|_| None).await.unwrap();
    let store = open_store(&url, &options, &|_| None).unwrap();
    let mut bench = Bench::over(store, false).await;
    let (whom, files) = (reader(), few_files());
    for round in 0..2 {
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!((run.new == 0, run.written.locked_until), (round == 1, None));
        bench.compare(&whom, &run.key, &files).await;
    }
}

/// Two jobs of one host share its cache and may run at once.
#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_share_a_cache() {
    let (bench, memory) = Bench::in_memory().await;
    let whom = reader();
    let shared = bench.cache.path().to_owned();
    let mut runs = Vec::new();
    for job in 0..3u64 {
        let (config, secret) = (bench.config.clone(), bench.secret.clone());
        let (store, shared) = (memory.clone() as Arc<dyn Store>, shared.clone());
        let digest = whom.recipients.digest();
        let recipients = whom.recipients.clone();
        runs.push(tokio::spawn(async move {
            for round in 0..6 {
                let known =
                    Known::open(&shared, store.clone(), config.id, secret.clone(), digest, true)
                        .await?;
                let until = Timestamp::now() + LONG;
                let context = RunContext::new(
                    store.clone(),
                    config.id,
                    secret.clone(),
                    &recipients,
                    until,
                    shared.clone(),
                )?;
                let settings = Settings { level: 1, threads: 1, uploads: 1 };
                let writer = Writer::start(context, &settings, BOUNDS, known).await?;
                let files = vec![plain("a", noise(round / 2 + 10 * (job % 2), 100_000))];
                let (writer, _) = feed(writer, files).await?;
                writer.finish(until, until).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    for run in runs {
        run.await.unwrap().unwrap();
    }
}
