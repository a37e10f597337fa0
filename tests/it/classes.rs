//! Retention classes: a run's class stands in its record, and locks reach at least its expiry.

use crate::support::{Place, Site, tree};

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
