//! Nobody deletes what is locked: as the server sees it, and for everything that a run needs.

use jiff::{SignedDuration, Timestamp};

use crate::support::roles::vault_policy;
use crate::support::s3::{Object, versions};
use crate::support::{Place, Site, tree};

/// Every object of a vault on S3.
fn objects(site: &Site) -> Vec<Object<'_>> {
    let found = versions(site.place, &site.bucket, "main/");
    found
        .into_iter()
        .map(|v| Object { place: site.place, bucket: &site.bucket, key: v.key })
        .collect()
}

#[test]
fn every_object_of_a_run_is_locked_until_the_run_expires() {
    for place in Place::S3 {
        let site = Site::new(place);
        tree::plain(&site.source());
        let record = site.backs_up();
        let time = |field: &str| {
            record["retention"][field].as_str().unwrap().parse::<Timestamp>().unwrap()
        };
        let mut seen = Vec::new();
        for object in objects(&site) {
            let (mode, until) = object.retention(&object.only_version()).unwrap();
            assert_eq!(mode, "COMPLIANCE", "{place:?} {}", object.key);
            let kind = object.key.split('/').nth(1).unwrap().to_owned();
            // Records are evidence; S3 keeps whole seconds.
            let least = if kind == "runs" { time("evidence_until") } else { time("expires") };
            assert!(
                until > least - SignedDuration::from_secs(1),
                "{place:?} {}: {until} < {least}",
                object.key
            );
            seen.push(kind);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["index", "packs", "runs", "vault.json"], "{place:?}");
    }
}

#[test]
fn a_locked_version_cannot_be_deleted_by_the_buckets_owner() {
    for place in Place::S3 {
        let site = Site::new(place);
        tree::plain(&site.source());
        site.backs_up();
        let tomorrow = (Timestamp::now() + SignedDuration::from_hours(24)).to_string();
        for object in objects(&site) {
            let version = object.only_version();
            let before = object.get(&version);
            for bypass in [false, true] {
                assert_eq!(
                    object.delete(&version, bypass),
                    Err("AccessDenied".into()),
                    "{place:?} {}",
                    object.key
                );
            }
            for (mode, bypass) in
                [("COMPLIANCE", false), ("COMPLIANCE", true), ("GOVERNANCE", true)]
            {
                let shortened = object.set_retention(&version, mode, &tomorrow, bypass);
                assert!(shortened.is_err(), "{place:?} {}: shortened to {mode}", object.key);
            }
            assert_eq!(object.get(&version), before);
        }
    }
}

#[test]
fn the_packaged_rights_are_enough_to_back_up() {
    let mut site = Site::alone(Place::Ceph, "governance");
    crate::support::s3::policy(site.place, &site.bucket, &vault_policy(&site));
    site.credential = Some(site.place.credential("WRITER"));
    tree::plain(&site.source());
    site.init().run().ok();
    assert_eq!(site.backs_up()["status"], "success");
    site.backs_up_again();
    // And they are not enough for anything worse.
    for object in objects(&site) {
        let version = object.only_version();
        assert!(object.delete_as("WRITER", &version).is_err(), "{} could be deleted", object.key);
        if object.key.contains("/packs/") {
            assert!(object.get_as("WRITER", &version).is_err(), "{} could be read", object.key);
        }
    }
}
