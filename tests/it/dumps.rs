//! A dump counts only when it is whole: its program's word isn't enough. What a bad one left is never a snapshot.

use std::fs;

use serde_json::Value;

use crate::support::postgres::Server;
use crate::support::{Place, Site, verify};

/// A `pg_dump` that tells its version, and of which `body` is left otherwise; `$real` is the real one.
pub(crate) fn with_pg_dump(site: &Site, body: &str) {
    let folder = fs::read_dir("/usr/lib/postgresql").expect("apt-get install postgresql").flatten();
    let folder =
        folder.map(|f| f.path().join("bin")).find(|bin| bin.join("pg_dump").exists()).unwrap();
    let folder = folder.display();
    let text = format!(
        "#!/bin/bash\nreal={folder}/pg_dump\n[ \"$1\" != --version ] || exec $real --version\n{body}\n"
    );
    site.script("pg_dump", &text);
    site.script("pg_dumpall", &format!("#!/bin/sh\nexec {folder}/pg_dumpall \"$@\"\n"));
}

/// The run fails, says why, and leaves a record that says so too, but no snapshot.
#[track_caller]
fn fails(site: &Site, server: &Server, words: &str) {
    let backup = site.backup_databases(&server.dsn(), Some(&site.path("bin"))).arg("--json");
    let record = backup.run().exits(1).says(words).json();
    assert_eq!(
        (&record["status"], &record["snapshot"]),
        (&"failed".into(), &Value::Null),
        "{record}"
    );
    site.elsewhere(&["ls", "latest"]).run().exits(1);
    let (_, report) = verify::run(site, &[]);
    let codes = verify::codes(&report);
    assert!(
        codes.contains(&"KH-FRESH-002".to_owned()) && codes.contains(&"KH-FRESH-004".to_owned()),
        "{codes:?}"
    );
}

#[test]
fn a_pg_dump_that_is_killed_halfway_makes_a_failed_run() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    with_pg_dump(&site, "$real \"$@\" | head -c 300000; kill -KILL $$");
    fails(&site, &server, "shop");
}

#[test]
fn a_dump_that_is_cut_short_makes_a_failed_run_though_its_program_ended_well() {
    let server = Server::with_shop();
    // In the contents list, within a table's rows, and just before the end.
    for keep in ["head -c 2000", "head -c 300000", "head -c -1"] {
        let site = Site::new(Place::Local);
        with_pg_dump(&site, &format!("$real \"$@\" | {keep}; exit 0"));
        fails(&site, &server, "shop");
    }
}

#[test]
fn an_empty_dump_makes_a_failed_run() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    with_pg_dump(&site, "exit 0");
    fails(&site, &server, "shop");
}

#[test]
fn a_whole_dump_of_nothing_makes_a_failed_run() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    with_pg_dump(&site, "exec $real \"$@\" --schema-only");
    fails(&site, &server, "shop");
}

#[test]
fn a_dump_whose_program_failed_makes_a_failed_run_though_its_bytes_are_whole() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    with_pg_dump(&site, "$real \"$@\"; echo 'out of luck' >&2; exit 1");
    fails(&site, &server, "out of luck");
}

#[test]
fn a_failed_run_leaves_the_snapshot_before_it_the_newest() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    site.backup_databases(&server.dsn(), None).run().ok();
    verify::green(&site);
    with_pg_dump(&site, "$real \"$@\" | head -c 300000");
    site.backup_databases(&server.dsn(), Some(&site.path("bin"))).run().exits(1);
    let dump = site.elsewhere(&["dump", "latest", "shop"]).run().ok();
    assert!(dump.bytes.starts_with(b"PGDMP"));
    verify::green_but_for(&site, &["KH-FRESH-004"]);
}

#[test]
fn what_was_dumped_is_what_a_test_restore_finds() {
    for place in Place::ALL {
        let server = Server::with_shop();
        let site = Site::new(place);
        site.backup_command().arg("--postgres").arg(server.dsn()).run().ok();
        let report = verify::green(&site);
        let tables = report["restore_tests"].to_string();
        assert!(tables.contains("shop"), "{tables}");
    }
}
