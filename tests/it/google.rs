//! A vault in a bucket of Google's: whole runs under locks against our model of the service, and what needs no locks
//! against fake-gcs-server, which holds none, so that nothing on it may be called immutable.

use serde_json::Value;

use crate::gcs_model::{self, Quirks, TOKEN};
use crate::support::program::Program;
use crate::support::{Place, Site, tree, variable, verify};
use crate::{azure, doctor, prove};

/// A host whose vault is to be in a bucket of the server at `endpoint`.
fn site(endpoint: String, bucket: &str, lock: &'static str) -> Site {
    let mut site = Site::bare(Place::Local, lock);
    let name = site.dir.path().file_name().unwrap().to_string_lossy().into_owned();
    site.url = format!("gs://{bucket}/{name}");
    site.endpoint = Some(endpoint);
    site
}

fn emulated(lock: &'static str) -> Site {
    let bucket = variable("KEEPHOLD_TEST_FAKEGCS_BUCKET");
    site(variable("KEEPHOLD_TEST_FAKEGCS_ENDPOINT"), &bucket, lock)
}

/// With a token.
pub(crate) fn keyed(program: Program) -> Program {
    program.env("CLOUDSDK_AUTH_ACCESS_TOKEN", TOKEN)
}

fn verdict(site: &Site) -> Value {
    keyed(prove::command(site)).run().json()
}

#[test]
fn a_vault_under_locks_is_backed_up_verified_and_restored() {
    let model = gcs_model::start(Quirks::default());
    let site = site(model.endpoint.clone(), "backups", "compliance");
    tree::plain(&site.source());
    keyed(site.init()).run().ok();
    keyed(site.backup()).run().ok();
    std::fs::write(site.source().join("more"), "more").unwrap();
    let second = keyed(site.backup()).run().ok().json();
    assert_eq!(second["seq"], 2, "{second}");
    // One request an object, in which its lock travels; extensions and deletions name the generation.
    for request in model.requests().split("\n\n") {
        let line = request.lines().next().unwrap();
        if line.starts_with("POST ") {
            assert!(request.contains(r#""retention":{"mode":"Locked""#), "{request}");
            assert!(line.contains("ifGenerationMatch=0"), "{line}");
        }
        assert!(!line.starts_with("PATCH ") || line.contains("generation="), "{line}");
        assert!(!line.starts_with("DELETE "), "{line}");
    }
    keyed(site.restore("out")).run().ok();
    tree::same(&site.source(), &site.restored("out"));
    let report = keyed(verify::command(&site, &[])).run().ok().json();
    assert_eq!(report["target"]["strength"], "compliance", "{report:#}");
    assert_eq!(verify::codes(&report), [""; 0], "{report:#}");
    let told = keyed(doctor::doctor(&site)).run().stdout();
    assert!(told.contains("locked retentions, which nobody can remove"), "{told}");
}

#[test]
fn a_lock_is_proven_and_one_that_can_be_lifted_is_found() {
    let model = gcs_model::start(Quirks::default());
    for (lock, wanted) in [("compliance", "held"), ("governance", "broken")] {
        let site = site(model.endpoint.clone(), "backups", lock);
        keyed(site.init()).run().ok();
        let proof = verdict(&site);
        assert_eq!(proof["verdict"], wanted, "{lock}: {proof:#}");
    }
    // A credential without the right to delete is refused for its own sake, which proves nothing.
    let model = gcs_model::start(Quirks { undeletable: true, ..Quirks::default() });
    let site = site(model.endpoint.clone(), "backups", "compliance");
    keyed(site.init()).run().ok();
    let proof = verdict(&site);
    assert_ne!(proof["verdict"], "held", "{proof:#}");
}

#[test]
fn what_is_backed_up_without_locks_comes_back_and_is_not_called_immutable() {
    azure::comes_back_unlocked(&emulated("none"), keyed);
}

#[test]
fn a_bucket_without_object_retention_is_refused() {
    let site = emulated("compliance");
    let output = keyed(site.init()).run().exits(1);
    insta::assert_snapshot!(site.redact(&output.stderr), @r#"
error: VAULT does not protect what it stores: object retention is not enabled on the bucket
  hint: use a bucket made with object retention, and a credential that may set locks and read them, or set lock = "none" and accept that nothing is immutable
"#);
    assert!(!site.path("keys/vault.secret").exists(), "keys of no vault were left");
}

#[test]
fn without_a_credential_it_says_where_one_belongs() {
    let site = site("http://127.0.0.1:9".into(), "backups", "none");
    let output =
        site.init().env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json").run().exits(1);
    insta::assert_snapshot!(site.redact(&output.stderr), @"
error: no credential for VAULT: /nowhere/key.json: it can't be read: No such file or directory (os error 2)
  hint: set secret_file (a service account's key, or an access token) or GOOGLE_APPLICATION_CREDENTIALS, or give this machine a service account that may use the bucket
");
}
