//! Tests of walking.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::Base;

/// Walks and gives the paths of entries and, after `!`, problems.
fn walk(base: &Path, roots: &[&str], options: &Options) -> (Vec<String>, Excluded) {
    let base = Base::open(base).unwrap();
    let roots: Vec<_> = roots.iter().map(PathBuf::from).collect();
    let mut walk = Walk::start(&base, &roots, options).unwrap();
    let mut seen = Vec::new();
    for step in &mut walk {
        seen.push(match step {
            Step::Entry(walked) => walked.path.to_string(),
            Step::Problem(problem) => {
                let path = problem.path.as_ref().map_or("/".to_owned(), ToString::to_string);
                format!("!{:?} {path}", problem.kind)
            }
        });
    }
    (seen, walk.excluded())
}

fn tree(paths: &[&str]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for path in paths {
        let full = temp.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, b"x").unwrap();
        }
    }
    temp
}

#[test]
fn parents_of_roots_come_along_and_nested_roots_are_merged() {
    let temp = tree(&["a/b/c/file", "a/b/d", "a/other", "z/inner/deep/x"]);
    let (seen, _) = walk(temp.path(), &["/a/b", "/a/b/c", "/z/inner/deep"], &Options::default());
    assert_eq!(
        seen,
        [
            "a",
            "a/b",
            "a/b/c",
            "a/b/c/file",
            "a/b/d",
            "z",
            "z/inner",
            "z/inner/deep",
            "z/inner/deep/x"
        ]
    );
    let (all, _) = walk(temp.path(), &["/", "/a/b"], &Options::default());
    assert_eq!(all.len(), 10, "{all:?}");
}

#[test]
fn missing_and_empty_roots_are_told_apart() {
    let temp = tree(&["empty/", "full/x.log", "file"]);
    let options = Options { exclude: vec!["*.log".into()], ..Options::default() };
    let (seen, excluded) = walk(
        temp.path(),
        &["/empty", "/full", "/gone/deep", "/gone/deeper", "/file/below"],
        &options,
    );
    assert_eq!(
        seen,
        [
            "empty",
            "!RootEmpty empty",
            "file",
            "!RootMissing file/below",
            "full",
            "!RootEmpty full",
            "!RootMissing gone/deep",
            "!RootMissing gone/deeper"
        ]
    );
    assert_eq!(excluded.by_pattern, 1);
}

#[test]
fn links_as_roots_and_on_the_way_are_reported() {
    let temp = tree(&["real/dir/file"]);
    symlink("real", temp.path().join("way")).unwrap();
    symlink("/real/dir", temp.path().join("end")).unwrap();
    let (seen, _) = walk(temp.path(), &["/way/dir", "/end"], &Options::default());
    assert_eq!(
        seen,
        [
            "end",
            "!RootIsLink end",
            "real",
            "real/dir",
            "real/dir/file",
            "way",
            "!RootThroughLink way"
        ]
    );
}

#[test]
fn patterns_leave_out_but_never_a_root() {
    let temp = tree(&["r/a.log", "r/keep/in.log", "r/cache/x", "r/cache/kept/y", "r/sub/cache/z"]);
    let options =
        Options { exclude: vec!["*.log".into(), "/r/cache".into()], ..Options::default() };
    let (seen, excluded) = walk(temp.path(), &["/r", "/r/cache/kept"], &options);
    assert_eq!(
        seen,
        [
            "r",
            "r/cache",
            "r/cache/kept",
            "r/cache/kept/y",
            "r/keep",
            "r/sub",
            "r/sub/cache",
            "r/sub/cache/z"
        ]
    );
    assert_eq!(excluded.by_pattern, 2);
}

#[test]
fn files_of_patterns_are_read_and_mistakes_stop_the_walk() {
    let temp = tree(&["r/a.log", "r/b", "r/c"]);
    let file = temp.path().join("patterns");
    fs::write(&file, "# what to leave out\n*.log\n\n/c\n").unwrap();
    let options = Options { exclude_files: vec![file.clone()], ..Options::default() };
    assert_eq!(walk(temp.path(), &["/r"], &options).0, ["r", "r/b"]);

    let base = Base::open(temp.path()).unwrap();
    let start = |roots: &[&str], options: &Options| {
        let roots: Vec<_> = roots.iter().map(PathBuf::from).collect();
        Walk::start(&base, &roots, options).err()
    };
    fs::write(&file, b"\xff").unwrap();
    assert!(matches!(start(&["/r"], &options), Some(WalkError::PatternFile { .. })));
    fs::remove_file(&file).unwrap();
    assert!(matches!(start(&["/r"], &options), Some(WalkError::PatternFile { .. })));
    let bad = Options { exclude: vec!["a[".into()], ..Options::default() };
    assert!(matches!(start(&["/r"], &bad), Some(WalkError::Pattern { .. })));
    assert!(matches!(start(&["r"], &Options::default()), Some(WalkError::BadRoot { .. })));
    assert!(matches!(start(&["/r/../x"], &Options::default()), Some(WalkError::BadRoot { .. })));
    assert!(matches!(start(&[], &Options::default()), Some(WalkError::NoRoot)));
}

#[test]
fn tagged_caches_and_marked_folders_keep_only_their_mark() {
    let temp =
        tree(&["c/data", "c/sub/x", "fake/CACHEDIR.TAG", "fake/data", "m/.nobackup", "m/data"]);
    fs::write(
        temp.path().join("c/CACHEDIR.TAG"),
        b"Signature: 8a477f597d28d172789f06886806bc55\n# more",
    )
    .unwrap();
    let options = Options {
        exclude_caches: true,
        exclude_if_present: vec![".nobackup".into()],
        ..Options::default()
    };
    let (seen, excluded) = walk(temp.path(), &["/"], &options);
    assert_eq!(
        seen,
        ["c", "c/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/data", "m", "m/.nobackup"]
    );
    assert_eq!((excluded.by_cache_tag, excluded.by_marker), (2, 1));
}

#[test]
fn a_folder_that_cannot_be_read_is_a_problem_and_the_rest_goes_on() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = tree(&["a/closed/x", "a/open/y"]);
    fs::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(
        temp.path().join("a/closed"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let path = temp.path().to_owned();
    // Only this thread becomes nobody (in the kernel, ids belong to threads); the walk does without helpers.
    let seen = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_uid(nobody).unwrap();
        walk(&path, &["/"], &Options::default()).0
    });
    assert_eq!(seen.join().unwrap(), ["a", "a/closed", "!Denied a/closed", "a/open", "a/open/y"]);
}

#[test]
fn another_file_system_is_not_entered() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let temp = tree(&["r/here", "r/mnt/"]);
    let at = temp.path().join("r/mnt");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&at)
        .status()
        .unwrap();
    assert!(mounted.success(), "a tmpfs can't be mounted, so this can't be tested here");
    fs::write(at.join("there"), b"x").unwrap();
    let within = Options { one_file_system: true, ..Options::default() };
    let stays = walk(temp.path(), &["/r"], &within);
    let named = walk(temp.path(), &["/r", "/r/mnt"], &within).0;
    let enters = walk(temp.path(), &["/r"], &Options::default()).0;
    assert!(std::process::Command::new("umount").arg(&at).status().unwrap().success());
    assert_eq!(stays.0, ["r", "r/here", "r/mnt"]);
    assert_eq!(stays.1.other_file_systems, 1);
    assert_eq!(named, ["r", "r/here", "r/mnt", "r/mnt/there"]);
    assert_eq!(enters, named);
}

#[test]
fn the_hosts_pseudo_file_systems_are_skipped_with_a_note() {
    let everything_else = ["/*", "!/proc", "!/sys", "!/dev"].map(str::to_owned).to_vec();
    let options = Options { exclude: everything_else, ..Options::default() };
    let (seen, _) = walk(Path::new("/"), &["/"], &options);
    assert_eq!(
        seen,
        ["dev", "!PseudoSkipped dev", "proc", "!PseudoSkipped proc", "sys", "!PseudoSkipped sys"]
    );
}

fn deep(length: usize) -> tempfile::TempDir {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let temp = tempfile::tempdir().unwrap();
    let name = "n".repeat(length);
    let mut here = rustix::fs::open(temp.path(), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..300 {
        mkdirat(&here, name.as_str(), Mode::RWXU).unwrap();
        here = openat(&here, name.as_str(), OFlags::PATH, Mode::empty()).unwrap();
    }
    temp
}

#[test]
fn trees_deeper_than_the_kernels_longest_path_are_walked() {
    let temp = deep(60);
    let (seen, _) = walk(temp.path(), &["/"], &Options::default());
    assert_eq!(seen.len(), 300);
    assert_eq!(seen[299].len(), 300 * 61 - 1);
}

#[test]
fn what_is_deeper_than_a_snapshot_takes_is_told() {
    let temp = deep(255);
    let (seen, _) = walk(temp.path(), &["/"], &Options::default());
    let (problem, entries) = seen.split_last().unwrap();
    assert_eq!(entries.len(), 256);
    assert!(problem.starts_with("!TooDeep nnn"));
}

#[test]
fn a_window_of_one_still_walks_it_all() {
    let names: Vec<String> = (0..40).map(|i| format!("d{}/e{}/f{i}", i % 7, i % 3)).collect();
    let temp = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let narrow = Options { window: 1, threads: 4, ..Options::default() };
    let lone = Options { threads: 1, ..Options::default() };
    assert_eq!(walk(temp.path(), &["/"], &narrow), walk(temp.path(), &["/"], &lone));
}

/// Folders that come and go under the walk's feet: problems at most, and the order holds.
#[test]
fn vanishing_folders_do_no_harm() {
    let temp = tree(&["a/x", "z/y"]);
    let busy = temp.path().join("m");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let churn = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            fs::create_dir_all(busy.join("n/o")).unwrap();
            fs::remove_dir_all(&busy).unwrap();
        }
    });
    for _ in 0..200 {
        let (seen, _) = walk(temp.path(), &["/"], &Options::default());
        let fixed: Vec<_> = seen.iter().filter(|s| !s.contains('m')).map(String::as_str).collect();
        assert_eq!(fixed, ["a", "a/x", "z", "z/y"]);
        assert!(seen.iter().all(|s| !s.starts_with('!') || s.starts_with("!Vanished")), "{seen:?}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    churn.join().unwrap();
}

#[test]
#[ignore = "a measurement: KEEPHOLD_WALK=/usr cargo test walk_speed -- --ignored --nocapture"]
fn walk_speed() {
    let root = PathBuf::from(std::env::var_os("KEEPHOLD_WALK").unwrap_or("/usr".into()));
    for _ in 0..5 {
        let begun = std::time::Instant::now();
        let count =
            Walk::start(&Base::host().unwrap(), std::slice::from_ref(&root), &Options::default())
                .unwrap()
                .count();
        eprintln!("{count} entries in {:?}", begun.elapsed());
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        Just(b'a'),
        Just(b'b'),
        Just(b'-'),
        Just(b'.'),
        Just(b'0'),
        Just(b'\n'),
        Just(0xff),
        Just(b'!')
    ];
    prop::collection::vec(bytes, 1..4).prop_filter("no dots", |name| name != b"." && name != b"..")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn entries_come_in_the_order_of_paths(paths in prop::collection::vec(prop::collection::vec(name(), 1..5), 0..40)) {
        let temp = tempfile::tempdir().unwrap();
        for path in &paths {
            let relative = path.join(&b'/');
            // A name that is already there as something else is just not made.
            let _ = fs::create_dir_all(temp.path().join(std::ffi::OsStr::from_bytes(&relative)));
        }
        let mut expected = std::collections::BTreeSet::new();
        for path in &paths {
            for depth in 1..=path.len() {
                expected.insert(TreePath::new(path[..depth].join(&b'/')).unwrap());
            }
        }
        let base = Base::open(temp.path()).unwrap();
        let walked: Vec<_> = Walk::start(&base, &["/".into()], &Options::default()).unwrap()
            .filter_map(|step| match step { Step::Entry(walked) => Some(walked.path), Step::Problem(_) => None })
            .collect();
        prop_assert_eq!(walked, expected.into_iter().collect::<Vec<_>>());
    }
}
