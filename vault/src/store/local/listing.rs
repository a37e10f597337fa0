//! Listing a folder in key order, one folder in memory at a time for each level.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::blocking;
use super::object::Writer;
use crate::store::{Listed, ObjectKey, Prefix, StoreError};

/// What a folder holds.
enum Entry {
    Object(Listed),
    /// A folder by its path, with a slash at its end.
    Folder(String),
}

impl Entry {
    /// What it is sorted by: a folder's keys all have its slash behind its name.
    fn order(&self) -> &str {
        match self {
            Self::Object(o) => o.key.as_str(),
            Self::Folder(path) => path,
        }
    }
}

/// The objects below a prefix, in the order of their keys.
pub(super) fn objects<'a>(
    writer: &'a Arc<Writer>,
    prefix: &Prefix,
) -> BoxStream<'a, Result<Listed, StoreError>> {
    let start = vec![prefix.as_str().to_owned()];
    // A stack of folders still to be opened can't interleave with objects, so each step gives the objects up to
    // the next folder, and puts that folder's content before the rest.
    let state = (start, Vec::<Entry>::new());
    futures::stream::try_unfold(state, move |(mut unopened, mut rest)| async move {
        loop {
            if let Some(path) = unopened.pop() {
                let writer = Arc::clone(writer);
                let mut entries = blocking(move || read(&writer, &path)).await?;
                // Reversed, for they are taken from the end.
                entries.reverse();
                rest.extend(entries);
            }
            let mut batch = Vec::new();
            while let Some(entry) = rest.pop() {
                match entry {
                    Entry::Object(object) => batch.push(object),
                    Entry::Folder(path) => {
                        unopened.push(path);
                        break;
                    }
                }
            }
            if !batch.is_empty() {
                let items = futures::stream::iter(batch.into_iter().map(Ok));
                return Ok(Some((items, (unopened, rest))));
            }
            if unopened.is_empty() {
                return Ok(None);
            }
        }
    })
    .try_flatten()
    .boxed()
}

/// One folder's objects and folders, sorted. A folder that is gone is empty.
fn read(writer: &Writer, path: &str) -> Result<Vec<Entry>, StoreError> {
    let failed = |e| writer.root.error("list", path, e);
    writer.root.check()?;
    // One object alone is found in its folder.
    let single = path.rfind('/').map_or(0, |slash| slash + 1);
    let (path, single) = path.split_at(single);
    let dir = match writer.root.dir(path) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    if !single.is_empty() {
        let Some(key) = ObjectKey::parse(&format!("{path}{single}")) else { return Ok(Vec::new()) };
        let found = look(&dir, single, key).map_err(failed)?;
        return Ok(found.into_iter().filter(|e| matches!(e, Entry::Object(_))).collect());
    }
    let mut entries = Vec::new();
    for entry in fs::Dir::read_from(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        // Also leaves out `.locks` and `.tmp`.
        let Some(key) = ObjectKey::parse(&format!("{path}{name}")) else { continue };
        if let Some(entry) = look(&dir, name, key).map_err(failed)? {
            entries.push(entry);
        }
    }
    entries.sort_unstable_by(|a, b| a.order().cmp(b.order()));
    Ok(entries)
}

fn look(dir: &OwnedFd, name: &str, key: ObjectKey) -> Result<Option<Entry>, Errno> {
    let stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Some(Entry::Folder(format!("{key}/"))),
        FileType::RegularFile => {
            let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
            let modified = Timestamp::new(stat.st_mtime, nanos).unwrap_or(Timestamp::UNIX_EPOCH);
            Some(Entry::Object(Listed {
                key,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified,
            }))
        }
        _ => None,
    })
}
