//! Each role can do its work with the policy that is shipped for it, and nothing else: Ceph's gateway enforces policies.

use serde_json::{Value, json};

use crate::support::program::{Program, binary};
use crate::support::s3::{self, versions};
use crate::support::{Place, Site, tree, verify};

const ROLES: [&str; 4] = ["WRITER", "VERIFIER", "PRUNER", "PROBER"];

/// The packaged policy, filled in by the program.
pub(crate) fn policy(site: &Site, what: &str, evidence: &str) -> Value {
    let mut print = Program::new(binary("keephold"), &site.path("home"))
        .args(["policy", what, "--server", "ceph", "--evidence", evidence, "--vault"])
        .arg(&site.url);
    for role in ROLES {
        let role = role.to_lowercase();
        print = print.arg(format!("--{role}")).arg(format!("arn:aws:iam:::user/{role}"));
    }
    print.run().ok().json()
}

/// A site whose host has the writer's credential, under the packaged policies; and the verifier's own bucket.
pub(crate) fn site(lock: &'static str) -> (Site, String) {
    let mut site = Site::bare(Place::Ceph, lock);
    let evidence = s3::bucket(site.place, true);
    s3::policy(site.place, &site.bucket, &policy(&site, "bucket", &evidence));
    s3::policy(site.place, &evidence, &policy(&site, "evidence", &evidence));
    site.credential = Some(site.place.credential("WRITER"));
    tree::plain(&site.source());
    (site, evidence)
}

#[test]
fn hosts_back_up_and_verifiers_verify_under_the_packaged_policies() {
    let (mut site, _) = site("compliance");
    site.init().run().ok();
    assert_eq!(site.backs_up()["status"], "success");
    let second = site.backs_up();
    assert_eq!(second["totals"]["packs_new"], 0, "the index could be read: {second}");
    site.credential = Some(site.place.credential("VERIFIER"));
    verify::green(&site);
    site.restore("restored").run().ok();
}

/// A call, and who may make it: writer, verifier, pruner, prober.
type Row<'a> = (&'a str, &'a str, Value, [bool; 4]);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_call_is_allowed_to_the_roles_that_need_it_and_refused_to_all_others() {
    const ALL: [bool; 4] = [true; 4];
    const NONE: [bool; 4] = [false; 4];
    const WRITER: [bool; 4] = [true, false, false, false];
    const VERIFIER: [bool; 4] = [false, true, false, false];
    const PRUNER: [bool; 4] = [false, false, true, false];
    const PROBER: [bool; 4] = [false, false, false, true];
    const READERS: [bool; 4] = [true, true, true, false];
    // Governance, so that the right to bypass would count.
    let (site, evidence) = site("governance");
    site.init().run().ok();
    site.backs_up();
    let first = |below: &str| {
        let found = versions(site.place, &site.bucket, &format!("main/{below}"));
        let one = found.into_iter().next().unwrap_or_else(|| panic!("nothing in {below}"));
        (one.key, one.version)
    };
    let (pack, pack_version) = first("packs/");
    let (index, _) = first("index/");
    let (run, run_version) = first("runs/");
    let lock = |days: i64| {
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        json!({"Mode": "GOVERNANCE", "RetainUntilDate": until.to_string()})
    };
    let on = |bucket: &str, more: Value| {
        let mut call = json!({"Bucket": bucket});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call
    };
    let vault = |more: Value| on(&site.bucket, more);
    let put = |bucket: &str, key: &str| {
        let lock = lock(1);
        on(
            bucket,
            json!({"Key": key, "Body": "x", "ObjectLockMode": "GOVERNANCE", "ChecksumAlgorithm": "SHA256",
                "ObjectLockRetainUntilDate": lock["RetainUntilDate"]}),
        )
    };
    // Unlocked garbage, as a writer leaves it: one for each role to try its hand at.
    let garbage: Vec<_> = ROLES
        .iter()
        .map(|role| {
            let key = format!("main/packs/00/garbage-{role}");
            let call = vault(json!({"Key": key, "Body": "x"}));
            let version = s3::call(site.place, "WRITER", "put_object", &call).unwrap();
            vault(json!({"Key": key, "VersionId": version}))
        })
        .collect();
    let canary =
        s3::call(site.place, "PROBER", "put_object", &put(&site.bucket, "main/canary/one"))
            .unwrap();
    let object = |key: &str| vault(json!({"Key": key}));
    let retain = |days: i64, bypass: bool| {
        vault(json!({"Key": pack, "VersionId": pack_version, "Retention": lock(days),
            "BypassGovernanceRetention": bypass}))
    };
    let versioned = |bypass: bool| {
        vault(json!({"Key": pack, "VersionId": pack_version, "BypassGovernanceRetention": bypass}))
    };
    let rows: Vec<Row<'_>> = vec![
        ("list keys", "list_objects_v2", vault(json!({})), ALL),
        ("list versions", "list_object_versions", vault(json!({})), ALL),
        ("read vault.json", "get_object", object("main/vault.json"), READERS),
        ("read the index", "get_object", object(&index), READERS),
        ("read a record", "get_object", object(&run), READERS),
        (
            "read a record's version",
            "get_object",
            vault(json!({"Key": run, "VersionId": run_version})),
            READERS,
        ),
        ("read a pack", "get_object", object(&pack), VERIFIER),
        (
            "read a pack's version",
            "get_object",
            vault(json!({"Key": pack, "VersionId": pack_version})),
            VERIFIER,
        ),
        ("see a pack's lock", "get_object_retention", object(&pack), READERS),
        (
            "see a canary's lock",
            "get_object_retention",
            object("main/canary/one"),
            [false, true, true, true],
        ),
        ("see versioning", "get_bucket_versioning", vault(json!({})), ALL),
        ("see default retention", "get_object_lock_configuration", vault(json!({})), ALL),
        ("see the policy", "get_bucket_policy", vault(json!({})), VERIFIER),
        ("store a pack", "put_object", put(&site.bucket, "main/packs/00/new"), WRITER),
        ("store an index segment", "put_object", put(&site.bucket, "main/index/new"), WRITER),
        ("store a record", "put_object", put(&site.bucket, "main/runs/web1/files/new"), WRITER),
        ("store a report", "put_object", put(&site.bucket, "main/reports/new"), NONE),
        ("store a canary", "put_object", put(&site.bucket, "main/canary/new"), PROBER),
        ("store outside the vault", "put_object", put(&site.bucket, "other/new"), NONE),
        (
            "copy a pack to where it could be read",
            "copy_object",
            vault(json!({"Key": "main/runs/copy",
            "CopySource": {"Bucket": site.bucket, "Key": pack}})),
            NONE,
        ),
        ("lengthen a lock", "put_object_retention", retain(500, false), WRITER),
        ("shorten a lock", "put_object_retention", retain(1, false), NONE),
        ("shorten a lock with bypass", "put_object_retention", retain(1, true), NONE),
        (
            "hold a pack for ever",
            "put_object_legal_hold",
            vault(json!({"Key": pack, "LegalHold": {"Status": "ON"}})),
            NONE,
        ),
        (
            "publish a pack",
            "put_object_acl",
            vault(json!({"Key": pack, "ACL": "public-read"})),
            NONE,
        ),
        (
            "tag a pack",
            "put_object_tagging",
            vault(json!({"Key": pack, "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}})),
            NONE,
        ),
        ("hide a pack", "delete_object", object(&pack), NONE),
        ("hide a record", "delete_object", object(&run), NONE),
        ("delete a locked version", "delete_object", versioned(false), NONE),
        ("delete a locked version with bypass", "delete_object", versioned(true), NONE),
        ("delete what isn't locked", "delete_object", Value::Null, PRUNER),
        (
            "delete versions of vault.json",
            "delete_object",
            vault(json!({"Key": "main/vault.json", "VersionId": "null"})),
            NONE,
        ),
        (
            "delete a canary without bypass",
            "delete_object",
            vault(json!({"Key": "main/canary/one", "VersionId": canary})),
            NONE,
        ),
        ("hide a canary", "delete_object", object("main/canary/one"), PROBER),
        (
            "delete a canary with bypass",
            "delete_object",
            vault(json!({"Key": "main/canary/one", "VersionId": canary,
            "BypassGovernanceRetention": true})),
            PROBER,
        ),
        (
            "replace the policy",
            "put_bucket_policy",
            vault(json!({"Policy": "{\"Version\":\"2012-10-17\",\"Statement\":[]}"})),
            NONE,
        ),
        ("remove the policy", "delete_bucket_policy", vault(json!({})), NONE),
        (
            "stop versioning",
            "put_bucket_versioning",
            vault(json!({"VersioningConfiguration": {"Status": "Suspended"}})),
            NONE,
        ),
        (
            "change default retention",
            "put_object_lock_configuration",
            vault(json!({"ObjectLockConfiguration":
            {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 9999}}}})),
            NONE,
        ),
        (
            "change lifecycle rules",
            "put_bucket_lifecycle_configuration",
            vault(json!({"LifecycleConfiguration": {"Rules": [
            {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]}})),
            NONE,
        ),
        ("open the bucket to all", "put_bucket_acl", vault(json!({"ACL": "public-read"})), NONE),
        ("delete the bucket", "delete_bucket", vault(json!({})), NONE),
        ("store evidence", "put_object", put(&evidence, "report"), VERIFIER),
        ("read evidence", "get_object", on(&evidence, json!({"Key": "report"})), VERIFIER),
        ("hide evidence", "delete_object", on(&evidence, json!({"Key": "report"})), NONE),
    ];
    let mut wrong = Vec::new();
    for (name, operation, arguments, expected) in rows {
        for (at, role) in ROLES.iter().enumerate() {
            let arguments = if arguments.is_null() { &garbage[at] } else { &arguments };
            let answer = s3::call(site.place, role, operation, arguments);
            let fine = match &answer {
                Ok(_) => expected[at],
                Err(code) => !expected[at] && code == "AccessDenied",
            };
            if !fine {
                let may = if expected[at] { "may" } else { "may not" };
                wrong.push(format!("{role} {may} {name}, but: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And the vault is still whole.
    let mut site = site;
    site.credential = Some(site.place.credential("VERIFIER"));
    // Done, with a warning: what the writer put under runs/ above is no record.
    site.restore("restored").run().exits(3).says("is no object of a vault");
}
