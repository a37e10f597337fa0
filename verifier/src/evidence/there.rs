//! What lies at the evidence target, as listed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::StreamExt as _;
use keephold_vault::store::{ObjectKey, Prefix, Store, Version};

use super::files;

/// Longest file of evidence that is read there.
pub(super) const FILE_MAX: u64 = 64 << 20;
/// How many versions over one are looked into: nobody puts even two there for a good reason.
const OVER_MAX: usize = 8;

/// Evidence that is there, by key.
pub(super) type All = BTreeMap<ObjectKey, There>;

/// One file of evidence.
#[derive(Debug)]
pub(super) struct There {
    /// The first version: the true one, since each name is used once.
    pub(super) first: Version,
    /// What came over it, newest first: versions and delete markers.
    pub(super) over: Vec<Version>,
}

/// Lists it.
///
/// # Errors
/// If the target can't be listed.
pub(super) async fn list(store: &dyn Store) -> Result<All> {
    let mut all = All::new();
    let mut versions = store.list_versions(&Prefix::all());
    while let Some(version) = versions.next().await {
        let version = version.context("the evidence target can't be listed")?;
        if files::of_key(&version.key).is_none() {
            continue;
        }
        // They come newest first for each key.
        match all.get_mut(&version.key) {
            None => {
                let key = version.key.clone();
                all.insert(key, There { first: version, over: Vec::new() });
            }
            Some(there) if version.delete_marker => there.over.push(version),
            Some(there) => {
                let newer = std::mem::replace(&mut there.first, version);
                there.over.push(newer);
            }
        }
    }
    // A marker over nothing hides nothing, and what it stands over is to be stored.
    all.retain(|_, there| !there.first.delete_marker);
    Ok(all)
}

impl There {
    /// What was done to it, if anything: it was hidden, or something else lies over it.
    pub(super) async fn altered(&self, store: &dyn Store, key: &ObjectKey) -> Option<String> {
        if self.over.iter().any(|version| version.delete_marker) {
            return Some("a delete marker lies over it".to_owned());
        }
        if self.over.len() > OVER_MAX {
            return Some(format!("{} versions lie over it", self.over.len()));
        }
        if self.over.iter().any(|version| version.size != self.first.size) {
            return Some("a version of another size lies over it".to_owned());
        }
        // A request whose answer was lost and that was sent again leaves two that are the same.
        for version in &self.over {
            let first = store.get(key, self.first.version.as_ref(), FILE_MAX).await;
            match (first, store.get(key, version.version.as_ref(), FILE_MAX).await) {
                (Ok(first), Ok(over)) if first == over => {}
                (Ok(_), Ok(_)) => {
                    return Some("a version with other contents lies over it".to_owned());
                }
                (Err(why), _) | (_, Err(why)) => {
                    return Some(format!("a version lies over it that can't be compared: {why}"));
                }
            }
        }
        None
    }
}
