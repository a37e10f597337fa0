//! A copy at another target: made without a key, locked by itself, whole at every moment, and enough to restore from.

use std::path::Path;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::program::{Program, binary};
use crate::support::s3::{self, Object};
use crate::support::site::{meddle, unlock};
use crate::support::{Place, Site, tree};

/// Files beneath a folder, by path below it; what begins with a dot (locks) is left out.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let found = std::process::Command::new("find")
        .arg(folder)
        .args(["-type", "f", "-not", "-path", "*/.*", "-printf", "%P\n"])
        .output()
        .unwrap();
    let mut files: Vec<_> =
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    files.sort();
    files
}

/// `keephold replicate` of a local vault to `copy`, on a machine without any key.
fn replicate(site: &Site) -> Program {
    let home = site.path("replicator");
    std::fs::create_dir_all(&home).unwrap();
    let copy = format!("file://{}", site.path("copy").display());
    Program::new(binary("keephold"), &home).args([
        "replicate",
        "--json",
        "--from",
        &site.url,
        "--to",
        &copy,
    ])
}

/// A local vault with two snapshots, and a folder for the copy.
fn local() -> Site {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    site.backs_up();
    std::fs::write(site.source().join("more"), vec![7; 300_000]).unwrap();
    site.backs_up();
    std::fs::create_dir(site.path("copy")).unwrap();
    site
}

/// Restores the newest snapshot of the copy alone, and holds it against the source.
fn restores(site: &Site, target: &[&str], name: &str) {
    let home = site.path("elsewhere");
    std::fs::create_dir_all(&home).unwrap();
    let to = site.path(name);
    Program::new(binary("keephold"), &home)
        .args(["restore", "latest", "--identity"])
        .arg(site.identity())
        .args(target)
        .arg("--target")
        .arg(&to)
        .run()
        .ok();
    let restored = to.join(site.source().strip_prefix("/").unwrap());
    tree::same(&site.source(), &restored);
}

#[test]
fn a_copy_holds_the_same_objects_and_restores_alone() {
    let site = local();
    let first = replicate(&site).run().ok().json();
    assert_eq!((&first["records_copied"], &first["held_back"]), (&2.into(), &0.into()));
    assert_eq!(files(&site.path("copy")), files(&site.path("vault")));
    let again = replicate(&site).run().ok().json();
    assert_eq!(again["objects_written"], 0);
    assert_eq!(again["locks_compared"], false);
    // The next run adds its own objects only.
    std::fs::write(site.source().join("third"), vec![9; 100_000]).unwrap();
    site.backs_up();
    let more = replicate(&site).run().ok().json();
    assert_eq!((&more["records_copied"], &more["locks_compared"]), (&1.into(), &true.into()));
    // The dead host takes its vault with it.
    unlock(&site.path("vault"));
    std::fs::remove_dir_all(site.path("vault")).unwrap();
    let copy = format!("file://{}", site.path("copy").display());
    restores(&site, &["--vault", &copy], "restored");
}

#[test]
fn a_damaged_pack_is_named_and_not_copied() {
    let site = local();
    let pack = site.keys("packs/").remove(0);
    meddle(&site.path("vault").join(&pack), |bytes| bytes[500] ^= 1);
    let done = replicate(&site).run().exits(3).json();
    assert_eq!(done["damaged"][0]["key"], pack.as_str());
    assert!(!site.path("copy").join(&pack).exists());
    assert_eq!(done["records_copied"], 2);
}

#[test]
fn killed_at_any_time_the_copy_is_whole_and_the_next_run_goes_on() {
    let site = local();
    // Enough small packs that a kill falls between them.
    for n in 0..6_u8 {
        let noise = tree::noise(n.into(), 3_000_000);
        std::fs::write(site.source().join(format!("big-{n}")), noise).unwrap();
        site.backs_up();
    }
    let mut kills = 0;
    for pause in [5, 15, 30, 60, 120, 240] {
        let run = replicate(&site).start();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        run.signal(Signal::KILL);
        kills += usize::from(run.wait().code.is_none());
        // A record is there only with everything that it needs: whatever is shown can be restored.
        if !files(&site.path("copy/runs")).is_empty() {
            let copy = format!("file://{}", site.path("copy").display());
            let home = site.path("elsewhere");
            std::fs::create_dir_all(&home).unwrap();
            Program::new(binary("keephold"), &home)
                .args(["restore", "latest", "--vault", &copy, "--identity"])
                .arg(site.identity())
                .arg("--target")
                .arg(site.path(&format!("restored-{pause}")))
                .run()
                .ok();
        }
    }
    assert!(kills > 0, "no run was killed");
    replicate(&site).run().ok();
    assert_eq!(files(&site.path("copy")), files(&site.path("vault")));
}

#[test]
fn another_vault_and_mistakes_are_refused() {
    let site = local();
    let other = Site::new(Place::Local);
    let before = other.stored();
    let home = site.path("replicator");
    std::fs::create_dir_all(&home).unwrap();
    let command = |arguments: &[&str]| {
        Program::new(binary("keephold"), &home).arg("replicate").args(arguments).run()
    };
    let refused = command(&["--from", &site.url, "--to", &other.url]).exits(1);
    assert!(refused.stderr.contains("belongs to vault"), "{}", refused.stderr);
    assert_eq!(other.stored(), before);
    let refused = command(&["--from", &site.url, "--to", &site.url]).exits(2);
    assert!(refused.stderr.contains("copy of itself"), "{}", refused.stderr);
    let missing = format!("file://{}", site.path("nowhere").display());
    let refused = command(&["--from", &site.url, "--to", &missing]).exits(1);
    assert!(refused.stderr.contains("does not exist"), "{}", refused.stderr);
}

/// A configuration whose source is on Ceph and whose copy is on LocalStack, each with a credential of its own.
fn across(site: &Site, bucket: &str, endpoint: &str) -> Program {
    let config = site.path("replicate.toml");
    let text = format!(
        "[vault]\nurl = '{}'\nendpoint = '{}'\n{}\
         [[replica]]\nname = 'far'\nurl = 's3://{bucket}/copy'\nendpoint = '{endpoint}'\nretry_s = 2\n{}lock = 'compliance'\n",
        site.url,
        Place::Ceph.endpoint(),
        site.credential_lines(Place::Ceph, ""),
        site.credential_lines(Place::LocalStack, "")
    );
    std::fs::write(&config, text).unwrap();
    let home = site.path("replicator");
    std::fs::create_dir_all(&home).unwrap();
    Program::new(binary("keephold"), &home).args(["replicate", "--json", "--config"]).arg(config)
}

#[test]
fn a_copy_on_another_server_has_locks_of_its_own_as_long_as_the_first() {
    let site = Site::new(Place::Ceph);
    tree::plain(&site.source());
    site.backs_up();
    let bucket = s3::bucket(Place::LocalStack, true);

    // The other server is down.
    let down = across(&site, &bucket, "http://127.0.0.1:9").run().exits(1);
    assert!(down.stderr.contains("can't be reached"), "{}", down.stderr);
    let down: Value = down.json();
    assert!(down["error"].as_str().unwrap().contains("can't be reached"));

    let endpoint = Place::LocalStack.endpoint();
    across(&site, &bucket, &endpoint).run().ok();
    // A second run uses packs again, and makes their locks longer; an attacker hides what the copy has.
    let hidden = s3::versions(Place::LocalStack, &bucket, "copy/packs/").remove(0).key;
    Object { place: Place::LocalStack, bucket: &bucket, key: hidden }.hide();
    std::fs::write(site.source().join("more"), "more").unwrap();
    site.backup().args(["--keep", "300d"]).run().ok();
    let second = across(&site, &bucket, &endpoint).run().ok().json();
    assert!(second["locks_extended"].as_u64().unwrap() > 0, "{second}");

    let end = |place: Place, bucket: &str, key: String| -> (String, Timestamp) {
        let object = Object { place, bucket, key };
        let versions: Vec<_> = object.versions().into_iter().filter(|v| !v.marker).collect();
        assert_eq!(versions.len(), 1, "{}: written once", object.key);
        object.retention(&versions[0].version).unwrap()
    };
    let keys = site.keys("");
    assert!(keys.len() > 5);
    for key in keys {
        let first = end(Place::Ceph, &site.bucket, format!("main/{key}"));
        let copy = end(Place::LocalStack, &bucket, format!("copy/{key}"));
        assert_eq!(first, copy, "{key}");
    }
    let third = across(&site, &bucket, &endpoint).run().ok().json();
    assert_eq!((&third["objects_written"], &third["locks_read"]), (&0.into(), &0.into()));
}
