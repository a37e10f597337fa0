//! The sources keep to the house's rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file of code.
const LINES_MAX: usize = 500;
/// Those that are longer, and no longer than this: shorten them, and then these.
const LONGER: [(&str, usize); 1] = [("tests/second-reader/khformat.py", 525)];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files of the repository with this ending, with their text.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(top());
    let listed = git.output().expect("git is installed");
    let names = String::from_utf8(listed.stdout).unwrap();
    let found: Vec<_> = names
        .split('\0')
        .filter(|name| name.ends_with(ending) && top().join(name).is_file())
        .map(|name| (name.to_owned(), fs::read_to_string(top().join(name)).unwrap()))
        .collect();
    assert!(!found.is_empty(), "there are no files that end in {ending}: is this a checkout?");
    found
}

/// A file's code without its tests, which stand at its end.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\n").map_or(text, |at| &text[..at])
}

fn is_test(name: &str) -> bool {
    let inside = |folder: &str| name.starts_with(folder) || name.contains(&format!("/{folder}"));
    inside("tests/")
        || inside("benches/")
        || name.ends_with("tests.rs")
        || name.ends_with("testing.rs")
        || name.contains("/simulation/")
        || name.contains("/testing/")
        || name.contains("/samples/")
}

#[test]
fn no_file_is_longer_than_a_person_reads_at_once() {
    for (name, text) in [files(".rs"), files(".py")].concat() {
        let lines = text.lines().count();
        let known = LONGER.iter().find(|(longer, _)| *longer == name);
        let most = known.map_or(LINES_MAX, |(_, lines)| *lines);
        assert!(
            lines <= most,
            "{name} has {lines} lines, more than {most}: divide it by its ideas"
        );
    }
}

#[test]
fn every_module_begins_by_saying_what_it_is() {
    for (name, text) in files(".rs") {
        assert!(text.starts_with("//! "), "{name} doesn't begin with //!");
    }
}

#[test]
fn nothing_is_left_to_be_done_and_nothing_panics_by_design() {
    // Put together here, so that this file isn't one that has them.
    let later = ["TO", "FIX", "XX"].map(|word| {
        format!(
            "{word}{}",
            if word == "TO" {
                "DO"
            } else if word == "FIX" {
                "ME"
            } else {
                "X"
            }
        )
    });
    for (name, text) in [files(".rs"), files(".py"), files(".toml"), files(".md")].concat() {
        for word in &later {
            assert!(
                !text.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == word),
                "{name} has a {word}"
            );
        }
    }
    for (name, text) in files(".rs") {
        if is_test(&name) {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(!code.contains(".unwrap()"), "{name}:{}: unwrap in a program", number + 1);
        }
    }
}

#[test]
fn no_page_or_script_names_where_packages_come_from() {
    // In parts, so that this file doesn't either.
    let hosts =
        [["crates", "io"], ["pypi", "org"], ["npmjs", "org"], ["debian", "org"], ["docs", "rs"]];
    for (name, text) in
        [files(".md"), files(".rs"), files(".toml"), files(".py"), files(".html"), files("/run")]
            .concat()
    {
        for host in hosts.map(|parts| parts.join(".")) {
            let named = text.lines().any(|line| {
                line.contains(&format!("//{host}")) || line.contains(&format!(".{host}/"))
            });
            assert!(!named, "{name} names {host}");
        }
    }
}

#[test]
fn what_the_readme_and_the_pages_link_to_exists() {
    for (name, text) in files(".md") {
        let folder = top().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            assert!(folder.join(path).exists(), "{name} links to {link}, which isn't there");
        }
    }
}
