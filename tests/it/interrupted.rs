//! Cut off at any moment, a run leaves nothing that harms, and the next one carries on from what is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::postgres::Server;
use crate::support::program::Started;
use crate::support::proxy::{Fate, Proxy};
use crate::support::{Place, Site, tree, verify};

/// So much that doesn't compress fills three packs, the last of them more than an eighth.
const THREE_PACKS: usize = 40 << 20;
/// And so much keeps a run busy for some seconds.
const TEN_PACKS: usize = 160 << 20;

fn fill(site: &Site, length: usize) {
    tree::plain(&site.source());
    std::fs::write(site.source().join("much"), tree::noise(11, length)).unwrap();
}

/// How many packs lie in a local vault.
fn packs(site: &Site) -> usize {
    let folders = std::fs::read_dir(site.path("vault/packs")).into_iter().flatten().flatten();
    folders.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).sum()
}

fn number(record: &Value, name: &str) -> u64 {
    record["totals"][name].as_u64().unwrap_or_else(|| panic!("{name}: {record}"))
}

/// The run after a killed one: good, and proven.
#[track_caller]
fn carries_on(site: &Site) -> Value {
    let record = site.backs_up();
    assert_eq!(record["status"], "success", "{record}");
    // What came before may have left the record of a failed run, and that may be told; nothing else.
    verify::green_but_for(site, &["KH-FRESH-004"]);
    site.restore("back").run().ok();
    tree::same(&site.source(), &site.restored("back"));
    record
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(90), "{what} didn't happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The moments at which a run on S3 is killed: the request that never got through, or whose answer never came.
#[test]
fn killed_while_it_sends_the_next_run_sends_only_the_rest() {
    // What is put, which put of that kind, its fate, and how much of the data is known to be stored then.
    let moments = [
        (Place::Ceph, "/packs/", 1, Fate::Lost, 0),
        (Place::LocalStack, "/packs/", 2, Fate::AnswerLost, 1),
        (Place::Ceph, "/index/", 1, Fate::Lost, 3),
        (Place::LocalStack, "/index/", 1, Fate::AnswerLost, 3),
        (Place::Ceph, "/runs/", 1, Fate::Lost, 3),
    ];
    for (place, what, nth, fate, packs) in moments {
        let mut site = Site::new(place);
        fill(&site, THREE_PACKS);
        let count = Arc::new(AtomicUsize::new(0));
        let proxy = Proxy::judging(&place.endpoint(), move |request| {
            let hit =
                request.starts_with("PUT ") && request.contains(what) && !request.contains('?');
            // All after the one that is held are too, so that nothing else gets through before the kill.
            if hit && count.fetch_add(1, Ordering::SeqCst) + 1 >= nth { fate } else { Fate::Pass }
        });
        site.endpoint = Some(proxy.endpoint.clone());
        let run = site.backup().start();
        proxy.wait_until_held();
        // What was on its way to the proxy arrives, and the agent takes note of all answers.
        std::thread::sleep(Duration::from_millis(700));
        run.signal(Signal::KILL);
        assert_eq!(run.wait().code, None, "killed, not ended");
        site.endpoint = Some(place.endpoint());
        assert_eq!(site.keys("runs/").len(), 0, "a run without a record is no run");

        let record = carries_on(&site);
        let sent = number(&record, "bytes_stored");
        let whole = THREE_PACKS as u64;
        let most = match packs {
            0 => whole + whole / 5,
            // Which of them was stored first, the short one perhaps, isn't known.
            1 => whole - whole / 8,
            _ => whole / 4,
        };
        assert!(
            sent <= most,
            "{place:?} {what} {fate:?}: {sent} bytes were sent again, of {whole}"
        );
    }
}

#[test]
fn killed_on_a_local_vault_the_next_run_stores_only_the_rest() {
    let site = Site::new(Place::Local);
    fill(&site, TEN_PACKS);
    let run = site.backup().start();
    wait_for("a fifth pack", || packs(&site) >= 5);
    run.signal(Signal::KILL);
    assert_eq!(run.wait().code, None, "killed, not ended");
    let record = carries_on(&site);
    let sent = number(&record, "bytes_stored");
    assert!(sent < TEN_PACKS as u64 * 9 / 10, "{sent} bytes were stored again");
}

#[test]
fn the_first_signal_ends_a_run_in_order_and_its_record_says_so() {
    for (signal, place) in [(Signal::TERM, Place::Local), (Signal::INT, Place::Ceph)] {
        let mut site = Site::new(place);
        fill(&site, TEN_PACKS);
        let count = Arc::new(AtomicUsize::new(0));
        if place == Place::Ceph {
            let counted = count.clone();
            let proxy = Proxy::judging(&place.endpoint(), move |request| {
                counted.fetch_add(
                    usize::from(request.starts_with("PUT ") && request.contains("/packs/")),
                    Ordering::SeqCst,
                );
                Fate::Pass
            });
            site.endpoint = Some(proxy.endpoint);
        }
        let run = site.backup().start();
        wait_for("a third pack", || packs(&site) + count.load(Ordering::SeqCst) >= 3);
        run.signal(signal);
        let record = run.wait().exits(1).says("interrupted").json();
        assert_eq!((&record["status"], &record["snapshot"]), (&"failed".into(), &Value::Null));
        assert!(
            number(&record, "bytes_read") < TEN_PACKS as u64,
            "it ends in the middle of a file"
        );
        assert_eq!(site.keys("runs/").len(), 1, "the failed run left a record");
        assert!(number(&carries_on(&site), "bytes_stored") < TEN_PACKS as u64 * 9 / 10);
    }
}

#[test]
fn a_dump_is_not_left_running_by_a_killed_run() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    // It waits for a table's lock for as long as the test likes.
    server.sql("shop", "CREATE TABLE locked (id int)");
    let blocker = server.hold("shop", "LOCK TABLE locked IN ACCESS EXCLUSIVE MODE");
    let run = site.backup_command().arg("--postgres").arg(server.dsn()).start();
    wait_for("the agent's session", || server.ask("postgres", SESSIONS) != "0");
    run.signal(Signal::KILL);
    run.wait();
    drop(blocker);
    wait_for("the end of its session", || server.ask("postgres", SESSIONS) == "0");
}

const SESSIONS: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = 'shop' AND application_name NOT LIKE 'test%'";

#[test]
fn a_run_that_cannot_reach_its_vault_is_recorded_by_the_next_one_that_can() {
    for place in Place::S3 {
        let mut site = Site::new(place);
        tree::plain(&site.source());
        site.backs_up();
        site.endpoint = Some("http://127.0.0.1:9".into());
        site.backup().run().exits(1).says("http://127.0.0.1:9");
        site.endpoint = Some(place.endpoint());
        let third = site.backs_up();
        assert_eq!(third["seq"], 3, "the failed run has its place in the chain");
        let records = site.elsewhere(&["snapshots", "--all", "--json"]).run().ok().lines();
        let statuses: Vec<_> = records.iter().map(|r| r["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["success", "failed", "success"]);
        assert!(records[1].to_string().contains("could not be opened"), "{}", records[1]);
    }
}

#[test]
fn a_network_that_goes_away_halfway_fails_the_run_and_the_next_one_carries_on() {
    let mut site = Site::new(Place::Ceph);
    fill(&site, TEN_PACKS);
    let packs = Arc::new(AtomicUsize::new(0));
    let counted = packs.clone();
    let proxy = Proxy::judging(&site.place.endpoint(), move |request| {
        // From the seventh pack on nothing answers any more.
        if request.starts_with("PUT ") && request.contains("/packs/") {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        if counted.load(Ordering::SeqCst) > 6 { Fate::Refused } else { Fate::Pass }
    });
    site.endpoint = Some(proxy.endpoint);
    let record = site.backup().run().exits(1).json();
    assert_eq!(
        (&record["status"], &record["record"]),
        (&"failed".into(), &Value::Null),
        "kept in the spool"
    );
    site.endpoint = Some(site.place.endpoint());
    let record = carries_on(&site);
    assert_eq!(record["seq"], 2);
    assert!(number(&record, "bytes_stored") < TEN_PACKS as u64 * 9 / 10, "{record}");
}

#[test]
fn two_runs_of_one_job_do_not_go_on_at_once() {
    let mut site = Site::new(Place::LocalStack);
    tree::plain(&site.source());
    let proxy = Proxy::judging(&site.place.endpoint(), |request| {
        if request.starts_with("PUT ") && request.contains("/packs/") {
            Fate::Lost
        } else {
            Fate::Pass
        }
    });
    site.endpoint = Some(proxy.endpoint.clone());
    let first: Started = site.backup().start();
    proxy.wait_until_held();
    site.endpoint = Some(site.place.endpoint());
    let second = site.backup().run().exits(1);
    insta::assert_snapshot!(site.redact(&second.stderr), @"error: another run of job 'files' is still going on; this one was not started");
    let other = site.backup().args(["--job", "other"]).run().ok().json();
    assert_eq!(other["status"], "success", "another job isn't kept from running");
    first.signal(Signal::KILL);
    first.wait();
    site.backs_up();
}
