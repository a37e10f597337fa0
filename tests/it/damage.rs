//! Each kind of damage is found by the verifier and named by its code; what can still be restored is.

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::support::s3::Object;
use crate::support::site::{meddle, unlock};
use crate::support::{Place, Site, tree, verify};

/// A site with one good run, under locks that a privileged user can undo: so the worst can be done to it.
fn site(place: Place) -> Site {
    let site =
        Site::with_lock(place, if place == Place::Local { "compliance" } else { "governance" });
    tree::plain(&site.source());
    site.backs_up();
    verify::green(&site);
    site
}

fn only(site: &Site, prefix: &str) -> String {
    let keys = site.keys(prefix);
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

fn object<'a>(site: &'a Site, prefix: &str) -> Object<'a> {
    Object { place: site.place, bucket: &site.bucket, key: format!("main/{}", only(site, prefix)) }
}

fn file(site: &Site, prefix: &str) -> PathBuf {
    site.path("vault").join(only(site, prefix))
}

fn next_month() -> String {
    (Timestamp::now() + SignedDuration::from_hours(24 * 45)).to_string()
}

/// Changes the bytes of the only object with this prefix; on S3 as somebody would who may bypass governance.
fn change(site: &Site, prefix: &str, change: impl FnOnce(&mut Vec<u8>)) {
    if site.place == Place::Local {
        return meddle(&file(site, prefix), change);
    }
    let object = object(site, prefix);
    let version = object.only_version();
    let mut bytes = object.get(&version);
    change(&mut bytes);
    object.delete(&version, true).unwrap();
    object.put_locked(&bytes, "GOVERNANCE", &next_month());
}

fn remove(site: &Site, prefix: &str) {
    if site.place == Place::Local {
        let file = file(site, prefix);
        unlock(&file);
        return fs::remove_file(file).unwrap();
    }
    let object = object(site, prefix);
    object.delete(&object.only_version(), true).unwrap();
}

/// The verifier must name the damage, and must not call the vault good.
#[track_caller]
fn found(site: &Site, code: &str, resource: &str) {
    let (output, report) = verify::run(site, &[]);
    let codes = verify::codes(&report);
    assert!(
        codes.iter().any(|c| c == code),
        "{code} is not among {codes:?}\n{}",
        site.place_and_url()
    );
    let named = report["findings"].as_array().unwrap().iter().filter(|f| f["code"] == code);
    let text = named.map(ToString::to_string).collect::<String>();
    assert!(text.contains(resource), "{code} doesn't name {resource}: {text}");
    assert_ne!(output.code, Some(0));
    assert_ne!(report["result"]["verdict"], "ok");
}

#[track_caller]
fn restores(site: &Site) {
    site.restore("back").run().ok();
    tree::same(&site.source(), &site.restored("back"));
}

/// Everything comes back, and it is told that something stood in the way.
#[track_caller]
fn restores_past(site: &Site, words: &str) {
    site.restore("back").run().exits(3).says(words);
    tree::same(&site.source(), &site.restored("back"));
}

/// A restore of what isn't there must say so, and must not pass for a good one.
#[track_caller]
fn does_not_restore(site: &Site) {
    let output = site.restore("back").run().exits(1);
    assert!(!output.stderr.is_empty());
}

#[test]
fn an_object_with_no_bytes() {
    for place in Place::ALL {
        let site = site(place);
        change(&site, "packs/", Vec::clear);
        found(&site, "KH-PRES-002", &only(&site, "packs/"));
        does_not_restore(&site);
    }
}

#[test]
fn a_truncated_object() {
    for place in Place::ALL {
        let site = site(place);
        change(&site, "packs/", |bytes| bytes.truncate(bytes.len() / 2));
        found(&site, "KH-PRES-003", &only(&site, "packs/"));
        does_not_restore(&site);
    }
}

#[test]
fn a_flipped_bit() {
    for place in Place::ALL {
        for (prefix, code) in [("packs/", "KH-INT-001"), ("index/", "KH-INT-004")] {
            let site = site(place);
            change(&site, prefix, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            });
            found(&site, code, &only(&site, prefix));
        }
    }
}

#[test]
fn a_missing_object() {
    for place in Place::ALL {
        for prefix in ["packs/", "index/"] {
            let site = site(place);
            let key = only(&site, prefix);
            remove(&site, prefix);
            found(&site, "KH-PRES-001", &key);
        }
    }
}

#[test]
fn a_delete_marker_hides_nothing_from_a_restore() {
    for place in Place::S3 {
        for prefix in ["packs/", "index/"] {
            let site = site(place);
            let key = only(&site, prefix);
            object(&site, prefix).hide();
            found(&site, "KH-PRES-005", &key);
            restores_past(&site, "is hidden by a delete marker");
        }
        let site = site(place);
        for prefix in ["runs/", "packs/", "index/", "vault.json"] {
            object(&site, prefix).hide();
        }
        restores_past(&site, "is hidden by a delete marker");
        // And the next run finds its place in the chain.
        assert_eq!(site.backs_up()["seq"], 2);
    }
}

#[test]
fn a_newer_version_over_an_old_one_fools_nobody() {
    for place in Place::S3 {
        for prefix in ["packs/", "index/"] {
            let site = site(place);
            let key = only(&site, prefix);
            object(&site, prefix).put(b"not what was stored");
            found(&site, "KH-PRES-006", &key);
            restores_past(&site, "answers other bytes than its own");
        }
        let site = site(place);
        for prefix in ["runs/", "packs/", "index/", "vault.json"] {
            object(&site, prefix).put(b"{}");
        }
        restores_past(&site, "answers other bytes than its own");
        assert_eq!(site.backs_up()["seq"], 2);
    }
}

#[test]
fn a_shortened_lock() {
    for place in Place::S3 {
        let mut site = site(place);
        let object = object(&site, "packs/");
        let tomorrow = (Timestamp::now() + SignedDuration::from_hours(24)).to_string();
        object.set_retention(&object.only_version(), "GOVERNANCE", &tomorrow, true).unwrap();
        // The report before it saw it end later; and it was the newest snapshot's.
        let (pack, record) = (only(&site, "packs/"), only(&site, "runs/"));
        let (_, report) = verify::run(&site, &["--level", "lock"]);
        for (code, resource) in [
            ("KH-LOCK-002", &*pack),
            ("KH-LOCK-003", &record),
            ("KH-LOCK-004", "web1/files"),
            ("KH-LOCK-013", &record),
        ] {
            let is = |f: &&serde_json::Value| f["code"] == code && f["resource"] == resource;
            let findings = report["findings"].as_array().unwrap();
            assert!(findings.iter().any(|f| is(&f)), "{place:?}: no {code}: {findings:#?}");
        }
        // Who asks for more than the host did is told as well.
        site.lock = "compliance";
        let (_, report) = verify::run(&site, &["--level", "lock", "--lock", "compliance"]);
        assert!(verify::codes(&report).contains(&"KH-LOCK-005".to_owned()), "{report:#}");
    }
}

#[test]
fn an_absent_lock() {
    for place in Place::ALL {
        let site = site(place);
        let key = only(&site, "packs/");
        if place == Place::Local {
            fs::remove_file(site.path("vault/.locks").join(&key)).unwrap();
            unlock(&site.path("vault").join(&key));
        } else {
            let object = object(&site, "packs/");
            let version = object.only_version();
            let bytes = object.get(&version);
            object.delete(&version, true).unwrap();
            object.put(&bytes);
        }
        found(&site, "KH-LOCK-001", &key);
        restores(&site);
    }
}

#[test]
fn a_changed_record_and_one_that_is_gone() {
    for place in Place::ALL {
        let site = site(place);
        change(&site, "runs/", |bytes| {
            let last = bytes.len() - 40;
            bytes[last] ^= 1;
        });
        found(&site, "KH-REC-006", &only(&site, "runs/"));

        let site = self::site(place);
        let first = only(&site, "runs/");
        site.backs_up();
        if place == Place::Local {
            let path = site.path("vault").join(&first);
            unlock(&path);
            fs::remove_file(path).unwrap();
        } else {
            let object = Object { place, bucket: &site.bucket, key: format!("main/{first}") };
            object.delete(&object.only_version(), true).unwrap();
        }
        found(&site, "KH-REC-004", "web1/files");
    }
}

#[test]
fn another_vault_in_its_place() {
    let site = site(Place::Local);
    let other = Site::new(Place::Local);
    meddle(&site.path("vault/vault.json"), |bytes| {
        *bytes = fs::read(other.path("vault/vault.json")).unwrap();
    });
    found(&site, "KH-VAULT-001", "vault.json");
}

#[test]
fn records_of_a_key_that_is_not_believed() {
    let site = site(Place::Local);
    let other = Site::new(Place::Local);
    fs::copy(other.path("keys/signing_key.pub"), site.path("keys/signing_key.pub")).unwrap();
    found(&site, "KH-REC-002", "web1/files");
    let signers = site.path("keys/signing_key.pub");
    let restore = site.restore("back").arg("--signers").arg(signers).run().exits(1);
    assert!(!site.path("back").exists(), "{}", restore.stderr);
}
