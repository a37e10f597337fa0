//! Folders with everything in them that a file system can hold, and a listing that shows whether two are the same.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// Bytes that don't compress, always the same for one seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A few ordinary files.
pub(crate) fn plain(at: &Path) {
    fs::create_dir_all(at.join("etc/app")).unwrap();
    fs::write(at.join("etc/app/app.conf"), "listen = 8080\n".repeat(200)).unwrap();
    fs::write(at.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(at.join("photo.raw"), noise(1, 400_000)).unwrap();
}

/// Names that trip programs up, with contents, kinds, owners, times and attributes that do.
pub(crate) fn odd(at: &Path) {
    plain(at);
    let names: [&[u8]; 9] = [
        b"-rf",
        b" space at both ends ",
        b"new\nline",
        b"tab\tand \"quotes\" and 'these'",
        b"not utf-8 \xff\xfe\x80",
        "größe 🐘".as_bytes(),
        b"$(reboot) `;|&*?[x]\\",
        b"...",
        &[b'n'; 255],
    ];
    for (number, name) in names.iter().enumerate() {
        fs::write(at.join(OsStr::from_bytes(name)), noise(number as u64, 10 + number * 1000))
            .unwrap();
    }
    let folder = at.join(OsStr::from_bytes(b"folder \xf0\x28\x8c\x28"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    fs::create_dir_all(at.join("deep/er/and/deeper/empty folder")).unwrap();

    fs::write(
        at.join("large"),
        [noise(3, 1_500_000), b"text ".repeat(300_000), noise(3, 900_000)].concat(),
    )
    .unwrap();
    let mut sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.write_all(b"begin").unwrap();
    sparse.seek(SeekFrom::Start(20 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    sparse.set_len(40 << 20).unwrap();

    fs::hard_link(at.join("large"), at.join("etc/second name of large")).unwrap();
    symlink("etc/hosts", at.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere/\xff"), at.join("dangling")).unwrap();
    symlink("/", at.join("link to root")).unwrap();
    let fifo = at.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();

    fs::write(at.join("program"), "#!/bin/sh\n").unwrap();
    let attribute = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(at.join(path), name, value, XattrFlags::empty())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    attribute("etc/hosts", "user.comment", b"\x00binary\xff");
    attribute("etc", "user.folder", b"yes");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(at.join("etc/app/app.conf"), Some(12_345), Some(54_321)).unwrap();
        std::os::unix::fs::lchown(at.join("dangling"), Some(12_345), Some(54_321)).unwrap();
        let device = at.join("device");
        let number = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(
            CWD,
            &device,
            rustix::fs::FileType::CharacterDevice,
            0o600.into(),
            number,
        )
        .unwrap();
        // cap_net_bind_service, and an ACL that lets user 1000 read: as setcap and setfacl write them.
        attribute(
            "program",
            "security.capability",
            b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        );
        let mut acl = vec![2, 0, 0, 0];
        for (tag, rights, id) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 1000),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            acl.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
            acl.extend(id.to_le_bytes());
        }
        attribute("photo.raw", "system.posix_acl_access", &acl);
    }
    fs::set_permissions(at.join("program"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(at.join("etc/hosts"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(at.join("deep"), fs::Permissions::from_mode(0o1770)).unwrap();

    let time = |path: &str, seconds, nanos| {
        let stamp = Timespec { tv_sec: seconds, tv_nsec: nanos };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        rustix::fs::utimensat(CWD, at.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    time("etc/hosts", 1_000_000_000, 123_456_789);
    time("link", 1_111_111_111, 1);
    time("deep/er", 946_684_799, 999_999_999);
    time("photo.raw", -86_400, 5);
    time("fifo", 4_102_444_800, 0);
}

/// All that can be seen of a folder, one line an entry, sorted.
pub(crate) fn listing(at: &Path) -> Vec<String> {
    let (mut out, mut first) = (Vec::new(), HashMap::new());
    visit(at, at, &mut out, &mut first);
    out
}

fn visit(at: &Path, below: &Path, out: &mut Vec<String>, first: &mut HashMap<(u64, u64), String>) {
    let mut entries: Vec<_> = fs::read_dir(at).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name =
            path.strip_prefix(below).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if kind.is_dir() {
            "folder".to_owned()
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_char_device() {
            format!("device {:x}", meta.rdev())
        } else {
            // A hole that was filled in shows here; file systems differ a little otherwise.
            let sparse = meta.blocks() * 512 + (1 << 20) < meta.len();
            let hash = blake3::hash(&fs::read(&path).unwrap()).to_hex();
            format!("{} bytes{} {}", meta.len(), if sparse { ", sparse" } else { "" }, &hash[..16])
        };
        let twin = if meta.nlink() > 1 && !kind.is_dir() {
            format!(" = {}", first.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone()))
        } else {
            String::new()
        };
        out.push(format!(
            "{name}{twin}: {what}; {:o} {}:{} {}.{:09}{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            attributes(&path)
        ));
        if kind.is_dir() {
            visit(&path, below, out, first);
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0_u8; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut lines: Vec<String> = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            format!(" {}={}", name.escape_ascii(), hex::encode(&value[..length]))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Both folders must be the same in all that a listing shows.
#[track_caller]
pub(crate) fn same(expected: &Path, found: &Path) {
    let (expected, found) = (listing(expected), listing(found));
    assert!(!expected.is_empty(), "nothing was compared");
    for (one, other) in expected.iter().zip(&found) {
        assert_eq!(one, other, "first difference");
    }
    assert_eq!(
        expected.len(),
        found.len(),
        "one of them has more entries: {:?} / {:?}",
        expected.last(),
        found.last()
    );
}
