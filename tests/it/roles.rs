//! Whole commands as the role that they are for, under the packaged policies, on the gateway that enforces them.

use crate::prove;
use crate::prune::{BRIEFLY, expires, noise, objects, prune, run};
use crate::support::program::{Program, binary};
use crate::support::roles::{Buckets, act_as, site, time_passes};
use crate::support::{Place, Site, tree, verify};

#[test]
fn hosts_back_up_and_verifiers_verify_under_the_packaged_policies() {
    let (mut site, _) = site("compliance");
    tree::plain(&site.source());
    site.init().run().ok();
    assert_eq!(site.backs_up()["status"], "success");
    site.backs_up_again();
    act_as(&mut site, "VERIFIER");
    verify::green(&site);
    site.restore("restored").run().ok();
}

#[test]
fn the_pruner_prunes_and_leaves_what_is_needed_or_locked() {
    let (mut site, _) = site("governance");
    site.init().run().ok();
    for number in 1..=4 {
        run(&site, number, BRIEFLY);
    }
    expires(&run(&site, 5, BRIEFLY));
    act_as(&mut site, "PRUNER");
    let before = site.stored();
    let locked = prune(&site, &[]).run().ok().json();
    assert_eq!(objects(&locked, "pack", "deleted"), 0, "{locked}");
    assert!(objects(&locked, "pack", "locked") > 0, "{locked}");
    assert_eq!(site.stored(), before);

    time_passes(&site);
    let done = prune(&site, &[]).run().ok().json();
    // Runs 1 and 2 have expired, and aren't among the newest three. Nothing was refused: exit 0.
    let gone = objects(&done, "pack", "deleted") + objects(&done, "segment", "deleted");
    assert!(objects(&done, "pack", "deleted") >= 2 && gone > 2, "{done}");
    assert_eq!(site.stored().len() as u64, before.len() as u64 - gone);
    act_as(&mut site, "VERIFIER");
    for number in 3..=5_u8 {
        let (snapshot, to) = (format!("web1/files@{number}"), format!("back{number}"));
        site.elsewhere(&["restore", &snapshot]).arg("--target").arg(site.path(&to)).run().ok();
        assert!(std::fs::read(site.restored(&to).join("data")).unwrap() == noise(number));
    }
    // The host goes on.
    act_as(&mut site, "WRITER");
    assert_eq!(run(&site, 6, "35d")["status"], "success");
}

#[test]
fn the_prober_proves_the_lock_and_leaves_the_vault_alone() {
    let (mut site, _) = site("compliance");
    tree::plain(&site.source());
    site.init().run().ok();
    site.backs_up();
    let kept = |site: &Site| {
        site.stored().into_iter().filter(|line| !line.contains("/canary/")).collect::<Vec<_>>()
    };
    let before = kept(&site);
    act_as(&mut site, "PROBER");
    let output = prove::command(&site).run();
    let proof = output.json();
    assert_eq!(proof["verdict"], "held", "{proof:#}");
    output.exits(0);
    // Each refusal is the lock's: the credential was seen to have the right.
    let attempts = proof["attempts"].as_array().unwrap();
    let count = |result: &str| attempts.iter().filter(|a| a["result"] == result).count();
    assert_eq!((count("control"), count("held"), count("not_proven")), (3, 8, 0), "{proof:#}");
    assert_eq!(kept(&site), before);
    // The verifier, who may not write there, shows the proof.
    act_as(&mut site, "VERIFIER");
    assert_eq!(verify::green(&site)["lock_proof"]["proof_id"], proof["proof_id"]);
}

/// `keephold replicate` with a role's credential on both sides.
fn replicates(site: &Site, role: &str, buckets: &Buckets) -> Program {
    let config = site.path("replicate.toml");
    let (endpoint, credential) = (site.place.endpoint(), site.credential_lines(site.place, role));
    let text = format!(
        "[vault]\nurl = '{}'\nendpoint = '{endpoint}'\n{credential}\
         [[replica]]\nname = 'far'\nurl = 's3://{}/main'\nendpoint = '{endpoint}'\n{credential}lock = 'compliance'\n",
        site.url, buckets.copy
    );
    std::fs::write(&config, text).unwrap();
    let home = site.path("replicator");
    std::fs::create_dir_all(&home).unwrap();
    Program::new(binary("keephold"), &home).args(["replicate", "--json", "--config"]).arg(config)
}

#[test]
fn the_replicator_makes_a_copy_and_lengthens_its_locks() {
    let (site, buckets) = site("compliance");
    tree::plain(&site.source());
    site.init().run().ok();
    site.backs_up();
    // The host's own credential is none for it.
    replicates(&site, "WRITER", &buckets).run().exits(1).says("AccessDenied");
    let first = replicates(&site, "REPLICATOR", &buckets).run().ok().json();
    assert_eq!((&first["records_copied"], &first["held_back"]), (&1.into(), &0.into()));
    // The next run makes locks of the first's packs longer.
    std::fs::write(site.source().join("more"), "more").unwrap();
    site.backup().args(["--keep", "300d"]).run().ok();
    let second = replicates(&site, "REPLICATOR", &buckets).run().ok().json();
    assert_eq!(second["records_copied"], 1, "{second}");
    assert!(second["locks_extended"].as_u64().unwrap() > 0, "{second}");
    let third = replicates(&site, "REPLICATOR", &buckets).run().ok().json();
    assert_eq!((&third["objects_written"], &third["objects_failed"]), (&0.into(), &0.into()));

    // The verifier may read the copy, and finds nothing wrong with it.
    let url = format!("s3://{}/main", buckets.copy);
    let mut copy = site.copy_at(Place::Ceph, &url, &buckets.copy);
    assert_eq!(copy.keys(""), site.keys(""));
    act_as(&mut copy, "VERIFIER");
    verify::green(&copy);
    copy.restore("restored").run().ok();
    let restored = copy.path("restored").join(site.source().strip_prefix("/").unwrap());
    tree::same(&site.source(), &restored);
}
