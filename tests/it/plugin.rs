//! Keys that a plugin speaks for, as those in hardware: a real plugin program of these tests, found by its name in PATH.

use std::fs;
use std::os::unix::fs::symlink;

use crate::keys::drills;
use crate::support::program::{Program, binary};
use crate::support::{Place, Site, tree};

/// A site whose only recipient is a plugin's; and the PATH that has the plugin.
fn site() -> (Site, String) {
    let site = Site::bare(Place::Local, "compliance");
    tree::plain(&site.source());
    let plugin = binary("age-plugin-khtest");
    let made = Program::new(&plugin, &site.path("home")).run().ok().stdout();
    fs::write(site.path("safe/khtest.agekey"), &made).unwrap();
    fs::create_dir(site.path("bin")).unwrap();
    symlink(plugin, site.path("bin/age-plugin-khtest")).unwrap();
    let path =
        format!("{}:{}", site.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let recipient = made.lines().find_map(|line| line.strip_prefix("# recipient: ")).unwrap();
    assert!(recipient.starts_with("age1khtest1"), "{recipient}");
    let init = || {
        site.program("keephold", "home", &["init", "--host", "web1", "--recipient", recipient])
            .arg("--keys")
            .arg(site.path("keys"))
    };
    init().run().exits(1).says("install the program age-plugin-khtest");
    assert!(!site.path("keys").exists(), "nothing was made without the plugin");
    init().env("PATH", &path).run().ok();
    (site, path)
}

fn restore(site: &Site, to: &str) -> Program {
    site.program("keephold", "elsewhere", &["restore", "latest"])
        .arg("--identity")
        .arg(site.path("safe/khtest.agekey"))
        .arg("--target")
        .arg(site.path(to))
}

#[test]
fn a_backup_sealed_to_a_plugin_comes_back_through_it() {
    let (site, path) = site();
    site.backup().run().exits(1).says("install the program age-plugin-khtest");
    let record = site.backup().env("PATH", &path).run().ok().json();
    assert_eq!(record["status"], "success");
    restore(&site, "no").run().exits(1).says("install the program age-plugin-khtest");
    let back = restore(&site, "back").env("PATH", &path).run().ok();
    // What a plugin has to say reaches whoever waits.
    back.says("khtest: touch the key");
    tree::same(&site.source(), &site.restored("back"));
}

#[test]
fn another_key_of_the_same_plugin_opens_nothing() {
    let (site, path) = site();
    site.backup().env("PATH", &path).run().ok();
    let other = Program::new(binary("age-plugin-khtest"), &site.path("home")).run().ok();
    fs::write(site.path("safe/khtest.agekey"), other.stdout()).unwrap();
    restore(&site, "no").env("PATH", &path).run().exits(1).says("not sealed to this identity");
}

#[test]
fn a_drill_of_a_key_in_hardware_goes_through_its_plugin() {
    let (site, path) = site();
    site.backup().env("PATH", &path).run().ok();
    let drill = || drills(&site, "safe/khtest.agekey");
    drill().run().exits(1).says("install the program age-plugin-khtest");
    let done = drill().env("PATH", &path).run().ok();
    let done = done.says("khtest: touch the key").json();
    let job = &done["jobs"][0];
    assert_eq!((&job["result"], &job["seq"]), (&"opened".into(), &1.into()), "{done}");
    assert!(job["blob"].is_string() && job["tree_root"].is_string(), "{done}");
    assert!(done["recipient"].is_null(), "a plugin's identity doesn't tell: {done}");

    let other = Program::new(binary("age-plugin-khtest"), &site.path("home")).run().ok();
    fs::write(site.path("safe/khtest.agekey"), other.stdout()).unwrap();
    let failed = drill().env("PATH", &path).run().exits(3).json();
    assert_eq!(failed["jobs"][0]["result"], "not_opened", "{failed}");
}
