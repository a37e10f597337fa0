//! The spool: records that could not be stored yet. They get their number and their seal when they are delivered.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keephold_vault::record::Record;

/// The spool's folder.
pub(crate) struct Spool(PathBuf);

impl Spool {
    /// The spool in a vault's cache.
    pub(crate) fn open(cache: &Path) -> Result<Self> {
        let folder = cache.join("spool");
        keephold_cli::keys::private_folder(&folder)?;
        Ok(Self(folder))
    }

    /// Keeps a record for later.
    pub(crate) fn keep(&self, record: &Record) -> Result<()> {
        let name =
            format!("{}.{}.{}.json", record.host, record.job, record.started.as_nanosecond());
        let path = self.0.join(name);
        let temp = path.with_extension("tmp");
        fs::write(&temp, serde_json::to_vec(record)?)
            .and_then(|()| fs::rename(&temp, &path))
            .with_context(|| format!("the record could not be kept in {}", path.display()))
    }

    /// The records of a job that wait, oldest first.
    pub(crate) fn waiting(&self, host: &str, job: &str) -> Result<Vec<(PathBuf, Record)>> {
        let mut waiting = Vec::new();
        for entry in
            fs::read_dir(&self.0).with_context(|| format!("{} can't be read", self.0.display()))?
        {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            match serde_json::from_slice::<Record>(&fs::read(&path)?) {
                Ok(record) if record.host == host && record.job == job => {
                    waiting.push((path, record));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("{} is no record and is passed over: {error}", path.display());
                }
            }
        }
        waiting.sort_by_key(|(_, record)| record.started);
        Ok(waiting)
    }
}

/// Removes a record that was delivered.
pub(crate) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("{} can't be removed", path.display()))
}
