//! Locks are proven by trying to break them, and what is known of them is told as it is.

use serde_json::{Value, json};

use crate::support::program::{Output, Program, binary};
use crate::support::s3::{self, Object, versions};
use crate::support::{Place, Site, need_root, tree, verify};

/// `keephold-verify prove-lock` on a site's vault, with the credential that the site has.
pub(crate) fn command(site: &Site) -> Program {
    let home = site.path("verifier");
    let conf = home.join("conf");
    if !conf.exists() {
        std::fs::create_dir_all(&home).unwrap();
        let init = Program::new(binary("keephold-verify"), &home).args(["init", "--dir"]);
        init.arg(&conf).run().ok();
    }
    site.program("keephold-verify", "verifier", &["prove-lock", "--json"])
        .arg("--report-key")
        .arg(conf.join("report_key"))
        .arg("--out")
        .arg(home.join("reports"))
}

fn prove(site: &Site) -> (Output, Value) {
    let output = command(site).run();
    let proof = output.json();
    (output, proof)
}

/// What each attempt showed.
fn results(proof: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let attempts = proof["attempts"].as_array().unwrap();
    attempts.iter().map(|a| (text(&a["action"]), text(&a["result"]))).collect()
}

#[test]
fn a_compliance_lock_is_proven_and_the_report_says_so() {
    for place in Place::S3 {
        let site = Site::new(place);
        tree::plain(&site.source());
        site.backs_up();
        let (output, proof) = prove(&site);
        assert_eq!(proof["verdict"], "held", "{place:?}: {proof:#}");
        output.exits(0);
        let results = results(&proof);
        let count = |wanted: &str| results.iter().filter(|(_, r)| r == wanted).count();
        assert_eq!((count("control"), count("held")), (3, 8), "{place:?}: {results:?}");
        // The canary is what it was, and nothing lies over it.
        let key = format!("main/{}", proof["canary"].as_str().unwrap());
        let canary = Object { place, bucket: &site.bucket, key };
        assert_eq!(canary.only_version(), proof["version"].as_str().unwrap(), "{place:?}");
        assert_eq!(versions(place, &site.bucket, "main/canary/").len(), 1, "{place:?}");
        // The next report shows it, by its hash.
        let report = verify::green(&site);
        assert_eq!(report["lock_proof"]["proof_id"], proof["proof_id"]);
        assert_eq!(report["lock_probes"], proof["attempts"]);
        let run = &report["jobs"][0]["runs"]["shown"][0];
        let coverage = &run["lock_coverage"];
        assert!(coverage["objects"].as_u64().unwrap() >= 3, "{run}");
        assert_eq!(coverage["objects"], coverage["objects_locked"]);
        assert_eq!(coverage["bytes"], coverage["bytes_locked"]);
    }
}

#[test]
fn a_lock_that_can_be_lifted_is_a_critical_finding() {
    for place in Place::S3 {
        let site = Site::with_lock(place, "governance");
        let (output, proof) = prove(&site);
        output.exits(3);
        assert_eq!(proof["verdict"], "broken", "{place:?}: {proof:#}");
        assert_eq!(proof["findings"][0]["code"], "KH-LOCK-008");
        assert_eq!(proof["findings"][0]["severity"], "critical");
        // It is found again in the next report, until a better proof is at hand.
        let (_, report) = verify::run(&site, &["--level", "lock"]);
        assert!(verify::codes(&report).contains(&"KH-LOCK-008".to_owned()), "{report:#}");
    }
}

#[test]
fn a_target_without_locks_is_a_critical_finding() {
    for place in Place::S3 {
        let mut site = Site::with_lock(place, "none");
        site.bucket = s3::bucket(place, false);
        site.url = format!("s3://{}/main", site.bucket);
        for (lock, code) in [("none", "KH-LOCK-012"), ("compliance", "KH-LOCK-012")] {
            site.lock = lock;
            let (output, proof) = prove(&site);
            output.exits(3);
            assert_eq!(proof["verdict"], "broken", "{place:?} {lock}: {proof:#}");
            assert_eq!(proof["findings"][0]["code"], code, "{place:?} {lock}");
            assert_eq!(proof["lock"], Value::Null);
        }
    }
}

#[test]
fn a_credential_that_may_not_delete_proves_nothing() {
    let mut site = Site::new(Place::Ceph);
    let user = json!({"AWS": ["arn:aws:iam:::user/prober"]});
    let bucket = format!("arn:aws:s3:::{}", site.bucket);
    let canaries = format!("{bucket}/main/canary/*");
    s3::policy(
        site.place,
        &site.bucket,
        &json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": user, "Resource": bucket, "Action":
                ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning"]},
            {"Effect": "Allow", "Principal": user, "Resource": canaries, "Action": ["s3:GetObject", "s3:GetObjectVersion",
                "s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectRetention", "s3:BypassGovernanceRetention"]},
            {"Effect": "Deny", "Principal": user, "Resource": canaries, "Action":
                ["s3:DeleteObject", "s3:DeleteObjectVersion"]},
        ]}),
    );
    site.credential = Some(site.place.credential("PROBER"));
    let (output, proof) = prove(&site);
    output.exits(1);
    assert_eq!(proof["verdict"], "not_proven", "{proof:#}");
    assert_eq!(proof["findings"][0]["code"], "KH-LOCK-011");
    let deleted: Vec<_> =
        results(&proof).into_iter().filter(|(what, _)| what.starts_with("delete the v")).collect();
    assert!(deleted.iter().all(|(_, result)| result == "not_proven"), "{deleted:?}");
}

#[test]
fn a_folder_is_proven_as_far_as_its_attribute_goes() {
    need_root("the immutable attribute");
    let site = Site::new(Place::Local);
    let (output, proof) = prove(&site);
    assert_eq!(proof["verdict"], "held", "{proof:#}");
    output.exits(0);
    assert!(proof["lock"].as_str().unwrap().starts_with("immutable file"), "{proof:#}");
}

#[test]
fn a_changed_setting_of_the_bucket_is_told_from_what_to_what() {
    for place in Place::S3 {
        let site = Site::new(place);
        tree::plain(&site.source());
        site.backs_up();
        let report = verify::green(&site);
        let named = |report: &Value, name: &str| {
            let settings = report["target"]["settings"].as_array().unwrap().clone();
            settings.into_iter().find(|s| s["name"] == name).unwrap()
        };
        // Ceph tells of deletion with a second factor, too.
        let versioning = if place == Place::Ceph {
            "MfaDelete=Disabled Status=Enabled"
        } else {
            "Status=Enabled"
        };
        assert_eq!(named(&report, "versioning")["value"], versioning, "{place:?}");
        assert_eq!(named(&report, "policy")["result"], "not_set", "{place:?}: {report:#}");
        assert_eq!(named(&report, "lifecycle")["result"], "not_set", "{place:?}");
        let bucket = format!("arn:aws:s3:::{}", site.bucket);
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/verifier"]},
             "Resource": bucket, "Action": ["s3:ListBucket"]}]});
        if place == Place::Ceph {
            s3::policy(place, &site.bucket, &policy);
        }
        s3::lifecycle(place, &site.bucket, "main/", 30);
        let (output, report) = verify::run(&site, &["--level", "lock"]);
        output.exits(3);
        let findings = report["findings"].as_array().unwrap();
        let changed = |name: &str| {
            findings.iter().find(|f| {
                f["code"] == "KH-LOCK-014" && f["resource"].as_str().unwrap().ends_with(name)
            })
        };
        let detail = changed("lifecycle").unwrap()["detail"].as_str().unwrap();
        assert!(detail.starts_with("from none to `Rule("), "{place:?}: {detail}");
        assert!(detail.contains("Days=30"), "{place:?}: {detail}");
        assert_eq!(changed("policy").is_some(), place == Place::Ceph, "{findings:#?}");
        assert!(verify::codes(&report).contains(&"KH-LOCK-015".to_owned()), "{place:?}");
    }
}

/// The finding that tells of a change of a setting.
fn changed<'a>(report: &'a Value, name: &str) -> &'a Value {
    let told =
        |f: &&Value| f["code"] == "KH-LOCK-014" && f["resource"].as_str().unwrap().ends_with(name);
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(told).unwrap_or_else(|| panic!("no change of {name} in {findings:#?}"))
}

#[test]
fn another_default_retention_and_suspended_versioning_are_told_from_what_to_what() {
    for place in Place::S3 {
        let site = Site::new(place);
        let default = |days: u32| {
            let lock = json!({"ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": days}}});
            let arguments = json!({"Bucket": site.bucket, "ObjectLockConfiguration": lock});
            s3::call(place, "", "put_object_lock_configuration", &arguments).unwrap();
        };
        default(20);
        tree::plain(&site.source());
        site.backs_up();
        let report = verify::green(&site);
        assert_eq!(report["target"]["default_retention"]["days"], 20, "{place:?}");
        default(1);
        let (_, report) = verify::run(&site, &["--level", "lock"]);
        let finding = changed(&report, "object lock");
        let detail = finding["detail"].as_str().unwrap();
        assert!(detail.contains("20") && detail.contains("from `"), "{place:?}: {detail}");
        assert_eq!(finding["severity"], "high", "{place:?}");
        assert_eq!(report["target"]["default_retention"]["days"], 1, "{place:?}");

        // Versioning can only be suspended where there is no Object Lock.
        let mut site = Site::bare(place, "none");
        site.bucket = s3::bucket(place, false);
        site.url = format!("s3://{}/main", site.bucket);
        let versioning = |status: &str| {
            let arguments =
                json!({"Bucket": site.bucket, "VersioningConfiguration": {"Status": status}});
            s3::call(place, "", "put_bucket_versioning", &arguments).unwrap();
        };
        versioning("Enabled");
        site.init().run().ok();
        tree::plain(&site.source());
        site.backs_up();
        let report = verify::green_but_for(&site, &["KH-LOCK-007"]);
        assert_eq!(report["target"]["versioning"], true, "{place:?}");
        versioning("Suspended");
        let (_, report) = verify::run(&site, &["--level", "lock"]);
        let finding = changed(&report, "versioning");
        let detail = finding["detail"].as_str().unwrap();
        assert!(
            detail.contains("Status=Enabled` to `") && detail.contains("Suspended"),
            "{place:?}: {detail}"
        );
        assert_eq!(finding["severity"], "high", "{place:?}");
        assert_eq!(report["target"]["versioning"], false, "{place:?}");
    }
}

#[test]
fn a_vault_that_should_have_locks_in_a_bucket_that_cannot_lock_is_told() {
    for place in Place::S3 {
        let site = Site::new(place);
        tree::plain(&site.source());
        site.backs_up();
        let bucket = s3::bucket(place, false);
        let url = format!("s3://{bucket}/main");
        copy_objects(&site, &bucket);
        let moved = site.copy_at(place, &url, &bucket);
        let (output, report) = verify::run(&moved, &["--level", "lock"]);
        output.exits(3);
        let codes = verify::codes(&report);
        for code in ["KH-LOCK-001", "KH-LOCK-010"] {
            assert!(codes.iter().any(|c| c == code), "{place:?}: {code} is not among {codes:?}");
        }
    }
}

/// Copies a vault as any tool does it: the bytes, and nothing else.
fn copy_objects(site: &Site, bucket: &str) {
    for key in site.keys("") {
        let key = format!("main/{key}");
        let object = Object { place: site.place, bucket: &site.bucket, key: key.clone() };
        let bytes = object.get(&object.only_version());
        Object { place: site.place, bucket, key }.put_as("", &bytes).unwrap();
    }
}
