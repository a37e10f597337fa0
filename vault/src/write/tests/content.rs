//! Contents of every size and shape come back as they went in.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::content::Extents;
use crate::ids::BlobId;
use crate::limits::SMALL_FILE_MAX;
use crate::write::{Life, SmallReads};

#[tokio::test(flavor = "multi_thread")]
async fn contents_of_every_size_and_shape_come_back() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let (min, max) = (BOUNDS.min as usize, BOUNDS.max as usize);
    let mut files: Files =
        [0, 1, min - 1, min, min + 1, max - 1, max, max + 1, 4 * max, 4 * max + 1]
            .into_iter()
            .chain([700_000, 3_000_000])
            .map(|n| plain(&format!("f{n:08}"), noise(n as u64, n)))
            .collect();
    files.push(plain("same", noise(700_000, 700_000)));
    files.push(plain("zeros", vec![0; 2_000_000]));
    files.push(("hole".into(), vec![Part::Hole(5_000_000)]));
    files.push(("no-hole".into(), vec![Part::Hole(0), Part::Bytes(vec![7; 10]), Part::Hole(0)]));
    let mixed = vec![
        Part::Hole(1),
        Part::Bytes(noise(1, 9_000)),
        Part::Hole(70_000),
        Part::Bytes(vec![1]),
        Part::Hole(3),
    ];
    files.push(("mixed".into(), mixed));
    let run = bench.run(&whom, &files).await.unwrap();
    bench.compare(&whom, &run.key, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_lists_come_back() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let parts: Vec<Part> = (0u32..60_000)
        .flat_map(|n| [Part::Bytes((n % 5_000).to_le_bytes().to_vec()), Part::Hole(1)])
        .collect();
    let files = vec![("lists".to_owned(), parts)];
    let run = bench.run(&whom, &files).await.unwrap();
    bench.compare(&whom, &run.key, &files).await;
    let reader = bench.open(&whom, &run.key).await.unwrap();
    let found = reader.entries(Selection::all()).next().await.unwrap().unwrap();
    let EntryKind::File(content) = found.kind else { panic!() };
    assert!(matches!(content.extents, Extents::Lists { depth: 2.., .. }), "{:?}", content.extents);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_like_any_other() {
    let (bench, _) = Bench::in_memory().await;
    let mut writer = bench.writer(&reader().recipients, LONG).await.unwrap();
    let done = blocking(move || {
        let sizes = [0, 1, BOUNDS.min as usize, SMALL_FILE_MAX];
        let mut files = SmallReads::default();
        let numbers = sizes.map(|n| {
            files.buffer().extend(noise(n as u64, n));
            files.end(Life::Passing)
        });
        let mut files = files.name(writer.namer());
        for (n, file) in sizes.into_iter().zip(numbers) {
            let content = writer.add_small(&mut files, file).unwrap();
            assert_eq!((content.size, files.size(file)), (n as u64, n as u64));
            let one = usize::from(n > 0);
            assert!(matches!(&content.extents, Extents::Inline(list) if list.len() == one), "{n}");
            let cut = add(&mut writer, &[Part::Bytes(noise(n as u64, n))]).unwrap();
            // What the chunker leaves whole is the same either way.
            assert_eq!(content == cut, n <= BOUNDS.min as usize, "{n} bytes");
        }
        writer.store_small(files).unwrap();
        writer
    });
    let soon = Timestamp::now() + LONG;
    done.await.finish(soon, soon).await.unwrap();
}

/// Batches of which the vault knows all, some or nothing, and that are longer or shorter than a frame, come back as
/// they were, and so do streams that are stored between them.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_small_files_come_back() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let length = |n: usize| if n.is_multiple_of(500) { 600_000 } else { n % 700 * 9 };
    let all: Files =
        (0..3_000).map(|n| plain(&format!("{n:05}"), noise(n as u64, length(n)))).collect();
    // Every third is known in the second run, and all of them in the third.
    for (run, skip) in [(0, 3), (1, 1), (2, 1)] {
        let files: Files = all.iter().step_by(skip).cloned().collect();
        let fed = files.clone();
        let feed = move |writer: &mut Writer| Ok((add_batches(writer, &fed)?, ()));
        let (stored, ()) = bench.run_of(&whom, LONG, feed).await.unwrap();
        bench.compare(&whom, &stored.key, &files).await;
        let new = match run {
            0 => (0..3_000).step_by(3).map(length).sum(),
            1 => (0..3_000).filter(|n| n % 3 != 0).map(length).sum(),
            _ => 0,
        };
        let tree = 700_000;
        assert!(stored.new.abs_diff(new as u64) < tree, "run {run}: {} for {new}", stored.new);
    }
}

fn lasts(name: &str) -> bool {
    let number: u32 = name.parse().unwrap_or_default();
    number % 1_000 > 700 || number.is_multiple_of(40)
}

/// Adds files as the thread that reads directories does.
fn add_batches(writer: &mut Writer, files: &[(String, Vec<Part>)]) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for batch in files.chunks(177) {
        let mut small = SmallReads::new(writer.spare_buffers().take());
        let mut numbers = Vec::new();
        for (name, parts) in batch {
            let bytes = spelt_out(parts);
            numbers.push((bytes.len() <= SMALL_FILE_MAX).then(|| {
                // Mostly of one life, sometimes strewn, sometimes all of the other.
                let life = if lasts(name) { Life::Lasting } else { Life::Passing };
                small.buffer().extend_from_slice(&bytes);
                small.end(life)
            }));
        }
        let mut small = small.name(writer.namer());
        for ((name, parts), file) in batch.iter().zip(numbers) {
            let content = match file {
                Some(file) => writer.add_small(&mut small, file)?,
                None => add(writer, parts)?,
            };
            entries.push(entry(name, EntryKind::File(content))?);
        }
        writer.store_small(small)?;
    }
    Ok(entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_the_bytes_of_nodes_and_lists_are_files() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    // Once the node is stored first and once the file.
    let mut node = Vec::new();
    let small = vec![plain("a", "first")];
    for file_first in [false, true] {
        let small = if file_first { vec![plain("b", "second")] } else { small.clone() };
        let namer = bench.secret.blob_namer();
        let mut tree = TreeBuilder::default();
        let Some(Part::Bytes(bytes)) = small[0].1.first() else { panic!() };
        let content = Content {
            size: bytes.len() as u64,
            hash: None,
            extents: Extents::Inline(vec![crate::content::Extent::Blob {
                id: namer.name(BlobKind::Data, bytes),
                length: bytes.len() as u32,
            }]),
        };
        let mut keep = |bytes: &[u8]| {
            node = bytes.to_vec();
            Ok::<BlobId, Error>(namer.name(BlobKind::Tree, bytes))
        };
        tree.add(&entry(&small[0].0, EntryKind::File(content)).unwrap(), &mut keep).unwrap();
        tree.finish(&mut keep).unwrap();
        let twin = vec![plain("twin", node.clone())];
        let runs = if file_first { [&twin, &small] } else { [&small, &twin] };
        for files in runs {
            let run = bench.run(&whom, files).await.unwrap();
            bench.compare(&whom, &run.key, files).await;
        }
    }
    // All three kinds of the same bytes, in one run.
    let mut writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let progress = writer.progress();
    let writer = blocking(move || {
        let ids = BlobKind::ALL.map(|kind| writer.add(kind, b"the same bytes").unwrap());
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        writer
    })
    .await;
    assert_eq!(progress.blobs_new.load(Ordering::Relaxed), 3);
    writer.abandon().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_very_small_files_stay_within_the_formats_bounds() {
    let (mut bench, _) = Bench::in_memory().await;
    let whom = reader();
    let writer = bench.writer(&whom.recipients, LONG).await.unwrap();
    let writer = blocking(move || {
        let mut writer = writer;
        let mut some = |count: u32, length: usize| {
            for n in 0..count {
                let mut blob = noise(u64::from(n), length.max(4));
                if length < 8 {
                    blob[..4].copy_from_slice(&n.to_le_bytes());
                }
                writer.add(BlobKind::Data, &blob[..length]).unwrap();
            }
        };
        // A full pack that alone doesn't end a segment, then one with as many blobs as can be.
        some(254_000, 66);
        some(209_716, 5);
        some(262_144, 4);
        some(349_526, 3);
        writer
    })
    .await;
    let soon = Timestamp::now() + LONG;
    let (written, _) = writer.finish(soon, soon).await.unwrap();
    assert!(written.segments.len() >= 2);
    // Whoever opens the index finds it sound.
    let run = bench.run(&whom, &vec![plain("a", [0, 0, 0])]).await.unwrap();
    assert!(run.written.packs_reused == 1, "the three bytes are known");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_bytes_are_pushed_makes_no_difference() {
    let (bench, _) = Bench::in_memory().await;
    let writer = bench.writer(&reader().recipients, LONG).await.unwrap();
    let writer = blocking(move || {
        let writer = RefCell::new(writer);
        let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
        // Runs of noise and of one byte: chunks of every length, from the least to the longest.
        let piece = (any::<u64>(), 0usize..60_000, any::<bool>())
            .prop_map(|(seed, n, even)| if even { vec![seed as u8; n] } else { noise(seed, n) });
        let cuts = prop::collection::vec(1usize..40_000, 1..12);
        let cases = (prop::collection::vec(piece, 0..5), cuts);
        runner
            .run(&cases, |(pieces, cuts)| {
                let bytes = pieces.concat();
                let mut writer = writer.borrow_mut();
                let whole = add(&mut writer, &[Part::Bytes(bytes.clone())]).unwrap();
                let mut content = ContentWriter::new(&writer, Life::default());
                let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                    content.push(&mut writer, now).unwrap();
                    rest = later;
                }
                prop_assert!(whole.is_sound());
                prop_assert_eq!(content.finish(&mut writer).unwrap(), whole);
                Ok(())
            })
            .unwrap();
        writer.into_inner()
    })
    .await;
    writer.abandon().await.unwrap();
}
