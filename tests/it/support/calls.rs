//! Calls that somebody could make of a vault's bucket, its copy's and the verifier's, and which roles may.

use serde_json::{Value, json};

/// The roles, as Ceph's users are named.
pub(crate) const ROLES: [&str; 5] = ["WRITER", "VERIFIER", "PRUNER", "PROBER", "REPLICATOR"];

/// Which of [`ROLES`] may.
pub(crate) type May = [bool; 5];

const ALL: May = [true; 5];
pub(crate) const NONE: May = [false; 5];
const WRITER: May = [true, false, false, false, false];
const VERIFIER: May = [false, true, false, false, false];
const PRUNER: May = [false, false, true, false, false];
const PROBER: May = [false, false, false, true, false];
const REPLICATOR: May = [false, false, false, false, true];
const READERS: May = [true, true, true, false, true];
const READERS_OF_DATA: May = [false, true, false, false, true];
const LOOKERS_AT_THE_COPY: May = READERS_OF_DATA;

/// A call, and who may make it. Without arguments it is made of the role's own unlocked garbage.
pub(crate) type Row = (&'static str, &'static str, Value, May);

/// An object that calls are made of.
#[derive(Debug, Clone)]
pub(crate) struct Thing {
    pub(crate) key: String,
    pub(crate) version: String,
}

/// What there is to make calls of. Objects are in governance mode, so that the right to bypass would count.
#[derive(Debug, Clone)]
pub(crate) struct Things {
    pub(crate) bucket: String,
    pub(crate) evidence: String,
    pub(crate) copy: String,
    /// Of the vault; locked for more than a day.
    pub(crate) pack: Thing,
    pub(crate) index: Thing,
    pub(crate) run: Thing,
    /// Locked for a day.
    pub(crate) canary: Thing,
    /// Of the copy; locked for more than a day.
    pub(crate) copied: Thing,
}

/// A date so many days from now.
pub(crate) fn in_days(days: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days)).to_string()
}

/// A call's arguments: those of its bucket, and more.
pub(crate) fn on(bucket: &str, more: Value) -> Value {
    let (mut call, Value::Object(more)) = (json!({"Bucket": bucket}), more) else {
        panic!("arguments are an object")
    };
    call.as_object_mut().unwrap().extend(more);
    call
}

/// A write as Keephold makes it: with a lock, and never over what is there.
pub(crate) fn put(bucket: &str, key: &str, days: i64) -> Value {
    on(
        bucket,
        json!({"Key": key, "Body": "x", "ChecksumAlgorithm": "SHA256", "IfNoneMatch": "*",
            "ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": in_days(days)}),
    )
}

/// A change of a version's lock.
pub(crate) fn retain(bucket: &str, of: &Thing, days: i64, bypass: bool) -> Value {
    on(
        bucket,
        json!({"Key": of.key, "VersionId": of.version, "BypassGovernanceRetention": bypass,
            "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": in_days(days)}}),
    )
}

fn version(bucket: &str, of: &Thing, bypass: bool) -> Value {
    let mut call = on(bucket, json!({"Key": of.key, "VersionId": of.version}));
    if bypass {
        call["BypassGovernanceRetention"] = true.into();
    }
    call
}

/// The table.
pub(crate) fn table(of: &Things) -> Vec<Row> {
    [reads(of), writes(of), deletions(of), settings(of), copy(of), evidence(of)].concat()
}

fn reads(of: &Things) -> Vec<Row> {
    let vault = |more: Value| on(&of.bucket, more);
    let object = |key: &str| vault(json!({"Key": key}));
    let version = |of: &Thing| vault(json!({"Key": of.key, "VersionId": of.version}));
    vec![
        ("list keys", "list_objects_v2", vault(json!({})), ALL),
        ("list versions", "list_object_versions", vault(json!({})), ALL),
        ("read vault.json", "get_object", object("main/vault.json"), READERS),
        ("read the index", "get_object", object(&of.index.key), READERS),
        ("read a record", "get_object", object(&of.run.key), READERS),
        ("read a record's version", "get_object", version(&of.run), READERS),
        ("read a pack", "get_object", object(&of.pack.key), READERS_OF_DATA),
        ("read a pack's version", "get_object", version(&of.pack), READERS_OF_DATA),
        ("see a pack's lock", "get_object_retention", object(&of.pack.key), READERS),
        (
            "see a canary's lock",
            "get_object_retention",
            object(&of.canary.key),
            [false, true, true, true, false],
        ),
        ("see versioning", "get_bucket_versioning", vault(json!({})), ALL),
        ("see default retention", "get_object_lock_configuration", vault(json!({})), ALL),
        ("see the policy", "get_bucket_policy", vault(json!({})), VERIFIER),
    ]
}

fn writes(of: &Things) -> Vec<Row> {
    let vault = |more: Value| on(&of.bucket, more);
    let put = |key: &str| put(&of.bucket, key, 1);
    let retain = |days, bypass| retain(&of.bucket, &of.pack, days, bypass);
    let pack = &of.pack.key;
    vec![
        ("store a pack", "put_object", put("main/packs/00/new"), WRITER),
        ("store an index segment", "put_object", put("main/index/new"), WRITER),
        ("store a record", "put_object", put("main/runs/web1/files/new"), WRITER),
        ("store a report", "put_object", put("main/reports/new"), NONE),
        ("store a canary", "put_object", put("main/canary/new"), PROBER),
        ("store outside the vault", "put_object", put("other/new"), NONE),
        (
            "copy a pack to where it could be read",
            "copy_object",
            vault(json!({"Key": "main/runs/copy",
                "CopySource": {"Bucket": of.bucket, "Key": pack}})),
            NONE,
        ),
        ("lengthen a lock", "put_object_retention", retain(440, false), WRITER),
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
    ]
}

fn deletions(of: &Things) -> Vec<Row> {
    let hide = |key: &str| on(&of.bucket, json!({"Key": key}));
    let delete = |thing: &Thing, bypass| version(&of.bucket, thing, bypass);
    let config = Thing { key: "main/vault.json".into(), version: "null".into() };
    vec![
        ("hide a pack", "delete_object", hide(&of.pack.key), NONE),
        ("hide a record", "delete_object", hide(&of.run.key), NONE),
        ("delete a locked version", "delete_object", delete(&of.pack, false), NONE),
        ("delete a locked version with bypass", "delete_object", delete(&of.pack, true), NONE),
        ("delete what isn't locked", "delete_object", Value::Null, PRUNER),
        ("delete versions of vault.json", "delete_object", delete(&config, false), NONE),
        ("delete a canary without bypass", "delete_object", delete(&of.canary, false), NONE),
        ("hide a canary", "delete_object", hide(&of.canary.key), PROBER),
        ("delete a canary with bypass", "delete_object", delete(&of.canary, true), PROBER),
    ]
}

/// What nobody but a bucket's owner may change.
fn changes(bucket: &str) -> Vec<(&'static str, Value)> {
    let with = |more: Value| on(bucket, more);
    vec![
        (
            "put_bucket_policy",
            with(json!({"Policy": "{\"Version\":\"2012-10-17\",\"Statement\":[]}"})),
        ),
        ("delete_bucket_policy", with(json!({}))),
        (
            "put_bucket_versioning",
            with(json!({"VersioningConfiguration": {"Status": "Suspended"}})),
        ),
        (
            "put_object_lock_configuration",
            with(json!({"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 9999}}}})),
        ),
        (
            "put_bucket_lifecycle_configuration",
            with(json!({"LifecycleConfiguration": {"Rules": [{"ID": "a", "Status": "Enabled",
                "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]}})),
        ),
        ("put_bucket_acl", with(json!({"ACL": "public-read"}))),
        ("delete_bucket", with(json!({}))),
    ]
}

fn settings(of: &Things) -> Vec<Row> {
    let changes = changes(&of.bucket).into_iter();
    changes.map(|(operation, call)| ("change the vault's bucket", operation, call, NONE)).collect()
}

fn copy(of: &Things) -> Vec<Row> {
    let Things { copy, copied, .. } = of;
    let object = |key: &str| on(copy, json!({"Key": key}));
    let held = on(copy, json!({"Key": copied.key, "LegalHold": {"Status": "ON"}}));
    let mut rows = vec![
        ("list the copy", "list_object_versions", on(copy, json!({})), LOOKERS_AT_THE_COPY),
        (
            "see how the copy locks",
            "get_object_lock_configuration",
            on(copy, json!({})),
            LOOKERS_AT_THE_COPY,
        ),
        ("see the copy's policy", "get_bucket_policy", on(copy, json!({})), VERIFIER),
        (
            "read the copy's vault.json",
            "get_object",
            object("main/vault.json"),
            LOOKERS_AT_THE_COPY,
        ),
        ("read a pack of the copy", "get_object", object(&copied.key), VERIFIER),
        (
            "see a lock of the copy",
            "get_object_retention",
            object(&copied.key),
            LOOKERS_AT_THE_COPY,
        ),
        ("store a pack in the copy", "put_object", put(copy, "main/packs/00/new", 1), REPLICATOR),
        ("store a record in the copy", "put_object", put(copy, "main/runs/w/f/new", 1), REPLICATOR),
        ("store elsewhere in the copy's bucket", "put_object", put(copy, "other/new", 1), NONE),
        ("store a canary in the copy", "put_object", put(copy, "main/canary/new", 1), NONE),
        (
            "lengthen a lock of the copy",
            "put_object_retention",
            retain(copy, copied, 440, false),
            REPLICATOR,
        ),
        (
            "shorten a lock of the copy",
            "put_object_retention",
            retain(copy, copied, 1, false),
            NONE,
        ),
        (
            "shorten a lock of the copy with bypass",
            "put_object_retention",
            retain(copy, copied, 1, true),
            NONE,
        ),
        ("hide a pack of the copy", "delete_object", object(&copied.key), NONE),
        ("delete a pack of the copy", "delete_object", version(copy, copied, false), NONE),
        ("the same with bypass", "delete_object", version(copy, copied, true), NONE),
        ("hold a pack of the copy", "put_object_legal_hold", held, NONE),
    ];
    let changes = changes(copy).into_iter();
    rows.extend(
        changes.map(|(operation, call)| ("change the copy's bucket", operation, call, NONE)),
    );
    rows
}

fn evidence(of: &Things) -> Vec<Row> {
    let Things { evidence, .. } = of;
    let report = on(evidence, json!({"Key": "report"}));
    vec![
        ("store evidence", "put_object", put(evidence, "report", 1), VERIFIER),
        ("read evidence", "get_object", report.clone(), VERIFIER),
        ("hide evidence", "delete_object", report, NONE),
    ]
}
