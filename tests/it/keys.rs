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

pub(crate) fn drills(site: &Site, identity: &str) -> Program {
    verify::signing(site, "escrow-drill").arg("--identity").arg(site.path(identity))
}

fn drill(site: &Site, identity: &str) -> Output {
    drills(site, identity).run()
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

/// The lines for the verifier's allowed signers, as `keys rotate` printed them.
fn lines(told: &Output) -> String {
    let text = told.stdout();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" ssh-ed25519 ")).collect();
    assert!(lines.iter().all(|line| line.contains("valid-")), "{text}");
    format!("{}\n", lines.join("\n"))
}

/// What the verifier finds with such lines, which it is given just as they were printed; of each finding of a record by a
/// revoked key, the number of the run.
fn revoked(site: &Site, lines: &str) -> Vec<u64> {
    // The verifier of these tests reads this file.
    let public = site.path("keys/signing_key.pub");
    let own = fs::read(&public).unwrap();
    fs::write(&public, lines).unwrap();
    let (_, report) = verify::run(site, &["--level", "lock"]);
    fs::write(&public, own).unwrap();
    let codes = verify::codes(&report);
    for code in ["KH-REC-001", "KH-REC-002"] {
        assert!(!codes.iter().any(|c| c == code), "{codes:?}");
    }
    let runs = report["jobs"][0]["runs"]["shown"].as_array().unwrap();
    let mut found: Vec<u64> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["code"] == "KH-REC-007")
        .map(|finding| {
            let about = |run: &&serde_json::Value| run["record_key"] == finding["resource"];
            runs.iter().find(about).unwrap_or_else(|| panic!("{finding}"))["seq"].as_u64().unwrap()
        })
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn a_replaced_key_leaves_the_past_good_and_a_stolen_one_is_told() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    let own = site.path("keys/signing_key");
    // Lists of signers know whole seconds only.
    let a_second = || std::thread::sleep(std::time::Duration::from_millis(1100));
    site.backs_up();
    // Since this moment somebody reads along: first this key, then the one that replaces it.
    a_second();
    let since = jiff::Timestamp::now().to_string();
    a_second();
    fs::copy(&own, site.path("first")).unwrap();
    let rotated = keys(&site, &["rotate"]).run().ok();
    site.backs_up();
    assert_eq!(revoked(&site, &lines(&rotated)), [0; 0], "both keys are good");
    fs::copy(&own, site.path("second")).unwrap();
    a_second();
    let later = jiff::Timestamp::now().to_string();
    a_second();

    // The second theft is found out, and since when; the runs before that moment stay good, and the new key's too.
    let told = lines(&keys(&site, &["rotate", "--compromised-since", &later]).run().ok());
    assert_eq!(fs::read_to_string(site.path("keys/allowed_signers")).unwrap(), told);
    site.backs_up();
    assert_eq!(revoked(&site, &told), [0; 0]);
    fs::copy(&own, site.path("third")).unwrap();
    let thief = |stolen: &str| {
        fs::copy(site.path(stolen), &own).unwrap();
        site.backs_up();
        fs::copy(site.path("third"), &own).unwrap();
    };
    thief("second");
    assert_eq!(revoked(&site, &told), [4]);
    // The key before it, which would have counted for seven days from its replacement, counts no longer either.
    thief("first");
    assert_eq!(revoked(&site, &told), [4, 5]);
    // Restoring with the same lines passes the thief's runs over.
    fs::write(site.path("lines"), &told).unwrap();
    site.restore("back").arg("--signers").arg(site.path("lines")).run().says("passed over");

    // It turns out to have begun earlier: then what the second key signed is in doubt too, and the first run isn't.
    let earlier = lines(&keys(&site, &["rotate", "--compromised-since", &since]).run().ok());
    let found = revoked(&site, &earlier);
    assert_eq!(found, [2, 3, 4, 5]);
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

    // The drill is of the file that lies in the safe, as it lies there.
    let drill = || drills(&site, "safe/restore.agekey");
    drill().run().exits(2).says("--passphrase-file");
    let wrong = drill().env("KEEPHOLD_PASSPHRASE_FILE", site.path("wrong")).run();
    wrong.exits(1).says("passphrase is wrong");
    assert!(!site.path("verifier/reports").exists(), "no drill, no evidence");
    let done = drill().env("KEEPHOLD_PASSPHRASE_FILE", &pass).run().ok().json();
    let job = &done["jobs"][0];
    assert_eq!((&job["result"], &job["seq"]), (&"opened".into(), &1.into()), "{done}");
    let public = plain.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    assert_eq!(done["recipient"], public);
    assert!(job["blob"].is_string() && job["tree_root"].is_string(), "{done}");
    let report = verify::green(&site);
    assert_eq!(report["escrow_drill"]["jobs_opened"], 1, "{report}");

    sheet("protected.html").ok();
    let page = fs::read_to_string(site.path("protected.html")).unwrap();
    assert!(page.contains("BEGIN AGE ENCRYPTED FILE") && !page.contains(&secret));
}
