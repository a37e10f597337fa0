//! What `keephold keys` tells people, word for word, and what the sheet of paper holds.

use std::fs;

use quircs::Quirc;

use crate::support::program::{Output, Program, binary};
use crate::support::{Place, Site, variable};

fn keys(site: &Site, arguments: &[&str]) -> Program {
    Program::new(binary("keephold"), &site.path("home"))
        .arg("keys")
        .args(arguments)
        .arg("--keys")
        .arg(site.path("keys"))
}

/// All that a command printed, without what differs from run to run, and without key material.
fn words(site: &Site, output: &Output) -> String {
    let text = site.redact(&format!("{}{}", output.stdout(), output.stderr));
    let word = |word: &str| -> String {
        let bare = word.trim_end_matches([',', ';']);
        let after = &word[bare.len()..];
        let known = [("age1", "AGE1…"), ("SHA256:", "SHA256:…"), ("AAAA", "KEY")];
        if let Some((_, instead)) = known.iter().find(|(start, _)| bare.starts_with(start)) {
            return format!("{instead}{after}");
        }
        let digits = bare.bytes().filter(u8::is_ascii_digit).count();
        if digits >= 12 { format!("TIME{after}") } else { word.to_owned() }
    };
    let lines = text.lines().map(|line| {
        let quoted =
            line.split('"').map(|part| part.split(' ').map(word).collect::<Vec<_>>().join(" "));
        quoted.collect::<Vec<_>>().join("\"")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_keys_says_is_as_agreed() {
    let site = Site::new(Place::Local);
    let made =
        Program::new("age-keygen", &site.path("home")).arg("-o").arg(site.path("more")).run().ok();
    let public = made.stderr.rsplit(' ').next().unwrap().trim().to_owned();
    let mut told = String::new();
    let mut tell = |arguments: &[&str], code: i32| {
        let output = keys(&site, arguments).run().exits(code);
        let shown: Vec<_> =
            arguments.iter().map(|a| if a.starts_with("age1") { "AGE1…" } else { a }).collect();
        told.push_str(&format!("$ keephold keys {}\n", shown.join(" ")));
        told.push_str(&format!("{}\n\n", words(&site, &output)));
    };
    tell(&["show"], 0);
    tell(&["add-recipient", &public, "--label", "escrow"], 0);
    tell(&["add-recipient", &public], 0);
    tell(&["retire-recipient", &public], 0);
    tell(&["retire-recipient", &public], 2);
    tell(&["rotate"], 0);
    tell(&["rotate", "--compromised-since", "2999-01-01T00:00Z"], 2);
    tell(&["--help"], 0);
    insta::assert_snapshot!("keys", told);
}

/// Types answers at the prompts of a program that has a terminal of its own.
fn at_a_terminal(site: &Site, answers: &[&str], program: &Program) -> Program {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/it/support/type.py");
    Program::new(variable("KEEPHOLD_TEST_PYTHON"), &site.path("home"))
        .arg(script)
        .args(answers)
        .arg("--")
        .arg(program.command.get_program())
        .args(program.command.get_args())
}

#[test]
fn init_protects_the_restore_identity_and_age_opens_it() {
    let site = Site::bare(Place::Local, "compliance");
    let phrase = "correct horse battery";
    let asked = || site.init().arg("--passphrase");
    asked().run().exits(2).says("--passphrase-file");
    fs::write(site.path("short"), "short\n").unwrap();
    let short = site.init().arg("--passphrase-file").arg(site.path("short")).run();
    short.exits(1).says("fewer than 12 characters");
    at_a_terminal(&site, &[phrase, "another horse"], &asked()).run().exits(1).says("differ");
    assert!(!site.path("vault/vault.json").exists() && !site.path("keys").exists());

    at_a_terminal(&site, &[phrase, phrase], &asked()).run().ok().says("opens with its passphrase");
    let own = |name: &str| fs::read_to_string(site.path("safe").join(name)).unwrap();
    assert!(own("restore.agekey").starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    assert!(own("verifier.agekey").contains("AGE-SECRET-KEY-1"));
    // The `age` program asks at a terminal only.
    let age = |answer: &str| {
        let age = Program::new("age", &site.path("home"))
            .args(["-d", "-o"])
            .arg(site.path("opened"))
            .arg(site.identity());
        at_a_terminal(&site, &[answer], &age).run()
    };
    age("incorrect horse").exits(1);
    age(phrase).ok();
    let opened = fs::read_to_string(site.path("opened")).unwrap();
    let recipients = fs::read_to_string(site.path("keys/recipients")).unwrap();
    let public = opened.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    assert!(recipients.contains(&format!("# restore\n{public}\n")), "{recipients}");
    assert!(opened.contains("\nAGE-SECRET-KEY-1"));
}

/// The dark and light of a page's only drawing: rectangles in a path, `M x y h width v height H x V y`.
fn drawn(page: &str) -> (usize, Vec<u8>) {
    let (_, svg) = page.split_once("<svg").unwrap();
    let side = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap();
    let side: usize = side.parse().unwrap();
    let mut pixels = vec![255; side * side];
    let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
    for rectangle in path.split('M').skip(1) {
        let numbers: Vec<usize> = rectangle
            .split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().unwrap())
            .collect();
        let [left, top, width, height, ..] = numbers[..] else { panic!("{rectangle}") };
        for row in top..top + height {
            pixels[row * side + left..][..width].fill(0);
        }
    }
    (side, pixels)
}

#[test]
fn the_sheet_s_code_holds_the_identity() {
    let site = Site::new(Place::Local);
    let restore = site.identity();
    let identity = restore.to_str().unwrap();
    let pass = site.path("pass");
    fs::write(&pass, "correct horse battery\n").unwrap();
    let decoded = |out: &str| {
        keys(&site, &["sheet", "--identity", identity, "--vault", &site.url])
            .arg("--out")
            .arg(site.path(out))
            .env("KEEPHOLD_PASSPHRASE_FILE", &pass)
            .run()
            .ok();
        let (side, pixels) = drawn(&fs::read_to_string(site.path(out)).unwrap());
        let mut decoder = Quirc::default();
        let codes: Vec<_> = decoder.identify(side, side, &pixels).collect();
        let [Ok(code)] = &codes[..] else {
            panic!("{} codes, or none that can be read", codes.len())
        };
        String::from_utf8(code.decode().unwrap().payload).unwrap()
    };
    let text = fs::read_to_string(&restore).unwrap();
    let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    assert_eq!(decoded("plain.html"), secret);
    keys(&site, &["protect", identity]).env("KEEPHOLD_PASSPHRASE_FILE", &pass).run().ok();
    assert_eq!(decoded("protected.html"), fs::read_to_string(&restore).unwrap().trim());
}
