//! Pruning for real: what is locked stays, what is needed stays though nothing locks it, the rest goes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::postgres::Server;
use crate::support::program::Program;
use crate::support::s3::{Object, versions};
use crate::support::{Place, Site, verify};

/// `keephold prune`, on a machine of its own: the pruner key and the host's public key, nothing else.
pub(crate) fn prune(site: &Site, arguments: &[&str]) -> Program {
    let safe = site.path("safe");
    if !safe.join("pruner.key").exists() {
        let export = format!("--export-key={}", safe.join("pruner.key").display());
        let export = site.program("keephold", "home", &["prune", &export]);
        export.arg("--keys").arg(site.path("keys")).run().ok();
    }
    site.program("keephold", "pruner", &["prune", "--json", "--grace", "1s"])
        .arg("--key")
        .arg(safe.join("pruner.key"))
        .arg("--signers")
        .arg(site.path("keys/signing_key.pub"))
        .args(arguments)
}

/// One file of other bytes, kept for so long; gives the record.
pub(crate) fn run(site: &Site, number: u8, keep: &str) -> Value {
    std::fs::write(site.source().join("data"), noise(number)).unwrap();
    site.backup().arg("--keep").arg(keep).run().ok().json()
}

pub(crate) fn noise(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; 200_000];
    blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Long enough for a run; a snapshot that has expired before its run ends is none.
pub(crate) const BRIEFLY: &str = "15s";

/// Waits until a run has expired.
pub(crate) fn expires(record: &Value) {
    let expires: Timestamp = record["retention"]["expires"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(Timestamp::now()).unsigned_abs();
    assert!(left < Duration::from_secs(60), "{left:?}");
    std::thread::sleep(left + Duration::from_secs(1));
}

/// Ends locks that last no more than a day or two, as time would.
pub(crate) fn time_passes(site: &Site) {
    let soon = Timestamp::now() + SignedDuration::from_hours(48);
    match site.place {
        Place::Local => end_local(&site.path("vault/.locks"), soon),
        _ => {
            let end = (Timestamp::now() + SignedDuration::from_secs(3)).to_string();
            for found in versions(site.place, &site.bucket, "main/") {
                let object = Object { place: site.place, bucket: &site.bucket, key: found.key };
                let (mode, until) = object.retention(&found.version).unwrap();
                if until < soon {
                    object.set_retention(&found.version, &mode, &end, true).unwrap();
                }
            }
            std::thread::sleep(Duration::from_secs(4));
        }
    }
}

fn end_local(folder: &Path, soon: Timestamp) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            end_local(&path, soon);
        } else if path.ends_with(".guard") {
            // Holds no time: it is what programs lock against each other.
        } else if std::fs::read_to_string(&path).unwrap().trim().parse::<Timestamp>().unwrap()
            < soon
        {
            let _ = Command::new("chattr").args(["-f", "-i"]).arg(&path).status();
            std::fs::write(&path, "2026-01-01T00:00:00Z\n").unwrap();
        }
    }
}

pub(crate) fn objects(report: &Value, kind: &str, fate: &str) -> u64 {
    report["kinds"][kind][fate]["objects"].as_u64().unwrap_or(0)
}

#[test]
fn what_nothing_needs_goes_once_its_lock_has_ended_and_the_rest_comes_back() {
    for (place, lock) in [(Place::Local, "compliance"), (Place::LocalStack, "governance")] {
        let site = Site::with_lock(place, lock);
        for (number, keep) in [(1, BRIEFLY), (2, "35d"), (3, BRIEFLY), (4, BRIEFLY)] {
            run(&site, number, keep);
        }
        expires(&run(&site, 5, BRIEFLY));
        let before = site.stored();

        // Run 1 has expired and isn't among the newest three, but what it stored is still locked for a while.
        let report = prune(&site, &[]).run().ok().json();
        assert_eq!(objects(&report, "pack", "deleted"), 0, "{report}");
        assert!(objects(&report, "pack", "locked") > 0, "{report}");
        assert_eq!((&report["unexpired"], &report["newest"]), (&1.into(), &3.into()), "{report}");
        assert_eq!(site.stored(), before, "{place:?}");

        let found_before = verify::codes(&verify::run(&site, &[]).1);
        time_passes(&site);
        let dry = prune(&site, &["--dry-run"]).run().ok().json();
        assert!(objects(&dry, "pack", "deleted") > 0, "{dry}");
        assert_eq!(site.stored(), before, "a dry run deletes nothing");
        // Most of what is kept is no longer locked: only that it is needed holds it.
        assert_eq!(objects(&dry, "pack", "locked"), 0, "{dry}");

        let done = prune(&site, &[]).run().ok().json();
        assert_eq!(done["kinds"]["pack"], dry["kinds"]["pack"]);
        assert_eq!(objects(&done, "segment", "deleted"), 1, "{done}");
        assert_eq!(
            site.stored().len() as u64,
            before.len() as u64 - objects(&done, "pack", "deleted") - 1,
            "{place:?}"
        );
        let again = prune(&site, &[]).run().ok().json();
        assert_eq!(objects(&again, "pack", "deleted") + objects(&again, "segment", "deleted"), 0);

        for number in 2..=5_u8 {
            let to = format!("back{number}");
            let snapshot = format!("web1/files@{number}");
            let restore =
                site.elsewhere(&["restore", &snapshot]).arg("--target").arg(site.path(&to));
            restore.run().ok();
            assert!(std::fs::read(site.restored(&to).join("data")).unwrap() == noise(number));
        }
        // What was pruned is missed by nobody, and the host goes on as if nothing had been.
        assert_eq!(verify::codes(&verify::run(&site, &[]).1), found_before, "{place:?}");
        let next = run(&site, 6, "35d");
        assert_eq!(next["status"], "success", "{next}");
    }
}

#[test]
fn dumps_that_share_rows_come_back_after_those_before_them_are_gone() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    let dump = |keep: &str| {
        let run = site.backup_command().arg("--postgres").arg(server.dsn()).arg("--keep").arg(keep);
        run.arg("--json").run().ok().json()
    };
    let change = |round: usize| {
        let change = format!("UPDATE customers SET joined = now() WHERE id % 50 = {round}");
        server.sql("shop", &change);
    };
    // Only the second run stores this: two packs and more, so that one of them holds nothing else.
    let passing = "CREATE TABLE passing AS SELECT encode(string_agg(sha512((g * 64 + n)::text::bytea), ''), 'base64')
        FROM generate_series(1, 10000) g, generate_series(0, 63) n GROUP BY g";
    let records = [0, 1, 2, 3, 4].map(|round| {
        change(round);
        match round {
            1 => server.sql("shop", passing),
            2 => server.sql("shop", "DROP TABLE passing"),
            _ => {}
        }
        dump(BRIEFLY)
    });
    expires(&records[4]);
    time_passes(&site);
    let done = prune(&site, &[]).run().ok().json();
    assert!(objects(&done, "pack", "deleted") > 0 && objects(&done, "pack", "kept") > 3, "{done}");
    // Its hash is of the bytes that pg_dump gave.
    site.elsewhere(&["dump", "latest", "shop"]).run().ok();
    // The next run finds rows in packs that are left, and stores again what was in those that aren't.
    change(5);
    let record = dump("35d");
    assert!(record["totals"]["bytes_matched"].as_u64().unwrap() > 0, "{record}");
    let report = verify::run(&site, &[]).1;
    assert!(report["restore_tests"].to_string().contains("shop"), "{report}");
}

#[test]
fn a_record_that_cannot_be_read_stops_prune_until_someone_has_looked() {
    let site = Site::new(Place::Local);
    for number in 1..=3 {
        run(&site, number, BRIEFLY);
    }
    expires(&run(&site, 4, BRIEFLY));
    time_passes(&site);
    let kept = prune(&site, &["--dry-run"]).run().ok().json();
    assert!(objects(&kept, "pack", "deleted") > 0);
    // A record under a name that its bytes don't have: it might be a true one that rotted.
    let key = "runs/web1/files/20261123T181500Z-9-00000000000000000000000000000000";
    std::fs::write(site.path("vault").join(key), b"junk").unwrap();
    let before = site.stored();
    let report = prune(&site, &[]).run().exits(3).json();
    assert_eq!(report["blocked"], true, "{report}");
    assert_eq!(report["concerns"][0]["what"], key, "{report}");
    assert_eq!(site.stored(), before);
    let report = prune(&site, &["--disregard", key]).run().exits(3).json();
    assert_eq!(objects(&report, "pack", "deleted"), objects(&kept, "pack", "deleted"), "{report}");
}

/// The writer wants to use again what nothing needs any more, while the pruner takes it away.
#[test]
fn a_backup_beside_a_prune_comes_back_whole() {
    // By how many milliseconds the backup begins before the prune.
    for (place, ahead) in [(Place::Local, 0), (Place::Ceph, -500_i64), (Place::LocalStack, -100)] {
        let site = Site::with_lock(place, "governance");
        for number in 1..=7 {
            run(&site, number, BRIEFLY);
        }
        expires(&run(&site, 8, BRIEFLY));
        time_passes(&site);
        for number in 1..=5 {
            let name = format!("again{number}");
            std::fs::write(site.source().join(name), noise(number)).unwrap();
        }
        let (backup, pruned) = std::thread::scope(|scope| {
            let wait = |first: i64| {
                std::thread::sleep(Duration::from_millis(u64::try_from(first).unwrap_or(0)));
            };
            let site = &site;
            let backup = scope.spawn(move || {
                wait(-ahead);
                site.backup().arg("--keep").arg("35d").run()
            });
            wait(ahead);
            let pruned = prune(site, &[]).run().ok().json();
            (backup.join().unwrap().ok().json(), pruned)
        });
        assert_eq!(backup["status"], "success", "{place:?}: {backup}");
        let pruned_packs = objects(&pruned, "pack", "deleted");
        println!(
            "{place:?}: {pruned_packs} packs went, {} were used again",
            backup["totals"]["packs_reused"]
        );
        let restore = site.elsewhere(&["restore", "web1/files"]).arg("--target");
        restore.arg(site.path("back")).run().ok();
        for number in 1..=5 {
            let back = std::fs::read(site.restored("back").join(format!("again{number}"))).unwrap();
            assert!(back == noise(number), "{place:?}: {number}");
        }
        let again = prune(&site, &[]).run().ok().json();
        println!("{place:?}: then {} packs", objects(&again, "pack", "deleted"));
        let restore = site.elsewhere(&["restore", "web1/files"]).arg("--target");
        restore.arg(site.path("later")).run().ok();
    }
}
