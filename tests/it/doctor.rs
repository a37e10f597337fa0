//! `keephold doctor` says what is wrong with a host's set-up, and nothing is changed by its asking.

use serde_json::Value;

use crate::prune::{objects, prune};
use crate::support::program::Program;
use crate::support::roles::{act_as, vault_policy};
use crate::support::{Place, Site, s3, tree, verify};

pub(crate) fn doctor(site: &Site) -> Program {
    site.program("keephold", "home", &["doctor", "--host", "web1"])
        .arg("--keys")
        .arg(site.path("keys"))
        .arg("--cache")
        .arg(site.path("cache"))
}

/// Names of the checks in a state.
fn named(found: &Value, state: &str) -> Vec<String> {
    let checks = found["checks"].as_array().unwrap().iter().filter(|c| c["state"] == state);
    checks
        .map(|c| format!("{}: {}", c["name"].as_str().unwrap(), c["text"].as_str().unwrap()))
        .collect()
}

/// A host with a run; on Ceph with the writer's credential, under the packaged policy.
pub(crate) fn writer(place: Place, lock: &'static str) -> Site {
    let mut site = Site::bare(place, lock);
    if place == Place::Ceph {
        s3::policy(site.place, &site.bucket, &vault_policy(&site));
        act_as(&mut site, "WRITER");
    }
    tree::plain(&site.source());
    site.init().run().ok();
    site.backs_up();
    site
}

#[test]
fn the_writer_s_credential_is_fine_and_asking_changes_nothing() {
    let site = writer(Place::Ceph, "compliance");
    let before = site.stored();
    let output = doctor(&site).run().ok();
    insta::assert_snapshot!("doctor-writer", site.redact(&output.stdout()));
    assert_eq!(site.stored(), before);
}

#[test]
fn the_owner_s_credential_is_too_wide_and_each_right_is_named() {
    let site = Site::new(Place::Ceph);
    tree::plain(&site.source());
    site.backs_up();
    let before = site.stored();
    let output = doctor(&site).run().exits(3);
    insta::assert_snapshot!("doctor-owner", site.redact(&output.stdout()));
    let found = doctor(&site).arg("--json").run().exits(3).json();
    let wide = named(&found, "warning").join("\n");
    for words in
        ["delete versions", "read packs", "legal holds", "the bucket's policy", "lifecycle"]
    {
        assert!(wide.contains(words), "{words}: {wide}");
    }
    assert_eq!(site.stored(), before);
}

#[test]
fn a_right_to_hide_objects_is_found_and_what_that_leaves_is_told() {
    let mut site = writer(Place::Ceph, "governance");
    let mut policy = vault_policy(&site);
    for statement in policy["Statement"].as_array_mut().unwrap() {
        let sid = statement["Sid"].as_str().unwrap().to_owned();
        let actions = statement["Action"].as_array_mut();
        match (sid.as_str(), actions) {
            ("WriterAdd", Some(actions)) => actions.push("s3:DeleteObject".into()),
            ("WriterOnlyAdds", Some(actions)) => actions.retain(|a| a != "s3:DeleteObject"),
            _ => {}
        }
    }
    s3::policy(site.place, &site.bucket, &policy);
    let before = site.stored();
    let found = doctor(&site).arg("--json").run().exits(3).json();
    let wide = named(&found, "warning").join("\n");
    assert!(wide.contains("may hide objects behind delete markers"), "{wide}");
    let told = named(&found, "note").join("\n");
    // It can't take the marker away again. That one hides nothing, and is the only trace.
    let all = site.stored();
    let new: Vec<_> = all.iter().filter(|line| !before.contains(line)).collect();
    let [marker] = new[..] else { panic!("{new:?}") };
    let key = marker.split(' ').next().unwrap();
    assert!(marker.ends_with(" true") && key.starts_with("main/packs/"), "{marker}");
    assert!(told.contains(key.trim_start_matches("main/")), "{told}");
    assert!(!before.iter().any(|line| line.starts_with(key)), "{key}");
    // Neither the verifier nor a restore minds, and the next prune tidies up.
    s3::policy(site.place, &site.bucket, &vault_policy(&site));
    act_as(&mut site, "VERIFIER");
    verify::green(&site);
    act_as(&mut site, "PRUNER");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let report = prune(&site, &[]).run().ok().json();
    assert_eq!(objects(&report, "marker", "deleted"), 1, "{report}");
    assert_eq!(site.stored(), before);
}

#[test]
fn a_right_to_bypass_is_found_without_ending_a_lock_sooner() {
    let lock_of = |site: &Site| {
        let key = "main/vault.json".to_owned();
        let object = s3::Object { place: site.place, bucket: &site.bucket, key };
        object.retention(&object.only_version()).unwrap().1
    };
    let site = Site::with_lock(Place::Ceph, "governance");
    let before = lock_of(&site);
    let found = doctor(&site).arg("--json").run().exits(3).json();
    let wide = named(&found, "warning").join("\n");
    assert!(wide.contains("bypass governance locks"), "{wide}");
    assert!(lock_of(&site) >= before);
    let found = doctor(&writer(Place::Ceph, "governance")).arg("--json").run().ok().json();
    let rightly = named(&found, "ok").join("\n");
    assert!(rightly.contains("bypass governance locks"), "{rightly}");
}

#[test]
fn a_lock_that_is_shorter_than_what_is_configured_is_named() {
    let site = writer(Place::Ceph, "compliance");
    let config = site.path("longer.toml");
    std::fs::write(&config, "[retention]\nkeep = '35d'\nevidence = '600d'\n").unwrap();
    let found = doctor(&site).arg("--json").arg("--config").arg(config).run().exits(3).json();
    let short = named(&found, "warning").join("\n");
    assert!(short.contains("locks: the newest record is locked for 400 days, shorter"), "{short}");
    let missing = site.path("missing.toml");
    doctor(&site).arg("--config").arg(missing).run().exits(2).says("can't be read");
}

#[test]
fn a_bucket_without_object_lock_and_a_missing_one_are_named() {
    let mut site = Site::bare(Place::Ceph, "none");
    site.bucket = s3::bucket(site.place, false);
    site.url = format!("s3://{}/main", site.bucket);
    site.init().run().ok();
    site.lock = "compliance";
    let found = doctor(&site).arg("--json").run().exits(3).json();
    let bad = named(&found, "bad").join("\n");
    assert!(
        bad.contains("object lock: not enabled") && bad.contains("versioning: not enabled"),
        "{bad}"
    );
    site.url = "s3://there-is-no-such-bucket/main".into();
    let found = doctor(&site).arg("--json").run().exits(3).json();
    assert!(named(&found, "bad").join("\n").contains("does not exist"), "{found}");
}

#[test]
fn what_cannot_be_asked_is_not_called_fine() {
    let mut site = Site::new(Place::Ceph);
    site.credential = Some(["nobody".into(), "nothing".into()]);
    let found = doctor(&site).arg("--json").run().exits(1).json();
    assert!(named(&found, "unchecked").join("\n").contains("InvalidAccessKeyId"), "{found}");
    let wrong = site.path("wrong.toml");
    std::fs::write(&wrong, "nonsense = 1\n").unwrap();
    doctor(&site).arg("--config").arg(wrong).run().exits(2).says("nonsense");
}

#[test]
fn a_local_vault_and_its_keys_are_examined() {
    use std::os::unix::fs::PermissionsExt;
    crate::support::need_root("the immutable attribute");
    let site = Site::new(Place::Local);
    let output = doctor(&site).run();
    insta::assert_snapshot!("doctor-local", site.redact(&output.stdout()));
    let set = |name: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(site.path(name), mode).unwrap();
    };
    set("vault", 0o777);
    let found = doctor(&site).arg("--json").run().exits(3).json();
    let bad = named(&found, "bad").join("\n");
    assert!(bad.contains("others may write to"), "{bad}");
    set("vault", 0o755);
    set("keys/vault.secret", 0o644);
    let output = doctor(&site).run();
    output.says("can read").says("chmod 600");
    // Another vault's fingerprint.
    set("keys/vault.secret", 0o600);
    std::fs::write(site.path("keys/vault.fingerprint"), "0".repeat(64)).unwrap();
    let found = doctor(&site).arg("--json").run().exits(3).json();
    assert!(named(&found, "bad").join("\n").contains("vault: "), "{found}");
}
