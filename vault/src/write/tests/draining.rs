//! Packs of which little is used are not locked for longer; all others are, now and then.

use super::*;

/// The lock of each pack, by its key.
async fn pack_locks(memory: &MemoryStore) -> HashMap<ObjectKey, Timestamp> {
    let mut locks = HashMap::new();
    for key in memory.keys().into_iter().filter(|key| key.as_pack().is_some()) {
        let lock = memory.retention(&key, None).await.unwrap().unwrap();
        locks.insert(key, lock.until);
    }
    locks
}

#[tokio::test(flavor = "multi_thread")]
async fn daily_runs_of_the_same_data_extend_each_object_now_and_then() {
    let (mut bench, memory) = Bench::in_memory().await;
    let (whom, files) = (reader(), few_files());
    bench.day = Some(0);
    bench.run(&whom, &files).await.unwrap();
    let objects = memory.keys().iter().filter(|k| k.as_pack().is_some()).count() + 1;
    memory.take_log();
    for day in 1..=90 {
        bench.day = Some(day);
        let run = bench.run(&whom, &files).await.unwrap();
        assert_eq!((run.new, run.written.packs_drained), (0, 0), "day {day}");
        assert!(
            run.written.locked_until.unwrap() >= bench.now() + LONG - SignedDuration::from_hours(1)
        );
    }
    let log = memory.take_log();
    let extended: Vec<_> =
        log.iter().filter(|r| matches!(r, Request::Extend(_, Some(_)))).collect();
    let nameless = log.iter().filter(|r| matches!(r, Request::Extend(_, None))).count();
    // A lock is moved 8.75 days beyond what is needed: eleven times in ninety days, for packs and the segment.
    assert_eq!(nameless, 0, "every extension names a version");
    assert!(extended.len() <= 11 * objects, "{} extensions of {objects}", extended.len());
    assert!(extended.len() >= 9 * objects, "{} extensions of {objects}", extended.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn poorly_used_packs_are_drained_and_never_extended_again() {
    let (mut bench, memory) = Bench::in_memory().await;
    let whom = reader();
    bench.day = Some(0);
    let mut files = few_files();
    bench.run(&whom, &files).await.unwrap();
    let old = pack_locks(&memory).await;
    assert_eq!(old.len(), 1);
    // Little of the first pack is used from now on.
    files.pop();
    files.push(plain("big", noise(101, 3 << 20)));
    let (mut drained, mut again) = (0, 0);
    for day in 1..=60 {
        bench.day = Some(day);
        let run = bench.run(&whom, &files).await.unwrap();
        drained += run.written.packs_drained;
        again += run.again;
        if day % 10 == 0 {
            bench.compare(&whom, &run.key, &files).await;
        }
    }
    assert_eq!(drained, 1);
    assert!((30_000..200_000).contains(&again), "{again} bytes were stored again");
    let now = pack_locks(&memory).await;
    for (key, until) in &old {
        assert_eq!(now[key], *until, "the old pack keeps its first lock");
    }
    let soon = bench.now() + LONG - SignedDuration::from_hours(1);
    assert!(now.iter().filter(|(key, _)| !old.contains_key(key)).any(|(_, until)| *until >= soon));
    // Once it is gone, nothing is missed.
    for key in old.keys() {
        memory.lose(key);
    }
    let run = bench.run(&whom, &files).await.unwrap();
    assert_eq!(run.new, 0);
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_drained_without_the_cache_or_while_another_job_uses_the_pack() {
    for cache_lost in [true, false] {
        let (mut bench, memory) = Bench::in_memory().await;
        let whom = reader();
        bench.day = Some(0);
        let all = few_files();
        bench.run(&whom, &all).await.unwrap();
        let small: Files = all[..40].to_vec();
        bench.day = Some(1);
        bench.run(&whom, &small).await.unwrap();
        if cache_lost {
            fs::remove_dir_all(bench.cache.path()).unwrap();
        } else {
            // Another job still uses what the first run did.
            let usage = bench.cache.path().join("usage");
            bench.day = Some(0);
            bench.run(&whom, &all).await.unwrap();
            fs::rename(usage.join("files"), usage.join("other")).unwrap();
            bench.day = Some(1);
            bench.run(&whom, &small).await.unwrap();
        }
        let before = pack_locks(&memory).await;
        bench.day = Some(20);
        let run = bench.run(&whom, &small).await.unwrap();
        assert_eq!((run.again, run.written.packs_drained), (0, 0));
        let after = pack_locks(&memory).await;
        assert!(before.iter().any(|(key, until)| after[key] > *until), "the pack is extended");
        bench.compare(&whom, &run.key, &small).await;
    }
}
