//! Pruning beside another host's backup, both orders forced by holding requests back on their way to a real server; and
//! refusals by the server in the middle of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::prune::{BRIEFLY, expires, noise, objects, prune, run};
use crate::support::program::Program;
use crate::support::proxy::{Fate, Proxy};
use crate::support::roles::{act_as, site, time_passes, vault_policy};
use crate::support::{Site, s3};

/// Longest that a test waits for the other side.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests that wait at a proxy until they are let through.
struct Gate {
    proxy: Proxy,
    arrived: Receiver<String>,
    open: Arc<(Mutex<bool>, Condvar)>,
    passed: Arc<AtomicUsize>,
}

impl Gate {
    /// A proxy at which requests of a kind wait.
    fn new(server: &str, waits: fn(&str) -> bool) -> Self {
        let (tell, arrived): (Sender<String>, _) = channel();
        let open = Arc::<(Mutex<bool>, Condvar)>::default();
        let passed = Arc::<AtomicUsize>::default();
        let (gate, count, tell) = (Arc::clone(&open), Arc::clone(&passed), Mutex::new(tell));
        let proxy = Proxy::judging(server, move |line| {
            if waits(line) {
                let _ = tell.lock().unwrap().send(line.to_owned());
                let (open, changed) = &*gate;
                let shut = open.lock().unwrap();
                let (_open, late) =
                    changed.wait_timeout_while(shut, PATIENCE, |open| !*open).unwrap();
                assert!(!late.timed_out(), "{line} was never let through");
                count.fetch_add(1, Ordering::SeqCst);
            }
            Fate::Pass
        });
        Self { proxy, arrived, open, passed }
    }

    /// Waits until a request waits; gives it.
    fn wait(&self) -> String {
        let line = self.arrived.recv_timeout(PATIENCE).expect("a request waits");
        assert_eq!(self.passed.load(Ordering::SeqCst), 0, "none has passed");
        line
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

/// Runs of host web1, most of which have expired; the locks of what they stored have ended.
fn pruned_soon() -> Site {
    let (site, _) = site("governance");
    site.init().run().ok();
    for number in 1..=7 {
        run(&site, number, BRIEFLY);
    }
    expires(&run(&site, 8, BRIEFLY));
    time_passes(&site);
    site
}

/// Another host of the same vault, which backs up what runs 1 to 5 of the first did.
fn other_host(site: &Site) -> Site {
    let mut other = site.copy_at(site.place, &site.url, &site.bucket);
    act_as(&mut other, "WRITER");
    let recipients = std::fs::read_to_string(other.path("keys/recipients")).unwrap();
    std::fs::remove_dir_all(other.path("keys")).unwrap();
    let mut init = other.program("keephold", "home", &["init", "--host", "web2"]);
    init = init.arg("--join").arg(site.path("keys/vault.secret"));
    for recipient in recipients.lines().filter(|line| line.starts_with("age1")) {
        init = init.arg("--recipient").arg(recipient);
    }
    init.arg("--keys").arg(other.path("keys")).run().ok();
    std::fs::create_dir(other.source()).unwrap();
    for number in 1..=5 {
        std::fs::write(other.source().join(format!("file{number}")), noise(number)).unwrap();
    }
    other
}

fn backup(other: &Site) -> Program {
    let backup = other.program("keephold", "home", &["backup", "--host", "web2", "--json"]);
    let backup = backup.arg("--keys").arg(other.path("keys")).arg("--keep").arg("35d");
    backup.arg("--cache").arg(other.path("cache")).arg(other.source())
}

/// The other host's snapshot and the first's newest three come back.
fn all_come_back(site: &mut Site, other: &mut Site) {
    act_as(other, "VERIFIER");
    let restore = other.elsewhere(&["restore", "web2/files"]).arg("--target");
    restore.arg(other.path("back")).run().ok();
    for number in 1..=5 {
        let file = other.restored("back").join(format!("file{number}"));
        assert!(std::fs::read(file).unwrap() == noise(number), "{number}");
    }
    newest_come_back(site);
}

/// The newest three snapshots of the first host come back.
fn newest_come_back(site: &mut Site) {
    act_as(site, "VERIFIER");
    for number in 6..=8_u8 {
        let (snapshot, to) = (format!("web1/files@{number}"), format!("back{number}"));
        site.elsewhere(&["restore", &snapshot]).arg("--target").arg(site.path(&to)).run().ok();
        assert!(std::fs::read(site.restored(&to).join("data")).unwrap() == noise(number));
    }
}

fn is_deletion(line: &str) -> bool {
    line.starts_with("DELETE ")
}

fn extends_a_pack(line: &str) -> bool {
    line.starts_with("PUT ") && line.contains("/packs/") && line.contains("retention")
}

#[test]
fn what_another_host_took_up_again_before_it_was_deleted_stays() {
    let mut site = pruned_soon();
    let mut other = other_host(&site);
    let gate = Gate::new(&site.place.endpoint(), is_deletion);
    act_as(&mut site, "PRUNER");
    site.endpoint = Some(gate.proxy.endpoint.clone());
    let pruning = prune(&site, &[]).start();
    let deletion = gate.wait();
    assert!(deletion.contains("/packs/"), "{deletion}");
    // The pruner has decided. Now the other host uses those packs again, and is done before the first deletion arrives.
    let record = backup(&other).run().ok().json();
    assert_eq!(record["status"], "success", "{record}");
    assert!(record["totals"]["packs_reused"].as_u64().unwrap() >= 5, "{record}");
    assert!(record["totals"]["bytes_stored"].as_u64().unwrap() < 100_000, "{record}");
    assert_eq!(gate.passed.load(Ordering::SeqCst), 0, "the deletions still wait");
    gate.open();
    let report = pruning.wait().ok().json();
    assert!(gate.passed.load(Ordering::SeqCst) >= 5, "the server was asked to delete them");
    assert!(objects(&report, "pack", "locked") >= 5, "and refused: {report}");
    site.endpoint = Some(site.place.endpoint());
    all_come_back(&mut site, &mut other);
    // The next prune sees that they are needed.
    act_as(&mut site, "PRUNER");
    let signers = [&site, &other]
        .map(|host| std::fs::read_to_string(host.path("keys/signing_key.pub")).unwrap());
    std::fs::write(site.path("keys/signing_key.pub"), signers.concat()).unwrap();
    let next = prune(&site, &[]).run().ok().json();
    assert_eq!(objects(&next, "pack", "locked"), 0, "{next}");
    assert!(objects(&next, "pack", "kept") >= 5, "{next}");
}

#[test]
fn what_was_deleted_before_another_host_could_take_it_up_again_is_stored_again() {
    let mut site = pruned_soon();
    let mut other = other_host(&site);
    let gate = Gate::new(&site.place.endpoint(), extends_a_pack);
    other.endpoint = Some(gate.proxy.endpoint.clone());
    let backing_up = backup(&other).start();
    gate.wait();
    // The other host has seen the packs, and means to use them. Now they go.
    act_as(&mut site, "PRUNER");
    let report = prune(&site, &[]).run().ok().json();
    assert!(objects(&report, "pack", "deleted") >= 5, "{report}");
    assert_eq!(gate.passed.load(Ordering::SeqCst), 0, "the extensions still wait");
    gate.open();
    let record = backing_up.wait().ok().json();
    let asked = gate.passed.load(Ordering::SeqCst);
    println!("{asked} extensions came too late, {} packs are new", record["totals"]["packs_new"]);
    assert!(asked > 0, "the server was asked to extend what was gone");
    assert_eq!(record["status"], "success", "{record}");
    // All five files: none of their packs was taken up.
    let totals = &record["totals"];
    assert!(totals["bytes_stored"].as_u64().unwrap() >= 1_000_000, "{record}");
    assert_eq!(totals["packs_reused"], 0, "{record}");
    other.endpoint = Some(other.place.endpoint());
    all_come_back(&mut site, &mut other);
}

/// Whoever has the bucket, or an auditor's hold, may keep a pruner from what it would take.
#[test]
fn what_the_server_refuses_to_delete_is_told_and_the_rest_goes() {
    let mut site = pruned_soon();
    let packs: Vec<_> = s3::versions(site.place, &site.bucket, "main/packs/");
    act_as(&mut site, "PRUNER");
    let dry = prune(&site, &["--dry-run"]).run().ok().json();
    let would_go = objects(&dry, "pack", "deleted");
    assert!(would_go >= 4, "{dry}");
    // All but what the gateway is told to refuse, and what is held.
    let mut policy = vault_policy(&site);
    let refused: Vec<_> = packs.iter().step_by(2).map(|pack| pack.key.clone()).collect();
    let arns: Vec<Value> =
        refused.iter().map(|key| format!("arn:aws:s3:::{}/{key}", site.bucket).into()).collect();
    policy["Statement"].as_array_mut().unwrap().push(json!({
        "Sid": "NotThese", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam:::user/pruner"},
        "Action": ["s3:DeleteObjectVersion"], "Resource": arns,
    }));
    s3::policy(site.place, &site.bucket, &policy);
    let report = prune(&site, &[]).run().exits(3).json();
    let (gone, kept) = (objects(&report, "pack", "deleted"), objects(&report, "pack", "refused"));
    assert!(gone > 0 && kept > 0, "{report}");
    assert_eq!(gone + kept, would_go, "{report}");
    assert_eq!(report["refusals"].as_array().unwrap().len() as u64, kept, "{report}");
    assert!(report["refusals"][0].as_str().unwrap().contains("AccessDenied"), "{report}");
    // Index segments that describe what is left stay, too.
    assert!(objects(&report, "segment", "waiting") > 0, "{report}");
    let left = s3::versions(site.place, &site.bucket, "main/packs/");
    assert_eq!(left.len() as u64, packs.len() as u64 - gone);
    assert!(packs.iter().filter(|p| !left.contains(p)).all(|p| !refused.contains(&p.key)));

    // Once they may go, they go.
    s3::policy(site.place, &site.bucket, &vault_policy(&site));
    let report = prune(&site, &[]).run().ok().json();
    assert_eq!(objects(&report, "pack", "deleted"), kept, "{report}");
    newest_come_back(&mut site);
}
