//! Retention classes: a run's class stands in its record, and locks reach at least its expiry.

use std::time::{Duration, SystemTime};

use crate::support::{Place, Site, tree, verify};

#[test]
fn a_run_tells_its_class_and_is_locked_for_as_long() {
    for place in [Place::Local, Place::Ceph] {
        let site = Site::new(place);
        tree::plain(&site.source());
        let config = site.path("keephold.toml");
        let text = format!(
            "host = 'web1'\n[vault]\nurl = '{}'\nkeys = '{}'\n\
             [retention]\ndaily = '14d'\nmonthly = '60d'\nyearly = '400d'\n\
             [prices]\nput = 0.005\nget = 0.0004\nlist = 0.005\nstorage_gb_month = 0.023\n\
             [[directory]]\nname = 'files'\npaths = ['{}']\n",
            site.url,
            site.path("keys").display(),
            site.source().display()
        );
        std::fs::write(&config, text).unwrap();
        let backup = || {
            let run = site.program("keephold", "home", &["backup", "--json"]);
            run.arg("--config")
                .arg(&config)
                .arg("--cache")
                .arg(site.path("cache"))
                .run()
                .ok()
                .json()
        };
        let time = |value: &serde_json::Value| -> jiff::Timestamp {
            value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
        };
        for (class, days) in [("yearly", 400), ("daily", 14)] {
            let record = backup();
            let retention = &record["retention"];
            assert_eq!(retention["class"], class, "{record}");
            let kept = time(&retention["expires"]).duration_since(time(&record["started"]));
            assert_eq!(kept.as_hours(), 24 * days);
            let locked = time(&record["snapshot"]["locked_until"]);
            assert!(locked >= time(&retention["expires"]), "{locked}: {record}");
            let totals = &record["totals"];
            match place {
                Place::Local => assert!(totals["cost"].is_null() && totals["calls"].is_null()),
                _ => {
                    assert!(totals["calls"]["list"].as_u64().unwrap() > 0, "{totals}");
                    assert!(totals["cost"]["calls_millionths"].as_u64().unwrap() > 0, "{totals}");
                }
            }
        }
        site.elsewhere(&["snapshots"]).run().ok().says("yearly").says("daily");
    }
}

#[test]
fn a_run_that_drains_a_pack_says_what_it_stored_again() {
    for place in Place::S3 {
        let site = Site::new(place);
        let stays = tree::noise(1, 200_000);
        std::fs::write(site.source().join("stays"), &stays).unwrap();
        std::fs::write(site.source().join("goes"), tree::noise(2, 4_000_000)).unwrap();
        let run = |keep: &str| site.backup().args(["--keep", keep]).run().ok().json();
        run("2d");
        std::fs::remove_file(site.source().join("goes")).unwrap();
        let totals = &run("2d")["totals"];
        assert_eq!((&totals["packs_drained"], &totals["bytes_again"]), (&0.into(), &0.into()));
        // The old pack would have to be locked for a month, for a twentieth of what it holds.
        let record = run("30d");
        let totals = &record["totals"];
        assert_eq!(totals["packs_drained"], 1, "{place:?}: {totals}");
        let again = totals["bytes_again"].as_u64().unwrap();
        assert!((200_000..300_000).contains(&again), "{place:?}: {totals}");
        site.restore("back").run().ok();
        assert!(std::fs::read(site.restored("back").join("stays")).unwrap() == stays);
        verify::green_but_for(&site, &["KH-CONT-004"]);
    }
}

/// Small and large files, in turns left alone for long and changed just now. Gives the record.
fn strewn(site: &Site, version: u64, of_each: usize) -> serde_json::Value {
    let long_ago = SystemTime::now() - Duration::from_secs(30 * 86_400);
    for n in 0..of_each as u64 {
        for (length, name) in [(90_000, format!("small{n}")), (600_000, format!("large{n}"))] {
            let lasts = n % 2 == 0;
            let mut bytes = vec![0; length];
            let seed = [n, length as u64, if lasts { 0 } else { version }];
            let mut hasher = blake3::Hasher::new();
            seed.iter().for_each(|part| {
                hasher.update(&part.to_le_bytes());
            });
            hasher.finalize_xof().fill(&mut bytes);
            let path = site.source().join(name);
            if version == 1 || !lasts {
                std::fs::write(&path, bytes).unwrap();
            }
            if lasts {
                std::fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
            }
        }
    }
    site.backup().run().ok().json()
}

#[test]
fn what_changed_lately_is_packed_apart_from_what_was_left_alone() {
    let site = Site::new(Place::Local);
    let first = strewn(&site, 1, 16);
    assert_eq!(first["totals"]["packs_new"], 2, "{first}");
    // All that changed lay in the one pack, all that didn't in the other.
    let second = strewn(&site, 2, 16);
    assert_eq!(
        (&second["totals"]["packs_new"], &second["totals"]["packs_reused"]),
        (&1.into(), &1.into())
    );
    site.restore("back").run().ok();
    tree::same(&site.source(), &site.restored("back"));
    // Little of either isn't worth two objects.
    let little = Site::new(Place::Local);
    let record = strewn(&little, 1, 4);
    assert_eq!(record["totals"]["packs_new"], 1, "{record}");
}
