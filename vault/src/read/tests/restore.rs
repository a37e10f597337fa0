//! Restoring many files: parts, links, damage, and what is held in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::content::Extent;
use crate::pack::BlobKind;
use crate::read::Selection;
use crate::read::restore::{Failure, FileSink, RestoreSink, Restored, SinkError, restore};
use crate::read::{Opener, ReadSettings};
use crate::testing::{content_hash, noise};

/// Keeps what is restored in memory.
#[derive(Default)]
struct MemorySink {
    state: Arc<Mutex<State>>,
    unwanted: Option<TreePath>,
    stop_at_failure: bool,
}

#[derive(Default)]
struct State {
    made: BTreeMap<TreePath, String>,
    files: BTreeMap<TreePath, Vec<u8>>,
    failed: Vec<String>,
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    path: TreePath,
    bytes: Vec<u8>,
}

impl MemorySink {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl RestoreSink for MemorySink {
    fn wants(&self, file: &Entry) -> bool {
        self.unwanted.as_ref() != Some(&file.path)
    }

    fn dir(&self, entry: &Entry) -> Result<(), SinkError> {
        self.state().made.insert(entry.path.clone(), "dir".into());
        Ok(())
    }

    fn file(&self, entry: &Entry) -> Result<Option<Box<dyn FileSink>>, SinkError> {
        if entry.path.name() == b"refused" {
            return Err("it is refused".into());
        }
        let (state, path) = (Arc::clone(&self.state), entry.path.clone());
        Ok(Some(Box::new(MemoryFile { state, path, bytes: Vec::new() })))
    }

    fn other(&self, entry: &Entry) -> Result<(), SinkError> {
        let EntryKind::HardLink(target) = &entry.kind else {
            self.state().made.insert(entry.path.clone(), "other".into());
            return Ok(());
        };
        let target = TreePath::new(target.clone())?;
        if !self.state().files.contains_key(&target) {
            return Err(format!("{target} isn't there").into());
        }
        self.state().made.insert(entry.path.clone(), format!("link to {target}"));
        Ok(())
    }

    fn failed(&self, path: Option<&TreePath>, failure: Failure) -> ControlFlow<()> {
        self.state().failed.push(format!("{path:?}: {failure}"));
        if self.stop_at_failure { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl FileSink for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        assert!(self.bytes.len() as u64 <= offset, "{}: in order", self.path);
        self.bytes.resize(offset as usize, 0);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        self.state.lock().unwrap().files.insert(self.path, self.bytes);
        Ok(())
    }
}

/// Restores with batches of 256 KiB, so that files go on from one to the next.
async fn run(
    maker: &VaultMaker,
    key: &crate::record::RecordKey,
    selection: Selection,
    sink: MemorySink,
) -> (Restored, Arc<MemorySink>) {
    let (vault, opener): (_, Opener) = maker.open().await.unwrap();
    let run = vault.run(key, &opener).await.unwrap();
    let settings = ReadSettings { batch_bytes: 256 << 10, ..ReadSettings::default() };
    let reader = SnapshotReader::new(&vault, &opener, &run, settings).unwrap();
    let sink = Arc::new(sink);
    let restored = restore(&reader, selection, Arc::clone(&sink) as _).await.unwrap();
    (restored, sink)
}

#[tokio::test]
async fn everything_comes_back_large_and_small() {
    let mut maker = VaultMaker::new().await.unwrap();
    maker.piece_len = 10_000;
    let mut entries = vec![dir("d"), dir("e")];
    let mut expected = BTreeMap::new();
    for (n, length) in [0, 1, 9_999, 3_000_000, 700_000, 10_001, 20_000, 64].iter().enumerate() {
        for folder in ["d", "e"] {
            let name = format!("{folder}/{n}");
            let bytes = noise(n as u64, *length);
            entries.push(file(&name, maker.content(&bytes).await.unwrap()));
            expected.insert(path(&name), bytes);
        }
    }
    let id = maker.blob(BlobKind::Data, b"sparse").await.unwrap();
    let extents = vec![Extent::Hole { length: 1000 }, Extent::Blob { id, length: 6 }];
    let sparse = maker.content_of(extents, Some(content_hash(b"sparse"))).await.unwrap();
    entries.push(file("d/sparse", sparse));
    expected.insert(path("d/sparse"), [vec![0; 1000], b"sparse".to_vec()].concat());
    entries.push(entry("e/z", EntryKind::Fifo).unwrap());
    let total = entries.len() as u64;
    let key = maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
    let (restored, sink) = run(&maker, &key, Selection::all(), MemorySink::default()).await;
    let state = sink.state();
    assert_eq!(state.failed, Vec::<String>::new());
    assert!(state.files == expected);
    assert_eq!(restored.entries, total);
    assert_eq!((restored.files, restored.failed), (expected.len() as u64, 0));
}

#[tokio::test]
async fn further_names_of_files_outside_the_selection_bring_the_file() {
    let mut maker = VaultMaker::new().await.unwrap();
    let bytes = noise(1, 100_000);
    let content = maker.content(&bytes).await.unwrap();
    let link = |name: &str, to: &str| entry(name, EntryKind::HardLink(to.into())).unwrap();
    let entries = vec![
        dir("a"),
        file("a/first", content),
        dir("b"),
        link("b/one", "a/first"),
        link("b/two", "a/first"),
        link("b/bad", "a/none"),
        link("b/worse", "../etc/passwd"),
        link("b/dir", "a"),
    ];
    let key = maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
    let (_, sink) = run(&maker, &key, Selection::of([path("b")]), MemorySink::default()).await;
    {
        let state = sink.state();
        assert!(state.files[&path("b/one")] == bytes);
        assert_eq!(state.made[&path("b/two")], "link to b/one");
        assert_eq!(state.failed.len(), 3, "{:?}", state.failed);
        assert_eq!(state.files.len(), 1);
    }
    let (_, sink) = run(&maker, &key, Selection::all(), MemorySink::default()).await;
    assert_eq!(sink.state().made[&path("b/one")], "link to a/first");
}

#[tokio::test]
async fn damage_costs_only_the_files_that_it_hit() {
    let mut maker = VaultMaker::new().await.unwrap();
    let mut entries = Vec::new();
    for n in 0..6 {
        entries.push(file(&format!("f{n}"), maker.content(&noise(n, 1_200_000)).await.unwrap()));
    }
    entries.push(file("refused", maker.content(b"x").await.unwrap()));
    let key = maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
    // Where frames lie is random; the middle of the only pack is some file's data.
    let pack = maker.packs().remove(0);
    maker.store.rot(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let (restored, sink) = run(&maker, &key, Selection::all(), MemorySink::default()).await;
    {
        let state = sink.state();
        assert_eq!(state.files.len() as u64 + restored.failed, 7);
        assert!((2..=4).contains(&restored.failed), "{:#?}", state.failed);
        assert!(state.failed.iter().any(|f| f.contains("the sealed message at byte")));
        assert!(state.failed.iter().any(|f| f.contains("it is refused")));
        for (name, bytes) in &state.files {
            let n = u64::from(name.as_bytes()[1] - b'0');
            assert!(*bytes == noise(n, 1_200_000));
        }
    }
    let stopping = MemorySink { stop_at_failure: true, ..MemorySink::default() };
    let (restored, sink) = run(&maker, &key, Selection::all(), stopping).await;
    assert!(restored.stopped && sink.state().files.len() < 5);
    let choosy = MemorySink { unwanted: Some(path("refused")), ..MemorySink::default() };
    let (_, sink) = run(&maker, &key, Selection::of([path("refused")]), choosy).await;
    assert!(sink.state().failed.is_empty());
}

#[tokio::test]
async fn a_lost_tree_node_costs_only_its_own_entries() {
    let mut maker = VaultMaker::new().await.unwrap();
    let mut entries: Vec<_> = (0..20_000).map(|n| dir(&format!("folder-{n:06}"))).collect();
    let root = maker.tree(&mut entries).await.unwrap();
    let record = maker.record(root, "2026-11-20T01:00:00Z").await.unwrap();
    let key = maker.store_record(&record).await.unwrap();
    let reader = maker.reader(&key).await.unwrap();
    // A second vault in which one leaf was never stored.
    let names = [(reader.root().id, reader.root().length)];
    let Some(crate::tree::Node::Inner(children)) =
        reader.nodes(&names, reader.root().depth).await.unwrap().pop()
    else {
        panic!("the tree has inner nodes");
    };
    let lost = children[children.len() / 2].id;
    maker.forget(&lost);
    let root = maker.tree(&mut entries).await.unwrap();
    let mut record = maker.record(root, "2026-11-20T02:00:00Z").await.unwrap();
    record.snapshot.as_mut().unwrap().segments.truncate(1);
    let key = maker.store_record(&record).await.unwrap();
    let (restored, sink) = run(&maker, &key, Selection::all(), MemorySink::default()).await;
    let state = sink.state();
    assert_eq!(restored.failed, 1, "{:?}", state.failed);
    assert!(state.made.len() < 20_000 && state.made.len() > 15_000, "{}", state.made.len());
    assert!(state.failed[0].contains("is needed, but none"), "{:?}", state.failed);
}
