//! A vault under attack: what must hold after each of the attacks in [`crate::attacks`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::program::{Program, binary};
use super::s3::{self, Object, Version, versions};
use super::{Place, Site, tree, verify};

/// Who attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Root on a host: its keys, its credential.
    Host,
    /// Whoever owns the bucket: every right that the server knows, but no key.
    Owner,
}

/// What the server does with the requests of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// Refuses every one: nothing changes.
    Refuses,
    /// Takes them.
    Takes,
}

/// A vault with two good runs, and what lies there.
pub(crate) struct Attacked {
    pub(crate) site: Site,
    pub(crate) actor: Actor,
    pub(crate) before: Vec<(Version, Vec<u8>, Timestamp)>,
    /// The second run, as `backup --json` printed it.
    pub(crate) last: Value,
    codes: BTreeSet<String>,
}

/// Text that compresses, as most data does.
pub(crate) fn ledger() -> String {
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
        let last = site.backs_up();
        let mut this = Self { site, actor, before: Vec::new(), last, codes: BTreeSet::new() };
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
    pub(crate) fn role(&self) -> &'static str {
        match self.actor {
            Actor::Host => "WRITER",
            Actor::Owner => "",
        }
    }

    /// Who may look at what the host stored: on Ceph an object belongs to whoever wrote it, and not to the bucket's owner.
    fn reader(&self) -> &'static str {
        if self.actor == Actor::Host { "VERIFIER" } else { "" }
    }

    pub(crate) fn object(&self, key: &str) -> Object<'_> {
        Object { place: self.site.place, bucket: &self.site.bucket, key: key.into() }
    }

    fn versions(&self) -> Vec<Version> {
        versions(self.site.place, &self.site.bucket, "main/")
    }

    /// Keys of the vault's objects that begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let prefix = format!("main/{prefix}");
        let keys: BTreeSet<_> = self.before.iter().map(|(v, _, _)| v.key.clone()).collect();
        keys.into_iter().filter(|key| key.starts_with(&prefix)).collect()
    }

    /// What the verifier finds, with its own credential.
    pub(crate) fn found(&self) -> BTreeSet<String> {
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

    /// Restores a snapshot by what was carried off the host, and holds it against what was backed up before the attack.
    #[track_caller]
    pub(crate) fn comes_back(&self, snapshot: &str, to: &str) {
        let mut restore = self.site.elsewhere(&["restore", snapshot]);
        if self.actor == Actor::Host {
            let [id, secret] = self.site.place.credential("VERIFIER");
            restore = restore.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        }
        let fingerprint =
            std::fs::read_to_string(self.site.path("keys/vault.fingerprint")).unwrap();
        let restored = restore
            .arg("--target")
            .arg(self.site.path(to))
            .arg("--signers")
            .arg(self.site.path("keys/signing_key.pub"))
            .arg("--fingerprint")
            .arg(fingerprint.trim())
            .run();
        // Done, with warnings of what is in the way.
        assert!(matches!(restored.code, Some(0 | 3)), "{}", restored.stderr);
        tree::same(&self.site.path("untouched"), &self.site.restored(to));
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
        self.comes_back(id, "back");

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
pub(crate) fn attack(actors: &[Actor], attack: impl Fn(&Attacked) -> Server, named: &[&str]) {
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

pub(crate) const BOTH: [Actor; 2] = [Actor::Host, Actor::Owner];

/// Requests that are all taken, or all refused.
#[track_caller]
pub(crate) fn all<T>(results: &[Result<T, String>]) -> Server {
    let taken = results.iter().filter(|r| r.is_ok()).count();
    assert!(!results.is_empty() && (taken == 0 || taken == results.len()), "{taken} were taken");
    if taken == 0 { Server::Refuses } else { Server::Takes }
}
