//! A folder of reports that was lost begins again where the evidence target has it end: the chain of reports goes on, and
//! drift is measured against the last one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
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
    let mut groups: BTreeMap<(u8, String), Vec<&ObjectKey>> = BTreeMap::new();
    for key in there.keys() {
        let Some((kind, folder, file)) = files::of_key(key) else { continue };
        let (order, name) = match kind {
            Kind::Report => (0, folder.to_owned()),
            Kind::Proof => (1, folder.to_owned()),
            Kind::Documents => (2, format!("{folder}/{}", file.trim_end_matches(".sig"))),
        };
        groups.entry((order, name)).or_default().push(key);
    }
    let mut fetched = Vec::new();
    for (order, count) in [(0, 2), (1, 1), (2, 1)] {
        let newest = groups.iter().rev().filter(|((kind, _), _)| *kind == order).take(count);
        for ((_, name), keys) in newest {
            let mut contents = Vec::new();
            for key in keys {
                let version = there.get(*key).and_then(|found| found.first.version.as_ref());
                let bytes = store.get(key, version, there::FILE_MAX).await;
                let (_, file) = key.as_str().split_once('/').unwrap_or_default();
                contents.push((file, bytes.with_context(|| format!("{key} can't be read"))?));
            }
            // A signature sorts behind what it signs, and is written before it.
            if order == 2 {
                let folder = out.join(super::FOLDER);
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("the folder {} can't be made", folder.display()))?;
                for (file, bytes) in contents.iter().rev() {
                    write_new(&folder.join(file), &String::from_utf8_lossy(bytes), 0o644)?;
                }
            } else {
                let files: Vec<_> = contents.iter().map(|(file, b)| (*file, &b[..])).collect();
                write_folder(out, &out.join(name), &files)?;
            }
            fetched.push(name.clone());
        }
    }
    Ok(fetched)
}
