//! Runs that write to a copy as well: at once, whole or not at all, and caught up with once it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::least_privilege::policy;
use crate::replicate::files;
use crate::support::program::{Program, binary};
use crate::support::proxy::{Fate, Proxy};
use crate::support::s3;
use crate::support::site::unlock;
use crate::support::{Place, Site, tree, verify};

/// So much that doesn't compress fills three packs.
const THREE_PACKS: usize = 40 << 20;

/// A host's configuration: this vault, a copy `far` as these lines say (with tables of more copies behind them), and
/// `source` as job `files`.
fn config(site: &Site, copy: &str) -> Program {
    let mut vault = format!("url = '{}'\nkeys = '{}'\n", site.url, site.path("keys").display());
    if let Some(endpoint) = &site.endpoint {
        vault.push_str(&format!(
            "endpoint = '{endpoint}'\n{}",
            site.credential_lines(site.place, "")
        ));
    }
    let more = copy.lines().filter_map(|line| line.strip_prefix("name = "));
    let also = ["'far'"].into_iter().chain(more).collect::<Vec<_>>().join(", ");
    let text = format!(
        "host = 'web1'\ncache = '{}'\n[vault]\n{vault}also = [{also}]\n[[replica]]\nname = 'far'\n{copy}\
         [[directory]]\nname = 'files'\npaths = ['{}']\n",
        site.path("cache").display(),
        site.source().display()
    );
    let path = site.path("keephold.toml");
    std::fs::write(&path, text).unwrap();
    let home = site.path("home");
    std::fs::create_dir_all(&home).unwrap();
    Program::new(binary("keephold"), &home).env("KEEPHOLD_CONFIG", &path)
}

fn backup(site: &Site, copy: &str) -> Program {
    config(site, copy).args(["backup", "--json"])
}

/// A copy in a folder of the site.
fn folder(site: &Site) -> String {
    format!("url = 'file://{}'\n", site.path("copy").display())
}

/// The copy in that folder, as a vault of its own.
fn folder_copy(site: &Site) -> Site {
    site.copy_at(Place::Local, &format!("file://{}", site.path("copy").display()), "")
}

/// Restores the newest snapshot from the copy alone.
fn restores(site: &Site, copy: &Site, to: &str) {
    copy.restore(to).run().ok();
    let restored = copy.path(to).join(site.source().strip_prefix("/").unwrap());
    tree::same(&site.source(), &restored);
}

fn codes(record: &Value) -> Vec<&str> {
    record["messages"].as_array().unwrap().iter().map(|m| m["code"].as_str().unwrap()).collect()
}

#[test]
fn a_copy_that_breaks_off_in_the_middle_gets_what_it_missed_with_the_next_run() {
    let site = Site::new(Place::Ceph);
    tree::plain(&site.source());
    std::fs::write(site.source().join("much"), tree::noise(6, THREE_PACKS)).unwrap();
    let bucket = s3::bucket(Place::LocalStack, true);
    let (cut, packs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_cut, counted) = (cut.clone(), packs.clone());
    let proxy = Proxy::judging(&Place::LocalStack.endpoint(), move |request| {
        let pack = request.starts_with("PUT ") && request.contains("/packs/");
        if is_cut.load(Ordering::SeqCst) && pack {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        // One more pack gets through, then nothing does.
        if counted.load(Ordering::SeqCst) > 1 { Fate::Refused } else { Fate::Pass }
    });
    let far = format!(
        "url = 's3://{bucket}/copy'\nendpoint = '{}'\nretry_s = 2\n\
         prices = {{ put = 1, get = 0, list = 0, storage_gb_month = 0 }}\n{}",
        proxy.endpoint,
        site.credential_lines(Place::LocalStack, "")
    );
    let copy = site.copy_at(Place::LocalStack, &format!("s3://{bucket}/copy"), &bucket);

    let first = backup(&site, &far).run().ok().json();
    assert_eq!((&first["status"], &first["copies"][0]["whole"]), (&"success".into(), &true.into()));
    assert!(first["copies"][0]["locked_until"].is_string(), "{first}");
    restores(&site, &copy, "first");
    // What it took to write to the copy is told of the copy: as many writes and bytes as at the vault.
    let (at_copy, totals) = (&first["copies"][0], &first["totals"]);
    assert!(at_copy["calls"]["put"].as_u64().unwrap() >= 4, "{at_copy}");
    assert_eq!(at_copy["calls"]["put"], totals["calls"]["put"], "{first}");
    assert_eq!(at_copy["bytes_stored"], totals["bytes_stored"], "{first}");
    let puts = at_copy["calls"]["put"].as_u64().unwrap();
    assert_eq!(at_copy["cost"]["calls_millionths"], puts * 1000, "{at_copy}");
    assert!(totals["cost"].is_null(), "prices of a copy are its own: {totals}");

    std::fs::write(site.source().join("much"), tree::noise(7, THREE_PACKS)).unwrap();
    cut.store(true, Ordering::SeqCst);
    let second = backup(&site, &far).run().exits(3).json();
    assert_eq!((&second["status"], codes(&second)), (&"warning".into(), vec!["copy_behind"]));
    let text = second["messages"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("'far' is down: ") && text.contains("the next run"), "{text}");
    let state = &second["copies"][0];
    assert_eq!((&state["whole"], &state["snapshots_missing"]), (&false.into(), &0.into()));
    assert!(state["bytes_spooled"].as_u64().unwrap() > 16 << 20, "{state}");
    // The vault has it all, and the copy still has all that it shows.
    verify::green_but_for(&site, &["KH-FRESH-005"]);
    verify::green(&copy);
    assert_eq!(copy.elsewhere(&["snapshots", "--json"]).run().ok().lines().len(), 1);

    cut.store(false, Ordering::SeqCst);
    packs.store(0, Ordering::SeqCst);
    std::fs::write(site.source().join("more"), "more").unwrap();
    let third = backup(&site, &far).run().ok().json();
    assert_eq!(codes(&third), ["copy_caught_up"]);
    assert_eq!((&third["copies"][0]["whole"], &third["seq"]), (&true.into(), &3.into()));
    let delivered = third["copies"][0]["bytes_stored"].as_u64().unwrap();
    assert!(delivered > 16 << 20, "what was missed is counted when it comes: {third}");
    assert!(third["totals"]["bytes_new"].as_u64().unwrap() < 1 << 20, "nothing is stored again");
    let shown = copy.elsewhere(&["snapshots", "--json"]).run().ok().lines();
    assert_eq!(shown.len(), 3, "{shown:?}");
    restores(&site, &copy, "third");
    verify::green_but_for(&copy, &["KH-FRESH-005"]);
    let objects = |place, bucket: &str, prefix: &str| -> Vec<String> {
        let versions = s3::versions(place, bucket, prefix).into_iter();
        let mut keys: Vec<_> =
            versions.map(|v| v.key.trim_start_matches(prefix).to_owned()).collect();
        keys.sort();
        keys
    };
    let at_first = objects(Place::Ceph, &site.bucket, "main/");
    assert_eq!(objects(Place::LocalStack, &bucket, "copy/"), at_first, "each written once");
}

#[test]
fn a_copy_that_is_not_there_is_a_warning_and_comes_by_itself_later() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    // The other copy is, and has nothing to do with it.
    let near = format!("file://{}", site.path("near").display());
    std::fs::create_dir(site.path("near")).unwrap();
    let far = format!("{}[[replica]]\nname = 'near'\nurl = '{near}'\n", folder(&site));
    let run = config(&site, &far).arg("backup").run().exits(3);
    let shown = site.redact(&run.stdout());
    assert!(shown.contains("  copy      near: locked"), "{shown}");
    restores(&site, &site.copy_at(Place::Local, &near, ""), "from-near");
    assert!(shown.contains("  copy      far: BEHIND: see the messages\n"), "{shown}");
    assert!(shown.contains("copy_behind: 'far' is down: "), "{shown}");
    let spooled = |site: &Site| files(&site.path("cache")).iter().any(|p| p.contains("/packs,"));
    assert!(spooled(&site));

    std::fs::create_dir(site.path("copy")).unwrap();
    std::fs::write(site.source().join("more"), "more").unwrap();
    let second = config(&site, &far).arg("backup").run().ok().stdout();
    assert!(second.contains("  copy      far: locked"), "{second}");
    assert!(second.contains("copy_caught_up: 'far' got 1 pack and 1 record"), "{second}");
    assert!(!spooled(&site));
    // Locks by the immutable attribute aren't to be had everywhere; files are.
    unlock(&site.path("vault"));
    std::fs::remove_dir_all(site.path("vault")).unwrap();
    let copy = folder_copy(&site);
    restores(&site, &copy, "restored");
}

#[test]
fn what_was_not_spooled_is_stored_again_and_a_replication_brings_the_rest() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    let far = format!("{}spool = '0'\n", folder(&site));
    let first = backup(&site, &far).run().exits(3).json();
    let text = first["messages"][0]["text"].as_str().unwrap();
    assert!(text.contains("spooling is turned off"), "{text}");
    std::fs::create_dir(site.path("copy")).unwrap();
    let second = backup(&site, &far).run().exits(3).json();
    assert_eq!(codes(&second), ["copy_stored_again", "copy_behind"]);
    let state = &second["copies"][0];
    assert_eq!((&state["whole"], &state["snapshots_missing"]), (&true.into(), &1.into()));
    let again = |record: &Value| record["copies"][0]["bytes_again"].as_u64().unwrap();
    assert!(again(&second) > 0);
    config(&site, &far).args(["replicate", "far", "--keep", "1d"]).run().ok();
    let third = backup(&site, &far).run().ok().json();
    assert_eq!((again(&third), codes(&third)), (0, vec![]), "{third}");
    let copy = folder_copy(&site);
    assert_eq!(copy.elsewhere(&["snapshots", "--json"]).run().ok().lines().len(), 3);
    restores(&site, &copy, "restored");
}

#[test]
fn a_writers_credential_is_enough_for_a_copy() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    let copy = Site::bare(Place::Ceph, "compliance");
    let rules = policy(&copy, "bucket", &s3::bucket(Place::Ceph, true));
    s3::policy(Place::Ceph, &copy.bucket, &rules);
    let far = format!(
        "url = '{}'\nendpoint = '{}'\n{}",
        copy.url,
        Place::Ceph.endpoint(),
        site.credential_lines(Place::Ceph, "WRITER")
    );
    backup(&site, &far).run().ok();
    // Without the cache, versions are looked up there; a longer run extends what it uses again.
    std::fs::remove_dir_all(site.path("cache")).unwrap();
    let second = config(&site, &far).args(["backup", "--json", "--keep", "200d"]).run().ok().json();
    // But for folders above the source, whose times other tests change.
    assert!(second["totals"]["bytes_new"].as_u64().unwrap() < 10_000, "{second}");
    assert_eq!(second["copies"][0]["bytes_again"], 0, "{second}");
    assert_eq!(second["copies"][0]["whole"], true, "{second}");
    let mut reader = site.copy_at(Place::Ceph, &copy.url, &copy.bucket);
    reader.credential = Some(Place::Ceph.credential("VERIFIER"));
    verify::green(&reader);
    restores(&site, &reader, "restored");
}

#[test]
fn killed_at_any_time_the_copy_is_whole_and_is_caught_up_with() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    std::fs::create_dir(site.path("copy")).unwrap();
    let far = folder(&site);
    backup(&site, &far).run().ok();
    let copy = folder_copy(&site);
    let mut kills = 0;
    for (n, pause) in [20, 60, 120, 240, 480].into_iter().enumerate() {
        let name = format!("big-{n}");
        std::fs::write(site.source().join(name), tree::noise(n as u64, 20 << 20)).unwrap();
        let run = backup(&site, &far).start();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        run.signal(Signal::KILL);
        kills += usize::from(run.wait().code.is_none());
        copy.restore(&format!("restored-{n}")).run().ok();
    }
    assert!(kills > 0, "no run was killed");
    let last = backup(&site, &far).run().ok().json();
    assert_eq!(last["copies"][0]["whole"], true, "{last}");
    restores(&site, &copy, "last");
    let shown = |site: &Site| site.elsewhere(&["snapshots", "--json"]).run().ok().lines().len();
    assert_eq!(shown(&copy), shown(&site));
}

#[test]
fn doctor_and_check_config_look_at_copies() {
    let site = Site::new(Place::Local);
    let far = folder(&site);
    let checked = config(&site, &far).arg("check-config");
    let checked = checked.arg(site.path("keephold.toml")).run().ok().stdout();
    assert!(
        checked.contains("  copy 'far' at file://") && checked.contains("10.0 GiB"),
        "{checked}"
    );
    let named = |program: Program| -> Vec<String> {
        let found = program.args(["doctor", "--json"]).run().json();
        let checks = found["checks"].as_array().unwrap().iter();
        let copies = checks.filter(|c| c["name"].as_str().unwrap().starts_with("copy"));
        copies.map(|c| format!("{} {}", c["state"].as_str().unwrap(), c["text"])).collect()
    };
    let missing = named(config(&site, &far)).join("\n");
    assert!(missing.contains("unchecked") && missing.contains("does not exist"), "{missing}");
    std::fs::create_dir(site.path("copy")).unwrap();
    let empty = named(config(&site, &far)).join("\n");
    assert!(empty.contains("is empty") && empty.contains("keephold replicate far"), "{empty}");
    tree::plain(&site.source());
    backup(&site, &far).run().ok();
    let fine = named(config(&site, &far)).join("\n");
    assert!(fine.contains("is of this vault"), "{fine}");
    // The vault itself is no copy of it.
    let itself = format!("url = '{}'\n", site.url);
    backup(&site, &itself).run().exits(2).says("is the vault itself");
    let twice = format!("{far}[[replica]]\nname = 'near'\n{far}");
    backup(&site, &twice).run().exits(2).says("replicas 'far' and 'near' are one place");
}
