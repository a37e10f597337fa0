//! A vault in a container of Azure's, as far as Azurite goes: it keeps no locks, so what needs them must be refused, and
//! nothing may be called immutable.

use crate::support::program::Program;
use crate::support::{Place, Site, tree, variable, verify};

/// A host whose vault is to be in Azurite's container.
pub(crate) fn site(lock: &'static str) -> Site {
    let mut site = Site::bare(Place::Local, lock);
    let name = site.dir.path().file_name().unwrap().to_string_lossy().into_owned();
    site.url = format!(
        "az://{}/{}/{name}",
        variable("KEEPHOLD_TEST_AZURITE_ACCOUNT"),
        variable("KEEPHOLD_TEST_AZURITE_CONTAINER")
    );
    site.endpoint = Some(variable("KEEPHOLD_TEST_AZURITE_ENDPOINT"));
    site
}

/// With the account's key.
pub(crate) fn keyed(program: Program) -> Program {
    program.env("AZURE_STORAGE_KEY", variable("KEEPHOLD_TEST_AZURITE_KEY"))
}

#[test]
fn what_is_backed_up_without_locks_comes_back_and_is_not_called_immutable() {
    comes_back_unlocked(&site("none"), keyed);
}

/// Two runs, a restore and a report on a target that is asked for no locks.
pub(crate) fn comes_back_unlocked(site: &Site, keyed: fn(Program) -> Program) {
    tree::plain(&site.source());
    keyed(site.init()).run().ok();
    keyed(site.backup()).run().ok();
    let second = keyed(site.backup()).run().ok().json();
    assert_eq!(second["seq"], 2, "{second}");
    keyed(site.restore("out")).run().ok();
    tree::same(&site.source(), &site.restored("out"));
    let output = keyed(verify::command(site, &[])).run();
    let report = output.json();
    assert_eq!(report["target"]["strength"], "none", "{report}");
    let codes = verify::codes(&report);
    assert!(codes.contains(&"KH-LOCK-007".to_owned()), "{codes:?}");
    assert_eq!(report["restore_tests"][0]["result"], "passed", "{report}");
}

#[test]
fn a_container_that_keeps_no_locks_is_refused() {
    let site = site("compliance");
    let output = keyed(site.init()).run().exits(1);
    insta::assert_snapshot!(site.redact(&output.stderr), @r#"
error: making the vault; no keys were kept
  cause: VAULT does not protect what it stores: vault.json was stored without a version, so no lock can be extended or read by it
  hint: use a container made with version-level immutability, and a credential that may set policies and read them, or set lock = "none" and accept that nothing is immutable
"#);
    assert!(!site.path("keys/vault.secret").exists(), "keys of no vault were left");
}

#[test]
fn without_a_key_it_says_where_one_belongs() {
    let site = site("none");
    let output = site.init().env("AZURE_STORAGE_KEY", "not a key").run().exits(1);
    insta::assert_snapshot!(site.redact(&output.stderr), @r#"
error: no credential for VAULT: AZURE_STORAGE_KEY: the secret is empty, or holds characters that can't be in one
  hint: set secret_file (an account key or a shared access signature), AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY, or give this machine an identity that may use the container
"#);
}
