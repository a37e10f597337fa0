//! Which files are evidence: those of reports and of proofs, each in a folder of its own, and those of drills in the
//! folder `evidence`. At an evidence target they have the same names.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keephold_vault::store::ObjectKey;

use super::FOLDER;
use crate::report::model::{LockProof, Report};

/// What a folder of evidence is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Report,
    Proof,
    Documents,
}

/// The folder and the file of a key that is evidence's, and what it is of.
pub(super) fn of_key(key: &ObjectKey) -> Option<(Kind, &str, &str)> {
    let (folder, file) = key.as_str().split_once('/')?;
    let kind = of_folder(folder).filter(|_| !file.contains('/'))?;
    Some((kind, folder, file))
}

fn of_folder(name: &str) -> Option<Kind> {
    if Report::names_folder(name) {
        Some(Kind::Report)
    } else if name.starts_with(LockProof::FOLDER) {
        Some(Kind::Proof)
    } else {
        (name == FOLDER).then_some(Kind::Documents)
    }
}

/// All evidence in a folder of reports, by key; none if there is no such folder.
///
/// # Errors
/// Names the folder that can't be read.
pub(super) fn in_folder(out: &Path) -> Result<Vec<(ObjectKey, PathBuf)>> {
    let mut found = Vec::new();
    for (folder, path) in entries(out)? {
        if of_folder(&folder).is_none() || !path.is_dir() {
            continue;
        }
        for (file, path) in entries(&path)? {
            // What is still being written has a name that begins with a dot, which no key has.
            if let Some(key) = ObjectKey::parse(&format!("{folder}/{file}"))
                && path.is_file()
            {
                found.push((key, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = || format!("the folder {} can't be read", folder.display());
    let list = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.with_context(failed)?,
    };
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.with_context(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_evidence_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(in_folder(&dir.path().join("none")).unwrap().is_empty());
        for path in [
            "20261126T010203Z-004-aabbccdd/report.json",
            "lock-proof-20261126T010203Z-004-aabbccdd/lock-proof.json",
            "evidence/escrow-drill-20261126T010203Z-004-aabbccdd.json",
            "evidence/deeper/file",
            ".report-x/report.json",
            "notes/private",
            "20261126T010203Z-004-aabbccdd/.tmp",
            "latest.json",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let found = in_folder(dir.path()).unwrap();
        let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "20261126T010203Z-004-aabbccdd/report.json",
                "evidence/escrow-drill-20261126T010203Z-004-aabbccdd.json",
                "lock-proof-20261126T010203Z-004-aabbccdd/lock-proof.json",
            ]
        );
        for (key, path) in &found {
            assert!(of_key(key).is_some() && path.is_file(), "{key}");
        }
        for other in ["evidence/deeper/file", "packs/ab/cd", "vault.json", "notes/private"] {
            assert_eq!(of_key(&ObjectKey::parse(other).unwrap()), None, "{other}");
        }
    }
}
