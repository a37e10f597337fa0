//! Snapshots of very many files: what it takes to get one of them back.

use super::*;
use crate::tree::TreePath;

/// More than one segment of data holds, however small the files are.
const FILES: usize = 350_000;

fn path_of(n: usize) -> String {
    format!("d{:03}/f{n:06}", n / 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_of_very_many_takes_few_requests() {
    let (mut bench, memory) = Bench::in_memory().await;
    let whom = reader();
    let mut files: Files = (0..FILES).map(|n| plain(&path_of(n), n.to_string())).collect();
    let run = bench.run(&whom, &files).await.unwrap();
    let sizes: Vec<_> = run.written.segments.iter().map(|s| s.size).collect();
    assert!(sizes.len() >= 3, "data in several segments, nodes in one: {sizes:?}");
    // The newest first: whoever looks a path up begins there, and reads it in one piece.
    assert!(sizes[0] * 20 < sizes[1], "{sizes:?}");
    // vault.json, the record; the nodes' segment, and a frame a level; of the data's segment its end and a block, and the
    // frame. Twice as many segments would take no more.
    few(&bench, &memory, &whom, &run, 8).await;
    // Later runs add segments of their own, newer ones first; of the nodes, the first run's is then one more read.
    // What changed in a run between lies in neither, and takes one more.
    for (n, most) in [(7, 10), (FILES / 3, 11)] {
        files[n] = plain(&path_of(n), "changed");
        let later = bench.run(&whom, &files).await.unwrap();
        let newer: Vec<_> = later.written.segments.iter().map(|s| s.size).collect();
        assert_eq!(newer[newer.len() - sizes.len()..], sizes, "the oldest last");
        few(&bench, &memory, &whom, &later, most).await;
    }
}

/// Each of some files takes at most so many requests.
async fn few(bench: &Bench, memory: &MemoryStore, whom: &Reader, run: &Run, most: usize) {
    // Where the data's first segment ends, the next one begins.
    let end = run.written.segments.iter().rev().find_map(|s| s.blobs).unwrap() as usize;
    for n in [0, 1, FILES / 5, FILES / 2, FILES / 10 * 9, end - 500, end + 500, FILES - 1] {
        memory.take_log();
        let reader = bench.open(whom, &run.key).await.unwrap();
        let found = reader.entry(&TreePath::new(path_of(n)).unwrap()).await.unwrap();
        let EntryKind::File(content) = &found.kind else { panic!("{n} is no file") };
        assert_eq!(bytes_of(&reader, content).await.unwrap(), n.to_string().into_bytes());
        let requests = memory.take_log();
        assert!(requests.len() <= most, "file {n}: {requests:#?}");
    }
}
