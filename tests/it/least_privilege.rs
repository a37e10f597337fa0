//! Each role can do its work with the policy that is shipped for it, and nothing else: Ceph's gateway enforces policies.

use serde_json::{Value, json};

use crate::support::calls::{ROLES, Thing, Things, on, put, table};
use crate::support::roles::{act_as, site};
use crate::support::{s3, tree};

#[test]
fn every_call_is_allowed_to_the_roles_that_need_it_and_refused_to_all_others() {
    // Governance, so that the right to bypass would count.
    let (mut site, buckets) = site("governance");
    tree::plain(&site.source());
    site.init().run().ok();
    site.backs_up();
    let first = |below: &str| {
        let found = s3::versions(site.place, &site.bucket, &format!("main/{below}"));
        let one = found.into_iter().next().unwrap_or_else(|| panic!("nothing in {below}"));
        Thing { key: one.key, version: one.version }
    };
    let pack = first("packs/");
    let stored = |role: &str, call: &Value| {
        let version = s3::call(site.place, role, "put_object", call).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Thing { key: text(&call["Key"]), version: text(&version) }
    };
    // Unlocked garbage, as a writer leaves it: one for each role to try its hand at.
    let garbage = ROLES.map(|role| {
        let key = format!("main/packs/00/garbage-{role}");
        let one = stored("WRITER", &on(&site.bucket, json!({"Key": key, "Body": "x"})));
        on(&site.bucket, json!({"Key": one.key, "VersionId": one.version}))
    });
    stored("REPLICATOR", &put(&buckets.copy, "main/vault.json", 30));
    let things = Things {
        bucket: site.bucket.clone(),
        evidence: buckets.evidence.clone(),
        copy: buckets.copy.clone(),
        pack,
        index: first("index/"),
        run: first("runs/"),
        canary: stored("PROBER", &put(&site.bucket, "main/canary/one", 1)),
        copied: stored("REPLICATOR", &put(&buckets.copy, "main/packs/00/copied", 30)),
    };
    let mut wrong = Vec::new();
    for (name, operation, arguments, expected) in table(&things) {
        for (at, role) in ROLES.iter().enumerate() {
            let arguments = if arguments.is_null() { &garbage[at] } else { &arguments };
            let answer = s3::call(site.place, role, operation, arguments);
            let fine = match &answer {
                Ok(_) => expected[at],
                Err(code) => !expected[at] && code == "AccessDenied",
            };
            if !fine {
                let may = if expected[at] { "may" } else { "may not" };
                wrong.push(format!("{role} {may} {name} ({operation}), but: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And the vault is still whole.
    act_as(&mut site, "VERIFIER");
    // Done, with a warning: what the writer put under runs/ above is no record.
    site.restore("restored").run().exits(3).says("is no object of a vault");
}
