//! A host's cache: a folder that ages with the simulation, and that a crash leaves as it was at that moment.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// Older than anything that waits to become litter, which takes a day.
const OLD: Duration = Duration::from_secs(48 * 3600);

/// In memory where that can be, since thousands of seeds make very many small files.
pub(super) fn new() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Calls `each` with every file below a folder, and its path from there.
fn files(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() { files(&path, each) } else { each(&path) }
    }
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// A copy of a folder as it is now, with the same times.
pub(super) fn copied(from: &TempDir) -> TempDir {
    let to = new();
    files(from.path(), &mut |path| {
        let there = to.path().join(path.strip_prefix(from.path()).unwrap());
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::copy(path, &there).unwrap();
        File::options().write(true).open(&there).unwrap().set_modified(modified(path)).unwrap();
    });
    to
}

/// Makes files older: litter is judged by the machine's clock, which hardly moves while years are simulated. What is old
/// enough for that anyway stays as it is.
pub(super) fn age(folder: &TempDir, by: Duration) {
    let old = SystemTime::now() - OLD;
    files(folder.path(), &mut |path| {
        let time = modified(path);
        if time > old {
            File::options().write(true).open(path).unwrap().set_modified(time - by).unwrap();
        }
    });
}
