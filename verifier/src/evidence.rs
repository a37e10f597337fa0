//! Evidence beside the reports: signed JSON documents in the folder `evidence` of the folder of reports; and all of it,
//! reports too, at a target that locks it ([`keep`]).
//!
//! A document of kind `escrow-drill` is `evidence/escrow-drill-<UTC>-<id>.json`, with its SSH signature (namespace
//! `keephold-evidence`) beside it. The signature is written first: a document that is there is signed. None is ever
//! replaced.

mod fetch;
mod files;
mod keep;
mod there;

pub(crate) use fetch::fetch;
pub(crate) use keep::{keep, unknown};

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use keephold_cli::keys::write_new;
use keephold_vault::keys::random;
use keephold_vault::sign::{AllowedSigners, Purpose, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The folder in the folder of reports.
const FOLDER: &str = "evidence";

/// Signs a document and writes it; answers where.
///
/// # Errors
/// Names the file that can't be written.
pub(crate) fn write(
    out: &Path,
    kind: &str,
    document: &impl Serialize,
    key: &SigningKey,
) -> Result<PathBuf> {
    let mut json = serde_json::to_string_pretty(document)?;
    json.push('\n');
    let folder = out.join(FOLDER);
    fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} can't be made", folder.display()))?;
    let now = Timestamp::now();
    let name = format!(
        "{kind}-{}-{:03}-{}.json",
        now.strftime("%Y%m%dT%H%M%SZ"),
        now.subsec_millisecond(),
        hex::encode(random::<4>()?)
    );
    let path = folder.join(name);
    let signature = key.sign(Purpose::Evidence, json.as_bytes())?;
    write_new(&signature_of(&path), &signature, 0o644)?;
    write_new(&path, &json, 0o644)?;
    fs::File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("{} can't be made to last", folder.display()))?;
    Ok(path)
}

/// The newest document of a kind, if there is one: where, its bytes' BLAKE3, and what it says, or why it can't be believed.
pub(crate) fn newest<T: DeserializeOwned>(
    out: &Path,
    kind: &str,
    key: &VerifyingKey,
) -> Option<(PathBuf, Result<(T, String)>)> {
    let entries = fs::read_dir(out.join(FOLDER)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')) && name.ends_with(".json")
    });
    let path = paths.into_iter().max()?;
    let read = read(&path, key);
    Some((path, read))
}

fn read<T: DeserializeOwned>(path: &Path, key: &VerifyingKey) -> Result<(T, String)> {
    let json = fs::read(path)?;
    let signature =
        fs::read_to_string(signature_of(path)).context("its signature can't be read")?;
    let own = AllowedSigners::parse(&key.to_openssh())?;
    own.check(Purpose::Evidence, &json, &signature, &path.display().to_string(), None)?;
    Ok((serde_json::from_slice(&json)?, blake3::hash(&json).to_hex().to_string()))
}

fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_read_and_only_if_it_is_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate("verify1").unwrap();
        let newest = |key: &SigningKey| newest::<u32>(dir.path(), "drill", &key.public());
        assert!(newest(&key).is_none());
        write(dir.path(), "drill", &1, &key).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let path = write(dir.path(), "drill", &2, &key).unwrap();
        write(dir.path(), "drilling", &3, &key).unwrap();
        assert_eq!(newest(&key).unwrap().1.unwrap().0, 2);
        let other = SigningKey::generate("verify1").unwrap();
        assert!(newest(&other).unwrap().1.is_err());
        fs::write(&path, "7\n").unwrap();
        let (named, read) = newest(&key).unwrap();
        assert_eq!(named, path);
        assert!(read.unwrap_err().to_string().contains("does not fit"));
    }
}
