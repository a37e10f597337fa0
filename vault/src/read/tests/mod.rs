//! The way back, over vaults made by hand.

mod attacks;
mod content;
mod restore;
mod tree;

use std::sync::Arc;

use crate::content::Content;
use crate::error::Error;
use crate::ids::PackId;
use crate::index::PackRow;
use crate::read::index::PackPlace;
use crate::read::{EntryStream, Piece, SnapshotReader};
use crate::testing::{VaultMaker, entry};
use crate::tree::{Entry, EntryKind, TreePath};

/// A pack that is in no vault.
pub(super) fn some_pack() -> Arc<PackPlace> {
    let row = PackRow {
        id: PackId::from_bytes([1; 32]),
        size: 64 << 20,
        salt: [0; 16],
        envelope: 0,
        version: None,
        locked_until_s: None,
    };
    Arc::new(PackPlace::for_test(row))
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn dir(text: &str) -> Entry {
    entry(text, EntryKind::Directory).unwrap()
}

fn file(text: &str, content: Content) -> Entry {
    entry(text, EntryKind::File(content)).unwrap()
}

async fn collect(mut entries: EntryStream) -> Result<Vec<Entry>, Error> {
    let mut all = Vec::new();
    while let Some(entry) = entries.next().await {
        all.push(entry?);
    }
    Ok(all)
}

async fn bytes_of(reader: &SnapshotReader, content: &Content) -> Result<Vec<u8>, Error> {
    let mut pieces = reader.content(content);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece? {
            Piece::Data(data) => bytes.extend_from_slice(&data),
            Piece::Hole(n) => bytes.resize(bytes.len() + n as usize, 0),
        }
    }
    Ok(bytes)
}

/// Folders `d00`… of `files` small files each, and their snapshot.
async fn many(dirs: usize, files: usize) -> (VaultMaker, SnapshotReader, Vec<Entry>) {
    let mut maker = VaultMaker::new().await.unwrap();
    let mut entries = Vec::new();
    for d in 0..dirs {
        entries.push(dir(&format!("d{d:02}")));
        for f in 0..files {
            let content = maker.content(format!("file {f} of {d}").as_bytes()).await.unwrap();
            entries.push(file(&format!("d{d:02}/file-{f:05}"), content));
        }
    }
    let key = maker.snapshot(entries.clone(), "2026-11-20T01:00:00Z").await.unwrap();
    let reader = maker.reader(&key).await.unwrap();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    (maker, reader, entries)
}
