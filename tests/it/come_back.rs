//! What was backed up comes back, byte for byte and with all that belongs to it, on a machine that has only the vault
//! and an identity.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::postgres::Server;
use crate::support::{Place, Site, tree};

#[test]
fn a_folder_comes_back_with_everything_that_a_file_system_can_hold() {
    for place in Place::ALL {
        let site = Site::new(place);
        tree::odd(&site.source());
        let first = site.backs_up();
        assert_eq!(first["status"], "success", "{first}");
        site.restore("back").run().ok();
        tree::same(&site.source(), &site.restored("back"));
    }
}

#[test]
fn the_next_run_stores_only_what_is_new_and_both_states_come_back() {
    for place in Place::ALL {
        let site = Site::new(place);
        tree::odd(&site.source());
        // One chunk of the large file changes, and wherever the vault's secret cuts, it is small beside the whole.
        fs::write(site.source().join("steady"), tree::noise(7, 1_500_000)).unwrap();
        let first = site.backs_up();
        let before = site.path("before");
        assert!(
            Command::new("cp")
                .arg("-a")
                .arg(site.source())
                .arg(&before)
                .status()
                .unwrap()
                .success()
        );

        fs::write(site.source().join("etc/hosts.new"), "10.0.0.1 db\n").unwrap();
        fs::remove_file(site.source().join("program")).unwrap();
        let mut large = fs::read(site.source().join("large")).unwrap();
        large[1_000_000] ^= 1;
        fs::write(site.source().join("large"), large).unwrap();
        let second = site.backs_up();
        let stored =
            |record: &serde_json::Value| record["totals"]["bytes_stored"].as_u64().unwrap();
        assert!(
            stored(&second) * 5 < stored(&first),
            "{place:?}: {} of {}",
            stored(&second),
            stored(&first)
        );
        assert_eq!((first["seq"].as_u64(), second["seq"].as_u64()), (Some(1), Some(2)));

        site.restore("new").run().ok();
        tree::same(&site.source(), &site.restored("new"));
        let old =
            site.elsewhere(&["restore", "web1/files@1"]).arg("--target").arg(site.path("old"));
        old.run().ok();
        tree::same(&before, &site.restored("old"));
        let diff = site.elsewhere(&["diff", "web1/files@1", "web1/files@2"]).run().ok();
        diff.says("etc/hosts.new").says("program").says("large");
    }
}

#[test]
fn one_folder_or_file_can_be_had_alone() {
    let site = Site::new(Place::Local);
    tree::odd(&site.source());
    site.backs_up();
    let folder = site.source().join("etc/app");
    site.restore("part").arg(&folder).run().ok();
    let found = tree::listing(&site.restored("part"));
    let names: Vec<_> = found.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["etc", "etc/app", "etc/app/app.conf"]);

    let file = site.source().join("large");
    let out = site.elsewhere(&["dump", "latest"]).arg(&file).run().ok();
    assert!(out.bytes == fs::read(file).unwrap(), "dump gave other bytes");
    let listed = site.elsewhere(&["ls", "-r", "latest", "--json"]).run().ok().lines().len();
    // The folders above the source are part of the snapshot too.
    assert!(listed > tree::listing(&site.source()).len(), "{listed}");
}

#[test]
fn nothing_is_written_by_a_dry_run_nor_over_what_is_there() {
    let site = Site::new(Place::Local);
    tree::plain(&site.source());
    site.backs_up();
    site.restore("back").arg("--dry-run").run().ok().says("etc/hosts");
    assert!(!site.path("back").exists());
    site.restore("back").run().ok();
    let hosts = site.restored("back").join("etc/hosts");
    fs::write(&hosts, "mine\n").unwrap();
    site.restore("back").run().exits(1).says("etc/hosts");
    assert_eq!(fs::read_to_string(&hosts).unwrap(), "mine\n");
    site.restore("back").arg("--overwrite").run().ok();
    tree::same(&site.source(), &site.restored("back"));
}

#[test]
fn jobs_of_a_configuration_file_run_together_and_restore_apart() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    tree::odd(&site.source());
    let config = site.path("keephold.toml");
    let text = format!(
        "host = 'db1'\ncache = '{}'\n[vault]\nurl = '{}'\nkeys = '{}'\n[retention]\nkeep = '8 weeks'\n\
         [[directory]]\nname = 'conf'\npaths = ['{}']\nexclude = ['photo.*']\n\
         [[postgres]]\nname = 'main'\ndsn = '{}'\nexclude = ['postgres']\nkeep = '90d'\n",
        site.path("cache").display(),
        site.url,
        site.path("keys").display(),
        site.source().display(),
        server.dsn()
    );
    fs::write(&config, text).unwrap();
    let keephold = |arguments: &[&str]| {
        let binary = crate::support::program::binary("keephold");
        crate::support::Program::new(binary, &site.path("home"))
            .args(arguments)
            .arg("--config")
            .arg(&config)
    };
    let records = keephold(&["backup", "--json"]).run().ok().lines();
    let jobs: Vec<_> = records
        .iter()
        .map(|r| (r["job"].as_str().unwrap(), r["status"].as_str().unwrap()))
        .collect();
    assert_eq!(jobs, [("conf", "success"), ("main", "success")]);
    keephold(&["backup", "nothing"])
        .run()
        .exits(2)
        .says("there is no job 'nothing'; there are: conf, main");
    keephold(&["snapshots"]).run().ok().says("conf@1").says("main@1");

    site.elsewhere(&["restore", "db1/conf"]).arg("--target").arg(site.path("back")).run().ok();
    assert!(!site.restored("back").join("photo.raw").exists());
    fs::remove_file(site.source().join("photo.raw")).unwrap();
    // Removing it changed the folder's own time, which isn't part of what a listing of the folder shows.
    tree::same(&site.source(), &site.restored("back"));
}

#[test]
fn a_database_comes_back_through_a_pipe() {
    for place in Place::ALL {
        let server = Server::with_shop();
        let site = Site::new(place);
        let backup = site.backup_command().arg("--postgres").arg(server.dsn()).arg("--json");
        let record = backup.run().ok().json();
        assert_eq!(record["status"], "success", "{record}");

        let before = server.contents("shop");
        server.sql("shop", "DELETE FROM orders; DELETE FROM customers");
        assert_ne!(server.contents("shop"), before);
        server.sql("postgres", "CREATE DATABASE back");
        let mut dump = site.elsewhere(&["dump", "web1/postgres", "shop"]);
        let mut dump = dump.command.spawn().unwrap();
        let restored = Command::new("pg_restore")
            .args(["--exit-on-error", "--dbname", &server.dsn_of("back")])
            .stdin(Stdio::from(dump.stdout.take().unwrap()))
            .output()
            .unwrap();
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        assert!(dump.wait().unwrap().success());
        assert_eq!(server.contents("back"), before, "{place:?}");

        let globals = site.elsewhere(&["dump", "web1/postgres", "globals.sql"]).run().ok();
        globals.says("CREATE ROLE clerk");
    }
}

#[test]
fn a_second_dump_under_the_same_name_stores_the_new_content() {
    let server = Server::with_shop();
    let site = Site::new(Place::Local);
    let backup = || {
        site.backup_command().arg("--postgres").arg(server.dsn()).arg("--json").run().ok().json()
    };
    backup();
    server.sql("shop", "UPDATE customers SET name = 'somebody else' WHERE id = 7");
    let second = backup();
    let of = |number: u32| {
        let snapshot = format!("web1/postgres@{number}");
        site.elsewhere(&["dump", &snapshot, "shop"]).run().ok().bytes
    };
    let has = |dump: &[u8], words: &str| dump.windows(words.len()).any(|w| w == words.as_bytes());
    assert!(has(&of(1), "customer 7\t") && !has(&of(1), "somebody else"));
    assert!(has(&of(2), "somebody else") && !has(&of(2), "customer 7\t"));
    // And what didn't change isn't stored again.
    let totals = &second["totals"];
    assert!(
        totals["bytes_new"].as_u64().unwrap() * 2 < totals["bytes"].as_u64().unwrap(),
        "{totals}"
    );
}
