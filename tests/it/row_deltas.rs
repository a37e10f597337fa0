//! Row deltas: of a dump that was dumped before, only rows that are new are stored; and every dump comes back as it was.

use std::fs;

use serde_json::Value;

use crate::dumps::with_pg_dump;
use crate::golden::{second_reader, signers_for};
use crate::support::postgres::Server;
use crate::support::{Place, Site, verify};

/// A table of rows that don't compress to nothing, some megabytes.
const ACCOUNTS: &str = "
CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance int NOT NULL, note text NOT NULL);
INSERT INTO account SELECT g, 'owner ' || md5(g::text), g % 1000, md5((g + 1)::text) || md5((g * 7)::text)
    FROM generate_series(1, 60000) g;
CREATE TABLE visit (id bigint PRIMARY KEY, what text NOT NULL);
INSERT INTO visit SELECT g, 'visit ' || md5((g * 3)::text) FROM generate_series(1, 30000) g;
";

/// What becomes of the database between dumps, and how much of the next dump may be new at most, in percent.
const CHANGES: [(&str, &str, u64); 7] = [
    ("nothing", "SELECT 1", 1),
    ("rows, strewn", "UPDATE account SET balance = balance + 1 WHERE id * 7919 % 50 = 1", 6),
    ("rows, strewn, again", "UPDATE account SET balance = balance + 1 WHERE id * 7919 % 50 = 2", 6),
    (
        "rows are gone",
        "DELETE FROM account WHERE id % 37 = 0; DELETE FROM visit WHERE id < 5000",
        3,
    ),
    (
        "a new table in front",
        "CREATE TABLE aaa AS SELECT g, md5((g * 11)::text) FROM generate_series(1, 3000) g",
        3,
    ),
    ("the tables are written anew", "VACUUM FULL account; VACUUM FULL visit", 1),
    ("a table is empty", "TRUNCATE visit", 1),
];

/// Now and then a MiB that consists of many parts is stored anew, as it is drawn; more than three in one dump of nine, hardly ever.
const ANEW: u64 = 3 << 20;

/// A server with those tables, and a host whose `pg_dump` leaves what it gave in the file `dumped`.
fn shop(site: &Site) -> Server {
    let server = Server::with_shop();
    server.sql("shop", ACCOUNTS);
    let copy = site.path("dumped");
    with_pg_dump(site, &format!("set -o pipefail; $real \"$@\" | tee '{}'", copy.display()));
    server
}

fn back_up(site: &Site, server: &Server) -> Value {
    site.backup_databases(&server.dsn(), Some(&site.path("bin"))).arg("--json").run().ok().json()
}

#[track_caller]
fn comes_back(site: &Site, snapshot: &str, dumped: &[u8], what: &str) {
    let dump = site.elsewhere(&["dump", snapshot, "shop"]).run().ok();
    assert!(dump.bytes == dumped, "{what}: the dump came back with other bytes");
}

#[test]
fn dumps_that_change_are_stored_by_what_is_new_and_come_back_as_they_were() {
    let site = Site::new(Place::Local);
    let server = shop(&site);
    back_up(&site, &server);
    let mut all = vec![fs::read(site.path("dumped")).unwrap()];
    for (what, sql, percent) in CHANGES {
        // Not in one go: VACUUM wants to be alone.
        sql.split(';').for_each(|sql| server.sql("shop", sql));
        let totals = back_up(&site, &server)["totals"].clone();
        let dumped = fs::read(site.path("dumped")).unwrap();
        let count = |name: &str| totals[name].as_u64().unwrap();
        let (new, length) = (count("bytes_new"), dumped.len() as u64);
        let bound = length * percent / 100 + 60_000 + ANEW;
        assert!(new < bound, "{what}: {new} of {length} are new");
        assert!(count("bytes_matched") + new >= length, "{what}: {totals}");
        assert!(count("bytes_matched") + bound > length, "{what}: {totals}");
        comes_back(&site, "latest", &dumped, what);
        all.push(dumped);
    }
    for (number, dumped) in (1..).zip(&all) {
        comes_back(&site, &format!("web1/main@{number}"), dumped, &format!("run {number}"));
    }
    let to = site.path("restored");
    site.elsewhere(&["restore", "latest"]).arg("--target").arg(&to).run().ok();
    let restored = "databases/shop/dump.pgdump";
    assert!(fs::read(to.join(restored)).unwrap() == *all.last().unwrap());
    // Another reader, written from the format's description alone.
    let (signers, to) = (site.path("signers"), site.path("read"));
    signers_for("web1", &site.path("keys/signing_key.pub"), &signers);
    second_reader(&site.path("vault"), &site.identity(), &signers, &to, "web1/main");
    assert!(fs::read(to.join(restored)).unwrap() == *all.last().unwrap());
    verify::green(&site);
}

#[test]
fn a_run_that_fails_and_a_cache_that_is_lost_cost_room_only() {
    let site = Site::new(Place::Local);
    let server = shop(&site);
    back_up(&site, &server);
    let list = site.path("cache");
    // A dump that is cut short leaves the list of the one before it.
    with_pg_dump(&site, "$real \"$@\" | head -c 300000");
    site.backup_databases(&server.dsn(), Some(&site.path("bin"))).run().exits(1);
    let copy = site.path("dumped");
    with_pg_dump(&site, &format!("$real \"$@\" | tee '{}'", copy.display()));
    let run = back_up(&site, &server);
    assert!(run["totals"]["bytes_new"].as_u64().unwrap() < 300_000, "{run}");
    fs::remove_dir_all(list).unwrap();
    let run = back_up(&site, &server);
    assert_eq!(run["totals"]["bytes_matched"], 0, "{run}");
    comes_back(&site, "latest", &fs::read(&copy).unwrap(), "without a cache");
    verify::green_but_for(&site, &["KH-FRESH-004"]);
}
