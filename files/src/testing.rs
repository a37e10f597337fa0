//! A snapshot in memory, so that the modules can be tested together.

use std::path::Path;

use keephold_vault::content::{Content, Extent, Extents};
use keephold_vault::ids::ContentHash;
use keephold_vault::tree::{Entry, EntryKind, FileTime, Metadata, TreePath};

use crate::compare::{Compare, Difference, Expected, ExpectedData, HashCheck, Options};
use crate::meta::{LinkTracker, MetaReader, Names};
use crate::read::{FileReader, Piece};
use crate::restore::{Created, Target};
use crate::walk::{self, Step, Walk, Walked};
use crate::{Base, Kind};

/// An entry and, for a file, its bytes: offset and data of each stretch.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub entry: Entry,
    pub data: Vec<(u64, Vec<u8>)>,
    pub holes: Vec<(u64, u64)>,
}

/// Walks all of a folder; problems fail the test.
pub(crate) fn walked(dir: &Path) -> Vec<Walked> {
    let walk =
        Walk::start(&Base::open(dir).unwrap(), &["/".into()], &walk::Options::default()).unwrap();
    walk.map(|step| match step {
        Step::Entry(walked) => walked,
        Step::Problem(problem) => panic!("{problem}"),
    })
    .collect()
}

/// Backs a folder up into memory.
pub(crate) fn back_up(dir: &Path) -> Vec<Stored> {
    let base = Base::open(dir).unwrap();
    let reader = MetaReader::new(base.clone(), Names::of_host());
    let mut links = LinkTracker::new();
    let store = |walked: &Walked| {
        let (mut data, mut holes) = (Vec::new(), Vec::new());
        let (major, minor) = walked.stat.device_numbers();
        let kind = match (links.see(walked), walked.kind) {
            (Some(first), _) => EntryKind::HardLink(first.as_bytes().to_vec()),
            (None, Kind::Directory) => EntryKind::Directory,
            (None, Kind::Symlink) => EntryKind::Symlink(reader.link(walked).unwrap()),
            (None, Kind::CharDevice) => EntryKind::CharDevice { major, minor },
            (None, Kind::BlockDevice) => EntryKind::BlockDevice { major, minor },
            (None, Kind::Fifo) => EntryKind::Fifo,
            (None, Kind::Socket) => EntryKind::Socket,
            (None, Kind::File) => EntryKind::File(read_all(&base, walked, &mut data, &mut holes)),
        };
        let (meta, problems) = reader.read(walked);
        assert!(problems.is_empty(), "{problems:?}");
        Stored { entry: Entry { path: walked.path.clone(), kind, meta }, data, holes }
    };
    walked(dir).iter().map(store).collect()
}

fn read_all(
    base: &Base,
    walked: &Walked,
    data: &mut Vec<(u64, Vec<u8>)>,
    holes: &mut Vec<(u64, u64)>,
) -> Content {
    let mut file = FileReader::open(base, walked).unwrap();
    let size = file.stat().size;
    let (mut offset, mut hasher, mut buffer) = (0, blake3::Hasher::new(), [0; 3000]);
    loop {
        match file.next(&mut buffer).unwrap() {
            Piece::End => break,
            Piece::Hole(length) => {
                holes.push((offset, length));
                offset += length;
            }
            Piece::Data(count) => {
                hasher.update(&buffer[..count]);
                data.push((offset, buffer[..count].to_vec()));
                offset += count as u64;
            }
        }
    }
    assert_eq!(file.finish().unwrap(), None);
    let hash = Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()));
    let extents = holes.iter().map(|&(_, length)| Extent::Hole { length }).collect();
    Content { size, hash, extents: Extents::Inline(extents) }
}

/// Restores one entry; `false` if the policy kept what was there.
pub(crate) fn restore_one(
    stored: &Stored,
    target: &Target,
) -> Result<bool, crate::restore::RestoreError> {
    if !matches!(stored.entry.kind, EntryKind::File(_)) {
        return Ok(target.place(&stored.entry)? != crate::restore::Placed::Kept);
    }
    let Created::Sink(sink) = target.create_file(&stored.entry)? else { return Ok(false) };
    for (offset, bytes) in &stored.data {
        sink.write_at(*offset, bytes)?;
    }
    sink.finish()?;
    Ok(true)
}

pub(crate) fn compare(dir: &Path, snapshot: &[Stored]) -> Vec<Difference> {
    let expected = snapshot.iter().map(|stored| Expected {
        entry: stored.entry.clone(),
        data: match &stored.entry.kind {
            EntryKind::File(content) => content.hash.map(|hash| ExpectedData {
                check: Box::new(HashCheck::new(hash)),
                holes: stored.holes.clone(),
            }),
            _ => None,
        },
    });
    Compare::start(&Base::open(dir).unwrap(), expected, Options::default()).unwrap().collect()
}

/// An entry made up, as a hostile or broken snapshot may hold it.
pub(crate) fn made_up(path: &str, kind: EntryKind) -> Stored {
    let user = rustix::process::geteuid().as_raw();
    let meta = Metadata {
        mode: 0o755,
        uid: user,
        gid: rustix::process::getegid().as_raw(),
        user: Vec::new(),
        group: Vec::new(),
        mtime: FileTime { seconds: 1_000_000_000, nanos: 1 },
        xattrs: Vec::new(),
    };
    Stored {
        entry: Entry { path: TreePath::new(path).unwrap(), kind, meta },
        data: Vec::new(),
        holes: Vec::new(),
    }
}

/// A made-up file of these bytes.
pub(crate) fn made_up_file(path: &str, bytes: &[u8]) -> Stored {
    let hash = Some(ContentHash::from_bytes(*blake3::hash(bytes).as_bytes()));
    let content = Content { size: bytes.len() as u64, hash, extents: Extents::Inline(Vec::new()) };
    Stored { data: vec![(0, bytes.to_vec())], ..made_up(path, EntryKind::File(content)) }
}
