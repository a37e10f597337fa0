//! The verifier looks at the vault and at its copy, each on a server of its own, and says which snapshots each has.

use serde_json::Value;

use crate::support::program::{Program, binary};
use crate::support::s3::{self, Object};
use crate::support::{Place, Site, tree, verify};

/// A vault with two snapshots at one place, and its copy at another under governance locks, so that the worst can be done
/// to the copy.
struct Pair {
    site: Site,
    there: Place,
    bucket: String,
    /// A pack that only the second snapshot needs.
    second: String,
}

impl Pair {
    fn new(here: Place, there: Place) -> Self {
        let site = Site::new(here);
        tree::plain(&site.source());
        site.backs_up();
        let first = site.keys("packs/");
        std::fs::write(site.source().join("second"), tree::noise(5, 300_000)).unwrap();
        site.backs_up();
        let second = site.keys("packs/").into_iter().find(|key| !first.contains(key)).unwrap();
        let pair = Self { site, there, bucket: s3::bucket(there, true), second };
        pair.replicate();
        // Both snapshots are older than a copy may lag behind.
        std::thread::sleep(std::time::Duration::from_secs(2));
        pair
    }

    /// The table that says where the copy is.
    fn copy(&self, table: &str) -> String {
        format!(
            "[[{table}]]\nname = 'far'\nurl = 's3://{}/copy'\nendpoint = '{}'\n{}lock = 'governance'\n",
            self.bucket,
            self.there.endpoint(),
            self.site.credential_lines(self.there, "")
        )
    }

    fn vault(&self) -> String {
        format!(
            "[vault]\nurl = '{}'\nendpoint = '{}'\n{}",
            self.site.url,
            self.site.place.endpoint(),
            self.site.credential_lines(self.site.place, "")
        )
    }

    fn replicate(&self) {
        let config = self.site.path("replicate.toml");
        std::fs::write(&config, self.vault() + &self.copy("replica")).unwrap();
        let home = self.site.path("replicator");
        std::fs::create_dir_all(&home).unwrap();
        let run = Program::new(binary("keephold"), &home).args(["replicate", "--config"]);
        run.arg(config).run().ok();
    }

    /// What the verifier says, with a copy that may lag by no more than a second and is read whole each day.
    #[track_caller]
    fn report(&self) -> (Vec<String>, Value) {
        let config = self.site.path("verify.toml");
        let copy = self.copy("copy") + "max_lag = '1s'\nread_days = 1\n";
        std::fs::write(&config, self.vault() + &copy).unwrap();
        let (output, report) = verify::run(
            &self.site,
            &["--level", "integrity", "--config", config.to_str().unwrap()],
        );
        let codes = verify::codes(&report);
        output.exits(if codes.is_empty() { 0 } else { 3 });
        (codes, report)
    }

    /// An object in the copy.
    fn object(&self, key: &str) -> Object<'_> {
        Object { place: self.there, bucket: &self.bucket, key: format!("copy/{key}") }
    }
}

/// Which snapshots of a copy are whole, the newest first.
fn complete(report: &Value) -> Vec<bool> {
    let shown = report["copies"][0]["snapshots"]["shown"].as_array().unwrap();
    shown.iter().map(|snapshot| snapshot["complete"].as_bool().unwrap()).collect()
}

#[test]
fn a_report_says_which_copies_a_snapshot_has() {
    for (here, there) in [(Place::Ceph, Place::LocalStack), (Place::LocalStack, Place::Ceph)] {
        let pair = Pair::new(here, there);
        let (codes, report) = pair.report();
        assert_eq!(codes, [""; 0], "{there:?}: {:#?}", report["findings"]);
        let copy = &report["copies"][0];
        assert_eq!((&copy["name"], &copy["snapshots_complete"]), (&"far".into(), &2.into()));
        assert_eq!(copy["objects_present"], copy["objects_needed"]);
        assert_eq!(
            (copy["strength"].as_str(), complete(&report)),
            (Some("governance"), vec![true, true])
        );
        assert_eq!(copy["objects_read"], copy["objects_needed"], "all is read each day");

        // A marker hides an index segment: the true version is beneath.
        pair.object(&pair.site.keys("index/")[0]).hide();
        let (codes, report) = pair.report();
        assert_eq!((codes, complete(&report)), (vec!["KH-COPY-006".into()], vec![true, true]));

        // A pack rots: other bytes of the same length.
        let pack = pair.object(&pair.second);
        let version = pack.only_version();
        let mut bytes = pack.get(&version);
        bytes[2000] ^= 1;
        pack.delete(&version, true).unwrap();
        let rotten = pack.put_locked(&bytes, "GOVERNANCE", "2037-01-01T00:00:00+00:00");
        let (codes, report) = pair.report();
        assert_eq!(codes, ["KH-COPY-001", "KH-COPY-005", "KH-COPY-006"], "{there:?}");
        assert_eq!(
            (complete(&report), &report["copies"][0]["objects_damaged"]),
            (vec![false, true], &1.into())
        );

        // It is removed; the vault itself is whole all the while.
        pack.delete(&rotten, true).unwrap();
        let (codes, report) = pair.report();
        assert_eq!(codes, ["KH-COPY-001", "KH-COPY-006"], "{there:?}");
        assert_eq!(complete(&report), [false, true]);
        assert_eq!(report["objects"]["present"], report["objects"]["needed"]);

        // The next replication brings it back.
        pair.replicate();
        let (codes, report) = pair.report();
        assert_eq!((codes, complete(&report)), (vec!["KH-COPY-006".into()], vec![true, true]));
    }
}
