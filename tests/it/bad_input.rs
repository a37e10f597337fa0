//! Bad input: one clear message that names the thing and what to do, an exit status that says failure, and nothing
//! stored that wasn't there before.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::postgres::Server;
use crate::support::proxy::Proxy;
use crate::support::{Output, Place, Program, Site, need_root, s3, tree};

/// Runs a command that must fail and store nothing; gives its standard error, the same on each run.
#[track_caller]
fn refused(site: &Site, program: Program, code: i32) -> String {
    let before = site.stored();
    let output = program.run().exits(code);
    assert_eq!(site.stored(), before, "something was stored");
    site.redact(&output.stderr)
}

/// A run that fails leaves a record of it, and nothing else.
#[track_caller]
fn fails_with_record(site: &Site, program: Program) -> (Output, String) {
    let (packs, index) = (site.keys("packs/"), site.keys("index/"));
    let runs = site.keys("runs/").len();
    let output = program.run().exits(1);
    assert_eq!(site.keys("runs/").len(), runs + 1, "the record of the failed run");
    assert_eq!((site.keys("packs/"), site.keys("index/")), (packs, index), "something was stored");
    let stderr = site.redact(&output.stderr);
    (output, stderr)
}

fn ready(place: Place) -> Site {
    let site = Site::new(place);
    tree::plain(&site.source());
    site
}

#[test]
fn the_vault_at_this_url_is_another_one() {
    insta::allow_duplicates! {
    for place in Place::ALL {
        let site = ready(place);
        fs::write(site.path("keys/vault.fingerprint"), format!("{}\n", "a1".repeat(32))).unwrap();
        insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: opening the vault
  cause: vault.json belongs to vault with fingerprint HEX, not to the pinned HEX
  hint: check the vault's URL and the pinned fingerprint
"#);
    }
    }
}

#[test]
fn there_is_no_vault_at_this_url() {
    insta::allow_duplicates! {
    for place in Place::ALL {
        let mut site = ready(place);
        site.url = site.url.replace("main", "mian").replace("vault", "valut");
        if place == Place::Local {
            fs::create_dir(site.path("valut")).unwrap();
        }
        insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: opening the vault
  cause: there is no vault at VAULT: run `keephold init --vault VAULT` first, or check the URL
"#);
    }
    }
}

#[test]
fn the_bucket_is_missing() {
    insta::allow_duplicates! {
    for place in Place::S3 {
        let mut site = ready(place);
        site.url = "s3://no-such-bucket-of-ours/main".into();
        insta::assert_snapshot!(site.redact(&site.backup().run().exits(1).stderr), @r#"
error: VAULT does not exist
  hint: make the bucket (with Object Lock) or the folder first, or correct the vault's URL
"#);
        for folder in ["keys", "safe"] {
            fs::remove_dir_all(site.path(folder)).unwrap();
        }
        insta::assert_snapshot!(site.redact(&site.init().run().exits(1).stderr), @r#"
error: VAULT does not exist
  hint: make the bucket (with Object Lock) or the folder first, or correct the vault's URL
"#);
    }
    }
}

#[test]
fn the_folder_of_a_local_vault_is_missing() {
    let mut site = ready(Place::Local);
    site.url += "/not/there";
    insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: VAULT does not exist
  hint: make the bucket (with Object Lock) or the folder first, or correct the vault's URL
"#);
}

#[test]
fn the_bucket_has_no_object_lock() {
    insta::allow_duplicates! {
    for place in Place::S3 {
        let mut site = Site::bare(place, "compliance");
        site.bucket = s3::bucket(place, false);
        site.url = format!("s3://{}/main", site.bucket);
        insta::assert_snapshot!(refused(&site, site.init(), 1), @r#"
error: VAULT does not protect what it stores: Object Lock is not enabled on the bucket
  hint: use a bucket made with Object Lock, or set lock = "none" and accept that nothing is immutable
"#);
        assert!(!site.path("keys/vault.secret").exists() && !site.identity().exists(), "keys of no vault were left");
    }
    }
}

#[test]
fn the_endpoint_is_unreachable() {
    insta::allow_duplicates! {
    for place in Place::S3 {
        let mut site = ready(place);
        site.endpoint = Some("http://127.0.0.1:9".into());
        let output = site.backup().run().exits(1);
        insta::assert_snapshot!(site.redact(&output.stderr), @r#"
error: VAULT can't be reached: ENDPOINT/BUCKET: HTTP error: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
  hint: check the endpoint, DNS and the network; nothing was lost
"#);
    }
    }
}

#[test]
fn the_secret_key_is_wrong() {
    let mut site = ready(Place::Ceph);
    site.credential.as_mut().unwrap()[1] = "wrong".into();
    insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: VAULT refused to read the bucket's versioning: SignatureDoesNotMatch (HTTP status 403)
  hint: the secret access key is not the one that belongs to this access key id: set the right one
"#);
}

#[test]
fn the_credential_has_no_rights() {
    let mut site = ready(Place::Ceph);
    site.credential = Some(site.place.credential("WRITER"));
    insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: opening the vault
  cause: VAULT refused to read vault.json: AccessDenied (HTTP status 403)
  hint: check the credential's policy; the agent needs to put, extend, and read vault.json, index/ and runs/
"#);
}

#[test]
fn there_is_no_credential() {
    let mut site = ready(Place::Ceph);
    site.credential = None;
    insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: no credential for VAULT: no key in settings, environment or profile; roles of machines are switched off
  hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE), or a role
"#);
}

#[test]
fn the_clock_is_a_year_off() {
    let library = fs::read_dir("/usr/lib").unwrap().flatten();
    let library = library
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.is_file());
    let library =
        library.expect("libfaketime is there: run tests/run, or `apt-get install faketime`");
    insta::allow_duplicates! {
    for (place, offset, word) in Place::S3.into_iter().flat_map(|place| [(place, "+1y", "ahead of"), (place, "-1y", "behind")]) {
            let site = ready(place);
            let backup = site.backup().env("LD_PRELOAD", &library).env("FAKETIME", offset);
            insta::assert_snapshot!(refused(&site, backup, 1).replace(word, "AHEAD OR BEHIND"), @r#"
error: this host's clock is 365 days AHEAD OR BEHIND the clock of VAULT
  hint: set this host's clock (systemctl restart systemd-timesyncd, or chronyc makestep)
"#);
    }
    }
}

/// An answer as a server whose clock is another would give it.
pub(crate) fn dated(answer: &[u8], at: jiff::Timestamp) -> Vec<u8> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let lines = head.split("\r\n").map(|line| match line.split_once(':') {
        Some((name, _)) if name.eq_ignore_ascii_case("date") => {
            at.strftime("Date: %a, %d %b %Y %H:%M:%S GMT").to_string()
        }
        _ => line.to_owned(),
    });
    [lines.collect::<Vec<_>>().join("\r\n").as_bytes(), &answer[end..]].concat()
}

#[test]
fn the_servers_clock_is_a_year_off() {
    let mut site = ready(Place::LocalStack);
    let proxy = Proxy::retouching(&site.place.endpoint(), |answer| {
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365);
        dated(&answer, later)
    });
    site.endpoint = Some(proxy.endpoint);
    insta::assert_snapshot!(refused(&site, site.backup(), 1), @r#"
error: this host's clock is 365 days behind the clock of VAULT
  hint: set this host's clock (systemctl restart systemd-timesyncd, or chronyc makestep)
"#);
}

#[test]
fn the_configuration_has_a_typo() {
    let site = ready(Place::Local);
    let config = site.path("keephold.toml");
    fs::write(&config, "[vault]\nurl = \"file:///srv/vault\"\n\n[[directory]]\nname = \"etc\"\npahts = [\"/etc\"]\n").unwrap();
    let check = Program::new(crate::support::program::binary("keephold"), &site.path("home"))
        .arg("check-config")
        .arg(&config);
    insta::assert_snapshot!(refused(&site, check, 2), @r#"
error: DIR/keephold.toml: TOML parse error at line 6, column 1
  |
6 | pahts = ["/etc"]
  | ^^^^^
unknown field `pahts`, expected one of `name`, `paths`, `exclude`, `exclude_files`, `exclude_caches`, `exclude_if_present`, `one_file_system`, `keep`, `daily`, `weekly`, `monthly`, `yearly`
"#);
    let backup = Program::new(crate::support::program::binary("keephold"), &site.path("home"))
        .arg("backup")
        .arg("--config")
        .arg(&config);
    insta::assert_snapshot!(refused(&site, backup, 2), @r#"
error: DIR/keephold.toml: TOML parse error at line 6, column 1
  |
6 | pahts = ["/etc"]
  | ^^^^^
unknown field `pahts`, expected one of `name`, `paths`, `exclude`, `exclude_files`, `exclude_caches`, `exclude_if_present`, `one_file_system`, `keep`, `daily`, `weekly`, `monthly`, `yearly`
"#);
}

#[test]
fn the_source_is_missing_or_empty() {
    let site = Site::new(Place::Local);
    let (output, _) = fails_with_record(&site, site.backup_command().arg(site.path("sauce")));
    insta::assert_snapshot!(site.redact(&output.stdout()), @r#"
web1/files: FAILED in TIME
  2 messages:
    source_missing: DIR/sauce: doesn't exist, though it is to be backed up; mount it, or take it out of the job
    run_failed: the source could not be backed up; see the messages before this one
  record    runs/web1/files/RUN
"#);
    let (output, _) = fails_with_record(&site, site.backup_command().arg(site.source()));
    insta::assert_snapshot!(site.redact(&output.stdout()), @r#"
web1/files: FAILED in TIME
  2 messages:
    source_empty: DIR/source: is empty, so nothing of it is backed up; is its disk mounted?
    run_failed: the source could not be backed up; see the messages before this one
  record    runs/web1/files/RUN
"#);
}

#[test]
fn a_file_cannot_be_read() {
    need_root("to become somebody else");
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    fs::set_permissions(site.source().join("etc/hosts"), fs::Permissions::from_mode(0o000))
        .unwrap();
    crate::support::site::unlock(&site.path("vault"));
    let everything =
        Command::new("chown").args(["-R", "65534:65534"]).arg(site.dir.path()).status().unwrap();
    assert!(everything.success());
    std::os::unix::fs::chown(site.source().join("etc/hosts"), Some(0), Some(0)).unwrap();
    let nobody = Program::new("setpriv", &site.path("home"))
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(crate::support::program::binary("keephold"))
        .args(["backup", "--host", "web1"])
        .args(site.target())
        .arg("--keys")
        .arg(site.path("keys"))
        .arg("--cache")
        .arg(site.path("cache"))
        .arg(site.source());
    let output = nobody.run().exits(3);
    insta::assert_snapshot!(site.redact(&output.stderr), @r#"
 WARN DIR/source/etc/hosts: it can't be read: Permission denied (os error 13); run as root or with CAP_DAC_READ_SEARCH code="unreadable"
"#);
}

#[test]
fn the_disk_is_full() {
    need_root("to mount a small file system");
    let site = Site::bare(Place::Local, "compliance");
    let vault = site.path("vault");
    fs::create_dir(&vault).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
        .arg(&vault)
        .status()
        .unwrap();
    assert!(mounted.success(), "a tmpfs can't be mounted here: run the tests where root may mount");
    site.init().run().ok();
    tree::plain(&site.source());
    site.backs_up();
    fs::write(site.source().join("much"), tree::noise(9, 5_000_000)).unwrap();
    let before = site.keys("packs/");
    let output = site.backup_command().arg(site.source()).run().exits(1);
    let after = site.keys("packs/");
    let text = site.redact(&output.stderr);
    crate::support::site::unlock(&vault);
    Command::new("umount").arg(&vault).status().unwrap();
    assert_eq!(before, after);
    insta::assert_snapshot!(text, @r#"
ERROR storing the snapshot
  cause: VAULT is full: No space left on device (os error 28)
  hint: free some space or raise the quota; what is stored stays valid code="run_failed"
"#);
}

#[test]
fn pg_dump_is_missing_or_too_old() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    fs::create_dir(site.path("bin")).unwrap();
    let (output, _) =
        fails_with_record(&site, site.backup_databases(&server.dsn(), Some(&site.path("bin"))));
    insta::assert_snapshot!(site.redact(&output.stdout()), @r#"
web1/main: FAILED in TIME
  1 message:
    run_failed: no pg_dump found in DIR/bin; install postgresql-client-15 (Debian, Ubuntu) or postgresql15 (Red Hat, SUSE), or set bin_dir to the folder that has pg_dump
  record    runs/web1/main/RUN
"#);
    for program in ["pg_dump", "pg_dumpall"] {
        site.script(program, &format!("#!/bin/sh\necho '{program} (PostgreSQL) 9.6.24'\n"));
    }
    let (output, _) =
        fails_with_record(&site, site.backup_databases(&server.dsn(), Some(&site.path("bin"))));
    insta::assert_snapshot!(site.redact(&output.stdout()), @r#"
web1/main: FAILED in TIME
  1 message:
    run_failed: the server is PostgreSQL 15, newer than every pg_dump found: DIR/bin/pg_dump (9.6.24); install postgresql-client-15 (Debian, Ubuntu) or postgresql15 (Red Hat, SUSE), or set bin_dir to the folder that has pg_dump
  record    runs/web1/main/RUN
"#);
}

#[test]
fn the_database_server_is_unreachable() {
    let site = Site::new(Place::Local);
    let (output, _) =
        fails_with_record(&site, site.backup_databases("host=/nowhere user=postgres", None));
    insta::assert_snapshot!(site.redact(&output.stdout()), @r#"
web1/main: FAILED in TIME
  1 message:
    run_failed: can't connect to postgres@/nowhere:5432/postgres: error connecting to server: No such file or directory (os error 2); check that the server runs, that pg_hba.conf admits this role, and that the password is in the password file
  record    runs/web1/main/RUN
"#);
}

#[test]
fn the_credential_may_read_but_not_write() {
    let mut site = ready(Place::Ceph);
    let mut policy = crate::support::roles::vault_policy(&site);
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements
        .retain(|s| s["Sid"].as_str().unwrap().starts_with("Writer") && s["Effect"] == "Allow");
    for statement in statements {
        match statement["Sid"].as_str().unwrap() {
            "WriterAdd" => statement["Action"] = serde_json::json!(["s3:GetObjectRetention"]),
            "WriterReadAllButData" => {
                statement["Resource"] = format!("arn:aws:s3:::{}/main/*", site.bucket).into();
            }
            _ => {}
        }
    }
    s3::policy(site.place, &site.bucket, &policy);
    // The owner's objects are the bucket's: the policy decides over them.
    site.credential = Some(site.place.credential("WRITER"));
    let before = site.stored();
    let output = site.backup_command().arg(site.source()).run().exits(1);
    site.credential = Some(site.place.credential(""));
    assert_eq!(site.stored(), before, "something was stored");
    insta::assert_snapshot!(site.redact(&output.stderr), @r#"
ERROR storing the snapshot
  cause: VAULT refused to write packs/XX/HEX: AccessDenied (HTTP status 403)
  hint: check the credential's policy; the agent needs to put, extend, and read vault.json, index/ and runs/ code="run_failed"
ERROR the record of this run is kept on this host until the target can be reached: storing the run's record: VAULT refused to write runs/web1/files/RUN: AccessDenied (HTTP status 403)
"#);
}

#[test]
fn the_identity_is_another_one() {
    for place in Place::ALL {
        let site = ready(place);
        site.backs_up();
        Command::new("age-keygen")
            .arg("-o")
            .arg(site.path("other.agekey"))
            .output()
            .expect("apt-get install age");
        let restore =
            site.program("keephold", "elsewhere", &["restore", "latest", "--target", "back"]);
        let other = restore.arg("--identity").arg(site.path("other.agekey"));
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused(&site, other, 1), @r#"
 WARN the record's signature isn't checked; with --signers FILE a forged snapshot would be refused
error: looking for the snapshot in VAULT
  cause: record runs/web1/files/RUN was not sealed to this identity
  hint: give the identity of one of the recipients that the run's record names (--identity FILE)
"#);
        }
        assert!(!site.path("elsewhere/back").exists());
    }
}

#[test]
fn there_is_no_identity() {
    let site = ready(Place::Local);
    site.backs_up();
    let restore =
        || site.program("keephold", "elsewhere", &["restore", "latest", "--target", "back"]);
    insta::assert_snapshot!(refused(&site, restore(), 2), @"error: reading a backup takes an identity: give --identity FILE (the restore.agekey that `keephold init` made)");
    insta::assert_snapshot!(refused(&site, restore().args(["--identity", "/nowhere/key"]), 1), @r#"
error: the identity file /nowhere/key can't be read
  cause: No such file or directory (os error 2)
"#);
    fs::write(site.path("elsewhere/key"), "not a key\n").unwrap();
    insta::assert_snapshot!(refused(&site, restore().args(["--identity", "key"]), 1), @r#"
error: in key
  cause: the identity in line 1 can't be used: it is no age identity (AGE-SECRET-KEY-1…), or it has a typing error
"#);
}

#[test]
fn a_restore_finds_another_vault_than_the_one_that_is_named() {
    let site = ready(Place::Local);
    site.backs_up();
    let restore = site.restore("back").args(["--fingerprint", &"a1".repeat(32)]);
    insta::assert_snapshot!(refused(&site, restore, 1), @r#"
error: opening the vault
  cause: vault.json belongs to vault with fingerprint HEX, not to the pinned HEX
  hint: check the vault's URL and the pinned fingerprint
"#);
    assert!(!site.path("back").exists());
}

#[test]
fn there_is_no_such_snapshot_or_path() {
    let site = ready(Place::Local);
    site.backs_up();
    let ask = |arguments: &[&str]| refused(&site, site.elsewhere(arguments), 1);
    insta::assert_snapshot!(ask(&["ls", "db1/main"]), @"error: no run of db1/main has a snapshot (see `keephold snapshots --all`)");
    insta::assert_snapshot!(ask(&["ls", "latest", "/nowhere"]), @r#"
error: 'nowhere' is not in the snapshot
  hint: paths are written as keephold ls shows them, from the root of the file system
"#);
    insta::assert_snapshot!(ask(&["dump", "latest", "/nowhere"]), @r#"
 WARN the record's signature isn't checked; with --signers FILE a forged snapshot would be refused
error: 'nowhere' is not in the snapshot
  hint: paths are written as keephold ls shows them, from the root of the file system
"#);
    insta::assert_snapshot!(ask(&["restore", "latest", "/nowhere", "--target", "back"]), @r#"
 WARN the record's signature isn't checked; with --signers FILE a forged snapshot would be refused
error: 'nowhere' is not in the snapshot
  hint: paths are written as keephold ls shows them, from the root of the file system
"#);
}
