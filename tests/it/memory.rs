//! No command takes more memory than is promised, whatever it is given.

use std::fs;

use crate::support::tree::noise;
use crate::support::{Output, Place, Site, verify};

/// The goal of bench/goals.py.
const MEMORY_MAX: u64 = 192 << 20;

/// Bytes like those of source code: they shrink to about a third.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let draws = noise(seed, length / 6);
    let mut bytes: Vec<u8> =
        draws.iter().flat_map(|draw| format!("let v{:x} = ", draw >> 2).into_bytes()).collect();
    bytes.truncate(length);
    bytes
}

#[track_caller]
fn within(what: &str, output: &Output) {
    let peak = output.peak_bytes;
    assert!(peak > 1 << 20, "{what}: no memory was seen");
    assert!(peak <= MEMORY_MAX, "{what} took {} MiB", peak >> 20);
}

#[test]
fn backups_restores_and_verifications_keep_within_their_memory() {
    let site = Site::with_lock(Place::Local, "none");
    for folder in 0..60 {
        let at = site.source().join(format!("d{folder}"));
        fs::create_dir(&at).unwrap();
        for file in 0..100 {
            let seed = folder * 100 + file;
            fs::write(at.join(format!("f{file}")), text(seed, 24 << 10)).unwrap();
        }
        fs::write(at.join("large"), text(folder, 1 << 20)).unwrap();
    }
    fs::write(site.source().join("noise"), noise(1, 100 << 20)).unwrap();
    fs::write(site.source().join("text"), text(2, 40 << 20)).unwrap();

    within("a first backup", &site.backup().run().ok());
    within("an unchanged one", &site.backup().run().ok());
    within("a restore", &site.restore("back").run().ok());
    let (verified, report) = verify::run(&site, &["--level", "deep"]);
    let read = &report["integrity"];
    assert!(read["blobs_checked"].as_u64().unwrap() > 6_000, "{read}");
    assert_eq!(read["blobs_checked"], read["blobs_total"], "{read}");
    within("a deep verification", &verified);
}
