//! Attacks on real servers, once with all that a host has (its keys, and the credential that the packaged policy gives
//! it, on Ceph, which enforces policies), once as the bucket's owner, on Ceph and LocalStack. Whatever is done: each
//! version that was locked is still there and as locked, the snapshot from before comes back without any repair, and
//! the verifier names the attack. docs/THREATS.md is the table of this suite.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::prune;
use crate::support::attacked::{Actor, Attacked, BOTH, Server, all, attack, ledger};
use crate::support::s3::{Object, Version};
use crate::support::{Place, Site, thief, tree};

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
fn locks_are_shortened_weakened_and_cleared() {
    let shorten = |at: &Attacked| {
        let soon = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
        let one = |(v, _, _): &(Version, _, _)| {
            ["COMPLIANCE", "GOVERNANCE", ""]
                .map(|mode| at.object(&v.key).bypass_as(at.role(), &v.version, mode, &soon))
        };
        let server = all(&at.before.iter().flat_map(one).collect::<Vec<_>>());
        assert_eq!(server, Server::Refuses);
        server
    };
    attack(&BOTH, shorten, &[]);
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

    // Who has no key of a host signs with one of his own.
    let forge = |at: &Attacked| {
        thief::forges(&at.site, &at.last, thief::SealedTo::Thief, 1);
        at.comes_back("web1/files", "newest");
        Server::Takes
    };
    attack(&[Actor::Owner], forge, &["KH-REC-006"]);
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
    attack(&[Actor::Host], fill, &["KH-REC-006", "KH-VAULT-006"]);
    attack(&[Actor::Owner], fill, &["KH-REC-006", "KH-VAULT-003", "KH-VAULT-006"]);
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

    // Who knows whom runs are sealed to seals garbage to them, but can't sign it.
    let forge = |at: &Attacked| {
        thief::forges(&at.site, &at.last, thief::SealedTo::Everyone, 1);
        at.comes_back("web1/files", "newest");
        Server::Takes
    };
    attack(&[Actor::Owner], forge, &["KH-REC-002"]);
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

    let forged = |at: &Attacked| {
        thief::forges(&at.site, &at.last, thief::SealedTo::Everyone, 1_000);
        at.comes_back("web1/files", "newest");
        Server::Takes
    };
    attack(&[Actor::Owner], forged, &["KH-REC-002"]);

    for actor in BOTH {
        the_pruner_is_not_fooled(actor);
    }
}

/// The pruner runs after a thousand garbage snapshots, when one good run has expired and one hasn't.
fn the_pruner_is_not_fooled(actor: Actor) {
    // Locks that a test can end, as time would.
    let site = Site::with_lock(Place::LocalStack, "governance");
    let good = prune::run(&site, 1, prune::BRIEFLY);
    let kept = prune::run(&site, 2, "35d");
    match actor {
        Actor::Host => {
            let last = prune::run(&site, 3, "8d");
            thief::repeats(&site, &last, 999);
        }
        Actor::Owner => thief::forges(&site, &kept, thief::SealedTo::Everyone, 1_000),
    }
    prune::expires(&good);
    prune::time_passes(&site);
    let pruned = prune::prune(&site, &[]).run();
    let report = pruned.json();
    assert_ne!(report["blocked"], true, "{report}");
    let comes_back = |number: u8| {
        let (snapshot, to) = (format!("web1/files@{number}"), format!("back{number}"));
        let restore = site.elsewhere(&["restore", &snapshot]).arg("--signers");
        let restore = restore.arg(site.path("keys/signing_key.pub")).arg("--target");
        let restored = restore.arg(site.path(&to)).run();
        assert!(matches!(restored.code, Some(0 | 3)), "{actor:?} {number}: {}", restored.stderr);
        let back = std::fs::read(site.restored(&to).join("data")).unwrap();
        assert!(back == prune::noise(number), "{actor:?}: {number}");
    };
    comes_back(2);
    match actor {
        // It has expired, and is no longer among the newest that the host has signed.
        Actor::Host => assert_eq!(prune::objects(&report, "pack", "deleted"), 1, "{report}"),
        // What nobody believes doesn't count: the expired run is still among the newest.
        Actor::Owner => {
            assert_eq!(prune::objects(&report, "pack", "deleted"), 0, "{report}");
            comes_back(1);
        }
    }
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
