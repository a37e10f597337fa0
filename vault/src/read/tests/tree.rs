//! Entries: whole, selected, one, listed; and trees that lie.

use super::*;
use crate::ids::BlobId;
use crate::pack::BlobKind;
use crate::read::{Difference, Selection};
use crate::testing::Request;
use crate::tree::TreeRoot;

#[tokio::test]
async fn a_tree_of_several_levels_comes_back_whole_and_in_parts() {
    let (_, reader, entries) = many(40, 400).await;
    assert!(reader.root().depth >= 1, "{:?}", reader.root());
    assert_eq!(collect(reader.entries(Selection::all())).await.unwrap(), entries);

    let selection = Selection::of(["d07", "d20/file-00100", "d39/none"].map(path));
    let chosen = collect(reader.entries(selection)).await.unwrap();
    let expected: Vec<_> = entries
        .iter()
        .filter(|e| {
            e.path.is_within(&path("d07"))
                || [path("d20"), path("d20/file-00100"), path("d39")].contains(&e.path)
        })
        .cloned()
        .collect();
    assert_eq!(chosen, expected);
    for entry in entries.iter().step_by(977) {
        assert_eq!(reader.entry(&entry.path).await.unwrap(), *entry);
    }
    for missing in ["a", "d07/file-99999", "z", "d07/file-00001/x"] {
        let error = reader.entry(&path(missing)).await.unwrap_err();
        assert!(matches!(error, Error::NotInSnapshot { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_folder_is_listed_without_what_lies_deeper() {
    let (maker, reader, entries) = many(40, 400).await;
    let mut listing = reader.list(None);
    let mut names = Vec::new();
    while let Some(item) = listing.next().await {
        names.push(item.unwrap().path().clone());
    }
    let top: Vec<_> = (0..40).map(|d| path(&format!("d{d:02}"))).collect();
    assert_eq!(names, top);
    let mut listing = reader.list(Some(&path("d11")));
    let mut count = 0;
    while let Some(item) = listing.next().await {
        assert!(item.unwrap().path().is_within(&path("d11")));
        count += 1;
    }
    assert_eq!(count, 400);
    assert_eq!(entries.len(), 40 * 401);
    drop(maker);
}

#[tokio::test]
async fn folders_without_an_entry_are_listed_too() {
    let mut maker = VaultMaker::new().await.unwrap();
    let entries = ["srv/www/a", "srv/www/b", "srv/log", "x"].map(dir).to_vec();
    let key = maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
    let reader = maker.reader(&key).await.unwrap();
    let mut listing = reader.list(None);
    let mut items = Vec::new();
    while let Some(item) = listing.next().await {
        items.push(item.unwrap());
    }
    assert_eq!(items[0], crate::read::Listed::Above(path("srv")));
    assert_eq!(items.len(), 2);
    let mut listing = reader.list(Some(&path("srv")));
    assert_eq!(listing.next().await.unwrap().unwrap().path(), &path("srv/log"));
    assert_eq!(listing.next().await.unwrap().unwrap().path(), &path("srv/www"));
    assert!(listing.next().await.is_none());
}

#[tokio::test]
async fn one_file_of_many_takes_few_requests() {
    let (maker, reader, _) = many(40, 400).await;
    maker.store.take_log();
    let EntryKind::File(content) = reader.entry(&path("d33/file-00123")).await.unwrap().kind else {
        panic!("it is a file");
    };
    assert_eq!(bytes_of(&reader, &content).await.unwrap(), b"file 123 of 33");
    let log = maker.store.take_log();
    // The segment, the frame or two that hold the nodes, the frame that holds the data.
    assert!(log.len() <= 4, "{log:#?}");
    let read: u64 = log
        .iter()
        .map(|r| if let Request::GetRange(_, _, range) = r { range.end - range.start } else { 0 })
        .sum();
    assert!(read < 3 << 20, "{read} bytes");
}

/// A snapshot whose root is whatever blob is given.
async fn rooted(maker: &mut VaultMaker, root: TreeRoot) -> SnapshotReader {
    let record = maker.record(root, "2026-11-20T01:00:00Z").await.unwrap();
    let key = maker.store_record(&record).await.unwrap();
    maker.reader(&key).await.unwrap()
}

/// An inner node with one child, as it is stored: tag, path `a`, child, length, entries, bytes.
fn inner(child: BlobId, length: u32, entries: u64) -> Vec<u8> {
    let path = (0u32, serde_bytes::ByteBuf::from(b"a".to_vec()));
    let body = (path, child, length, entries, 0u64);
    [vec![1], postcard::to_stdvec(&body).unwrap()].concat()
}

/// Who restores a file needs its folder's entry too, which may stand in the leaf before.
#[tokio::test]
async fn the_leaf_of_a_files_folder_is_read_with_it_and_may_be_missing() {
    let mut maker = VaultMaker::new().await.unwrap();
    let content = maker.content(b"text").await.unwrap();
    let before = maker.tree(&mut ["a", "d"].map(dir)).await.unwrap();
    // In a pack of its own.
    rooted(&mut maker, before.clone()).await;
    let packs = maker.packs();
    let leaf = maker.tree(&mut [file("d/f", content)]).await.unwrap();
    let mut node = inner(before.id, before.length, 2);
    let path_of_second = (0u32, serde_bytes::ByteBuf::from(b"d/f".to_vec()));
    let second = (path_of_second, leaf.id, leaf.length, 1u64, 4u64);
    node.extend(postcard::to_stdvec(&second).unwrap());
    let id = maker.blob(BlobKind::Tree, &node).await.unwrap();
    let root = TreeRoot { id, length: node.len() as u32, depth: 1, entries: 3, bytes: 4 };
    let reader = rooted(&mut maker, root.clone()).await;
    reader.entry(&path("d/f")).await.unwrap();
    maker.store.take_log();
    let both = collect(reader.entries(Selection::of([path("d/f")]))).await.unwrap();
    assert_eq!(both.iter().map(|e| e.path.to_string()).collect::<Vec<_>>(), ["d", "d/f"]);
    assert_eq!(maker.store.take_log().len(), 0, "all was read on the way down");
    // Whoever only looks for the file can do without it.
    for pack in packs {
        maker.store.lose(&pack);
    }
    let reader = rooted(&mut maker, root).await;
    reader.entry(&path("d/f")).await.unwrap();
    assert!(collect(reader.entries(Selection::of([path("d/f")]))).await.is_err());
}

#[tokio::test]
async fn a_node_that_contains_itself_ends_with_an_error() {
    let mut maker = VaultMaker::new().await.unwrap();
    // No honest hash contains itself: forge the id. It is refused because its id isn't its own …
    let id = BlobId::from_bytes([7; 24]);
    let node = inner(id, 33, 1);
    maker.blob_as(BlobKind::Tree, id, &node).await.unwrap();
    let root = TreeRoot { id, length: node.len() as u32, depth: 12, entries: 1, bytes: 0 };
    let reader = rooted(&mut maker, root).await;
    let error = collect(reader.entries(Selection::all())).await.unwrap_err();
    assert!(error.to_string().contains("other contents than its id says"), "{error}");

    // … and a chain of inner nodes, however deep, ends where the record says that leaves stand.
    let mut child = maker.blob(BlobKind::Tree, &[0]).await.unwrap();
    let mut length = 1;
    for _ in 0..5 {
        let node = inner(child, length, 0);
        length = node.len() as u32;
        child = maker.blob(BlobKind::Tree, &node).await.unwrap();
    }
    for (depth, why) in [(3, "where a leaf should"), (6, "where an inner node should")] {
        let root = TreeRoot { id: child, length, depth, entries: 0, bytes: 0 };
        let reader = rooted(&mut maker, root).await;
        let error = reader.entry(&path("a")).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(collect(reader.entries(Selection::all())).await.is_err());
    }
    let root = TreeRoot { id: child, length, depth: 200, entries: 0, bytes: 0 };
    let record = maker.record(root, "2026-11-20T01:00:00Z").await.unwrap();
    let key = maker.store_record(&record).await.unwrap();
    let error = maker.reader(&key).await.unwrap_err();
    assert!(error.to_string().contains("deeper or larger than any"), "{error}");
}

#[tokio::test]
async fn nodes_are_held_against_what_their_parents_say() {
    let mut maker = VaultMaker::new().await.unwrap();
    let good = maker.tree(&mut ["a", "b"].map(dir)).await.unwrap();
    for (entries, length, why) in
        [(3, good.length, "another number of entries"), (2, good.length + 1, "claimed")]
    {
        let root = TreeRoot { entries, length, ..good.clone() };
        let reader = rooted(&mut maker, root).await;
        let error = collect(reader.entries(Selection::all())).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let other = maker.tree(&mut ["b", "c"].map(dir)).await.unwrap();
    let node = inner(other.id, other.length, 2);
    let id = maker.blob(BlobKind::Tree, &node).await.unwrap();
    let root = TreeRoot { id, length: node.len() as u32, depth: 1, entries: 2, bytes: 0 };
    let reader = rooted(&mut maker, root).await;
    let error = collect(reader.entries(Selection::all())).await.unwrap_err();
    assert!(error.to_string().contains("begins with another path"), "{error}");
}

#[tokio::test]
async fn two_snapshots_are_compared_without_reading_what_they_share() {
    let (mut maker, before, mut entries) = many(40, 400).await;
    maker.next_run().await.unwrap();
    entries.remove(9_000);
    entries[12_000].meta.mode = 0o600;
    entries.push(dir("zz"));
    let key = maker.snapshot(entries, "2026-11-21T01:00:00Z").await.unwrap();
    let after = maker.reader(&key).await.unwrap();
    for (selection, expected) in [
        (Selection::all(), vec![(true, false), (true, true), (false, true)]),
        (Selection::of([path("zz")]), vec![(false, true)]),
        (Selection::of([path("d00")]), vec![]),
    ] {
        let mut differences = before.differences(&after, &selection);
        let mut seen = Vec::new();
        while let Some(difference) = differences.next().await {
            let Difference { before, after } = difference.unwrap();
            seen.push((before.is_some(), after.is_some()));
        }
        assert_eq!(seen, expected);
    }
    let mut same = before.differences(&before, &Selection::all());
    maker.store.take_log();
    assert!(same.next().await.is_none());
    assert_eq!(maker.store.take_log(), []);
}
