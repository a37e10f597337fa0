//! What the tests stand on: hosts, vaults, S3 servers, trees, databases.

pub(crate) mod attacked;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod s3;
pub(crate) mod site;
pub(crate) mod thief;
pub(crate) mod tree;
pub(crate) mod verify;

pub(crate) use keephold_tests::proxy;
pub(crate) use program::{Output, Program, redact};
pub(crate) use site::{Place, Site};

/// An environment variable that `tests/run` sets.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run tests/run, or `tests/servers/up DIR` once and `. DIR/env` before cargo test -p keephold-tests"
        )
    })
}

/// Some tests need what only root may do; they must not pass without.
pub(crate) fn need_root(why: &str) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root ({why}): run tests/run as root or with sudo"
    );
}
