//! Tests of restoring.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use keephold_vault::tree::EntryKind;

use super::*;
use crate::testing::{Stored, back_up, compare, made_up, made_up_file, restore_one};

fn target(dir: &Path, existing: Existing) -> Target {
    Target::create(dir, Options { existing, sync: false, ..Options::default() }).unwrap()
}

fn link(path: &str, to: &str) -> Stored {
    made_up(path, EntryKind::Symlink(to.as_bytes().to_vec()))
}

#[test]
fn a_link_in_the_snapshot_leads_nowhere() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = target(&temp.path().join("in"), Existing::Overwrite);
    for to in [outside.to_str().unwrap(), "../outside", "."] {
        restore_one(&link("way", to), &target).unwrap();
        for bad in [
            made_up_file("way/file", b"evil"),
            made_up("way/dir", EntryKind::Directory),
            made_up("way/deep/dir", EntryKind::Directory),
            link("way/link", "x"),
            made_up("way/pipe", EntryKind::Fifo),
            made_up("other", EntryKind::HardLink(b"way/file".to_vec())),
        ] {
            let error = restore_one(&bad, &target).unwrap_err();
            assert!(matches!(error, RestoreError::NotBelow { .. }), "{error}");
        }
        assert!(matches!(
            restore_one(&made_up("way", EntryKind::Directory), &target),
            Err(RestoreError::KindDiffers { found: Kind::Symlink, .. })
        ));
    }
    target.finish().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn links_planted_in_the_target_are_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let (outside, inside) = (temp.path().join("outside"), temp.path().join("in"));
    fs::create_dir_all(inside.join("a")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("passwd"), b"precious").unwrap();
    symlink(&outside, inside.join("a/b")).unwrap();
    symlink(outside.join("passwd"), inside.join("file")).unwrap();
    let target = target(&inside, Existing::Overwrite);
    let refused = restore_one(&made_up_file("a/b/passwd", b"evil"), &target).unwrap_err();
    assert!(
        matches!(&refused, RestoreError::NotBelow { path } if path.to_string() == "a/b"),
        "{refused}"
    );
    // The link itself gives way, what it leads to doesn't.
    restore_one(&made_up_file("file", b"new"), &target).unwrap();
    assert_eq!(fs::read(outside.join("passwd")).unwrap(), b"precious");
    assert_eq!(fs::read(inside.join("file")).unwrap(), b"new");
    // A folder swapped for a link while its metadata was pending.
    restore_one(&made_up("swap", EntryKind::Directory), &target).unwrap();
    fs::remove_dir(inside.join("swap")).unwrap();
    symlink(&outside, inside.join("swap")).unwrap();
    let before = fs::metadata(&outside).unwrap().mtime();
    assert!(matches!(target.finish(), Err(RestoreError::NotBelow { .. })));
    assert_eq!(fs::metadata(&outside).unwrap().mtime(), before);
}

#[test]
fn hard_links_stay_below_the_target() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("secret"), b"s").unwrap();
    let target = target(&temp.path().join("in"), Existing::Refuse);
    for first in ["../secret", "/etc/passwd", "", "gone"] {
        let hard = made_up("h", EntryKind::HardLink(first.as_bytes().to_vec()));
        assert!(
            matches!(restore_one(&hard, &target), Err(RestoreError::LinkTarget { .. })),
            "{first}"
        );
    }
}

#[test]
fn the_policy_decides_what_gives_way() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    let entry = made_up_file("file", b"from the backup");
    fs::write(&path, b"there").unwrap();
    let refused = restore_one(&entry, &target(temp.path(), Existing::Refuse)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "'file' is already there; restore to another directory, or choose to overwrite, skip or keep newer"
    );
    assert!(!restore_one(&entry, &target(temp.path(), Existing::Skip)).unwrap());
    assert!(!restore_one(&entry, &target(temp.path(), Existing::KeepNewer)).unwrap());
    assert!(!restore_one(&link("file", "x"), &target(temp.path(), Existing::Skip)).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"there");
    let old = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    assert!(restore_one(&entry, &target(temp.path(), Existing::KeepNewer)).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"from the backup");
    assert!(restore_one(&link("file", "x"), &target(temp.path(), Existing::Overwrite)).unwrap());
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("x"));
    assert!(restore_one(&entry, &target(temp.path(), Existing::Overwrite)).unwrap());
    fs::create_dir(temp.path().join("dir")).unwrap();
    let over = restore_one(&made_up_file("dir", b""), &target(temp.path(), Existing::Overwrite));
    assert!(matches!(over, Err(RestoreError::KindDiffers { found: Kind::Directory, .. })));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "something temporary was left");
}

#[test]
fn an_unfinished_file_is_taken_away_and_too_much_data_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let target = target(temp.path(), Existing::Refuse);
    let Created::Sink(sink) = target.create_file(&made_up_file("f", b"12345").entry).unwrap()
    else {
        panic!()
    };
    assert!(matches!(sink.write_at(3, b"abc"), Err(RestoreError::BeyondEnd { size: 5, .. })));
    assert!(matches!(sink.write_at(u64::MAX, b"abc"), Err(RestoreError::BeyondEnd { .. })));
    sink.write_at(0, b"123").unwrap();
    drop(sink);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn folders_that_are_there_keep_what_they_have_unless_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).unwrap();
    xattr::set(&dir, "user.stale", b"1").unwrap();
    for (existing, mode, stale) in
        [(Existing::Refuse, 0o711, true), (Existing::Overwrite, 0o755, false)]
    {
        let target = target(temp.path(), existing);
        restore_one(&made_up("d", EntryKind::Directory), &target).unwrap();
        target.finish().unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, mode);
        assert_eq!(xattr::get(&dir, "user.stale").unwrap().is_some(), stale);
    }
}

#[test]
fn an_entry_that_comes_before_its_folder_finds_one_and_the_folder_is_finished_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let target = target(temp.path(), Existing::Refuse);
    restore_one(&made_up_file("a/b/file", b"x"), &target).unwrap();
    let snapshot = [
        made_up("a", EntryKind::Directory),
        made_up("a/b", EntryKind::Directory),
        made_up_file("a/b/file", b"x"),
    ];
    for stored in &snapshot[..2] {
        restore_one(stored, &target).unwrap();
    }
    assert_eq!(target.finish().unwrap().total(), 0);
    assert_eq!(compare(temp.path(), &snapshot), []);
}

#[test]
fn sockets_are_left_out_and_told() {
    let temp = tempfile::tempdir().unwrap();
    // This one waits for the disk, as restores do unless told otherwise.
    let target = Target::create(temp.path(), Options::default()).unwrap();
    assert_eq!(target.place(&made_up("s", EntryKind::Socket).entry).unwrap(), Placed::Left);
    let problems = target.finish().unwrap();
    assert_eq!(problems.counts.into_iter().collect::<Vec<_>>(), [(Unset::Socket, 1)]);
}

/// As an ordinary user: owners and devices can't be set, which is told, and set-id bits aren't lent to someone else.
#[test]
fn without_rights_the_rest_is_restored_and_told() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let dir = temp.path().to_owned();
    let mut program = made_up_file("program", b"#!");
    program.entry.meta.mode = 0o6755;
    let problems = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_uid(nobody).unwrap();
        let target = target(&dir, Existing::Refuse);
        restore_one(&program, &target).unwrap();
        restore_one(&made_up("null", EntryKind::CharDevice { major: 1, minor: 3 }), &target)
            .unwrap();
        target.finish().unwrap()
    })
    .join()
    .unwrap();
    let kinds: Vec<_> = problems.counts.into_iter().collect();
    assert_eq!(kinds, [(Unset::Owner, 1), (Unset::SetId, 1), (Unset::Device, 1)]);
    assert_eq!(fs::metadata(temp.path().join("program")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn paths_beyond_the_kernels_longest_are_restored() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, again) = (temp.path().join("one"), temp.path().join("two"));
    let deep = vec!["n".repeat(60); 300].join("/");
    let first = target(&dir, Existing::Refuse);
    restore_one(&made_up_file(&format!("{deep}/file"), b"deep"), &first).unwrap();
    first.finish().unwrap();
    let snapshot = back_up(&dir);
    let second = target(&again, Existing::Refuse);
    for stored in &snapshot {
        restore_one(stored, &second).unwrap();
    }
    assert_eq!(second.finish().unwrap().total(), 0);
    assert_eq!(compare(&again, &snapshot), []);
}

#[test]
fn many_threads_restore_one_tree() {
    let temp = tempfile::tempdir().unwrap();
    let mut snapshot = Vec::new();
    for d in 0..200 {
        snapshot.push(made_up(&format!("d{d:03}"), EntryKind::Directory));
        snapshot.extend(
            (0..5).map(|f| made_up_file(&format!("d{d:03}/f{f}"), format!("{d}-{f}").as_bytes())),
        );
    }
    let target = target(temp.path(), Existing::Refuse);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (target, snapshot) = (&target, &snapshot);
            scope.spawn(move || {
                for stored in snapshot.iter().skip(part).step_by(4) {
                    restore_one(stored, target).unwrap();
                }
            });
        }
    });
    assert_eq!(target.finish().unwrap().total(), 0);
    assert_eq!(compare(temp.path(), &snapshot), []);
}

#[test]
#[ignore = "a measurement: KEEPHOLD_TREE=/usr/share cargo test restore_speed -- --ignored --nocapture"]
fn restore_speed() {
    let from = PathBuf::from(std::env::var_os("KEEPHOLD_TREE").unwrap_or("/usr/share".into()));
    let begun = std::time::Instant::now();
    let snapshot = back_up(&from);
    eprintln!("{} entries read with metadata in {:?}", snapshot.len(), begun.elapsed());
    let temp = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    let target = target(temp.path(), Existing::Refuse);
    for stored in &snapshot {
        restore_one(stored, &target).unwrap();
    }
    target.finish_dirs().unwrap();
    eprintln!("restored in {:?}", begun.elapsed());
    assert_eq!(target.finish().unwrap().total(), 0);
    let begun = std::time::Instant::now();
    assert_eq!(compare(temp.path(), &snapshot), []);
    eprintln!("compared in {:?}", begun.elapsed());
}
