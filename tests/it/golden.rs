//! A vault that was written once stays readable for ever: by Keephold, by its verifier, and without either.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::support::program::{Program, binary};
use crate::support::{Place, Site, need_root, tree, verify};

/// The golden vault, and what is known of it. `tests/fixtures/make` made it, once.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vault-v1").join(name)
}

/// A command that is told where the golden vault is; `home` is a scratch folder.
fn program(name: &str, home: &Path, arguments: &[&str]) -> Program {
    let url = format!("file://{}", golden("vault").display());
    Program::new(binary(name), home).args(arguments).args(["--vault", &url, "--lock", "none"])
}

fn keephold(home: &Path, arguments: &[&str]) -> Program {
    program("keephold", home, arguments)
        .arg("--identity")
        .arg(golden("restore.agekey"))
        .arg("--signers")
        .arg(golden("signing_key.pub"))
        .arg("--fingerprint")
        .arg(fs::read_to_string(golden("vault.fingerprint")).unwrap().trim())
}

/// What `tests/fixtures/listing.py` sees in a folder.
fn listing(folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/listing.py");
    let output =
        Command::new("python3").arg(script).arg(folder).output().expect("apt-get install python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn its_snapshots_come_back_as_they_were() {
    need_root("to restore owners");
    let scratch = tempfile::tempdir().unwrap();
    let listed = keephold(scratch.path(), &["snapshots", "--json"]).run().ok().lines();
    assert_eq!(listed.len(), 3);
    for number in ["1", "2"] {
        let (snapshot, to) = (format!("golden/files@{number}"), scratch.path().join(number));
        keephold(scratch.path(), &["restore", &snapshot]).arg("--target").arg(&to).run().ok();
        let expected = fs::read_to_string(golden(&format!("files-{number}.txt"))).unwrap();
        assert_eq!(listing(&to.join("tmp/keephold-golden/source")), expected, "snapshot {number}");
    }
    let dump = keephold(scratch.path(), &["dump", "golden/main", "shop"]).run().ok();
    let expected = fs::read_to_string(golden("shop.sha256")).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&dump.bytes)), expected.trim());
}

#[test]
fn its_verification_finds_nothing_but_that_it_is_not_locked() {
    let scratch = tempfile::tempdir().unwrap();
    let conf = scratch.path().join("conf");
    Program::new(binary("keephold-verify"), scratch.path())
        .args(["init", "--dir"])
        .arg(&conf)
        .run()
        .ok();
    let report = program("keephold-verify", scratch.path(), &["run", "--json"])
        .arg("--identity")
        .arg(golden("verifier.agekey"))
        .arg("--signers")
        .arg(golden("signing_key.pub"))
        .arg("--fingerprint")
        .arg(fs::read_to_string(golden("vault.fingerprint")).unwrap().trim())
        .arg("--report-key")
        .arg(conf.join("report_key"))
        .arg("--out")
        .arg(scratch.path().join("reports"))
        .arg("--scratch")
        .arg(scratch.path().join("tmp"))
        .run()
        .exits(3)
        .json();
    assert_eq!(verify::codes(&report), ["KH-LOCK-007"]);
    assert_eq!(report["restore_tests"].as_array().unwrap().len(), 2);
}

/// The reader in Python, written from docs/FORMAT.md alone.
pub(crate) fn second_reader(vault: &Path, identity: &Path, signers: &Path, to: &Path, job: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("second-reader/run");
    let cache = std::env::var_os("KEEPHOLD_CACHE_DIR").map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default())
                .join(".cache/keephold-tests")
        },
        PathBuf::from,
    );
    let output = Command::new(script)
        .arg(vault)
        .arg(identity)
        .arg(to)
        .arg("--signers")
        .arg(signers)
        .args(["--job", job])
        .env("KEEPHOLD_READER_VENV", cache.join("second-reader"))
        .output()
        .expect("tests/second-reader/run starts");
    assert!(
        output.status.success(),
        "the second reader failed; it makes its Python environment from PyPI (python3-venv is needed):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The reader wants to be told which host a key may sign for.
pub(crate) fn signers_for(host: &str, key: &Path, at: &Path) {
    fs::write(at, format!("{host} {}", fs::read_to_string(key).unwrap())).unwrap();
}

/// What the second reader brings back: names, contents, links, modes, and times of what isn't a link. It leaves owners,
/// attributes, devices and fifos.
fn plain(listing: &str) -> Vec<String> {
    let lines =
        listing.lines().filter(|line| !line.contains(": fifo;") && !line.contains(": device;"));
    lines
        .map(|line| {
            let (what, meta) = line.rsplit_once("; ").unwrap();
            let fields: Vec<_> = meta.split(' ').collect();
            let time = if what.contains(": -> ") { "" } else { fields[2] };
            format!("{what}; {} {time}", fields[0])
        })
        .collect()
}

#[test]
fn a_second_reader_restores_it_and_a_vault_made_now_without_keephold() {
    let scratch = tempfile::tempdir().unwrap();
    let signers = scratch.path().join("signers");
    signers_for("golden", &golden("signing_key.pub"), &signers);
    let to = scratch.path().join("golden");
    second_reader(&golden("vault"), &golden("restore.agekey"), &signers, &to, "golden/files");
    let expected = fs::read_to_string(golden("files-2.txt")).unwrap();
    assert_eq!(plain(&listing(&to.join("tmp/keephold-golden/source"))), plain(&expected));

    let site = Site::new(Place::Local);
    tree::odd(&site.source());
    site.backs_up();
    fs::write(site.source().join("etc/hosts"), "changed since\n").unwrap();
    site.backs_up();
    signers_for("web1", &site.path("keys/signing_key.pub"), &signers);
    second_reader(
        &site.path("vault"),
        &site.identity(),
        &signers,
        &site.path("back"),
        "web1/files",
    );
    assert_eq!(plain(&listing(&site.restored("back"))), plain(&listing(&site.source())));
}
