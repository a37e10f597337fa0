//! What `keephold doctor` prints to mend what it found is run as it stands there, by a shell; then it finds nothing more.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::doctor::{doctor, writer};
use crate::support::program::{Output, Program, binary};
use crate::support::proxy::Proxy;
use crate::support::s3::{self, call};
use crate::support::{Place, Site, tree, variable};

/// Runs commands as the bucket's owner: with `keephold`, the real `aws` of the tests' Python, and what the system has.
fn paste(site: &Site, commands: &str) -> Output {
    let bin = site.path("admin/bin");
    if !bin.exists() {
        std::fs::create_dir_all(&bin).unwrap();
        let python = variable("KEEPHOLD_TEST_PYTHON");
        symlink(binary("keephold"), bin.join("keephold")).unwrap();
        symlink(Path::new(&python).with_file_name("aws"), bin.join("aws")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell =
        Program::new("bash", &site.path("admin")).args(["-euc", commands]).env("PATH", path);
    if site.place != Place::Local {
        let [id, secret] = site.place.credential("");
        shell = shell
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_DEFAULT_REGION", "us-east-1");
    }
    shell.run()
}

fn examined(site: &Site) -> Value {
    doctor(site).arg("--json").run().json()
}

/// How a check stands, and what mends it.
fn state<'a>(found: &'a Value, name: &str) -> (&'a str, &'a str) {
    let check = found["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no {name}: {found:#}"));
    (check["state"].as_str().unwrap(), check["mend"].as_str().unwrap_or_default())
}

/// Whatever should be mended says how: by commands, or by a setting that names its file.
fn says_how(found: &Value) {
    const PROGRAMS: [&str; 12] = [
        "aws ",
        "keephold ",
        "chmod ",
        "install ",
        "systemctl ",
        "shred ",
        "setcap ",
        "echo ",
        "mv ",
        "scp ",
        "mc ",
        "gcloud ",
    ];
    for check in found["checks"].as_array().unwrap() {
        if !["warning", "bad"].contains(&check["state"].as_str().unwrap()) {
            continue;
        }
        let mend = check["mend"].as_str().unwrap_or_default();
        let does = |line: &&str| {
            PROGRAMS.iter().any(|program| line.starts_with(program))
                || (line.contains(" = ") && line.contains("keephold.toml"))
        };
        assert!(mend.lines().any(|line| does(&line)), "{check:#}");
        assert!(mend.lines().all(|line| line.starts_with('#') || does(&line)), "{check:#}");
    }
}

#[test]
fn a_credential_that_may_too_much_is_exchanged_for_a_writer_s() {
    let mut site = Site::new(Place::Ceph);
    tree::plain(&site.source());
    site.backs_up();
    let found = examined(&site);
    says_how(&found);
    let (is, mend) = state(&found, "too wide");
    assert_eq!(is, "warning");
    assert!(mend.contains(" WRITER "), "{mend}");
    paste(&site, &mend.replace(" WRITER ", " arn:aws:iam:::user/writer ")).ok();
    site.credential = Some(site.place.credential("WRITER"));
    assert!(doctor(&site).run().ok().stdout().contains("all fine"));
}

#[test]
fn a_default_retention_that_outlives_runs_is_taken_away() {
    for place in Place::S3 {
        let site = writer(place, "compliance");
        let rule = json!({"Bucket": site.bucket, "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 300}}}});
        call(place, "", "put_object_lock_configuration", &rule).unwrap();
        let found = examined(&site);
        says_how(&found);
        let (is, mend) = state(&found, "default retention");
        assert_eq!(is, "warning", "{place:?}: {found:#}");
        paste(&site, mend).ok();
        let found = examined(&site);
        assert_eq!(state(&found, "default retention").0, "ok", "{place:?}: {found:#}");
    }
}

#[test]
fn a_bucket_that_keeps_no_versions_and_cannot_lock_is_made_anew_or_mended() {
    for place in Place::S3 {
        let mut site = Site::bare(place, "none");
        site.bucket = s3::bucket(place, false);
        site.url = format!("s3://{}/main", site.bucket);
        site.init().run().ok();
        site.lock = "compliance";
        let found = examined(&site);
        says_how(&found);
        let (lock, mend) = state(&found, "object lock");
        let (versioning, keep_versions) = state(&found, "versioning");
        assert_eq!((lock, versioning), ("bad", "bad"), "{place:?}: {found:#}");
        paste(&site, keep_versions).ok();
        assert_eq!(state(&examined(&site), "versioning").0, "ok", "{place:?}");
        // As it says: another bucket, everywhere; this one only where the server can.
        let (another, this) = mend.split_once("\n# Amazon can").unwrap();
        paste(&site, another).ok();
        let enabled = paste(&site, &format!("# Amazon can{this}"));
        println!("{place:?}: enabling Object Lock on a bucket that is there: {:?}", enabled.code);
        if enabled.code == Some(0) {
            assert_eq!(state(&examined(&site), "object lock").0, "ok", "{place:?}");
        }
        site.url = format!("s3://{}-locked/main", site.bucket);
        std::fs::rename(site.path("keys"), site.path("keys-of-old")).unwrap();
        std::fs::rename(site.path("safe"), site.path("safe-of-old")).unwrap();
        site.init().run().ok();
        let found = examined(&site);
        assert_eq!(state(&found, "object lock").0, "ok", "{place:?}: {found:#}");
        assert_eq!(state(&found, "versioning").0, "ok", "{place:?}: {found:#}");
    }
}

#[test]
fn a_bucket_that_is_not_there_is_made() {
    let mut site = Site::new(Place::Ceph);
    site.bucket.push_str("-gone");
    site.url = format!("s3://{}/main", site.bucket);
    let found = examined(&site);
    says_how(&found);
    let (is, mend) = state(&found, "target");
    assert_eq!(is, "bad", "{found:#}");
    paste(&site, mend).ok();
    let found = examined(&site);
    assert_eq!(state(&found, "object lock").0, "ok", "{found:#}");
}

#[test]
fn a_lock_that_is_shorter_than_configured_is_long_enough_after_the_next_run() {
    let site = writer(Place::Ceph, "compliance");
    let config = site.path("longer.toml");
    let text = format!(
        "host = 'web1'\ncache = '{}'\n[vault]\nurl = '{}'\nkeys = '{}'\nendpoint = '{}'\n{}\
         [retention]\nkeep = '35d'\nevidence = '600d'\n[[directory]]\nname = 'files'\npaths = ['{}']\n",
        site.path("cache").display(),
        site.url,
        site.path("keys").display(),
        site.place.endpoint(),
        site.credential_lines(site.place, "WRITER"),
        site.source().display()
    );
    std::fs::write(&config, text).unwrap();
    let examined = || doctor(&site).arg("--json").arg("--config").arg(&config).run();
    let found = examined().exits(3).json();
    says_how(&found);
    let (is, mend) = state(&found, "locks");
    assert_eq!(is, "warning", "{found:#}");
    paste(&site, &format!("export KEEPHOLD_CONFIG={}\n{mend}", config.display())).ok();
    assert_eq!(state(&examined().ok().json(), "locks").0, "ok");
}

#[test]
fn a_clock_that_is_off_is_told_until_it_is_right() {
    let mut site = writer(Place::Ceph, "compliance");
    let right = site.endpoint.clone();
    for (seconds, wanted) in [(120, "warning"), (3_600, "bad")] {
        let proxy = Proxy::retouching(&site.place.endpoint(), move |answer| {
            let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            crate::bad_input::dated(&answer, later)
        });
        site.endpoint = Some(proxy.endpoint);
        let found = doctor(&site).arg("--json").run().exits(3).json();
        says_how(&found);
        let (is, mend) = state(&found, "clock");
        assert_eq!(is, wanted, "{found:#}");
        // The machine that runs the tests has a right clock, and no service to restart: the server's was off.
        assert!(mend.starts_with("systemctl restart systemd-timesyncd"), "{mend}");
    }
    site.endpoint = right;
    doctor(&site).run().ok();
}

#[test]
fn open_keys_and_identities_left_behind_are_put_away() {
    crate::support::need_root("the immutable attribute");
    let site = Site::new(Place::Local);
    let set = |name: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(site.path(name), mode).unwrap();
    };
    set("vault", 0o777);
    set("keys/vault.secret", 0o644);
    let carried = site.path("keys/carry-off");
    std::fs::create_dir(&carried).unwrap();
    std::fs::copy(site.identity(), carried.join("restore.agekey")).unwrap();
    for name in ["folder", "keys", "identities"] {
        let found = examined(&site);
        says_how(&found);
        let (is, mend) = state(&found, name);
        assert_eq!(is, "bad", "{name}: {found:#}");
        paste(&site, mend).ok();
    }
    assert!(doctor(&site).run().ok().stdout().contains("all fine"));
}
