//! The table `[performance]`: what suits a certain host. `keephold benchmark` says which of it to change.

use anyhow::Result;
use keephold_cli::exit::usage;
use keephold_vault::read::ReadSettings;
use keephold_vault::write::Settings;
use serde::{Deserialize, Serialize};

/// Settings that trade time, memory and bytes for each other; none of them changes what is backed up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PerformanceTable {
    /// Threads that compress; the host's cores by default.
    threads: Option<usize>,
    /// zstd's level.
    compression: Option<i32>,
    /// Packs on their way to the target at once, at most.
    uploads: Option<usize>,
    /// Requests to the target at once while reading.
    downloads: Option<usize>,
}

/// The settings that hold, defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Performance {
    pub(crate) threads: usize,
    pub(crate) compression: i32,
    pub(crate) uploads: usize,
    pub(crate) downloads: usize,
}

/// Most of `uploads` and `downloads`: 64 packs in memory are over a gigabyte.
pub(crate) const AT_ONCE_MAX: usize = 64;

impl PerformanceTable {
    /// Whether each setting is one that can be worked with.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value, most) in [
            ("threads", self.threads, 256),
            ("uploads", self.uploads, AT_ONCE_MAX),
            ("downloads", self.downloads, AT_ONCE_MAX),
        ] {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(usage(format!("performance.{name} = {value} must be 1 to {most}")));
            }
        }
        if let Some(level) = self.compression.filter(|level| !(1..=19).contains(level)) {
            return Err(usage(format!(
                "performance.compression = {level} must be 1 (fast) to 19 (small)"
            )));
        }
        Ok(())
    }

    /// What holds.
    pub(crate) fn resolve(&self) -> Performance {
        let (write, read) = (Settings::default(), ReadSettings::default());
        Performance {
            threads: self.threads.unwrap_or(write.threads),
            compression: self.compression.unwrap_or(write.level),
            uploads: self.uploads.unwrap_or(write.uploads),
            downloads: self.downloads.unwrap_or(read.requests),
        }
    }
}

impl Performance {
    /// How runs write.
    pub(crate) fn writing(self) -> Settings {
        Settings { level: self.compression, threads: self.threads, uploads: self.uploads }
    }

    /// How restores and listings read.
    pub(crate) fn reading(self) -> ReadSettings {
        ReadSettings { requests: self.downloads, ..ReadSettings::default() }
    }
}
