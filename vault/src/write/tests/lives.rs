//! Data of different expected life lies in different packs, so that what lasts isn't stored again when the rest is gone.

use super::*;
use crate::limits::SMALL_FILE_MAX;
use crate::write::{ContentWriter, Life, SmallReads};

/// A hundred files, of which every fifth lasts; the others are different in each version. Together they are some packs.
fn files(version: u64) -> Vec<(Life, String, Vec<u8>)> {
    let file = |n: u64| {
        let life = if n.is_multiple_of(5) { Life::Lasting } else { Life::Passing };
        let seed = if life == Life::Lasting { n } else { version * 1_000 + n };
        // Some are small, some long.
        (life, format!("{n:03}"), noise(seed, if n.is_multiple_of(2) { 40_000 } else { 700_000 }))
    };
    (0..100).map(file).collect()
}

fn add_all(writer: &mut Writer, version: u64, told: bool) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for (life, name, bytes) in files(version) {
        let life = if told { life } else { Life::Passing };
        let content = if bytes.len() <= SMALL_FILE_MAX {
            let mut small = SmallReads::default();
            small.buffer().extend_from_slice(&bytes);
            let file = small.end(life);
            let mut small = small.name(writer.namer());
            let content = writer.add_small(&mut small, file)?;
            writer.store_small(small)?;
            content
        } else {
            let mut content = ContentWriter::new(writer, life);
            content.push(writer, &bytes)?;
            content.finish(writer)?
        };
        entries.push(entry(&name, EntryKind::File(content))?);
    }
    Ok(entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_is_not_stored_again_when_the_rest_is_gone() {
    for told in [true, false] {
        let (mut bench, _) = Bench::in_memory().await;
        let whom = reader();
        let mut runs = Vec::new();
        for (day, version) in [(0, 1), (1, 2), (12, 2)] {
            bench.day = Some(day);
            let feed = move |writer: &mut Writer| Ok((add_all(writer, version, told)?, ()));
            let (run, ()) = bench.run_of(&whom, LONG, feed).await.unwrap();
            let wanted =
                files(version).into_iter().map(|(_, name, bytes)| plain(&name, bytes)).collect();
            bench.compare(&whom, &run.key, &wanted).await;
            runs.push(run);
        }
        let again: u64 = runs.iter().map(|run| run.again).sum();
        let drained: u64 = runs.iter().map(|run| run.written.packs_drained).sum();
        if told {
            assert_eq!((again, drained), (0, 0));
        } else {
            // Else each pack has a fifth in it that is still needed.
            assert!(again > 1 << 20 && drained > 0, "{again} bytes again, {drained} packs");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_little_of_either_makes_one_pack() {
    let (mut bench, memory) = Bench::in_memory().await;
    let feed = |writer: &mut Writer| {
        let mut small = SmallReads::default();
        let mut entries = Vec::new();
        let files = Life::ALL.map(|life| {
            small.buffer().extend(noise(life as u64, 90_000));
            small.end(life)
        });
        let mut small = small.name(writer.namer());
        for (n, file) in files.into_iter().enumerate() {
            let content = writer.add_small(&mut small, file)?;
            entries.push(entry(&n.to_string(), EntryKind::File(content))?);
        }
        writer.store_small(small)?;
        Ok((entries, ()))
    };
    bench.run_of(&reader(), LONG, feed).await.unwrap();
    assert_eq!(memory.keys().iter().filter(|key| key.as_pack().is_some()).count(), 1);
}
