//! Contents: in pieces, in parts, with holes, in lists of lists, and those that lie.

use super::*;
use crate::content::{Extent, Extents, ListRef};
use crate::pack::BlobKind;
use crate::testing::{content_hash, noise};

async fn opened(maker: &mut VaultMaker) -> SnapshotReader {
    let key = maker.snapshot(vec![dir("a")], "2026-11-20T01:00:00Z").await.unwrap();
    maker.reader(&key).await.unwrap()
}

#[tokio::test]
async fn contents_of_any_length_come_back_through_lists_of_lists() {
    let mut maker = VaultMaker::new().await.unwrap();
    // Pieces of 100 bytes: lists of 3 extents, so that 2,000 pieces make several levels and many straddle.
    maker.piece_len = 100;
    let mut contents = Vec::new();
    for length in [0, 1, 100, 101, 3_200, 3_201, 200_003] {
        let bytes = noise(length as u64, length);
        contents.push((maker.content(&bytes).await.unwrap(), bytes));
    }
    let reader = opened(&mut maker).await;
    let deepest = contents.iter().map(|(c, _)| match c.extents {
        Extents::Inline(_) => 0,
        Extents::Lists { depth, .. } => depth,
    });
    assert!(deepest.max() >= Some(3));
    for (content, bytes) in &contents {
        assert!(bytes_of(&reader, content).await.unwrap() == *bytes, "{} bytes", bytes.len());
    }
}

#[tokio::test]
async fn parts_and_holes_come_back() {
    let mut maker = VaultMaker::new().await.unwrap();
    let id = maker.blob(BlobKind::Data, b"0123456789").await.unwrap();
    let extents = vec![
        Extent::Part { id, offset: 2, length: 3 },
        Extent::Hole { length: 5 },
        Extent::Blob { id, length: 10 },
        Extent::Part { id, offset: 9, length: 1 },
        Extent::Hole { length: 1 << 40 },
    ];
    let hash = Some(content_hash(b"23401234567899"));
    let mut content = maker.content_of(extents, hash).await.unwrap();
    let reader = opened(&mut maker).await;
    let mut pieces = reader.content(&content);
    let mut seen = Vec::new();
    while let Some(piece) = pieces.next().await {
        seen.push(piece.unwrap());
    }
    // Neighbours that are short come together.
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[3], Piece::Hole(1 << 40));
    assert_eq!(seen[2], Piece::Data(b"01234567899".as_slice().into()));
    assert_eq!(seen[0], Piece::Data(b"234".as_slice().into()));

    content.hash = Some(content_hash(b"other"));
    let mut pieces = reader.content(&content);
    let error = pieces.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("have the hash"), "{error}");
    assert!(pieces.next().await.is_none());
    content.hash = None;
    let error = reader.content(&content).next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("its hash is missing"), "{error}");
}

#[tokio::test]
async fn contents_that_contradict_themselves_are_refused() {
    let mut maker = VaultMaker::new().await.unwrap();
    let id = maker.blob(BlobKind::Data, b"0123456789").await.unwrap();
    let list = maker.blob(BlobKind::List, &[9, 9, 9]).await.unwrap();
    let reader = opened(&mut maker).await;
    let blob = |length| Extent::Blob { id, length };
    let inline = |size, extents| Content { size, hash: None, extents: Extents::Inline(extents) };
    let lists = |depth, id, length| {
        let lists = vec![ListRef { id, length, covers: 10 }];
        Content { size: 10, hash: None, extents: Extents::Lists { depth, lists } }
    };
    for (content, why) in [
        (inline(9, vec![blob(10)]), "contradicts itself"),
        (inline(11, vec![blob(10)]), "contradicts itself"),
        (inline(9, vec![blob(9)]), "which has 10"),
        (inline(0, vec![Extent::Hole { length: 0 }]), "contradicts itself"),
        (inline(5, vec![Extent::Part { id, offset: 6, length: 5 }]), "which has 10"),
        (lists(0, list, 3), "contradicts itself"),
        (lists(7, list, 3), "contradicts itself"),
        (lists(1, list, 3), "extents is damaged"),
        (lists(1, list, 0), "claims 0 bytes"),
        // A data blob where a list should be: sealed as another kind.
        (lists(1, id, 10), "was altered or has another key"),
    ] {
        let error = bytes_of(&reader, &content).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error} ({why})");
    }
}
