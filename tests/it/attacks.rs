//! Attacks on real servers, once with all that a host has (its keys, and the credential that the packaged policy gives
//! it, on Ceph, which enforces policies), once as the bucket's owner, on Ceph and LocalStack. Whatever is done: each
//! version that was locked is still there and as locked, the snapshot from before comes back without any repair, and
//! the verifier names the attack. docs/THREATS.md is the table of this suite.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::program::{Program, binary};
use crate::support::s3::{self, Object, Version, versions};
use crate::support::{Place, Site, thief, tree, verify};

/// Who attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Actor {
    /// Root on a host: its keys, its credential.
    Host,
    /// Whoever owns the bucket: every right that the server knows, but no key.
    Owner,
}

/// What the server does with the requests of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Refuses every one: nothing changes.
    Refuses,
    /// Takes them.
    Takes,
}

/// A vault with two good runs, and what lies there.
struct Attacked {
    site: Site,
    actor: Actor,
    before: Vec<(Version, Vec<u8>, Timestamp)>,
    codes: BTreeSet<String>,
}

/// Text that compresses, as most data does.
fn ledger() -> String {
    (0..100_000).map(|n| format!("{n};{};booked\n", n * 7919 % 10_007)).collect()
}

const SITES: [(Actor, Place); 3] =
    [(Actor::Host, Place::Ceph), (Actor::Owner, Place::Ceph), (Actor::Owner, Place::LocalStack)];

impl Attacked {
    fn new(actor: Actor, place: Place) -> Self {
        let mut site = Site::bare(place, "compliance");
        if actor == Actor::Host {
            let policy = Program::new(binary("keephold"), &site.path("home"))
                .args(["policy", "bucket", "--server", "ceph", "--evidence", "elsewhere"])
                .args(["--writer", "arn:aws:iam:::user/writer"])
                .args(["--verifier", "arn:aws:iam:::user/verifier"])
                .args(["--pruner", "arn:aws:iam:::user/pruner"])
                .args(["--prober", "arn:aws:iam:::user/prober", "--vault", &site.url])
                .run()
                .ok()
                .json();
            s3::policy(place, &site.bucket, &policy);
            site.credential = Some(place.credential("WRITER"));
        }
        site.init().run().ok();
        tree::plain(&site.source());
        std::fs::write(site.source().join("ledger"), ledger()).unwrap();
        site.backs_up();
        site.backs_up();
        let mut this = Self { site, actor, before: Vec::new(), codes: BTreeSet::new() };
        this.codes = this.found();
        this.before = this
            .versions()
            .into_iter()
            .map(|version| {
                let object = this.object(&version.key);
                let bytes = object.read_as(this.reader(), &version.version);
                let lock = object.retention_as(this.reader(), &version.version);
                let (mode, until) = lock.unwrap();
                assert_eq!(mode, "COMPLIANCE");
                (version, bytes, until)
            })
            .collect();
        this
    }

    /// The credential that the attacker has, by its name among those of the tests.
    fn role(&self) -> &'static str {
        match self.actor {
            Actor::Host => "WRITER",
            Actor::Owner => "",
        }
    }

    /// Who may look at what the host stored: on Ceph an object belongs to whoever wrote it, and not to the bucket's owner.
    fn reader(&self) -> &'static str {
        if self.actor == Actor::Host { "VERIFIER" } else { "" }
    }

    fn object(&self, key: &str) -> Object<'_> {
        Object { place: self.site.place, bucket: &self.site.bucket, key: key.into() }
    }

    fn versions(&self) -> Vec<Version> {
        versions(self.site.place, &self.site.bucket, "main/")
    }

    /// Keys of the vault's objects that begin so.
    fn keys(&self, prefix: &str) -> Vec<String> {
        let prefix = format!("main/{prefix}");
        let keys: BTreeSet<_> = self.before.iter().map(|(v, _, _)| v.key.clone()).collect();
        keys.into_iter().filter(|key| key.starts_with(&prefix)).collect()
    }

    /// What the verifier finds, with its own credential.
    fn found(&self) -> BTreeSet<String> {
        let (_, report) = self.verified();
        verify::codes(&report).into_iter().collect()
    }

    fn verified(&self) -> (i32, Value) {
        let mut command = verify::command(&self.site, &[]);
        if self.actor == Actor::Host {
            let [id, secret] = self.site.place.credential("VERIFIER");
            command = command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        }
        let output = command.run();
        let report = output.json();
        (output.code.unwrap(), report)
    }

    /// Nothing that was locked is lost, the snapshot comes back, and the verifier finds these codes that it didn't
    /// before; none where the server refused everything.
    #[track_caller]
    fn survives(self, server: Server, named: &[&str]) {
        for (version, bytes, until) in &self.before {
            let object = self.object(&version.key);
            assert!(
                object.read_as(self.reader(), &version.version) == *bytes,
                "{} has changed",
                version.key
            );
            let (mode, now) = object.retention_as(self.reader(), &version.version).unwrap();
            assert!(mode == "COMPLIANCE" && now >= *until, "{}: {mode} {now}", version.key);
        }
        if server == Server::Refuses {
            assert_eq!(self.versions().len(), self.before.len(), "something was added");
        }
        // By its id: somebody may have put others beside it under the same number.
        let record = self.keys("runs/").swap_remove(0);
        let (_, id) = record.rsplit_once('-').unwrap();
        let mut restore = self.site.elsewhere(&["restore", id]);
        if self.actor == Actor::Host {
            let [id, secret] = self.site.place.credential("VERIFIER");
            restore = restore.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        }
        let signers = self.site.path("keys/signing_key.pub");
        let target = self.site.path("back");
        let fingerprint =
            std::fs::read_to_string(self.site.path("keys/vault.fingerprint")).unwrap();
        let restored = restore
            .arg("--target")
            .arg(target)
            .arg("--signers")
            .arg(signers)
            .arg("--fingerprint")
            .arg(fingerprint.trim())
            .run();
        // Done, with warnings of what is in the way.
        assert!(matches!(restored.code, Some(0 | 3)), "{}", restored.stderr);
        tree::same(&self.site.path("untouched"), &self.site.restored("back"));

        let (code, report) = self.verified();
        let codes: BTreeSet<_> = verify::codes(&report).into_iter().collect();
        let new: Vec<_> = codes.difference(&self.codes).map(String::as_str).collect();
        for code in named {
            let who = format!("{:?} on {}", self.actor, self.site.place_and_url());
            assert!(new.contains(code), "{who}: {code} is not among {new:?}");
        }
        match server {
            Server::Refuses => assert_eq!(new, [""; 0], "nothing happened"),
            Server::Takes => assert!(named.is_empty() || code != 0),
        }
    }
}

/// Runs an attack by each actor who can try it.
#[track_caller]
fn attack(actors: &[Actor], attack: impl Fn(&Attacked) -> Server, named: &[&str]) {
    for (actor, place) in SITES.into_iter().filter(|(actor, _)| actors.contains(actor)) {
        let site = Attacked::new(actor, place);
        // What the attack does to the source doesn't change what must come back.
        let copied = std::process::Command::new("cp")
            .args(["-a", "--"])
            .args([site.site.source(), site.site.path("untouched")])
            .status();
        assert!(copied.unwrap().success());
        let server = attack(&site);
        site.survives(server, if server == Server::Takes { named } else { &[] });
    }
}

const BOTH: [Actor; 2] = [Actor::Host, Actor::Owner];

/// Requests that are all taken, or all refused.
#[track_caller]
fn all<T>(results: &[Result<T, String>]) -> Server {
    let taken = results.iter().filter(|r| r.is_ok()).count();
    assert!(!results.is_empty() && (taken == 0 || taken == results.len()), "{taken} were taken");
    if taken == 0 { Server::Refuses } else { Server::Takes }
}

#[test]
fn every_object_is_overwritten() {
    let over = |at: &Attacked| {
        let put = |key: &String| at.object(key).put_as(at.role(), b"all your base");
        all(&at.keys("").iter().map(put).collect::<Vec<_>>())
    };
    attack(&BOTH, over, &["KH-PRES-006"]);
}

#[test]
fn every_version_is_deleted() {
    let delete = |at: &Attacked| {
        let one = |(v, _, _): &(Version, _, _)| at.object(&v.key).delete_as(at.role(), &v.version);
        let server = all(&at.before.iter().map(one).collect::<Vec<_>>());
        assert_eq!(server, Server::Refuses);
        server
    };
    attack(&BOTH, delete, &[]);
}

#[test]
fn delete_markers_are_put_over_every_object() {
    let hide = |at: &Attacked| {
        let server = all(&at
            .keys("")
            .iter()
            .map(|key| at.object(key).hide_as(at.role()))
            .collect::<Vec<_>>());
        // The packaged policy gives no host the right to delete.
        assert_eq!(server == Server::Refuses, at.actor == Actor::Host);
        server
    };
    attack(&BOTH, hide, &["KH-PRES-005"]);
}

#[test]
fn an_old_record_is_replayed_as_the_newest() {
    let replay = |at: &Attacked| {
        let records = at.keys("runs/");
        let old = &at.before.iter().find(|(v, _, _)| v.key == records[0]).unwrap().1;
        let (folder, _) = records[1].rsplit_once('/').unwrap();
        let later = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let key = format!("{folder}/{later}-3-{}", "0123456789abcdef".repeat(2));
        all(&[at.object(&key).put_as(at.role(), old)])
    };
    attack(&BOTH, replay, &["KH-REC-006"]);
}

#[test]
fn the_newest_records_are_dropped() {
    let drop_newest = |at: &Attacked| {
        let records = at.keys("runs/");
        all(&[at.object(&records[1]).hide_as(at.role())])
    };
    attack(&BOTH, drop_newest, &["KH-PRES-005"]);
}

#[test]
fn another_vaults_configuration_takes_the_place_of_ours() {
    let swap = |at: &Attacked| {
        let other = Site::new(at.site.place);
        let theirs =
            Object { place: other.place, bucket: &other.bucket, key: "main/vault.json".into() };
        let bytes = theirs.get(&theirs.only_version());
        let server = all(&[at.object("main/vault.json").put_as(at.role(), &bytes)]);
        // The host goes on, too: it has pinned its vault.
        assert_eq!(at.site.backs_up()["status"], "success");
        server
    };
    attack(&BOTH, swap, &["KH-PRES-006"]);
}

#[test]
fn a_host_seals_to_the_attackers_recipients() {
    let swap = |at: &Attacked| {
        let theirs = Site::new(Place::Local);
        std::fs::copy(theirs.path("keys/recipients"), at.site.path("keys/recipients")).unwrap();
        assert_eq!(at.site.backs_up()["status"], "success");
        Server::Takes
    };
    // The verifier's identity can't open what was stored.
    attack(&[Actor::Host], swap, &["KH-REC-008", "KH-REST-001"]);
}

#[test]
fn locks_are_extended_absurdly() {
    let extend = |at: &Attacked| {
        let until = (Timestamp::now() + SignedDuration::from_hours(24 * 365 * 60)).to_string();
        let one = |(v, _, _): &(Version, _, _)| {
            at.object(&v.key).extend_as(at.role(), &v.version, "COMPLIANCE", &until)
        };
        all(&at.before.iter().map(one).collect::<Vec<_>>())
    };
    attack(&BOTH, extend, &["KH-LOCK-016"]);
}

#[test]
fn the_vault_is_filled_with_garbage() {
    let fill = |at: &Attacked| {
        let mut results = Vec::new();
        for n in 0..60_u64 {
            let hash = blake3::hash(&n.to_le_bytes()).to_hex();
            let mut keys = vec![
                format!("main/packs/{}/{hash}", &hash[..2]),
                format!("main/index/{hash}"),
                format!("main/runs/web1/files/20260101T000000Z-{n}-{}", &hash[..32]),
            ];
            // The packaged policy lets a host write only where a vault has objects.
            if at.actor == Actor::Owner {
                keys.push(format!("main/garbage/{n}"));
            }
            let body = tree::noise(n, 5_000);
            results.extend(keys.iter().map(|key| at.object(key).put_as(at.role(), &body)));
        }
        assert_eq!(all(&results), Server::Takes);
        let next = at.site.backs_up();
        assert_ne!(next["status"], "failed", "{next}");
        Server::Takes
    };
    attack(&BOTH, fill, &["KH-REC-006"]);
}

#[test]
fn garbage_is_backed_up_under_the_same_job() {
    let garbage = |at: &Attacked| {
        // Encrypted where it lies, as ransomware does it: as many files, as many bytes.
        let length = ledger().len();
        std::fs::write(at.site.source().join("ledger"), tree::noise(1, length)).unwrap();
        assert_eq!(at.site.backs_up()["status"], "success");
        Server::Takes
    };
    attack(&[Actor::Host], garbage, &["KH-CONT-006"]);
}

#[test]
fn a_thousand_garbage_snapshots_push_nothing_out() {
    let many = |at: &Attacked| {
        let source = at.site.source();
        std::fs::remove_dir_all(&source).unwrap();
        std::fs::create_dir(&source).unwrap();
        let runs = 10;
        let mut last = Value::Null;
        for n in 0..runs {
            std::fs::write(source.join("garbage"), tree::noise(n, 1_000)).unwrap();
            last = at.site.backup().arg("--keep").arg("8d").run().ok().json();
            if n == 0 {
                // The next verification says so; later ones compare garbage with garbage.
                assert!(at.found().contains("KH-CONT-004"));
            }
        }
        thief::repeats(&at.site, &last, 1_000 - runs);
        Server::Takes
    };
    attack(&[Actor::Host], many, &[]);
}

/// The table in docs/THREATS.md is this suite, no less and no more.
#[test]
fn the_threats_page_tells_of_each_attack() {
    let page = include_str!("../../docs/THREATS.md");
    let table = page.split("\n## ").find(|part| part.starts_with("What was attacked")).unwrap();
    let told: BTreeSet<_> = table
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`').map(|(_, name)| name))
        .collect();
    let tests: BTreeSet<_> = include_str!("attacks.rs")
        .split("#[test]\nfn ")
        .skip(1)
        .filter_map(|text| text.split('(').next())
        .filter(|name| *name != "the_threats_page_tells_of_each_attack")
        .collect();
    assert_eq!(told, tests);
    assert!(!tests.is_empty());
}
