//! The life of keys: recipients come and go, the host's key is replaced, lost or stolen, identities lie protected in a
//! safe and are tried now and then.

use std::fs;

use crate::support::program::{Output, Program, binary};
use crate::support::{Place, Site, tree, verify};

fn keys(site: &Site, arguments: &[&str]) -> Program {
    let home = site.path("home");
    Program::new(binary("keephold"), &home)
        .arg("keys")
        .args(arguments)
        .arg("--keys")
        .arg(site.path("keys"))
}

fn drill(site: &Site, identity: &str) -> Output {
    verify::signing(site, "escrow-drill").arg("--identity").arg(site.path(identity)).run()
}

#[test]
fn a_new_recipient_opens_new_runs_and_a_retired_one_only_old_ones() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    site.backs_up();
    let made = Program::new("age-keygen", &site.path("home"))
        .arg("-o")
        .arg(site.path("safe/escrow.agekey"))
        .run()
        .ok();
    let public = made.stderr.rsplit(' ').next().unwrap().trim().to_owned();
    assert_eq!(
        drill(&site, "safe/escrow.agekey").exits(3).json()["jobs"][0]["result"],
        "not_opened"
    );

    keys(&site, &["add-recipient", &public, "--label", "escrow"]).run().ok().says("once more");
    site.backs_up();
    let done = drill(&site, "safe/escrow.agekey").ok().json();
    assert_eq!((&done["jobs"][0]["seq"], &done["recipient"]), (&2.into(), &public.clone().into()));
    assert!(done["jobs"][0]["blob"].is_string(), "{done}");

    keys(&site, &["retire-recipient", &public]).run().ok();
    site.backs_up();
    let failed = drill(&site, "safe/escrow.agekey").exits(3).json();
    assert_eq!(
        (&failed["jobs"][0]["seq"], &failed["jobs"][0]["result"]),
        (&3.into(), &"not_opened".into())
    );
    let report = verify::green_but_for(&site, &["KH-KEY-002", "KH-LOCK-005", "KH-REC-008"]);
    assert_eq!(report["escrow_drill"]["jobs_opened"], 0);
    let codes = verify::codes(&report);
    assert!(
        ["KH-KEY-002", "KH-REC-008"].iter().all(|c| codes.contains(&(*c).to_owned())),
        "{codes:?}"
    );
    let restore = |number: &str, to: &str| {
        site.program("keephold", "elsewhere", &["restore", number])
            .arg("--identity")
            .arg(site.path("safe/escrow.agekey"))
            .arg("--target")
            .arg(site.path(to))
            .run()
    };
    restore("web1/files@2", "two").ok();
    tree::same(&site.source(), &site.restored("two"));
    restore("web1/files@3", "three").exits(1).says("was not sealed to this identity");
}

#[test]
fn a_replaced_key_leaves_the_past_good_and_a_stolen_one_is_told() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    site.backs_up();
    fs::copy(site.path("keys/signing_key"), site.path("stolen")).unwrap();
    // Lists of signers know whole seconds only.
    let a_second = || std::thread::sleep(std::time::Duration::from_millis(1100));
    a_second();
    let told = keys(&site, &["rotate"]).run().ok();
    assert!(told.stdout().contains("valid-before=") && told.stdout().contains("valid-after="));
    site.backs_up();
    let signers = site.path("keys/allowed_signers");
    let check = |words: &[&str]| {
        // The verifier of these tests reads this file.
        let public = site.path("keys/signing_key.pub");
        let own = fs::read(&public).unwrap();
        fs::copy(&signers, &public).unwrap();
        let (_, report) = verify::run(&site, &[]);
        fs::write(&public, own).unwrap();
        let codes = verify::codes(&report);
        assert_eq!(codes.iter().any(|c| c == "KH-REC-007"), !words.is_empty(), "{codes:?}");
        assert!(!codes.iter().any(|c| c == "KH-REC-002"), "{codes:?}");
    };
    check(&[]);

    // Since a moment after the last good run the old key is in other hands, and they use it.
    a_second();
    let since = jiff::Timestamp::now().to_string();
    a_second();
    keys(&site, &["rotate", "--compromised-since", &since]).run().ok();
    site.backs_up();
    check(&[]);
    fs::copy(site.path("keys/signing_key"), site.path("good")).unwrap();
    fs::copy(site.path("stolen"), site.path("keys/signing_key")).unwrap();
    let text = fs::read_to_string(&signers).unwrap();
    let cut = jiff::Timestamp::now().strftime("%Y%m%d%H%M%SZ").to_string();
    let first = text.lines().next().unwrap().to_owned();
    let (head, tail) = first.split_once("valid-before=\"").unwrap();
    let revoked = format!("{head}valid-before=\"{cut}{}", &tail[tail.find('"').unwrap()..]);
    fs::write(&signers, text.replace(&first, &revoked)).unwrap();
    a_second();
    site.backs_up();
    check(&["revoked"]);
    // Restoring with signers passes the thief's run over.
    let restore = site.restore("back").arg("--signers").arg(&signers).run();
    restore.says("passed over");
}

#[test]
fn a_host_whose_keys_are_lost_joins_again_and_nothing_of_them_is_missed() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    site.backs_up();
    let secret = fs::read_to_string(site.path("keys/vault.secret")).unwrap();
    let public = fs::read_to_string(site.path("keys/recipients")).unwrap();
    fs::remove_dir_all(site.path("keys")).unwrap();
    fs::remove_dir_all(site.path("cache")).unwrap();
    site.restore("back").run().ok();
    tree::same(&site.source(), &site.restored("back"));

    fs::write(site.path("secret"), secret).unwrap();
    let mut join = site
        .program("keephold", "home", &["init", "--host", "web1"])
        .arg("--join")
        .arg(site.path("secret"))
        .arg("--keys")
        .arg(site.path("keys"));
    for line in public.lines().filter(|line| line.starts_with("age1")) {
        join = join.arg("--recipient").arg(line);
    }
    join.run().ok();
    let record = site.backs_up();
    assert_eq!((&record["seq"], &record["status"]), (&2.into(), &"success".into()));
    site.restore("again").run().ok();
}

#[test]
fn a_protected_identity_restores_drills_and_is_printed() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    site.backs_up();
    let pass = site.path("pass");
    fs::write(&pass, "correct horse battery\n").unwrap();
    let restore = site.identity();
    let identity = restore.to_str().unwrap();
    let plain = fs::read_to_string(&restore).unwrap();
    let secret = plain.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap().to_owned();
    let sheet = |out: &str| {
        keys(&site, &["sheet", "--identity", identity, "--vault", &site.url])
            .arg("--out")
            .arg(site.path(out))
            .env("KEEPHOLD_PASSPHRASE_FILE", &pass)
            .run()
    };
    sheet("sheet.txt").ok();
    assert!(fs::read_to_string(site.path("sheet.txt")).unwrap().ends_with(&format!("{secret}\n")));
    sheet("sheet.html").ok();
    assert!(fs::read_to_string(site.path("sheet.html")).unwrap().contains(&secret));
    sheet("sheet.html").exits(1).says("can't be made");

    keys(&site, &["protect", identity]).env("KEEPHOLD_PASSPHRASE_FILE", &pass).run().ok();
    assert!(!fs::read_to_string(&restore).unwrap().contains(&secret));
    site.restore("no").run().exits(2).says("--passphrase-file");
    site.restore("back").env("KEEPHOLD_PASSPHRASE_FILE", &pass).run().ok();
    tree::same(&site.source(), &site.restored("back"));
    fs::write(site.path("wrong"), "incorrect horse\n").unwrap();
    site.restore("no")
        .env("KEEPHOLD_PASSPHRASE_FILE", site.path("wrong"))
        .run()
        .exits(1)
        .says("passphrase is wrong");
    sheet("protected.html").ok();
    let page = fs::read_to_string(site.path("protected.html")).unwrap();
    assert!(page.contains("BEGIN AGE ENCRYPTED FILE") && !page.contains(&secret));
}
