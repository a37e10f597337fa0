//! The local folder against the suite that every store must pass, and what only a folder can meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(unreachable_pub)]
mod store_suite;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use keephold_vault::store::{
    LockMode, LockPolicy, Prefix, Prune, StoreError, Strength, TargetOptions, TargetUrl,
    create_target, open_prune, open_store,
};
use store_suite::{Target, in_hours, key, listed};

const NO_ENV: &(dyn Fn(&str) -> Option<String> + Send + Sync) = &|_| None;

/// A folder for a vault, whose immutable files are freed and removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap().keep())
    }

    fn open(&self, lock: LockPolicy) -> Arc<dyn Prune> {
        let options = TargetOptions { lock, ..Default::default() };
        open_prune(&TargetUrl::Local { path: self.0.clone() }, &options, NO_ENV).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        free(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            free(&entry.path());
        } else if kind.is_file() {
            set_immutable(&entry.path(), false);
        }
    }
}

fn set_immutable(path: &Path, on: bool) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let file = fs::File::open(path).unwrap();
    if let Ok(mut flags) = ioctl_getflags(&file) {
        flags.set(IFlags::IMMUTABLE, on);
        let _ = ioctl_setflags(&file, flags);
    }
}

fn is_immutable(path: &Path) -> bool {
    use rustix::fs::{IFlags, ioctl_getflags};
    ioctl_getflags(fs::File::open(path).unwrap()).is_ok_and(|f| f.contains(IFlags::IMMUTABLE))
}

/// What this machine allows: the suite runs either way, and the strength must match.
fn can_be_immutable(folder: &Folder) -> bool {
    let probe = folder.0.join("probe");
    fs::write(&probe, "").unwrap();
    set_immutable(&probe, true);
    let can = is_immutable(&probe);
    set_immutable(&probe, false);
    fs::remove_file(&probe).unwrap();
    can
}

#[tokio::test]
async fn a_locked_folder_conforms() {
    let folder = Folder::new();
    let (mode, strength) = if can_be_immutable(&folder) {
        (LockMode::ImmutableFile, Strength::ImmutableFile)
    } else {
        (LockMode::Advisory, Strength::Advisory)
    };
    let store = folder.open(LockPolicy::Compliance);
    let target = Target {
        lock: Some(mode),
        strength,
        versions: false,
        keeps: false,
        exclusive: true,
        many: 64,
    };
    store_suite::run(store.as_ref(), target).await;
    assert!(
        fs::read_dir(folder.0.join(".tmp")).unwrap().next().is_none(),
        "no temporary file stays"
    );
}

#[tokio::test]
async fn a_folder_without_locks_conforms() {
    let folder = Folder::new();
    let store = folder.open(LockPolicy::None);
    let target = Target {
        lock: None,
        strength: Strength::None,
        versions: false,
        keeps: false,
        exclusive: true,
        many: 64,
    };
    store_suite::run(store.as_ref(), target).await;
    assert!(!folder.0.join(".locks").exists());
}

/// Without the right to set the attribute the vault must say 'advisory', and still keep to its locks.
#[tokio::test]
async fn without_the_attribute_locks_are_advisory() {
    // Only this thread, and the ones it starts, which are all that this test's runtime uses.
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut held = capabilities(None).unwrap();
    held.effective.remove(CapabilitySet::LINUX_IMMUTABLE);
    held.permitted.remove(CapabilitySet::LINUX_IMMUTABLE);
    set_capabilities(None, held).unwrap();

    let folder = Folder::new();
    assert!(!can_be_immutable(&folder));
    let store = folder.open(LockPolicy::Compliance);
    let target = Target {
        lock: Some(LockMode::Advisory),
        strength: Strength::Advisory,
        versions: false,
        keeps: false,
        exclusive: true,
        many: 16,
    };
    store_suite::run(store.as_ref(), target).await;
    let notes = store.protection().await.unwrap().notes.join(" ");
    assert!(notes.contains("CAP_LINUX_IMMUTABLE"), "{notes}");
}

#[tokio::test]
async fn objects_are_read_only_and_immutable_and_come_free_after_their_lock() {
    let folder = Folder::new();
    let store = folder.open(LockPolicy::Governance);
    let k = key("packs/ab/x");
    store.put(&k, Bytes::from_static(b"x"), store_suite::in_seconds(2)).await.unwrap();
    let path = folder.0.join("packs/ab/x");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    if can_be_immutable(&folder) {
        assert!(is_immutable(&path));
        assert!(fs::remove_file(&path).is_err(), "not even root can remove it as it is");
        assert!(fs::write(&path, "y").is_err());
    }
    // Even a lock file that was tampered with never frees an object early.
    let lock = folder.0.join(".locks/packs/ab/x");
    fs::remove_file(&lock).unwrap();
    fs::write(&lock, "nonsense").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(matches!(store.delete(&k, None).await.unwrap_err(), StoreError::Locked { .. }));
    fs::write(&lock, "2020-01-01T00:00:00Z\n").unwrap();
    store.delete(&k, None).await.unwrap();
    assert!(!path.exists() && !lock.exists());
}

#[tokio::test]
async fn links_are_never_followed() {
    let (folder, outside) = (Folder::new(), Folder::new());
    fs::write(outside.0.join("secret"), "secret").unwrap();
    let store = folder.open(LockPolicy::None);
    symlink(&outside.0, folder.0.join("packs")).unwrap();
    fs::create_dir(folder.0.join("runs")).unwrap();
    symlink(outside.0.join("secret"), folder.0.join("runs/a")).unwrap();
    for k in ["packs/secret", "runs/a"] {
        let error = store.get(&key(k), None, 100).await.unwrap_err();
        assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
        let error = store.put(&key(k), Bytes::from_static(b"new"), in_hours(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
        assert!(store.delete(&key(k), None).await.is_err());
    }
    assert!(listed(store.as_ref(), &Prefix::all()).await.is_empty());
    assert_eq!(fs::read_to_string(outside.0.join("secret")).unwrap(), "secret");
}

#[tokio::test]
async fn leftovers_are_removed_only_when_old() {
    let folder = Folder::new();
    let tmp = folder.0.join(".tmp");
    fs::create_dir(&tmp).unwrap();
    fs::write(tmp.join("old"), "").unwrap();
    fs::write(tmp.join("new"), "").unwrap();
    let day_and_more = std::time::SystemTime::now() - std::time::Duration::from_secs(90_000);
    fs::File::options()
        .write(true)
        .open(tmp.join("old"))
        .unwrap()
        .set_modified(day_and_more)
        .unwrap();
    set_immutable(&tmp.join("old"), true);
    folder.open(LockPolicy::None);
    assert!(!tmp.join("old").exists());
    assert!(tmp.join("new").exists());
}

#[tokio::test]
async fn a_missing_folder_is_named_and_made_only_on_purpose() {
    let folder = Folder::new();
    let url = TargetUrl::Local { path: folder.0.join("a/b") };
    let options = TargetOptions::default();
    let error = open_store(&url, &options, NO_ENV).unwrap_err();
    assert!(matches!(error, StoreError::NoTarget { .. }), "{error:?}");
    create_target(&url, &options, NO_ENV).await.unwrap();
    create_target(&url, &options, NO_ENV).await.unwrap();
    let store = open_store(&url, &options, NO_ENV).unwrap();
    assert!(store.url().ends_with("/a/b"));
    fs::write(folder.0.join("file"), "").unwrap();
    let error = open_store(&TargetUrl::Local { path: folder.0.join("file") }, &options, NO_ENV)
        .unwrap_err();
    assert!(error.to_string().contains("not a folder"), "{error}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let folder = Folder::new();
    let small = folder.0.join("small");
    fs::create_dir(&small).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status();
    assert!(
        mounted.is_ok_and(|s| s.success()),
        "a small tmpfs could not be mounted: run this test as root (tests/run does)"
    );
    let outcome = tokio::spawn(fill(small.clone())).await;
    assert!(Command::new("umount").arg("-l").arg(&small).status().unwrap().success());
    outcome.unwrap();
}

async fn fill(path: PathBuf) {
    let store =
        open_prune(&TargetUrl::Local { path: path.clone() }, &TargetOptions::default(), NO_ENV)
            .unwrap();
    store.put(&key("packs/aa/fits"), vec![1; 300_000].into(), in_hours(1)).await.unwrap();
    let error = store
        .put(&key("packs/aa/large"), vec![2; 2_000_000].into(), in_hours(1))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    let names: Vec<_> = listed(store.as_ref(), &Prefix::packs())
        .await
        .into_iter()
        .map(|o| o.key.to_string())
        .collect();
    assert_eq!(names, ["packs/aa/fits"]);
    assert!(!path.join(".locks/packs/aa/large").exists());
    assert!(fs::read_dir(path.join(".tmp")).unwrap().next().is_none());
    assert_eq!(store.get(&key("packs/aa/fits"), None, 300_000).await.unwrap().len(), 300_000);
    // What fits still goes in.
    store.put(&key("packs/aa/small"), vec![3; 100_000].into(), in_hours(1)).await.unwrap();
    free(&path);
}

#[tokio::test]
async fn racing_writers_agree() {
    let folder = Folder::new();
    let store = folder.open(LockPolicy::Compliance);
    let until = in_hours(5);
    let same = futures::future::join_all((0..8).map(|i| {
        let hours = if i == 3 { until } else { in_hours(1) };
        let store = &store;
        async move { store.put(&key("packs/ab/same"), vec![7; 100_000].into(), hours).await }
    }))
    .await;
    assert!(same.iter().all(Result::is_ok), "{same:?}");
    let held = store.retention(&key("packs/ab/same"), None).await.unwrap().unwrap();
    assert_eq!(held.until, until, "the longest lock wins");
    let different = futures::future::join_all((0..8_u8).map(|i| {
        let store = &store;
        async move { store.put(&key("packs/ab/other"), vec![i; 1000].into(), in_hours(1)).await }
    }))
    .await;
    assert_eq!(different.iter().filter(|r| r.is_ok()).count(), 1, "{different:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruner_never_takes_what_a_writer_was_just_told_is_locked() {
    let folder = Folder::new();
    // Two programs: neither knows of the other.
    let (writer, pruner) =
        (folder.open(LockPolicy::Compliance), folder.open(LockPolicy::Compliance));
    let (mut extended, mut deleted) = (0, 0);
    for n in 0..400 {
        let object = key(&format!("packs/race-{n}"));
        writer.put(&object, Bytes::from("contents"), in_hours(-1)).await.unwrap();
        let (store, what) = (Arc::clone(&writer), object.clone());
        let extend = tokio::spawn(async move { store.extend(&what, None, in_hours(1)).await });
        let (store, what) = (Arc::clone(&pruner), object.clone());
        let delete = tokio::spawn(async move { store.delete(&what, None).await });
        match (extend.await.unwrap(), delete.await.unwrap()) {
            (Ok(_), Err(StoreError::Locked { .. })) => {
                extended += 1;
                assert!(writer.get(&object, None, 100).await.is_ok());
            }
            (Err(StoreError::NotFound { .. }), Ok(())) => {
                deleted += 1;
                assert!(writer.retention(&object, None).await.is_err());
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(extended > 0 && deleted > 0, "they never met: {extended} {deleted}");
}
