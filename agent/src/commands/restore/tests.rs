//! Restores of vaults made by hand into real directories.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use clap::Parser;
use keephold_vault::content::Extent;
use keephold_vault::pack::BlobKind;
use keephold_vault::testing::{VaultMaker, content_hash, entry, noise};

use super::*;
use crate::reading::testing::opened;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: RestoreArgs,
}

async fn restored(maker: &VaultMaker, dir: &Path, options: &[&str]) -> Result<(Exit, String)> {
    let dir = dir.to_str().unwrap();
    let cli = Cli::parse_from(
        ["restore", "latest", "--no-owners", "--target", dir].iter().chain(options),
    );
    let mut out = Vec::new();
    let exit = run(&cli.args, &opened(maker).await, false, &mut out).await?;
    Ok((exit, String::from_utf8(out)?))
}

async fn vault() -> VaultMaker {
    let mut maker = VaultMaker::new().await.unwrap();
    let big = maker.content(&noise(1, 2_000_000)).await.unwrap();
    let small = maker.content(b"127.0.0.1 localhost\n").await.unwrap();
    let id = maker.blob(BlobKind::Data, b"end").await.unwrap();
    let extents = vec![Extent::Hole { length: 1 << 30 }, Extent::Blob { id, length: 3 }];
    let sparse = maker.content_of(extents, Some(content_hash(b"end"))).await.unwrap();
    let entries = vec![
        entry("etc", EntryKind::Directory).unwrap(),
        entry("etc/hosts", EntryKind::File(small)).unwrap(),
        entry("etc/link", EntryKind::Symlink(b"/elsewhere".to_vec())).unwrap(),
        entry("srv/big", EntryKind::File(big)).unwrap(),
        entry("srv/name", EntryKind::HardLink(b"srv/big".to_vec())).unwrap(),
        entry("srv/sparse", EntryKind::File(sparse)).unwrap(),
    ];
    maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
    maker
}

#[tokio::test]
async fn a_snapshot_comes_back_as_it_was() {
    let (maker, temp) = (vault().await, tempfile::tempdir().unwrap());
    let (exit, text) = restored(&maker, temp.path(), &[]).await.unwrap();
    assert_eq!(exit, Exit::Done, "{text}");
    assert!(text.starts_with("restored 6 entries with 1.91 MiB of data to "), "{text}");
    let at = |path: &str| temp.path().join(path);
    assert!(std::fs::read(at("srv/big")).unwrap() == noise(1, 2_000_000));
    assert_eq!(std::fs::read(at("etc/hosts")).unwrap(), b"127.0.0.1 localhost\n");
    assert_eq!(std::fs::read_link(at("etc/link")).unwrap(), Path::new("/elsewhere"));
    let (big, name) =
        (std::fs::metadata(at("srv/big")).unwrap(), std::fs::metadata(at("srv/name")).unwrap());
    assert_eq!((big.ino(), big.nlink()), (name.ino(), 2));
    let sparse = std::fs::metadata(at("srv/sparse")).unwrap();
    assert!(sparse.len() == (1 << 30) + 3 && sparse.blocks() < 1000);
    let dir = std::fs::metadata(at("etc")).unwrap();
    assert_eq!((dir.mtime(), dir.mode() & 0o7777), (1_795_000_000, 0o755));
}

#[tokio::test]
async fn what_is_there_stays_unless_told_otherwise() {
    let (maker, temp) = (vault().await, tempfile::tempdir().unwrap());
    let hosts = temp.path().join("etc/hosts");
    std::fs::create_dir(temp.path().join("etc")).unwrap();
    std::fs::write(&hosts, b"mine").unwrap();
    let (exit, text) = restored(&maker, temp.path(), &["etc/hosts"]).await.unwrap();
    assert!(exit == Exit::Failed && text.contains("1 entry COULD NOT BE RESTORED"), "{text}");
    let (exit, _) = restored(&maker, temp.path(), &["etc/hosts", "--skip-existing"]).await.unwrap();
    assert_eq!((exit, std::fs::read(&hosts).unwrap().as_slice()), (Exit::Done, &b"mine"[..]));
    let (exit, _) = restored(&maker, temp.path(), &["/etc/hosts/", "--overwrite"]).await.unwrap();
    assert_eq!((exit, std::fs::read(&hosts).unwrap().len()), (Exit::Done, 20));
    assert!(!temp.path().join("srv").exists());
}

#[tokio::test]
async fn nothing_is_written_through_links_in_the_target() {
    let (maker, temp) = (vault().await, tempfile::tempdir().unwrap());
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), temp.path().join("etc")).unwrap();
    let (exit, _) = restored(&maker, temp.path(), &[]).await.unwrap();
    assert_eq!(exit, Exit::Failed);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(temp.path().join("srv/big").exists());
}

#[tokio::test]
async fn damage_is_told_and_spares_the_rest() {
    let (maker, temp) = (vault().await, tempfile::tempdir().unwrap());
    maker.store.rot(&maker.packs()[0], |bytes| bytes[1_000] ^= 1);
    let (exit, text) = restored(&maker, temp.path(), &[]).await.unwrap();
    assert_eq!(exit, Exit::Failed, "{text}");
    assert!(!temp.path().join("srv/big").exists());
    assert!(temp.path().join("etc/link").is_symlink());
}

#[tokio::test]
async fn a_dry_run_lists_and_writes_nothing() {
    let (maker, temp) = (vault().await, tempfile::tempdir().unwrap());
    let target = temp.path().join("new");
    let (_, text) = restored(&maker, &target, &["--dry-run", "srv", "etc/hosts"]).await.unwrap();
    insta::assert_snapshot!("dry_run", text);
    assert!(!target.exists());
    let error = restored(&maker, &target, &["srv/none"]).await.unwrap_err();
    assert_eq!(error.to_string(), "'srv/none' is not in the snapshot");
}
