//! Evidence is kept under lock at a target of the verifier's own, with a credential that can't undo it; and where it can't
//! be, that is said.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::program::Program;
use crate::support::proxy::{Fate, Proxy};
use crate::support::s3::{self, Object, Version};
use crate::support::{Place, Site, site, tree, verify};
use crate::{azure, google, least_privilege, prove};

/// A configuration of the verifier's that has only a table `[evidence]` with these lines.
fn config(site: &Site, lines: &str) -> PathBuf {
    let path = site.path("verify.toml");
    fs::write(&path, format!("[evidence]\n{lines}")).unwrap();
    path
}

fn on_ceph(site: &Site, bucket: &str, endpoint: &str) -> PathBuf {
    let credential = site.credential_lines(Place::Ceph, "VERIFIER");
    config(
        site,
        &format!(
            "url = 's3://{bucket}/verify1'\nendpoint = '{endpoint}'\nretry_s = 1\n{credential}"
        ),
    )
}

fn run(site: &Site, config: &PathBuf) -> Program {
    verify::command(site, &["--level", "lock"]).arg("--config").arg(config)
}

/// Relative paths and contents of the files of the verifier's folder of reports.
fn local(site: &Site) -> Vec<(String, Vec<u8>)> {
    let reports = site.path("verifier/reports");
    let mut found = Vec::new();
    for folder in fs::read_dir(&reports).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(&reports).unwrap().display().to_string();
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The one version of each file at the evidence bucket, under its name.
fn stored(bucket: &str) -> Vec<(String, Version)> {
    let versions = s3::versions(Place::Ceph, bucket, "verify1/").into_iter();
    let mut found: Vec<_> =
        versions.map(|v| (v.key.trim_start_matches("verify1/").to_owned(), v)).collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn names<T>(found: &[(String, T)]) -> Vec<&str> {
    found.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_verifiers_credential_stores_evidence_and_can_not_undo_it() {
    let (mut site, bucket) = least_privilege::site("compliance");
    site.init().run().ok();
    site.backs_up();
    site.credential = Some(site.place.credential("VERIFIER"));
    let config = on_ceph(&site, &bucket, &Place::Ceph.endpoint());
    let first = run(&site, &config).run().ok().json();
    assert_eq!(first["evidence_store"]["files"], 0, "{first:#}");
    assert_eq!(first["evidence_store"]["strength"], Value::Null, "nothing was there to see");
    let second = run(&site, &config).run().ok().json();
    let state = &second["evidence_store"];
    assert_eq!(
        [&state["files"], &state["stored_now"], &state["altered"], &state["strength"]],
        [&3.into(), &0.into(), &0.into(), &Value::from("compliance")],
        "{state}"
    );

    // Proofs and drills go there too, each with a credential of its own for the vault.
    verify::signing(&site, "escrow-drill")
        .arg("--identity")
        .arg(site.identity())
        .arg("--config")
        .arg(&config)
        .run()
        .ok();
    site.credential = Some(site.place.credential("PROBER"));
    prove::command(&site).arg("--config").arg(&config).run().ok();
    site.credential = Some(site.place.credential("VERIFIER"));

    // All of it lies there once, as it is here, and is held for 400 days.
    let (here, there) = (local(&site), stored(&bucket));
    assert_eq!(here.len(), 10, "two reports, a drill, a proof");
    assert_eq!(names(&here), names(&there));
    let now = jiff::Timestamp::now();
    for ((name, bytes), (_, version)) in here.iter().zip(&there) {
        let object = Object { place: site.place, bucket: &bucket, key: version.key.clone() };
        // On Ceph it belongs to whoever stored it.
        assert_eq!(&object.read_as("VERIFIER", &object.only_version()), bytes, "{name}");
        let (mode, until) = object.retention_as("VERIFIER", &version.version).unwrap();
        let hours = until.duration_since(now).as_hours();
        assert!(mode == "COMPLIANCE" && (24 * 399..=24 * 400).contains(&hours), "{name}: {until}");

        // The same credential can do nothing to it.
        let refused = |what: &str, answer: Result<(), String>| {
            assert_eq!(answer, Err("AccessDenied".to_owned()), "{what} {name}");
        };
        refused("delete", object.delete_as("VERIFIER", &version.version));
        refused("hide", object.hide_as("VERIFIER"));
        let sooner = (now + jiff::SignedDuration::from_hours(24)).to_string();
        refused("shorten", object.extend_as("VERIFIER", &version.version, "COMPLIANCE", &sooner));
    }

    // What a bucket with versions can't refuse is a version over another. The first one stays, and counts.
    let (name, truth) = here.iter().find(|(name, _)| name.ends_with("report.json")).unwrap();
    let newest = here.iter().rev().find(|(name, _)| name.ends_with("report.json")).unwrap();
    assert_ne!(name, &newest.0);
    let object =
        Object { place: site.place, bucket: &bucket, key: format!("verify1/{}", newest.0) };
    let true_version = object.only_version();
    object.put_as("VERIFIER", truth).unwrap();
    assert_eq!(object.versions().len(), 2);
    assert_eq!(object.read_as("VERIFIER", &true_version), newest.1, "what was stored is as it was");
    object.delete_as("VERIFIER", &true_version).unwrap_err();
    let third = run(&site, &config).run().exits(3).json();
    assert_eq!(verify::codes(&third), ["KH-EVID-003"], "{third:#}");
    let resource = third["findings"][0]["resource"].as_str().unwrap();
    assert!(resource.ends_with(&newest.0), "{resource}");

    // A folder of reports that was lost goes on where it was, from the true version too.
    let folder = site.path("verifier/reports");
    fs::remove_dir_all(&folder).unwrap();
    let fourth = run(&site, &config).run().exits(3).json();
    assert_eq!(fourth["previous_report"]["report_id"], third["report_id"], "{fourth:#}");
    assert_eq!(verify::codes(&fourth), ["KH-EVID-003"], "the chain holds: {fourth:#}");
    assert_eq!(fourth["escrow_drill"]["jobs_opened"], 1, "{fourth:#}");
    assert_eq!(fourth["lock_proof"]["verdict"], "held", "{fourth:#}");
    let notes = fourth["evidence_store"]["notes"].to_string();
    assert!(notes.contains("the folder of reports had none"), "{notes}");

    // So does one that has proofs and drills still.
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.join("report.json").exists() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    let fifth = run(&site, &config).run().exits(3).json();
    assert_eq!(fifth["previous_report"]["report_id"], fourth["report_id"], "{fifth:#}");
    assert_eq!(verify::codes(&fifth), ["KH-EVID-003"], "{fifth:#}");
}

#[test]
fn evidence_that_can_not_be_stored_is_said_kept_and_stored_later() {
    let site = Site::new(Place::Ceph);
    tree::plain(&site.source());
    site.backs_up();
    let bucket = s3::bucket(Place::Ceph, true);
    let cut = Arc::new(AtomicBool::new(true));
    let is_cut = cut.clone();
    let proxy = Proxy::judging(&Place::Ceph.endpoint(), move |request| {
        // Of three files the first gets through, and the others must come after it.
        let refused = request.starts_with("PUT ") && request.contains("/report.json");
        if refused && is_cut.load(Ordering::SeqCst) { Fate::Refused } else { Fate::Pass }
    });
    let credential = site.credential_lines(Place::Ceph, "");
    let config = config(
        &site,
        &format!(
            "url = 's3://{bucket}/verify1'\nendpoint = '{}'\nretry_s = 1\n{credential}",
            proxy.endpoint
        ),
    );
    let failed = run(&site, &config).run().exits(1).says("the evidence is NOT STORED at s3://");
    let first = failed.json();
    assert_eq!(first["result"]["verdict"], "ok", "the vault is well: {first:#}");
    assert_eq!(local(&site).len(), 3, "the report is here");
    assert_eq!(stored(&bucket).len(), 1);

    // The next report says it too, as long as it is so, and the one after that stores all of it.
    let failed = run(&site, &config).run().exits(1).says("NOT STORED");
    let second = failed.json();
    assert_eq!(verify::codes(&second), ["KH-EVID-001"], "{second:#}");
    assert_eq!(second["result"]["exit_code"], 3);
    assert_eq!(second["evidence_store"]["files"], Value::Null);
    cut.store(false, Ordering::SeqCst);
    let third = run(&site, &config).run().ok().json();
    assert_eq!(third["evidence_store"]["files"], 6);
    assert_eq!(third["evidence_store"]["stored_now"], 5, "{:#}", third["evidence_store"]);
    assert_eq!(names(&local(&site)), names(&stored(&bucket)));
    for (_, version) in stored(&bucket) {
        let object = Object { place: Place::Ceph, bucket: &bucket, key: version.key.clone() };
        assert_eq!(object.retention(&object.only_version()).unwrap().0, "COMPLIANCE");
    }
}

#[test]
fn a_target_without_locks_is_never_called_immutable() {
    let vault = Site::new(Place::Local);
    tree::plain(&vault.source());
    vault.backs_up();
    let bucket = s3::bucket(Place::Ceph, false);
    let credential = vault.credential_lines(Place::Ceph, "");
    let endpoint = Place::Ceph.endpoint();
    let lines = format!("url = 's3://{bucket}/verify1'\nendpoint = '{endpoint}'\n{credential}");
    let config_of = |lines: &str| config(&vault, lines);
    // Locks that can't be had are no reason to go without: that must be asked for.
    let refused = run(&vault, &config_of(&lines)).run().exits(1);
    refused.says("NOT STORED").says("Object Lock is not enabled");
    assert!(stored(&bucket).is_empty());
    let unlocked = config_of(&format!("{lines}lock = 'none'\n"));
    run(&vault, &unlocked).run();
    assert_eq!(stored(&bucket).len(), 6, "two reports");
    let report = run(&vault, &unlocked).run().exits(3).json();
    assert!(verify::codes(&report).contains(&"KH-EVID-002".to_owned()), "{report:#}");
    assert_eq!(report["evidence_store"]["strength"], "none");

    // A folder, by the option; the folder must be there.
    let folder = vault.path("near");
    let to = format!("file://{}", folder.display());
    let told = |json: bool| {
        let command = verify::command(&vault, &["--level", "lock", "--evidence", &to]);
        let command = if json { command } else { command.without("--json") };
        command.run()
    };
    told(true).exits(1).says("does not exist");
    fs::create_dir(&folder).unwrap();
    let last = told(false);
    assert!(last.stdout().contains(&format!("Stored: {to} (")), "{}", last.stdout());
    let report = told(true).json();
    let held = report["evidence_store"]["strength"].as_str().unwrap();
    let said = verify::codes(&report).contains(&"KH-EVID-002".to_owned());
    assert_eq!(said, held == "advisory", "{held}: {report:#}");
    site::unlock(&folder);
    // The vault itself is no place for it.
    verify::command(&vault, &["--evidence", &vault.url]).run().exits(2).says("is the vault itself");
}

#[test]
fn evidence_goes_to_google_and_to_azure_as_far_as_they_lock() {
    let vault = Site::new(Place::Local);
    tree::plain(&vault.source());
    vault.backs_up();
    let model = crate::gcs_model::start(crate::gcs_model::Quirks::default());
    let at_google = config(
        &vault,
        &format!(
            "url = 'gs://backups/verify1'\nendpoint = '{}'\nallow_http = true\n",
            model.endpoint
        ),
    );
    let google = |config: &PathBuf| google::keyed(run(&vault, config)).run().json();
    google(&at_google);
    let report = google(&at_google);
    let state = &report["evidence_store"];
    assert_eq!((&state["files"], &state["strength"]), (&3.into(), &"compliance".into()), "{state}");

    // Azurite keeps no locks: without being asked to go without, nothing is put there that would seem to be under one.
    let other = azure::site("none");
    let lines = format!(
        "url = '{}-evidence'\nendpoint = '{}'\nallow_http = true\n",
        other.url,
        other.endpoint.clone().unwrap()
    );
    let locked = config(&vault, &lines);
    azure::keyed(run(&vault, &locked)).run().exits(1).says("NOT STORED");
    let unlocked = config(&vault, &format!("{lines}lock = 'none'\n"));
    azure::keyed(run(&vault, &unlocked)).run();
    let report = azure::keyed(run(&vault, &unlocked)).run().exits(3).json();
    assert_eq!(report["evidence_store"]["strength"], "none", "{:#}", report["evidence_store"]);
}
