//! A folder of reports that was lost begins again where the evidence target has it end: the chain of reports goes on, and
//! drift is measured against the last one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use keephold_cli::keys::write_new;
use keephold_vault::store::ObjectKey;

use super::files::{self, Kind};
use super::there;
use crate::report::write::write_folder;
use crate::settings::EvidenceTarget;

/// Into a folder without a report come the two newest reports (the last one names the one before it), the newest proof
/// and the newest drill; answers the folders and documents. Whether they can be believed is found out by those who read
/// them: they are signed.
///
/// # Errors
/// If the target can't be read, or the folder can't be written.
pub(crate) async fn fetch(out: &Path, from: &EvidenceTarget) -> Result<Vec<String>> {
    let has_report = |(key, _): &(ObjectKey, _)| {
        files::of_key(key).is_some_and(|(kind, ..)| kind == Kind::Report)
    };
    if files::in_folder(out)?.iter().any(has_report) {
        return Ok(Vec::new());
    }
    let store = from.target.open()?;
    let there = there::list(store.as_ref()).await?;
    // What belongs together, by kind and name: the files of a folder, or a document and its signature.
    let mut groups: BTreeMap<(Kind, String), Vec<&ObjectKey>> = BTreeMap::new();
    for key in there.keys() {
        let Some((kind, folder, file)) = files::of_key(key) else { continue };
        let name = match kind {
            Kind::Report | Kind::Proof => folder.to_owned(),
            Kind::Documents => format!("{folder}/{}", file.trim_end_matches(".sig")),
        };
        groups.entry((kind, name)).or_default().push(key);
    }
    // A signature sorts last, and so it was stored last: without it, not all of it is there.
    groups.retain(|_, keys| keys.iter().any(|key| key.as_str().ends_with(".sig")));
    let mut fetched = Vec::new();
    for (wanted, count) in [(Kind::Report, 2), (Kind::Proof, 1), (Kind::Documents, 1)] {
        let newest = groups.iter().rev().filter(|((kind, _), _)| *kind == wanted).take(count);
        for ((_, name), keys) in newest.filter(|((_, name), _)| !out.join(name).exists()) {
            let mut contents = Vec::new();
            for key in keys {
                let version = there.get(*key).and_then(|found| found.first.version.as_ref());
                let bytes = store.get(key, version, there::FILE_MAX).await;
                let (_, file) = key.as_str().split_once('/').unwrap_or_default();
                contents.push((file, bytes.with_context(|| format!("{key} can't be read"))?));
            }
            write(out, wanted, name, &contents)?;
            fetched.push(name.clone());
        }
    }
    Ok(fetched)
}

/// Writes what belongs together: a folder of its own, or a document into the folder of all documents.
fn write(out: &Path, kind: Kind, name: &str, contents: &[(&str, Bytes)]) -> Result<()> {
    if kind != Kind::Documents {
        let files: Vec<_> = contents.iter().map(|(file, bytes)| (*file, &bytes[..])).collect();
        return Ok(write_folder(out, &out.join(name), &files)?);
    }
    let folder = out.join(super::FOLDER);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} can't be made", folder.display()))?;
    // The signature first, as always: a document that is there is signed.
    for (file, bytes) in contents.iter().rev() {
        write_new(&folder.join(file), &String::from_utf8_lossy(bytes), 0o644)?;
    }
    Ok(())
}
