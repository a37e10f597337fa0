//! `keephold benchmark` measures everything, and leaves behind no more than it says.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::{Place, Program, Site};

fn benchmark(site: &Site, more: &[&str]) -> Program {
    let command = site.program("keephold", "home", &["benchmark", "--host", "web1", "--json"]);
    command.args(more).arg("--keys").arg(site.path("keys")).arg(site.source())
}

#[test]
fn a_benchmark_names_the_limit_and_leaves_what_it_says() {
    for place in Place::ALL {
        let site = Site::new(place);
        for n in 0..4_u8 {
            std::fs::write(site.source().join(format!("f{n}")), vec![n; 300_000]).unwrap();
        }
        let before = site.stored();
        let started = Timestamp::now();
        let report: Value = benchmark(&site, &["--write"]).run().ok().json();
        let figures = &report["figures"];
        assert_eq!(figures["disk"]["files"], 4, "{report}");
        assert!(figures["levels"].as_array().unwrap().len() >= 5, "{report}");
        for what in ["writes", "reads"] {
            let rates = figures["target"][what].as_array().unwrap();
            assert!(rates.len() >= 3, "{place:?}: {report}");
            assert!(rates.iter().all(|rate| rate[1].as_f64().unwrap() > 0.0), "{report}");
        }
        assert_eq!(report["advice"]["backup"].as_array().unwrap().len(), 3, "{report}");
        let written = &figures["target"]["written"];
        let left: Vec<_> = site.stored().into_iter().filter(|o| !before.contains(o)).collect();
        if place == Place::Local {
            assert_eq!((left.len(), &written["deleted"]), (0, &Value::Bool(true)), "{left:?}");
        } else {
            assert_eq!(Some(left.len() as u64), written["packs"].as_u64(), "{left:?}");
            assert!(left.iter().all(|object| object.starts_with("main/packs/")), "{left:?}");
            let until: Timestamp = written["locked_until"].as_str().unwrap().parse().unwrap();
            let most = Timestamp::now() + SignedDuration::from_mins(16);
            assert!(until > started && until <= most, "{place:?}: {until}");
        }
        // Without being told to, it writes nothing; what it then can't know, it says.
        let before = site.stored();
        let output = benchmark(&site, &[]).run();
        let report = output.exits(3).json();
        assert_eq!(report["figures"]["target"]["written"], Value::Null);
        assert_eq!(site.stored(), before);
        // Backups go on as if nothing had been.
        site.backs_up();
    }
}
