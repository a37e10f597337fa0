//! The policies that no server here enforces (Amazon's, MinIO's) are held against the same table of calls as Ceph's, by
//! an evaluator of our own. That it judges rightly is seen on Ceph's policies, where the gateway itself was asked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use crate::support::calls::{self, May, NONE, ROLES, Row, Thing, Things, on, put, table};
use crate::support::iam::{Context, Request, Ruling, minio_refuses, ruling};
use crate::support::roles::{Buckets, printed};
use crate::support::{Place, Site};

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Amazon,
    Ceph,
    /// As its community edition is: it asks for `s3:DeleteObject` and `s3:GetObject` also where a version is named.
    MinIo,
    /// As its later forks are: there the rights to versions are of their own.
    MinIoFork,
}

/// The policies of a server, filled in.
struct Policies {
    server: Server,
    /// Of each role's user; none on Ceph.
    roles: Vec<Value>,
    /// Of the three buckets; none on MinIO.
    buckets: Vec<Value>,
}

impl Policies {
    fn of(server: Server, site: &Site, buckets: &Buckets) -> Self {
        let word = match server {
            Server::Amazon => "aws",
            Server::Ceph => "ceph",
            Server::MinIo | Server::MinIoFork => "minio",
        };
        let all = |names: &[&str]| -> Vec<Value> {
            names.iter().map(|what| printed(site, what, word, buckets)).collect()
        };
        let roles = ROLES.map(str::to_lowercase);
        let roles = roles.each_ref().map(String::as_str);
        Self {
            server,
            roles: if server == Server::Ceph { Vec::new() } else { all(&roles) },
            buckets: match server {
                Server::Amazon | Server::Ceph => all(&["bucket", "copy", "evidence"]),
                Server::MinIo | Server::MinIoFork => Vec::new(),
            },
        }
    }

    /// Whether a role has a right.
    fn ruling(&self, role: usize, action: &str, resource: &str, context: &Context) -> Ruling {
        let principal = format!("arn:aws:iam:::user/{}", ROLES[role].to_lowercase());
        let mut said: Vec<&Value> = self.roles.get(role).into_iter().collect();
        // A bucket's policy is about its own bucket.
        said.extend(&self.buckets);
        ruling(&said, &Request { principal: &principal, action, resource, context })
    }

    /// Whether a call goes through: the rights that it needs, and the locks that it meets.
    fn allows(&self, role: usize, operation: &str, call: &Value, of: &Things, tls: bool) -> bool {
        let context = self.context(operation, call, tls);
        let has = |action: &str, resource: &str| self.ruling(role, action, resource, &context);
        for (action, resource) in needs(self.server, operation, call) {
            if has(action, &resource) != Ruling::Allowed {
                return false;
            }
        }
        let object = resource(call);
        let names_version = call.get("VersionId").is_some();
        if self.server == Server::MinIo
            && operation == "delete_object"
            && names_version
            && has("s3:DeleteObjectVersion", &object) == Ruling::Denied
        {
            return false;
        }
        let bypasses = call["BypassGovernanceRetention"] == true
            && has("s3:BypassGovernanceRetention", &object) == Ruling::Allowed;
        bypasses || !meets_lock(operation, call, of)
    }

    /// What policies' conditions can ask of a call.
    fn context(&self, operation: &str, call: &Value, tls: bool) -> Context {
        let mut context = Context::from([("aws:SecureTransport", tls.to_string())]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(version) = text(&call["VersionId"]) {
            context.insert("s3:versionid", version);
        }
        if let Some(value) = text(&call["IfNoneMatch"]) {
            context.insert("s3:if-none-match", value);
        }
        let until = match operation {
            // MinIO reckons the days of a change of a lock only.
            "put_object" if self.server == Server::Amazon => {
                text(&call["ObjectLockRetainUntilDate"])
            }
            "put_object_retention" => text(&call["Retention"]["RetainUntilDate"]),
            _ => None,
        };
        if let Some(until) = until {
            context.insert("s3:object-lock-remaining-retention-days", days_to(&until).to_string());
        }
        context
    }
}

fn days_to(until: &str) -> i64 {
    let until: jiff::Timestamp = until.parse().unwrap();
    (until.duration_since(jiff::Timestamp::now()).as_secs() + 3_600) / 86_400
}

fn resource(call: &Value) -> String {
    let bucket = call["Bucket"].as_str().unwrap();
    match call["Key"].as_str() {
        Some(key) => format!("arn:aws:s3:::{bucket}/{key}"),
        None => format!("arn:aws:s3:::{bucket}"),
    }
}

/// The rights that a call needs (Amazon: "Actions, resources, and condition keys for Amazon S3").
fn needs(server: Server, operation: &str, call: &Value) -> Vec<(&'static str, String)> {
    let names_version = call.get("VersionId").is_some() && server != Server::MinIo;
    let actions: &[&'static str] = match operation {
        "list_objects_v2" => &["s3:ListBucket"],
        "list_object_versions" => &["s3:ListBucketVersions"],
        "get_object" if names_version => &["s3:GetObjectVersion"],
        "get_object" => &["s3:GetObject"],
        "get_object_retention" => &["s3:GetObjectRetention"],
        "get_bucket_versioning" => &["s3:GetBucketVersioning"],
        "get_object_lock_configuration" => &["s3:GetBucketObjectLockConfiguration"],
        "get_bucket_policy" => &["s3:GetBucketPolicy"],
        "put_object" if call.get("ObjectLockMode").is_some() => {
            &["s3:PutObject", "s3:PutObjectRetention"]
        }
        "put_object" => &["s3:PutObject"],
        "copy_object" => {
            let source = &call["CopySource"];
            return vec![("s3:GetObject", resource(source)), ("s3:PutObject", resource(call))];
        }
        "put_object_retention" => &["s3:PutObjectRetention"],
        "put_object_legal_hold" => &["s3:PutObjectLegalHold"],
        "put_object_acl" => &["s3:PutObjectAcl"],
        "put_object_tagging" => &["s3:PutObjectTagging"],
        "delete_object" if names_version => &["s3:DeleteObjectVersion"],
        "delete_object" => &["s3:DeleteObject"],
        "put_bucket_policy" => &["s3:PutBucketPolicy"],
        "delete_bucket_policy" => &["s3:DeleteBucketPolicy"],
        "put_bucket_versioning" => &["s3:PutBucketVersioning"],
        "put_object_lock_configuration" => &["s3:PutBucketObjectLockConfiguration"],
        "put_bucket_lifecycle_configuration" => &["s3:PutLifecycleConfiguration"],
        "put_bucket_acl" => &["s3:PutBucketAcl"],
        "delete_bucket" => &["s3:DeleteBucket"],
        other => panic!("it isn't known what {other} needs"),
    };
    actions.iter().map(|action| (*action, resource(call))).collect()
}

/// For how many days what the table is about is locked.
const LOCKED: i64 = 30;

/// Whether a call meets a governance lock that stops it.
fn meets_lock(operation: &str, call: &Value, of: &Things) -> bool {
    let (key, version) = (call["Key"].as_str(), call["VersionId"].as_str());
    let held = [&of.pack, &of.index, &of.run, &of.canary, &of.copied];
    let is_held = |thing: &&&Thing| {
        Some(thing.key.as_str()) == key && Some(thing.version.as_str()) == version
    };
    if !held.iter().any(|thing| is_held(&thing)) {
        return false;
    }
    match operation {
        "delete_object" => true,
        "put_object_retention" => {
            days_to(call["Retention"]["RetainUntilDate"].as_str().unwrap()) < LOCKED
        }
        _ => false,
    }
}

/// Names as a vault has them; nothing is there.
fn things(bucket: &str, buckets: &Buckets) -> Things {
    let thing = |key: &str| Thing { key: format!("main/{key}"), version: "v1".into() };
    Things {
        bucket: bucket.to_owned(),
        evidence: buckets.evidence.clone(),
        copy: buckets.copy.clone(),
        pack: thing("packs/00/one"),
        index: thing("index/one"),
        run: thing("runs/web1/files/one"),
        canary: thing("canary/one"),
        copied: thing("packs/00/copied"),
    }
}

/// A site of which only the names count, on no server.
fn named() -> (Site, Buckets) {
    let mut site = Site::bare(Place::Local, "compliance");
    site.url = "s3://acme/main".into();
    (site, Buckets { evidence: "acme-evidence".into(), copy: "acme-copy".into() })
}

/// What is wrong with a server's policies, by a table.
fn wrong(policies: &Policies, rows: Vec<Row>, of: &Things, tls: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, operation, call, expected) in rows {
        for (at, role) in ROLES.iter().enumerate() {
            let garbage =
                json!({"Key": format!("main/packs/00/garbage-{role}"), "VersionId": "v1"});
            let call = if call.is_null() { on(&of.bucket, garbage) } else { call.clone() };
            let may = policies.allows(at, operation, &call, of, tls);
            if may != expected[at] {
                let word = if may { "may" } else { "may not" };
                wrong.push(format!("{:?}: {role} {word} {name} ({operation})", policies.server));
            }
        }
    }
    wrong
}

#[test]
fn each_server_s_policies_allow_what_ceph_s_gateway_was_seen_to_allow() {
    let (site, buckets) = named();
    let of = things("acme", &buckets);
    for server in [Server::Ceph, Server::Amazon, Server::MinIo, Server::MinIoFork] {
        let policies = Policies::of(server, &site, &buckets);
        let found = wrong(&policies, table(&of), &of, true);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn some_servers_bound_locks_and_demand_if_none_match_and_tls() {
    let (site, buckets) = named();
    let of = things("acme", &buckets);
    let writer: May = [true, false, false, false, false];
    let prober: May = [false, false, false, true, false];
    let replicator: May = [false, false, false, false, true];
    let no_condition = |bucket: &str, key: &str| {
        let mut call = put(bucket, key, 1);
        call.as_object_mut().unwrap().remove("IfNoneMatch");
        call
    };
    for server in [Server::Ceph, Server::Amazon, Server::MinIo, Server::MinIoFork] {
        // Who may all the same, where the server's policies can't say that nobody may.
        let but = |can: &[Server], may: May| if can.contains(&server) { NONE } else { may };
        let (amazon, days) = ([Server::Amazon], [Server::Amazon, Server::MinIo, Server::MinIoFork]);
        let canary = |days| calls::retain("acme", &of.canary, days, false);
        let rows = vec![
            (
                "overwrite a pack",
                "put_object",
                no_condition("acme", &of.pack.key),
                but(&amazon, writer),
            ),
            (
                "overwrite a pack of the copy",
                "put_object",
                no_condition("acme-copy", &of.copied.key),
                but(&amazon, replicator),
            ),
            (
                "store with a lock of decades",
                "put_object",
                put("acme", "main/packs/00/new", 9_999),
                but(&amazon, writer),
            ),
            (
                "store in the copy with a lock of decades",
                "put_object",
                put("acme-copy", "main/packs/00/new", 9_999),
                but(&amazon, replicator),
            ),
            (
                "lock a pack for decades",
                "put_object_retention",
                calls::retain("acme", &of.pack, 9_999, false),
                but(&days, writer),
            ),
            (
                "lock a pack of the copy for decades",
                "put_object_retention",
                calls::retain("acme-copy", &of.copied, 9_999, false),
                but(&days, replicator),
            ),
            (
                "lock a canary for decades",
                "put_object_retention",
                canary(9_999),
                but(&days, prober),
            ),
        ];
        let policies = Policies::of(server, &site, &buckets);
        let mut found = wrong(&policies, rows, &of, true);
        // Without TLS nobody may anything on Amazon.
        if server == Server::Amazon {
            let plain = table(&of).into_iter().map(|(name, op, call, _)| (name, op, call, NONE));
            found.extend(wrong(&policies, plain.collect(), &of, false));
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn minio_takes_the_policies_that_are_printed_for_it() {
    let (site, buckets) = named();
    for policy in Policies::of(Server::MinIo, &site, &buckets).roles {
        assert_eq!(minio_refuses(&policy), None, "{policy:#}");
    }
    // And not those that are printed for Amazon, which is why it has its own.
    let amazon = Policies::of(Server::Amazon, &site, &buckets).roles;
    let refused = minio_refuses(&amazon[0]).unwrap();
    assert_eq!(refused, "s3:object-lock-remaining-retention-days can't be asked of s3:PutObject");
}

#[test]
fn what_the_evaluator_does_not_know_it_does_not_judge() {
    let (site, buckets) = named();
    let of = things("acme", &buckets);
    let known = || Policies::of(Server::Amazon, &site, &buckets);
    let judged = |policies: &Policies| {
        let judge = AssertUnwindSafe(|| wrong(policies, table(&of), &of, true));
        catch_unwind(judge).map_err(|why| *why.downcast::<String>().unwrap())
    };
    assert_eq!(judged(&known()), Ok(Vec::new()));
    for (member, value, says) in [
        ("Effect", json!("Perhaps"), "an unknown effect"),
        ("NotPrincipal", json!("*"), "a member that isn't known"),
        ("NotAction", json!("s3:GetObject"), "Action or NotAction"),
        ("Action", json!("s3:GetObjects"), "an unknown action"),
        ("Condition", json!({"DateLessThan": {"s3:versionid": "1"}}), "an unknown operator"),
        ("Condition", json!({"Null": {"aws:PrincipalTag": "true"}}), "an unknown condition key"),
    ] {
        let mut policies = known();
        policies.roles[0]["Statement"][1][member] = value;
        let why = judged(&policies).unwrap_err();
        assert!(why.contains(says), "{member}: {why}");
    }
    // A statement that is left out is noticed, and one that is too wide.
    let mut policies = known();
    policies.buckets[0]["Statement"]
        .as_array_mut()
        .unwrap()
        .retain(|s| s["Sid"] != "WriterOnlyAdds");
    policies.roles[0]["Statement"][1]["Action"] = json!(["s3:DeleteObject"]);
    let found = judged(&policies).unwrap().join("\n");
    assert!(found.contains("WRITER may hide a pack"), "{found}");
    assert!(found.contains("WRITER may not store a pack"), "{found}");
}
