//! Tests of comparing a restored tree.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use keephold_vault::tree::FileTime;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::*;
use crate::restore::{Options as RestoreOptions, Target};
use crate::testing::{Stored, back_up, compare, restore_one};

fn whats(dir: &Path, snapshot: &[Stored]) -> Vec<String> {
    let show = |d: &Difference| format!("{} {:?}", d.path.as_ref().unwrap(), d.what);
    compare(dir, snapshot).iter().map(show).collect()
}

fn restored(snapshot: &[Stored], dir: &Path) -> crate::restore::Problems {
    let target =
        Target::create(dir, RestoreOptions { sync: false, ..RestoreOptions::default() }).unwrap();
    for stored in snapshot {
        restore_one(stored, &target).unwrap();
    }
    target.finish().unwrap()
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn every_way_of_differing_is_found() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    for name in ["a-missing", "b-kind", "c-size", "d-mode", "e-time", "h-content", "i-xattr"] {
        fs::write(dir.join(name), b"12345").unwrap();
        set_time(&dir.join(name), 10, 0);
    }
    symlink("one", dir.join("f-link")).unwrap();
    fs::write(dir.join("g1"), b"x").unwrap();
    fs::hard_link(dir.join("g1"), dir.join("g2")).unwrap();
    let keep = |path: &str| set_time(&dir.join(path), 10, 0);
    keep("f-link");
    keep("g1");
    let snapshot = back_up(dir);
    assert_eq!(compare(dir, &snapshot), []);

    fs::remove_file(dir.join("a-missing")).unwrap();
    fs::remove_file(dir.join("b-kind")).unwrap();
    fs::create_dir(dir.join("b-kind")).unwrap();
    fs::write(dir.join("b-surplus"), b"").unwrap();
    fs::write(dir.join("c-size"), b"123456").unwrap();
    keep("c-size");
    fs::set_permissions(dir.join("d-mode"), fs::Permissions::from_mode(0o4711)).unwrap();
    set_time(&dir.join("e-time"), 10, 1);
    fs::remove_file(dir.join("f-link")).unwrap();
    symlink("two", dir.join("f-link")).unwrap();
    keep("f-link");
    fs::remove_file(dir.join("g2")).unwrap();
    fs::write(dir.join("g2"), b"x").unwrap();
    fs::write(dir.join("h-content"), b"12346").unwrap();
    keep("h-content");
    xattr::set(dir.join("i-xattr"), "user.new", b"1").unwrap();
    assert_eq!(
        whats(dir, &snapshot),
        [
            "a-missing Missing",
            "b-kind Kind",
            "b-surplus Surplus",
            "c-size Size",
            "d-mode Mode",
            "e-time Time",
            "f-link LinkTarget",
            "g2 HardLink",
            "h-content Content",
            "i-xattr Xattr"
        ]
    );
}

#[test]
fn an_empty_tree_lacks_everything() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("full/dir")).unwrap();
    fs::create_dir(temp.path().join("empty")).unwrap();
    let snapshot = back_up(&temp.path().join("full"));
    assert_eq!(whats(&temp.path().join("empty"), &snapshot), ["dir Missing"]);
}

/// A file system may keep holes coarser or not at all: only bytes count.
#[test]
fn holes_need_not_lie_where_they_lay() {
    let temp = tempfile::tempdir().unwrap();
    let (one, two) = (temp.path().join("one"), temp.path().join("two"));
    fs::create_dir(&one).unwrap();
    let file = File::create(one.join("sparse")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_all_at(&[5; 5000], 1 << 20).unwrap();
    set_time(&one.join("sparse"), 7, 0);
    let snapshot = back_up(&one);
    assert!(!snapshot[0].holes.is_empty());
    restored(&snapshot, &two);
    let there = fs::metadata(two.join("sparse")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&there) < 200, "the holes were filled");
    let bytes = fs::read(two.join("sparse")).unwrap();
    fs::write(two.join("sparse"), &bytes).unwrap();
    set_time(&two.join("sparse"), 7, 0);
    assert_eq!(compare(&two, &snapshot), []);
    File::options()
        .write(true)
        .open(two.join("sparse"))
        .unwrap()
        .write_all_at(b"!", 2 << 20)
        .unwrap();
    set_time(&two.join("sparse"), 7, 0);
    assert_eq!(whats(&two, &snapshot), ["sparse Content"]);
}

#[derive(Debug, Clone)]
enum Thing {
    Dir,
    File(Vec<(u32, u16)>, u32),
    Link(Vec<u8>),
    Pipe,
    Device(u32, u32),
    Further(usize),
}

#[derive(Debug, Clone)]
struct Made {
    path: Vec<Vec<u8>>,
    thing: Thing,
    mode: u32,
    time: FileTime,
    xattr: Option<Vec<u8>>,
    owner: u32,
}

fn made() -> impl Strategy<Value = Made> {
    let byte = prop_oneof![
        Just(b'a'),
        Just(b'b'),
        Just(b'-'),
        Just(b'\n'),
        Just(0xff),
        Just(b'\\'),
        Just(b' ')
    ];
    let name = prop::collection::vec(byte, 1..3);
    let thing = prop_oneof![
        3 => Just(Thing::Dir),
        4 => (prop::collection::vec((0u32..300_000, 1u16..9000), 0..4), 0u32..400_000).prop_map(|(d, s)| Thing::File(d, s)),
        1 => prop::collection::vec(1u8..=255, 1..40).prop_map(Thing::Link),
        1 => Just(Thing::Pipe),
        1 => (1u32..300, 0u32..70_000).prop_map(|(a, b)| Thing::Device(a, b)),
        2 => any::<usize>().prop_map(Thing::Further),
    ];
    let time = (-3_000_000_000i64..5_000_000_000, 0u32..1_000_000_000)
        .prop_map(|(seconds, nanos)| FileTime { seconds: seconds.max(-2_000_000_000), nanos });
    let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    (prop::collection::vec(name, 1..4), thing, 0u32..0o10000, time, xattr, 0u32..3000).prop_map(
        |(path, thing, mode, time, xattr, owner)| Made { path, thing, mode, time, xattr, owner },
    )
}

/// Makes a random tree; what finds its name taken is left out.
fn make(dir: &Path, all: &[Made]) {
    let root = rustix::process::geteuid().is_root();
    let full = |path: &[Vec<u8>]| dir.join(OsStr::from_bytes(&path.join(&b'/')));
    let mut done = Vec::new();
    for made in all {
        let path = full(&made.path);
        if fs::create_dir_all(path.parent().unwrap()).is_err()
            || fs::symlink_metadata(&path).is_ok()
        {
            continue;
        }
        match &made.thing {
            Thing::Dir => fs::create_dir(&path).unwrap(),
            Thing::File(data, size) => {
                let file = File::create(&path).unwrap();
                for &(offset, length) in data {
                    file.write_all_at(&vec![3; length.into()], offset.into()).unwrap();
                }
                let longest = file.metadata().unwrap().len().max((*size).into());
                file.set_len(longest).unwrap();
            }
            Thing::Link(to) => symlink(OsStr::from_bytes(to), &path).unwrap(),
            Thing::Pipe => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            Thing::Device(a, b) if root => {
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::RWXU, makedev(*a, *b))
                    .unwrap();
            }
            Thing::Device(..) => continue,
            Thing::Further(which) => {
                let files: Vec<_> = done
                    .iter()
                    .filter(|(_, made): &&(_, &Made)| matches!(made.thing, Thing::File(..)))
                    .collect();
                let Some((first, _)) = files.get(which % files.len().max(1)) else { continue };
                fs::hard_link(first, &path).unwrap();
                continue;
            }
        }
        done.push((path, made));
    }
    done.sort_by(|a, b| b.0.cmp(&a.0));
    for (path, made) in done {
        let is_link = matches!(made.thing, Thing::Link(_));
        if root {
            std::os::unix::fs::lchown(&path, Some(made.owner), Some(made.owner + 1)).unwrap();
        }
        if let (Some(value), Thing::File(..) | Thing::Dir) = (&made.xattr, &made.thing) {
            xattr::set(&path, "user.value", value).unwrap();
        }
        if !is_link {
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(if root { made.mode } else { made.mode | 0o700 }),
            )
            .unwrap();
        }
        set_time(&path, made.time.seconds, made.time.nanos.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_restored_is_what_was(all in prop::collection::vec(made(), 0..25)) {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        fs::create_dir(&one).unwrap();
        make(&one, &all);
        prop_assume!(fs::read_dir(&one).unwrap().next().is_some());
        let snapshot = back_up(&one);
        let problems = restored(&snapshot, &two);
        prop_assert_eq!(problems.total(), 0, "{:?}", problems);
        prop_assert_eq!(compare(&two, &snapshot), []);
        let again = back_up(&two);
        prop_assert_eq!(again.len(), snapshot.len());
    }
}

/// ACLs and capabilities are set after the owner, whose change would clear them.
#[test]
fn acls_and_capabilities_survive() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (one, two) = (temp.path().join("one"), temp.path().join("two"));
    fs::create_dir(&one).unwrap();
    fs::write(one.join("program"), b"x").unwrap();
    std::os::unix::fs::lchown(one.join("program"), Some(1234), Some(1234)).unwrap();
    // A version 2 capability: cap_net_bind_service, effective and permitted.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(one.join("program"), "security.capability", &capability).unwrap();
    // user::rw-, user:1000:r--, group::r--, mask::r--, other::---
    let mut acl = vec![2, 0, 0, 0];
    for (tag, perm, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    xattr::set(one.join("program"), "system.posix_acl_access", &acl).unwrap();
    symlink("x", one.join("link")).unwrap();
    rustix::fs::lsetxattr(one.join("link"), "trusted.mark", b"1", rustix::fs::XattrFlags::empty())
        .unwrap();
    let snapshot = back_up(&one);
    assert_eq!(
        snapshot[1].entry.meta.xattrs.len(),
        2,
        "this file system keeps no ACLs or capabilities"
    );
    assert_eq!(snapshot[0].entry.meta.xattrs.len(), 1);
    assert_eq!(restored(&snapshot, &two).total(), 0);
    assert_eq!(compare(&two, &snapshot), []);
}
