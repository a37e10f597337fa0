//! What is shipped beside the programs works as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::{Program, binary};
use crate::support::site::unlock;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(name)
}

#[test]
fn the_sample_configurations_are_right() {
    let home = tempfile::tempdir().unwrap();
    let host = Program::new(binary("keephold"), home.path())
        .arg("check-config")
        .arg(shipped("keephold.toml"));
    host.run().ok().says("job 'etc'").says("job 'main'");
    // The commented lines are settings too.
    let text = fs::read_to_string(shipped("keephold.toml")).unwrap();
    let all: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting)
                if setting.starts_with('[')
                    || setting.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) =>
            {
                setting
            }
            _ => line,
        })
        .collect();
    assert!(all.join("\n") != text.trim_end(), "there are commented settings");
    let whole = home.path().join("keephold.toml");
    // One length for all, or one for each class.
    let classes = all.join("\n").replacen("\nkeep = \"35d\"", "", 1);
    fs::write(&whole, classes).unwrap();
    Program::new(binary("keephold"), home.path()).arg("check-config").arg(whole).run().ok();
    // The verifier's is what its own `init` writes.
    let conf = home.path().join("conf");
    Program::new(binary("keephold-verify"), home.path())
        .arg("init")
        .arg("--dir")
        .arg(&conf)
        .run()
        .ok();
    let made = fs::read_to_string(conf.join("verify.toml")).unwrap();
    let made = made.replace(&format!("{}/", conf.display()), "/etc/keephold/");
    assert_eq!(
        fs::read_to_string(shipped("verify.toml")).unwrap(),
        made,
        "cp the template over packaging/verify.toml"
    );
}

/// Processes of PostgreSQL that serve from a folder of quickstart's.
fn servers() -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(20).any(|w| w == b"/keephold-quickstart")).count()
}

#[test]
fn quickstart_shows_it_all_twice_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    for _ in 0..2 {
        let bin = binary("keephold");
        let run = Program::new(shipped("quickstart"), folder.path())
            .arg(&demo)
            .env("KEEPHOLD_BIN", bin.parent().unwrap());
        let output = run.run();
        let text = output.stdout();
        let demo_is_locked = rustix::process::geteuid().is_root();
        unlock(&demo.join("vault"));
        let output = output.ok();
        assert!(
            text.contains("== Done") && text.contains("The orders are the same in both databases"),
            "{text}"
        );
        let refused = output.stderr.contains("Operation not permitted")
            || text.contains("ADVISORY ONLY: files");
        assert!(refused || !demo_is_locked, "{text}{}", output.stderr);
        let report = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("the report, to read"))
            .unwrap()
            .trim();
        assert!(fs::read_to_string(report).unwrap().contains("<svg"), "{report}");
        assert_eq!(servers(), 0);
    }
    let occupied = folder.path().join("mine");
    fs::create_dir(&occupied).unwrap();
    let output = Command::new(shipped("quickstart"))
        .arg(&occupied)
        .env("KEEPHOLD_BIN", binary("keephold").parent().unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("isn't of an earlier quickstart"));
}
