//! Streams that repeat the one before them: they come back exactly, whatever became of rows, list and vault in between,
//! and cost about what changed.

use std::cell::RefCell;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::write::delta::Listed;
use crate::write::{DeltaWriter, PieceList};

/// Rows like those of a dump: a header as in an archive, a key, and text that is the row's own.
fn row(n: u64) -> Vec<u8> {
    let own = hex::encode(noise(n, 60));
    format!("\0\0\0\0\0{n}\tname {n}\t{}\t{own}\n", n * 7919 % 1000).into_bytes()
}

fn rows(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(row).collect()
}

/// Streams of one name, run after run.
struct Dumps {
    bench: Bench,
    memory: Arc<MemoryStore>,
    whom: Reader,
}

fn dump(
    writer: &mut Writer,
    list: &Path,
    secret: &VaultSecret,
    stream: &[u8],
    steps: &[usize],
) -> Result<(Content, Option<PieceList>), Error> {
    let mut dump = DeltaWriter::new(list, secret);
    let mut rest = stream;
    for step in steps.iter().cycle() {
        let (now, later) = rest.split_at((*step).clamp(1, rest.len().max(1)).min(rest.len()));
        dump.push(writer, now)?;
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    dump.finish(writer)
}

impl Dumps {
    async fn new() -> Self {
        let (bench, memory) = Bench::in_memory().await;
        Self { bench, memory, whom: reader() }
    }

    fn list(&self) -> PathBuf {
        self.bench.cache.path().join("dumps").join("shop.pieces")
    }

    async fn attempt(&mut self, stream: &[u8], steps: &[usize]) -> Result<Run, Error> {
        let (list, secret) = (self.list(), self.bench.secret.clone());
        let (bytes, steps) = (stream.to_vec(), steps.to_vec());
        let feed = move |writer: &mut Writer| {
            let (content, list) = dump(writer, &list, &secret, &bytes, &steps)?;
            Ok((vec![entry("dump", EntryKind::File(content))?], list))
        };
        let (run, list) = self.bench.run_of(&self.whom, LONG, feed).await?;
        if let Some(list) = list {
            list.keep()?;
        }
        Ok(run)
    }

    /// Backs a stream up, fed in steps of these lengths, and holds what comes back against it.
    async fn run_in(&mut self, stream: &[u8], steps: &[usize]) -> Run {
        let run = self.attempt(stream, steps).await.unwrap();
        self.bench.compare(&self.whom, &run.key, &vec![plain("dump", stream)]).await;
        run
    }

    async fn run(&mut self, stream: &[u8]) -> Run {
        self.run_in(stream, &[100_000]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strewn_changes_cost_about_what_changed() {
    let mut dumps = Dumps::new().await;
    let mut all = rows(0..40_000);
    let before = all.concat();
    let first = dumps.run(&before).await;
    assert_eq!((first.new > before.len() as u64, first.matched), (true, 0));
    let same = dumps.run(&before).await;
    assert_eq!((same.new, same.matched), (0, before.len() as u64));
    let mut changed = 0;
    for n in (0..all.len()).step_by(50) {
        all[n] = row(1_000_000 + n as u64);
        changed += all[n].len();
        all[n + 1].clear();
    }
    let after = all.concat();
    let run = dumps.run(&after).await;
    // How short rows are grouped depends on the vault's secret, so now and then a group ends within a changed one.
    let missed = ((after.len() - changed) as u64).checked_sub(run.matched);
    assert!(missed.is_some_and(|missed| missed < 4_096), "{missed:?} bytes were not found");
    // The new rows, two extents of eight bytes at most for each of them, and 27 for each blob of 4 KiB.
    let bound = (changed + 2 * 800 * 8 + after.len() / 100) as u64;
    assert!(run.new < bound, "{} bytes, and not {bound}, for {changed}", run.new);
    let content_in_three = dumps.run_in(&after, &[1, 7, 70_001]).await;
    assert_eq!((content_in_three.matched, content_in_three.new), (after.len() as u64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_new_gone_or_moved_far_cost_no_more_than_what_is_new() {
    let mut dumps = Dumps::new().await;
    let (a, b, c) =
        (rows(0..40_000).concat(), rows(50_000..95_000).concat(), rows(100_000..140_000).concat());
    dumps.run(&[a.as_slice(), &b, &c].concat()).await;
    let new = rows(200_000..203_000).concat();
    // In front, and another order; then one is gone, whose rows are more than the window.
    let moved = [new.as_slice(), &c, &a, &b].concat();
    let run = dumps.run(&moved).await;
    assert!(
        run.new < (new.len() + moved.len() / 100) as u64,
        "{} bytes for {}",
        run.new,
        new.len()
    );
    let run = dumps.run(&[new.as_slice(), &c, &b].concat()).await;
    assert!(run.new < moved.len() as u64 / 100, "{} bytes for nothing", run.new);
    // What was gone comes again: the vault holds it, but the list no longer knows.
    let run = dumps.run(&moved).await;
    assert!(run.matched >= (new.len() + b.len() + c.len() - 30_000) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_by_the_thousand_and_long_lines_are_no_trouble() {
    let mut dumps = Dumps::new().await;
    let mut stream = b"\\N\t\\N\n".repeat(50_000);
    stream.extend(b"x".repeat(300_000));
    stream.extend(hex::encode(noise(1, 400_000)).into_bytes());
    stream.extend(noise(2, 500_000));
    stream.extend(vec![0; 200_000]);
    stream.extend(rows(0..2_000).concat());
    dumps.run(&stream).await;
    let run = dumps.run(&stream).await;
    assert_eq!((run.new, run.matched), (0, stream.len() as u64));
    // Something in the middle of a line of 800,000 characters, and before all.
    stream.splice(1_000_000..1_000_000, *b"0123456789abcdef");
    stream.splice(0..0, *b"1\t2\n");
    let run = dumps.run(&stream).await;
    assert!(run.new < 60_000, "{} bytes", run.new);
}

/// What happens to rows between two runs.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, u64, usize),
    Delete(Index, usize),
    Replace(Index, u64),
    Move(Index, usize, Index),
    Repeat(Index, usize),
    /// One byte, wherever it is: also a newline, and in a header.
    Byte(Index, u8),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (any::<Index>(), 0..50u64, 1..300usize)
            .prop_map(|(at, n, count)| Edit::Insert(at, n, count)),
        (any::<Index>(), 1..600usize).prop_map(|(at, count)| Edit::Delete(at, count)),
        (any::<Index>(), any::<u64>()).prop_map(|(at, n)| Edit::Replace(at, n)),
        (any::<Index>(), 1..900usize, any::<Index>()).prop_map(|(at, n, to)| Edit::Move(at, n, to)),
        (any::<Index>(), 1..300usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ];
    prop::collection::vec(edit, 0..12)
}

/// Makes an edit; answers about how many bytes it makes new.
fn make(edit: &Edit, all: &mut Vec<Vec<u8>>) -> usize {
    let place = |at: &Index, len: usize| if len == 0 { 0 } else { at.index(len) };
    let (len, mut new) = (all.len(), 0);
    match edit {
        Edit::Insert(at, n, count) => {
            let more = rows(10_000_000 + n * 1_000..10_000_000 + n * 1_000 + *count as u64);
            new = more.concat().len();
            all.splice(place(at, len)..place(at, len), more);
        }
        Edit::Delete(at, count) => {
            let at = place(at, len);
            all.drain(at..(at + count).min(len));
        }
        Edit::Replace(at, n) if len > 0 => {
            all[at.index(len)] = row(n % 1_000_000_007);
            new = 200;
        }
        Edit::Move(at, count, to) => {
            let at = place(at, len);
            let moved: Vec<_> = all.drain(at..(at + count).min(len)).collect();
            let to = place(to, all.len());
            // Few rows may lie between two anchors, and rows that are few aren't worth an extent.
            new = moved.concat().len().min(8_000);
            all.splice(to..to, moved);
        }
        Edit::Repeat(at, count) => {
            let at = place(at, len);
            let again = all[at..(at + count).min(len)].to_vec();
            new = again.concat().len().min(8_000);
            all.splice(at..at, again);
        }
        Edit::Byte(at, byte) if len > 0 => {
            let row = &mut all[at.index(len)];
            let at = place(at, row.len());
            if let Some(old) = row.get_mut(at) {
                *old = *byte;
            }
            new = 400;
        }
        Edit::Replace(..) | Edit::Byte(..) => {}
    }
    new
}

#[test]
fn any_edits_come_back_exactly_and_cost_about_themselves() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let cases = (
        0..4_000u64,
        prop::collection::vec(edits(), 1..4),
        prop::collection::vec(1..40_000usize, 1..5),
    );
    let seen = RefCell::new(0);
    let result = runner.run(&cases, |(count, runs, steps)| {
        runtime.block_on(async {
            let mut dumps = Dumps::new().await;
            let mut all = rows(0..count);
            dumps.run_in(&all.concat(), &steps).await;
            for edits in runs {
                let new: usize = edits.iter().map(|edit| make(edit, &mut all)).sum();
                let run = dumps.run_in(&all.concat(), &steps).await;
                // Beside what is new: rows at each edge of an edit, and the list of extents.
                let bound = new + 4_000 * (edits.len() + 1);
                prop_assert!(
                    run.new <= bound as u64,
                    "{} bytes, and not {bound}: {edits:?}",
                    run.new
                );
                *seen.borrow_mut() += run.matched;
            }
            Ok(())
        })
    });
    result.unwrap();
    assert!(seen.into_inner() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_damaged_cut_or_anothers_does_no_harm() {
    let mut dumps = Dumps::new().await;
    let stream = rows(0..30_000).concat();
    dumps.run(&stream).await;
    let list = fs::read(dumps.list()).unwrap();
    // Of rows as short as these; blobs of 4 KiB are part of it.
    assert!(list.len() * 8 < stream.len(), "the list has {} of {} bytes", list.len(), stream.len());
    let len = list.len();
    let flipped = |at: usize| {
        let mut list = list.clone();
        list[at] ^= 1;
        list
    };
    let mut swapped = list.clone();
    swapped.rotate_left(8);
    for (what, bad) in [
        ("empty", vec![]),
        ("cut", list[..len / 2].to_vec()),
        ("its end is cut", list[..len - 1].to_vec()),
        ("magic", flipped(0)),
        ("a length", flipped(9)),
        ("a hash", flipped(20)),
        ("a fingerprint in the first block", flipped(60)),
        ("a later block", flipped(len / 3)),
        ("anchors", flipped(len - 100)),
        ("its end", flipped(len - 1)),
        ("rotated", swapped),
        ("noise", noise(7, 100_000)),
    ] {
        fs::write(dumps.list(), bad).unwrap();
        dumps.run(&stream).await;
        let again = dumps.run(&stream).await;
        assert_eq!(again.matched, stream.len() as u64, "{what}: the next list is whole again");
    }
    // A folder where the list should be: nothing can be kept, and the run goes on.
    fs::remove_file(dumps.list()).unwrap();
    fs::create_dir_all(dumps.list().with_added_extension("new")).unwrap();
    assert_eq!(dumps.run(&stream).await.matched, 0);
    fs::remove_dir(dumps.list().with_added_extension("new")).unwrap();
    // A disk that is full, on the way or just before the end: the list before it stays, and is used.
    dumps.run(&stream).await;
    let whole = fs::read(dumps.list()).unwrap();
    for stream in [stream.clone(), rows(0..500).concat()] {
        std::os::unix::fs::symlink("/dev/full", dumps.list().with_added_extension("new")).unwrap();
        assert_eq!(dumps.run(&stream).await.matched, stream.len() as u64);
        assert!(fs::read(dumps.list()).unwrap() == whole);
    }
    // Of another vault: its key is another.
    let mut other = Dumps::new().await;
    fs::create_dir_all(other.list().parent().unwrap()).unwrap();
    fs::write(other.list(), &list).unwrap();
    assert_eq!(other.run(&stream).await.matched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vault_no_longer_holds_is_stored_again() {
    let mut dumps = Dumps::new().await;
    let stream = rows(0..30_000).concat();
    dumps.run(&stream).await;
    // As a pruner leaves it: neither packs nor index.
    for key in dumps.memory.keys() {
        if key.as_pack().is_some() || key.as_str().starts_with("index/") {
            dumps.memory.lose(&key);
        }
    }
    let run = dumps.run(&stream).await;
    assert_eq!((run.matched, run.new > stream.len() as u64), (0, true));
    // Sealed to others, who could not open what this run's reader must: the same.
    dumps.whom = reader();
    let run = dumps.run(&stream).await;
    assert_eq!((run.matched, run.new > stream.len() as u64), (0, true));
    assert_eq!(dumps.run(&stream).await.matched, stream.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_deltas_use_little_are_drained() {
    let mut dumps = Dumps::new().await;
    dumps.bench.day = Some(0);
    let old = rows(0..30_000);
    dumps.run(&old.concat()).await;
    // One row in ten is left of the first pack.
    let left: Vec<_> =
        old.iter().enumerate().filter(|(n, _)| n % 100 < 10).map(|(_, row)| row.clone()).collect();
    let stream = [rows(100_000..110_000), left].concat().concat();
    let (mut drained, mut again) = (0, 0);
    for day in 1..=60 {
        dumps.bench.day = Some(day);
        let run = dumps.run(&stream).await;
        drained += run.written.packs_drained;
        again += run.again;
    }
    assert!(drained >= 1 && again > 0, "{drained} packs drained, {again} bytes stored again");
    let first = dumps.memory.keys().into_iter().filter(|key| key.as_pack().is_some()).count();
    assert!(first >= 2);
}

/// Sixty dumps, each with another 2 % of the rows changed as PostgreSQL does it: the new row goes to the end of its page.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_runs_of_strewn_changes_stay_cheap_to_store_and_to_read() {
    let mut dumps = Dumps::new().await;
    let mut pages: Vec<Vec<u64>> =
        (0..1_500).map(|page| (page * 32..page * 32 + 32).collect()).collect();
    let stream = |pages: &[Vec<u64>]| pages.concat().into_iter().flat_map(row).collect::<Vec<_>>();
    dumps.run(&stream(&pages)).await;
    let (mut sum, mut most, mut whole_sum) = (0, 0, 0);
    for run in 1..=60 {
        for page in &mut pages {
            let changed = |n: &mut u64| (*n % 1_000_000 * 7919 + run).is_multiple_of(50);
            let new: Vec<_> = page.extract_if(.., changed).collect();
            page.extend(new.iter().map(|n| n % 1_000_000 + 1_000_000 * run));
        }
        let stream = stream(&pages);
        let run = dumps.run(&stream).await;
        let listed = Listed::read(&dumps.list(), &dumps.bench.secret).unwrap();
        let whole = stream.len() as u64;
        assert_eq!(listed.bytes, whole);
        // In bounded steps, and the parts refer to blobs of which most is still used.
        assert!(listed.passage_max <= 3 << 19, "{listed:?}");
        assert!(listed.parts << 20 < 2_400 * whole, "{listed:?} of {whole}");
        assert!(listed.blobs < whole * 13 / 10, "{listed:?} of {whole}");
        (sum, most) = (sum + run.new, most.max(run.new));
        whole_sum += whole;
    }
    // 2 % are new each time, a twelfth or so is stored anew where passages are as few as here; the rest is lists.
    assert!(sum < whole_sum / 6, "{sum} bytes in all runs, of {whole_sum}");
    assert!(most < whole_sum / 60 / 4, "{most} bytes in one run, of {}", whole_sum / 60);
}
