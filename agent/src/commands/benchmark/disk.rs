//! Reading the source: how fast folders are walked, and files read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keephold_cli::exit::usage;
use keephold_files::walk::{Options, Step, Walk};
use keephold_files::{Base, Kind};
use rustix::fs::{Advice, OFlags, fadvise};

use super::figures::Disk;

/// How long the walk may take, and the reading.
const WALK_TIME: Duration = Duration::from_secs(2);
const READ_TIME: Duration = Duration::from_secs(4);
/// Most bytes that are read.
const READ_MAX: u64 = 2 << 30;
/// How many files are picked, spread over all that the walk came upon.
const PICKED_MAX: usize = 8192;
/// How much of the data is kept for the steps that follow, and of one file at most.
const SAMPLE_MAX: usize = 48 << 20;
const SAMPLE_OF_FILE: usize = 1 << 20;

/// Walks and reads what lies below the paths; answers what was read, as far as it is kept.
pub(super) fn measure(paths: &[PathBuf], threads: usize) -> Result<(Disk, Vec<u8>)> {
    let (files, entries_s) = walk(paths)?;
    if files.is_empty() {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        return Err(usage(format!("there are no files to read below {}", names.join(", "))));
    }
    let (next, bytes, read) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let sample = Mutex::new(Vec::new());
    let began = Instant::now();
    let enough = || began.elapsed() > READ_TIME || bytes.load(Relaxed) >= READ_MAX;
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut buffer = vec![0; 1 << 20];
                while let Some(path) = files.get(next.fetch_add(1, Relaxed)).filter(|_| !enough()) {
                    // What can't be read is the backup's business to tell.
                    if read_one(path, &mut buffer, &bytes, &sample, &enough).is_ok() {
                        read.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let (files, bytes) = (read.load(Relaxed), bytes.load(Relaxed));
    #[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
    let disk = Disk {
        entries_s,
        read_bytes_s: bytes as f64 / took,
        files_s: files as f64 / took,
        files,
        bytes,
        threads,
    };
    Ok((disk, sample.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// Walks as a backup does; answers files spread over what it came upon, and entries a second.
fn walk(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, f64)> {
    let base = Base::host().context("the file system's root can't be opened")?;
    let began = Instant::now();
    let walk = Walk::start(&base, paths, &Options::default()).map_err(|e| usage(e.to_string()))?;
    let (mut files, mut stride, mut seen, mut entries): (Vec<PathBuf>, _, _, _) =
        (Vec::new(), 1, 0usize, 0u32);
    for step in walk {
        if let Step::Entry(walked) = step {
            entries += 1;
            if walked.kind == Kind::File && walked.stat.size > 0 {
                if seen.is_multiple_of(stride) {
                    files.push(Path::new("/").join(OsStr::from_bytes(walked.path.as_bytes())));
                }
                seen += 1;
            }
            if files.len() > PICKED_MAX {
                files = files.into_iter().step_by(2).collect();
                stride *= 2;
            }
        }
        if began.elapsed() > WALK_TIME {
            break;
        }
    }
    Ok((files, f64::from(entries) / began.elapsed().as_secs_f64().max(1e-6)))
}

fn read_one(
    path: &Path,
    buffer: &mut [u8],
    bytes: &AtomicU64,
    sample: &Mutex<Vec<u8>>,
    enough: &impl Fn() -> bool,
) -> std::io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file =
        File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    // Out of the page cache, so that it is the disk that is measured. Where that isn't known, it is the cache.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let mut kept = 0;
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            return Ok(());
        }
        bytes.fetch_add(count as u64, Relaxed);
        if kept < SAMPLE_OF_FILE {
            let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
            let room = SAMPLE_MAX.saturating_sub(sample.len()).min(SAMPLE_OF_FILE - kept);
            kept += count.min(room);
            sample.extend_from_slice(&buffer[..count.min(room)]);
        }
        if enough() {
            return Ok(());
        }
    }
}

/// A mixed sample where there is no path to take one from: half of it lines like those of a log, a quarter records of
/// numbers, a quarter that doesn't shrink. Always the same.
pub(super) fn built_in() -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "accepted",
        "refused",
        "connection",
        "from",
        "user",
        "session",
        "opened",
        "closed",
        "for",
        "root",
        "service",
        "started",
        "request",
        "finished",
        "error",
        "retry",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let quarter = 4 << 20;
    let mut out = Vec::with_capacity(4 * quarter + 256);
    while out.len() < 2 * quarter {
        let mut bits = random();
        out.extend_from_slice(format!("2026-11-25T{:02}:{:02} ", bits % 24, bits % 60).as_bytes());
        for _ in 0..8 {
            out.extend_from_slice(WORDS[usize::from(bits.to_le_bytes()[0] % 16)].as_bytes());
            out.push(b' ');
            bits >>= 7;
        }
        out.extend_from_slice(format!("{}\n", random() % 100_000).as_bytes());
    }
    let mut number = 0u32;
    while out.len() < 3 * quarter {
        number += 1;
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&random().to_le_bytes()[..3]);
        out.extend_from_slice(&[0; 9]);
    }
    while out.len() < 4 * quarter {
        out.extend_from_slice(&random().to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_read_and_sampled() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20 {
            std::fs::write(dir.path().join(format!("f{n}")), vec![n; 10_000]).unwrap();
        }
        std::fs::write(dir.path().join("empty"), b"").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let (disk, sample) = measure(&[dir.path().to_owned()], 2).unwrap();
        assert_eq!((disk.files, disk.bytes, sample.len()), (20, 200_000, 200_000));
        assert!(disk.read_bytes_s > 0.0 && disk.entries_s > 0.0);
        let none = tempfile::tempdir().unwrap();
        let error = measure(&[none.path().to_owned()], 2).unwrap_err();
        assert!(error.to_string().contains("no files to read"), "{error}");
    }

    #[test]
    fn the_built_in_sample_is_always_the_same() {
        let sample = built_in();
        assert_eq!(sample, built_in());
        assert!((16 << 20..17 << 20).contains(&sample.len()));
    }
}
